"""What a restore does with bytes: opens sealed blobs, checks them, and makes files of them.

It runs in a worker of a crew, or in the process itself where there is little to do. It knows open directories and open files,
and no store: the sealed bytes stand in memory already. What is damaged or cannot be written spoils the files that need it and
no other; only a volume that takes nothing more ends it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

import orjson

from becalm.errors import Damaged
from becalm.repository.crypto import MasterKey
from becalm.repository.format import BlobKind, IndexedBlob, Layout
from becalm.repository.node import decode_node, decode_tree
from becalm.repository.pack import read_blob
from becalm.repository.quoting import quote
from becalm.repository.target import Place, Report, Target, give_up_when_full

if TYPE_CHECKING:
    import mmap
    from collections.abc import Mapping, Sequence

    from becalm.repository.crypto import Buffer
    from becalm.repository.node import Node

_PAGE = 4096
_ZEROS = bytes(_PAGE)
_MOST_KEPT_BYTES = 8 << 20


class Setup(NamedTuple):
    """What a worker is told at its start."""

    keys: tuple[bytes, bytes, bytes]
    url: str
    sparse: bool
    setuid: bool

    def __repr__(self) -> str:
        """Leave the keys out."""
        return f"Setup({self.url})"


class Spot(NamedTuple):
    """Where a blob stands: in a pack, and for a worker in the memory of its batch. One of `length` nothing is a hole."""

    pack: str
    offset: int
    length: int
    plain: int
    """Bytes of the plain text where it is compressed, or where it is a hole; nothing where it is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """Blobs of a large file, which others finish."""

    where: str
    sparse: bool
    content: Sequence[tuple[str, int]]
    """Each blob and its place in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Files to be made and pieces to be written. The open files that come with it: a directory for each folder, then the large files."""

    number: int
    slot: int
    memory: bytearray | None = field(default=None, repr=False)
    """The sealed bytes, where they are not in a slot."""
    blobs: Mapping[str, Spot]
    shared: frozenset[str]
    """Blobs that are needed more than once."""
    lost: Mapping[str, str]
    """Blobs whose bytes could not be had, and why."""
    folders: Sequence[tuple[str, bytes]]
    """The path of a directory, and a tree of those of its files that are to be made."""
    pieces: Sequence[Pieces]


@dataclass(slots=True, kw_only=True)
class Done:
    """What became of a batch."""

    number: int
    files: int = 0
    bytes: int = 0
    path: str = ""
    """The last file."""
    report: Report = field(default_factory=Report)
    broken: dict[int, str] = field(default_factory=dict)
    """Which of the pieces could not be written, and why."""


class Mouth(Protocol):
    """How answers are given: a crew's `Answers`, or a stand-in for them within one process."""

    slots: tuple[mmap.mmap, ...]

    def send(self, message: Done) -> None:
        """Give an answer."""


class Extractor:
    """Makes files of batches."""

    def __init__(self, setup: Setup, answers: Mouth) -> None:
        """Begin with the keys."""
        setup = Setup(*setup)
        self._key = MasterKey(*setup.keys)
        self._setup = setup
        self._answers = answers

    def handle(self, batch: Batch, files: Sequence[int]) -> None:
        """Make the files of one batch. Raises PermanentError where the volume takes no more."""
        done = Done(number=batch.number)
        memory: Buffer = self._answers.slots[batch.slot] if batch.memory is None else batch.memory  # type: ignore[assignment]  # mmap is a buffer
        try:
            with memoryview(memory) as view, _Blobs(batch, view, self._key, self._setup.url) as blobs:
                folders = len(batch.folders)
                target = Target(done.report, setuid=self._setup.setuid)
                for fd, (path, tree) in zip(files[:folders], batch.folders, strict=True):
                    _Folder(Place(fd, path), target, blobs, done, sparse=self._setup.sparse).make(tree)
                for number, (fd, pieces) in enumerate(zip(files[folders:], batch.pieces, strict=True)):
                    _write_pieces(fd, pieces, blobs, done, number)
        finally:
            for fd in files:
                os.close(fd)
        self._answers.send(done)


