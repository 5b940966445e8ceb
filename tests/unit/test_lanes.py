"""Work on many things side by side: in their order, each once, and no further after a failure."""

from threading import Barrier

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from becalm.actions.lanes import side_by_side


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(), max_size=50), st.integers(1, 8))
def test_each_thing_is_worked_on_once_and_the_answers_keep_their_order(things: list[int], lanes: int) -> None:
    """Whatever lane took it."""
    met: list[int] = []

    def work(thing: int) -> int:
        met.append(thing)
        return thing * 2

    assert side_by_side(work, things, lanes=lanes) == [thing * 2 for thing in things]
    assert sorted(met) == sorted(things)


def test_the_lanes_are_at_work_at_the_same_time() -> None:
    """Four of them wait for each other, and none waits for ever."""
    barrier = Barrier(4, timeout=60)

    assert sorted(side_by_side(lambda _: barrier.wait(), range(4), lanes=4)) == [0, 1, 2, 3]


def test_after_a_failure_no_lane_begins_another_thing() -> None:
    """The failure is raised, also one that is no error of a program."""
    begun: list[int] = []

    class Killed(BaseException):
        pass

    def work(thing: int) -> None:
        begun.append(thing)
        raise Killed

    with pytest.raises(Killed):
        side_by_side(work, range(1000), lanes=3)
    assert len(begun) <= 3
