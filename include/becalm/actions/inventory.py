"""What a cluster holds that a policy might mean: namespaces, pods, claims, volumes and classes, each listed once and kept as a few facts.

It reads and decides nothing. Pods and claims are read per selected namespace where those are few, and for the whole cluster where
they are many.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from becalm.actions.pods import claims_of, is_over
from becalm.errors import AccessDenied, NotFound
from becalm.kube.kinds import CLAIM, GROUP_CLASS, NAMESPACE, POD, SNAPSHOT_CLASS, STORAGE_CLASS, VOLUME
from becalm.kube.snapshots import quantity
from becalm.model import Finding, VolumeMode, VolumeRef

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from becalm.kube.base import Cluster, Kind
    from becalm.model import Manifest

Fact = TypeVar("Fact")
FEW_NAMESPACES = 16
"""Up to so many selected namespaces are listed one by one."""
HOOK_PREFIXES = ("quiesce.becalm.dev/", "pre.hook.backup.velero.io/", "post.hook.backup.velero.io/")
DEFAULT_SNAPSHOT_CLASS = "snapshot.storage.kubernetes.io/is-default-class"
DEFAULT_GROUP_CLASS = "groupsnapshot.storage.kubernetes.io/is-default-class"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceFacts:
    """One namespace."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    terminating: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFacts:
    """One pod that has not ended: where it runs, what it mounts, and the hooks it brings."""

    namespace: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    node: str = ""
    running: bool = False
    claims: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Only those that speak of hooks."""
    containers: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    """What it keeps outside claims and on no other object: `hostPath /var/lib/x`, `emptyDir cache`, `nfs shared`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimFacts:
    """One claim."""

    namespace: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    bound: bool = False
    terminating: bool = False
    volume: str = ""
    storage_class: str = ""
    mode: VolumeMode = VolumeMode.FILESYSTEM
    size_bytes: int = 0
    access: tuple[str, ...] = ()
    """Its access modes, as Kubernetes spells them."""
    lost: bool = False
    """It was bound to a volume that is gone."""

    @property
    def ref(self) -> VolumeRef:
        """What it is called everywhere else."""
        return VolumeRef(namespace=self.namespace, claim=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotClass:
    """One VolumeSnapshotClass, or one VolumeGroupSnapshotClass."""

    name: str
    driver: str
    default: bool = False
    retains: bool = False
    """What is cut by it stays in the storage when its object goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """All of it. `driver_of` and `handle_of` map the name of a PersistentVolume, `provisioner_of` that of a StorageClass."""

    namespaces: tuple[NamespaceFacts, ...] = ()
    pods: tuple[PodFacts, ...] = ()
    claims: tuple[ClaimFacts, ...] = ()
    driver_of: Mapping[str, str] = field(default_factory=dict)
    handle_of: Mapping[str, str] = field(default_factory=dict)
    provisioner_of: Mapping[str, str] = field(default_factory=dict)
    snapshot_classes: tuple[SnapshotClass, ...] = ()
    group_classes: tuple[SnapshotClass, ...] = ()
    findings: tuple[Finding, ...] = ()
    """What could not be read."""
    cluster_uid: str = ""
    server_version: str = ""


def namespaces(cluster: Cluster) -> tuple[NamespaceFacts, ...]:
    """List every namespace. Raises: AccessDenied, and what is transient."""
    return tuple(
        NamespaceFacts(
            name=item["metadata"]["name"],
            labels=item["metadata"].get("labels") or {},
            terminating=bool(item["metadata"].get("deletionTimestamp")) or (item.get("status") or {}).get("phase") == "Terminating",
        )
        for item in cluster.list(NAMESPACE)
    )


def read(cluster: Cluster, found: tuple[NamespaceFacts, ...], selected: frozenset[str]) -> Inventory:
    """Read what stands in the selected namespaces, and what their volumes rest on."""
    served = cluster.discover()
    findings: list[Finding] = []
    pods = tuple(_pod(item) for item in _each(cluster, POD, selected, findings) if not is_over(item))
    claims = tuple(_claim(item) for item in _each(cluster, CLAIM, selected, findings))
    wanted = {claim.volume for claim in claims if claim.volume}
    volumes = _map(cluster, VOLUME, _driver_and_handle, keep=lambda name: name in wanted) if wanted else {}
    return Inventory(
        namespaces=found,
        pods=pods,
        claims=claims,
        driver_of={name: driver for name, (driver, _) in volumes.items()},
        handle_of={name: handle for name, (_, handle) in volumes.items()},
        provisioner_of=_map(cluster, STORAGE_CLASS, lambda item: str(item.get("provisioner", ""))) if wanted else {},
        snapshot_classes=_classes(cluster, SNAPSHOT_CLASS, DEFAULT_SNAPSHOT_CLASS, findings) if wanted else (),
        group_classes=_classes(cluster, GROUP_CLASS, DEFAULT_GROUP_CLASS, None) if len(wanted) > 1 else (),
        findings=tuple(findings),
        cluster_uid=served.uid,
        server_version=served.server_version,
    )


def _each(cluster: Cluster, kind: Kind, selected: frozenset[str], findings: list[Finding]) -> Iterator[Manifest]:
    """Yield the objects of a kind in the selected namespaces; what we may not read is a finding."""
    places = sorted(selected) if len(selected) <= FEW_NAMESPACES else [None]
    for place in places:
        try:
            for item in cluster.list(kind, namespace=place):
                if item["metadata"]["namespace"] in selected:
                    yield item
        except AccessDenied as error:
            where = f"{kind} in {place}" if place else str(kind)
            findings.append(
                Finding(where=where, message=f"cannot be read: {error.message}", remedy="give Becalm's account the right to list them")
            )


def _pod(item: Manifest) -> PodFacts:
    metadata = item["metadata"]
    annotations = {key: str(value) for key, value in (metadata.get("annotations") or {}).items() if key.startswith(HOOK_PREFIXES)}
    return PodFacts(
        namespace=metadata["namespace"],
        name=metadata["name"],
        labels=metadata.get("labels") or {},
        node=item["spec"].get("nodeName") or "",
        running=(item.get("status") or {}).get("phase") == "Running",
        claims=tuple(claims_of(item).values()),
        annotations=annotations,
        containers=tuple(container["name"] for container in item["spec"].get("containers") or []),
        beside=tuple(_beside(item)),
    )


def _beside(item: Manifest) -> Iterator[str]:
    """Yield what a pod keeps where nothing captures it; memory is no place to keep anything."""
    for volume in item["spec"].get("volumes") or []:
        kind = next((key for key in volume if key != "name" and key not in _ELSEWHERE), "")
        if kind == "hostPath":
            yield f"hostPath {volume['hostPath'].get('path', '')}"
        elif kind and not (kind == "emptyDir" and (volume["emptyDir"] or {}).get("medium") == "Memory"):
            yield f"{kind} {volume['name']}"


_ELSEWHERE = frozenset({"persistentVolumeClaim", "ephemeral", "configMap", "secret", "projected", "downwardAPI", "image"})
"""Volumes of a pod whose content stands in a claim, in another object, or in an image."""


def _claim(item: Manifest) -> ClaimFacts:
    metadata, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    capacity = (status.get("capacity") or {}).get("storage") or ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    return ClaimFacts(
        namespace=metadata["namespace"],
        name=metadata["name"],
        labels=metadata.get("labels") or {},
        bound=status.get("phase") == "Bound",
        terminating=bool(metadata.get("deletionTimestamp")),
        volume=spec.get("volumeName") or "",
        storage_class=spec.get("storageClassName") or "",
        mode=VolumeMode(spec.get("volumeMode") or VolumeMode.FILESYSTEM),
        size_bytes=quantity(capacity),
        access=tuple(spec.get("accessModes") or ()),
        lost=status.get("phase") == "Lost",
    )


def _driver_and_handle(volume: Manifest) -> tuple[str, str]:
    """Return the driver of a volume and its own name for it; one that is not a driver's is called by its plugin (`nfs`, `hostPath`)."""
    spec = volume["spec"]
    if "csi" in spec:
        return str(spec["csi"]["driver"]), str(spec["csi"].get("volumeHandle") or "")
    return next((key for key in spec if key in _PLUGINS), ""), ""


_PLUGINS = frozenset(
    {"nfs", "hostPath", "local", "iscsi", "fc", "cephfs", "rbd", "glusterfs", "azureDisk", "awsElasticBlockStore", "gcePersistentDisk"}
)


def _map(cluster: Cluster, kind: Kind, value: Callable[[Manifest], Fact], keep: Callable[[str], bool] = lambda _: True) -> dict[str, Fact]:
    """Map names to one fact; without the right to read a cluster-scoped kind there is nothing to map, and others answer."""
    try:
        listing: Any = cluster.list(kind)
        return {item["metadata"]["name"]: value(item) for item in listing if keep(item["metadata"]["name"])}
    except (AccessDenied, NotFound):
        return {}


def _classes(cluster: Cluster, kind: Kind, default: str, findings: list[Finding] | None) -> tuple[SnapshotClass, ...]:
    """List snapshot classes, the default ones first; a cluster that does not serve them has none. Without `findings` nobody misses them."""
    try:
        found = [
            SnapshotClass(
                name=item["metadata"]["name"],
                driver=str(item.get("driver", "")),
                default=(item["metadata"].get("annotations") or {}).get(default) == "true",
                retains=item.get("deletionPolicy") == "Retain",
            )
            for item in cluster.list(kind)
        ]
    except NotFound:
        return ()
    except AccessDenied as error:
        if findings is not None:
            remedy = "give Becalm's account the right to list them"
            findings.append(Finding(where=str(kind), message=f"cannot be read: {error.message}", remedy=remedy))
        return ()
    return tuple(sorted(found, key=lambda item: (not item.default, item.name)))
