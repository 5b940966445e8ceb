"""What a new sandbox holds: its namespaces, its node, its storage classes, the snapshot kinds, and the roles that every cluster has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.sandbox import kinds
from becalm.sandbox.admission import DEFAULT_CLASS
from becalm.sandbox.claims import DRIVER, NODE
from becalm.sandbox.kinds import SNAPSHOT_GROUP
from becalm.sandbox.snapshots import DEFAULT_CLASS as DEFAULT_SNAPSHOT_CLASS
from becalm.sandbox.times import stamp

if TYPE_CHECKING:
    from becalm.model import Manifest
    from becalm.sandbox.kinds import Resource

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


def objects() -> list[tuple[Resource, Manifest]]:
    """Return what is made first, in order; all of it belongs to no namespace."""
    return [
        *((kinds.NAMESPACES, {"metadata": {"name": name}}) for name in NAMESPACES),
        *((kinds.CRDS, crd) for crd in _snapshot_crds()),
        (kinds.NODES, _node()),
        (
            kinds.CSI_DRIVERS,
            {"metadata": {"name": DRIVER}, "spec": {"attachRequired": False, "podInfoOnMount": False, "fsGroupPolicy": "File"}},
        ),
        (kinds.STORAGE_CLASSES, _storage_class("standard", "WaitForFirstConsumer", default=True)),
        (kinds.STORAGE_CLASSES, _storage_class("immediate", "Immediate", default=False)),
        *((_named("scheduling.k8s.io/priorityclasses"), found) for found in _priority_classes()),
        *((_named("rbac.authorization.k8s.io/clusterroles"), found) for found in _roles()),
    ]


def snapshot_class() -> Manifest:
    """Return the class of snapshots; its kind is served once the definitions are accepted."""
    return {
        "metadata": {"name": "standard", "annotations": {DEFAULT_SNAPSHOT_CLASS: "true"}},
        "driver": DRIVER,
        "deletionPolicy": "Delete",
    }


def node_status(*, memory_bytes: int, processors: int) -> Manifest:
    """Return what the node says of itself."""
    room = {"cpu": str(processors), "memory": f"{memory_bytes // 1024}Ki", "pods": "110"}
    now = stamp()
    return {
        "capacity": room,
        "allocatable": room,
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": NODE}],
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "KubeletReady",
                "message": "",
                "lastHeartbeatTime": now,
                "lastTransitionTime": now,
            }
        ],
        "nodeInfo": {
            "kubeletVersion": "v1.34.0-becalm-sandbox",
            "kubeProxyVersion": "",
            "containerRuntimeVersion": "process://1",
            "operatingSystem": "linux",
            "architecture": "amd64",
            "osImage": "sandbox",
            "kernelVersion": "",
            "machineID": "",
            "systemUUID": "",
            "bootID": "",
        },
    }


def _named(bucket: str) -> Resource:
    return next(found for found in kinds.BUILT_IN if found.bucket == bucket)


def _node() -> Manifest:
    labels = {"kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    return {"metadata": {"name": NODE, "labels": labels}, "spec": {}}


def _storage_class(name: str, binding: str, *, default: bool) -> Manifest:
    metadata: Manifest = {"name": name}
    if default:
        metadata["annotations"] = {DEFAULT_CLASS: "true"}
    return {"metadata": metadata, "provisioner": DRIVER, "reclaimPolicy": "Delete", "volumeBindingMode": binding}


def _priority_classes() -> list[Manifest]:
    values = {"system-cluster-critical": 2000000000, "system-node-critical": 2000001000}
    return [{"metadata": {"name": name}, "value": value, "globalDefault": False} for name, value in values.items()]


def _roles() -> list[Manifest]:
    everything = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    reading = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}]
    marks = {"kubernetes.io/bootstrapping": "rbac-defaults"}
    rules = {"cluster-admin": everything, "admin": everything, "edit": everything, "view": reading}
    return [{"metadata": {"name": name, "labels": marks}, "rules": found} for name, found in rules.items()]


def _snapshot_crds() -> list[Manifest]:
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    found = []
    for plural, kind, scope, short in (
        ("volumesnapshots", "VolumeSnapshot", "Namespaced", "vs"),
        ("volumesnapshotcontents", "VolumeSnapshotContent", "Cluster", "vsc"),
        ("volumesnapshotclasses", "VolumeSnapshotClass", "Cluster", "vsclass"),
    ):
        classes = kind == "VolumeSnapshotClass"
        properties = {"driver": {"type": "string"}, "deletionPolicy": {"type": "string", "enum": ["Delete", "Retain"]}, "parameters": free}
        schema = {
            "type": "object",
            "properties": properties if classes else {"spec": free, "status": free},
            "required": ["driver", "deletionPolicy"] if classes else ["spec"],
        }
        version: Manifest = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
        if not classes:
            version["subresources"] = {"status": {}}
        names = {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List", "shortNames": [short, f"{short}s"]}
        found.append(
            {
                "metadata": {"name": f"{plural}.{SNAPSHOT_GROUP}"},
                "spec": {"group": SNAPSHOT_GROUP, "scope": scope, "names": names, "versions": [version]},
            }
        )
    return found
