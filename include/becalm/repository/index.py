"""Where each blob lies, in bounded memory: sorted arrays of 48 bytes a blob, and a dictionary only for the newest.

It is derived from the index objects of the repository and from nothing else. It does not know what is reachable.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from becalm.errors import Damaged
from becalm.repository.crypto import OVERHEAD
from becalm.repository.format import BlobId, BlobKind, IndexDoc, IndexedBlob
from becalm.repository.pack import ENTRY_BYTES as _ENTRY_BYTES
from becalm.repository.pack import header_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_RECENT = 1 << 16
"""So many blobs may stand in the dictionary."""

_LARGEST_SEGMENT = 1 << 20
"""Segments of this size are not merged further: merging needs the memory twice."""

_ROW = np.dtype([("id", "S32"), ("pack", "<u4"), ("offset", "<u4"), ("length", "<u4"), ("plain", "<u4")])
_TREE_BIT = np.uint32(1 << 31)
_NUMBER = 0x7FFFFFFF

_Rows = np.ndarray[tuple[int], np.dtype[np.void]]


@dataclass(frozen=True, slots=True)
class Location:
    """A blob and the pack it lies in."""

    pack: str
    blob: IndexedBlob


class Index:
    """What the index objects say. Safe for several threads."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._lock = threading.Lock()
        self._packs: list[str] = []
        self._numbers: dict[str, int] = {}
        self._segments: list[_Segment] = []
        self._recent: dict[tuple[bytes, bool], tuple[int, int, int, int]] = {}

    def __len__(self) -> int:
        """Return how many entries there are; a blob that lies in two packs counts twice."""
        return len(self._recent) + sum(len(segment) for segment in self._segments)

    def packs(self) -> frozenset[str]:
        """Return the ids of all packs that it names."""
        with self._lock:
            return frozenset(self._numbers)

    def add(self, pack: str, blobs: Iterable[IndexedBlob]) -> None:
        """Take in what lies in one pack."""
        with self._lock:
            number = self._number(pack)
            for blob in blobs:
                self._recent[bytes.fromhex(blob.id), blob.kind is BlobKind.TREE] = (
                    number,
                    blob.offset,
                    blob.length,
                    blob.uncompressed_length,
                )
            if len(self._recent) >= _RECENT:
                self._settle()

    def add_document(self, document: bytes, *, where: str) -> None:
        """Take in an index object. Raises Damaged."""
        packs = list(IndexDoc.raw_packs(document, where=where))
        rows = _rows([blob for _, blobs in packs for blob in blobs], where=where)
        with self._lock:
            rows["pack"] |= np.repeat(
                np.array([self._number(pack) for pack, _ in packs], dtype="<u4"),
                np.array([len(blobs) for _, blobs in packs], dtype=np.int64),
            )
            self._push(_Segment.sorted(rows))

    def lookup(self, kind: BlobKind, blob_id: BlobId) -> Location | None:
        """Say where a blob lies, or that it is not known."""
        raw = _raw(blob_id)
        tree = kind is BlobKind.TREE
        with self._lock:
            entry = self._recent.get((raw, tree))
            segments = () if entry else tuple(self._segments)
        for segment in segments:
            entry = segment.find(raw, tree=tree)
            if entry is not None:
                break
        if entry is None:
            return None
        number, offset, length, plain = entry
        return Location(self._packs[number], IndexedBlob(id=blob_id, kind=kind, offset=offset, length=length, uncompressed_length=plain))

    def has(self, kind: BlobKind, blob_id: BlobId) -> bool:
        """Say whether a blob is in the repository."""
        raw = _raw(blob_id)
        tree = kind is BlobKind.TREE
        with self._lock:
            if (raw, tree) in self._recent:
                return True
            segments = tuple(self._segments)
        return any(segment.find(raw, tree=tree) is not None for segment in segments)

    def entries(self) -> Iterator[Location]:
        """Yield every entry, pack by pack."""
        for segment in self._settled():
            yield from segment.entries(self._packs)

    def pack_ends(self) -> dict[str, int]:
        """Return where the last known blob of each pack ends."""
        ends = np.zeros(len(self._packs), dtype=np.int64)
        for segment in self._settled():
            rows = segment.rows
            np.maximum.at(ends, rows["pack"] & _NUMBER, rows["offset"].astype(np.int64) + rows["length"])
        return dict(zip(self._packs, ends.tolist(), strict=False))

    def pack_sizes(self) -> dict[str, int]:
        """Return how many bytes each pack must have: its blobs, its header, and the header's length."""
        ends = self.pack_ends()
        headers = np.full(len(ends), header_bytes(()), dtype=np.int64)
        rows = [segment.rows for segment in self._settled()]
        numbers = np.concatenate([row["pack"] & _NUMBER for row in rows]) if rows else np.empty(0, dtype=np.uint32)
        offsets = np.concatenate([row["offset"] for row in rows]) if rows else np.empty(0, dtype=np.uint32)
        packed = np.concatenate([row["plain"] > 0 for row in rows]) if rows else np.empty(0, dtype=bool)
        _, first = np.unique(numbers.astype(np.uint64) << np.uint64(32) | offsets, return_index=True)  # two index objects may name one pack
        np.add.at(headers, numbers[first], np.where(packed[first], *_ENTRY_BYTES))
        return {pack: end + header for (pack, end), header in zip(ends.items(), headers.tolist(), strict=True)}

    def _settled(self) -> tuple[_Segment, ...]:
        with self._lock:
            self._settle()
            return tuple(self._segments)

    def _number(self, pack: str) -> int:
        number = self._numbers.get(pack)
        if number is None:
            number = self._numbers[pack] = len(self._packs)
            self._packs.append(pack)
        return number

    def _settle(self) -> None:
        """Move the newest into an array."""
        if not self._recent:
            return
        rows = np.empty(len(self._recent), dtype=_ROW)
        rows["id"] = np.frombuffer(b"".join(raw for raw, _ in self._recent), dtype="S32")
        numbers = np.array(list(self._recent.values()), dtype="<u4")
        tree = np.array([tree for _, tree in self._recent], dtype=bool)
        rows["pack"] = numbers[:, 0] | np.where(tree, _TREE_BIT, np.uint32(0))
        rows["offset"], rows["length"], rows["plain"] = numbers[:, 1], numbers[:, 2], numbers[:, 3]
        self._recent = {}
        self._push(_Segment.sorted(rows))

    def _push(self, segment: _Segment) -> None:
        """Add a segment, and merge the last ones as long as they are of a size: their number stays small."""
        if len(segment) == 0:
            return
        while self._segments and len(self._segments[-1]) <= 2 * len(segment) and len(self._segments[-1]) + len(segment) <= _LARGEST_SEGMENT:
            segment = _Segment.sorted(np.concatenate([self._segments.pop().rows, segment.rows]))
        self._segments.append(segment)


