"""Many volumes in one policy: how many movers work side by side, and what Airflow's workers do meanwhile.

    python -m tests.bench.bench_volumes --volumes 20 --size 1024 --data 32

Every volume is as large as it is told and holds as much data: what is measured is the procedure and not the disk. While the policy runs in Airflow,
its mover pods and its tasks are counted over and over, and the processor time of the scheduler's children, which are the workers, is read
before and after. A task that waits for its mover should be deferred, which holds no worker.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from becalm.airflow.retries import MOVERS_POOL
from becalm.airflow.setup import POOLS
from becalm.errors import ClusterUnavailable
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
FILES = 8
FILL = (
    'for folder in /data/*; do for n in $(seq {files}); do head -c {size} /dev/urandom >"$folder/file-$n"; done; done; sync; '
    "touch /tmp/ready; sleep 36000"
)
IDLE = 0.5
"""Workers are idle where they take less than this part of one processor while movers work."""


@dataclass(slots=True)
class Seen:
    """What was counted while the policy ran."""

    movers: list[int] = field(default_factory=list)
    """Mover pods that were there and had not ended, at each look."""
    working: list[int] = field(default_factory=list)
    """Uploads that held a worker, at each look at which a mover was there."""
    began: float = 0.0
    ended: float = 0.0
    """When a mover was seen first, and last."""
    worked: list[float] = field(default_factory=list)
    """The workers' seconds of processor, at each such look."""

    @property
    def moving(self) -> float:
        """For how many seconds movers were there."""
        return self.ended - self.began

    @property
    def share(self) -> float:
        """The part of one processor that the workers took meanwhile."""
        return (self.worked[-1] - self.worked[0]) / self.moving if self.moving else 0.0


@dataclass(frozen=True, slots=True)
class Process:
    """What the kernel tells of a process."""

    parent: int
    own: int
    """Ticks of its own."""
    ended: int
    """Ticks of its children that have ended."""


def processes() -> dict[int, Process]:
    """Return all that there are."""
    found: dict[int, Process] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError, ValueError):  # it has ended meanwhile
            words = (folder / "stat").read_text().rpartition(")")[2].split()
            ticks = [int(word) for word in words[11:15]]
            found[int(folder.name)] = Process(parent=int(words[1]), own=ticks[0] + ticks[1], ended=ticks[2] + ticks[3])
    return found


def worker_seconds(root: int) -> float:
    """Return the processor time of all children of Airflow's scheduler so far, those that have ended too."""
    found = processes()

    def below(pid: int) -> list[int]:
        children = [child for child, process in found.items() if process.parent == pid]
        return [*children, *(deeper for child in children for deeper in below(child))]

    schedulers = [pid for pid in below(root) if _is_scheduler(pid)]
    top = [pid for pid in schedulers if found[pid].parent not in schedulers]
    ticks = sum(found[pid].ended + sum(found[child].own + found[child].ended for child in below(pid)) for pid in top)
    return ticks / os.sysconf("SC_CLK_TCK")


def _is_scheduler(pid: int) -> bool:
    try:
        return b"scheduler" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@contextmanager
def application(world: World, *, volumes: int, size: int, data: int) -> Iterator[str]:
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
        "command": ["sh", "-c", FILL.format(files=FILES, size=data * 2**20 // FILES)],
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
    """Count until the run has ended, and demand that it succeeded in that time."""
    seen, root = Seen(), int((airflow.home / "pid").read_text())
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            tasks = airflow.tasks(DAG, run)
        except ClusterUnavailable:  # a busy machine: the next look may be answered
            continue
        pods = world.cluster.list(POD, labels=f"{LABEL_POLICY}={POLICY},{LABEL_ROLE}=mover")
        alive = sum((pod.get("status") or {}).get("phase") in {"Pending", "Running"} for pod in pods)
        if alive:
            seen.began, seen.ended = seen.began or time.monotonic(), time.monotonic()
            seen.worked.append(worker_seconds(root))
            seen.movers.append(alive)
            seen.working.append(sum(task["task_id"] == "upload" and task["state"] == "running" for task in tasks))
        if any(task["task_id"] == "finish" and task["state"] in {"success", "failed"} for task in tasks):
            break
        time.sleep(PAUSE_SECONDS)
    state = airflow.wait(DAG, run, seconds=60)
    assert state == "success", airflow.failures(DAG, run)
    return seen


def measure(*, volumes: int, size: int, data: int, seconds: float) -> dict[str, Any]:
    """Protect so many volumes once; return what was seen."""
    given = variables()
    world = World.connect(given["KUBECONFIG"])
    with (
        tempfile.TemporaryDirectory(prefix="becalm-bench-") as folder,
        bucket(given) as place,
        application(world, volumes=volumes, size=size, data=data) as namespace,
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
        "size": size,
        "data": data,
        "seconds": round(took, 1),
        "pool": POOLS[MOVERS_POOL]["slots"],
        "movers": max(seen.movers, default=0),
        "moving": round(seen.moving, 1),
        "share": round(seen.share, 2),
        "working": round(sum(seen.working) / max(1, len(seen.working)), 2),
        "groups": len({item["group"] for cut in described["description"]["applications"] for item in cut["volumes"]} - {""}),
    }


def main() -> int:
    """Measure, print, and judge: the pool is used whole, and for most of the time no worker is held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volumes", type=int, default=20)
    parser.add_argument("--size", type=int, default=1024, help="MiB of each volume")
    parser.add_argument("--data", type=int, default=32, help="MiB that each volume holds")
    parser.add_argument("--seconds", type=float, default=420, help="the longest that the run may take")
    given = parser.parse_args()
    if reason := absent():
        print(reason)
        return 1
    row = measure(volumes=given.volumes, size=given.size, data=given.data, seconds=given.seconds)
    print(
        f"{row['volumes']} volumes in {row['seconds']} s: at most {row['movers']} movers side by side (the pool has {row['pool']}), "
        f"for {row['moving']} s; {row['working']} uploads held a worker on average, the workers took {row['share']} of one processor; "
        f"{row['groups']} group snapshots"
    )
    print(json.dumps(row))
    return 0 if row["movers"] == min(row["pool"], row["volumes"]) and row["share"] < IDLE else 1


if __name__ == "__main__":
    sys.exit(main())
