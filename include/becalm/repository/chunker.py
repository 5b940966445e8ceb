"""Boundaries in a stream: the same bytes give the same pieces, wherever they stand in it.

The scheme is FastCDC's: the first 512 KiB of a piece are never looked at, a strict threshold holds up to the normal size of
1 MiB, a lax one after it, and at 8 MiB a piece ends anyway. What is compared with the threshold is a hash of the last 64
bytes, built so that a vector unit computes it for all positions at once: 32-bit words at the four alignments, multiplied, then
folded with the word one, two, four and eight places before. The parameters are fixed: another number would give
other pieces, and every file would be stored again. Data of one repeated byte has no boundary but the largest size.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from becalm.repository.scheme import MAXIMUM, MINIMUM, NORMAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from becalm.repository.crypto import Buffer

__all__ = ["MAXIMUM", "MINIMUM", "NORMAL", "WINDOW", "boundary", "chunks", "pieces"]

WINDOW = 64
"""How many bytes before a boundary decide on it."""

_MULTIPLIER = np.uint32(0x9E3779B1)
_STRICT = np.uint32(0xFFFFFFFF - (1 << 11) + 1)  # one position in 2^21
_LAX = np.uint32(0xFFFFFFFF - (1 << 13) + 1)  # one position in 2^19
_FOLDS = ((1, np.uint32(5)), (2, np.uint32(11)), (4, np.uint32(17)), (8, np.uint32(9)))
_BLOCK = 128 << 10

_Words: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.uint32]]"


def boundary(data: Buffer, start: int, end: int) -> int:
    """Return where the piece that begins at `start` ends, looking no further than `end`.

    `end` itself is the answer where the stream ends there, or where the piece is as long as a piece may be; the caller sees to
    it that one of both holds.
    """
    stop = min(end, start + MAXIMUM)
    middle = min(stop, start + NORMAL)
    found = _first(data, start + MINIMUM, middle, _STRICT)
    if found is None:
        found = _first(data, max(middle, start + MINIMUM), stop, _LAX)
    return stop if found is None else found


def _first(data: Buffer, begin: int, end: int, threshold: np.uint32) -> int | None:
    """Return the first position in [begin, end) whose window hashes to the threshold or more."""
    while begin < end:
        stop = min(end, begin + _BLOCK)
        hits = [hit for shift in range(4) if (hit := _first_aligned(data, begin + shift, stop, threshold)) is not None]
        if hits:
            return min(hits)
        begin = stop
    return None


def _first_aligned(data: Buffer, begin: int, end: int, threshold: np.uint32) -> int | None:
    """The same for every fourth position. Position p is decided by the bytes [p - WINDOW, p)."""
    count = (end - begin + 3) // 4
    if count <= 0:
        return None
    words: _Words = np.frombuffer(data, dtype="<u4", count=count + WINDOW // 4 - 1, offset=begin - WINDOW)
    hashes = words * _MULTIPLIER
    for distance, shift in _FOLDS:
        folded = hashes[:-distance] >> shift
        folded += hashes[distance:]
        folded *= _MULTIPLIER
        hashes = folded
    over = hashes >= threshold
    first = int(over.argmax())
    return begin + 4 * first if over[first] else None


def chunks(read: Callable[[memoryview], int], *, size_hint: int = 0, room: memoryview | None = None) -> Iterator[memoryview]:
    """Yield the pieces of a stream. Each is valid only until the next is asked for.

    `read` fills the view it is given as far as it can and says how many bytes it wrote; nothing is the end. No more is read than
    the next boundary needs, and no more memory is touched. `room` is memory of `ROOM` bytes to do it in, which was perhaps used before.
    """
    view = memoryview(mmap.mmap(-1, min(size_hint + 1, ROOM) if size_hint else ROOM)) if room is None else room
    filled = 0
    ended = False
    while True:
        searched = MINIMUM
        end: int | None = None
        while end is None:
            while not ended and filled < min(MAXIMUM, max(NORMAL, searched + _STEP)):
                if filled == len(view) < ROOM:  # the hint was too small
                    larger = memoryview(mmap.mmap(-1, ROOM))
                    larger[:filled] = view[:filled]
                    view = larger
                got = read(view[filled : filled + _STEP])
                ended = got == 0
                filled += got
            end = _end_within(view, searched, filled, last=ended)
            searched = max(searched, filled)
        if not filled:
            return
        yield view[:end]
        rest = bytes(view[end:filled])
        filled = len(rest)
        view[:filled] = rest


_STEP = 1 << 20
ROOM = MAXIMUM + _STEP
"""Bytes in which any stream can be cut."""


def _end_within(data: Buffer, searched: int, filled: int, *, last: bool) -> int | None:
    """Return where the piece at the buffer's begin ends, or nothing where more must be read. It was `searched` up to there."""
    middle = min(filled, NORMAL)
    stop = min(filled, MAXIMUM)
    found = _first(data, searched, middle, _STRICT) if searched < middle else None
    if found is None:
        found = _first(data, max(middle, searched), stop, _LAX)
    if found is None and (last or filled >= MAXIMUM):
        return stop
    return found


def pieces(data: Buffer) -> Iterator[memoryview]:
    """Yield the pieces of data that is in memory already."""
    view = memoryview(data)
    start = 0
    while start < len(view):
        end = boundary(data, start, len(view))
        yield view[start:end]
        start = end
