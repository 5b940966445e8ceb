"""The writer: blobs into packs, packs into the bucket, and index objects after the packs they speak of.

A blob that the repository has, or that is on its way, is not written again. Packs are checked and sent by threads of their
own; what is in memory is bounded, and whoever is too fast waits. Nothing that it writes is visible: a snapshot makes it so.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Self

from becalm.errors import BecalmError
from becalm.repository.chunker import chunks, pieces
from becalm.repository.format import BlobId, BlobKind, IndexDoc, IndexedBlob, Layout
from becalm.repository.node import encode_tree
from becalm.repository.pack import PackBuilder, encode_blob
from becalm.repository.reader import Repository, put_once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime
    from types import TracebackType

    from becalm.repository.crypto import Buffer
    from becalm.repository.node import Node
    from becalm.repository.pack import Pack

_PACKS_IN_FLIGHT = 3
_UPLOADS = 2
_BLOBS_PER_INDEX = 40_000
_MOST_WORKERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Flushed:
    """What a writer has written since its beginning."""

    packs: tuple[str, ...] = ()
    blobs: int = 0
    bytes_added: int = 0
    """Bytes of the packs, as they lie in the bucket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContent:
    """The content of a file: its blobs, in order."""

    content: tuple[BlobId, ...]
    size: int


def default_workers() -> int:
    """Return how many threads the processors can use."""
    return max(2, min(_MOST_WORKERS, len(os.sched_getaffinity(0))))


