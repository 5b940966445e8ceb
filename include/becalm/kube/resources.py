"""Objects on their way into a cluster: what is stripped from them, and which are left out altogether, and why. Pure.

What is stripped is told by the table in `kube.rules`. What is left out is what the cluster makes again by itself, what would do
its work twice, and what would point at the live data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from becalm.kube.base import LABEL_MANAGED, LABEL_RUN, MANAGER
from becalm.kube.rules import RULES, child, children, group_kind, is_automatic_token

if TYPE_CHECKING:
    from collections.abc import Collection

    from becalm.model import Manifest

NEVER: dict[str, str] = {
    "Node": "nodes register themselves",
    "Event": "an event belongs to the past",
    "Event.events.k8s.io": "an event belongs to the past",
    "Lease.coordination.k8s.io": "a lease belongs to whoever holds it now",
    "CSINode.storage.k8s.io": "the storage driver of a node writes it",
    "CSIStorageCapacity.storage.k8s.io": "the storage driver measures it",
    "VolumeAttachment.storage.k8s.io": "volumes are attached anew",
    "ControllerRevision.apps": "its controller makes it again",
    "ComponentStatus": "the server answers it, nobody stores it",
    "CertificateSigningRequest.certificates.k8s.io": "it was answered, or it expired",
    "IPAddress.networking.k8s.io": "the server makes it for each Service",
    "ResourceSlice.resource.k8s.io": "the driver of a node writes it",
    "VolumeSnapshot.snapshot.storage.k8s.io": "it names a snapshot of the live volume",
    "VolumeSnapshotContent.snapshot.storage.k8s.io": "it names a snapshot of the live volume",
    "VolumeGroupSnapshot.groupsnapshot.storage.k8s.io": "it names a snapshot of the live volumes",
    "VolumeGroupSnapshotContent.groupsnapshot.storage.k8s.io": "it names a snapshot of the live volumes",
}
"""Kinds that stay out of every restore."""

MADE_AGAIN: dict[str, tuple[str, ...]] = {
    "ReplicaSet.apps": ("Deployment.apps",),
    "Job.batch": ("CronJob.batch",),
    "EndpointSlice.discovery.k8s.io": ("Service", "Endpoints"),
}
"""Kinds whose objects stay out when a controller of one of these kinds owns them."""

CLUSTER_CONFIGMAPS = frozenset({"kube-root-ca.crt", "openshift-service-ca.crt"})


def copied(value: Any) -> Any:
    """Copy a JSON value deeply; faster than `copy.deepcopy`, which looks for cycles that JSON cannot have."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copied(item) for item in value]
    return value


def strip(manifest: Manifest, *, but: Collection[str] = ()) -> Manifest:
    """Return a copy that a server accepts as a new object: without identity, status, and whatever a server chose. Idempotent.

    `but` names rules that are not applied.
    """
    stripped: Manifest = copied(manifest)
    for rule in RULES:
        if rule.creating and rule.name not in but and rule.meets(stripped):
            rule.remove(stripped)
    return stripped


def left_out(manifest: Manifest, *, services: Collection[str] = ()) -> str | None:
    """Say why an object is not restored, or return nothing where it is.

    `services` names the Services with a selector, as `namespace/name`: their Endpoints are a controller's.
    """
    kind, metadata = group_kind(manifest), child(manifest, "metadata")
    labels = child(metadata, "labels")
    if kind in NEVER:
        return NEVER[kind]
    if LABEL_RUN in labels and labels.get(LABEL_MANAGED) == MANAGER:
        return "a temporary object of Becalm"
    if metadata.get("deletionTimestamp"):
        return "it was being deleted"
    owner = controller_of(metadata)
    if owner and owner in MADE_AGAIN.get(kind, ()):
        return f"its {owner.partition('.')[0]} makes it again"
    by_kind = _BY_KIND.get(kind)
    if by_kind:
        return by_kind(manifest, owner)
    if kind == "Endpoints" and f"{metadata.get('namespace')}/{metadata.get('name')}" in services:
        return "a controller makes it for its Service"
    return None


