"""Thaws in a world that changed since the freeze: pods that moved, containers that were restarted, freezes that had not held."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from becalm.actions import freezes, quiesce
from becalm.actions.handover import Cut, FreezeRecord, Thawed
from becalm.actions.release import release
from becalm.errors import HookFailed, StoreUnavailable
from becalm.model import Consistency
from becalm.repository.format import Layout
from becalm.storage.base import Key
from becalm.storage.wrappers import Wrapper
from becalm.testing.capture_scenes import Stage
from becalm.testing.fake_container import FakeContainer
from becalm.testing.objects import a_pod


def freeze(stage: Stage) -> FreezeRecord:
    return quiesce.execute(stage.application(), stage.begun(), stage.policy, stage.ports)


def thaw(stage: Stage, record: FreezeRecord) -> Thawed:
    now = stage.clock.now()
    cut = Cut(application="shop", began=now, ended=now, revision="1")
    return release(stage.application(), record, cut, stage.ports)


def by_labels(stage: Stage) -> Stage:
    """Let the policy bring the hook, for pods by their label instead of by one pod's annotation."""
    box = stage.boxes["db-0"]
    hook = {"select": {"labels": "app=db"}, "command": {"freeze": list(box.freeze()), "thaw": list(box.thaw())}}
    stage.spec["quiesce"] = {"hooks": [hook], "timeout": stage.timeout, "onFailure": stage.on_failure}
    stage.cluster.put(a_pod("db-0", labels={"app": "db"}, mounts={"main": "db-0"}))
    return stage


def notes(stage: Stage) -> int:
    return len(freezes.find(stage.store))


def test_a_freeze_is_noted_before_it_begins_and_forgotten_after_the_thaw(tmp_path: Path) -> None:
    """Whoever comes when everything else has died knows what was frozen."""
    stage = Stage(tmp_path)
    record = freeze(stage)
    (found,) = freezes.find(stage.store)
    (held,) = found.note.held
    assert (held.pod, held.container, held.switch) == ("db-0", "main", record.frozen[0].switch)
    thaw(stage, record)

    assert notes(stage) == 0


def test_a_store_that_takes_no_note_means_that_nothing_is_frozen(tmp_path: Path) -> None:
    """The error comes before any command."""

    class Full(Wrapper):
        def put(self, key: Key, *rest: object, **more: object) -> object:  # type: ignore[override]
            if key.startswith(Layout.FREEZES):
                raise StoreUnavailable("no answer")
            return super().put(key, *rest, **more)  # type: ignore[arg-type]

    stage = Stage(tmp_path)
    application, begun = stage.application(), stage.begun()
    ports = replace(stage.ports, store=Full(stage.store))
    with pytest.raises(StoreUnavailable):
        quiesce.execute(application, begun, stage.policy, ports)

    assert stage.cluster.recorded("exec") == []


def test_a_pod_that_was_replaced_is_thawed_as_well(tmp_path: Path) -> None:
    """The frozen pod is gone, another stands in its place with what the freeze left on the volume: it is thawed, and nothing is promised."""
    stage = by_labels(Stage(tmp_path))
    record = freeze(stage)
    stage.cluster.remove("pods", "db-0", "shop")
    stage.boxes["db-x"] = stage.boxes["db-0"]
    stage.cluster.put(a_pod("db-x", labels={"app": "db"}, mounts={"main": "db-0"}))
    thawed = thaw(stage, record)

    assert stage.boxes["db-x"].events()[-1][0] == "T"
    assert (thawed.consistency, thawed.confirmed) == (Consistency.CRASH, True)
    assert "the container is gone" in thawed.reasons[0]
    assert notes(stage) == 0


def test_a_pod_that_moved_away_keeps_its_note_until_another_stands_there(tmp_path: Path) -> None:
    """Nobody is there to be thawed yet: the run goes on, and the reaper comes again."""
    stage = by_labels(Stage(tmp_path))
    record = freeze(stage)
    stage.cluster.remove("pods", "db-0", "shop")
    thawed = thaw(stage, record)

    assert (thawed.consistency, thawed.confirmed) == (Consistency.CRASH, True)
    assert notes(stage) == 1


def test_a_pod_of_the_same_name_that_was_made_anew_promises_nothing(tmp_path: Path) -> None:
    """Another uid behind the same name, as a StatefulSet makes it: the old freeze died with its container."""
    stage = Stage(tmp_path)
    record = freeze(stage)
    stage.boxes["db-0"] = FakeContainer(folder=tmp_path / "anew")
    pod = a_pod("db-0", mounts={"main": "db-0"})
    stage.cluster.remove("pods", "db-0", "shop")
    stage.cluster.put(pod)
    thawed = thaw(stage, record)

    assert (thawed.consistency, thawed.confirmed) == (Consistency.CRASH, True)
    assert "the dead-man switch is not there any more" in thawed.reasons[0]


def test_a_thaw_that_knows_better_lowers_the_label(tmp_path: Path) -> None:
    """Exit code 75: thawed now, and it had not held. Nobody has to look, and nothing is promised."""
    stage = Stage(tmp_path)
    record = freeze(stage)
    knows = replace(record.frozen[0].hook, thaw=stage.boxes["db-0"].thaw(code=75))
    thawed = thaw(stage, replace(record, frozen=(replace(record.frozen[0], hook=knows),)))

    assert thawed.reasons == ("shop/db-0: the thaw says that the application had not held still",)
    assert (thawed.consistency, thawed.confirmed) == (Consistency.CRASH, True)
    assert notes(stage) == 0


def test_without_a_shell_nothing_is_frozen_where_only_a_guarded_freeze_will_do(tmp_path: Path) -> None:
    """onFailure: fail wants a freeze that holds; one that nothing guards is not even tried."""
    stage = Stage(tmp_path, shell="", on_failure="fail")
    with pytest.raises(HookFailed, match="no shell to hold a dead-man switch; so it was not frozen"):
        freeze(stage)

    assert stage.boxes["db-0"].events() == [("T", stage.boxes["db-0"].events()[0][1])]
    assert notes(stage) == 0


def test_a_program_that_is_not_in_the_image_is_named(tmp_path: Path) -> None:
    """Neither freeze nor thaw can be started: nothing was frozen, nothing is owed."""
    stage = by_labels(Stage(tmp_path))
    stage.spec["quiesce"]["hooks"][0]["command"] = {"freeze": ["/no/such/freeze"], "thaw": ["/no/such/thaw"]}
    record = freeze(stage)

    assert "exit code 127" in record.reasons[0]
    assert "/no/such/freeze" in record.reasons[0]
    assert record.frozen == ()
    assert notes(stage) == 0
