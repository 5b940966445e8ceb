"""The reaper: what dead runs and dead restores left goes, what lives and what only looks alike stays."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from becalm.actions import credentials, freezes, quiesce, reap, run, sweep
from becalm.actions.handover import Begun, FreezeRecord, Trigger
from becalm.actions.pulse import EVERY_SECONDS, LIVES, Pulse, alive_until
from becalm.actions.reap import Plan, Reaped
from becalm.clock import format_time
from becalm.errors import AccessDenied, ClusterUnavailable, HookFailed, NotFound
from becalm.kube.base import ANNOTATION_EXPIRES, LABEL_MANAGED, LABEL_POLICY, LABEL_ROLE, LABEL_RUN, MANAGER, ROLE_RESTORE, owned_by
from becalm.model import Manifest, payload
from becalm.repository import lease
from becalm.repository.reader import init_repository
from becalm.testing.capture_scenes import PASSWORD, Stage
from becalm.testing.fake_clock import FakeClock
from becalm.testing.memory_store import URL, MemoryStore
from becalm.testing.objects import a_claim, a_pod, an_object
from becalm.testing.saved_points import CHEAP

DEAD, RESTORE = "dead000000", "rest000000"


def freeze(stage: Stage) -> tuple[FreezeRecord, Begun]:
    begun = stage.begun()
    return quiesce.execute(stage.application(), begun, stage.policy, stage.ports), begun


def let_die(stage: Stage, begun: Begun) -> None:
    """Let a run be over as far as anyone can see."""
    lease.release(stage.store, run=begun.run, epoch=begun.epoch, clock=stage.clock)


def reaped(stage: Stage) -> tuple[Plan, Reaped]:
    decided = reap.plan(stage.policy, stage.ports)
    return decided, reap.execute(decided, stage.policy, stage.ports)


def temporary(name: str, kind: str = "Secret", *, policy: str = "shop", key: str = DEAD, role: str = "export", **labels: str) -> Manifest:
    return an_object("v1", kind, name, "becalm", labels={**owned_by(policy, key, role, repository=URL), **labels})


def test_what_a_dead_run_froze_is_thawed(tmp_path: Path) -> None:
    """Its worker died with all it knew: the note in the bucket is enough."""
    stage = Stage(tmp_path, pods=2)
    _, begun = freeze(stage)
    let_die(stage, begun)
    assert stage.frozen() == ["db-0", "db-1"]
    _, done = reaped(stage)

    assert stage.frozen() == []
    assert (done.thawed, done.frozen) == (("shop/db-0 (main)", "shop/db-1 (main)"), ())
    assert reap.plan(stage.policy, stage.ports).empty


def test_what_a_living_run_froze_is_left_alone_within_its_time(tmp_path: Path) -> None:
    """The run holds its lease: its window is its own."""
    stage = Stage(tmp_path)
    record, begun = freeze(stage)
    decided, done = reaped(stage)
    assert stage.frozen() == ["db-0"]
    assert (decided.freezes, decided.living, done.thawed) == ((), begun.run, ())
    held = quiesce.release(stage.application(), record, None, stage.ports)

    assert held.reasons == ("it was not cut",)


def test_a_freeze_that_is_over_is_thawed_whoever_lives(tmp_path: Path) -> None:
    """The run still has its lease for many minutes, its freeze has been over for long: nobody waits for the lease."""
    stage = Stage(tmp_path)
    freeze(stage)
    (found,) = freezes.find(stage.store)
    late = replace(found, written=found.written - timedelta(seconds=found.note.seconds) - 2 * reap.GRACE)
    done = reap.execute(replace(reap.plan(stage.policy, stage.ports), freezes=(late,)), stage.policy, stage.ports)

    assert stage.frozen() == []
    assert done.thawed == ("shop/db-0 (main)",)


def test_without_a_shell_the_note_is_what_thaws(tmp_path: Path) -> None:
    """Nothing in the container guards the freeze: only the reaper knows of it."""
    stage = Stage(tmp_path, shell="")
    _, begun = freeze(stage)
    let_die(stage, begun)
    reaped(stage)

    assert stage.frozen() == []
    assert freezes.find(stage.store) == []


def test_finish_thaws_what_its_own_dead_task_froze(tmp_path: Path) -> None:
    """The task that froze was killed and handed nothing over: finish reads the note."""
    stage = Stage(tmp_path)
    _, begun = freeze(stage)
    verdict = run.finish(begun, applications=(stage.application(),), records=(), committed=None, policy=stage.policy, ports=stage.ports)

    assert stage.frozen() == []
    assert verdict.reasons == (run.NOTHING,)


def test_a_hook_that_is_gone_needs_a_person(tmp_path: Path) -> None:
    """The policy was changed meanwhile: what is frozen is named, kept, and an error."""
    stage = Stage(tmp_path)
    _, begun = freeze(stage)
    let_die(stage, begun)
    stage.cluster.put(a_pod("db-0", mounts={"main": "db-0"}))
    _, done = reaped(stage)

    assert f"frozen by run {begun.run} and its hook pods/shop/db-0 is gone" in done.frozen[0]
    assert len(freezes.find(stage.store)) == 1
    with pytest.raises(HookFailed, match="thaw it by hand"):
        reap.demand([done])


def test_a_cluster_that_does_not_answer_is_named_and_asked_again(tmp_path: Path) -> None:
    """The note stays, and the next reaper thaws."""
    stage = Stage(tmp_path)
    _, begun = freeze(stage)
    let_die(stage, begun)
    stage.cluster.fail(ClusterUnavailable("no answer"), verb="list", kind="namespaces", times=2)
    _, first = reaped(stage)
    _, second = reaped(stage)

    assert "cannot be looked up" in first.frozen[0]
    assert second.frozen == ()
    assert stage.frozen() == []


def test_what_dead_runs_left_goes_and_look_alikes_stay(tmp_path: Path) -> None:
    """By the labels of this policy's run, and by nothing else: not by a name, not by half of the labels."""
    stage = Stage(tmp_path)
    begun = stage.begun()
    look_alikes = [
        temporary("becalm-dead000000-4", policy="other"),
        temporary("becalm-dead000000-1", **{LABEL_MANAGED: "helm"}),
        an_object("v1", "Secret", "becalm-dead000000-2", "becalm", labels={LABEL_RUN: DEAD, LABEL_POLICY: "shop"}),
        an_object("v1", "Secret", "becalm-dead000000-3", "becalm"),
        an_object("v1", "Secret", "becalm-living", "becalm", labels=owned_by("shop", begun.run, "mover", repository=URL)),
    ]
    stage.cluster.put(*look_alikes)
    stage.cluster.put(
        temporary(credentials.secret_name(DEAD), role="mover"), temporary("mover-1", "Pod"), temporary("cut-1", "PersistentVolumeClaim")
    )
    decided, done = reaped(stage)

    assert (decided.runs, decided.living) == ((DEAD,), begun.run)
    assert (done.runs, done.findings) == ((DEAD,), ())
    assert {item["metadata"]["name"] for item in stage.cluster.all("secrets")} == {item["metadata"]["name"] for item in look_alikes}
    assert [item["metadata"]["name"] for item in stage.cluster.all("pods")] == ["db-0"]
    assert [item["metadata"]["name"] for item in stage.cluster.all("persistentvolumeclaims")] == ["db-0"]


