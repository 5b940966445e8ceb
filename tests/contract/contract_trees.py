"""Trees of files that are hard to keep, and a picture of a tree that can be compared."""

# ruff: noqa: PTH101, PTH102, PTH115, PTH118, PTH123, PTH208, PTH211  (names here are bytes, which paths are not)

from __future__ import annotations

import os
import stat
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from random import Random

AS_ROOT = os.geteuid() == 0
SECOND = 1_000_000_000


def make_nasty_tree(root: Path) -> None:
    """Fill a folder with everything that backups have lost before: names, times, links, holes, owners, attributes."""
    random = Random(4)
    _names(root)
    _sizes(root, random)
    _links(root)
    _holes(root, random)
    _modes(root)
    _attributes(root)
    os.mkfifo(root / "fifo", 0o640)
    for number, name in enumerate(sorted(os.listdir(root))):
        with suppress(FileNotFoundError):  # a link to nowhere has times too
            os.utime(root / name, ns=(0, (1_500_000_000 + number) * SECOND + 123_456_789), follow_symlinks=False)
    os.utime(root / "old", ns=(-5 * SECOND + 7, -5 * SECOND + 7))
    os.chmod(root, 0o750)
    os.utime(root, ns=(7, 1_400_000_000 * SECOND + 1))


def _names(root: Path) -> None:
    folder = os.fsencode(root / "names")
    os.mkdir(folder)
    for name in (
        b"plain",
        b"n" * 255,
        b"\xff\xfe",
        b"new\nline",
        b'quo"te',
        b"back\\slash",
        b"\\x41",
        b"<&>",
        "ü\u2028\u200b\ufffd😀".encode(),
        b"\x01\x7f",
        b" ",
        b"-r",
        b"\xed\xa0\x80",
    ):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(name)
    os.mkdir(os.path.join(folder, b"dir\xff"))
    with open(os.path.join(folder, b"dir\xff", b"inside"), "wb") as file:
        file.write(b"1")


def _sizes(root: Path, random: Random) -> None:
    (root / "empty-folder").mkdir()
    (root / "empty").write_bytes(b"")
    (root / "old").write_bytes(b"before 1970")
    for size in (1, 16, 4095, 512 << 10, (512 << 10) + 1, 3 << 20):
        (root / f"size-{size}").write_bytes(random.randbytes(size))
    (root / "big").write_bytes(random.randbytes(5 << 20) * 4)
    many = root / "many"
    many.mkdir()
    for number in range(300):
        (many / f"{number}").write_bytes(f"{number}\n".encode() * (number % 40))
    deep = root
    for number in range(60):
        deep /= f"d{number}"
        deep.mkdir()
    (deep / "bottom").write_text("here")


def _links(root: Path) -> None:
    folder = root / "links"
    folder.mkdir()
    (folder / "first").write_bytes(b"shared" * 1000)
    os.link(folder / "first", folder / "second")
    os.link(folder / "first", root / "third")
    os.symlink("/etc/passwd", folder / "absolute")
    os.symlink("../big", folder / "relative")
    os.symlink("nowhere", folder / "dangling")
    os.symlink(b"\xff\xfe", os.fsencode(folder / "odd"))


def _holes(root: Path, random: Random) -> None:
    with open(root / "sparse", "wb") as file:
        file.write(random.randbytes(100_000))
        file.seek(40 << 20)
        file.write(random.randbytes(5000))
        file.truncate(70 << 20)
    with open(root / "hole", "wb") as file:
        file.truncate(20 << 20)


def _modes(root: Path) -> None:
    folder = root / "modes"
    folder.mkdir()
    for mode in (*((0o000,) if AS_ROOT else ()), 0o400, 0o644, 0o755, 0o4755, 0o2755, 0o1777, 0o7777):
        path = folder / f"{mode:o}"
        path.write_bytes(b"m")
        if AS_ROOT:
            os.chown(path, 1000 + mode % 7, 2_000_000_000)
        os.chmod(path, mode)
    os.chmod(folder, 0o3775)


def _attributes(root: Path) -> None:
    path = root / "attributes"
    path.write_bytes(b"x")
    with suppress(OSError):
        os.setxattr(path, "user.text", b"value")
        os.setxattr(path, "user.binary", bytes(range(256)))
        os.setxattr(path, "user.empty", b"")
        os.setxattr(root / "many", "user.folder", b"1")
    if AS_ROOT:
        with suppress(OSError):
            os.setxattr(path, "trusted.secret", b"t")
    acl = bytes.fromhex("0200000001000600ffffffff02000400e803000004000400ffffffff10000400ffffffff20000000ffffffff")
    with suppress(OSError):
        os.setxattr(path, "system.posix_acl_access", acl)


def picture(root: Path, *, inodes: bool = True) -> dict[bytes, tuple[object, ...]]:
    """Return all that must be the same of every entry, by its path."""
    seen: dict[bytes, tuple[object, ...]] = {}
    first: dict[int, bytes] = {}
    top = os.fsencode(root)
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, top)
            seen[relative] = _entry(path)
            status = os.lstat(path)
            if inodes and status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                first[status.st_ino] = min(relative, first.get(status.st_ino, relative))
    if inodes:
        for relative in seen:
            status = os.lstat(os.path.join(top, relative))
            seen[relative] += (first.get(status.st_ino, b""),)
    seen[b"."] = _entry(top)
    return seen


def _entry(path: bytes) -> tuple[object, ...]:
    status = os.lstat(path)
    content: object = None
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            content = sha256(file.read()).hexdigest()
    elif stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    attributes: tuple[object, ...] = ()
    with suppress(OSError):
        attributes = tuple(
            (name, os.getxattr(path, name, follow_symlinks=False)) for name in sorted(os.listxattr(path, follow_symlinks=False))
        )
    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
    return (
        stat.S_IFMT(status.st_mode),
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_mtime_ns,
        size,
        content,
        attributes,
    )


def allocated(path: Path) -> int:
    """Return how many bytes of a file are on the disk."""
    return path.stat().st_blocks * 512
