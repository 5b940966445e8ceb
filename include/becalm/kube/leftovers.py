"""The decided end of everything temporary that a run made around volumes: found by the run's label, deleted by uid, in an order that leaks nothing.

It deletes nothing without the label of that very run, and knows nothing of Secrets.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from becalm.clock import Deadline, parse_time
from becalm.errors import AccessDenied, Conflict, NotFound
from becalm.kube.base import LABEL_MANAGED, LABEL_ROLE, LABEL_RUN, MANAGER, ROLE_RESTORE, Kind, Verb
from becalm.kube.kinds import CLAIM, GROUP_CONTENT, GROUP_SNAPSHOT, POD, SNAPSHOT, SNAPSHOT_CONTENT
from becalm.model import ResourceRef

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from becalm.clock import Clock
    from becalm.kube.base import Cluster
    from becalm.model import Manifest

PAUSE_SECONDS = 0.25
POD_GRACE_SECONDS = 5
UNSETTLED_SECONDS = 120.0
"""For how long after a group was asked for its controller may still be making its members. Deleted meanwhile, it would leave them for ever."""
SOURCE_PROTECTION = "provisioner.storage.kubernetes.io/volumesnapshot-as-source-protection"
"""The provisioner's, while it makes a claim of a snapshot. Where the claim goes meanwhile, it forgets to take it away."""


def discard(
    cluster: Cluster,
    clock: Clock,
    *,
    run: str,
    namespace: str,
    application_namespaces: Sequence[str] | None = None,
    timeout_seconds: float = 60,
) -> tuple[ResourceRef, ...]:
    """Delete the pods, claims, snapshots and contents of a run in Becalm's namespace, then its pods and snapshots in those of the applications.

    A mover that reads a volume live runs beside the application. The snapshots that a group is made of go with the group. Idempotent;
    what is not there is fine. Without application namespaces all are searched. Returns what is still there when the time is over: a next
    sweep finds it again. Raises: AccessDenied (of a list), and what is transient.
    """
    if not run:
        raise ValueError("a run has a key: without one this would mean the objects of all runs")
    places: list[tuple[Kind, str | None]] = [(POD, namespace), (CLAIM, namespace), (SNAPSHOT, namespace), (SNAPSHOT_CONTENT, None)]
    elsewhere: Sequence[str | None] = [None] if application_namespaces is None else list(dict.fromkeys(application_namespaces))
    places += [(kind, one) for kind in (POD, SNAPSHOT, GROUP_SNAPSHOT) for one in elsewhere]
    left: dict[ResourceRef, None] = {}
    for kind, place in places:
        for found in _of_run(cluster, kind, run, namespace=place):
            if not _is_unsettled(cluster, kind, found, clock):
                _delete(cluster, kind, found)
            left[_ref(kind, found)] = None
    deadline = Deadline(clock, timeout_seconds)
    while left:
        there = [(kind, found) for kind, place in places for found in _of_run(cluster, kind, run, namespace=place)]
        _press(cluster, clock, there)
        left = {_ref(kind, found): None for kind, found in there}
        if not left or deadline.passed():
            break
        clock.sleep(min(PAUSE_SECONDS, deadline.left()))
    return tuple(left)


def _press(cluster: Cluster, clock: Clock, there: Sequence[tuple[Kind, Manifest]]) -> None:
    """Go on with what does not go by itself: groups that have settled meanwhile, and snapshots that the provisioner has forgotten."""
    claims_are_gone = all(kind is not CLAIM for kind, _ in there)
    for kind, found in there:
        if kind is GROUP_SNAPSHOT and not found["metadata"].get("deletionTimestamp") and not _is_unsettled(cluster, kind, found, clock):
            _delete(cluster, kind, found)
        elif kind is SNAPSHOT and claims_are_gone and _is_forgotten(found):
            _let_go(cluster, found)


def _of_run(cluster: Cluster, kind: Kind, run: str, *, namespace: str | None) -> Iterator[Manifest]:
    """Yield the objects of a run; a cluster without snapshots has none."""
    try:
        yield from cluster.list(
            kind, namespace=namespace, labels=f"{LABEL_MANAGED}={MANAGER},{LABEL_RUN}={run},{LABEL_ROLE}!={ROLE_RESTORE}"
        )
    except NotFound:
        return


