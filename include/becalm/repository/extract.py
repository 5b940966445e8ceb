"""A tree of the repository into a folder or onto a device, each byte checked before it is written.

The walk goes ahead in the order of the names: it makes directories, links and devices, and gathers the files into batches, which
others fetch, open, check and write. Holes are kept. A file gets its time last of all: one that has size and time already is
complete, and is not written again. A directory gets its own when nothing more is made in it.
"""

from __future__ import annotations

import os
import stat as unix
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from becalm.errors import Damaged
from becalm.repository.extract_image import Extracted, extract_device
from becalm.repository.fetch import Fetcher
from becalm.repository.format import NodeType
from becalm.repository.gather import SLOT_BYTES, File, Gathering
from becalm.repository.node import decode_node
from becalm.repository.progress import Progress
from becalm.repository.quoting import quote, unquote
from becalm.repository.sameness import holds_the_same
from becalm.repository.target import Place, Report, Target, give_up_when_full, hostile, make_durable
from becalm.repository.tree import lookup
from becalm.repository.wanted import included, is_plain, locate, read_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from becalm.repository.extract_worker import Done
    from becalm.repository.node import Node
    from becalm.repository.reader import Repository
    from becalm.repository.wanted import Entry, Wanted

__all__ = ["Extracted", "extract", "extract_device", "read_path"]

_LARGE = 2 << 20
"""A file of more sealed bytes is written by several workers at once."""
_WINDOW_FILES = 1024
_WINDOW_BLOBS = 4096
_KEPT = frozenset({"lost+found"})
"""In a volume's own directory this is the file system's, and not the application's."""


