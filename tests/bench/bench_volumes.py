"""Many volumes in one policy: how many movers work side by side, and what Airflow's workers do meanwhile.

    python -m tests.bench.bench_volumes --volumes 20 --size 1024

Every volume is as large as it is told and holds a few files: what is measured is the procedure and not the disk. While the policy
runs in Airflow, its mover pods and its tasks are counted over and over. A task that waits for its mover should be deferred, which holds no worker.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from becalm.airflow.retries import MOVERS_POOL
from becalm.airflow.setup import POOLS
from becalm.kube.base import LABEL_POLICY, LABEL_ROLE
from becalm.kube.kinds import POD
from tests.bench.stand import PASSWORD, absent, bucket, variables
from tests.e2e.airflow import running_airflow
from tests.e2e.harness import World, becalm, eventually, gone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.sandbox.conductor import Conductor

POLICY = "many"
DAG = f"becalm_policy_{POLICY}"
PAUSE_SECONDS = 0.5
IMAGE = "becalm.dev/busybox:1"
FILL = 'for folder in /data/*; do for n in 1 2 3 4 5 6 7 8; do head -c 131072 /dev/urandom >"$folder/file-$n"; done; done; sync; touch /tmp/ready; sleep 36000'


@dataclass(slots=True)
class Seen:
    """What was counted while the policy ran."""

    movers: list[int] = field(default_factory=list)
    """Mover pods that were there and had not ended, at each look."""
    working: list[int] = field(default_factory=list)
    """Uploads that held a worker, at each look at which a mover was there."""


@contextmanager
def application(world: World, *, volumes: int, size: int) -> Iterator[str]:
    """Make a namespace with so many filled volumes; return its name."""
    name = f"becalm-bench-{uuid4().hex[:6]}"
    world.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    claims = [f"data-{number:02}" for number in range(volumes)]
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": f"{size}Mi"}}}
    for claim in claims:
        metadata = {"name": claim, "labels": {"app": "many"}}
        world.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}, name)
    container = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", FILL],
        "readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1},
        "volumeMounts": [{"name": claim, "mountPath": f"/data/{claim}"} for claim in claims],
    }
    mounted = [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims]
    pod = {"containers": [container], "volumes": mounted, "terminationGracePeriodSeconds": 1}
    world.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "many", "labels": {"app": "many"}}, "spec": pod}, name)
    try:
        world.ready(name, "app=many", seconds=600)
        yield name
    finally:
        kind = world.kinds["v1/Namespace"]
        world.cluster.delete(kind, name)
        eventually(lambda: gone(lambda: world.cluster.get(kind, name)), f"namespace {name} is gone", seconds=600)


def policy(namespace: str, place: str) -> str:
    """Return the policy's text."""
    target = {"url": f"s3://{place}/many", "connection": "becalm_s3", "password": "becalm_repository"}
    spec = {"cluster": "kubernetes_default", "environment": "test", "select": {"namespaces": [namespace]}, "target": target}
    return json.dumps({"apiVersion": "becalm.dev/v1", "kind": "ProtectionPolicy", "metadata": {"name": POLICY}, "spec": spec})


def watch(world: World, airflow: Conductor, run: str, *, seconds: float) -> Seen:
    """Count until the run has ended, and demand that it succeeded."""
    seen = Seen()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        tasks = airflow.tasks(DAG, run)
        pods = world.cluster.list(POD, labels=f"{LABEL_POLICY}={POLICY},{LABEL_ROLE}=mover")
        alive = sum((pod.get("status") or {}).get("phase") in {"Pending", "Running"} for pod in pods)
        if alive:
            seen.movers.append(alive)
            seen.working.append(sum(task["task_id"] == "upload" and task["state"] == "running" for task in tasks))
        if any(task["task_id"] == "finish" and task["state"] in {"success", "failed"} for task in tasks):
            break
        time.sleep(PAUSE_SECONDS)
    state = airflow.wait(DAG, run, seconds=60)
    assert state == "success", airflow.failures(DAG, run)
    return seen


def measure(*, volumes: int, size: int, seconds: float) -> dict[str, Any]:
    """Protect so many volumes once; return what was seen."""
    given = variables()
    world = World.connect(given["KUBECONFIG"])
    with (
        tempfile.TemporaryDirectory(prefix="becalm-bench-") as folder,
        bucket(given) as place,
        application(world, volumes=volumes, size=size) as namespace,
    ):
        policies = Path(folder) / "policies"
        policies.mkdir()
        file = policies / f"{POLICY}.yaml"
        file.write_text(policy(namespace, place))
        becalm("init", str(file), environment=given)
        with running_airflow(Path(folder) / "airflow", policies, given, password=PASSWORD) as airflow:
            airflow.wait_for_dag(DAG)
            began = time.monotonic()
            seen = watch(world, airflow, airflow.trigger(DAG), seconds=seconds)
            took = time.monotonic() - began
        described = becalm("show", str(file), environment=given)
    captured = described["description"]["volumes"]
    assert len(captured) == volumes, f"{len(captured)} of {volumes} volumes were captured"
    return {
        "bench": "volumes",
        "volumes": volumes,
        "seconds": round(took, 1),
        "pool": POOLS[MOVERS_POOL]["slots"],
        "movers": max(seen.movers, default=0),
        "working": round(sum(seen.working) / max(1, len(seen.working)), 2),
        "groups": len({item["group"] for cut in described["description"]["applications"] for item in cut["volumes"]} - {""}),
    }


def main() -> int:
    """Measure, print, and judge: the pool is used whole, and for most of the time no worker is held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volumes", type=int, default=20)
    parser.add_argument("--size", type=int, default=1024, help="MiB of each volume")
    parser.add_argument("--seconds", type=float, default=1800, help="the longest that the run may take")
    given = parser.parse_args()
    if reason := absent():
        print(reason)
        return 1
    row = measure(volumes=given.volumes, size=given.size, seconds=given.seconds)
    print(
        f"{row['volumes']} volumes in {row['seconds']} s: at most {row['movers']} movers side by side (the pool has {row['pool']}), "
        f"{row['working']} workers held by uploads on average, {row['groups']} group snapshots"
    )
    print(json.dumps(row))
    return 0 if row["movers"] == min(row["pool"], row["volumes"]) and row["working"] < row["movers"] else 1


if __name__ == "__main__":
    sys.exit(main())
