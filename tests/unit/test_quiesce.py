"""Quiesce and thaw, with real processes in the containers: what is frozen is known, what fails is undone, and the label is true."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from becalm.actions import quiesce, release
from becalm.actions.handover import Cut, FreezeOutcome, FreezeRecord, Frozen, HookOrigin, HookPlan, VolumeCut, VolumePlan
from becalm.actions.label import ThawState, label
from becalm.actions.pods import container_of
from becalm.errors import AccessDenied, HookFailed, HookMissing
from becalm.model import Consistency, VolumeRef, VolumeUse
from becalm.testing.builders import NOON
from becalm.testing.capture_scenes import Stage
from becalm.testing.objects import a_pod

if TYPE_CHECKING:
    from pathlib import Path

    from becalm.actions.handover import Thawed


def freeze(stage: Stage) -> FreezeRecord:
    return quiesce.execute(stage.application(), stage.begun(), stage.policy, stage.ports)


def thaw(stage: Stage, record: FreezeRecord, cut: Cut | None = None) -> Thawed:
    return quiesce.thaw(stage.application(), record, cut, stage.begun(), stage.policy, stage.ports)


def a_cut_of(record: FreezeRecord, stage: Stage, **changes: object) -> Cut:
    """Return a cut that happened now."""
    now = stage.clock.now()
    return replace(Cut(application=record.application, began=now, ended=now, revision="1"), **changes)  # type: ignore[arg-type]


def test_every_hook_freezes_and_thaws(tmp_path: Path) -> None:
    """All pods stand still under a switch, then all go on, and the label is the best there is."""
    stage = Stage(tmp_path, pods=3)
    record = freeze(stage)
    assert stage.frozen() == ["db-0", "db-1", "db-2"]
    thawed = thaw(stage, record, a_cut_of(record, stage))

    assert stage.frozen() == []
    assert [item.outcome for item in record.frozen] == [FreezeOutcome.FROZEN] * 3
    assert all(item.switch and item.confirmed for item in record.frozen)
    assert (record.hooks, record.reasons) == (3, ())
    assert (thawed.consistency, thawed.reasons, thawed.confirmed) == (Consistency.APPLICATION, (), True)
    assert thawed.frozen_seconds > 0


def test_without_hooks_nothing_is_frozen_and_nothing_is_promised(tmp_path: Path) -> None:
    """No exec is made; the label says why it is not more."""
    stage = Stage(tmp_path, pods=0)
    record = freeze(stage)

    assert stage.cluster.recorded("exec") == []
    assert thaw(stage, record, a_cut_of(record, stage)).reasons == ("no hook stills it",)


def test_a_hook_that_fails_is_recorded(tmp_path: Path) -> None:
    """With crash-consistent the run goes on, everything is thawed, and the reason stands in the record."""
    stage = Stage(tmp_path, freeze=("/bin/sh", "-c", "echo disk on fire >&2; exit 3"))
    record = freeze(stage)
    thawed = thaw(stage, record, a_cut_of(record, stage))

    assert record.reasons == ("shop/db-0 (main): the freeze failed with exit code 3: disk on fire",)
    assert (thawed.consistency, thawed.confirmed) == (Consistency.CRASH, True)
    assert "disk on fire" in thawed.reasons[0]


def test_with_on_failure_fail_its_own_part_is_undone(tmp_path: Path) -> None:
    """One pod of two fails: the other is thawed before the error is raised, also where its freeze came after the first thaw."""
    stage = Stage(tmp_path, pods=2, on_failure="fail", codes={"db-1": 7})
    with pytest.raises(HookFailed, match="db-1"):
        freeze(stage)

    words = [word for word, _ in stage.boxes["db-0"].events()]
    assert stage.frozen() == []
    assert (words.count("F"), words[-2:]) == (1, ["F", "T"])


def test_an_interruption_is_undone_too(tmp_path: Path) -> None:
    """Ctrl-C in the middle of freezing leaves nobody frozen."""
    stage = Stage(tmp_path, pods=2)
    real = stage.cluster.run_command

    def interrupted(namespace: str, pod: str, **rest: object) -> object:
        result = real(namespace, pod, **rest)  # type: ignore[arg-type]
        if pod == "db-1" and "arm" in rest["command"]:  # type: ignore[operator]
            raise KeyboardInterrupt
        return result

    stage.cluster.run_command = interrupted  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        freeze(stage)

    assert stage.frozen() == []


def test_an_unknown_outcome_counts_as_frozen(tmp_path: Path) -> None:
    """The answer is lost, the container is frozen: it is thawed, and promises nothing."""
    stage = Stage(tmp_path, lose="arm")
    record = freeze(stage)
    assert stage.frozen() == ["db-0"]
    thawed = thaw(stage, record, a_cut_of(record, stage))

    assert [item.outcome for item in record.frozen] == [FreezeOutcome.UNKNOWN]
    assert stage.frozen() == []
    assert (thawed.consistency, thawed.confirmed) == (Consistency.CRASH, True)
    assert "unknown" in thawed.reasons[0]


def test_a_container_without_a_shell_is_frozen_without_a_switch(tmp_path: Path) -> None:
    """It is thawed all the same, and the label is lowered with the reason."""
    stage = Stage(tmp_path, shell="")
    record = freeze(stage)
    assert stage.frozen() == ["db-0"]
    thawed = thaw(stage, record, a_cut_of(record, stage))

    assert [item.switch for item in record.frozen] == [""]
    assert stage.frozen() == []
    assert thawed.consistency is Consistency.CRASH
    assert "no shell" in thawed.reasons[0]


def test_a_missing_container_is_named(tmp_path: Path) -> None:
    """A hook for a container that is not there: an error for fail, a reason for crash-consistent."""
    hook = {"select": {"labels": "app=db"}, "command": {"freeze": ["/f"], "thaw": ["/t"], "container": "gone"}}
    for on_failure in ("fail", "crash-consistent"):
        stage = Stage(tmp_path / on_failure, pods=0, spec={"quiesce": {"hooks": [hook], "onFailure": on_failure}})
        stage.cluster.put(a_pod("web", labels={"app": "db"}))
        if on_failure == "fail":
            with pytest.raises(HookMissing, match="no container 'gone'"):
                freeze(stage)
        else:
            assert "no container 'gone'" in freeze(stage).reasons[0]


@pytest.mark.parametrize(
    ("phase", "ready", "missing"), [("Running", False, "not running and ready"), ("Succeeded", True, "no running pod")]
)
def test_a_pod_that_is_not_ready_is_missed(tmp_path: Path, phase: str, ready: bool, missing: str) -> None:
    """Its hook did not run, and the record says so; a pod that has ended holds nothing."""
    hook = {"select": {"labels": "app=db"}, "command": {"freeze": ["/f"], "thaw": ["/t"]}}
    stage = Stage(tmp_path, pods=0, spec={"quiesce": {"hooks": [hook]}})
    stage.cluster.put(a_pod("web", labels={"app": "db"}, phase=phase, ready=ready))
    record = freeze(stage)

    assert missing in record.reasons[0]
    assert record.hooks == 1
    assert stage.cluster.recorded("exec") == []


def test_a_refused_exec_is_a_reason(tmp_path: Path) -> None:
    """Without the right to exec nothing is frozen, nothing is owed, and the label says why."""
    stage = Stage(tmp_path)
    stage.cluster.fail(AccessDenied("pods/exec is not for you"), verb="exec")
    record = freeze(stage)

    assert record.frozen == ()
    assert "pods/exec is not for you" in record.reasons[0]


def test_a_thaw_is_asked_once_where_the_cut_has_confirmed_it(tmp_path: Path) -> None:
    """The cut's own thaw counts; the task that makes sure of it costs nothing."""
    stage = Stage(tmp_path)
    record = freeze(stage)
    cut = a_cut_of(record, stage)
    first = thaw(stage, record, cut)
    asked = len(stage.cluster.recorded("exec"))

    assert thaw(stage, record, replace(cut, thawed=first)) == first
    assert len(stage.cluster.recorded("exec")) == asked


