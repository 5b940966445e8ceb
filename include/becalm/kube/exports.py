"""Making a cut readable away from its application, and ending everything temporary that a run made of it.

A cut is bound a second time, by its handle, into Becalm's own namespace: a pre-provisioned VolumeSnapshotContent that is retained, a
VolumeSnapshot for it, and a temporary claim. Deleting those never touches the storage's snapshot; only deleting the snapshot in the
application's namespace does. Names derive from the run, so that what exists is adopted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from becalm.clock import Deadline
from becalm.errors import AlreadyExists, CutFailed
from becalm.kube.base import ANNOTATION_VOLUME, LABEL_RUN, Kind, Verb
from becalm.kube.kinds import CLAIM, SNAPSHOT, SNAPSHOT_CONTENT
from becalm.kube.snapshot_facts import quantity
from becalm.model import VolumeMode, VolumeRef

if TYPE_CHECKING:
    from collections.abc import Mapping

    from becalm.clock import Clock
    from becalm.kube.base import Cluster
    from becalm.model import Manifest

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
ERROR_PATIENCE_SECONDS = 30.0
"""How long a complaint of the storage may stand before it counts: drivers try again by themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A readable cut: the claim that a mover mounts. It is provisioned when the mover comes, where its class waits for that."""

    volume: VolumeRef
    namespace: str
    claim: str
    size_bytes: int
    mode: VolumeMode = VolumeMode.FILESYSTEM


def bind(
    cluster: Cluster,
    clock: Clock,
    *,
    volume: VolumeRef,
    handle: str,
    driver: str,
    snapshot_class: str,
    storage_class: str,
    mode: VolumeMode,
    size_bytes: int,
    namespace: str,
    name: str,
    labels: Mapping[str, str],
    timeout_seconds: float,
) -> Bound:
    """Bind a cut into a namespace of ours, wait until the storage says it is readable, and make a claim of it. Idempotent.

    `name` names all three objects; one of them is cluster-scoped, so it must derive from run and volume.
    Raises: CutFailed (not readable in time, or refused), AlreadyExists (a name is taken by something else), AccessDenied.
    """
    where = f"volumesnapshots/{namespace}/{name}"
    if not handle or not driver:
        raise CutFailed("the cut has no handle, so nothing can be read from it", where=str(volume))
    marks = {"labels": dict(labels), "annotations": {ANNOTATION_VOLUME: str(volume)}}
    content = {
        "metadata": {"name": name, **marks},
        "spec": {
            "deletionPolicy": "Retain",
            "driver": driver,
            "source": {"snapshotHandle": handle},
            "sourceVolumeMode": str(mode),
            "volumeSnapshotClassName": snapshot_class,
            "volumeSnapshotRef": {"name": name, "namespace": namespace},
        },
    }
    snapshot = {
        "metadata": {"name": name, "namespace": namespace, **marks},
        "spec": {"source": {"volumeSnapshotContentName": name}, "volumeSnapshotClassName": snapshot_class},
    }
    _make(cluster, SNAPSHOT_CONTENT, content)
    _make(cluster, SNAPSHOT, snapshot)
    restore_bytes = _await_ready(cluster, clock, namespace=namespace, name=name, where=where, timeout_seconds=timeout_seconds)
    size = max(restore_bytes, size_bytes)
    claim = {
        "metadata": {"name": name, "namespace": namespace, **marks},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "dataSource": {"apiGroup": SNAPSHOT.group, "kind": SNAPSHOT.kind, "name": name},
            "resources": {"requests": {"storage": str(size)}},
            "storageClassName": storage_class,
            "volumeMode": str(mode),
        },
    }
    _make(cluster, CLAIM, claim)
    return Bound(volume=volume, namespace=namespace, claim=name, size_bytes=size, mode=mode)


def _make(cluster: Cluster, kind: Kind, manifest: Manifest) -> Manifest:
    """Create an object, or adopt the one that this run made before. Raises: AlreadyExists, CutFailed (it is being deleted)."""
    try:
        return cluster.apply(kind, manifest, verb=Verb.CREATE)
    except AlreadyExists:
        metadata = manifest["metadata"]
        found = cluster.get(kind, metadata["name"], namespace=metadata.get("namespace"))
    where = f"{kind}/{metadata['name']}"
    mine = (found["metadata"].get("labels") or {}).get(LABEL_RUN) == metadata["labels"].get(LABEL_RUN)
    same = all(found["spec"].get(field) == manifest["spec"][field] for field in ("source",) if field in manifest["spec"])
    if not mine or not same:
        raise AlreadyExists("it stands there and is not this run's", where=where, hint="remove it")
    if found["metadata"].get("deletionTimestamp"):
        raise CutFailed("what an earlier try made is still being deleted", where=where)
    return found


def _await_ready(cluster: Cluster, clock: Clock, *, namespace: str, name: str, where: str, timeout_seconds: float) -> int:
    """Wait until the snapshot is readable; return the size that a volume made from it needs. Raises: CutFailed."""
    deadline, pause = Deadline(clock, timeout_seconds), FIRST_PAUSE_SECONDS
    complaint, since = "", clock.monotonic()
    while True:
        status = cluster.get(SNAPSHOT, name, namespace=namespace).get("status") or {}
        if status.get("readyToUse"):
            return quantity(status.get("restoreSize"))
        said = str((status.get("error") or {}).get("message") or "")
        if said != complaint:
            complaint, since = said, clock.monotonic()
        if complaint and clock.monotonic() - since >= ERROR_PATIENCE_SECONDS:
            raise CutFailed(f"the storage does not make the snapshot readable: {complaint}", where=where)
        if deadline.passed():
            raise CutFailed(
                f"the snapshot was not readable within {timeout_seconds:g} s" + (f": {complaint}" if complaint else ""), where=where
            )
        clock.sleep(min(pause, deadline.left()))
        pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)
