"""The kinds that Becalm itself reads and writes by name. All others are learned from discovery."""

from __future__ import annotations

from becalm.kube.base import Kind


def _core(resource: str, kind: str, *, namespaced: bool = True) -> Kind:
    return Kind(group="", version="v1", resource=resource, kind=kind, namespaced=namespaced)


def _snapshot(resource: str, kind: str, *, namespaced: bool = False) -> Kind:
    return Kind(group="snapshot.storage.k8s.io", version="v1", resource=resource, kind=kind, namespaced=namespaced)


def _group(resource: str, kind: str, *, namespaced: bool = False) -> Kind:
    return Kind(group="groupsnapshot.storage.k8s.io", version="v1", resource=resource, kind=kind, namespaced=namespaced)


NAMESPACE = _core("namespaces", "Namespace", namespaced=False)
NODE = _core("nodes", "Node", namespaced=False)
POD = _core("pods", "Pod")
EVENT = _core("events", "Event")
SECRET = _core("secrets", "Secret")
SERVICE = _core("services", "Service")
CONFIG_MAP = _core("configmaps", "ConfigMap")
CLAIM = _core("persistentvolumeclaims", "PersistentVolumeClaim")
VOLUME = _core("persistentvolumes", "PersistentVolume", namespaced=False)
STORAGE_CLASS = Kind(group="storage.k8s.io", version="v1", resource="storageclasses", kind="StorageClass", namespaced=False)
CRD = Kind(
    group="apiextensions.k8s.io", version="v1", resource="customresourcedefinitions", kind="CustomResourceDefinition", namespaced=False
)
SNAPSHOT = _snapshot("volumesnapshots", "VolumeSnapshot", namespaced=True)
SNAPSHOT_CONTENT = _snapshot("volumesnapshotcontents", "VolumeSnapshotContent")
SNAPSHOT_CLASS = _snapshot("volumesnapshotclasses", "VolumeSnapshotClass")
GROUP_SNAPSHOT = _group("volumegroupsnapshots", "VolumeGroupSnapshot", namespaced=True)
GROUP_CONTENT = _group("volumegroupsnapshotcontents", "VolumeGroupSnapshotContent")
GROUP_CLASS = _group("volumegroupsnapshotclasses", "VolumeGroupSnapshotClass")


def snapshot_kinds() -> tuple[Kind, Kind, Kind]:
    """Return VolumeSnapshot, VolumeSnapshotContent and VolumeSnapshotClass."""
    return SNAPSHOT, SNAPSHOT_CONTENT, SNAPSHOT_CLASS
