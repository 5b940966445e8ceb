"""Missed slots made up for by a real Airflow on PostgreSQL: `missed: latest` beside `missed: all`, over a sandbox cluster and a folder.

    python -m tests.prove.backfill [--slots 30]

Two policies of one schedule, a backfill of the same days for each. What must hold: with `latest` one run makes a recovery point and each other
is skipped, with its reason in the task that was skipped; with `all` each makes one, in the order of the slots, and no two were ever at work
at once. It prints what the runs came to, one JSON document as its last line, and exits with 1 where something did not hold.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from becalm.actions.handover import Trigger
from becalm.airflow.handed import SKIPPED
from becalm.catalog.history import RunRecord, history
from becalm.errors import BecalmError, ClusterUnavailable
from becalm.kube import connect
from becalm.kube.base import Verb
from becalm.kube.kinds import CONFIG_MAP, NAMESPACE
from becalm.repository.reader import init_repository, open_repository
from becalm.sandbox.conductor import Conductor
from becalm.storage import open_store
from becalm.testing.sandbox import running_sandbox
from tests.e2e.database import postgresql

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PROJECT = Path(__file__).parents[2]
PASSWORD = "a password for tests"
MODES = ("latest", "all")
START_SECONDS = 600.0
SLOT_SECONDS = 300.0
"""A run that takes longer than this has stopped."""
POLICY = """\
apiVersion: becalm.dev/v1
kind: ProtectionPolicy
metadata: {{name: make-{mode}}}
spec:
  cluster: sandbox
  schedule: "0 0 * * *"
  missed: {mode}
  select: {{namespaces: [shop]}}
  retention: {{last: 100}}
  target: {{url: "file://{store}", password: "env:BECALM_TEST_PASSWORD"}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One slot in Airflow's grid."""

    slot: datetime
    run: str
    begin: str
    """What became of its first task."""
    others: tuple[str, ...]
    reason: str


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a backfill came to."""

    mode: str
    slots: int
    made: int = 0
    skipped: int = 0
    seconds: float = 0.0
    bad: list[str] = field(default_factory=list)


def judge(mode: str, wanted: int, grid: Sequence[Slot], records: Sequence[RunRecord]) -> Outcome:
    """Hold what Airflow shows and what the repository remembers against what must be."""
    worked = sorted((one for one in records if one.point), key=lambda one: one.started)
    made = [one for one in worked if one.trigger == Trigger.BACKFILL]  # Airflow schedules the newest slot beside it, once, for a new policy
    skipped = [slot for slot in grid if slot.begin == "skipped"]
    found = Outcome(mode=mode, slots=wanted, made=len(made), skipped=len(skipped))
    must_make = wanted if mode == "all" else 1
    if (len(grid), len(made), len(skipped)) != (wanted, must_make, wanted - must_make):
        found.bad.append(f"{len(grid)} runs, {len(made)} points, {len(skipped)} skipped")
    found.bad += [f"{slot.slot}: the run ended {slot.run}" for slot in grid if slot.run != "success"]
    found.bad += [f"{slot.slot}: skipped, and nothing says why" for slot in skipped if "is answered by recovery point" not in slot.reason]
    found.bad += [f"{slot.slot}: skipped, yet tasks ended {slot.others}" for slot in skipped if set(slot.others) != {"skipped"}]
    found.bad += [f"{one.slot}: not a whole recovery point: {one.reasons}" for one in made if not (one.ok and one.complete)]
    if [one.slot for one in made] != [slot.slot for slot in grid if slot.begin == "success"]:
        found.bad.append(f"not in the order of the slots: {[str(one.slot) for one in made]}")
    found.bad += [f"{later.slot} began before {one.slot} had ended" for one, later in pairwise(worked) if later.started < one.ended]
    return found


def runs_of(airflow: Conductor, dag: str) -> list[dict[str, Any]]:
    """Return the runs of a backfill, by slot."""
    found = airflow.request("GET", f"/api/v2/dags/{quote(dag)}/dagRuns?limit=100&order_by=run_after")["dag_runs"]
    return [run for run in found if run["run_type"] == "backfill"]


def grid_of(airflow: Conductor, dag: str) -> list[Slot]:
    """Read the grid as a person sees it: each run, the state of its tasks, and why one was skipped."""
    found = []
    for run in runs_of(airflow, dag):
        states = {task["task_id"]: str(task["state"]) for task in airflow.tasks(dag, run["dag_run_id"])}
        begin = states.pop("begin")
        reason = ""
        if begin == "skipped":
            path = f"/api/v2/dags/{quote(dag)}/dagRuns/{quote(run['dag_run_id'])}/taskInstances/begin/xcomEntries/{SKIPPED}"
            reason = str(airflow.request("GET", path)["value"])
        slot = datetime.fromisoformat(run["run_after"])
        found.append(Slot(slot=slot, run=run["state"], begin=begin, others=tuple(states.values()), reason=reason))
    return found


def backfill(airflow: Conductor, dag: str, *, days: int, now: datetime) -> None:
    """Ask for the last so many midnights, as the page's form does."""
    last = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    asked = {"dag_id": dag, "from_date": (last - timedelta(days=days - 1)).isoformat(), "to_date": last.isoformat(), "max_active_runs": 1}
    airflow.request("POST", "/api/v2/backfills", asked)


def wait(airflow: Conductor, *, slots: int) -> dict[str, float]:
    """Wait until all runs of both backfills have ended; return how long each took."""
    began, ended, told = time.monotonic(), dict[str, float](), ""
    while len(ended) < len(MODES) and time.monotonic() - began < slots * SLOT_SECONDS:
        try:
            states = {mode: Counter(str(run["state"]) for run in runs_of(airflow, f"becalm_policy_make-{mode}")) for mode in MODES}
        except ClusterUnavailable:  # it is busy, and is asked again
            continue
        for mode, count in states.items():
            if count["success"] + count["failed"] >= slots and mode not in ended:
                ended[mode] = time.monotonic() - began
        if (line := "; ".join(f"{mode}: {dict(count)}" for mode, count in states.items())) != told:
            told = line
            print(f"{time.monotonic() - began:6.0f} s  {line}", flush=True)
        time.sleep(1)
    return ended


def prove(home: Path, *, slots: int) -> Iterator[Outcome]:
    """Do it in a folder; yield what each backfill came to."""
    store, policies = home / "store", home / "policies"
    policies.mkdir()
    for mode in MODES:
        (policies / f"make-{mode}.yaml").write_text(POLICY.format(mode=mode, store=store))
        init_repository(open_store(f"file://{store}/make-{mode}", {}, create=True), PASSWORD)
    with running_sandbox(home / "sandbox") as sandbox, postgresql() as database:
        cluster = connect(kubeconfig=str(sandbox.kubeconfig))
        cluster.apply(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}, verb=Verb.CREATE)
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "app", "namespace": "shop"}, "data": {"a": "1"}}
        cluster.apply(CONFIG_MAP, config, verb=Verb.CREATE)
        access = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(sandbox.kubeconfig)}}
        environment = {"AIRFLOW_CONN_SANDBOX": json.dumps(access), "BECALM_POLICIES": str(policies), "BECALM_TEST_PASSWORD": PASSWORD}
        airflow = Conductor(
            home=home / "airflow", dags=PROJECT / "dags", environment=environment, database_url=database, start_seconds=START_SECONDS
        )
        try:
            airflow.start()
            airflow.make_pools()
            for mode in MODES:
                airflow.wait_for_dag(f"becalm_policy_make-{mode}", seconds=START_SECONDS)
                backfill(airflow, f"becalm_policy_make-{mode}", days=slots, now=datetime.now(UTC))
            ended = wait(airflow, slots=slots)
            for mode in MODES:
                repository = open_repository(open_store(f"file://{store}/make-{mode}", {}), PASSWORD)
                now = datetime.now(UTC)
                records = history(repository, since=now - timedelta(days=1), until=now)
                outcome = judge(mode, slots, grid_of(airflow, f"becalm_policy_make-{mode}"), records)
                outcome.seconds = round(ended.get(mode, 0.0), 1)
                yield outcome
        finally:
            airflow.stop()


def main() -> int:
    """Do it, print what came of it, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=30)
    slots = parser.parse_args().slots
    with tempfile.TemporaryDirectory(prefix="becalm-backfill-") as home:
        try:
            outcomes = list(prove(Path(home), slots=slots))
        except BecalmError as error:
            print(error)
            return 1
    for one in outcomes:
        print(f"missed: {one.mode}: {one.slots} slots, {one.made} recovery points, {one.skipped} skipped, {one.seconds} s")
        print("".join(f"  {line}\n" for line in one.bad), end="")
    print(json.dumps({"prove": "backfill", "outcomes": [asdict(one) for one in outcomes]}))
    return 1 if any(one.bad for one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