class _Blobs:
    """The blobs of one batch, opened as they are needed; one that is needed more than once is kept while there is room."""

    def __init__(self, batch: Batch, view: memoryview, key: MasterKey, url: str) -> None:
        self._spots, self._shared, self._lost = batch.blobs, batch.shared, batch.lost
        self._view, self._key, self._url = view, key, url
        self._kept: dict[str, bytes | bytearray] = {}
        self._room = _MOST_KEPT_BYTES

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.clear()

    def hole(self, blob_id: str) -> int:
        """Return how long a hole is, or nothing where it is none."""
        spot = self._spots[blob_id]
        return 0 if spot.length else spot.plain

    def open(self, blob_id: str) -> bytes | bytearray:
        """Return a blob's plain text, checked. Raises Damaged."""
        kept = self._kept.get(blob_id)
        if kept is not None:
            return kept
        if blob_id in self._lost:
            raise Damaged(self._lost[blob_id])
        pack, place, length, plain = self._spots[blob_id]
        blob = IndexedBlob(id=blob_id, kind=BlobKind.DATA, offset=place, length=length, uncompressed_length=plain)
        with self._view[place : place + length] as sealed:
            data = read_blob(self._key, sealed, blob, where=f"{self._url}/{Layout.pack(pack)}")
        if blob_id in self._shared and len(data) <= self._room:
            self._kept[blob_id] = data
            self._room -= len(data)
        return data


@dataclass(slots=True)
class _Folder:
    """One directory of a batch, in which files are made."""

    place: Place
    target: Target
    blobs: _Blobs
    done: Done
    sparse: bool

    def make(self, tree: bytes) -> None:
        """Make each file, or report why it cannot be made."""
        for node in self._nodes(tree):
            if problem := self._file(node):
                self.done.report.fail(self.place.child(node.name), problem)

    def _nodes(self, tree: bytes) -> list[Node]:
        try:
            return decode_tree(tree)
        except Damaged:
            nodes: list[Node] = []
            for entry in orjson.loads(tree)["nodes"]:
                try:
                    nodes.append(decode_node(orjson.dumps(entry)))
                except Damaged as error:
                    self.done.report.fail(self.place.child(str(entry["name"])), error.message)
            return nodes

    def _file(self, node: Node) -> str:
        """Make one file whole: created, written, dressed, closed. One that cannot be made whole is removed. Return what went wrong."""
        place, where = self.place, f"{self.place.path}/{node.name}"
        problem = ""
        try:
            fd = self.target.create(place, node.name)
        except OSError as error:
            give_up_when_full(error, quote(where))
            return f"it cannot be made: {os.strerror(error.errno or 0)}"
        try:
            written = self._fill(fd, node)
            self.target.dress(fd, node, place.child(node.name))
        except Damaged as error:
            problem = str(error)
        except OSError as error:
            give_up_when_full(error, quote(where))
            problem = f"it cannot be written: {os.strerror(error.errno or 0)}"
        finally:
            os.close(fd)
        if problem:
            self.target.make_way(place, node.name)
        else:
            self.done.files += 1
            self.done.bytes += written
            self.done.path = where
        return problem

    def _fill(self, fd: int, node: Node) -> int:
        """Write what is no hole, and return how many bytes the blobs have."""
        offset = written = 0
        whole = True
        for blob_id in node.content or ():
            hole = self.blobs.hole(blob_id)
            if hole:
                whole = False
                offset += hole
                continue
            data = self.blobs.open(blob_id)
            if not write_at(fd, data, offset, sparse=self.sparse):
                whole = False
            offset += len(data)
            written += len(data)
        if not whole:
            os.ftruncate(fd, node.size)
        return written


def _write_pieces(fd: int, pieces: Pieces, blobs: _Blobs, done: Done, number: int) -> None:
    try:
        for blob_id, offset in pieces.content:
            data = blobs.open(blob_id)
            write_at(fd, data, offset, sparse=pieces.sparse)
            done.bytes += len(data)
    except Damaged as error:
        done.broken[number] = str(error)
    except OSError as error:
        give_up_when_full(error, pieces.where)
        done.broken[number] = f"it cannot be written: {os.strerror(error.errno or 0)}"


def write_at(fd: int, data: bytes | bytearray, place: int, *, sparse: bool) -> bool:
    """Write; pages of zeros are left out where the file has a hole there anyway. Say whether everything was written."""
    if sparse and len(data) >= _PAGE:
        holes = [begin for begin in range(0, len(data) - _PAGE + 1, _PAGE) if not data[begin] and data[begin : begin + _PAGE] == _ZEROS]
        if holes:
            _write_between(fd, memoryview(data), place, holes)
            return False
    if os.pwrite(fd, data, place) != len(data):
        write_all(fd, memoryview(data), place)
    return True


def _write_between(fd: int, view: memoryview, place: int, holes: list[int]) -> None:
    begin = 0
    for hole in (*holes, len(view)):
        if hole > begin:
            write_all(fd, view[begin:hole], place + begin)
        begin = hole + _PAGE


def write_all(fd: int, view: memoryview, place: int) -> None:
    """Write all of it at its place."""
    while view:
        done = os.pwrite(fd, view, place)
        view, place = view[done:], place + done
