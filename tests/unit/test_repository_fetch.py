"""How much of a restore is under way at once, and by how many requests it comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from becalm.repository.extract_worker import Spot
from becalm.repository.gather import Gathering, files_at_once, is_hole, runs_of

UNDER_WAY = 14
"""Batches that are gathered, fetched, handed over and at work."""


@given(st.integers(min_value=128, max_value=1 << 30))
def test_batches_under_way_never_exhaust_the_descriptors(allowed: int) -> None:
    """A quarter of the descriptors stays free for everything else."""
    assert UNDER_WAY * files_at_once(allowed) <= allowed * 3 // 4


@pytest.mark.parametrize(("allowed", "files"), [(-1, 200), (1 << 20, 200), (1024, 36), (256, 9), (10, 4)])
def test_a_batch_is_as_large_as_the_process_may_hold_open(allowed: int, files: int) -> None:
    """Many small files come with one request; a small limit only means more requests."""
    assert files_at_once(allowed) == files


def test_a_batch_is_full_with_its_last_step() -> None:
    """Directories count as files do: each is held open until its turn to be left."""
    batch = Gathering(most=2)
    batch.then.append(lambda: None)
    assert not batch.full
    batch.then.append(lambda: None)

    assert batch.full


spots = st.lists(
    st.builds(
        Spot, pack=st.sampled_from(["a" * 64, "b" * 64]), offset=st.integers(0, 1 << 24), length=st.integers(0, 1 << 20), plain=st.just(0)
    ),
    max_size=30,
)


@given(spots)
def test_runs_bring_every_blob_once_and_never_two_to_one_place(found: list[Spot]) -> None:
    """Each blob lies in exactly one run, within it, and the runs lie one behind the other in memory."""
    blobs = {f"{number}": spot for number, spot in enumerate(found)}
    runs = runs_of(blobs)
    end = 0
    for run in runs:
        assert run.place == end
        assert all(run.begin <= spot.offset and spot.offset + spot.length <= run.begin + run.length for _, spot in run.blobs)
        assert {spot.pack for _, spot in run.blobs} == {run.pack}
        end += run.length

    assert sorted(name for run in runs for name, _ in run.blobs) == sorted(name for name, spot in blobs.items() if spot.length)


def test_neighbours_come_with_one_request_and_far_ones_do_not() -> None:
    """A small gap costs less than a request; a run is never longer than its bound."""
    near = {"1": Spot("p", 0, 1000, 0), "2": Spot("p", 50_000, 1000, 0), "3": Spot("p", 900_000, 1000, 0), "4": Spot("q", 901_000, 1, 0)}
    long = {f"{number}": Spot("p", number << 20, 1 << 20, 0) for number in range(8)}

    assert [[name for name, _ in run.blobs] for run in runs_of(near)] == [["1", "2"], ["3"], ["4"]]
    assert [run.length for run in runs_of(long)] == [4 << 20, 4 << 20]
    assert sum(run.length for run in runs_of(near, widest_gap=0)) == 3001


def test_a_piece_of_zeros_is_a_hole_by_its_id() -> None:
    """It is not fetched. Zeros of an odd length are, and are left out when they are written."""
    zeros = "30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58"

    assert is_hole(zeros, 1 << 20)
    assert not is_hole(zeros, (1 << 20) + 1)
    assert not is_hole("0" * 64, 1 << 20)
