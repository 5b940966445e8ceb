"""Ten thousand objects of a real cluster: planned, restored into it again, beside bare creation of the same objects with the same client.

    KUBECONFIG=… python -m tests.bench.bench_restore --objects 10000 --rounds 3

A round makes the objects over sixteen connections and does nothing else (the bare creation), loses them with their namespaces, plans and
restores them, and loses them again. They are captured once, in the first round. The restore is a process of its own; its memory is that of
the process. The definitions of custom resources stay where they are: creating them is not what is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from becalm.actions import listing, restore
from becalm.actions.handover import Ports, Settings
from becalm.actions.restore import Action, RestoreRequest
from becalm.catalog.points import tags_of
from becalm.clock import SystemClock
from becalm.kube import connect
from becalm.kube.base import Verb
from becalm.kube.kinds import CRD, NAMESPACE
from becalm.kube.wrappers import RetryingCluster
from becalm.model import RecoveryPoint
from becalm.policy.spec import Selection
from becalm.repository.format import SnapshotDoc
from becalm.repository.reader import init_repository, open_repository
from becalm.repository.snapshots import save_snapshot
from becalm.repository.writer import Writer
from becalm.storage import open_store
from tests.bench.engine_watch import Measured, watch
from tests.bench.objects_data import GROUP, Field, everything, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.kube.base import Cluster
    from becalm.storage.base import ObjectStore

PASSWORD, POLICY = "bench", "bench"
CONNECTIONS = 16
PLAN_SECONDS = 10.0
OBJECTS_A_SECOND = 500
MEMORY_MEBIBYTES = 512
PREFIX = f"becalm-again-{uuid4().hex[:4]}-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Again(Field):
    """Objects in namespaces of this measurement alone."""

    prefix: str = PREFIX

    @property
    def names(self) -> list[str]:
        """The namespaces."""
        return [f"{self.prefix}{number:03d}" for number in range(self.namespaces)]


FULL, QUICK = Again(objects=10_000, kinds=13, namespaces=20), Again(objects=1_000, kinds=13, namespaces=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was measured, round by round."""

    objects: int
    plans: tuple[float, ...]
    restores: tuple[float, ...]
    bare: tuple[float, ...]
    """Seconds of the bare creation."""
    memory: float
    """MiB, the most of all restores."""

    @property
    def plan(self) -> float:
        """The median of the plans' seconds."""
        return statistics.median(self.plans)

    @property
    def rate(self) -> float:
        """Restored objects a second."""
        return self.objects / statistics.median(self.restores)

    @property
    def bare_rate(self) -> float:
        """Objects a second, created and nothing else."""
        return self.objects / statistics.median(self.bare)


def compare(field: Again, *, rounds: int, work: Path) -> Found:
    """Make, lose, plan, restore, lose; as often as asked. What was made is removed."""
    cluster = RetryingCluster(connect(kubeconfig=os.environ["KUBECONFIG"]), SystemClock())
    definitions = {f"{kind.resource}.{GROUP}" for kind in field.served if kind.group == GROUP}
    own = definitions - {item["metadata"]["name"] for item in cluster.list(CRD)}
    told: list[tuple[dict[str, Any], Measured]] = []
    bare: list[float] = []
    with tempfile.TemporaryDirectory(prefix="becalm-restore-", dir=work) as folder:
        try:
            for _ in range(rounds):
                prepare(cluster, field)
                bare.append(_create_bare(cluster, field))
                if not told:
                    captured = _program("capture", folder, field)[0]["objects"]
                    if captured < field.objects:
                        raise SystemExit(f"{captured} of {field.objects} objects were captured")
                _lose(cluster, field)
                told.append(_program("restore", folder, field))
                _lose(cluster, field)
        finally:
            _lose(cluster, field)
            for name in own:
                cluster.delete(CRD, name)
    return Found(
        objects=told[0][0]["created"],
        plans=tuple(round(one["plan"], 2) for one, _ in told),
        restores=tuple(round(one["restore"], 2) for one, _ in told),
        bare=tuple(round(seconds, 2) for seconds in bare),
        memory=max(seen.memory for _, seen in told),
    )


