"""Entries written straight from a status: byte for byte what the slow way writes."""

from __future__ import annotations

import os
import stat

from hypothesis import given
from hypothesis import strategies as st

from becalm.repository.entry import Entries
from becalm.repository.node import encode_node, node_of
from becalm.repository.scheme import HEAD, PIECE, SEGMENT, fixed_piece, piece_size, segments

SECOND = 1_000_000_000
TIMES = st.one_of(
    st.integers(-(1 << 62), 1 << 62),
    st.integers(0, 1 << 33).map(lambda second: second * SECOND),
    st.integers(0, 1 << 33).map(lambda second: second * SECOND + 120_000_000),
)
NAMES = st.one_of(st.text(min_size=1, max_size=30), st.binary(min_size=1, max_size=20).map(os.fsdecode), st.from_regex(r"[ -~]{1,20}"))
IDS = st.binary(min_size=32, max_size=32).map(bytes.hex)
XATTRS = st.just(()) | st.lists(st.tuples(st.text(min_size=1, max_size=9), st.binary(max_size=9)), max_size=3).map(tuple)


class Status:
    """What `os.stat_result` is, with any time."""

    def __init__(self, mode: int, numbers: tuple[int, ...], times: tuple[int, int, int]) -> None:
        self.st_mode = mode
        self.st_uid, self.st_gid, self.st_ino, self.st_nlink, self.st_dev, self.st_rdev = numbers
        self.st_mtime_ns, self.st_atime_ns, self.st_ctime_ns = times


def statuses(kind: int) -> st.SearchStrategy[Status]:
    numbers = st.tuples(*[st.one_of(st.integers(0, 3), st.integers(0, (1 << 32) - 1))] * 6)
    return st.builds(Status, st.integers(0, 0o7777).map(lambda bits: bits | kind), numbers, st.tuples(TIMES, TIMES, TIMES))


def writable(name: str) -> bool:
    try:
        return "\0" not in name and bool(name.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return False


@given(
    NAMES.filter(writable),
    statuses(stat.S_IFREG),
    st.lists(IDS, max_size=3),
    st.integers(0, 1 << 40),
    st.integers(0, 3),
    XATTRS,
    st.booleans(),
)
def test_a_file_is_written_as_its_node_is(name, status, content, size, device, xattrs, access_times) -> None:
    """Names, times, owners, links and content of any kind."""
    slow = node_of(name, status, access_times=access_times, device_id=device, size=size, content=tuple(content), xattrs=xattrs)
    entries = Entries(access_times=access_times)

    for _ in range(2):  # the second time from what it has kept
        assert entries.file(name, status, content, size=size, device_id=device, xattrs=xattrs) == encode_node(slow)


@given(NAMES.filter(writable), statuses(stat.S_IFDIR), IDS, XATTRS)
def test_a_directory_is_written_as_its_node_is(name, status, subtree, xattrs) -> None:
    """The same for directories, which have neither size nor links."""
    slow = node_of(name, status, subtree=subtree, xattrs=xattrs)

    assert Entries().directory(name, status, subtree, xattrs=xattrs) == encode_node(slow)


TAR = bytes(257) + b"ustar\0" + bytes(HEAD)


def test_what_changes_in_place_is_known_by_what_stays_the_same() -> None:
    """Size and beginning decide; the numbers are fixed for ever, for others would store every database again."""
    rule = {
        (1 << 20, b""): PIECE,
        ((1 << 20) + 4096, b""): PIECE,
        ((1 << 20) + 512, b""): 0,
        ((1 << 20) - 4096, b""): 0,
        (1 << 30, TAR): 0,
        (600 << 10, b"SQLite format 3\0"): PIECE,
        (600 << 10, b"SQLite format 2\0"): 0,
        (128 << 30, b""): PIECE,
        ((128 << 30) + 4096, b""): 2 * PIECE,
    }

    assert {given: piece_size(*given) for given in rule} == rule
    assert PIECE == 128 << 10
    assert SEGMENT == 64 << 20


@given(st.integers(0, 1 << 50))
def test_no_device_has_more_than_a_million_pieces(size: int) -> None:
    """The index has a bound, whatever the size."""
    piece = fixed_piece(size)

    assert size <= piece << 20
    assert piece == PIECE or size > piece << 19


@given(st.integers(0, 1 << 34), st.integers(0, 1 << 30))
def test_segments_cover_an_extent_and_begin_at_their_own_places(begin: int, length: int) -> None:
    """Where an extent begins does not move the places within it."""
    found = segments(begin, begin + length)

    assert sum(last - first for first, last in found) == length
    assert all(first % SEGMENT == 0 for first, _ in found[1:])
    assert all(last - first <= SEGMENT for first, last in found)
