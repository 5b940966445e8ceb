"""The rate at which a volume is filled, and the time that is left: told only where they are known."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from becalm.actions.restore_pace import MEBIBYTE, Pace


def test_a_volume_at_an_even_pace_tells_its_rate_and_the_time_left() -> None:
    """100 of 400 MiB in ten seconds: 10 MiB a second, half a minute left."""
    pace = Pace()
    pace.told(0, size=400 * MEBIBYTE, now=5.0)

    assert pace.told(100 * MEBIBYTE, size=400 * MEBIBYTE, now=15.0) == "10.0 MiB/s, 30 s left"


def test_nothing_is_told_before_there_is_a_measure() -> None:
    """Neither at the first word of a mover, nor while no byte came."""
    pace = Pace()

    assert pace.told(7 * MEBIBYTE, size=10 * MEBIBYTE, now=100.0) == ""
    assert pace.told(7 * MEBIBYTE, size=10 * MEBIBYTE, now=160.0) == ""


def test_what_was_there_when_it_was_first_seen_is_no_measure_of_the_rate() -> None:
    """A mover that was adopted has half of it done: only what came since counts."""
    pace = Pace()
    pace.told(500 * MEBIBYTE, size=1000 * MEBIBYTE, now=0.0)

    assert pace.told(510 * MEBIBYTE, size=1000 * MEBIBYTE, now=10.0) == "1.0 MiB/s, 8 min 10 s left"


def test_a_mover_that_began_anew_is_measured_anew() -> None:
    """Fewer bytes than before are those of another mover."""
    pace = Pace()
    pace.told(500 * MEBIBYTE, size=1000 * MEBIBYTE, now=0.0)
    pace.told(0, size=1000 * MEBIBYTE, now=50.0)

    assert pace.told(20 * MEBIBYTE, size=1000 * MEBIBYTE, now=60.0) == "2.0 MiB/s, 8 min 10 s left"


def test_long_times_are_told_in_hours_and_what_is_over_its_size_has_no_time_left() -> None:
    """A point may say less than there is: no negative time is told."""
    slow, over = Pace(), Pace()
    slow.told(0, size=7201 * MEBIBYTE, now=0.0)
    over.told(0, size=10, now=0.0)

    assert slow.told(MEBIBYTE, size=7201 * MEBIBYTE, now=10.0) == "0.1 MiB/s, 20 h 0 min left"
    assert over.told(4 * MEBIBYTE, size=10, now=4.0) == "1.0 MiB/s"


@given(
    rate=st.integers(min_value=1, max_value=1 << 34),
    seconds=st.sampled_from([2**power for power in range(2, 12)]),
    left=st.integers(min_value=1, max_value=59),
)
def test_an_even_pace_ends_when_it_was_told(rate: int, seconds: int, left: int) -> None:
    """At any even rate, what is told to be left is what is left: powers of two keep the division exact."""
    pace = Pace()
    size = rate * (seconds + left)
    pace.told(0, size=size, now=0.0)

    assert pace.told(rate * seconds, size=size, now=float(seconds)).endswith(f", {left} s left")
