"""The kill matrix's own eyes: how long an application stood still by its own times, and which step a kill met."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from tests.prove.matrix import plan, step_of
from tests.prove.matrix_kills import KINDS, OPEN, Step
from tests.prove.matrix_scene import Run, Scene

from becalm.testing.fake_cluster import FakeCluster
from becalm.testing.memory_store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A scene that nothing plays in."""
    (tmp_path / "stamps").mkdir()
    return Scene(cluster=FakeCluster(), store=MemoryStore, name="shop", folder=tmp_path, variables={}, image="i", url="s3://b")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """A run that is over."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    (tmp_path / "log").write_text("loaded\n")
    yield Run(process=process, log=tmp_path / "log", run_id="r", offset=1)


def wrote(scene: Scene, *lines: str, alive: float) -> None:
    """Write down what an application would have; the first line is of an earlier run."""
    stamps = scene.folder / "stamps"
    (stamps / "log").write_text("\n".join(["goes 1 1", *lines, ""]))
    (stamps / "alive").touch()
    os.utime(stamps / "alive", (alive, alive))


def test_it_stands_still_from_its_last_write_to_its_next(scene: Scene, run: Run) -> None:
    """What its hooks say is not asked."""
    wrote(scene, "asked 100 100", "still 101 101.1", "thaw 104 104", "goes 105 105", alive=time.time() + 60)
    (still,) = scene.stillnesses(run)

    assert (still.began, still.ended, still.over) == (101, 105, True)
    assert scene.writes()


def test_a_freeze_ends_with_the_process_that_died_of_the_kill(scene: Scene, run: Run) -> None:
    """Its successor says when it was last alive: being dead is not being frozen."""
    wrote(scene, "still 101 101.1", "started 103 160", alive=time.time() + 60)
    (still,) = scene.stillnesses(run)

    assert (still.began, still.ended, still.over) == (101, 103, True)


def test_one_that_goes_on_standing_still_is_not_over(scene: Scene, run: Run) -> None:
    """Alive, and without a write since: that is frozen. Not alive any more, it is dead."""
    wrote(scene, "still 101 101.1", alive=time.time() + 60)
    (frozen,) = scene.stillnesses(run)
    assert (frozen.over, scene.writes()) == (False, False)
    wrote(scene, "still 101 101.1", alive=105)
    (dead,) = scene.stillnesses(run)

    assert (dead.over, dead.ended) == (True, 105)


@pytest.mark.parametrize(
    ("moment", "step"),
    [(99, Step.BEFORE), (100.5, Step.FREEZING), (102, Step.FROZEN), (103.5, Step.CUTTING), (104.5, Step.THAWING), (106, Step.AFTER)],
)
def test_the_step_of_a_kill_is_told_by_the_times(scene: Scene, run: Run, moment: float, step: Step) -> None:
    """The application's, and the run's own word that it cuts."""
    wrote(scene, "asked 100 100", "still 101 101.1", "thaw 104 104", "goes 105 105", alive=time.time() + 60)
    run.met["snapshot"] = 103

    assert step_of(scene, run, moment) is step


def test_all_kinds_and_all_steps_get_their_share() -> None:
    """At least as many as were asked for, each kind at each of its steps, most between freeze and thaw."""
    own, shared = plan(tuple(KINDS.values()), 210, 5)
    met = {(kind.name, step) for kind, step in (*own, *shared)}

    assert len(own) + 5 * len(shared) >= 210
    assert {(kind.name, step) for kind in KINDS.values() if not kind.shared for step in kind.steps} <= met
    assert {(kind.name, step) for kind in KINDS.values() if kind.shared for step in (Step.FREEZING, Step.FROZEN)} <= met
    assert sum(step in OPEN for _, step in (*own, *shared)) * 2 > len(own) + len(shared)
