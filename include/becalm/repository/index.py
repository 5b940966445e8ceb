"""Where each blob lies, in bounded memory: sorted arrays of 48 bytes a blob, and a dictionary only for the newest.

It is derived from the index objects of the repository and from nothing else. It does not know what is reachable. Whoever asks
for many blobs asks for them at once; packs have numbers, which hold as long as the index lives.
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
from becalm.repository.index_columns import columns_of
from becalm.repository.location import Location
from becalm.repository.pack import ENTRY_BYTES as _ENTRY_BYTES
from becalm.repository.pack import header_bytes
from becalm.repository.segment import ID_BYTES, NUMBER, TREE_BIT, Bools, Numbers, Segment, Words, split_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from becalm.repository.index_columns import Columns
    from becalm.repository.landed import Row

__all__ = ["Index", "Location", "PackEntries", "Places", "load"]

_RECENT = 1 << 14
"""So many blobs may stand in the dictionary."""

_MANY_ROWS = 256
"""A pack of so many blobs goes into an array at once."""

_LARGEST_SEGMENT = 1 << 20
"""Segments of this size are not merged further: merging needs the memory twice."""

_AT_ONCE = 1 << 18
"""So many entries are put in the order of their packs at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where many blobs lie: one element for each that was asked for. Of what is not found, all else is zero."""

    found: Bools
    pack: Numbers
    """The number of the pack: `Index.pack_name` gives its id."""
    offset: Numbers
    length: Numbers
    """Bytes in the pack."""
    plain: Numbers
    """Bytes of the plain text where it is compressed; nothing where it is not."""

    def plain_lengths(self) -> Words:
        """Return how long the plain texts are, compressed or not; zero for what is not found."""
        bare = np.where(self.found, self.length.astype(np.int64) - OVERHEAD, 0)
        return np.where(self.plain > 0, self.plain.astype(np.int64), bare)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackEntries:
    """What the index says of one pack, in the order of the offsets, each entry once."""

    number: int
    pack: str
    ids: bytes
    """Their raw ids, one behind the other."""
    tree: Bools
    offset: Numbers
    length: Numbers
    plain: Numbers

    def __len__(self) -> int:
        """Return how many blobs there are."""
        return len(self.offset)

    def blobs(self) -> Iterator[IndexedBlob]:
        """Yield the blobs as nouns."""
        digits = self.ids.hex()
        columns = (self.tree.tolist(), self.offset.tolist(), self.length.tolist(), self.plain.tolist())
        for place, (tree, offset, length, plain) in enumerate(zip(*columns, strict=True)):
            yield IndexedBlob(
                id=digits[64 * place : 64 * place + 64],
                kind=BlobKind.TREE if tree else BlobKind.DATA,
                offset=offset,
                length=length,
                uncompressed_length=plain,
            )


class Index:
    """What the index objects say. Safe for several threads."""

    def __init__(self, *, avoid: frozenset[str] = frozenset()) -> None:
        """Know nothing yet. What index objects say of the packs to avoid is not taken in."""
        self._avoid = avoid
        self._lock = threading.Lock()
        self._packs: list[str] = []
        self._numbers: dict[str, int] = {}
        self._segments: list[Segment] = []
        self._recent: dict[tuple[bytes, bool], tuple[int, int, int, int]] = {}

    def __len__(self) -> int:
        """Return how many entries there are; a blob that lies in two packs counts twice."""
        return len(self._recent) + sum(len(segment) for segment in self._segments)

    def packs(self) -> frozenset[str]:
        """Return the ids of all packs that it names."""
        with self._lock:
            return frozenset(self._numbers)

    @property
    def pack_count(self) -> int:
        """How many packs it names: their numbers go from nothing to one less."""
        return len(self._packs)

    def pack_name(self, number: int) -> str:
        """Return the id of a pack."""
        return self._packs[number]

    def pack_number(self, pack: str) -> int | None:
        """Return the number of a pack, or nothing where it is not known."""
        return self._numbers.get(pack)

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

    def add_rows(self, pack: str, kind: BlobKind, rows: Sequence[Row]) -> None:
        """Take in what lies in one pack, all of it of one kind."""
        if len(rows) < _MANY_ROWS:
            tree = kind is BlobKind.TREE
            with self._lock:
                number = self._number(pack)
                self._recent.update({(raw, tree): (number, offset, length, plain) for raw, offset, length, plain in rows})
                if len(self._recent) >= _RECENT:
                    self._settle()
            return
        places = np.empty((len(rows), 4), dtype=np.uint32)
        places[:, 1:] = [row[1:] for row in rows]
        ids = b"".join([row[0] for row in rows])
        with self._lock:
            places[:, 0] = np.uint32(self._number(pack)) | (TREE_BIT if kind is BlobKind.TREE else np.uint32(0))
            self._push(Segment.sorted(ids, places))

    def add_document(self, document: bytes, *, where: str, last: frozenset[str] = frozenset(), of_last: bool = False) -> bool:
        """Take in an index object. Of a blob that lies in several packs, the place that came first is found.

        What it says of the packs in `last` is left out, or with `of_last` all else is. Say whether something was left out so. Raises Damaged.
        """
        columns = columns_of(document)
        if columns is not None and not last and not self._avoid.intersection(columns.packs):
            self._add_columns(columns)
            return False
        left = False
        for slab in IndexDoc.pack_slabs(document, where=where):
            chosen = [(pack, blobs) for pack, blobs in slab if (pack in last) is of_last]
            left = left or len(chosen) < len(slab)
            self.add_raw([(pack, blobs) for pack, blobs in chosen if pack not in self._avoid], where=where)
        return left

    def add_raw(self, packs: Sequence[tuple[str, list[dict[str, Any]]]], *, where: str) -> None:
        """Take in packs with their blobs as JSON gives them. Raises Damaged."""
        if packs:
            ids, places = _columns([blob for _, blobs in packs for blob in blobs], where=where)
            counts = np.array([len(blobs) for _, blobs in packs], dtype=np.int64)
            with self._lock:
                numbers = np.array([self._number(pack) for pack, _ in packs], dtype=np.uint32)
                places[:, 0] |= np.repeat(numbers, counts)
                self._push(Segment.sorted(ids, places))

    def _add_columns(self, columns: Columns) -> None:
        places = np.empty((len(columns.offset), 4), dtype=np.uint32)
        places[:, 0] = np.where(columns.tree, TREE_BIT, np.uint32(0))
        places[:, 1], places[:, 2], places[:, 3] = columns.offset, columns.length, columns.plain
        with self._lock:
            numbers = np.array([self._number(pack) for pack in columns.packs], dtype=np.uint32)
            places[:, 0] |= np.repeat(numbers, columns.counts)
            self._push(Segment.sorted(columns.ids, places))

    def lookup(self, kind: BlobKind, blob_id: BlobId) -> Location | None:
        """Say where a blob lies, or that it is not known."""
        entry = self._find(_raw(blob_id), tree=kind is BlobKind.TREE)
        if entry is None:
            return None
        number, offset, length, plain = entry
        return Location(self._packs[number], IndexedBlob(id=blob_id, kind=kind, offset=offset, length=length, uncompressed_length=plain))

    def has(self, kind: BlobKind, blob_id: BlobId) -> bool:
        """Say whether a blob is in the repository."""
        return self._find(_raw(blob_id), tree=kind is BlobKind.TREE) is not None

    def has_many(self, kind: BlobKind, raw_ids: Sequence[bytes] | bytes) -> list[bool]:
        """Say of each raw id of 32 bytes, in a sequence or one behind the other, whether the blob is in the repository."""
        found: list[bool] = self.locate_many(kind, raw_ids).found.tolist()
        return found

    def locate_many(self, kind: BlobKind, raw_ids: Sequence[bytes] | bytes) -> Places:
        """Say of each raw id of 32 bytes, in a sequence or one behind the other, where the blob lies. Raises Damaged for other lengths."""
        joined = raw_ids if isinstance(raw_ids, bytes) else b"".join(raw_ids)
        asked = len(raw_ids) if raw_ids is not joined else len(joined) // ID_BYTES
        if len(joined) != ID_BYTES * asked:
            raise Damaged("an id is not 32 bytes long")
        tree = kind is BlobKind.TREE
        heads, tails = split_ids(joined)
        found = np.zeros(asked, dtype=bool)
        places = np.zeros((asked, 4), dtype=np.uint32)
        with self._lock:
            segments = tuple(self._segments)
            if self._recent:
                self._locate_recent(joined, found, places, tree=tree)
        for segment in segments:
            left = np.flatnonzero(~found)
            if not left.size:
                break
            at = segment.match(heads[left], tails[left], tree=tree)
            hit = at >= 0
            found[left[hit]] = True
            places[left[hit]] = segment.places[at[hit]]
        return Places(found=found, pack=places[:, 0] & NUMBER, offset=places[:, 1], length=places[:, 2], plain=places[:, 3])

    def _locate_recent(self, joined: bytes, found: Bools, places: Numbers, *, tree: bool) -> None:
        recent = self._recent
        for place in range(len(found)):
            entry = recent.get((joined[ID_BYTES * place : ID_BYTES * place + ID_BYTES], tree))
            if entry is not None:
                found[place] = True
                places[place] = entry

    def _find(self, raw: bytes, *, tree: bool) -> tuple[int, int, int, int] | None:
        with self._lock:
            entry = self._recent.get((raw, tree))
            if entry is not None:
                return entry
            segments = tuple(self._segments)
        for segment in segments:
            entry = segment.find(raw, tree=tree)
            if entry is not None:
                return entry
        return None

    def entries(self) -> Iterator[Location]:
        """Yield every entry, pack by pack, as nouns. Where there may be millions, `entries_of_packs` is the way."""
        for entries in self.entries_of_packs():
            for blob in entries.blobs():
                yield Location(entries.pack, blob)

    def entries_of_packs(self, wanted: Bools | None = None) -> Iterator[PackEntries]:
        """Yield the entries of each pack, or of those whose number is set in `wanted`, in the order of the numbers.

        What is added meanwhile may be missing. Needs little memory however large the index is.
        """
        segments = self._settled()
        counts = np.zeros(self.pack_count, dtype=np.int64)
        for segment in segments:
            counts += np.bincount(segment.places[:, 0] & NUMBER, minlength=len(counts))[: len(counts)]
        if wanted is not None:
            counts[: len(wanted)][~wanted[: len(counts)]] = 0
            counts[len(wanted) :] = 0
        ends = np.cumsum(counts)
        first = 0
        while first < len(ends):
            before = int(ends[first - 1]) if first else 0
            last = max(first + 1, int(np.searchsorted(ends, before + _AT_ONCE, side="right")))
            yield from self._in_order(segments, first, last, counts)
            first = last

    def _in_order(self, segments: Sequence[Segment], first: int, last: int, counts: Words) -> Iterator[PackEntries]:
        """Yield the packs of these numbers. Nothing of a pack whose count is nothing is wanted."""
        chosen = Segment.of_packs(segments, first, last, counts)
        numbers = chosen.places[:, 0] & NUMBER
        bounds = np.flatnonzero(np.diff(numbers)) + 1
        for begin, end in zip((0, *bounds.tolist()), (*bounds.tolist(), len(numbers)), strict=True):
            if begin == end:
                continue
            places = chosen.places[begin:end]
            number = int(numbers[begin])
            yield PackEntries(
                number=number,
                pack=self._packs[number],
                ids=chosen.ids(begin, end),
                tree=places[:, 0] >= TREE_BIT,
                offset=places[:, 1],
                length=places[:, 2],
                plain=places[:, 3],
            )

    def packs_with_trees(self) -> Bools:
        """Say of each pack, by its number, whether it holds a tree."""
        segments = self._settled()
        flags = np.zeros(self.pack_count, dtype=bool)
        for segment in segments:
            numbers = segment.places[:, 0]
            flags[numbers[numbers >= TREE_BIT] & NUMBER] = True
        return flags

    def pack_ends(self) -> dict[str, int]:
        """Return where the last known blob of each pack ends."""
        segments = self._settled()
        ends = np.zeros(len(self._packs), dtype=np.int64)
        for segment in segments:
            places = segment.places
            np.maximum.at(ends, places[:, 0] & NUMBER, places[:, 1].astype(np.int64) + places[:, 2])
        return dict(zip(self._packs, ends.tolist(), strict=False))

    def pack_sizes(self) -> dict[str, int]:
        """Return how many bytes each pack must have: its blobs, its header, and the header's length."""
        sizes = dict.fromkeys(self._packs, header_bytes(()))
        plain_entry, packed_entry = _ENTRY_BYTES[1], _ENTRY_BYTES[0]
        for entries in self.entries_of_packs():
            _, first = np.unique(entries.offset, return_index=True)  # two index objects may name one pack
            packed = int(np.count_nonzero(entries.plain[first]))
            end = int((entries.offset.astype(np.int64) + entries.length).max())
            sizes[entries.pack] += end + packed * packed_entry + (len(first) - packed) * plain_entry
        return sizes

    def _settled(self) -> tuple[Segment, ...]:
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
        places = np.array(list(self._recent.values()), dtype=np.uint32)
        places[:, 0] |= np.where([tree for _, tree in self._recent], TREE_BIT, np.uint32(0))
        segment = Segment.sorted(b"".join(raw for raw, _ in self._recent), places)
        self._recent = {}
        self._push(segment)

    def _push(self, segment: Segment) -> None:
        """Add a segment, and merge the last ones as long as they are of a size: their number stays small."""
        if len(segment) == 0:
            return
        while self._segments and len(self._segments[-1]) <= 2 * len(segment) and len(self._segments[-1]) + len(segment) <= _LARGEST_SEGMENT:
            segment = Segment.merged(self._segments.pop(), segment)
        self._segments.append(segment)