def extract(
    repository: Repository,
    tree_id: str,
    target: str | os.PathLike[str],
    *,
    root: Node | None = None,
    include: str | Sequence[str] = (),
    sparse: bool = True,
    devices: bool = True,
    setuid: bool = True,
    exact: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Extracted:
    """Write a tree into a folder that exists. What is there and not in the tree stays; run again, it finishes what was begun.

    `exact` makes the folder what the tree says: what is not in the tree goes, and a file that is there stays only where its bytes are the same.

    `root` is the entry of the tree's own directory: the target then gets its owner, mode and times. `include` names files or
    directories of the tree: only they are written, each into the target under its own name. Without `devices` no device is made,
    without `setuid` no file takes rights with it. `workers` is how many processes do the work; without it, as many as pay.
    Raises: NotFound (what is to be included is not there), Damaged (the tree itself cannot be read), PermanentError (the volume is
    full, read-only, or not there), UsageError (two of what is included have one name).
    """
    wanted = (include,) if isinstance(include, str) else tuple(include)
    work = _Extraction(repository, progress or Progress(), sparse=sparse, devices=devices, setuid=setuid, exact=exact, workers=workers)
    try:
        entries = included(repository, tree_id, wanted) if wanted else work.read(tree_id)
        return work.run(entries, os.fspath(target), None if wanted else root, tree_id)
    finally:
        work.close()


@dataclass(slots=True)
class _Frame:
    """A directory that is being walked."""

    place: Place
    node: Node | None
    entries: Iterator[Entry]
    parts: tuple[str, ...]
    names: frozenset[str]
    """What was in it before: in a new directory nothing is looked for."""


class _Extraction:
    """One restore."""

    def __init__(
        self, repository: Repository, progress: Progress, *, sparse: bool, devices: bool, setuid: bool, exact: bool, workers: int | None
    ) -> None:
        self.repository = repository
        self.progress = progress
        self.sparse = sparse
        self.exact = exact
        self.report = Report()
        self.target = Target(self.report, devices=devices, setuid=setuid)
        self.fetcher = Fetcher(repository, progress, sparse=sparse, setuid=setuid, workers=workers)
        self.fetcher.heard = self._heard
        self.files = self.kept = self.dirs = 0
        self._window: list[tuple[Place, Entry] | Callable[[], None]] = []
        self._blobs = self._steps = 0
        self._batch = Gathering()
        self._links: dict[tuple[int, int], tuple[str, ...]] = {}
        self._places: set[int] = set()
        self._open: set[int] = set()
        self._root: Place | None = None

    def close(self) -> None:
        self.fetcher.close()
        for fd in (*self._places, *self._open):
            os.close(fd)

    def read(self, tree_id: str, path: str = "/") -> Iterator[Entry]:
        return self._readable(read_tree(self.repository, tree_id), path)

    def _readable(self, entries: Iterator[Entry], path: str) -> Iterator[Entry]:
        """Yield the entries up to the first that cannot be read. (It was checked that they are what was written.)"""
        try:
            yield from entries
        except Damaged as error:
            self.report.fail(path, f"the rest of what is in it is lost: {error}")

    def run(self, entries: Iterable[Entry], path: str, root: Node | None, tree_id: str) -> Extracted:
        place = self._root = self.target.open_root(path)
        self._places.add(place.fd)
        if self.exact:
            self.clear(place, tree_id, kept=_KEPT)
        stack = [_Frame(place, root, iter(entries), (), _names(place))]
        while stack:
            frame = stack[-1]
            below = self._walk(frame)
            if below is not None:
                stack.append(below)
                continue
            stack.pop()
            self.dirs += 1
            self._then(lambda place=frame.place, own=frame.node: self._leave(place, own))  # type: ignore[misc]  # bound now, called later
        self._settle()
        self._flush()
        self.fetcher.wait()
        make_durable(path)
        return Extracted(
            files=self.files + self.fetcher.files,
            kept=self.kept,
            dirs=self.dirs,
            bytes=self.fetcher.written,
            failures=self.report.all_failures(),
            notes=self.report.all_notes(),
        )

    def _walk(self, frame: _Frame) -> _Frame | None:
        """Go on with a directory up to the next one below it, or to its end."""
        place, names = frame.place, frame.names
        for entry in frame.entries:
            name = entry.get("name")
            if type(name) is not str:
                self.report.fail(place.path or "/", "an entry without a name is not restored")
            elif entry.get("type") == "file" and entry.get("links", 0) in (0, 1) and name not in names and is_plain(name):
                self._queue(place, entry)
            else:
                below = self._entry(frame, entry)
                if below is not None:
                    return below
        return None

    def clear(self, place: Place, tree_id: str, *, kept: frozenset[str] = frozenset()) -> None:
        """Remove what is in a directory and not in its tree. Where the tree cannot be read whole, anything may be part of it: all stays."""
        extra = set(_names(place)) - kept
        try:
            for entry in read_tree(self.repository, tree_id):
                extra.discard(unquote(entry["name"]))
        except (Damaged, KeyError, TypeError, ValueError):
            return  # the walk meets it again, and reports it
        for name in sorted(extra):
            try:
                self.target.clear(place, name)
            except OSError as error:
                give_up_when_full(error, place.child(name))
                self.report.fail(place.child(name), f"is not in the recovery point, and cannot be removed: {os.strerror(error.errno or 0)}")

    def _entry(self, frame: _Frame, entry: Entry) -> _Frame | None:
        """Make what is not a plain new file. Return a directory that is to be walked."""
        place = frame.place
        try:
            node = decode_node(orjson.dumps(entry))
        except Damaged as error:
            self.report.fail(place.child(str(entry["name"])), error.message)
            return None
        where = place.child(node.name)
        if problem := hostile(node.name):
            self.report.fail(where, f"{problem}: it is not restored")
            return None
        try:
            if self.exact and node.name in frame.names:
                self.target.clear_other(place, node)
            if node.type is NodeType.DIR:
                return self._enter(frame, node)
            if node.type is NodeType.FILE:
                self._file(frame, node, entry)
            elif node.type in (NodeType.SOCKET, NodeType.IRREGULAR):
                self.report.once(node.type, where, f"a {node.type} is not restored")
            else:
                self.target.special(place, node)
        except OSError as error:
            give_up_when_full(error, where)
            what = "the directory" if node.type is NodeType.DIR else "it"
            self.report.fail(where, f"{what} cannot be made: {os.strerror(error.errno or 0)}")
        return None

    def _enter(self, frame: _Frame, node: Node) -> _Frame:
        place, new = self.target.folder(frame.place, node.name)
        self._places.add(place.fd)
        if self.exact and not new and node.subtree:
            self.clear(place, node.subtree)
        names = frozenset() if new else _names(place)
        entries: Iterable[Entry] = ()
        try:
            entries = self.read(node.subtree, place.path) if node.subtree else ()
        except Damaged as error:
            self.report.fail(place.path, f"what is in it is lost: {error}")
        return _Frame(place, node, iter(entries), (*frame.parts, node.name), names)

    def _leave(self, place: Place, node: Node | None) -> None:
        """A directory gets its times when nothing more is made in it."""
        if node is not None:
            try:
                self.target.dress(place.fd, node, place.path or "/")
            except OSError as error:
                self.report.fail(place.path or "/", f"owner, mode or times cannot be set: {os.strerror(error.errno or 0)}")
        self._places.discard(place.fd)
        os.close(place.fd)

    def _file(self, frame: _Frame, node: Node, entry: Entry) -> None:
        place = frame.place
        if node.links > 1:
            first = self._links.get((node.device_id, node.inode))
            if first is not None:
                self._then(lambda: self._link(first, place, node))
                return
            self._links[node.device_id, node.inode] = (*frame.parts, node.name)
        if node.name in frame.names and self._is_complete(place, node, entry):
            self.kept += 1
            self.progress.add(files=1, size=node.size)
        else:
            self._queue(place, entry)

    def _is_complete(self, place: Place, node: Node, entry: Entry) -> bool:
        """Whether the file is there: it has its time only after its last byte. Owner, mode and attributes are mended.

        Where the volume was in use, a time says nothing: then the bytes are read.
        """
        found = self.target.status(place, node.name)
        if found is None or not unix.S_ISREG(found.st_mode) or found.st_size != node.size:
            return False
        if self.exact and (found.st_nlink > max(1, node.links) or not self._same_bytes(place, node, entry)):
            return False
        if found.st_mtime_ns != node.mtime_ns and not self.exact:
            return False
        if found.st_mtime_ns != node.mtime_ns or not self.target.is_dressed(place, node, found):
            self.target.dress_by_name(place, node)
        return True

    def _same_bytes(self, place: Place, node: Node, entry: Entry) -> bool:
        try:
            return holds_the_same(self.repository, place, node.name, entry, self.progress)
        except OSError:
            return False  # it is made anew

    def _queue(self, place: Place, entry: Entry) -> None:
        """Have a file made: soon, together with others, since blobs are looked up together."""
        self._window.append((place, entry))
        content = entry.get("content")
        self._blobs += len(content) if type(content) is list else 0
        if self._blobs >= _WINDOW_BLOBS or len(self._window) >= _WINDOW_FILES:
            self._settle()

    def _then(self, step: Callable[[], None]) -> None:
        """Do something after all files that were queued before."""
        self._window.append(step)
        self._steps += 1
        if self._steps >= self._batch.most or len(self._window) >= _WINDOW_FILES:
            self._settle()

    def _settle(self) -> None:
        """Look up the blobs of the files that wait, and put them into batches."""
        window, self._window, self._blobs, self._steps = self._window, [], 0, 0
        files = locate(self.repository, [item for item in window if isinstance(item, tuple)], sparse=self.sparse)
        following = iter(files)
        for item in window:
            if isinstance(item, tuple):
                self._gather(next(following))
            else:
                self._batch.then.append(item)
            if self._batch.full:
                self._flush()

    def _gather(self, wanted: Wanted) -> None:
        if wanted.problem:
            self.report.fail(wanted.where, wanted.problem)
        elif wanted.length > _LARGE:
            self._large(wanted)
        else:
            if self._batch.bytes + wanted.length > SLOT_BYTES:
                self._flush()
            for blob_id, spot in zip(wanted.content, wanted.spots, strict=True):
                self._batch.need(blob_id, spot)
            self._batch.make(wanted.place, wanted.entry)

    def _large(self, wanted: Wanted) -> None:
        """Begin a file whose blobs come in several batches."""
        try:
            node = decode_node(orjson.dumps(wanted.entry))
            fd = self.target.create(wanted.place, node.name)
        except Damaged as error:
            self.report.fail(wanted.where, error.message)
            return
        except OSError as error:
            give_up_when_full(error, wanted.where)
            self.report.fail(wanted.where, f"it cannot be made: {os.strerror(error.errno or 0)}")
            return
        self._open.add(fd)
        file = File(fd, node, wanted.place, wanted.where, self.sparse)
        for blob_id, spot, offset in wanted.placed():
            if self._batch.bytes and self._batch.bytes + spot.length > SLOT_BYTES:
                self._flush()
            self._batch.need(blob_id, spot)
            self._batch.write(file, blob_id, offset)
            if self._batch.full:
                self._flush()
        self._batch.then.append(lambda: self._finish(file))

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
        """Give a file that was restored before one more name."""
        where = place.child(node.name)
        opened: list[int] = []
        try:
            assert self._root is not None
            source = self._root
            for part in first[:-1]:
                source = self.target.within(source, part)
                opened.append(source.fd)
            self.target.link(source, first[-1], place, node)
            self.files += 1
            self.progress.add(files=1)
        except OSError as error:
            self.report.fail(where, f"it cannot be linked to {quote('/'.join(first))}: {os.strerror(error.errno or 0)}")
        finally:
            for fd in opened:
                os.close(fd)

    def _heard(self, done: Done) -> None:
        self.report.take_in(done.report)

    def _flush(self) -> None:
        batch, self._batch = self._batch, Gathering()
        self.fetcher.submit(batch)


def _names(place: Place) -> frozenset[str]:
    with os.scandir(place.fd) as entries:
        return frozenset(entry.name for entry in entries)


def read_path(repository: Repository, tree_id: str, path: str) -> Iterator[bytes | bytearray]:
    """Yield the content of one file by its path. Raises: NotFound, Damaged."""
    return repository.read_file(lookup(repository, tree_id, path))
