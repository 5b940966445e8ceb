"""The two ends of a run: what `begin` decides before it takes the lease, and what `finish` makes sure of before it judges."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.unit.run_scenes import Scene

from becalm.actions import run
from becalm.actions.handover import (
    Application,
    Committed,
    FreezeOutcome,
    FreezeRecord,
    Frozen,
    HookOrigin,
    HookPlan,
    Thawed,
    Trigger,
    Verdict,
)
from becalm.errors import (
    AccessDenied,
    ClusterUnavailable,
    LeaseHeld,
    LeaseLost,
    NoRepository,
    OtherRepository,
    PartialCapture,
    RepositoryLocked,
    StoreFull,
    StoreUnavailable,
    WrongPassword,
)
from becalm.kube.base import ROLE_RESTORE, ExecResult
from becalm.model import Consistency, run_key
from becalm.repository import lease
from becalm.repository.format import Layout
from becalm.repository.lockfile import LockDoc, standing
from becalm.repository.reader import init_repository
from becalm.storage.wrappers import Wrapper
from becalm.testing.builders import a_policy, hours
from becalm.testing.fake_clock import NOON
from becalm.testing.faulty_store import Crash
from becalm.testing.memory_store import MemoryStore
from becalm.testing.objects import a_pod
from becalm.testing.saved_points import CHEAP, PASSWORD

NINE, TEN = NOON - hours(3), NOON - hours(2)


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize(
    ("trigger", "asked", "expected"),
    [
        (Trigger.SCHEDULED, None, TEN),
        (Trigger.BACKFILL, None, TEN),
        (Trigger.MANUAL, None, None),
        (Trigger.ASSET, None, None),
        (Trigger.MANUAL, NINE, NINE),
    ],
)
def test_a_run_answers_its_own_slot_and_a_hand_none_unless_told(scene: Scene, trigger: Trigger, asked: Any, expected: Any) -> None:
    """How late it is follows from the slot."""
    begun = scene.begin(trigger=trigger, run_after=TEN, slot=asked)

    assert begun.slot == expected
    assert begun.late_seconds == ((NOON - expected).total_seconds() if expected else 0)


def test_a_slot_that_is_answered_ends_the_run_before_it_takes_anything(scene: Scene) -> None:
    """No lease, no namespace; the reason names the point."""
    scene.cluster.remove("namespaces", "becalm")
    point = scene.point(slot=TEN)
    begun = scene.begin(trigger=Trigger.SCHEDULED, run_after=TEN)

    assert point[:8] in begun.skipped
    assert begun.epoch == 0
    assert lease.read(scene.store) is None
    assert [item["metadata"]["name"] for item in scene.cluster.all("namespaces")] == ["shop"]


def test_a_partial_point_answers_no_slot_and_is_no_parent(scene: Scene) -> None:
    """What is missing from it is still owed."""
    good = scene.point(cut=NINE)
    scene.point(cut=TEN, slot=TEN, complete=False)
    begun = scene.begin(trigger=Trigger.SCHEDULED, run_after=TEN)

    assert begun.skipped == ""
    assert begun.parent == good


def test_beginning_again_keeps_the_lease_and_its_epoch(scene: Scene) -> None:
    """A task that is tried again is the same run; another run is told to wait, and until when."""
    first, again = scene.begin(), scene.begin()
    with pytest.raises(LeaseHeld) as held:
        scene.begin("another run")

    assert (first.epoch, again.epoch) == (1, 1)
    assert held.value.delay_seconds == run.LEASE_SECONDS


def test_a_dead_run_blocks_the_next_no_longer_than_its_lease(scene: Scene) -> None:
    """What it left is swept then; a restore at work, another policy's run and this run's own are not touched."""
    scene.begin()
    for key, role, policy in (("dead", "cut", "shop"), ("back", ROLE_RESTORE, "shop"), ("alive", "cut", "bank")):
        scene.leave(key, role=role, policy=policy)
    own = run_key("shop", "the next run", repository=scene.store.url)
    scene.leave(own)
    scene.clock.advance(run.LEASE_SECONDS + 1)
    begun = scene.begin("the next run")

    assert begun.epoch == 2
    assert sorted(scene.left()) == sorted(["left-alive-cut", f"left-back-{ROLE_RESTORE}", f"left-{own}-cut"])


@pytest.mark.parametrize("error", [ClusterUnavailable("no"), AccessDenied("no")])
def test_what_earlier_runs_left_does_not_stop_this_one(scene: Scene, error: Exception) -> None:
    """It is said, and the run goes on."""
    said: list[str] = []
    scene.changes = {"progress": lambda message, **_: said.append(message)}
    scene.cluster.fail(error, verb="list", kind="pods")
    begun = scene.begin()

    assert begun.epoch == 1
    assert "could not be removed" in said[0]


def test_a_run_that_is_interrupted_while_it_begins_lets_go_of_the_lease(scene: Scene) -> None:
    """Nobody has to wait for a run that never was."""
    scene.leave("dead")
    scene.cluster.fail(Crash("an interrupt"), verb="list", kind="pods")  # type: ignore[arg-type]
    with pytest.raises(Crash):
        scene.begin()
    held = lease.read(scene.store)

    assert held is not None
    assert held.released


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"store": MemoryStore()}, NoRepository),
        ({"password": "another"}, WrongPassword),
    ],
)
def test_a_repository_that_does_not_open_ends_it_before_the_cluster_is_asked(scene: Scene, changes: dict[str, Any], wanted: type) -> None:
    """Neither lease nor namespace nor freeze."""
    scene.changes = changes
    with pytest.raises(wanted):
        scene.begin()

    assert scene.cluster.calls == []
    assert lease.read(scene.store) is None


def test_a_cluster_that_does_not_answer_ends_it_before_the_lease(scene: Scene) -> None:
    """The lease is taken last."""
    scene.cluster.fail(ClusterUnavailable("down"))
    with pytest.raises(ClusterUnavailable):
        scene.begin()

    assert lease.read(scene.store) is None


def test_renewing_holds_the_lease_and_says_when_it_is_lost(scene: Scene) -> None:
    """A run that slept through it never gets it back."""
    begun = scene.begin()
    scene.clock.advance(600)
    run.renew(begun, scene.ports)
    held = lease.read(scene.store)
    scene.clock.advance(run.LEASE_SECONDS + 1)
    scene.begin("another run")

    assert held is not None
    assert held.expires == NOON + timedelta(seconds=600 + run.LEASE_SECONDS)
    with pytest.raises(LeaseLost):
        run.renew(begun, scene.ports)


def test_another_repository_at_the_place_is_not_taken_for_the_one_of_the_run(scene: Scene) -> None:
    """The error names both."""
    begun = scene.begin()
    other = MemoryStore()
    init_repository(other, PASSWORD, kdf=CHEAP)
    scene.changes = {"store": other}

    with pytest.raises(OtherRepository, match=begun.repository[:10]):
        run.open_same(begun, scene.ports)


def committed(point: str, **rest: Any) -> Committed:
    return Committed(point=point, tree="", consistency=Consistency.CRASH, **{"complete": True, **rest})


def test_a_verified_point_is_a_good_verdict_and_all_is_let_go(scene: Scene) -> None:
    """Temporary objects are gone, the lease is free, and doing it again changes nothing."""
    begun = scene.begin()
    scene.leave(begun.run)
    point = scene.point(run_key=begun.run)
    verdicts = [scene.finish(begun, committed=committed(point)) for _ in range(2)]
    held = lease.read(scene.store)

    assert verdicts == [Verdict(run=begun.run, ok=True, point=point)] * 2
    assert scene.left() == []
    assert held is not None
    assert held.released


def test_the_verdict_is_never_better_than_what_the_bucket_shows(scene: Scene) -> None:
    """A point that says itself that it is partial, one that cannot be read, and one that is not there."""
    begun = scene.begin()
    partial = scene.finish(begun, committed=committed(scene.point(complete=False)))
    silent = scene.finish(begun, committed=committed(scene.point(says=b"{")))
    vague = scene.finish(begun, committed=committed(scene.point(says={"complete": False, "missing": []})))
    gone = scene.finish(begun, committed=committed("0" * 64))
    nothing = scene.finish(begun)

    assert (partial.ok, partial.reasons) == (False, ("volumes/shop/data: not cut",))
    assert (silent.ok, "cannot be read back" in silent.reasons[0]) == (False, True)
    assert (vague.ok, "says that it is partial" in vague.reasons[0]) == (False, True)
    assert (gone.ok, "cannot be read back" in gone.reasons[0]) == (False, True)
    assert (nothing.ok, nothing.reasons) == (False, (run.NOTHING,))


def test_what_the_conductor_saw_fail_makes_the_verdict_bad(scene: Scene) -> None:
    """Also over a good point."""
    begun = scene.begin()
    verdict = scene.finish(begun, committed=committed(scene.point()), failures=["task prune: failed"])

    assert (verdict.ok, verdict.reasons) == (False, ("task prune: failed",))


FREEZE = HookPlan(name="spec.quiesce.hooks.0", origin=HookOrigin.POLICY, namespace="shop", pod="db", freeze=("f",), thaw=("t",))
SWITCH = "becalm.main.0a1b2c3d4e.5f6a7b.1"


def frozen_record() -> FreezeRecord:
    frozen = Frozen(hook=FREEZE, pod="db", uid="", container="main", switch=SWITCH, outcome=FreezeOutcome.UNKNOWN, asked=NOON)
    return FreezeRecord(application="shop", frozen=(frozen,), began=NOON, hooks=1)


@pytest.mark.parametrize("failure", [None, AccessDenied("expired"), ClusterUnavailable("down")])
def test_what_is_not_confirmed_thawed_is_thawed_or_said(scene: Scene, failure: Any) -> None:
    """Whatever the thaw meets, the rest is cleared up and the lease is let go."""
    begun = scene.begin()
    scene.leave(begun.run)
    scene.cluster.put(a_pod("db"))
    asked: list[Any] = []

    def answer(*_: Any, command: Any, **__: Any) -> ExecResult:
        asked.append(command)
        if failure:
            raise failure
        return ExecResult(stdout=b"becalm-switch thawed disarmed 0 - ", stderr=b"", exit_code=0)

    scene.cluster.run_command = answer
    verdict = scene.finish(
        begun, committed=committed(scene.point()), applications=[Application(name="shop", namespaces=("shop",))], records=[frozen_record()]
    )

    assert SWITCH in asked[0]
    assert verdict.ok is (failure is None)
    assert all("not confirmed thawed" in reason for reason in verdict.reasons)
    assert scene.left() == []
    assert lease.read(scene.store).released  # type: ignore[union-attr]


def test_a_thaw_that_was_confirmed_is_not_asked_again(scene: Scene) -> None:
    """The application is left alone."""
    begun = scene.begin()
    thawed = Thawed(application="shop", consistency=Consistency.CRASH)
    applications = [Application(name="shop", namespaces=("shop",))]
    verdict = scene.finish(begun, committed=committed(scene.point()), applications=applications, records=[frozen_record()], thaws=[thawed])

    assert verdict.ok
    assert scene.cluster.recorded("exec") == []


def test_temporary_objects_that_stay_are_named(scene: Scene) -> None:
    """The verdict is bad, and the lease is free for the run that tries again."""
    begun = scene.begin()
    scene.leave(begun.run)
    scene.cluster.fail(AccessDenied("not yours"), verb="delete")
    verdict = scene.finish(begun, committed=committed(scene.point()))

    assert not verdict.ok
    assert "are left" in verdict.reasons[0]
    assert lease.read(scene.store).released  # type: ignore[union-attr]


class Stuck(Wrapper):
    """A store that takes no writes any more."""

    def __init__(self, store: MemoryStore, error: Exception) -> None:
        super().__init__(store)
        self._error = error

    def put(self, *_: Any, **__: Any) -> Any:
        """Refuse."""
        raise self._error


def test_a_lease_that_cannot_be_let_go_is_said_and_a_moment_of_trouble_is_raised(scene: Scene) -> None:
    """A full store keeps it until it ends by itself; what may pass is tried again, when all else is done."""
    begun, point = scene.begin(), scene.point()
    scene.leave(begun.run)
    scene.changes = {"store": Stuck(scene.store, StoreFull("full", where="s", hint="make room"))}
    verdict = scene.finish(begun, committed=committed(point))
    scene.changes = {"store": Stuck(scene.store, StoreUnavailable("a moment"))}

    assert not verdict.ok
    assert "ends by itself within 15 minutes" in verdict.reasons[0]
    assert scene.left() == []
    with pytest.raises(StoreUnavailable):
        scene.finish(begun, committed=committed(point))


def test_a_bad_verdict_fails_the_run_with_every_reason() -> None:
    """It says whether there is a point all the same."""
    good = Verdict(run="r", ok=True, point="a" * 64)
    with pytest.raises(PartialCapture, match="recovery point aaaaaaaa is no good one: one; two"):
        run.demand(Verdict(run="r", ok=False, point="a" * 64, reasons=("one", "two")))
    with pytest.raises(PartialCapture, match="there is no recovery point: one"):
        run.demand(Verdict(run="r", ok=False, reasons=("one",)))

    assert run.demand(good) is good


def test_a_policy_makes_up_for_missed_slots_as_it_says(scene: Scene) -> None:
    """`latest`: a later point answers the older slots too; `all`: each slot asks for its own."""
    scene.point(cut=NOON, slot=TEN)
    latest = scene.begin(trigger=Trigger.BACKFILL, run_after=NINE)
    scene.policy = a_policy(missed="all")
    each = scene.begin(trigger=Trigger.BACKFILL, run_after=NINE)

    assert latest.skipped != ""
    assert (each.skipped, each.slot) == ("", NINE)


# Restic's locks: one of the run's own stands from its beginning to its end.


def owners(scene: Scene) -> list[str]:
    return sorted(one.doc.username for one in standing(scene.repository) if one.doc)


def test_a_run_stands_locked_from_beginning_to_end(scene: Scene) -> None:
    """So the restic command deletes nothing that is not committed yet."""
    begun = scene.begin()
    assert owners(scene) == [begun.run]
    run.open_same(begun, scene.ports)
    assert owners(scene) == [begun.run]
    scene.finish(begun)

    assert owners(scene) == []


def test_the_lock_of_a_run_that_died_goes_with_the_next_one(scene: Scene) -> None:
    """Nobody unlocks anything by hand."""
    died = scene.begin("died")
    scene.clock.advance(run.LEASE_SECONDS + 1)
    begun = scene.begin("next")

    assert owners(scene) == [begun.run]
    assert died.run != begun.run
    scene.finish(begun)
    assert owners(scene) == []


def test_a_run_does_not_begin_while_somebody_deletes(scene: Scene) -> None:
    """It waits some minutes, before anything is frozen; then it says who it is, and holds nothing."""
    doc = LockDoc(time=NOON, exclusive=True, hostname="laptop", username="jo", pid=7)
    scene.repository.save_document(Layout.LOCKS, doc.encode())
    with pytest.raises(RepositoryLocked, match="exclusively by jo on laptop"):
        scene.begin()

    assert owners(scene) == ["jo"]
    held = lease.read(scene.store)
    assert held is not None
    assert held.released
