"""Very many objects of a real cluster, captured at one revision, beside only reading the same lists with the same client.

    KUBECONFIG=… python -m tests.bench.bench_objects --objects 100000 --rounds 3
    KUBECONFIG=… python -m tests.bench.bench_objects --clean

The objects are made where they are not there yet, and stay for the next run; `--clean` removes them. The repository is in the bucket
that AWS_ENDPOINT_URL and its keys name, else in a folder. Both programs run as processes of their own; their memory is that of the
process and its children together. Between the first and the second capture one object of five hundred is changed.
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
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from becalm.actions import listing
from becalm.clock import SystemClock
from becalm.kube import connect
from becalm.kube.base import Verb
from becalm.kube.kinds import NAMESPACE
from becalm.policy.spec import Selection
from becalm.repository.reader import init_repository, open_repository
from becalm.repository.writer import Writer
from becalm.storage import CREDENTIALS, open_store
from tests.bench.engine_watch import Measured, watch
from tests.bench.objects_data import LABEL, PREFIX, Field, make, remove
from tests.bench.stand import bucket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.kube.base import Cluster

PASSWORD = "bench"
FULL, QUICK = Field(objects=100_000), Field(objects=10_000)
ALLOWED_RATIO = 2.0
MEMORY_MEBIBYTES = 512
ALLOWED_SHARE = 0.02
CHANGED = 500
"""One object of so many is changed between two captures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was measured, the medians of all rounds."""

    objects: int
    bytes_read: int
    reading: float
    """Seconds."""
    capture: float
    again: float
    ratios: tuple[float, ...]
    memory: float
    """MiB, the most of all captures."""
    reading_memory: float
    added: int
    added_again: int

    @property
    def ratio(self) -> float:
        """The seconds of a capture over those of the bare reading."""
        return statistics.median(self.ratios)

    @property
    def share(self) -> float:
        """What the second capture stored, of the first."""
        return self.added_again / self.added


def compare(field: Field, *, rounds: int, work: Path) -> Found:
    """Make the objects, read them, capture them twice into a new repository, as often as asked."""
    cluster = connect(kubeconfig=os.environ["KUBECONFIG"])
    print(f"becalm: {field.objects} objects are there after {make(cluster, field):.0f} s", flush=True)
    reads: list[tuple[dict[str, Any], Measured]] = []
    first: list[tuple[dict[str, Any], Measured]] = []
    second: list[tuple[dict[str, Any], Measured]] = []
    for turn in range(rounds):
        with _target(work) as target:
            init_repository(_store(target), PASSWORD)
            reads.append(_program("read"))
            first.append(_program("capture", target))
            _change(cluster, field, turn)
            second.append(_program("capture", target))
    return Found(
        objects=first[0][0]["objects"],
        bytes_read=first[0][0]["bytes"],
        reading=statistics.median(told["seconds"] for told, _ in reads),
        capture=statistics.median(told["seconds"] for told, _ in first),
        again=statistics.median(told["seconds"] for told, _ in second),
        ratios=tuple(round(captured["seconds"] / read["seconds"], 2) for (read, _), (captured, _) in zip(reads, first, strict=True)),
        memory=max(seen.memory for _, seen in (*first, *second)),
        reading_memory=max(seen.memory for _, seen in reads),
        added=first[0][0]["added"],
        added_again=max(told["added"] for told, _ in second),
    )


def _program(*what: str) -> tuple[dict[str, Any], Measured]:
    seen = watch([sys.executable, "-m", "tests.bench.bench_objects", "--inner", *what], os.environ)
    return json.loads(seen.output.splitlines()[-1]), seen


def _change(cluster: Cluster, field: Field, turn: int) -> None:
    """Change one object of many, each time in another way."""
    kinds = [kind for kind in field.served if kind.group.endswith("bench.becalm.dev")]
    left = field.objects // CHANGED
    for kind in kinds:
        for item in cluster.list(kind, labels=LABEL, page_size=50):
            if not left:
                return
            metadata = {"name": item["metadata"]["name"], "namespace": item["metadata"]["namespace"]}
            cluster.apply(kind, {"metadata": {**metadata, "annotations": {"turn": f"{turn} {time.time()}"}}}, verb=Verb.MERGE)
            left -= 1
            if left % max(1, field.objects // CHANGED // len(kinds)) == 0:
                break


@contextmanager
def _target(work: Path) -> Iterator[str]:
    known = {name: os.environ[name] for name in CREDENTIALS if name in os.environ}
    if "AWS_ENDPOINT_URL" in known:
        with bucket(known) as name:
            yield f"s3://{name}/prod"
    else:
        with tempfile.TemporaryDirectory(prefix="becalm-objects-", dir=work) as folder:
            yield f"file://{folder}/prod"


def _store(target: str) -> Any:
    known = {name: os.environ[name] for name in CREDENTIALS if name in os.environ}
    return open_store(target, known, create=target.startswith("file:"), clock=SystemClock())


def _scope(cluster: Cluster) -> listing.Scope:
    names = tuple(item["metadata"]["name"] for item in cluster.list(NAMESPACE) if item["metadata"]["name"].startswith(PREFIX))
    return listing.Scope(namespaces=names, selection=Selection(namespaces=(f"{PREFIX}*",)))


def read() -> dict[str, Any]:
    """Make the same lists, and throw away what they bring."""
    cluster = connect(kubeconfig=os.environ["KUBECONFIG"])
    scope = _scope(cluster)
    revision = cluster.list(NAMESPACE, page_size=1).revision
    began = time.monotonic()
    wanted, _ = listing.jobs(cluster.discover().kinds, scope, wide=True)
    with ThreadPoolExecutor(max_workers=listing.LISTS_AT_ONCE) as pool:
        objects = sum(pool.map(lambda job: sum(1 for _ in cluster.list(job.kind, revision=revision)), wanted))
    return {"seconds": time.monotonic() - began, "objects": objects}


def capture(target: str) -> dict[str, Any]:
    """Capture them into the repository."""
    cluster = connect(kubeconfig=os.environ["KUBECONFIG"])
    scope = _scope(cluster)
    store = _store(target)
    revision = cluster.list(NAMESPACE, page_size=1).revision
    began = time.monotonic()
    with Writer(open_repository(store, PASSWORD)) as writer:
        listed = listing.execute(scope, revision=revision, cluster=cluster, writer=writer, clock=SystemClock())
        written = writer.flush()
    seconds = time.monotonic() - began
    if listed.findings or listed.listed_again or listed.revision != revision:
        raise SystemExit(f"not all was captured at one revision: {listed.findings} {listed.listed_again}")
    return {"seconds": seconds, "objects": listed.objects, "added": written.bytes_added, "bytes": listed.bytes_total}


def main() -> int:
    """Measure, print, and judge; or clean up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=FULL.objects)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"))
    parser.add_argument("--clean", action="store_true", help="remove the objects, and do nothing else")
    parser.add_argument("--inner", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inner:
        print(json.dumps(read() if given.inner[0] == "read" else capture(given.inner[1])))
        return 0
    field = Field(objects=given.objects)
    if given.clean:
        remove(connect(kubeconfig=os.environ["KUBECONFIG"]), field)
        return 0
    found = compare(field, rounds=given.rounds, work=given.work)
    print(f"{found.objects} objects, {found.bytes_read / 1e6:.0f} MB")
    print(f"bare reading {found.reading:.2f} s, {found.reading_memory:.0f} MiB")
    print(f"capture      {found.capture:.2f} s, {found.memory:.0f} MiB at most; ratios {found.ratios}; {found.added / 1e6:.1f} MB stored")
    print(f"once more    {found.again:.2f} s; {found.added_again / 1e6:.2f} MB stored, {100 * found.share:.2f} %")
    good = found.ratio <= ALLOWED_RATIO and found.memory <= MEMORY_MEBIBYTES and found.share <= ALLOWED_SHARE
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
