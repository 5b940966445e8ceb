"""The safety copy: a snapshot of the data that a restore in place is about to replace, kept until a person confirms, or for a month.

It stands in the application's namespace, is of no run, and belongs to the claim whose uid it names. Nothing here reads or writes data.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

from becalm.actions.restore_marks import Mark, Stage, demand_settled, forget
from becalm.clock import Deadline, parse_time
from becalm.errors import Conflict, CutFailed, NotFound
from becalm.kube.base import (
    ANNOTATION_VOLUME,
    LABEL_COPY,
    LABEL_MANAGED,
    LABEL_POLICY,
    LABEL_REPOSITORY,
    LABEL_ROLE,
    MANAGER,
    ROLE_RESTORE,
    Verb,
    owned_by,
    repository_mark,
)
from becalm.kube.cuts import await_cuts, start_cut
from becalm.kube.kinds import CLAIM, SNAPSHOT, SNAPSHOT_CLASS, SNAPSHOT_CONTENT, VOLUME
from becalm.kube.rules import child
from becalm.model import VolumeRef

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from becalm.actions.handover import Ports
    from becalm.kube.base import Cluster
    from becalm.model import Manifest

DEFAULT_CLASS = "snapshot.storage.kubernetes.io/is-default-class"
READY_SECONDS = 900.0
POLL_SECONDS = 0.5
KEPT = timedelta(days=30)
"""How long a copy stays that nobody confirmed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One safety copy."""

    name: str
    volume: VolumeRef
    made: datetime
    uid: str
    content: str = ""
    """Its VolumeSnapshotContent."""


def snapshot_class(cluster: Cluster, claim: Manifest) -> str:
    """Return the snapshot class that can copy a claim's volume: the default of its driver, or any. Nothing: there is none."""
    name = str(child(claim, "spec").get("volumeName") or "")
    if not name:
        return ""
    try:
        driver = child(cluster.get(VOLUME, name), "spec", "csi").get("driver")
        classes = list(cluster.list(SNAPSHOT_CLASS))
    except NotFound:
        return ""
    fitting = [one for one in classes if driver and one.get("driver") == driver]
    fitting.sort(key=lambda one: (child(one, "metadata", "annotations").get(DEFAULT_CLASS) != "true", one["metadata"]["name"]))
    return str(fitting[0]["metadata"]["name"]) if fitting else ""


def copy_name(run: str, uid: str) -> str:
    """Return the name of the copy that a restore makes of a claim."""
    return f"becalm-before-{run}-{sha256(uid.encode()).hexdigest()[:10]}"


def cut(volume: VolumeRef, uid: str, class_name: str, ports: Ports, *, policy: str, run: str) -> str:
    """Copy a claim's data, or adopt the copy that this restore made; return its name when it is whole. Raises: CutFailed, and what is transient."""
    cluster, clock = ports.cluster, ports.clock
    labels = {**owned_by(policy, run, ROLE_RESTORE, repository=ports.store.url), LABEL_COPY: uid}
    started = start_cut(cluster, clock, volume=volume, snapshot_class=class_name, name=copy_name(run, uid), labels=labels)
    (facts,) = await_cuts(cluster, clock, [started], timeout_seconds=READY_SECONDS)
    where, hint = f"volumesnapshots/{volume.namespace}/{facts.name}", "see the storage driver's log; nothing was replaced"
    if facts.error:
        raise CutFailed(facts.error, where=where, hint=hint)
    deadline = Deadline(clock, READY_SECONDS)
    while not child(cluster.get(SNAPSHOT, facts.name, namespace=volume.namespace), "status").get("readyToUse"):
        if deadline.passed():
            raise CutFailed(f"the copy of the old data is not whole after {READY_SECONDS:.0f} s", where=where, hint=hint)
        ports.progress(f"waiting for the copy of the old data of {volume}")
        clock.sleep(POLL_SECONDS)
    return facts.name


def copies(policy: str, ports: Ports, *, namespace: str | None = None) -> tuple[Copy, ...]:
    """Return the safety copies of a policy's restores. Raises what the cluster raises; a cluster without snapshots has none."""
    return tuple(_read(found) for found in _snapshots(policy, ports, namespace))


def expired(policy: str, ports: Ports, *, now: datetime) -> tuple[Copy, ...]:
    """Return the copies that nobody has confirmed within a month. One of a claim that is half written is all there is of its data, and stays."""
    found = [copy for copy in copies(policy, ports) if copy.made < now - KEPT]
    if not found:
        return ()
    marks = [Mark.of(claim) for claim in _marked(policy, ports, None)]
    needed = {mark.copy for mark in marks if mark.stage is not Stage.DONE}
    return tuple(copy for copy in found if copy.name not in needed)


def let_go(found: Iterable[Copy], ports: Ports) -> tuple[Copy, ...]:
    """Delete safety copies; return them. Idempotent. Raises: AccessDenied, and what is transient."""
    gone = tuple(found)
    for copy in gone:
        if copy.content:
            _own_its_content(ports.cluster, copy.content)
        with suppress(Conflict):  # another one of its name, made since
            ports.cluster.delete(SNAPSHOT, copy.name, namespace=copy.volume.namespace, uid=copy.uid)
    return gone


def confirm(policy: str, ports: Ports, *, namespace: str | None = None) -> tuple[Copy, ...]:
    """Accept what was restored in place: the marks of the claims go, then the copies. Raises: Conflict (one is being written), AccessDenied."""
    for claim in _marked(policy, ports, namespace):
        demand_settled(claim)
        forget(ports.cluster, claim)
    return let_go(copies(policy, ports, namespace=namespace), ports)


def _marked(policy: str, ports: Ports, namespace: str | None) -> list[Manifest]:
    """Return the claims that a policy's restore has replaced the data of."""
    found = [claim for claim in ports.cluster.list(CLAIM, namespace=namespace) if Mark.of(claim).policy == policy]
    return sorted(found, key=lambda claim: (claim["metadata"]["namespace"], claim["metadata"]["name"]))


def _snapshots(policy: str, ports: Ports, namespace: str | None) -> Iterator[Manifest]:
    ours = f"{LABEL_MANAGED}={MANAGER},{LABEL_POLICY}={policy},{LABEL_REPOSITORY}={repository_mark(ports.store.url)}"
    labels = f"{ours},{LABEL_ROLE}={ROLE_RESTORE},{LABEL_COPY}"
    try:
        yield from ports.cluster.list(SNAPSHOT, namespace=namespace, labels=labels)
    except NotFound:
        return


def _read(found: Manifest) -> Copy:
    metadata = found["metadata"]
    claim = str(
        child(found, "spec", "source").get("persistentVolumeClaimName") or child(metadata, "annotations").get(ANNOTATION_VOLUME, "")
    )
    return Copy(
        name=metadata["name"],
        volume=VolumeRef(namespace=metadata["namespace"], claim=claim),
        made=parse_time(metadata["creationTimestamp"]),
        uid=metadata["uid"],
        content=str(child(found, "status").get("boundVolumeSnapshotContentName") or ""),
    )


def _own_its_content(cluster: Cluster, name: str) -> None:
    """See that the storage's snapshot goes with the copy, where the class would keep it."""
    with suppress(NotFound):
        if child(cluster.get(SNAPSHOT_CONTENT, name), "spec").get("deletionPolicy") == "Retain":
            cluster.apply(SNAPSHOT_CONTENT, {"metadata": {"name": name}, "spec": {"deletionPolicy": "Delete"}}, verb=Verb.MERGE)
