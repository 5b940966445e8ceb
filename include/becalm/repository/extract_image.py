"""The image of a block volume out of the repository, onto a device or into a file, each byte checked before it is written."""

from __future__ import annotations

import os
import stat as unix
from dataclasses import dataclass
from typing import TYPE_CHECKING

from becalm.errors import Damaged, PermanentError
from becalm.repository.extract_worker import write_all
from becalm.repository.fetch import Fetcher
from becalm.repository.gather import SLOT_BYTES, File, Gathering
from becalm.repository.progress import Progress
from becalm.repository.target import Place, give_up_when_full
from becalm.repository.tree import lookup
from becalm.repository.wanted import locate_blobs

if TYPE_CHECKING:
    from becalm.model import Finding
    from becalm.repository.node import Node
    from becalm.repository.reader import Repository

_STEP = 1 << 20
_ZEROS = bytes(_STEP)
_AT_ONCE = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """What a restore wrote."""

    files: int = 0
    kept: int = 0
    """Files that were there already, complete."""
    dirs: int = 0
    bytes: int = 0
    failures: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()


def extract_device(
    repository: Repository,
    tree_id: str,
    path: str | os.PathLike[str],
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Extracted:
    """Write a tree's `disk.img` onto a block device (or into a file). The device must be large enough.

    Raises: NotFound (the tree is not one of a device), PermanentError, Damaged.
    """
    from becalm.repository.backup import DISK_IMAGE  # noqa: PLC0415  (the whole writer comes with it, and most restores need none of it)

    node = lookup(repository, tree_id, DISK_IMAGE)
    progress = progress or Progress()
    where = os.fspath(path)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise PermanentError(f"the device cannot be opened: {os.strerror(error.errno or 0)}", where=where) from error
    fetcher = Fetcher(repository, progress, workers=workers)
    try:
        file = File(fd, node, Place(-1, ""), where, _prepare(fd, node, where))
        _fill(repository, fetcher, file)
        if file.error:
            raise Damaged(file.error, where=where)
        os.fsync(fd)
    except OSError as error:
        give_up_when_full(error, where)
        raise PermanentError(f"the device cannot be written: {os.strerror(error.errno or 0)}", where=where) from error
    finally:
        fetcher.close()
        os.close(fd)
    progress.add(files=1)
    return Extracted(files=1, bytes=fetcher.written)


def _prepare(fd: int, node: Node, where: str) -> bool:
    """Empty a file, or see that a device is large enough. Say whether holes come by themselves."""
    if unix.S_ISREG(os.fstat(fd).st_mode):
        os.ftruncate(fd, 0)
        os.ftruncate(fd, node.size)
        return True
    if os.lseek(fd, 0, os.SEEK_END) < node.size:
        raise PermanentError(
            f"the device is smaller than the {node.size} bytes of the image", where=where, hint="restore into a larger volume"
        )
    return False


def _fill(repository: Repository, fetcher: Fetcher, file: File) -> None:
    content = file.node.content or ()
    gathered = Gathering()
    offset = 0
    for begin in range(0, len(content), _AT_ONCE):
        some = content[begin : begin + _AT_ONCE]
        for blob_id, spot, length in locate_blobs(repository.index, some, sparse=True):
            if not spot.length:
                if not file.sparse:
                    _clear(file.fd, offset, length)
            else:
                if gathered.bytes and gathered.bytes + spot.length > SLOT_BYTES:
                    fetcher.submit(gathered)
                    gathered = Gathering()
                gathered.need(blob_id, spot)
                gathered.write(file, blob_id, offset)
            offset += length
            if gathered.full:
                fetcher.submit(gathered)
                gathered = Gathering()
    fetcher.submit(gathered)
    fetcher.wait()
    if offset != file.node.size:
        raise Damaged(f"the image should have {file.node.size} bytes, and its blobs have {offset}", where=file.where)


def _clear(fd: int, place: int, length: int) -> None:
    """Make a stretch of a device zero, writing only where it is not."""
    for offset in range(place, place + length, _STEP):
        size = min(_STEP, place + length - offset)
        if os.pread(fd, size, offset) != _ZEROS[:size]:
            write_all(fd, memoryview(_ZEROS)[:size], offset)