def test_a_thaw_that_cannot_be_confirmed_is_an_error(tmp_path: Path) -> None:
    """It is tried again first; then a person has to look."""
    stage = Stage(tmp_path, lose="thaw")
    record = freeze(stage)
    with pytest.raises(HookFailed, match="not confirmed thawed"):
        thaw(stage, record)

    assert len([call for call in stage.cluster.recorded("exec") if "thaw" in call.command]) == release.TRIES
    assert stage.frozen() == []


def test_the_first_container_that_mounts_the_volume_is_frozen() -> None:
    """Not the side car that happens to come first."""
    hook = HookPlan(name="h", origin=HookOrigin.POLICY, namespace="shop")
    pod = a_pod("db", containers=("proxy", "main"), mounts={"main": "data"})

    assert container_of(hook, frozenset({VolumeRef(namespace="shop", claim="data")}), pod) == "main"
    assert container_of(hook, frozenset(), pod) == "proxy"
    assert container_of(replace(hook, container="proxy"), frozenset(), pod) == "proxy"


# The label, against an oracle that is written the other way round.

HOOK = HookPlan(name="h", origin=HookOrigin.POLICY, namespace="shop")
SECOND = timedelta(seconds=1)


def a_frozen(outcome: FreezeOutcome, *, switch: bool, early: bool) -> Frozen:
    confirmed = NOON - SECOND if early else NOON + SECOND
    known = outcome is FreezeOutcome.FROZEN
    return Frozen(
        hook=HOOK,
        pod="db",
        uid="1",
        container="main",
        switch="s" if switch else "",
        outcome=outcome,
        asked=NOON - 2 * SECOND,
        confirmed=confirmed if known else None,
    )


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    hooks=st.integers(0, 3),
    frozen=st.lists(st.tuples(st.sampled_from(FreezeOutcome), st.booleans(), st.booleans(), st.booleans(), st.booleans()), max_size=3),
    missed=st.booleans(),
    cut=st.booleans(),
    live=st.booleans(),
)
def test_the_label_is_true(hooks: int, frozen: list[tuple], missed: bool, cut: bool, live: bool) -> None:
    """Application-consistent if and only if every hook froze under a switch before the cut and held until the thaw after it."""
    record = FreezeRecord(
        application="shop",
        frozen=tuple(a_frozen(outcome, switch=switch, early=early) for outcome, switch, early, _, _ in frozen),
        began=NOON - 3 * SECOND,
        reasons=("a hook was missed",) if missed else (),
        hooks=max(hooks, len(frozen)),
    )
    volume = VolumeCut(
        plan=VolumePlan(volume=VolumeRef(namespace="shop", claim="data"), use=VolumeUse.LIVE if live else VolumeUse.SNAPSHOT)
    )
    made = Cut(application="shop", began=NOON, ended=NOON, revision="1", volumes=(volume,)) if cut else None
    states = tuple(ThawState(place="shop/db", confirmed=confirmed, held=held) for *_, confirmed, held in frozen)
    consistency, reasons = label(record, made, states)

    perfect = all(row == (FreezeOutcome.FROZEN, True, True, True, True) for row in frozen)
    true = perfect and cut and not live and not missed and 0 < record.hooks == len(frozen)
    assert consistency is (Consistency.APPLICATION if true else Consistency.CRASH)
    assert bool(reasons) is not true
    assert len(set(reasons)) == len(reasons)


def test_a_label_needs_every_state() -> None:
    """A container that was not asked to thaw proves nothing."""
    record = FreezeRecord(application="shop", frozen=(a_frozen(FreezeOutcome.FROZEN, switch=True, early=True),), began=NOON, hooks=1)
    made = Cut(application="shop", began=NOON, ended=NOON, revision="1")

    for states, expected in itertools.chain(
        [((), Consistency.CRASH)], [((ThawState(place="db", confirmed=True, held=True),), Consistency.APPLICATION)]
    ):
        assert label(record, made, states)[0] is expected
