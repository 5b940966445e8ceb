"""Slots: what a policy owes, what answers it, and how late."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from becalm.policy.slots import covered, gaps, lateness, owed, slot_for
from becalm.policy.spec import Missed
from becalm.testing.builders import NOON, a_point, hours

HOURLY = "0 * * * *"


def test_a_run_stands_for_the_latest_slot_that_is_not_later() -> None:
    """A run that starts late still stands for its own tick."""
    assert slot_for(HOURLY, "UTC", NOON) == NOON
    assert slot_for(HOURLY, "UTC", NOON + timedelta(minutes=59)) == NOON


def test_a_policy_without_a_schedule_owes_nothing() -> None:
    """It runs by hand only."""
    assert slot_for(None, "UTC", NOON) is None
    assert owed(None, "UTC", since=NOON - hours(5), until=NOON) == ()


def test_slots_are_owed_from_the_beginning_of_the_policy_to_now_both_included() -> None:
    """A policy created today owes nothing for yesterday."""
    assert (NOON - hours(2), NOON - hours(1), NOON) == owed(HOURLY, "UTC", since=NOON - hours(2), until=NOON)
    assert owed(HOURLY, "UTC", since=NOON + hours(1), until=NOON) == ()


def test_slots_follow_the_time_zone_of_the_policy() -> None:
    """Midnight in Zurich in June is 22:00 UTC."""
    expected = (datetime(2026, 6, 13, 22, tzinfo=UTC), datetime(2026, 6, 14, 22, tzinfo=UTC))

    assert expected == owed("@daily", "Europe/Zurich", since=NOON - hours(48), until=NOON)


def test_a_slot_is_covered_by_a_good_point_that_carries_it() -> None:
    """The earliest of several; one by hand or a partial one answers nothing."""
    answer = a_point(cut=NOON + timedelta(minutes=1), slot=NOON)
    others = [
        a_point(cut=NOON, slot=None),
        a_point(cut=NOON, slot=NOON, complete=False),
        a_point(cut=NOON + timedelta(minutes=9), slot=NOON),
        a_point(cut=NOON + timedelta(minutes=2), slot=NOON + hours(1)),
    ]

    assert answer is covered(NOON, [*others, answer])
    assert covered(NOON, others[:2]) is None


def test_with_missed_latest_a_later_cut_answers_older_slots() -> None:
    """What a second capture would find now is no older than what the first has found."""
    late = a_point(cut=NOON, slot=NOON - hours(5))

    assert late is covered(NOON - hours(3), [late], missed=Missed.LATEST, now=NOON)
    assert covered(NOON - hours(3), [late], missed=Missed.ALL, now=NOON) is None
    assert covered(NOON + hours(1), [late], missed=Missed.LATEST, now=NOON + hours(1)) is None


def test_a_point_from_the_future_answers_no_slot_but_its_own() -> None:
    """A storage whose clock is a year ahead must not stop the schedule for a year."""
    ahead = a_point(cut=NOON + timedelta(days=365), slot=NOON - hours(1))

    assert covered(NOON, [ahead], missed=Missed.LATEST, now=NOON) is None
    assert ahead is covered(NOON - hours(1), [ahead], missed=Missed.LATEST, now=NOON)
    assert gaps([NOON - hours(1), NOON], [ahead], missed=Missed.LATEST, now=NOON) == (NOON,)


def test_lateness_is_never_less_than_nothing() -> None:
    """Clocks differ by a little."""
    assert hours(3) == lateness(NOON, NOON + hours(3))
    assert timedelta(0) == lateness(NOON, NOON - timedelta(seconds=2))


@given(
    st.lists(st.integers(0, 12), max_size=8, unique=True),
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 14), st.booleans()), max_size=8),
    st.sampled_from(Missed),
)
@settings(deadline=None)
def test_gaps_are_exactly_the_slots_that_nothing_covers(slots: list[int], captured: list[tuple[int, int, bool]], missed: Missed) -> None:
    """The list and the single question never disagree."""
    asked = [NOON + hours(slot) for slot in sorted(slots)]
    points = [a_point(cut=NOON + hours(cut), slot=NOON + hours(slot), complete=good) for slot, cut, good in captured]
    now = NOON + hours(13)

    expected = tuple(slot for slot in asked if covered(slot, points, missed=missed, now=now) is None)

    assert expected == gaps(asked, points, missed=missed, now=now)
