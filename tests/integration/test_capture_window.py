"""The freeze window: it ends with the cut or with its time, whichever comes first, and the label tells which.

The window's time is set by what the record says, and the switches have minutes: nothing here depends on how fast the machine is.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from becalm.actions import quiesce, snapshot
from becalm.errors import CutFailed
from becalm.model import Consistency
from becalm.testing.capture_scenes import Stage
from becalm.testing.switch_scenes import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from becalm.actions.handover import Application, FreezeRecord


def freeze(stage: Stage, *, window_seconds: float | None = None) -> tuple[Application, FreezeRecord]:
    """Freeze; the window ends so many seconds from now, if that is said."""
    application = stage.application()
    record = quiesce.execute(application, stage.begun(), stage.policy, stage.ports)
    assert stage.frozen() == ["db-0"]
    if window_seconds is None:
        return application, record
    passed = (stage.clock.now() - min(item.asked for item in record.frozen)).total_seconds()
    return application, replace(record, timeout_seconds=passed + window_seconds)


def test_a_cut_that_outlasts_the_freeze_ends_the_window(tmp_path: Path) -> None:
    """The thaw does not wait for a slow storage, which here cuts only once the application goes on; the label says what that is."""
    stage = Stage(tmp_path)
    stage.storage.hangs.add("db-0")
    application, record = freeze(stage, window_seconds=1)

    def finish_late() -> None:
        wait_for(lambda: not stage.frozen())
        stage.storage.finish("db-0")

    storage = threading.Thread(target=finish_late)
    storage.start()
    cut = snapshot.execute(application, record, stage.begun(), stage.policy, stage.ports)
    storage.join()

    assert cut.volumes[0].error == ""
    assert cut.thawed is not None
    assert cut.thawed.consistency is Consistency.CRASH
    assert "the storage cut only after the freeze was over" in cut.thawed.reasons


def test_nothing_is_cut_without_a_live_freeze_where_the_policy_asks_for_one(tmp_path: Path) -> None:
    """A snapshot task that comes too late refuses, and the application is thawed."""
    stage = Stage(tmp_path, on_failure="fail")
    application, record = freeze(stage, window_seconds=0)
    with pytest.raises(CutFailed, match="no live freeze"):
        snapshot.execute(application, record, stage.begun(), stage.policy, stage.ports)

    assert stage.storage.cuts == {}
    assert stage.frozen() == []


def test_without_that_demand_a_late_cut_is_labelled(tmp_path: Path) -> None:
    """With crash-consistent the same cut is taken, and says that the freeze did not hold: the switch has fired meanwhile."""
    stage = Stage(tmp_path, timeout="1s")
    application = stage.application()
    record = quiesce.execute(application, stage.begun(), stage.policy, stage.ports)
    wait_for(lambda: "T" in [word for word, _ in stage.boxes["db-0"].events()])
    cut = snapshot.execute(application, record, stage.begun(), stage.policy, stage.ports)

    assert cut.thawed is not None
    assert cut.thawed.consistency is Consistency.CRASH
    assert cut.thawed.switch_fired
