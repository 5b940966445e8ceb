"""Whether a file that is there holds what a tree says: its bytes are read and hashed, blob by blob, and nothing is fetched.

It never writes, and it trusts no time: a program may have changed a file and set its time back.
"""

from __future__ import annotations

import errno
import os
from hashlib import sha256
from typing import TYPE_CHECKING

from becalm.repository.gather import is_hole
from becalm.repository.wanted import locate

if TYPE_CHECKING:
    from becalm.repository.progress import Progress
    from becalm.repository.reader import Repository
    from becalm.repository.target import Place
    from becalm.repository.wanted import Entry

_PIECE = 1 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def holds_the_same(repository: Repository, place: Place, name: str, entry: Entry, progress: Progress) -> bool:
    """Say whether the file of that name has the content of an entry. Its size is known to be the same. Raises OSError, and as `locate`."""
    (wanted,) = locate(repository, [(place, entry)], sparse=False)
    if wanted.problem:
        return False
    fd = os.open(name, _READ, dir_fd=place.fd)
    try:
        offset = 0
        for blob_id, length in zip(wanted.content, wanted.lengths, strict=True):
            if not _is(fd, offset, length, blob_id):
                return False
            progress.check()
            offset += length
        return True
    finally:
        os.close(fd)


def _is(fd: int, offset: int, length: int, blob_id: str) -> bool:
    """Say whether a stretch of a file is a blob. Where both are nothing but zeros, the file need not be read: it may have a hole there."""
    if is_hole(blob_id, length) and _next_data(fd, offset) >= offset + length:
        return True
    digest = sha256()
    end = offset + length
    while offset < end:
        piece = os.pread(fd, min(_PIECE, end - offset), offset)
        if not piece:
            return False
        digest.update(piece)
        offset += len(piece)
    return digest.hexdigest() == blob_id


def _next_data(fd: int, offset: int) -> int:
    """Return where the next bytes lie that are no hole; for a file system that knows no holes, here."""
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as error:  # ENXIO: from here on there is nothing but a hole
        return os.fstat(fd).st_size if error.errno == errno.ENXIO else offset
