"""What a cluster holds that a policy might mean: namespaces, pods, claims, volumes and classes, each listed once and kept as a few facts.

It reads and decides nothing. Pods and claims are read per selected namespace where those are few, and for the whole cluster where
they are many.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from becalm.actions.pods import claims_of, is_over
from becalm.errors import AccessDenied, NotFound
from becalm.kube.kinds import CLAIM, NAMESPACE, POD, SNAPSHOT_CLASS, STORAGE_CLASS, VOLUME
from becalm.kube.snapshots import quantity
from becalm.model import Finding, VolumeMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from becalm.kube.base import Cluster, Kind
    from becalm.model import Manifest

FEW_NAMESPACES = 16
"""Up to so many selected namespaces are listed one by one."""
HOOK_PREFIXES = ("quiesce.becalm.dev/", "pre.hook.backup.velero.io/", "post.hook.backup.velero.io/")
DEFAULT_SNAPSHOT_CLASS = "snapshot.storage.kubernetes.io/is-default-class"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotClass:
    """One VolumeSnapshotClass."""

    name: str
    driver: str
    default: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """All of it. `driver_of` maps the name of a PersistentVolume, `provisioner_of` that of a StorageClass."""

    namespaces: tuple[NamespaceFacts, ...] = ()
    pods: tuple[PodFacts, ...] = ()
    claims: tuple[ClaimFacts, ...] = ()
    driver_of: Mapping[str, str] = field(default_factory=dict)
    provisioner_of: Mapping[str, str] = field(default_factory=dict)
    snapshot_classes: tuple[SnapshotClass, ...] = ()
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
    return Inventory(
        namespaces=found,
        pods=pods,
        claims=claims,
        driver_of=_map(cluster, VOLUME, _driver, keep=lambda name: name in wanted) if wanted else {},
        provisioner_of=_map(cluster, STORAGE_CLASS, lambda item: str(item.get("provisioner", ""))) if wanted else {},
        snapshot_classes=_snapshot_classes(cluster, findings) if wanted else (),
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
    )


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
    )


def _driver(volume: Manifest) -> str:
    """Return the driver of a volume; one that is not a driver's own is called by its plugin (`nfs`, `hostPath`)."""
    spec = volume["spec"]
    plugins = [key for key in spec if key in _PLUGINS]
    return str(spec["csi"]["driver"]) if "csi" in spec else plugins[0] if plugins else ""


_PLUGINS = frozenset(
    {"nfs", "hostPath", "local", "iscsi", "fc", "cephfs", "rbd", "glusterfs", "azureDisk", "awsElasticBlockStore", "gcePersistentDisk"}
)


def _map(cluster: Cluster, kind: Kind, value: Callable[[Manifest], str], keep: Callable[[str], bool] = lambda _: True) -> dict[str, str]:
    """Map names to one fact; without the right to read a cluster-scoped kind there is nothing to map, and others answer."""
    try:
        listing: Any = cluster.list(kind)
        return {item["metadata"]["name"]: value(item) for item in listing if keep(item["metadata"]["name"])}
    except (AccessDenied, NotFound):
        return {}


def _snapshot_classes(cluster: Cluster, findings: list[Finding]) -> tuple[SnapshotClass, ...]:
    """List the snapshot classes; a cluster that does not serve them has none."""
    try:
        found = [
            SnapshotClass(
                name=item["metadata"]["name"],
                driver=str(item.get("driver", "")),
                default=(item["metadata"].get("annotations") or {}).get(DEFAULT_SNAPSHOT_CLASS) == "true",
            )
            for item in cluster.list(SNAPSHOT_CLASS)
        ]
    except NotFound:
        return ()
    except AccessDenied as error:
        remedy = "give Becalm's account the right to list them"
        findings.append(Finding(where=str(SNAPSHOT_CLASS), message=f"cannot be read: {error.message}", remedy=remedy))
        return ()
    return tuple(sorted(found, key=lambda item: (not item.default, item.name)))
