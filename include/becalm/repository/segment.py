"""A part of the index: ids in their order, in columns, and where each blob lies. It is never changed.

An id is 256 bits, and all of them count: the first 64 say where to look, the other 192 are compared after. So ids that end in
zero bytes, and ids that begin alike, are told apart.
"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

ID_BYTES = 32
TREE_BIT = np.uint32(1 << 31)
"""In a pack's number: the blob is a tree."""
NUMBER = np.uint32(0x7FFFFFFF)
"""In a pack's number: what is left of it."""

_OWN_MEMORY = 1 << 20
"""Bytes of an array that has memory of its own."""

Bools: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]"
Numbers: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.uint32]]"
Words: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.int64]]"
_Heads: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.uint64]]"


def split_ids(joined: bytes) -> tuple[_Heads, _Heads]:
    """Return the first eight bytes of each id as numbers in the same order, and the others in three columns."""
    words = np.frombuffer(joined, dtype=">u8").reshape(-1, 4)
    return words[:, 0].astype(np.uint64), words[:, 1:].astype(np.uint64)


@dataclass(frozen=True, slots=True)
class Segment:
    """Entries sorted by the first eight bytes of their ids; of equal ones, those that came first stand first."""

    heads: _Heads
    tails: _Heads
    places: Numbers
    """Four columns: the pack's number with the bit of trees, offset, length, length of the plain text where it is compressed."""

    @classmethod
    def sorted(cls, ids: bytes, places: Numbers) -> Segment:
        """Take entries in any order."""
        return cls(*split_ids(ids), places).in_order()

    @classmethod
    def merged(cls, older: Segment, newer: Segment) -> Segment:
        """Put two together, without sorting again."""
        to_older = newer.heads.searchsorted(older.heads, side="left")
        to_older += np.arange(len(older))
        to_newer = older.heads.searchsorted(newer.heads, side="right")
        to_newer += np.arange(len(newer))
        columns = []
        for one, other in ((older.heads, newer.heads), (older.tails, newer.tails), (older.places, newer.places)):
            column = _room((len(one) + len(other), *one.shape[1:]), one.dtype)
            column[to_older] = one
            column[to_newer] = other
            columns.append(column)
        return cls(*columns)

    @classmethod
    def of_packs(cls, segments: Sequence[Segment], first: int, last: int, counts: Words) -> Segment:
        """Return the entries of the packs from one number to before another, by pack and offset, each once.

        Packs whose count is nothing are left out.
        """
        parts = []
        for segment in segments:
            numbers = segment.places[:, 0] & NUMBER
            chosen = np.flatnonzero((numbers >= first) & (numbers < last))
            parts.append(segment.taken(chosen[counts[numbers[chosen]] > 0]))
        found = _together(parts) if parts else cls(*split_ids(b""), np.empty((0, 4), dtype=np.uint32))
        order = np.lexsort((found.heads, found.places[:, 1], found.places[:, 0] & NUMBER))
        found = found.taken(order)
        same = (found.heads[1:] == found.heads[:-1]) & (found.tails[1:] == found.tails[:-1]).all(axis=1)
        same &= (found.places[1:] == found.places[:-1]).all(axis=1)
        return found.taken(np.flatnonzero(np.concatenate(([True], ~same))[: len(found)]))

    def __len__(self) -> int:
        """Return how many entries there are."""
        return len(self.heads)

    def ids(self, begin: int, end: int) -> bytes:
        """Return raw ids, one behind the other."""
        words = np.empty((end - begin, 4), dtype=">u8")
        words[:, 0] = self.heads[begin:end]
        words[:, 1:] = self.tails[begin:end]
        return words.tobytes()

    def find(self, raw: bytes, *, tree: bool) -> tuple[int, int, int, int] | None:
        """Return the pack's number, offset, length and plain length of one blob."""
        heads = self.heads
        head = np.uint64(int.from_bytes(raw[:8], "big"))
        at = int(heads.searchsorted(head))
        while at < len(heads) and heads[at] == head:
            if self.tails[at].astype(">u8").tobytes() == raw[8:]:
                number, offset, length, plain = self.places[at].tolist()
                if bool(number >> 31) == tree:
                    return number & 0x7FFFFFFF, offset, length, plain
            at += 1
        return None

    def match(self, heads: _Heads, tails: _Heads, *, tree: bool) -> Words:
        """Return the place of each id among the entries, or -1."""
        found = np.full(len(heads), -1, dtype=np.int64)
        at = self.heads.searchsorted(heads)
        left = np.arange(len(heads))
        while left.size:
            left = left[at[left] < len(self.heads)]
            left = left[self.heads[at[left]] == heads[left]]
            here = at[left]
            exact = (self.tails[here] == tails[left]).all(axis=1) & ((self.places[here, 0] >= TREE_BIT) == tree)
            found[left[exact]] = here[exact]
            left = left[~exact]
            at[left] += 1  # the same beginning once more: a blob in two packs, or a tree beside data
        return found

    def taken(self, rows: Words) -> Segment:
        """Return the entries in these rows."""
        columns = []
        for column in (self.heads, self.tails, self.places):
            taken = _room((len(rows), *column.shape[1:]), column.dtype)
            np.take(column, rows, axis=0, out=taken, mode="clip")  # any other mode makes a copy of all of it on the way
            columns.append(taken)
        return Segment(*columns)

    def in_order(self) -> Segment:
        """Return the same entries, sorted."""
        return self.taken(np.argsort(self.heads, kind="stable"))


def _room(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Return an array without content. A large one has memory of its own, which goes back to the system as soon as nobody has the array:
    from the heap it would not, and merging would need twice what the index holds.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < _OWN_MEMORY:
        return np.empty(shape, dtype=dtype)
    return np.frombuffer(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), dtype=dtype).reshape(shape)


def _together(parts: Sequence[Segment]) -> Segment:
    return Segment(
        np.concatenate([part.heads for part in parts]),
        np.concatenate([part.tails for part in parts]),
        np.concatenate([part.places for part in parts]),
    )