@dataclass(frozen=True, slots=True)
class _Segment:
    """Entries sorted by id, never changed."""

    rows: _Rows
    ids: np.ndarray[tuple[int], np.dtype[np.bytes_]]

    @classmethod
    def sorted(cls, rows: _Rows) -> _Segment:
        order = np.argsort(rows["id"], kind="stable")
        rows = rows[order]
        return cls(rows, rows["id"])

    def __len__(self) -> int:
        return len(self.rows)

    def find(self, raw: bytes, *, tree: bool) -> tuple[int, int, int, int] | None:
        rows, ids = self.rows, self.ids
        bare = raw.rstrip(b"\0")  # as numpy gives it back
        place = int(ids.searchsorted(raw))
        while place < len(rows) and ids[place] == bare:
            row = rows[place]
            pack = int(row["pack"])
            if bool(pack >> 31) == tree:
                return pack & _NUMBER, int(row["offset"]), int(row["length"]), int(row["plain"])
            place += 1
        return None

    def entries(self, packs: list[str]) -> Iterator[Location]:
        for row in self.rows:
            pack = int(row["pack"])
            yield Location(
                packs[pack & _NUMBER],
                IndexedBlob(
                    id=row["id"].ljust(32, b"\0").hex(),
                    kind=BlobKind.TREE if pack >> 31 else BlobKind.DATA,
                    offset=int(row["offset"]),
                    length=int(row["length"]),
                    uncompressed_length=int(row["plain"]),
                ),
            )


def _raw(blob_id: BlobId) -> bytes:
    try:
        raw = bytes.fromhex(blob_id)
    except ValueError as error:
        raise Damaged(f"{blob_id!r} is not the id of a blob") from error
    if len(raw) != 32:
        raise Damaged(f"{blob_id!r} is not the id of a blob")
    return raw


def _rows(blobs: list[dict[str, Any]], *, where: str) -> _Rows:
    """Turn the blobs of an index object into rows; their packs are filled in later. Raises Damaged."""
    rows = np.empty(len(blobs), dtype=_ROW)
    try:
        joined = bytes.fromhex("".join([blob["id"] for blob in blobs]))
        if len(joined) != 32 * len(blobs):
            raise ValueError("an id is not 64 digits long")  # noqa: TRY301  one handler names the object
        rows["id"] = np.frombuffer(joined, dtype="S32")
        rows["pack"] = [_KIND_BITS[blob["type"]] for blob in blobs]
        rows["offset"] = [blob["offset"] for blob in blobs]
        rows["length"] = [blob["length"] for blob in blobs]
        rows["plain"] = [blob.get("uncompressed_length", 0) for blob in blobs]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise Damaged(f"the index cannot be read: {error}", where=where) from error
    if (rows["length"] < OVERHEAD).any():
        raise Damaged("the index names a blob that is too short", where=where)
    return rows


_KIND_BITS = {"data": 0, "tree": 1 << 31}


def load(names: Iterable[str], read: Callable[[str], bytes], *, into: Index, workers: int = 4) -> None:
    """Read index objects side by side, a few at a time. Raises what `read` raises, and Damaged."""
    ordered = list(names)

    def one(name: str) -> None:
        into.add_document(read(name), where=name)

    with ThreadPoolExecutor(max_workers=max(1, min(workers, len(ordered))), thread_name_prefix="index") as pool:
        for done in [pool.submit(one, name) for name in ordered]:
            done.result()
