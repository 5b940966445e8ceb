"""Kubernetes objects for tests, each with as little as a test needs to say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from becalm.model import Manifest

DRIVER = "disk.example.org"


def an_object(
    api_version: str, kind: str, name: str, namespace: str = "", *, labels: Mapping[str, str] | None = None, **rest: Any
) -> Manifest:
    """Return any object."""
    metadata: Manifest = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = dict(labels)
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}


def a_namespace(name: str, *, labels: Mapping[str, str] | None = None, terminating: bool = False) -> Manifest:
    """Return a namespace."""
    made = an_object("v1", "Namespace", name, labels=labels, status={"phase": "Terminating" if terminating else "Active"})
    if terminating:
        made["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return made


def a_config_map(name: str, namespace: str = "shop", *, labels: Mapping[str, str] | None = None, **data: str) -> Manifest:
    """Return a ConfigMap."""
    return an_object("v1", "ConfigMap", name, namespace, labels=labels, data=data)


def a_pod(
    name: str,
    namespace: str = "shop",
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    containers: Sequence[str] = ("main",),
    mounts: Mapping[str, str] | None = None,
    phase: str = "Running",
    ready: bool = True,
    node: str = "node-1",
    **spec: Any,
) -> Manifest:
    """Return a pod. `mounts` maps a container to the claim that it mounts."""
    mounts = mounts or {}
    made = an_object("v1", "Pod", name, namespace, labels=labels)
    made["metadata"]["annotations"] = dict(annotations or {})
    made["spec"] = {
        "nodeName": node,
        "containers": [
            {"name": item, "volumeMounts": [{"name": mounts[item], "mountPath": "/data"}]} if item in mounts else {"name": item}
            for item in containers
        ],
        "volumes": [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in sorted(set(mounts.values()))],
        **spec,
    }
    made["status"] = {
        "phase": phase,
        "containerStatuses": [{"name": item, "ready": ready, "state": {"running": {}}} for item in containers],
    }
    return made


def a_claim(
    name: str,
    namespace: str = "shop",
    *,
    labels: Mapping[str, str] | None = None,
    bound: bool = True,
    storage_class: str = "standard",
    size: str = "1Gi",
    mode: str = "Filesystem",
) -> Manifest:
    """Return a claim; a bound one has the volume `pv-<namespace>-<name>`."""
    made = an_object("v1", "PersistentVolumeClaim", name, namespace, labels=labels)
    made["spec"] = {"storageClassName": storage_class, "volumeMode": mode, "resources": {"requests": {"storage": size}}}
    made["status"] = {"phase": "Pending"}
    if bound:
        made["spec"]["volumeName"] = f"pv-{namespace}-{name}"
        made["status"] = {"phase": "Bound", "capacity": {"storage": size}}
    return made


def a_volume(claim: Manifest, *, driver: str = DRIVER) -> Manifest:
    """Return the volume of a bound claim."""
    spec = {
        "csi": {"driver": driver, "volumeHandle": f"disk-{claim['metadata']['name']}"},
        "storageClassName": claim["spec"]["storageClassName"],
    }
    return an_object("v1", "PersistentVolume", claim["spec"]["volumeName"], spec=spec)


def a_storage_class(name: str = "standard", *, driver: str = DRIVER) -> Manifest:
    """Return a storage class."""
    return an_object("storage.k8s.io/v1", "StorageClass", name, provisioner=driver)


def a_snapshot_class(name: str = "standard", *, driver: str = DRIVER, default: bool = False) -> Manifest:
    """Return a snapshot class."""
    made = an_object("snapshot.storage.k8s.io/v1", "VolumeSnapshotClass", name, driver=driver, deletionPolicy="Delete")
    made["metadata"]["annotations"] = {"snapshot.storage.kubernetes.io/is-default-class": "true"} if default else {}
    return made
