"""The freeze window in real time: it ends with the cut or with its time, whichever comes first, and the label tells which."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from becalm.actions import quiesce, snapshot
from becalm.errors import CutFailed
from becalm.model import Consistency
from becalm.testing.capture_scenes import Stage

if TYPE_CHECKING:
    from pathlib import Path

    from becalm.actions.handover import Application, FreezeRecord


def freeze(stage: Stage) -> tuple[Application, FreezeRecord]:
    application = stage.application()
    return application, quiesce.execute(application, stage.begun(), stage.policy, stage.ports)


def test_a_cut_that_outlasts_the_freeze_ends_the_window(tmp_path: Path) -> None:
    """The thaw does not wait for a slow storage; the cut is taken all the same, and the label says what it is."""
    stage = Stage(tmp_path, timeout="1s")
    stage.storage.hangs.add("db-0")
    application, record = freeze(stage)

    def finish_late() -> None:
        time.sleep(1.6)
        stage.storage.finish("db-0")

    helper = threading.Thread(target=finish_late)
    helper.start()
    cut = snapshot.execute(application, record, stage.begun(), stage.policy, stage.ports)
    helper.join()

    assert stage.boxes["db-0"].longest_freeze() < 2
    assert cut.volumes[0].error == ""
    assert cut.thawed is not None
    assert cut.thawed.consistency is Consistency.CRASH
    assert "the storage cut only after the freeze was over" in cut.thawed.reasons


def test_nothing_is_cut_without_a_live_freeze_where_the_policy_asks_for_one(tmp_path: Path) -> None:
    """A snapshot task that comes too late refuses, and the application is thawed."""
    stage = Stage(tmp_path, timeout="1s", on_failure="fail")
    application, record = freeze(stage)
    time.sleep(1.1)
    with pytest.raises(CutFailed, match="no live freeze"):
        snapshot.execute(application, record, stage.begun(), stage.policy, stage.ports)

    assert stage.storage.cuts == {}
    assert stage.frozen() == []


def test_without_that_demand_a_late_cut_is_labelled(tmp_path: Path) -> None:
    """With crash-consistent the same cut is taken, and says that the freeze did not hold."""
    stage = Stage(tmp_path, timeout="1s")
    application, record = freeze(stage)
    stage.boxes["db-0"].exec("", "", container="", command=["sleep", "2.2"])
    cut = snapshot.execute(application, record, stage.begun(), stage.policy, stage.ports)

    assert cut.thawed is not None
    assert cut.thawed.consistency is Consistency.CRASH
    assert cut.thawed.switch_fired
