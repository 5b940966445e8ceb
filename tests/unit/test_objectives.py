"""How a policy stands: what it owes, what answered it, how old the last good point is."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from becalm.actions.objectives import Facts, Level, PolicyStatus, Proven, SlotState, status, told, unreachable
from becalm.catalog.epochs import Epoch
from becalm.catalog.history import RunRecord
from becalm.model import Finding, RecoveryPoint
from becalm.policy.slots import gaps
from becalm.policy.spec import Missed
from becalm.policy.units import span
from becalm.testing.builders import NOON, a_point, a_policy, hours

HOURLY = "0 * * * *"
BEGAN = Epoch(since=NOON - hours(6.5), schedule=HOURLY)
NOW = NOON + timedelta(minutes=30)


def a_run(slot: datetime | None, *, ok: bool = False, **rest: Any) -> RunRecord:
    moment = slot or NOON
    facts = {"run": f"{moment:%d%H%M}", "run_id": f"run of {moment:%H:%M}", "trigger": "scheduled", "started": moment, "ended": moment}
    return RunRecord(slot=slot, ok=ok, **(facts | rest))


def stands(*points: RecoveryPoint, missed: str = "all", rpo: str | None = "2h", schedule: str = HOURLY, **facts: Any) -> PolicyStatus:
    policy = a_policy(schedule=schedule, missed=missed, objectives={"rpo": rpo} if rpo else None)
    return status(policy, Facts(points=points, **({"now": NOW, "epochs": (BEGAN,)} | facts)))


def states(found: PolicyStatus) -> list[str]:
    return [slot.state.value for slot in found.slots]


def test_a_policy_created_today_owes_nothing_for_yesterday() -> None:
    """Its first slot is the first tick after its schedule was first seen."""
    found = stands(epochs=(Epoch(since=NOON - hours(1.5), schedule=HOURLY),))

    assert [slot.slot for slot in found.slots] == [NOON - hours(1), NOON]


def test_without_a_beginning_nothing_is_owed() -> None:
    """A policy that nobody has run or watched yet has no gaps."""
    assert stands(epochs=()).slots == ()


def test_a_changed_schedule_owes_each_slot_by_the_schedule_of_its_time() -> None:
    """Neither are old slots forgotten, nor new ones owed for the past."""
    found = stands(epochs=(BEGAN, Epoch(since=NOON - hours(3), schedule="30 * * * *")), schedule="30 * * * *")
    minutes = [(slot.slot.hour, slot.slot.minute) for slot in found.slots]

    assert minutes == [(6, 0), (7, 0), (8, 0), (9, 0), (9, 30), (10, 30), (11, 30), (12, 30)]


def test_what_became_of_each_slot() -> None:
    """Covered, late, failed and missed are told apart; the newest is open for a while."""
    points = [a_point(cut=NOON - hours(6) + timedelta(minutes=1), slot=NOON - hours(6))]
    points += [replace(a_point(cut=NOON - hours(4), slot=NOON - hours(5)), late=hours(1))]
    runs = (a_run(NOON - hours(4), reasons=("the bucket is full",)),)
    found = stands(*points, runs=runs, now=NOON + timedelta(minutes=10))

    assert states(found) == ["covered", "late", "failed", "missed", "missed", "missed", "open"]
    assert found.slots[2].reason == "the bucket is full"
    assert [gap.slot for gap in found.gaps] == [NOON - hours(count) for count in (4, 3, 2, 1)]


def test_a_slot_whose_point_retention_has_let_go_is_no_gap() -> None:
    """The history knows that it was answered."""
    found = stands(runs=tuple(a_run(NOON - hours(count), ok=True, point="ab" * 32) for count in range(7)))

    assert set(states(found)) == {"covered"}


def test_with_missed_latest_a_later_point_answers_older_slots() -> None:
    """They are late, and say which point it was."""
    found = stands(a_point(cut=NOON - hours(2), slot=NOON - hours(2)), missed="latest")

    assert states(found) == ["late"] * 4 + ["covered", "missed", "missed"]
    assert found.slots[0].late == hours(4)


def test_the_newest_slot_is_open_while_a_run_is_at_work() -> None:
    """A backup that takes three hours is not missed meanwhile; without a run it is."""
    late = NOON + timedelta(minutes=50)

    assert states(stands(now=late, working=True))[-1] == "open"
    assert states(stands(now=late, working=False))[-1] == "missed"


def test_the_objective_is_missed_from_the_moment_the_last_good_point_grew_too_old() -> None:
    """A younger point that is partial, or of only some namespaces, does not help."""
    good = a_point(cut=NOON - hours(3))
    others = [a_point(cut=NOON, complete=False), replace(a_point(cut=NOON), id="cd" * 32, narrowed=True)]
    found = stands(good, *others)

    assert (found.last_good, found.met, found.at_risk_since) == (good, False, NOON - hours(1))
    assert found.level is Level.TROUBLE
    assert told(found).startswith("the last good point is 3h 30m old, the objective of 2h is missed")


def test_a_policy_without_a_good_point_misses_its_objective_once_it_is_old_enough() -> None:
    """A policy of five minutes ago is not late."""
    young = Epoch(since=NOW - timedelta(minutes=5), schedule=HOURLY)

    assert stands().met is False
    assert stands(epochs=(young,)).met is True


def test_a_point_from_the_future_is_not_the_last_good_one() -> None:
    """A storage whose clock is a year ahead does not hide that nothing is captured."""
    assert stands(a_point(cut=NOW + timedelta(days=365))).last_good is None


def test_without_an_objective_none_is_met_or_missed() -> None:
    """The age is told all the same."""
    found = stands(a_point(cut=NOON - hours(30)), rpo=None)

    assert (found.met, found.age) == (None, NOW - NOON + hours(30))


def test_what_cannot_be_read_is_trouble_and_never_a_zero() -> None:
    """Nothing is claimed of its points."""
    found = unreachable(a_policy(schedule=HOURLY, objectives={"rpo": "1h"}), Finding(where="s3://b", message="no answer"), now=NOW)

    assert (found.level, found.met, found.slots) == (Level.TROUBLE, None, ())
    assert told(found) == "nothing is known: s3://b: no answer"


@pytest.mark.parametrize(
    ("facts", "level"),
    [
        ({}, Level.FINE),
        ({"runs": (a_run(None, ended=NOW),)}, Level.WARNING),
        ({"unknown": (Finding(where="the lease", message="damaged"),)}, Level.WARNING),
        ({"drill": Proven(time=NOON, ok=False)}, Level.WARNING),
        ({"drill": Proven(time=NOON, ok=True)}, Level.FINE),
    ],
)
def test_somebody_should_look_where_not_all_is_well(facts: dict[str, Any], level: Level) -> None:
    """A failed run, a failed drill, and what could not be read."""
    found = stands(*(a_point(cut=NOON - hours(count), slot=NOON - hours(count)) for count in range(7)), **facts)

    assert found.level is level


def test_trouble_comes_first() -> None:
    """So that a list can be sorted by it."""
    assert sorted([Level.FINE, Level.TROUBLE, Level.WARNING], key=lambda level: level.rank) == list(Level)


@pytest.mark.parametrize(("seconds", "said"), [(0, "0s"), (59, "59s"), (3660, "1h 1m"), (90000, "1d 1h"), (86400, "1d")])
def test_lengths_of_time_are_told_in_two_units(seconds: int, said: str) -> None:
    """More helps nobody."""
    assert span(timedelta(seconds=seconds)) == said


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.booleans()), max_size=8), st.sampled_from(Missed))
@settings(deadline=None)
def test_the_gaps_are_those_of_the_slots(captured: list[tuple[int, int, bool]], missed: Missed) -> None:
    """Without a history the timeline and `policy.slots.gaps` never disagree."""
    points = [a_point(cut=NOON - hours(cut), slot=NOON - hours(slot), complete=good) for slot, cut, good in captured]
    found = stands(*points, missed=missed.value)

    assert tuple(gap.slot for gap in found.gaps) == gaps([slot.slot for slot in found.slots], points, missed=missed, now=NOW)


def test_every_state_is_counted() -> None:
    """The counts are those of the slots."""
    found = stands(a_point(cut=NOON, slot=NOON))

    assert sum(found.count(state) for state in SlotState) == len(found.slots) == 7
