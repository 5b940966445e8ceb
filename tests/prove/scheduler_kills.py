"""Airflow's scheduler dies between freeze and thaw, with the workers that it has: on a real cluster, with a real Airflow.

    python -m tests.prove.scheduler_kills [--kills 6]

What must hold is what the kill matrix demands (`matrix_judge.py`). Airflow is started again after the switch's time is over; then the run
comes to an end by itself, as Airflow finds the tasks that its dead scheduler had begun. Tasks run in children of the scheduler here: both are
killed in turn, the scheduler alone and the scheduler with all of them.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from becalm.testing.processes import descendants
from tests.e2e.airflow import running_airflow
from tests.prove.matrix import Tally, say, stage, step_of, told
from tests.prove.matrix_judge import judge
from tests.prove.matrix_kills import OPEN, TOO_LATE, Kind, Step, absent
from tests.prove.matrix_scene import PASSWORD, eventually

if TYPE_CHECKING:
    from collections.abc import Sequence

    from becalm.sandbox.conductor import Conductor
    from tests.prove.matrix_scene import Scene

SEEN_SECONDS = 120.0
STEPS = (Step.FREEZING, Step.FROZEN, Step.CUTTING)
SIGNS = {Step.FREEZING: ("asked", 0.2), Step.FROZEN: ("still", 0.1), Step.CUTTING: ("still", 1.0)}
"""What the application writes down at a step, and by how much the kill comes after it at most."""
SCHEDULER = Kind(name="scheduler", told="Airflow's scheduler", hit=lambda *_: True, mend=lambda *_: None)
WITH_TASKS = Kind(name="with-tasks", told="Airflow's scheduler with all tasks at work", hit=lambda *_: True, mend=lambda *_: None)


@dataclass(slots=True)
class DagRun:
    """One run under Airflow, in the form in which the judge looks at a run."""

    airflow: Conductor
    dag: str
    run_id: str
    offset: int
    log: Path
    met: dict[str, float] = field(default_factory=dict)

    @property
    def process(self) -> DagRun:
        """Itself: there is no process of its own to be ended."""
        return self

    def kill(self) -> None:
        """Leave it: Airflow ends with the block."""

    def wait(self) -> None:
        """Nothing is waited for."""

    @property
    def ended(self) -> bool:
        """Say whether Airflow says that it is over."""
        return self.airflow.request("GET", f"/api/v2/dags/{self.dag}/dagRuns/{self.run_id}")["state"] in {"success", "failed"}


def schedulers(airflow: Conductor) -> list[int]:
    """Return the scheduler's process, and after it all that come from it."""
    for pid in descendants(int((airflow.home / "pid").read_text())):
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"scheduler" in words or any(word.startswith(b"airflow scheduler") for word in words):
                return [pid, *(child for child in descendants(pid) if child != pid)]
    raise RuntimeError(f"no scheduler among the processes of {airflow.home}")


def kill_one(scene: Scene, airflow: Conductor, kind: Kind, step: Step, tally: Tally, lot: random.Random) -> None:
    """Let one run meet the death of the scheduler; start Airflow again, and judge."""
    dag = f"becalm_policy_{scene.name}"
    before = len(scene._lines())
    run = DagRun(airflow=airflow, dag=dag, run_id=airflow.trigger(dag), offset=before, log=airflow.home / "standalone.log")
    sign, late = SIGNS[step]
    eventually(lambda: any(stamp.word == sign for stamp in scene.stamps(run)), f"{scene.name} comes to {step}", seconds=SEEN_SECONDS)
    time.sleep(lot.uniform(0, late))
    found = schedulers(airflow)
    moment = time.time()
    for pid in found if kind is WITH_TASKS else found[:1]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    time.sleep(TOO_LATE)
    airflow.stop()
    airflow.start()
    verdict = judge(scene, run)
    tally.add(kind, step_of(scene, run, moment), verdict, f"{run.run_id} in {scene.folder}")


def prove(kills: int, *, seed: int = 0) -> Tally:
    """Kill so often, at each step in turn; at the end a run that nobody disturbs must be application-consistent."""
    tally, lot = Tally(), random.Random(seed)
    with stage(1, under_airflow=True) as (scene,), tempfile.TemporaryDirectory(prefix="becalm-scheduler-") as home:
        given = {**scene.variables, "BECALM_MOVER_IMAGE": scene.image}
        with running_airflow(Path(home), scene.policy_file.parent, given, password=PASSWORD) as airflow:
            dag = f"becalm_policy_{scene.name}"
            airflow.wait_for_dag(dag)
            for number in range(kills):
                kind, step = (SCHEDULER, WITH_TASKS)[number % 2], STEPS[number // 2 % len(STEPS)]
                kill_one(scene, airflow, kind, step, tally, lot)
            state = airflow.wait(dag, airflow.trigger(dag), seconds=180)
            if state != "success":
                tally.bad.append(f"undisturbed, at the end: {state}")
    return tally


def rows(tally: Tally) -> Sequence[str]:
    """Say what came of it."""
    return [
        *(f"{kind.told}: {', '.join(f'{step} {tally.kills[kind.name, step]}' for step in Step)}" for kind in (SCHEDULER, WITH_TASKS)),
        *told(tally)[-1:],
    ]


def main() -> int:
    """Kill, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=6)
    given = parser.parse_args()
    if reason := absent():
        say(reason)
        return 1
    began = time.monotonic()
    tally = prove(given.kills)
    say("\n".join(rows(tally)))
    say(
        f"{(time.monotonic() - began) / 60:.0f} minutes; between freeze and thaw: {sum(tally.kills[key] for key in tally.kills if key[1] in OPEN)}"
    )
    for line in tally.bad:
        say(f"BAD  {line}")
    return 1 if tally.bad else 0


if __name__ == "__main__":
    sys.exit(main())
