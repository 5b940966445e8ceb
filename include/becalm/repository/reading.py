"""Opening and looking at what is in a mounted volume without changing it: for the walk, and for those who read its files.

No link is ever followed. What cannot be read is said as plain data, for it may have to go to another process.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from becalm.repository.entry import Xattrs

Said: TypeAlias = tuple[str, int, str]
"""Where, the error's number (nothing for a note), and what."""

OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_XATTRS = (errno.ENOTSUP, errno.ENODATA, errno.ENOENT, errno.ELOOP)
_SMALLEST_HOLE = 1 << 20

WENT_AWAY = "it went away before it was read"
CHANGED = "it changed while it was read"
REPLACED = "it was replaced by something else before it was read"
CANNOT_OPEN = "the file cannot be opened"
CANNOT_READ = "the file cannot be read"
_REPLACED = (errno.ELOOP, errno.ENOTDIR, errno.ENXIO)
"""How it shows that a file or a directory has become a link, a file or a socket since it was looked at."""


def why_not(error: OSError, what: str, *, also: tuple[int, ...] = ()) -> tuple[int, str]:
    """Return what to say of something that cannot be opened: a note where it went away, or was replaced, since it was looked at.

    `also` are further errors by which a replacement shows.
    """
    if error.errno == errno.ENOENT:
        return 0, WENT_AWAY
    if error.errno in (*_REPLACED, *also):
        return 0, REPLACED
    return error.errno or errno.EIO, what


class Opener:
    """Opens files so that their time of last access stays, as far as one may."""

    def __init__(self) -> None:
        """Begin with the wish."""
        self._no_atime = os.O_NOATIME

    def open(self, name: str, folder: int) -> int:
        """Open a file in an open directory. Raises OSError."""
        try:
            return os.open(name, _OPEN_FILE | self._no_atime, dir_fd=folder)
        except PermissionError:
            if not self._no_atime:
                raise
            fd = os.open(name, _OPEN_FILE, dir_fd=folder)
            self._no_atime = 0  # only the owner of a file may ask for it
            return fd


def xattrs(path: int | str, say: Callable[[int, str], None]) -> Xattrs:
    """Return the extended attributes (access control lists are among them) of something open, or of a path. Says what it cannot read."""
    follow = isinstance(path, int)
    try:
        names = os.listxattr(path, follow_symlinks=follow)
    except OSError as error:
        if error.errno not in _NO_XATTRS:
            say(error.errno or 0, "the extended attributes cannot be listed")
        return ()
    return tuple([(name, _value(path, name, say, follow=follow)) for name in sorted(names)]) if names else ()


def _value(path: int | str, name: str, say: Callable[[int, str], None], *, follow: bool) -> bytes:
    try:
        return os.getxattr(path, name, follow_symlinks=follow)
    except OSError as error:
        if error.errno not in _NO_XATTRS:
            say(error.errno or 0, f"the extended attribute {name} cannot be read")
        return b""


def extents(fd: int, stat: os.stat_result) -> Iterator[tuple[bool, int, int]]:
    """Yield (is it data, begin, end) for a file; holes that are too small to be worth it count as data."""
    size = stat.st_size
    if stat.st_blocks * 512 >= size:
        yield True, 0, size
        return
    begin = 0
    for hole, end in _holes(fd, size):
        if hole > begin:
            yield True, begin, hole
        yield False, hole, end
        begin = end
    if begin < size:
        yield True, begin, size


def _holes(fd: int, size: int) -> Iterator[tuple[int, int]]:
    place = 0
    while place < size:
        try:
            hole = os.lseek(fd, place, os.SEEK_HOLE)
        except OSError:
            return  # this file system cannot tell: all of it is data
        if hole >= size:
            return
        try:
            data = os.lseek(fd, hole, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                return
            data = size
        data = min(data, size)
        if data - hole >= _SMALLEST_HOLE:
            yield hole, data
        place = data
