"""A portrait of a folder: all that a backup must keep of it, taken by descriptors, so that no path is ever too long.

It shares no code with the engine: it asks the kernel for status, attributes, content and holes, entry by entry.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is kept of one entry. `links` names the first path of the same file."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int = 0
    content: str = ""
    target: bytes = b""
    device: int = 0
    attributes: tuple[tuple[str, bytes], ...] = ()
    links: bytes = b""
    holes: int = 0
    """Bytes that `SEEK_HOLE` calls a hole, where a file has at least a MiB of them together."""


def portrait(root: Path, *, holes: bool = True) -> dict[bytes, Entry]:
    """Return every entry below a folder by its path; the folder itself is `.`."""
    seen: dict[bytes, Entry] = {}
    first: dict[tuple[int, int], bytes] = {}
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        seen[b"."] = _entry(fd, b".", os.fstat(fd), holes=holes)
        _folder(fd, b"", seen, first, holes=holes)
    finally:
        os.close(fd)
    return seen


def _folder(fd: int, path: bytes, seen: dict[bytes, Entry], first: dict[tuple[int, int], bytes], *, holes: bool) -> None:
    for name in sorted(os.fsencode(text) for text in os.listdir(fd)):
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        below = path + b"/" + name if path else name
        entry = _entry(fd, name, status, holes=holes)
        if status.st_nlink > 1 and stat.S_ISREG(status.st_mode):
            entry = replace(entry, links=first.setdefault((status.st_dev, status.st_ino), below))
        seen[below] = entry
        if stat.S_ISDIR(status.st_mode):
            child = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            try:
                _folder(child, below, seen, first, holes=holes)
            finally:
                os.close(child)


def _entry(fd: int, name: bytes, status: os.stat_result, *, holes: bool) -> Entry:
    path = b"/proc/self/fd/%d/%s" % (fd, name)
    attributes: tuple[tuple[str, bytes], ...] = ()
    with suppress(OSError):
        names = sorted(os.listxattr(path, follow_symlinks=False))
        attributes = tuple((key, os.getxattr(path, key, follow_symlinks=False)) for key in names)
    regular = stat.S_ISREG(status.st_mode)
    content, empty = _content(fd, name, status.st_size) if regular else ("", 0)
    return Entry(
        mode=status.st_mode,
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns,
        size=status.st_size if regular else 0,
        content=content,
        target=os.readlink(name, dir_fd=fd) if stat.S_ISLNK(status.st_mode) else b"",
        device=status.st_rdev if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode) else 0,
        attributes=attributes,
        holes=empty if holes else 0,
    )


def _content(fd: int, name: bytes, size: int) -> tuple[str, int]:
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=fd)
    try:
        digest = sha256()
        while part := os.read(file, 1 << 20):
            digest.update(part)
        return digest.hexdigest(), _holes(file, size)
    finally:
        os.close(file)


def _holes(file: int, size: int) -> int:
    place = total = 0
    while place < size:
        hole = os.lseek(file, place, os.SEEK_HOLE)
        if hole >= size:
            break
        try:
            place = min(size, os.lseek(file, hole, os.SEEK_DATA))
        except OSError:
            place = size
        if place - hole >= 1 << 20:
            total += place - hole
    return total
