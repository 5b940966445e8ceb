"""A folder or a device held beside a tree of the repository: what differs, byte for byte. It reads both, and writes neither.

Names, kinds, links, sizes, bytes, owners, modes and times of files are compared; of directories the owner and the mode.
"""

from __future__ import annotations

import os
import stat as unix
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

import orjson

from becalm.errors import Damaged
from becalm.repository.format import NodeType
from becalm.repository.node import decode_node, type_of
from becalm.repository.progress import Progress
from becalm.repository.sameness import holds_the_same
from becalm.repository.target import Place, Report, Target, hostile, opened_below
from becalm.repository.tree import lookup
from becalm.repository.wanted import locate_blobs, read_tree

if TYPE_CHECKING:
    from becalm.model import Finding
    from becalm.repository.node import Node
    from becalm.repository.reader import Repository
    from becalm.repository.wanted import Entry

_STEP = 1 << 20
_OF_THE_FILE_SYSTEM = frozenset({"lost+found"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What was found."""

    files: int
    """Files whose bytes are those of the tree."""
    bytes: int
    differences: tuple[Finding, ...]


def compare(repository: Repository, tree_id: str, path: str, *, progress: Progress | None = None) -> Compared:
    """Hold a folder beside a tree. Raises: PermanentError (the folder cannot be opened), Damaged (the tree itself cannot be read)."""
    work = _Comparison(repository, progress or Progress())
    todo = [("", tree_id)]
    while todo:
        inner, subtree = todo.pop()
        with opened_below(path, inner) as folder:
            place = work.target.open_root(folder)
            place.path = inner
            try:
                todo += work.folder(place, subtree)
            finally:
                os.close(place.fd)
    return Compared(files=work.progress.files, bytes=work.progress.bytes, differences=work.report.all_failures())


def compare_device(repository: Repository, tree_id: str, path: str, *, progress: Progress | None = None) -> Compared:
    """Hold a block device beside the image in a tree. Raises: NotFound (the tree is not one of a device), Damaged, OSError."""
    from becalm.repository.backup import DISK_IMAGE  # noqa: PLC0415  (the whole writer comes with it)

    node, done, report = lookup(repository, tree_id, DISK_IMAGE), progress or Progress(), Report()
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        offset = 0
        for blob_id, _, length in locate_blobs(repository.index, node.content or (), sparse=False):
            if _digest(fd, offset, length) != blob_id:
                report.fail(path, f"differs between byte {offset} and {offset + length}")
            offset += length
            done.add(size=length)
    finally:
        os.close(fd)
    done.add(files=1)
    return Compared(files=int(not report.failed), bytes=done.bytes, differences=report.all_failures())


def _digest(fd: int, offset: int, length: int) -> str:
    digest, end = sha256(), offset + length
    while offset < end:
        piece = os.pread(fd, min(_STEP, end - offset), offset)
        if not piece:
            break
        digest.update(piece)
        offset += len(piece)
    return digest.hexdigest()


@dataclass(slots=True)
class _Comparison:
    """One comparison under way."""

    repository: Repository
    progress: Progress
    report: Report = field(default_factory=Report)
    target: Target = field(init=False)

    def __post_init__(self) -> None:
        self.target = Target(self.report)

    def folder(self, place: Place, tree_id: str) -> list[tuple[str, str]]:
        """Compare what is in a directory; return the directories in it, with their trees."""
        below: list[tuple[str, str]] = []
        with os.scandir(place.fd) as entries:
            extra = {entry.name for entry in entries} - (frozenset() if place.path else _OF_THE_FILE_SYSTEM)
        for entry in read_tree(self.repository, tree_id):
            try:
                node = decode_node(orjson.dumps(entry))
            except Damaged as error:
                self.report.fail(place.child(str(entry.get("name"))), error.message)
                continue
            extra.discard(node.name)
            if not hostile(node.name) and node.type not in (NodeType.SOCKET, NodeType.IRREGULAR):
                self._entry(place, node, entry, below)
        for name in sorted(extra):
            self.report.fail(place.child(name), "is not in the recovery point")
        return below

    def _entry(self, place: Place, node: Node, entry: Entry, below: list[tuple[str, str]]) -> None:
        where, found = place.child(node.name), self.target.status(place, node.name)
        if found is None:
            self.report.fail(where, "is missing")
        elif type_of(found.st_mode) is not node.type:
            self.report.fail(where, f"is a {type_of(found.st_mode)}, and was a {node.type}")
        else:
            self._like(place, node, entry, found)
            if node.type is NodeType.DIR and node.subtree:
                below.append((f"{place.path}/{node.name}" if place.path else node.name, node.subtree))

    def _like(self, place: Place, node: Node, entry: Entry, found: os.stat_result) -> None:
        """Compare an entry of the right kind."""
        where = place.child(node.name)
        if node.type is NodeType.SYMLINK:
            if os.readlink(node.name, dir_fd=place.fd) != node.linktarget:
                self.report.fail(where, "leads to another place")
            return
        if os.geteuid() == 0 and (found.st_uid, found.st_gid) != (node.uid, node.gid):
            self.report.fail(where, f"belongs to {found.st_uid}:{found.st_gid}, and belonged to {node.uid}:{node.gid}")
        if unix.S_IMODE(found.st_mode) != node.permissions:
            self.report.fail(where, f"has the mode {unix.S_IMODE(found.st_mode):o}, and had {node.permissions:o}")
        if node.type is NodeType.FILE:
            self._file(place, node, entry, found)

    def _file(self, place: Place, node: Node, entry: Entry, found: os.stat_result) -> None:
        where = place.child(node.name)
        if found.st_size != node.size:
            self.report.fail(where, f"has {found.st_size} bytes, and had {node.size}")
        elif not holds_the_same(self.repository, place, node.name, entry, self.progress):
            self.report.fail(where, "holds other bytes")
        else:
            if found.st_mtime_ns != node.mtime_ns:
                self.report.fail(where, "has another time")
            self.progress.path = where
            self.progress.add(files=1, size=node.size)
