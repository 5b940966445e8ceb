"""Drift of ten thousand objects of a real cluster beside their recovery point: nothing changed, then two hundred changed.

    KUBECONFIG=… python -m tests.bench.bench_drift

The objects are those of `bench_restore`. `becalm drift` is a process of its own, measured from its start to its end. Unchanged, it must find
nothing; of the planted changes it must find each, at its place, and nothing else.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from becalm.clock import SystemClock
from becalm.kube import connect
from becalm.kube.base import Verb
from becalm.kube.kinds import CRD
from becalm.kube.wrappers import RetryingCluster
from tests.bench.bench_restore import FULL, PASSWORD, POLICY, QUICK, _create_bare, _lose, _program
from tests.bench.engine_watch import watch
from tests.bench.objects_data import GROUP, everything, prepare

if TYPE_CHECKING:
    from becalm.kube.base import Cluster
    from tests.bench.bench_restore import Again

SECONDS, MEMORY_MEBIBYTES = 30.0, 512
PLANTED = 200
MARK = "bench.example.org/planted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was measured."""

    objects: int
    seconds: tuple[float, ...]
    memory: float
    """MiB, the most of all."""
    false: int
    """Drifts that were told of a cluster that was as it had been saved."""
    planted: int
    found: int
    """Planted changes that were told, with their place."""
    more: int
    """Others that were told beside them."""


def measure(field: Again, *, rounds: int, work: Path) -> Found:
    """Make the objects, capture them, look, change some, look again. What was made is removed."""
    cluster = RetryingCluster(connect(kubeconfig=os.environ["KUBECONFIG"]), SystemClock())
    definitions = {f"{kind.resource}.{GROUP}" for kind in field.served if kind.group == GROUP}
    own = definitions - {item["metadata"]["name"] for item in cluster.list(CRD)}
    with tempfile.TemporaryDirectory(prefix="becalm-drift-", dir=work) as folder:
        try:
            prepare(cluster, field)
            _create_bare(cluster, field)
            objects = _program("capture", folder, field)[0]["objects"]
            calm = [_drift(folder) for _ in range(rounds)]
            wanted = _plant(cluster, field)
            told, seconds, memory = _drift(folder)
        finally:
            _lose(cluster, field)
            for name in own:
                cluster.delete(CRD, name)
    places = {_name(one["ref"]): [each["path"] for each in one["fields"]] for one in told["drifts"]}
    return Found(
        objects=objects,
        seconds=(*(round(one[1], 1) for one in calm), round(seconds, 1)),
        memory=max(memory, *(one[2] for one in calm)),
        false=sum(len(one[0]["drifts"]) for one in calm),
        planted=len(wanted),
        found=sum(any(path.startswith("metadata.annotations") for path in places.get(name, ())) for name in wanted),
        more=len(set(places) - wanted),
    )


def _drift(folder: str) -> tuple[dict[str, Any], float, float]:
    """Return the document, the seconds and the memory. That something drifted is no failure."""
    words = ["--target", f"file://{folder}", "--policy", POLICY, "--password", "env:BECALM_PASSWORD", "--json"]
    command = ["sh", "-c", '"$@"; [ $? -le 1 ]', "sh", sys.executable, "-m", "becalm.cli", "drift", *words]
    seen = watch(command, {**os.environ, "BECALM_PASSWORD": PASSWORD})
    return json.loads(seen.output), seen.seconds, seen.memory


def _plant(cluster: Cluster, field: Again) -> set[str]:
    """Change some objects of all kinds; return which."""
    objects = list(everything(field))
    chosen = objects[:: max(1, len(objects) // PLANTED)][:PLANTED]
    for kind, manifest in chosen:
        place = {key: manifest["metadata"][key] for key in ("name", "namespace") if key in manifest["metadata"]}
        patch = {"metadata": {**place, "annotations": {MARK: "yes"}}}
        cluster.apply(kind, patch, verb=Verb.MERGE)
    return {f"{kind.resource}/{manifest['metadata'].get('namespace')}/{manifest['metadata']['name']}" for kind, manifest in chosen}


def _name(ref: dict[str, Any]) -> str:
    return f"{ref['resource']}/{ref['namespace']}/{ref['name']}"


def main() -> int:
    """Measure, print and judge."""
    found = measure(QUICK if "--quick" in sys.argv else FULL, rounds=2, work=Path("/var/tmp"))
    print(found)
    fine = found.false == found.more == 0 and found.found == found.planted
    return 0 if fine and max(found.seconds) <= SECONDS and found.memory <= MEMORY_MEBIBYTES else 1


if __name__ == "__main__":
    sys.exit(main())
