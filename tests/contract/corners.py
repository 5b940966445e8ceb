"""The corners of file semantics: each function fills a folder with what backups have lost before, one kind of thing each."""

# ruff: noqa: PTH101, PTH102, PTH118, PTH123, PTH211  (names here are bytes, which paths are not)

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random

AS_ROOT = os.geteuid() == 0
SECOND = 1_000_000_000
MIB = 1 << 20
ACL_HEAD = struct.pack("<I", 2)
NOBODY = 0xFFFFFFFF


def acl(*entries: tuple[int, int, int]) -> bytes:
    """Return an access control list as the kernel stores it: (tag, permissions, id) each."""
    return ACL_HEAD + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def owners(root: Path) -> None:
    """Users and groups that no machine has a name for, up to the largest."""
    for uid, gid in ((0, 0), (1, 65534), (1000, 1001), (2_147_483_648, 3_000_000_000), (4_294_967_294, 4_294_967_294)):
        (root / f"{uid}").write_bytes(b"x")
        os.chown(root / f"{uid}", uid, gid)
        (root / f"dir-{uid}").mkdir()
        os.chown(root / f"dir-{uid}", gid, uid)
        os.symlink("x", root / f"link-{uid}")
        os.chown(root / f"link-{uid}", uid, gid, follow_symlinks=False)


def modes(root: Path) -> None:
    """Every special bit, also where the owner is another, and bits that forbid their owner to read."""
    for mode in (0o000, 0o400, 0o666, 0o755, 0o4711, 0o2711, 0o1644, 0o6755, 0o7777):
        path = root / f"{mode:o}"
        path.write_bytes(b"m")
        if AS_ROOT:
            os.chown(path, 1234, 4321)
        os.chmod(path, mode)
        (root / f"dir-{mode:o}").mkdir()
        os.chmod(root / f"dir-{mode:o}", mode if AS_ROOT else mode | 0o700)


def times(root: Path) -> None:
    """Nanoseconds, before 1970, and after the years in which 31 and 32 bits end."""
    moments = (-2_000_000_000, -1, 0, 1, 1_700_000_000, 2_147_483_648, 4_294_967_296, 7_000_000_000, 9_000_000_000)
    for number, second in enumerate(moments):
        stamp = second * SECOND + (number * 123_456_789 + 1) % SECOND
        (root / f"file{number}").write_bytes(b"t")
        os.symlink("nowhere", root / f"link{number}")
        (root / f"dir{number}").mkdir()
        (root / f"dir{number}" / "inside").write_bytes(b"")
        for name in ("file", "link", "dir"):
            os.utime(root / f"{name}{number}", ns=(stamp, stamp), follow_symlinks=False)


def far_times(root: Path) -> None:
    """A time that no count of nanoseconds in 64 bits reaches."""
    (root / "file").write_bytes(b"t")
    os.utime(root / "file", ns=(15_000_000_000 * SECOND + 7,) * 2)


