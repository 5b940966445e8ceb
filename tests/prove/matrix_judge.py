"""What must hold after a kill: thawed in time, nothing left, and no label that promises more than the two volumes show."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from becalm.actions import reap
from becalm.actions.handover import Ports, Settings
from becalm.catalog.points import points
from becalm.clock import SystemClock
from becalm.errors import BecalmError, NotFound, TransientError
from becalm.kube.base import LABEL_MANAGED, LABEL_RUN, MANAGER
from becalm.kube.kinds import CLAIM, GROUP_SNAPSHOT, POD, SECRET, SNAPSHOT, SNAPSHOT_CONTENT
from becalm.kube.wrappers import RetryingCluster
from becalm.model import Consistency
from becalm.repository import lease
from becalm.repository.reader import open_repository
from becalm.repository.tree import lookup
from tests.prove.kills import Later
from tests.prove.matrix_scene import LENIENT_SECONDS, PASSWORD, TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.prove.matrix_scene import Run, Scene

END_SECONDS = 300.0
"""How long a run that was not killed may take to its end."""
SETTLE_SECONDS = 120.0
GONE_SECONDS = 660.0
"""What is being deleted goes when its driver tries again: the side cars wait up to five minutes after a failure, and queue what they ask
the server (seen: 361 s). Two of these are waited for."""
STILL_THERE = "is still there"
LATER_DAYS = 1000 / 86_400
"""The reaper sees what it would see a little more than a lease later."""


@dataclass(slots=True)
class Verdict:
    """What one kill came to."""

    frozen_seconds: float = 0.0
    """The longest time that the application stood still."""
    problems: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    """Of the recovery points that came out of the run."""
    torn: int = 0
    """Points whose two volumes hold two numbers."""


def judge(scene: Scene, run: Run) -> Verdict:
    """Look at everything once the dust has settled: what was killed stands again."""
    verdict = Verdict()
    _demand_thaw(scene, run, verdict)
    _demand_end(run, verdict)
    if not _wait(scene.is_ready, SETTLE_SECONDS):
        verdict.problems.append("the application did not become ready again")
    _reap(scene, verdict)
    if not _wait(scene.writes, 10.0):
        verdict.problems.append("the application stands still after a reaper")
    verdict.frozen_seconds = max((item.ended - item.began for item in scene.stillnesses(run)), default=0.0)
    if verdict.frozen_seconds > TIMEOUT_SECONDS + LENIENT_SECONDS:
        verdict.problems.append(f"the application stood still for {verdict.frozen_seconds:.1f} s")
    left: list[str] = []
    if not _wait(lambda: not _look(scene, run, left), GONE_SECONDS):
        verdict.problems.append(f"left behind: {', '.join(left)}")
    _compare(scene, run, verdict)
    _let_the_lease_end(scene)
    return verdict


def _demand_thaw(scene: Scene, run: Run, verdict: Verdict) -> None:
    """Wait until it goes on by itself, before anybody reaps."""
    over = lambda: all(item.over for item in scene.stillnesses(run))  # noqa: E731  (used twice, here)
    if not _wait(over, TIMEOUT_SECONDS + 60.0):
        verdict.problems.append("the application did not go on by itself within a minute of its time")


def _demand_end(run: Run, verdict: Verdict) -> None:
    """Wait until the run is over; one that does not end is ended."""
    if not _wait(lambda: run.ended, END_SECONDS):
        verdict.problems.append(f"the run did not end: {run.log.read_text(errors='replace')[-300:]}")
        run.process.kill()
    run.process.wait()


def ports(scene: Scene) -> Ports:
    """Return the ports of whoever comes when the lease of a dead run is over."""
    settings = Settings(cluster_name="matrix", namespace=scene.variables["BECALM_NAMESPACE"])
    cluster = RetryingCluster(scene.cluster, SystemClock())
    return Ports(cluster=cluster, store=Later(scene.store(), LATER_DAYS), password=PASSWORD, clock=SystemClock(), settings=settings)


def _reap(scene: Scene, verdict: Verdict) -> None:
    """Reap once, as a quarter of an hour later. What is transient is the cluster's: then it is the next one that counts."""
    for attempt in range(10):
        try:
            done = reap.execute(reap.plan(scene.policy, ports(scene)), scene.policy, ports(scene))
        except TransientError as error:
            if attempt == 9:
                verdict.problems.append(f"no reaper came to its end: {error}")
            SystemClock().sleep(5.0)
            continue
        except BecalmError as error:
            verdict.problems.append(f"the reaper failed: {error}")
            return
        found = [
            str(finding) for finding in done.findings if STILL_THERE not in finding.message
        ]  # those are looked for until they are gone
        verdict.problems += [f"the reaper found: {problem}" for problem in (*done.frozen, *found)]
        return


def _look(scene: Scene, run: Run, left: list[str]) -> list[str]:
    """Name what is still there of a run, also what carries no label: contents and volumes that its objects were bound to."""
    left.clear()
    try:
        left += _leftovers(scene, run)
    except BecalmError as error:
        left.append(f"the cluster does not say: {error}")
    return left


def _leftovers(scene: Scene, run: Run) -> Iterator[str]:
    key = scene.key(run.run_id)
    for kind in (POD, CLAIM, SNAPSHOT, SNAPSHOT_CONTENT, GROUP_SNAPSHOT, SECRET):
        for found in scene.cluster.list(kind, labels=f"{LABEL_MANAGED}={MANAGER},{LABEL_RUN}={key}"):
            yield f"{kind}/{found['metadata']['name']}"
    for found in scene.cluster.list(SNAPSHOT, namespace=scene.name):
        yield f"{SNAPSHOT}/{found['metadata']['name']}"
    for found in scene.cluster.list(SNAPSHOT_CONTENT):
        if found["spec"]["volumeSnapshotRef"].get("namespace") == scene.name or f"becalm-{key}" in found["metadata"]["name"]:
            yield f"{SNAPSHOT_CONTENT}/{found['metadata']['name']}"


def _compare(scene: Scene, run: Run, verdict: Verdict) -> None:
    """Read both counters of every recovery point of the run, and hold its label against them."""
    repository = open_repository(scene.store(), PASSWORD)
    for point in points(repository, scene.name):
        if point.run != scene.key(run.run_id):
            continue
        try:
            counters = [
                b"".join(repository.read_file(lookup(repository, point.tree, f"volumes/{scene.name}/{claim}/counter"))) for claim in "ab"
            ]
        except NotFound:
            if point.complete:
                verdict.problems.append(f"recovery point {point.id[:8]} is complete, and a volume is not in it")
            continue
        verdict.labels.append(str(point.consistency))
        if counters[0] != counters[1]:
            verdict.torn += 1
            if point.consistency is Consistency.APPLICATION:
                numbers = [int.from_bytes(counter, "big") for counter in counters]
                verdict.problems.append(f"a false label: recovery point {point.id[:8]} is application-consistent and holds {numbers}")


def _let_the_lease_end(scene: Scene) -> None:
    """Let the lease of a dead run be over, as it would be by itself a quarter of an hour later."""
    store = scene.store()
    held = lease.read(store)
    if held and held.held(store.now()):
        lease.release(store, run=held.run, epoch=held.epoch)


def _wait(look: object, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not look():  # type: ignore[operator]
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
