"""Batches of blobs from the bucket into open files: by ranges, pack by pack, side by side, each checked before it is written.

It knows files only as descriptors. What is damaged or cannot be written spoils the files that need it and no other.
"""

from __future__ import annotations

import os
import resource
import threading
from collections import defaultdict, deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from becalm.errors import Damaged, NotFound
from becalm.repository.backup import BLOCK
from becalm.repository.chunker import MAXIMUM, MINIMUM
from becalm.repository.crypto import OVERHEAD
from becalm.repository.format import Layout
from becalm.repository.index import Location
from becalm.repository.pack import read_blob
from becalm.repository.target import Place, give_up_when_full
from becalm.storage.base import Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from becalm.repository.crypto import Buffer
    from becalm.repository.node import Node
    from becalm.repository.progress import Progress
    from becalm.repository.reader import Repository

_BATCHES = 2
_BATCH_BYTES = 32 << 20
_MOST_FILES = 512
"""Of one batch: small files lie next to each other in a pack, so a batch of them is one request."""
_LONGEST_RANGE = 4 << 20
_WIDEST_GAP = 64 << 10
_FETCHERS = 4
_PAGE = 4096


@dataclass(slots=True, eq=False)
class File:
    """A file under way. Its descriptor is open from its first batch to its last."""

    fd: int
    node: Node
    place: Place
    where: str
    sparse: bool
    error: str = ""


Piece: TypeAlias = tuple[Location, list[tuple[File, int]]]
"""A blob, and the files and offsets where it goes."""


