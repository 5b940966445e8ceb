"""A tree of the repository into a folder or onto a device, each byte checked before it is written.

The walk goes ahead in the order of the names and gathers batches; a batch's blobs are fetched by ranges, pack by pack, side by
side, and written where they belong. Holes are kept. A file gets its time last of all: one that has size and time already is
complete, and is not written again.
"""

from __future__ import annotations

import os
import stat as unix
from dataclasses import dataclass
from typing import TYPE_CHECKING

from becalm.errors import Damaged, PermanentError
from becalm.repository.backup import BLOCK, DISK_IMAGE
from becalm.repository.fetch import Batch, Fetcher, File, is_hole, plain_length, write_all
from becalm.repository.format import BlobKind, NodeType
from becalm.repository.progress import Progress
from becalm.repository.source import is_zero
from becalm.repository.target import Place, Report, Target, give_up_when_full, hostile, make_durable
from becalm.repository.tree import lookup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from becalm.model import Finding
    from becalm.repository.index import Location
    from becalm.repository.node import Node
    from becalm.repository.reader import Repository


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


def extract(
    repository: Repository,
    tree_id: str,
    target: str | os.PathLike[str],
    *,
    root: Node | None = None,
    sparse: bool = True,
    progress: Progress | None = None,
) -> Extracted:
    """Write a tree into a folder that exists. What is there and not in the tree stays; run again, it finishes what was begun.

    `root` is the entry of the tree's own directory: the target then gets its owner, mode and times.
    Raises: Damaged (the tree itself cannot be read), PermanentError (the volume is full, read-only, or not there).
    """
    work = _Extraction(repository, progress or Progress(), sparse=sparse)
    try:
        return work.run(tree_id, os.fspath(target), root)
    finally:
        work.close()


class _Extraction:
    """One restore."""

    def __init__(self, repository: Repository, progress: Progress, *, sparse: bool) -> None:
        self.repository = repository
        self.progress = progress
        self.sparse = sparse
        self.report = Report()
        self.target = Target(self.report)
        self.fetcher = Fetcher(repository, progress)
        self.files = self.kept = self.dirs = 0
        self._batch = Batch()
        self._links: dict[tuple[int, int], tuple[str, ...]] = {}
        self._places: set[int] = set()
        self._open: set[int] = set()
        self._root: Place | None = None

    def close(self) -> None:
        self.fetcher.close()
        for fd in (*self._places, *self._open):
            os.close(fd)

    def run(self, tree_id: str, path: str, root: Node | None) -> Extracted:
        place = self._root = self.target.open_root(path)
        self._places.add(place.fd)
        stack: list[tuple[Place, Node | None, Iterator[Node], tuple[str, ...]]] = [(place, root, iter(self.repository.tree(tree_id)), ())]
        while stack:
            place, own, nodes, parts = stack[-1]
            node = next(nodes, None)
            if node is None:
                stack.pop()
                self.dirs += 1
                self._then(lambda place=place, own=own: self._leave(place, own))  # type: ignore[misc]  # bound now, called later
            elif problem := hostile(node.name):
                self.report.fail(place.child(node.name), f"{problem}: it is not restored")
            elif node.type is NodeType.DIR:
                below = self._enter(place, node)
                if below is not None:
                    stack.append((below, node, iter(self._nodes(node, below)), (*parts, node.name)))
            else:
                self._entry(place, node, parts)
        self._flush()
        self.fetcher.wait()
        make_durable(path)
        return Extracted(
            files=self.files,
            kept=self.kept,
            dirs=self.dirs,
            bytes=self.fetcher.written,
            failures=self.report.all_failures(),
            notes=tuple(self.report.notes),
        )

    def _nodes(self, node: Node, place: Place) -> list[Node]:
        try:
            return self.repository.tree(node.subtree) if node.subtree else []
        except Damaged as error:
            self.report.fail(place.path, f"what is in it is lost: {error}")
            return []

    def _enter(self, place: Place, node: Node) -> Place | None:
        try:
            below = self.target.folder(place, node.name)
        except OSError as error:
            give_up_when_full(error, place.child(node.name))
            self.report.fail(place.child(node.name), f"the directory cannot be made: {os.strerror(error.errno or 0)}")
            return None
        self._places.add(below.fd)
        return below

    def _leave(self, place: Place, node: Node | None) -> None:
        """A directory gets its times when nothing more is made in it."""
        if node is not None:
            try:
                self.target.dress(place.fd, node, place.path or "/")
            except OSError as error:
                self.report.fail(place.path or "/", f"owner, mode or times cannot be set: {os.strerror(error.errno or 0)}")
        self._places.discard(place.fd)
        os.close(place.fd)

    def _entry(self, place: Place, node: Node, parts: tuple[str, ...]) -> None:
        where = place.child(node.name)
        try:
            if node.type is NodeType.FILE:
                self._file(place, node, parts)
            elif node.type in (NodeType.SOCKET, NodeType.IRREGULAR):
                self.report.once(node.type, where, f"a {node.type} is not restored")
            else:
                self.target.special(place, node)
        except OSError as error:
            give_up_when_full(error, where)
            self.report.fail(where, f"it cannot be made: {os.strerror(error.errno or 0)}")

    def _file(self, place: Place, node: Node, parts: tuple[str, ...]) -> None:
        if node.links > 1:
            first = self._links.get((node.device_id, node.inode))
            if first is not None:
                self._then(lambda: self._link(first, place, node))
                return
            self._links[node.device_id, node.inode] = (*parts, node.name)
        if self._is_complete(place, node):
            self.kept += 1
            self.progress.add(files=1, size=node.size)
            return
        where = place.child(node.name)
        pieces = self._pieces(node, where)
        if pieces is None:
            return
        file = File(self.target.create(place, node.name), node, place, where, self.sparse)
        self._open.add(file.fd)
        self._batch.files += 1
        for location, offset in pieces:
            self._batch.add(location, file, offset)
            if self._batch.full:
                self._flush()
        self._then(lambda: self._finish(file))

    def _is_complete(self, place: Place, node: Node) -> bool:
        """Whether the file is there: it has its time only after its last byte. Owner and mode are set where they differ."""
        found = self.target.status(place, node.name)
        if found is None or not unix.S_ISREG(found.st_mode) or (found.st_size, found.st_mtime_ns) != (node.size, node.mtime_ns):
            return False
        if (found.st_uid, found.st_gid, unix.S_IMODE(found.st_mode)) != (node.uid, node.gid, node.permissions):
            self.target.dress_by_name(place, node)
        return True

    def _pieces(self, node: Node, where: str) -> list[tuple[Location, int]] | None:
        """Say where each blob lies and goes, or report why that cannot be known."""
        pieces: list[tuple[Location, int]] = []
        offset = 0
        for blob_id in node.content or ():
            location = self.repository.index.lookup(BlobKind.DATA, blob_id)
            if location is None:
                self.report.fail(where, f"its blob {blob_id[:12]} is not in the repository")
                return None
            length = plain_length(location)
            if not (self.sparse and is_hole(blob_id, length)):
                pieces.append((location, offset))
            offset += length
        if offset != node.size:
            self.report.fail(where, f"it should have {node.size} bytes, and its blobs have {offset}")
            return None
        return pieces

    def _finish(self, file: File) -> None:
        """After its last byte: size, owner, mode and times. A file that is not whole is removed."""
        try:
            if not file.error:
                os.ftruncate(file.fd, file.node.size)
                self.target.dress(file.fd, file.node, file.where)
        except OSError as error:
            give_up_when_full(error, file.where)
            file.error = f"owner, mode or times cannot be set: {os.strerror(error.errno or 0)}"
        finally:
            self._open.discard(file.fd)
            os.close(file.fd)
        if file.error:
            self.target.make_way(file.place, file.node.name)
            self.report.fail(file.where, file.error)
        else:
            self.files += 1
            self.progress.path = file.where
            self.progress.add(files=1)

    def _link(self, first: tuple[str, ...], place: Place, node: Node) -> None:
        where = place.child(node.name)
        opened: list[Place] = []
        try:
            assert self._root is not None
            source = Place(os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._root.fd), "")
            opened.append(source)
            for part in first[:-1]:
                source = self.target.folder(source, part)
                opened.append(source)
            self.target.link(source, first[-1], place, node)
            self.files += 1
            self.progress.add(files=1)
        except OSError as error:
            self.report.fail(where, f"it cannot be linked to {'/'.join(first)}: {os.strerror(error.errno or 0)}")
        finally:
            for one in opened:
                os.close(one.fd)

    def _then(self, step: Callable[[], None]) -> None:
        self._batch.then.append(step)
        if self._batch.full:
            self._flush()

    def _flush(self) -> None:
        batch, self._batch = self._batch, Batch()
        self.fetcher.submit(batch)