def test_another_installation_with_a_policy_of_that_name_is_left_alone(tmp_path: Path) -> None:
    """It writes to another bucket: no lease here tells that its run and its restore live, and the same run id is another run there."""
    stage = Stage(tmp_path)
    begun = stage.begun()
    theirs = replace(stage.ports, store=MemoryStore(url="memory://another"))
    init_repository(theirs.store, PASSWORD, kdf=CHEAP)
    same = run.begin(stage.policy, run_id=begun.run_id, trigger=Trigger.MANUAL, run_after=stage.clock.now(), ports=theirs)
    credentials.ensure("shop", same.run, "becalm", theirs)
    credentials.ensure("shop", RESTORE, "shop", theirs, role=ROLE_RESTORE, expires=stage.store.now() - timedelta(hours=1))
    names = {item["metadata"]["name"] for item in stage.cluster.all("secrets")}
    let_die(stage, begun)
    decided, _ = reaped(stage)
    left = sweep.sweep("shop", stage.ports)

    assert same.run != begun.run
    assert (decided.runs, decided.restores, left) == ((), (), ())
    assert {item["metadata"]["name"] for item in stage.cluster.all("secrets")} == names
    assert reap.plan(stage.policy, theirs).living == same.run


def test_a_plan_changes_nothing(tmp_path: Path) -> None:
    """The dry run reads only."""
    stage = Stage(tmp_path)
    _, begun = freeze(stage)
    let_die(stage, begun)
    stage.cluster.put(temporary("mover-1", "Pod"))
    calls = len(stage.cluster.calls)
    decided = reap.plan(stage.policy, stage.ports)
    said = reap.told(decided)

    assert {call.verb for call in stage.cluster.calls[calls:]} <= {"list"}
    assert payload(decided)["runs"] == [DEAD]
    assert said == [f"thaw shop/db-0 (main), frozen by run {begun.run}", f"remove what the dead run {DEAD} left"]
    assert stage.frozen() == ["db-0"]