def attributes(root: Path) -> None:
    """Attributes of every space that the file system takes, of files and folders; capabilities after a change of owner."""
    path = root / "file"
    path.write_bytes(b"x")
    (root / "folder").mkdir()
    for target in (path, root / "folder"):
        os.setxattr(target, "user.text", "wörter".encode())
        os.setxattr(target, "user.binary", bytes(range(256)))
        os.setxattr(target, "user.empty", b"")
        os.setxattr(target, "user.ünicode name", b"1")
    os.setxattr(path, "user.large", bytes(2000))
    if AS_ROOT:
        os.setxattr(path, "trusted.secret", b"\x00\xff")
        program = root / "program"
        program.write_bytes(b"#!/bin/true\n")
        os.chown(program, 1000, 1000)
        os.chmod(program, 0o755)
        os.setxattr(program, "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0))


def link_attributes(root: Path) -> None:
    """Attributes of a link itself; only the spaces of root can have any."""
    os.symlink("nowhere", root / "link")
    os.setxattr(root / "link", "trusted.of-a-link", b"l", follow_symlinks=False)


def lists(root: Path) -> None:
    """Access control lists of files and folders, and defaults that must not leak into what is in the folder."""
    named = ((0x01, 6, NOBODY), (0x02, 4, 1000), (0x04, 4, NOBODY), (0x08, 7, 2000), (0x10, 4, NOBODY), (0x20, 0, NOBODY))
    (root / "file").write_bytes(b"x")
    os.setxattr(root / "file", "system.posix_acl_access", acl(*named))
    folder = root / "folder"
    folder.mkdir()
    (folder / "before").write_bytes(b"without a list")
    (folder / "below").mkdir()
    os.setxattr(folder, "system.posix_acl_default", acl(*named))
    os.setxattr(folder, "system.posix_acl_access", acl(*named))
    (folder / "after").write_bytes(b"with the folder's")


def hard_links(root: Path) -> None:
    """One file under several names, near and far, small, empty, large and with attributes."""
    for number, size in enumerate((0, 7, 3 * MIB)):
        (root / f"z{number}" / "deep").mkdir(parents=True)
        first = root / f"z{number}" / "deep" / "first"
        first.write_bytes(Random(number).randbytes(size))
        os.setxattr(first, "user.one", b"1")
        for other in (root / f"z{number}" / "second", root / f"a{number}", root / f"zz{number}"):
            os.link(first, other)


def symbolic_links(root: Path) -> None:
    """Links to nowhere, to the root, to themselves, upwards, long ones; none is followed."""
    for name, goal in (
        ("dangling", b"nowhere"),
        ("absolute", b"/etc/passwd"),
        ("self", b"self"),
        ("up", b"../../../../.."),
        ("slash", b"a//b/./"),
        ("long", b"x/" * 2000),
        ("escape", b'<&>\xe2\x80\xa8"\\\n'),
    ):
        os.symlink(goal, root / name)


def odd_links(root: Path) -> None:
    """Targets that are not UTF-8."""
    os.symlink(b"\xff\xfe/\x80", root / "odd")


def sparse(root: Path) -> None:
    """Holes before, between and behind data, aligned or not, and a file that is one hole."""
    random = Random(5)
    for name, pieces, size in (
        ("all", (), 9 * MIB),
        ("begin", (5 * MIB,), 5 * MIB + 4096),
        ("end", (0,), 30 * MIB + 17),
        ("between", (0, 20 * MIB + 4096, 41 * MIB), 50 * MIB),
        ("odd", (12_345_677,), 20_000_001),
    ):
        with open(root / name, "wb") as file:
            for place in pieces:
                file.seek(place)
                file.write(random.randbytes(4096))
            file.truncate(size)
    (root / "zeros").write_bytes(bytes(3 * MIB))


def specials(root: Path) -> None:
    """Pipes, and devices where they can be made."""
    os.mkfifo(root / "pipe", 0o620)
    if AS_ROOT:
        os.mknod(root / "character", 0o020666, os.makedev(1, 3))
        os.mknod(root / "block", 0o060640, os.makedev(259, 1_000_000))
        os.chown(root / "block", 7, 8)


def names(root: Path) -> None:
    """Names of any bytes that a file system takes."""
    folder = os.fsencode(root)
    for name in (
        b"\xff\xfe",
        b"new\nline",
        b'quo"te',
        b"back\\slash",
        b"\\",
        b"\\x41",
        b"\\u0041",
        b"c:\\windows",
        b"<&>",
        b"\x01\x7f\x1b[31m",
        b" lead and trail ",
        b"-rf",
        b"~",
        b"%s",
        b"*?[a]",
        b"...",
        b"\xed\xa0\x80",
        b"\xc3",
        "ü\u0308\u2028\u200b\ufeff\ufffd😀".encode(),
        b"n" * 255,
        b"\xf0" * 255,
        "é".encode() * 127,
    ):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(name)
    (root / "folders").mkdir()
    for name in (b"\xff", b"\n", b'"', b"\\", b"n" * 255):
        os.mkdir(os.path.join(folder, b"folders", name))
        with open(os.path.join(folder, b"folders", name, name), "wb") as file:
            file.write(name)


def empties(root: Path) -> None:
    """Files and folders with nothing in them, and files at the limits of chunks."""
    (root / "file").write_bytes(b"")
    (root / "folder" / "in" / "folder").mkdir(parents=True)
    for size in (1, 4095, 4096, 512 * 1024 - 1, 512 * 1024, 512 * 1024 + 1, 8 * MIB, 8 * MIB + 1):
        (root / f"{size}").write_bytes(Random(size).randbytes(size))


def read_only(root: Path) -> None:
    """Folders that nobody may write into, with something in each."""
    path = root
    for number in range(4):
        path /= f"d{number}"
        path.mkdir()
        (path / "file").write_bytes(b"x")
    while path != root:
        os.chmod(path / "file", 0o444)
        os.chmod(path, 0o555)
        path = path.parent


CORNERS: dict[str, Callable[[Path], None]] = {
    one.__name__: one
    for one in (
        owners,
        modes,
        times,
        far_times,
        attributes,
        link_attributes,
        lists,
        hard_links,
        symbolic_links,
        odd_links,
        sparse,
        specials,
        names,
        empties,
        read_only,
    )
}
ONLY_ROOT = frozenset({"owners", "link_attributes"})


def make_corners(root: Path, *, without: frozenset[str] = frozenset()) -> None:
    """Fill a folder with every corner that this user can make, each in a folder of its own name."""
    for name, make in CORNERS.items():
        if name not in without and (AS_ROOT or name not in ONLY_ROOT):
            (root / name).mkdir()
            make(root / name)


def make_deep(root: Path, *, levels: int = 40, length: int = 200) -> int:
    """Make a path that is longer than any system call takes at once; return how long it is."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for number in range(levels):
        name = f"{number:03d}" + "d" * (length - 3)
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    with open(os.open("bottom", os.O_WRONLY | os.O_CREAT, 0o640, dir_fd=fd), "wb") as file:
        file.write(b"here")
    os.symlink("bottom", "link", dir_fd=fd)
    os.close(fd)
    return levels * (length + 1)
