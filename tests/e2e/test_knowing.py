"""What Becalm knows of a real cluster, by Airflow's own runs: what drifted, what nothing covers, and one report on all of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from becalm.kube.base import Verb
from becalm.sandbox.conductor import Conductor
from tests.e2e.harness import World, becalm, write_policy


def settled(airflow: Conductor, dag: str) -> None:
    """Run a DAG to its success."""
    run = airflow.trigger(dag)
    state = airflow.wait(dag, run, seconds=300, report=print)
    assert state == "success", airflow.failures(dag, run)


def test_drift_and_coverage_are_looked_at_remembered_and_reported(
    world: World, airflow: Conductor, bucket: str, folder: Path, namespace: str, environment: dict[str, str]
) -> None:
    """A setting is changed by hand: it has drifted, is acknowledged, and is quiet; a namespace that nothing covers is open."""
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"level": "1"}}
    world.create(settings, namespace)
    lines = [
        "apiVersion: becalm.dev/v1",
        "kind: ProtectionPolicy",
        "metadata: {name: knowing}",
        "spec:",
        "  cluster: kubernetes_default",
        f"  select: {{namespaces: [{namespace}]}}",
        '  drift: {schedule: "30 6 1 1 *"}',
        f'  target: {{url: "s3://{bucket}/knowing", connection: becalm_s3, password: becalm_repository}}',
    ]
    policy = write_policy(folder / "policies" / "knowing.yaml", lines)
    becalm("init", str(policy), environment=environment)
    becalm("run", str(policy), environment=environment)
    airflow.wait_for_dag("becalm_drift_knowing")
    settled(airflow, "becalm_drift_knowing")
    calm = becalm("drifts", str(policy), environment=environment)
    changed = {**settings, "metadata": {"name": "settings", "namespace": namespace}, "data": {"level": "2"}}
    world.cluster.apply(world.kind(settings), changed, verb=Verb.MERGE)
    settled(airflow, "becalm_drift_knowing")
    drifted = becalm("drifts", str(policy), environment=environment, code=1)
    day = (datetime.now(UTC) + timedelta(days=30)).date().isoformat()
    where = f"configmaps/{namespace}/settings"
    done = becalm("acknowledge", str(policy), where, "--until", day, environment=environment)
    settled(airflow, "becalm_drift_knowing")
    quiet = becalm("drifts", str(policy), environment=environment)
    settled(airflow, "becalm_coverage")
    reports = folder / "reports"
    reports.mkdir()
    becalm("report", str(policy), "--to", str(reports), environment=environment, code=5)
    written = json.loads(next(reports.glob("*.json")).read_bytes())
    said = {one["what"]: one for part in (*written["policies"], *written["clusters"]) for one in part["statements"]}

    assert calm["open"] == []
    assert [(one["where"], one["what"]) for one in drifted["open"]] == [(where, "medium changed")]
    assert done["objects"] == [where]
    assert (quiet["open"], [one["where"] for one in quiet["quiet"]]) == ([], [where])
    assert said["restores proven by drills"]["grade"] == "unknown"
    assert said["age of the last good recovery point"]["grade"] == "not asked for"
    assert said["state that is covered"]["figures"]["missing"] is not None
