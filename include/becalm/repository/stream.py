"""A file or a folder of a tree as a stream of bytes: a file as it is, a folder as a tar archive. Nothing is written to a disk.

Each blob is checked before a byte of it leaves. Names are kept as they are within the archive, below the name of the folder; what no
archive can hold (sockets) is left out.
"""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING, BinaryIO

import orjson

from becalm.errors import Damaged
from becalm.repository.format import NodeType
from becalm.repository.node import decode_node
from becalm.repository.target import hostile
from becalm.repository.wanted import included, read_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.repository.node import Node
    from becalm.repository.reader import Repository

_TAR_TYPES = {
    NodeType.FILE: tarfile.REGTYPE,
    NodeType.DIR: tarfile.DIRTYPE,
    NodeType.SYMLINK: tarfile.SYMTYPE,
    NodeType.FIFO: tarfile.FIFOTYPE,
    NodeType.DEV: tarfile.BLKTYPE,
    NodeType.CHARDEV: tarfile.CHRTYPE,
}
_BLOCK = 1 << 18


def send(repository: Repository, tree_id: str, path: str, out: BinaryIO) -> int:
    """Write what stands at a path to a stream; return how many files that were. Raises: NotFound, UsageError, Damaged, OSError (nobody listens)."""
    (entry,) = included(repository, tree_id, (path,))
    node = decode_node(orjson.dumps(entry))
    if node.type is not NodeType.DIR:
        out.writelines(repository.read_file(node))
        return 1
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_BLOCK) as archive:
        return sum(_add(archive, repository, name, below) for name, below in _walk(repository, node, node.name))


def _walk(repository: Repository, node: Node, name: str) -> Iterator[tuple[str, Node]]:
    """Yield a folder and all that is below it, each with its path. Raises Damaged for a name that would lead to another place."""
    todo = [(name, node)]
    while todo:
        path, folder = todo.pop()
        yield path, folder
        for entry in read_tree(repository, folder.subtree) if folder.subtree else ():
            below = decode_node(orjson.dumps(entry))
            if problem := hostile(below.name):
                raise Damaged(f"an entry cannot be put into an archive: {problem}", where=path, hint="restore from another recovery point")
            if below.type is NodeType.DIR:
                todo.append((f"{path}/{below.name}", below))
            else:
                yield f"{path}/{below.name}", below


def _add(archive: tarfile.TarFile, repository: Repository, name: str, node: Node) -> int:
    """Add one entry; return 1 for a file."""
    kind = _TAR_TYPES.get(node.type)
    if kind is None:
        return 0
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.uid, info.gid = kind, node.permissions, node.uid, node.gid
    info.uname, info.gname, info.mtime = node.user, node.group, node.mtime_ns // 10**9
    if node.type is NodeType.SYMLINK:
        info.linkname = node.linktarget
    if node.type is not NodeType.FILE:
        archive.addfile(info)
        return 0
    info.size = node.size
    archive.addfile(info, io.BufferedReader(_Content(repository.read_file(node))))
    return 1


class _Content(io.RawIOBase):
    """The content of a file, read blob by blob."""

    def __init__(self, pieces: Iterator[bytes | bytearray]) -> None:
        super().__init__()
        self._pieces = pieces
        self._left = memoryview(b"")

    def readable(self) -> bool:
        """It is only read."""
        return True

    def readinto(self, into: object) -> int:
        """Fill a buffer with what comes next."""
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        view = memoryview(into)  # type: ignore[arg-type]  # any buffer, as `RawIOBase` has it
        count = min(len(view), len(self._left))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count