def _delete(cluster: Cluster, kind: Kind, found: Manifest) -> None:
    """Delete that object and no other of its name. A retained cut would stay in the storage for ever: its content is told to delete it."""
    metadata = found["metadata"]
    if kind is SNAPSHOT and not _release(cluster, found):
        return
    try:
        cluster.delete(
            kind,
            metadata["name"],
            namespace=metadata.get("namespace"),
            uid=metadata["uid"],
            grace_seconds=POD_GRACE_SECONDS if kind is POD else None,
        )
    except Conflict:
        return


def _is_unsettled(cluster: Cluster, kind: Kind, found: Manifest, clock: Clock) -> bool:
    """Say whether a group's controller is still at work on it. One that failed, or that takes too long, is not waited for.

    A group is ready before it has its finalizer, and without that its content would stay behind. It is ready before its members are, too: the
    controller that forgets the group then never lets go of them.
    """
    status = found.get("status") or {}
    if kind is not GROUP_SNAPSHOT or status.get("error"):
        return False
    if status.get("readyToUse") and found["metadata"].get("finalizers") and _has_its_members(cluster, found):
        return False
    asked = found["metadata"].get("creationTimestamp")
    return bool(asked) and (clock.now() - parse_time(asked)).total_seconds() < UNSETTLED_SECONDS


def _has_its_members(cluster: Cluster, group: Manifest) -> bool:
    """Say whether every snapshot of a group is there and ready. How many there must be, its content says."""
    metadata, bound = group["metadata"], (group.get("status") or {}).get("boundVolumeGroupSnapshotContentName") or ""
    wanted = 0
    with suppress(NotFound, AccessDenied):
        content = cluster.get(GROUP_CONTENT, bound) if bound else {}
        wanted = len((content.get("status") or {}).get("volumeSnapshotInfoList") or ())
    members = [
        member
        for member in cluster.list(SNAPSHOT, namespace=metadata["namespace"])
        if any(owner.get("uid") == metadata["uid"] for owner in member["metadata"].get("ownerReferences") or ())
    ]
    return len(members) >= wanted and all((member.get("status") or {}).get("readyToUse") for member in members)


def _is_forgotten(snapshot: Manifest) -> bool:
    """Say whether a snapshot that is being deleted waits for nobody but the provisioner."""
    metadata = snapshot["metadata"]
    return bool(metadata.get("deletionTimestamp")) and metadata.get("finalizers") == [SOURCE_PROTECTION]


def _let_go(cluster: Cluster, snapshot: Manifest) -> None:
    """Take the provisioner's finalizer away: the claims of the run are gone, and only they were made of its snapshots."""
    metadata = snapshot["metadata"]
    marks = {key: metadata[key] for key in ("name", "namespace", "resourceVersion")} | {"finalizers": []}
    with suppress(Conflict, NotFound, AccessDenied):
        cluster.apply(SNAPSHOT, {"metadata": marks}, verb=Verb.MERGE)


def _release(cluster: Cluster, snapshot: Manifest) -> bool:
    """Make sure that the storage's snapshot goes with a cut of ours. False: it may not be done, so the cut stays and is reported."""
    made_from_claim = "persistentVolumeClaimName" in (snapshot["spec"].get("source") or {})
    name = (snapshot.get("status") or {}).get("boundVolumeSnapshotContentName")
    if not made_from_claim or not name:
        return True
    try:
        content = cluster.get(SNAPSHOT_CONTENT, name)
    except (NotFound, AccessDenied):
        return True
    ours = content["spec"].get("volumeSnapshotRef", {}).get("uid") == snapshot["metadata"]["uid"]
    if ours and content["spec"].get("deletionPolicy") == "Retain":
        try:
            cluster.apply(SNAPSHOT_CONTENT, {"metadata": {"name": name}, "spec": {"deletionPolicy": "Delete"}}, verb=Verb.MERGE)
        except AccessDenied:
            return False
    return True


def _ref(kind: Kind, found: Manifest) -> ResourceRef:
    return ResourceRef(
        group=kind.group, resource=kind.resource, namespace=found["metadata"].get("namespace"), name=found["metadata"]["name"]
    )
