"""Boundaries: deterministic, bounded, and independent of what stands before."""

from __future__ import annotations

from hashlib import sha256
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from becalm.repository.chunker import MAXIMUM, MINIMUM, NORMAL, boundary, chunks, pieces

DATA = Random(20).randbytes(24 << 20)


def lengths(data: bytes) -> list[int]:
    return [len(piece) for piece in pieces(data)]


def test_the_boundaries_are_these_for_ever() -> None:
    """Another parameter would store every file again: this is the same data cut at the same places in every version."""
    found = lengths(DATA)

    assert sha256(repr(found).encode()).hexdigest() == GOLDEN
    assert found[:3] == GOLDEN_BEGIN


GOLDEN = "91f3850fc327c7c270f7f98ea103e6f504245fc20ec09e9ba0b7af1e33aa7bbc"
GOLDEN_BEGIN = [1210119, 1078488, 673746]


def test_every_piece_but_the_last_keeps_the_bounds() -> None:
    """No piece is shorter than the smallest or longer than the largest, and most are about the normal size."""
    found = lengths(DATA)

    assert all(MINIMUM <= length <= MAXIMUM for length in found[:-1])
    assert NORMAL // 2 < sum(found) / len(found) < 2 * NORMAL


@settings(max_examples=8, deadline=None)
@given(st.integers(0, len(DATA)), st.integers(0, 6 << 20))
def test_the_pieces_are_the_data(begin: int, length: int) -> None:
    """Put together they are what was cut, for any part of it."""
    part = DATA[begin : begin + length]

    assert b"".join(bytes(piece) for piece in pieces(part)) == part


@settings(max_examples=5, deadline=None)
@given(st.binary(min_size=1, max_size=999), st.integers(0, 3 << 20))
def test_an_insertion_changes_only_the_pieces_around_it(inserted: bytes, place: int) -> None:
    """Boundaries come again after a change: most pieces stay what they were."""
    before = {sha256(piece).digest() for piece in pieces(DATA)}
    after = [sha256(piece).digest() for piece in pieces(DATA[:place] + inserted + DATA[place:])]

    assert sum(piece not in before for piece in after) <= 4


@pytest.mark.parametrize("hint", [0, 1, 100, 5 << 20, 40 << 20])
@pytest.mark.parametrize("step", [70_001, 1 << 20])
def test_a_stream_is_cut_as_the_whole_is(hint: int, step: int) -> None:
    """However it trickles in, and whatever was said of its size."""
    data = DATA[: 20 << 20]
    place = 0

    def read(view: memoryview) -> int:
        nonlocal place
        part = data[place : place + min(step, len(view))]
        view[: len(part)] = part
        place += len(part)
        return len(part)

    assert [len(piece) for piece in chunks(read, size_hint=hint)] == lengths(data)


def test_one_repeated_byte_has_no_boundary() -> None:
    """Such a run is cut at the largest size, so that its pieces are the same."""
    runs = [bytes([byte]) * (2 * MINIMUM) for byte in range(256)]

    assert all(boundary(run, 0, len(run)) == len(run) for run in runs)


def test_text_of_few_words_is_cut_too() -> None:
    """Data of little variety has boundaries as well."""
    random = Random(3)
    words = [b"alpha ", b"beta ", b"gamma ", b"delta\n"]
    found = lengths(b"".join(random.choices(words, k=2_500_000)))

    assert len(found) > 6
    assert MAXIMUM not in found[:-1]


def test_nothing_has_no_pieces() -> None:
    """An empty file has no content."""
    assert lengths(b"") == []
    assert list(chunks(lambda view: 0)) == []