def files_at_once(allowed: int) -> int:
    """Return how many files or directories one batch may hold open, of the `allowed` descriptors of the process. Pure.

    Three batches are under way at once, and each may hold as many files and as many directories.
    """
    return _MOST_FILES if allowed < 0 else max(16, min(_MOST_FILES, allowed // 8))  # below zero: no limit


def _files_at_once() -> int:
    return files_at_once(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


@dataclass(slots=True)
class Batch:
    """Blobs and where they go, and what follows once they are written."""

    most: int = field(default_factory=_files_at_once)
    pieces: dict[str, dict[int, Piece]] = field(default_factory=lambda: defaultdict(dict))
    then: list[Callable[[], None]] = field(default_factory=list)
    files: int = 0
    bytes: int = 0

    def add(self, location: Location, file: File, offset: int) -> None:
        """Send one blob to one more place."""
        found = self.pieces[location.pack].get(location.blob.offset)
        if found is None:
            found = self.pieces[location.pack][location.blob.offset] = (location, [])
            self.bytes += location.blob.length
        found[1].append((file, offset))

    @property
    def full(self) -> bool:
        """Whether it is time to carry it out."""
        return self.files >= self.most or self.bytes >= _BATCH_BYTES or len(self.then) >= self.most


def plain_length(location: Location) -> int:
    """Return how many bytes a blob has when it is open."""
    return location.blob.uncompressed_length or location.blob.length - OVERHEAD


@lru_cache(maxsize=8)
def _zero_id(length: int) -> str:
    return sha256(bytes(length)).hexdigest()


_ZERO_LENGTHS = frozenset({MAXIMUM, BLOCK, MINIMUM})


def is_hole(blob_id: str, length: int) -> bool:
    """Say whether a blob is one of those by which holes are kept: it need not be fetched."""
    return length in _ZERO_LENGTHS and blob_id == _zero_id(length)


class Fetcher:
    """Fetches the blobs of batches and writes them. Two batches are at work while the next is gathered; what follows keeps its order."""

    def __init__(self, repository: Repository, progress: Progress) -> None:
        """Begin with threads of its own."""
        self.repository = repository
        self.progress = progress
        self.written = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(max_workers=_FETCHERS, thread_name_prefix="fetch")
        self._line = ThreadPoolExecutor(max_workers=_BATCHES, thread_name_prefix="batch")
        self._running: deque[Future[None]] = deque()

    def submit(self, batch: Batch) -> None:
        """Carry out a batch beside the one before it. Raises what an earlier one raised."""
        while len(self._running) >= _BATCHES:
            self._running.popleft().result()
        before = self._running[-1] if self._running else None
        self._running.append(self._line.submit(self._carry_out, batch, before))

    def wait(self) -> None:
        """Wait for the batches that are at work. Raises what one of them raised."""
        while self._running:
            self._running.popleft().result()

    def close(self) -> None:
        """Let the threads go."""
        self._line.shutdown(wait=True, cancel_futures=True)
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _carry_out(self, batch: Batch, before: Future[None] | None) -> None:
        ranges = [run for pieces in batch.pieces.values() for run in _ranges(pieces)]
        failed: BaseException | None = None
        for done in [self._pool.submit(self._fetch, run) for run in ranges]:
            failed = done.exception() or failed
        if failed is not None:
            raise failed
        if before is not None:
            before.result()
        for step in batch.then:
            step()

    def _fetch(self, run: list[Piece]) -> None:
        """Fetch neighbouring blobs with one request, and write each. What is damaged spoils its files and nothing else."""
        self.progress.check()
        first, last = run[0][0], run[-1][0]
        begin = first.blob.offset
        key = Layout.pack(first.pack)
        where = self.repository.where(key)
        try:
            raw = self.repository.store.get(key, Span(offset=begin, length=last.blob.offset + last.blob.length - begin))
        except (NotFound, Damaged) as error:
            _spoil(run, f"its pack {first.pack[:12]} cannot be read: {error.message}")
            return
        view = memoryview(raw)
        for location, goals in run:
            offset = location.blob.offset - begin
            try:
                data = read_blob(self.repository.key, view[offset : offset + location.blob.length], location.blob, where=where)
            except Damaged as error:
                _spoil([(location, goals)], str(error))
                continue
            for file, place in goals:
                self._write(file, data, place)

    def _write(self, file: File, data: Buffer, place: int) -> None:
        if file.error:
            return
        try:
            _write_at(file.fd, data, place, sparse=file.sparse)
        except OSError as error:
            give_up_when_full(error, file.where)
            file.error = f"it cannot be written: {os.strerror(error.errno or 0)}"
            return
        with self._lock:
            self.written += len(data)
        self.progress.add(size=len(data))


def _spoil(run: list[Piece], message: str) -> None:
    for _, goals in run:
        for file, _ in goals:
            file.error = file.error or message


def _ranges(pieces: dict[int, Piece]) -> Iterator[list[Piece]]:
    """Yield runs of blobs that are close to each other in their pack."""
    run: list[Piece] = []
    for _, piece in sorted(pieces.items()):
        blob = piece[0].blob
        if run:
            end = run[-1][0].blob.offset + run[-1][0].blob.length
            if blob.offset - end > _WIDEST_GAP or blob.offset + blob.length - run[0][0].blob.offset > _LONGEST_RANGE:
                yield run
                run = []
        run.append(piece)
    if run:
        yield run


def _write_at(fd: int, data: Buffer, place: int, *, sparse: bool) -> None:
    """Write; pages of zeros are left out where the file has a hole there anyway."""
    view = memoryview(data)
    if not sparse or len(view) < _PAGE:
        write_all(fd, view, place)
        return
    whole = len(view) // _PAGE * _PAGE
    filled = np.frombuffer(data, dtype="<u8", count=whole // 8).reshape(-1, _PAGE // 8).any(axis=1)
    if filled.all():
        write_all(fd, view, place)
        return
    edges = np.flatnonzero(np.diff(np.concatenate([[False], filled, [False]]).astype(np.int8))).tolist()
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        write_all(fd, view[begin * _PAGE : end * _PAGE], place + begin * _PAGE)
    if whole < len(view):
        write_all(fd, view[whole:], place + whole)


def write_all(fd: int, view: memoryview, place: int) -> None:
    """Write all of it at its place."""
    while view:
        done = os.pwrite(fd, view, place)
        view, place = view[done:], place + done