def _raw(blob_id: BlobId) -> bytes:
    try:
        raw = bytes.fromhex(blob_id)
    except ValueError as error:
        raise Damaged(f"{blob_id!r} is not the id of a blob") from error
    if len(raw) != ID_BYTES:
        raise Damaged(f"{blob_id!r} is not the id of a blob")
    return raw


def _columns(blobs: list[dict[str, Any]], *, where: str) -> tuple[bytes, Numbers]:
    """Return the raw ids and the places of blobs of an index object; their packs are filled in later. Raises Damaged."""
    places = np.empty((len(blobs), 4), dtype=np.uint32)
    try:
        ids = bytes.fromhex("".join([blob["id"] for blob in blobs]))
        if len(ids) != ID_BYTES * len(blobs):
            raise ValueError("an id is not 64 digits long")  # noqa: TRY301  one handler names the object
        places[:, 0] = [_KIND_BITS[blob["type"]] for blob in blobs]
        places[:, 1] = [blob["offset"] for blob in blobs]
        places[:, 2] = [blob["length"] for blob in blobs]
        places[:, 3] = [blob.get("uncompressed_length", 0) for blob in blobs]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise Damaged(f"the index cannot be read: {error}", where=where) from error
    if (places[:, 2] < OVERHEAD).any():
        raise Damaged("the index names a blob that is too short", where=where)
    return ids, places


_KIND_BITS = {"data": 0, "tree": 1 << 31}


def load(names: Iterable[str], read: Callable[[str], bytes], *, into: Index, workers: int = 4, last: frozenset[str] = frozenset()) -> None:
    """Read index objects side by side, a few at a time, and take them in one by one. Raises what `read` raises, and Damaged.

    What they say of the packs in `last` comes last: a blob that lies elsewhere too is found there.
    Taking one in makes an object of Python's for each blob, for a moment: never for two index objects at once.
    """
    ordered = list(names)
    turn = threading.Lock()

    def one(name: str, *, of_last: bool = False) -> bool:
        document = read(name)
        with turn:
            return into.add_document(document, where=name, last=last, of_last=of_last)

    with ThreadPoolExecutor(max_workers=max(1, min(workers, len(ordered))), thread_name_prefix="index") as pool:
        again = [name for name, left in zip(ordered, pool.map(one, ordered), strict=True) if left]
    for name in again:
        one(name, of_last=True)
