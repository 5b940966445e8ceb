"""Cutting several volumes at one instant: one VolumeGroupSnapshot, read by what the storage reports of all its members at once.

The API chooses claims by their labels. Here nothing is written to anybody's claim: the selector is the caller's, and whether it means
exactly the volumes was decided before. The VolumeSnapshots that the controller makes of a group come seconds later, and are not waited
for: the group's content tells the handle and the instant of each volume.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from becalm.errors import AccessDenied, AlreadyExists, CutFailed, NotFound
from becalm.kube.base import LABEL_RUN, Verb
from becalm.kube.kinds import GROUP_CONTENT, GROUP_SNAPSHOT
from becalm.kube.snapshot_facts import SnapshotFacts, complaint, from_nanoseconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from becalm.kube.base import Cluster
    from becalm.model import Manifest, VolumeRef


def start_group(
    cluster: Cluster,
    *,
    volumes: Mapping[VolumeRef, str],
    selector: Mapping[str, Any],
    group_class: str,
    name: str,
    labels: Mapping[str, str],
) -> tuple[SnapshotFacts, ...]:
    """Ask for one cut of volumes of one namespace, or adopt what this run asked for before. `volumes` gives the storage's name of each.

    Raises: AlreadyExists (one of that name belongs to something else), CutFailed (an earlier try of it failed, or is going), NotFound
    (groups are not served), AccessDenied, and what is transient.
    """
    (namespace,) = {volume.namespace for volume in volumes}
    wanted: Manifest = {
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "spec": {"volumeGroupSnapshotClassName": group_class, "source": {"selector": dict(selector)}},
    }
    adopted = False
    try:
        found = cluster.apply(GROUP_SNAPSHOT, wanted, verb=Verb.CREATE)
    except AlreadyExists:
        found, adopted = _adopt(cluster, wanted), True
    return tuple(
        SnapshotFacts(
            volume=volume,
            name="",
            uid=found["metadata"]["uid"],
            run=labels.get(LABEL_RUN, ""),
            group=name,
            volume_handle=handle,
            adopted=adopted,
        )
        for volume, handle in volumes.items()
    )


def _adopt(cluster: Cluster, wanted: Manifest) -> Manifest:
    """Return the group that stands there if it is of this run and sound."""
    metadata = wanted["metadata"]
    where = f"{GROUP_SNAPSHOT}/{metadata['namespace']}/{metadata['name']}"
    found = cluster.get(GROUP_SNAPSHOT, metadata["name"], namespace=metadata["namespace"])
    mine = (found["metadata"].get("labels") or {}).get(LABEL_RUN) == metadata["labels"].get(LABEL_RUN)
    if not mine or found["spec"].get("source") != wanted["spec"]["source"]:
        raise AlreadyExists("a group snapshot of that name stands there and is not this run's", where=where, hint="remove it")
    if found["metadata"].get("deletionTimestamp") or complaint(found.get("status") or {}):
        raise CutFailed("an earlier try of this group failed", where=where)
    return found


def look_at_groups(cluster: Cluster, pending: Sequence[SnapshotFacts]) -> list[SnapshotFacts]:
    """Read what is known of volumes that are cut in groups, each group once. Raises: AccessDenied, and what is transient."""
    looked: list[SnapshotFacts] = []
    for namespace, group in sorted({(item.volume.namespace, item.group) for item in pending}):
        members = [item for item in pending if (item.volume.namespace, item.group) == (namespace, group)]
        looked += _see(cluster, namespace, group, members)
    return looked


def _see(cluster: Cluster, namespace: str, name: str, members: Sequence[SnapshotFacts]) -> list[SnapshotFacts]:
    try:
        group: Manifest | None = cluster.get(GROUP_SNAPSHOT, name, namespace=namespace)
    except NotFound:
        group = None
    if group is None or any(item.uid != group["metadata"]["uid"] for item in members):
        return [replace(item, error="the group snapshot was deleted while it was being cut") for item in members]
    status = group.get("status") or {}
    bound = status.get("boundVolumeGroupSnapshotContentName") or ""
    try:
        content: Manifest = cluster.get(GROUP_CONTENT, bound) if bound else {}
    except NotFound:
        content = {}
    except AccessDenied as error:
        return [replace(item, error=f"the content of the group snapshot cannot be read: {error.message}") for item in members]
    return read_group(status, content, members)


def read_group(status: Mapping[str, Any], content: Manifest, members: Sequence[SnapshotFacts]) -> list[SnapshotFacts]:
    """Read the status of a group and of its content. Pure. A group that was cut without one of the volumes has not cut that one."""
    inner = content.get("status") or {}
    by_handle = {str(entry.get("volumeHandle")): entry for entry in inner.get("volumeSnapshotInfoList") or []}
    if not by_handle:
        error = complaint(status) or complaint(inner)
        return [replace(item, error=error) for item in members] if error else list(members)
    driver = str((content.get("spec") or {}).get("driver") or "")
    return [_member(item, by_handle.get(item.volume_handle), driver) for item in members]


def _member(item: SnapshotFacts, entry: Mapping[str, Any] | None, driver: str) -> SnapshotFacts:
    if entry is None:
        return replace(item, error="the group was cut without this volume")
    moment = entry.get("creationTime")
    return replace(
        item,
        driver=driver,
        handle=str(entry.get("snapshotHandle") or ""),
        created=from_nanoseconds(moment) if isinstance(moment, int) else None,
        ready=bool(entry.get("readyToUse")),
        restore_bytes=int(entry.get("restoreSize") or 0),
    )