def a_restore(stage: Stage, *, until: timedelta | None, created: timedelta = timedelta(0)) -> None:
    """Put the Secret and the mover of a restore that surely lives until then."""
    now = stage.store.now()
    secret = an_object(
        "v1", "Secret", credentials.secret_name(RESTORE), "shop", labels=owned_by("shop", RESTORE, ROLE_RESTORE, repository=URL)
    )
    secret["metadata"]["creationTimestamp"] = format_time(now + created)
    if until is not None:
        secret["metadata"]["annotations"] = {ANNOTATION_EXPIRES: format_time(now + until)}
    mover = a_pod("becalm-mover", labels=owned_by("shop", RESTORE, ROLE_RESTORE, repository=URL))
    mover["metadata"]["creationTimestamp"] = format_time(now + created)
    claim = a_claim("restored", labels={LABEL_ROLE: ROLE_RESTORE, LABEL_RUN: RESTORE, LABEL_POLICY: "shop", LABEL_MANAGED: MANAGER})
    stage.cluster.put(secret, mover, claim)


@pytest.mark.parametrize(
    ("until", "created", "dead"),
    [
        (timedelta(minutes=5), timedelta(0), False),
        (timedelta(minutes=-1), timedelta(hours=-30), True),
        (None, timedelta(hours=-24), False),
        (None, timedelta(hours=-26), True),
    ],
)
def test_a_restore_lives_as_long_as_it_says_so(tmp_path: Path, until: timedelta | None, created: timedelta, dead: bool) -> None:
    """Its Secret and its mover go once its time is over, never before; the claim that it filled stays whatever is on it."""
    stage = Stage(tmp_path, pods=0)
    a_restore(stage, until=until, created=created)
    decided, done = reaped(stage)

    assert done.restores == ((RESTORE,) if dead else ())
    assert bool(stage.cluster.all("secrets")) is not dead
    assert bool(stage.cluster.all("pods")) is not dead
    assert [item["metadata"]["name"] for item in stage.cluster.all("persistentvolumeclaims")] == ["restored"]
    assert decided.runs == ()


def test_a_restore_that_may_not_be_cleared_up_is_a_finding(tmp_path: Path) -> None:
    """The account that protects may not delete Secrets of applications: the sentence says which account may."""
    stage = Stage(tmp_path, pods=0)
    a_restore(stage, until=timedelta(minutes=-1))
    stage.cluster.fail(AccessDenied("secrets is not for you"), verb="delete", kind="secrets")
    _, done = reaped(stage)

    assert done.restores == ()
    assert "secrets is not for you" in str(done.findings[0])
    assert "an account that may delete" in str(done.findings[0])


def test_a_restore_says_that_it_lives_once_a_minute(tmp_path: Path) -> None:
    """As often as it is asked, and never as an error: a Secret that is gone, or a cluster that is silent, ends no restore."""
    clock = FakeClock()
    stage = Stage(tmp_path, pods=0)
    ports = replace(stage.ports, clock=clock)
    credentials.ensure("shop", RESTORE, "shop", ports, role=ROLE_RESTORE, expires=alive_until(ports))
    pulse = Pulse(run=RESTORE, namespaces=("shop",), since=clock.monotonic())
    for _ in range(20):
        pulse.beat(ports)
    assert stage.cluster.recorded("merge") == []
    clock.sleep(EVERY_SECONDS)
    for _ in range(20):
        pulse.beat(ports)
    assert len(stage.cluster.recorded("merge")) == 1
    stage.cluster.fail(NotFound("gone"), verb="merge")
    clock.sleep(EVERY_SECONDS)
    pulse.beat(ports)

    (secret,) = stage.cluster.all("secrets")
    assert secret["metadata"]["annotations"][ANNOTATION_EXPIRES] > format_time(stage.store.now() + LIVES / 2)


def test_a_second_try_of_a_restore_takes_up_its_secret_with_a_new_time(tmp_path: Path) -> None:
    """The first try died long ago: what it wrote must not make the second look dead."""
    stage = Stage(tmp_path, pods=0)
    old = stage.store.now() - timedelta(hours=1)
    credentials.ensure("shop", RESTORE, "shop", stage.ports, role=ROLE_RESTORE, expires=old)
    credentials.ensure("shop", RESTORE, "shop", stage.ports, role=ROLE_RESTORE, expires=alive_until(stage.ports))

    assert reap.plan(stage.policy, stage.ports).restores == ()
