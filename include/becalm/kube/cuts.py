"""Cutting volumes: VolumeSnapshots made side by side, and waited for only until the storage reports the instant of the cut.

Here nothing is thawed, and nothing is deleted but a failed snapshot of the same run, which the next try replaces.

It asks again in short steps instead of watching: the account that cuts may list and get, and has no right to watch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from becalm.clock import Deadline
from becalm.errors import AccessDenied, AlreadyExists, ClusterUnavailable, CutFailed, NotFound, Throttled
from becalm.kube.base import LABEL_RUN, Verb
from becalm.kube.groups import look_at_groups
from becalm.kube.kinds import SNAPSHOT, SNAPSHOT_CONTENT
from becalm.kube.snapshot_facts import SnapshotFacts, complaint, read

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from becalm.clock import Clock
    from becalm.kube.base import Cluster
    from becalm.model import Manifest, VolumeRef

FAST_SECONDS = 0.05
"""Between two looks while an application is frozen."""
SLOW_SECONDS = 0.25
PATIENCE_SECONDS = 5.0
"""How long one looks often: a cut is a matter of a moment, or of a slow storage."""
REPLACE_SECONDS = 10.0


def start_cut(
    cluster: Cluster, clock: Clock, *, volume: VolumeRef, snapshot_class: str, name: str, labels: Mapping[str, str]
) -> SnapshotFacts:
    """Ask for a snapshot of a claim, or adopt the one that this run asked for before; a failed one of this run is replaced.

    Raises: AlreadyExists (one of that name belongs to something else), NotFound, AccessDenied, and what is transient.
    """
    wanted: Manifest = {
        "metadata": {"name": name, "namespace": volume.namespace, "labels": dict(labels)},
        "spec": {"volumeSnapshotClassName": snapshot_class, "source": {"persistentVolumeClaimName": volume.claim}},
    }
    adopted = False
    try:
        found = cluster.apply(SNAPSHOT, wanted, verb=Verb.CREATE)
    except AlreadyExists:
        found, adopted = _adopt(cluster, clock, wanted)
    run = labels.get(LABEL_RUN, "")
    return SnapshotFacts(volume=volume, name=name, uid=found["metadata"]["uid"], run=run, snapshot_class=snapshot_class, adopted=adopted)


def await_cuts(cluster: Cluster, clock: Clock, started: Iterable[SnapshotFacts], *, timeout_seconds: float) -> tuple[SnapshotFacts, ...]:
    """Wait until each is cut, has failed, or the time is over; return the facts in the order given.

    An API server that does not answer for a moment is asked again until the time is over. Raises: AccessDenied.
    """
    facts = {item.volume: item for item in started}
    deadline, often = Deadline(clock, timeout_seconds), Deadline(clock, PATIENCE_SECONDS)
    trouble = ""
    while pending := [item for item in facts.values() if not item.created and not item.error]:
        try:
            facts |= {item.volume: item for item in _look(cluster, pending)}
            trouble = ""
        except (ClusterUnavailable, Throttled) as error:
            trouble = f"; the last look failed: {error}"
        if deadline.passed() or all(item.created or item.error for item in facts.values()):
            break
        clock.sleep(min(SLOW_SECONDS if often.passed() else FAST_SECONDS, deadline.left()))
    late = f"the storage did not report a cut within {timeout_seconds:g} s{trouble}"
    return tuple(_failed(item, late) for item in facts.values())


def cut(
    cluster: Cluster,
    clock: Clock,
    *,
    volume: VolumeRef,
    snapshot_class: str,
    name: str,
    labels: Mapping[str, str],
    timeout_seconds: float,
) -> SnapshotFacts:
    """Cut one volume; return as soon as the storage reports `creationTime`. Raises: CutFailed, and as `start_cut`."""
    started = start_cut(cluster, clock, volume=volume, snapshot_class=snapshot_class, name=name, labels=labels)
    (facts,) = await_cuts(cluster, clock, [started], timeout_seconds=timeout_seconds)
    if facts.error:
        raise CutFailed(facts.error, where=f"volumesnapshots/{volume.namespace}/{name}", hint="see the storage driver's log")
    return facts


def _look(cluster: Cluster, pending: Sequence[SnapshotFacts]) -> list[SnapshotFacts]:
    """Read the pending snapshots, one LIST per namespace however many there are; a group is read by itself."""
    looked = look_at_groups(cluster, [item for item in pending if item.group])
    single = [item for item in pending if not item.group]
    for namespace in sorted({item.volume.namespace for item in single}):
        asked = [item for item in single if item.volume.namespace == namespace]
        runs = {item.run for item in asked}
        labels = f"{LABEL_RUN} in ({','.join(sorted(runs))})" if all(runs) else ""
        present = {entry["metadata"]["name"]: entry for entry in cluster.list(SNAPSHOT, namespace=namespace, labels=labels)}
        looked += [_see(cluster, item, present.get(item.name)) for item in asked]
    return looked


def _see(cluster: Cluster, facts: SnapshotFacts, snapshot: Manifest | None) -> SnapshotFacts:
    if snapshot is None or snapshot["metadata"]["uid"] != facts.uid:
        return _failed(facts, "the snapshot was deleted while it was being cut")
    seen = read(snapshot, None, facts)
    if not seen.content:
        return seen
    try:
        return read(snapshot, cluster.get(SNAPSHOT_CONTENT, seen.content), facts)
    except (NotFound, AccessDenied):
        return seen


def _adopt(cluster: Cluster, clock: Clock, wanted: Manifest) -> tuple[Manifest, bool]:
    """Return the snapshot that stands there if it is of this run and sound; replace it if it failed or is going."""
    name, namespace = wanted["metadata"]["name"], wanted["metadata"]["namespace"]
    found = cluster.get(SNAPSHOT, name, namespace=namespace)
    mine = (found["metadata"].get("labels") or {}).get(LABEL_RUN) == wanted["metadata"]["labels"].get(LABEL_RUN)
    if not mine or found["spec"].get("source") != wanted["spec"]["source"]:
        raise AlreadyExists(
            "a snapshot of that name stands there and is not this run's", where=f"volumesnapshots/{namespace}/{name}", hint="remove it"
        )
    status = found.get("status") or {}
    going = bool(found["metadata"].get("deletionTimestamp"))
    if not going and (status.get("creationTime") or not complaint(status)):
        return found, True
    cluster.delete(SNAPSHOT, name, namespace=namespace, uid=found["metadata"]["uid"])
    deadline = Deadline(clock, REPLACE_SECONDS)
    while True:
        try:
            return cluster.apply(SNAPSHOT, wanted, verb=Verb.CREATE), False
        except AlreadyExists:
            if deadline.passed():
                raise CutFailed("a failed snapshot does not go away", where=f"volumesnapshots/{namespace}/{name}") from None
            clock.sleep(FAST_SECONDS)


def _failed(facts: SnapshotFacts, reason: str) -> SnapshotFacts:
    """Add the reason where there is neither a cut nor a reason yet."""
    return facts if facts.created or facts.error else replace(facts, error=reason)