def _create_bare(cluster: Cluster, field: Again) -> float:
    """Create every object over sixteen connections; return the seconds."""
    objects = list(everything(field))
    began = time.monotonic()
    with ThreadPoolExecutor(max_workers=CONNECTIONS) as pool:
        for _ in pool.map(lambda one: cluster.apply(one[0], one[1], verb=Verb.CREATE), objects):
            pass
    return time.monotonic() - began


def _lose(cluster: Cluster, field: Again) -> None:
    """Delete the namespaces with all that is in them, and wait until they are gone."""
    for name in field.names:
        cluster.delete(NAMESPACE, name)
    while any(item["metadata"]["name"].startswith(field.prefix) for item in cluster.list(NAMESPACE)):
        time.sleep(0.5)


def _program(what: str, folder: str, field: Again) -> tuple[dict[str, Any], Measured]:
    command = [sys.executable, "-m", "tests.bench.bench_restore", "--inner", what, folder, field.prefix, str(field.namespaces)]
    seen = watch(command, os.environ)
    return json.loads(seen.output.splitlines()[-1]), seen


def _store(folder: str) -> ObjectStore:
    return open_store(f"file://{folder}/{POLICY}", {}, create=True)


def capture(folder: str, names: tuple[str, ...]) -> dict[str, Any]:
    """Write the objects of some namespaces into a new repository, as one recovery point."""
    cluster, clock = connect(kubeconfig=os.environ["KUBECONFIG"]), SystemClock()
    repository = init_repository(_store(folder), PASSWORD)
    scope = listing.Scope(namespaces=names, selection=Selection(namespaces=names))
    with Writer(repository) as writer:
        revision = cluster.list(NAMESPACE, page_size=1).revision
        listed = listing.execute(scope, revision=revision, cluster=cluster, writer=writer, clock=clock)
        writer.flush()
    point = RecoveryPoint(id="", policy=POLICY, cut=clock.now(), tree=listed.tree, run="bench")
    save_snapshot(
        open_repository(_store(folder), PASSWORD),
        SnapshotDoc(time=point.cut, tree=listed.tree, paths=("/",), hostname="bench", username="becalm", tags=tags_of(point)),
    )
    return {"objects": listed.objects}


def restore_all(folder: str) -> dict[str, Any]:
    """Plan and restore the latest recovery point, whole."""
    clock = SystemClock()
    cluster = RetryingCluster(connect(kubeconfig=os.environ["KUBECONFIG"]), clock)
    ports = Ports(cluster=cluster, store=_store(folder), password=PASSWORD, clock=clock, settings=Settings(cluster_name="bench"))
    request = RestoreRequest(policy=POLICY)
    began = time.monotonic()
    plan = restore.prepare(request, ports)
    planned = time.monotonic()
    report = restore.execute(plan, request, ports)
    ended = time.monotonic()
    if report.failures or report.created != len(plan.steps_to(Action.CREATE)):
        raise SystemExit(f"not all was restored: {report.created} of {len(plan.steps)}, {report.failures[:3]}")
    return {"plan": planned - began, "restore": ended - planned, "created": report.created}


def _inner(what: str, folder: str, prefix: str, namespaces: str) -> Iterator[str]:
    field = Again(objects=0, namespaces=int(namespaces), prefix=prefix)
    yield json.dumps(capture(folder, tuple(field.names)) if what == "capture" else restore_all(folder))


def main() -> int:
    """Measure, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=FULL.objects)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"))
    parser.add_argument("--inner", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inner:
        print(*_inner(*given.inner))
        return 0
    found = compare(Again(objects=given.objects, kinds=FULL.kinds, namespaces=FULL.namespaces), rounds=given.rounds, work=given.work)
    print(f"{found.objects} objects: planned in {found.plans} s, restored in {found.restores} s: {found.rate:.0f} a second")
    print(f"bare creation over {CONNECTIONS} connections: {found.bare} s, {found.bare_rate:.0f} a second; memory {found.memory:.0f} MiB")
    good = found.plan <= PLAN_SECONDS and found.rate >= OBJECTS_A_SECOND and found.memory <= MEMORY_MEBIBYTES
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
