"""The writer: blobs into packs, packs into the bucket, and index objects after the packs they speak of.

A blob that the repository has, or that is on its way, is not written again; one that lies only in packs with a tombstone is.
Packs are checked and sent by threads of their own; what is in memory is bounded, and whoever is too fast waits. Nothing that it
writes is visible: a snapshot makes it so.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Self

import numpy as np

from becalm.errors import BecalmError
from becalm.repository.chunker import chunks, pieces
from becalm.repository.format import BlobId, BlobKind, Layout
from becalm.repository.landed import index_document, index_entry, rows_of
from becalm.repository.node import encode_tree
from becalm.repository.pack import BETWEEN, LEVEL_OF_TREES, PackBuilder, encode_blob
from becalm.repository.reader import Repository, put_once
from becalm.repository.tombstones import marked

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from datetime import datetime
    from types import TracebackType

    from becalm.repository.crypto import Buffer
    from becalm.repository.index import Index, PackEntries
    from becalm.repository.landed import Row
    from becalm.repository.node import Node
    from becalm.repository.pack import EncodedBlob

LEVEL = BETWEEN
"""The level of compression for data."""

_DIGITS = 64
_PACKS_IN_FLIGHT = 3
_UPLOADS = 2
_BLOBS_PER_INDEX = 20_000
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

    def __init__(
        self,
        repository: Repository,
        *,
        retain_until: datetime | None = None,
        workers: int | None = None,
        level: int = LEVEL,
        avoid: Collection[str] | None = None,
    ) -> None:
        """Begin. `retain_until` locks every object that is written; `level` is zstd's, or `BETWEEN`.

        `avoid` are the packs on which nothing new may rely. By default those with a tombstone: they are listed once, when the first
        blob is asked about.
        """
        self.repository = repository
        self.retain_until = retain_until
        self.level = level
        self.index = repository.index
        self.workers = ThreadPoolExecutor(max_workers=workers or default_workers(), thread_name_prefix="blob")
        self._avoid = None if avoid is None else frozenset(avoid)
        self._stale: dict[BlobKind, set[bytes]] | None = None
        self._uploads = ThreadPoolExecutor(max_workers=_UPLOADS, thread_name_prefix="upload")
        self._room = threading.BoundedSemaphore(_PACKS_IN_FLIGHT)
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._in_flight = 0
        self._builders: dict[BlobKind, PackBuilder] = {}
        self._claimed: dict[BlobKind, set[bytes]] = {kind: set() for kind in BlobKind}
        self._unindexed: list[bytes] = []
        """What the next index object says, pack by pack."""
        self._blobs_unindexed = 0
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
        key, version = self.repository.key, self.repository.version
        level = self.level if kind is BlobKind.DATA else LEVEL_OF_TREES
        self._take_in(kind, blob_id, lambda: encode_blob(key, kind, blob_id, data, version=version, level=level))
        return blob_id

    def save_encoded(self, encoded: EncodedBlob) -> BlobId:
        """Take in one blob that is compressed and sealed already, and return its id."""
        self._take_in(encoded.kind, encoded.id, lambda: encoded)
        return encoded.id

    def _take_in(self, kind: BlobKind, blob_id: BlobId, encode: Callable[[], EncodedBlob]) -> None:
        if self._claim(kind, blob_id):
            try:
                encoded = encode()
                with self._lock:
                    builder = self._builders.get(kind)
                    if builder is None:
                        builder = self._builders[kind] = PackBuilder(self.repository.key, kind)
                    builder.append(encoded)
                    full = self._builders.pop(kind) if builder.full else None
            except BaseException as error:  # the blob is claimed and will never come: nothing of this writer may be used
                self._fail(error)
                raise
            if full is not None:
                self._send(full)

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
            self.check()
        self._write_index(at_least=1)
        return self.written

    @property
    def written(self) -> Flushed:
        """What has been sent by now."""
        with self._lock:
            return Flushed(packs=tuple(self._packs), blobs=self._blobs, bytes_added=self._bytes)

    def has(self, kind: BlobKind, blob_id: BlobId) -> bool:
        """Say whether a blob is in the repository for good, or on its way."""
        return self.has_many(kind, [bytes.fromhex(blob_id)])[0]

    def has_many(self, kind: BlobKind, raw_ids: Sequence[bytes]) -> list[bool]:
        """Say the same of many blobs."""
        with self._lock:
            return self._known(kind, raw_ids)

    def has_all(self, kind: BlobKind, ids: Sequence[BlobId]) -> bool:
        """Say whether all of these are. Raises ValueError or TypeError where one is no id."""
        joined = "".join(ids)
        raw = bytes.fromhex(joined)
        if raw.hex() != joined or any([len(one) != _DIGITS for one in ids]):  # noqa: C419  (a list is twice as fast, and there are many)
            raise ValueError("these are no ids")
        if self.relies_on_all and all(self.index.has_many(kind, raw)):
            return True
        return all(self.has_many(kind, [raw[place : place + 32] for place in range(0, len(raw), 32)]))

    @property
    def relies_on_all(self) -> bool:
        """Whether there is no blob in the repository that must be brought again."""
        with self._lock:
            return not any(self._not_for_good().values())

    def claim_many(self, kind: BlobKind, raw_ids: Sequence[bytes]) -> list[bool]:
        """Say of each blob whether the caller must bring it. What is claimed must come, by `save_blob` or in a pack of its own."""
        with self._lock:
            self.check()
            claimed = self._claimed[kind]
            wanted: list[bool] = []
            for raw, known in zip(raw_ids, self._known(kind, raw_ids), strict=True):
                bring = not known and raw not in claimed  # the same blob may stand here twice
                wanted.append(bring)
                if bring:
                    claimed.add(raw)
            return wanted

    def _known(self, kind: BlobKind, raw_ids: Sequence[bytes]) -> list[bool]:
        stale, claimed = self._not_for_good()[kind], self._claimed[kind]
        one = len(raw_ids) == 1
        found = [self.index.has(kind, raw_ids[0].hex())] if one else self.index.has_many(kind, raw_ids)
        return [raw in claimed or (there and raw not in stale) for raw, there in zip(raw_ids, found, strict=True)]

    def _not_for_good(self) -> dict[BlobKind, set[bytes]]:
        """Return the blobs that lie nowhere but in packs that are to be avoided."""
        if self._stale is None:
            avoid = marked(self.repository.store) if self._avoid is None else self._avoid
            self._stale = _only_in(self.index, avoid)
        return self._stale

    def _claim(self, kind: BlobKind, blob_id: BlobId) -> bool:
        """Say whether the caller must bring this blob."""
        return self.claim_many(kind, [bytes.fromhex(blob_id)])[0]

    def check(self) -> None:
        """Raise what has failed by now."""
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
                self.check()
            pack = builder.finish()
            self._put(pack.id, pack.body, builder.kind, rows_of(pack.blobs))
        except BaseException as error:  # noqa: BLE001  kept, and raised in the caller's thread
            self._fail(error)
        finally:
            self._landed()

    def send_pack(self, pack_id: str, body: memoryview, rows: Sequence[Row], sent: Callable[[], None]) -> None:
        """Send a pack of data that was built and checked elsewhere. Returns at once; `sent` is called when the body is not needed any more.

        Its blobs were claimed before. Where the writer has failed, nothing is sent.
        """
        with self._lock:
            self._in_flight += 1
        try:
            self._uploads.submit(self._upload_body, pack_id, body, rows, sent)
        except RuntimeError:  # the pool is closed: another thread has failed
            self._done_with(body, sent)

    def _upload_body(self, pack_id: str, body: memoryview, rows: Sequence[Row], sent: Callable[[], None]) -> None:
        try:
            with self._lock:
                self.check()
            self._put(pack_id, body, BlobKind.DATA, rows)
        except BaseException as error:  # noqa: BLE001  kept, and raised in the caller's thread
            self._fail(error)
        finally:
            self._done_with(body, sent)

    def _done_with(self, body: memoryview, sent: Callable[[], None]) -> None:
        body.release()
        try:
            sent()
        finally:
            with self._lock:
                self._in_flight -= 1
                self._idle.notify_all()

    def _put(self, pack_id: str, body: bytearray | memoryview, kind: BlobKind, rows: Sequence[Row]) -> None:
        put_once(self.repository.store, Layout.pack(pack_id), body, retain_until=self.retain_until)
        self.index.add_rows(pack_id, kind, rows)
        entry = index_entry(pack_id, kind, rows)
        landed = [row[0] for row in rows]
        with self._lock:
            self._claimed[kind].difference_update(landed)
            self._not_for_good()[kind].difference_update(landed)
            self._unindexed.append(entry)
            self._blobs_unindexed += len(rows)
            self._packs.append(pack_id)
            self._blobs += len(rows)
            self._bytes += len(body)
        self._write_index(at_least=_BLOBS_PER_INDEX)

    def _write_index(self, *, at_least: int) -> None:
        with self._lock:
            if self._blobs_unindexed < at_least:
                return
            entries, self._unindexed, self._blobs_unindexed = self._unindexed, [], 0
        self.repository.save_document(Layout.INDEX, index_document(entries), retain_until=self.retain_until)


def _only_in(index: Index, packs: Collection[str]) -> dict[BlobKind, set[bytes]]:
    """Return the blobs that lie in these packs and in no other, by kind."""
    numbers = [number for pack in packs if (number := index.pack_number(pack)) is not None]
    only: dict[BlobKind, set[bytes]] = {kind: set() for kind in BlobKind}
    if not numbers:
        return only
    wanted = np.zeros(index.pack_count, dtype=bool)
    wanted[numbers] = True
    for entries in index.entries_of_packs(wanted):
        for raw, tree in _blobs_of(entries):
            only[BlobKind.TREE if tree else BlobKind.DATA].add(raw)
    for entries in index.entries_of_packs(~wanted):
        for raw, tree in _blobs_of(entries):
            only[BlobKind.TREE if tree else BlobKind.DATA].discard(raw)
    return only


def _blobs_of(entries: PackEntries) -> Iterable[tuple[bytes, bool]]:
    ids = entries.ids
    return ((ids[32 * place : 32 * place + 32], tree) for place, tree in enumerate(entries.tree.tolist()))


_AHEAD = 4
"""So many pieces of one file may wait to be taken in."""