def extract_device(repository: Repository, tree_id: str, path: str | os.PathLike[str], *, progress: Progress | None = None) -> Extracted:
    """Write a tree's `disk.img` onto a block device (or into a file). The device must be large enough.

    Raises: NotFound (the tree is not one of a device), PermanentError, Damaged.
    """
    node = lookup(repository, tree_id, DISK_IMAGE)
    progress = progress or Progress()
    where = os.fspath(path)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise PermanentError(f"the device cannot be opened: {os.strerror(error.errno or 0)}", where=where) from error
    fetcher = Fetcher(repository, progress)
    try:
        is_file = unix.S_ISREG(os.fstat(fd).st_mode)
        if is_file:
            os.ftruncate(fd, 0)
            os.ftruncate(fd, node.size)
        elif os.lseek(fd, 0, os.SEEK_END) < node.size:
            raise PermanentError(
                f"the device is smaller than the {node.size} bytes of the image", where=where, hint="restore into a larger volume"
            )
        file = File(fd, node, Place(-1, ""), where, is_file)
        _fill_device(repository, fetcher, file)
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


def _fill_device(repository: Repository, fetcher: Fetcher, file: File) -> None:
    batch = Batch()
    offset = 0
    for blob_id in file.node.content or ():
        location = repository.locate(BlobKind.DATA, blob_id)
        length = plain_length(location)
        if is_hole(blob_id, length):
            if not file.sparse:
                _clear(file.fd, offset, length)
        else:
            batch.add(location, file, offset)
        offset += length
        if batch.full:
            fetcher.submit(batch)
            batch = Batch()
    fetcher.submit(batch)
    fetcher.wait()


def _clear(fd: int, place: int, length: int) -> None:
    """Make a stretch of a device zero, writing only where it is not."""
    for offset in range(place, place + length, BLOCK):
        size = min(BLOCK, place + length - offset)
        if not is_zero(os.pread(fd, size, offset)):
            write_all(fd, memoryview(bytes(size)), offset)


def read_path(repository: Repository, tree_id: str, path: str) -> Iterator[bytes | bytearray]:
    """Yield the content of one file by its path. Raises: NotFound, Damaged."""
    return repository.read_file(lookup(repository, tree_id, path))
