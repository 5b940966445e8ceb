"""An index object laid out as restic and Becalm write it, read as columns: no object of Python's is made for a blob.

Nothing is guessed. Every byte is compared with what the layout puts there; a document that is laid out in any other way is not
read here at all, and whoever asked reads it as JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from becalm.repository.crypto import OVERHEAD

if TYPE_CHECKING:
    from becalm.repository.segment import Bools, Numbers, Words

    _Bytes = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

_OPENING, _ENDING = b'{"packs":[', b"]}"
_ID = b'{"id":"'
_BLOBS = b'","blobs":['
_DATA, _TREE = b'","type":"data","offset":', b'","type":"tree","offset":'
_LENGTH, _PLAIN = b',"length":', b',"uncompressed_length":'
_DIGITS = 64
_MOST_DIGITS = 10
"""Of a number below 2³²."""
_AT_ONCE = 1 << 14
"""So many blobs are looked at together: more would need more memory and be no faster."""

_NO_DIGIT = 255
_VALUE = np.full(256, _NO_DIGIT, dtype=np.uint8)
_VALUE[np.frombuffer(b"0123456789", dtype=np.uint8)] = np.arange(10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What an index object says."""

    packs: list[str]
    """Their ids, in the order of the document."""
    counts: Words
    """How many blobs each holds."""
    ids: bytes
    """Of the blobs, raw, one behind the other."""
    tree: Bools
    offset: Numbers
    length: Numbers
    plain: Numbers


class _OtherLayoutError(ValueError):
    """The document is laid out in another way."""


def columns_of(document: bytes) -> Columns | None:
    """Return what an index object says; nothing where it is laid out in another way, or is not right. Then JSON says what it is."""
    if not document.startswith(_OPENING) or not document.endswith(_ENDING):
        return None
    text = np.frombuffer(document, dtype=np.uint8)
    begins = np.flatnonzero(text == ord("{"))[1:]
    if not len(begins):
        return None
    try:
        return _columns(text, begins)
    except (_OtherLayoutError, IndexError):
        return None


def _columns(text: _Bytes, begins: Words) -> Columns:
    after = begins + len(_ID) + _DIGITS
    is_pack = text[after + 3] == _BLOBS[3]  # after the id: a pack says blobs, a blob says type
    packs, blobs = begins[is_pack], begins[~is_pack]
    if not is_pack[0] or not len(blobs):
        raise _OtherLayoutError
    _expect(text, begins, _ID)
    _expect(text, packs + len(_ID) + _DIGITS, _BLOBS)
    parts = [_Part(text, blobs[begin : begin + _AT_ONCE]) for begin in range(0, len(blobs), _AT_ONCE)]
    ends = np.empty(len(begins), dtype=np.int64)
    ends[is_pack] = packs + len(_ID) + _DIGITS + len(_BLOBS)
    ends[~is_pack] = np.concatenate([part.ends for part in parts])
    _joined(text, begins, ends, is_pack)
    names = _raw_ids(text, packs + len(_ID)).hex()
    return Columns(
        packs=[names[place : place + _DIGITS] for place in range(0, len(names), _DIGITS)],
        counts=np.diff(np.append(np.flatnonzero(is_pack), len(begins))) - 1,
        ids=b"".join([part.ids for part in parts]),
        tree=np.concatenate([part.tree for part in parts]),
        offset=np.concatenate([part.offset for part in parts]),
        length=np.concatenate([part.length for part in parts]),
        plain=np.concatenate([part.plain for part in parts]),
    )


def _joined(text: _Bytes, begins: Words, ends: Words, is_pack: Bools) -> None:
    """See that each begins where the one before it has ended, with what stands between them, and that nothing follows the last."""
    following = np.append(begins[1:], len(text))
    gap = following - ends
    last = np.append(is_pack[1:], True)
    inner = ~is_pack & ~last
    outer = ~is_pack & last
    outer[-1] = False
    if is_pack[-1] or (gap[is_pack] != 0).any() or (gap[inner] != 1).any() or (gap[outer] != 3).any() or gap[-1] != 2 + len(_ENDING):
        raise _OtherLayoutError
    _expect(text, ends[inner], b",")
    _expect(text, ends[outer], b"]},")
    _expect(text, ends[-1:], b"]}" + _ENDING)


class _Part:
    """Some blobs: what they say, and where each ends."""

    def __init__(self, text: _Bytes, begins: Words) -> None:
        self.ids = _raw_ids(text, begins + len(_ID))
        at = begins + len(_ID) + _DIGITS
        self.tree = text[at + _DATA.index(b"data")] == ord("t")
        _expect(text, at[~self.tree], _DATA)
        _expect(text, at[self.tree], _TREE)
        self.offset, at = _numbers(text, at + len(_DATA))
        _expect(text, at, _LENGTH)
        self.length, at = _numbers(text, at + len(_LENGTH))
        if (self.length < OVERHEAD).any():
            raise _OtherLayoutError
        packed = text[at] == ord(",")
        _expect(text, at[packed], _PLAIN)
        self.plain = np.zeros(len(begins), dtype=np.uint32)
        self.plain[packed], at[packed] = _numbers(text, at[packed] + len(_PLAIN))
        _expect(text, at, b"}")
        self.ends = at + 1


def _expect(text: _Bytes, places: Words, word: bytes) -> None:
    """See that a word stands at each place."""
    found = np.lib.stride_tricks.sliding_window_view(text, len(word))[places]
    if (found != np.frombuffer(word, dtype=np.uint8)).any():
        raise _OtherLayoutError


def _raw_ids(text: _Bytes, places: Words) -> bytes:
    """Return the ids at these places, raw."""
    digits = np.lib.stride_tricks.sliding_window_view(text, _DIGITS)[places].tobytes()
    try:
        raw = bytes.fromhex(digits.decode("ascii"))
    except ValueError as error:
        raise _OtherLayoutError from error
    if raw.hex().encode() != digits:
        raise _OtherLayoutError
    return raw


def _numbers(text: _Bytes, places: Words) -> tuple[Numbers, Words]:
    """Return the numbers that stand at these places, and where each ends."""
    values = np.zeros(len(places), dtype=np.int64)
    ends = places.copy()
    more = np.ones(len(places), dtype=bool)
    for _ in range(_MOST_DIGITS + 1):
        digits = _VALUE[text[ends]]
        more &= digits != _NO_DIGIT
        if not more.any():
            break
        values[more] = values[more] * 10 + digits[more]
        ends[more] += 1
    lengths = ends - places
    leading = (text[places] == ord("0")) & (lengths > 1)
    if (lengths < 1).any() or (lengths > _MOST_DIGITS).any() or leading.any() or (values >= 1 << 32).any():
        raise _OtherLayoutError
    return values.astype(np.uint32), ends