def made_again(manifest: Manifest, resource: str) -> str:
    """Say why a capture needs not hold an object, because its controller makes it again; nothing where it holds what no other object does.

    What keeps the past stays in: a ReplicaSet without replicas and a ControllerRevision are what a rollout is undone to.
    """
    match resource:
        case "pods":
            owner = controller_of(child(manifest, "metadata"))
            return f"its {owner.partition('.')[0]} makes it again" if owner else _mirror(manifest)
        case "replicasets" if not child(manifest, "spec").get("replicas"):
            return ""
        case "replicasets" | "jobs":
            kind, owner = group_kind(manifest), controller_of(child(manifest, "metadata"))
            return f"its {owner.partition('.')[0]} makes it again" if owner and owner in MADE_AGAIN.get(kind, ()) else ""
        case "endpointslices":
            return _slice(manifest, "") or ""
        case "endpoints":
            labels = child(manifest, "metadata", "labels")
            return "a controller makes it for its Service" if "endpoints.kubernetes.io/managed-by" in labels else ""
        case _:
            return ""


MAY_BE_MADE_AGAIN = frozenset({"pods", "replicasets", "jobs", "endpointslices", "endpoints"})
"""The resources that `made_again` has an answer for."""


def _mirror(manifest: Manifest) -> str:
    mirrored = "kubernetes.io/config.mirror" in child(manifest, "metadata", "annotations")
    return "the kubelet of a node runs it from a file" if mirrored else ""


def controller_of(metadata: Manifest) -> str:
    """Return the kind of the owner that controls an object, as `Deployment.apps`, or nothing."""
    for owner in children({"metadata": metadata}, "metadata", "ownerReferences"):
        if owner.get("controller"):
            return group_kind(owner)
    return ""


def _pod(manifest: Manifest, owner: str) -> str | None:
    phase = str(child(manifest, "status").get("phase"))
    if owner:
        return f"its {owner.partition('.')[0]} makes it again"
    return _mirror(manifest) or ("it had ended" if phase in {"Succeeded", "Failed"} else None)


def _job(manifest: Manifest, _owner: str) -> str | None:
    ended = {str(one.get("type")) for one in children(manifest, "status", "conditions") if one.get("status") == "True"} & {
        "Complete",
        "Failed",
    }
    return "it had ended, and would run again" if ended or child(manifest, "status").get("completionTime") else None


def _secret(manifest: Manifest, _owner: str) -> str | None:
    return "the token controller makes it" if is_automatic_token(manifest) else None


def _configmap(manifest: Manifest, _owner: str) -> str | None:
    return "the cluster writes it into each namespace" if str(child(manifest, "metadata").get("name")) in CLUSTER_CONFIGMAPS else None


def _slice(manifest: Manifest, _owner: str) -> str | None:
    manager = str(child(manifest, "metadata", "labels").get("endpointslice.kubernetes.io/managed-by", ""))
    return "a controller makes it for its Service" if manager.endswith("controller.k8s.io") else None


def _claim(manifest: Manifest, owner: str) -> str | None:
    """Leave out what a pod's ephemeral volume asked for: the pod asks again. A StatefulSet's claim is named after no pod's volume."""
    metadata = child(manifest, "metadata")
    pods = [one.get("name", "") for one in children(manifest, "metadata", "ownerReferences") if one.get("controller")]
    if owner == "Pod" and any(str(metadata.get("name", "")).startswith(f"{name}-") for name in pods):
        return "the ephemeral volume of a pod, which asks for it again"
    return None


def _volume(manifest: Manifest, _owner: str) -> str | None:
    if "pv.kubernetes.io/provisioned-by" in child(manifest, "metadata", "annotations"):
        return "the new claim gets a volume of its own"
    return "it names live data: a restored claim never shares it"


def _apiservice(manifest: Manifest, _owner: str) -> str | None:
    managed = "kube-aggregator.kubernetes.io/automanaged" in child(manifest, "metadata", "labels")
    return "the server manages it" if managed or not child(manifest, "spec").get("service") else None


_BY_KIND = {
    "Pod": _pod,
    "Job.batch": _job,
    "Secret": _secret,
    "ConfigMap": _configmap,
    "EndpointSlice.discovery.k8s.io": _slice,
    "PersistentVolumeClaim": _claim,
    "PersistentVolume": _volume,
    "APIService.apiregistration.k8s.io": _apiservice,
}