class Writer:
    """Writes blobs. Safe for several threads; use it as a context manager, which flushes at a good end."""

    def __init__(self, repository: Repository, *, retain_until: datetime | None = None, workers: int | None = None, level: int = 1) -> None:
        """Begin. `retain_until` locks every object that is written; `level` is zstd's."""
        self.repository = repository
        self.retain_until = retain_until
        self.level = level
        self.index = repository.index
        self.workers = ThreadPoolExecutor(max_workers=workers or default_workers(), thread_name_prefix="blob")
        self._uploads = ThreadPoolExecutor(max_workers=_UPLOADS, thread_name_prefix="upload")
        self._room = threading.BoundedSemaphore(_PACKS_IN_FLIGHT)
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._in_flight = 0
        self._builders: dict[BlobKind, PackBuilder] = {}
        self._claimed: set[tuple[BlobKind, BlobId]] = set()
        self._unindexed: dict[str, tuple[IndexedBlob, ...]] = {}
        self._packs: list[str] = []
        self._blobs = 0
        self._bytes = 0
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        """Nothing to do."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Flush at a good end; at a bad one leave behind what was sent. Let the threads go."""
        try:
            if kind is None:
                self.flush()
        finally:
            with self._lock:
                if self._failure is None:
                    self._failure = BecalmError("the writer is closed")
            self.workers.shutdown(wait=True, cancel_futures=True)
            self._uploads.shutdown(wait=True, cancel_futures=True)

    def save_blob(self, kind: BlobKind, data: Buffer) -> BlobId:
        """Take in one blob and return its id. Compresses and seals in the caller's thread; may wait for uploads."""
        blob_id = sha256(data).hexdigest()
        if self._claim(kind, blob_id):
            try:
                repository = self.repository
                level = self.level if kind is BlobKind.DATA else 3
                encoded = encode_blob(repository.key, kind, blob_id, data, version=repository.version, level=level)
                with self._lock:
                    builder = self._builders.get(kind)
                    if builder is None:
                        builder = self._builders[kind] = PackBuilder(repository.key, kind)
                    builder.append(encoded)
                    full = self._builders.pop(kind) if builder.full else None
            except BaseException as error:  # the blob is claimed and will never come: nothing of this writer may be used
                self._fail(error)
                raise
            if full is not None:
                self._send(full)
        return blob_id

    def save_bytes(self, data: Buffer) -> FileContent:
        """Take in the content of a file that is in memory."""
        content = tuple([self.save_blob(BlobKind.DATA, piece) for piece in pieces(data)])
        return FileContent(content=content, size=len(data))

    def save_file(self, read: Callable[[memoryview], int], *, size_hint: int = 0) -> FileContent:
        """Take in a file as a stream, its blobs side by side. Never call this from a job of `workers`: it waits for them.

        `read` fills the view it is given and says how many bytes it wrote; nothing is the end.
        """
        waiting: deque[Future[BlobId]] = deque()
        content: list[BlobId] = []
        size = 0
        for piece in chunks(read, size_hint=size_hint):
            size += len(piece)
            waiting.append(self.workers.submit(self.save_blob, BlobKind.DATA, bytes(piece)))
            if len(waiting) > _AHEAD:
                content.append(waiting.popleft().result())
        content.extend(done.result() for done in waiting)
        return FileContent(content=tuple(content), size=size)

    def save_tree(self, nodes: Iterable[Node]) -> BlobId:
        """Take in a directory; its entries are sorted here. Return its id."""
        return self.save_blob(BlobKind.TREE, encode_tree(nodes))

    def flush(self) -> Flushed:
        """Send what is left, wait until every pack is in the bucket, and write their index. Return what was written in all.

        Raises: what the store raised for any of them.
        """
        with self._lock:
            left = [builder for builder in self._builders.values() if builder.blobs]
            self._builders = {}
        for builder in left:
            self._send(builder)
        with self._lock:
            while self._in_flight:
                self._idle.wait()
            self._check()
        self._write_index(at_least=1)
        return self.written

    @property
    def written(self) -> Flushed:
        """What has been sent by now."""
        with self._lock:
            return Flushed(packs=tuple(self._packs), blobs=self._blobs, bytes_added=self._bytes)

    def has(self, kind: BlobKind, blob_id: BlobId) -> bool:
        """Say whether a blob is in the repository, or on its way."""
        with self._lock:
            if (kind, blob_id) in self._claimed:
                return True
        return self.index.has(kind, blob_id)

    def _claim(self, kind: BlobKind, blob_id: BlobId) -> bool:
        """Say whether the caller must bring this blob."""
        with self._lock:
            self._check()
            if (kind, blob_id) in self._claimed or self.index.has(kind, blob_id):
                return False
            self._claimed.add((kind, blob_id))
            return True

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            if self._failure is None:
                self._failure = error

    def _send(self, builder: PackBuilder) -> None:
        self._room.acquire()  # released by the upload
        with self._lock:
            self._in_flight += 1
        try:
            self._uploads.submit(self._upload, builder)
        except RuntimeError as error:  # the pool is closed: another thread has failed
            self._landed()
            raise BecalmError("the writer is closed") from error

    def _landed(self) -> None:
        self._room.release()
        with self._lock:
            self._in_flight -= 1
            self._idle.notify_all()

    def _upload(self, builder: PackBuilder) -> None:
        try:
            with self._lock:
                self._check()
            pack = builder.finish()
            put_once(self.repository.store, Layout.pack(pack.id), pack.body, retain_until=self.retain_until)
            self._landed_pack(pack)
            self._write_index(at_least=_BLOBS_PER_INDEX)
        except BaseException as error:  # noqa: BLE001  kept, and raised in the caller's thread
            self._fail(error)
        finally:
            self._landed()

    def _landed_pack(self, pack: Pack) -> None:
        self.index.add(pack.id, pack.blobs)
        with self._lock:
            self._claimed.difference_update((blob.kind, blob.id) for blob in pack.blobs)
            self._unindexed[pack.id] = pack.blobs
            self._packs.append(pack.id)
            self._blobs += len(pack.blobs)
            self._bytes += len(pack.body)

    def _write_index(self, *, at_least: int) -> None:
        with self._lock:
            if sum(map(len, self._unindexed.values())) < at_least:
                return
            packs, self._unindexed = self._unindexed, {}
        self.repository.save_document(Layout.INDEX, IndexDoc(packs).encode(), retain_until=self.retain_until)


_AHEAD = 4
"""So many pieces of one file may wait to be taken in."""
