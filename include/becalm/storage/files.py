"""What a directory store asks of the file system: whole reads, whole writes, syncs, a lock, an identity per state."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from becalm.storage.base import Body, ETag, Span

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says when there is no room."""


def etag(found: os.stat_result) -> ETag:
    """Return what tells two states of a file apart: its time to the nanosecond, its size, its inode."""
    return ETag(f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}")


def read(descriptor: int, span: Span) -> bytes:
    """Return a span of a file; shorter only where the file ends. One call and no copy where the system gives it whole."""
    body = os.pread(descriptor, span.length, span.offset)
    if len(body) == span.length:
        return body
    parts = [body]
    done = len(body)
    while done < span.length and (part := os.pread(descriptor, span.length - done, span.offset + done)):
        parts.append(part)
        done += len(part)
    return b"".join(parts)


def write_new(path: Path, body: Body, *, stamp: int) -> os.stat_result:
    """Make a file that was not there, with this time in nanoseconds, and sync it. What could not be written whole is removed."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(body).cast("B")
        while view:
            view = view[os.write(descriptor, view) :]
        os.utime(descriptor, ns=(stamp, stamp))
        os.fsync(descriptor)
        return os.fstat(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def make_folders(folder: Path) -> None:
    """Make a folder and its parents, each synced into the one above."""
    missing: list[Path] = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        sync_folder(new.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, *, must: bool = True) -> Iterator[None]:
    """Hold the lock file alone. With `must` false, a lock that finds no room on the disk is done without."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if must or error.errno not in FULL:
            raise
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
