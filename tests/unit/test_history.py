"""What runs leave for those who look later: their history, and the schedules of a policy."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.unit.run_scenes import Scene, a_cut, a_thaw, discovered

from becalm.actions import commit
from becalm.actions.asked import Asked
from becalm.actions.handover import Trigger
from becalm.actions.observe import facts
from becalm.catalog import epochs
from becalm.catalog.history import KEPT_DAYS, MOST_REASONS, RunRecord, history, record
from becalm.catalog.points import pins, points
from becalm.errors import Damaged, UsageError
from becalm.model import Finding
from becalm.repository.format import Layout
from becalm.testing.builders import a_policy, days, hours
from becalm.testing.fake_clock import NOON


def a_record(run: str = "one", **rest: object) -> RunRecord:
    whole = {"run": run, "run_id": f"id of {run}", "trigger": "manual", "started": NOON, "ended": NOON, "ok": True}
    return RunRecord(**(whole | rest))  # type: ignore[arg-type]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_run_is_read_back_as_it_was_written(scene: Scene) -> None:
    """Every field."""
    written = a_record(
        slot=NOON, late_seconds=1.5, point="ab", complete=True, consistency="crash-consistent", reasons=("a",), objects=1, volumes=2,
        bytes_total=3, bytes_added=4, frozen={"shop": 0.25}, tasks={"commit": 2.5}, label="v2", note="why",
    )  # fmt: skip
    record(scene.repository, written)

    assert history(scene.repository, since=NOON, until=NOON) == [written]


def test_the_same_run_again_replaces_its_record(scene: Scene) -> None:
    """A task that is tried again is the same run; others stay."""
    for run in (a_record(), a_record("two"), a_record(ok=False)):
        record(scene.repository, run)

    assert [(run.run, run.ok) for run in history(scene.repository, since=NOON, until=NOON)] == [("one", False), ("two", True)]


def test_only_the_days_that_were_asked_for_are_read(scene: Scene) -> None:
    """One object a day."""
    for day in range(3):
        record(scene.repository, a_record(f"day {day}", ended=NOON + days(day)))

    assert [run.run for run in history(scene.repository, since=NOON + days(1), until=NOON + days(1))] == ["day 1"]


def test_a_day_that_cannot_be_read_hides_no_other(scene: Scene) -> None:
    """It is told, and the next run of that day writes it anew."""
    record(scene.repository, a_record())
    record(scene.repository, a_record("two", ended=NOON + days(1)))
    scene.store.put(Layout.history("2026-03-14"), b"scrambled")
    problems: list[Finding] = []
    seen = history(scene.repository, since=NOON, until=NOON + days(1), problem=problems.append)
    with pytest.raises(Damaged):
        history(scene.repository, since=NOON, until=NOON)
    record(scene.repository, a_record("three"))

    assert [run.run for run in seen] == ["two"]
    assert len(problems) == 1
    assert [run.run for run in history(scene.repository, since=NOON, until=NOON)] == ["three"]


def test_old_days_go(scene: Scene) -> None:
    """Nobody asks for them."""
    record(scene.repository, a_record())
    record(scene.repository, a_record("new", ended=NOON + days(KEPT_DAYS + 1)))

    assert [info.key for info in scene.store.list(Layout.HISTORY)] == [Layout.history("2027-04-19")]


def test_a_finished_run_stands_in_the_history(scene: Scene) -> None:
    """Also one that failed, with a bounded number of reasons; finishing again writes it once."""
    begun = scene.begin(trigger=Trigger.SCHEDULED, run_after=NOON)
    for _ in range(2):
        scene.finish(begun, failures=[f"task {number}: failed" for number in range(9)], tasks={"commit": 1.0})
    (kept,) = history(scene.repository, since=NOON, until=NOON)

    assert (kept.run, kept.slot, kept.ok, kept.point, kept.tasks) == (begun.run, NOON, False, "", {"commit": 1.0})
    assert len(kept.reasons) == MOST_REASONS


def test_a_history_that_cannot_be_written_costs_no_run(scene: Scene) -> None:
    """The verdict is what it is."""
    begun = scene.begin()
    for name in ("2026-03-14",):
        scene.store.put(Layout.history(name), b"{}")
    said: list[str] = []
    scene.changes = {"progress": lambda message, **_: said.append(message)}
    verdict = scene.finish(begun)

    assert verdict.reasons == ("nothing was committed",)
    assert said == []  # a day that nobody can read is written anew


def test_a_new_schedule_is_written_down_once(scene: Scene) -> None:
    """From then on it is owed; the same one again changes nothing."""
    for hour, schedule in enumerate(["0 * * * *", "0 * * * *", None, "0 0 * * *"]):
        epochs.note(scene.store, schedule=schedule, timezone="UTC", now=NOON + hours(hour))

    assert [(one.since, one.schedule) for one in epochs.epochs(scene.store)] == [
        (NOON, "0 * * * *"),
        (NOON + hours(2), None),
        (NOON + hours(3), "0 0 * * *"),
    ]


def test_a_run_notes_the_schedule_that_it_follows(scene: Scene) -> None:
    """Whoever sees it first."""
    scene.policy = a_policy(schedule="@hourly")
    scene.begin()

    assert [one.schedule for one in epochs.epochs(scene.store)] == ["@hourly"]


def test_a_slot_that_no_schedule_has_is_refused_before_anything_is_taken(scene: Scene) -> None:
    """A slip of the pen must not look like an answer; a slot of an earlier schedule is one."""
    scene.policy = a_policy(schedule="0 * * * *")
    epochs.note(scene.store, schedule="30 * * * *", timezone="UTC", now=NOON - hours(9))
    with pytest.raises(UsageError, match="is no slot of the policy shop"):
        scene.begin(slot=NOON - timedelta(minutes=7))
    begun = scene.begin(slot=NOON - timedelta(minutes=30))

    assert begun.slot == NOON - timedelta(minutes=30)


def test_what_was_asked_stands_in_the_point(scene: Scene) -> None:
    """The label is found by the catalog, the pin holds for its days, and a point of some namespaces is no good one."""
    asked = Asked(label="before-v2", pin_days=7, namespaces=("shop",), note="why")
    begun = scene.begin(asked=asked)
    committed = commit.execute(
        begun,
        discovered=discovered(),
        cuts=[a_cut(scene)],
        thaws=[a_thaw()],
        exports=[],
        results=[],
        policy=scene.policy,
        ports=scene.ports,
    )
    (point,) = points(scene.repository, "shop")
    pinned = pins(scene.store)[committed.point]

    assert (point.label, point.narrowed, point.complete, point.good, point.pinned) == ("before-v2", True, True, False, True)
    assert (pinned.until, pinned.note) == (NOON + days(7), "why")


def test_a_namespace_that_the_policy_does_not_protect_is_refused(scene: Scene) -> None:
    """Before anything is taken."""
    with pytest.raises(UsageError, match="does not protect kube-system"):
        scene.begin(asked=Asked(namespaces=("kube-system",)))


def test_the_facts_are_read_from_the_bucket_alone(scene: Scene) -> None:
    """Points, runs, schedules and the lease; a damaged lease is told and hides nothing."""
    scene.point(cut=NOON - hours(1))
    scene.begin()
    working = facts(scene.repository, "shop")
    scene.store.put(Layout.LEASE, b"{")
    damaged = facts(scene.repository, "shop", count_bytes=True)

    assert (len(working.points), working.working, working.unknown) == (1, True, ())
    assert [finding.where for finding in damaged.unknown] == ["the lease"]
    assert damaged.repository_bytes
