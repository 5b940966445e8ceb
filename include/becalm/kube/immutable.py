"""Which fields of an object the API server never lets anybody change. Pure.

A change of one of them needs the object to be deleted and made again, and that is never decided here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.kube.rules import group_kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from becalm.kube.diffing import FieldChange
    from becalm.model import Manifest

FIXED: dict[str, tuple[str, ...]] = {
    "Deployment.apps": ("spec.selector",),
    "DaemonSet.apps": ("spec.selector",),
    "ReplicaSet.apps": ("spec.selector",),
    "StatefulSet.apps": ("spec.selector", "spec.serviceName", "spec.podManagementPolicy", "spec.volumeClaimTemplates"),
    "Job.batch": ("spec.selector", "spec.template", "spec.completionMode", "spec.podFailurePolicy", "spec.manualSelector"),
    "RoleBinding.rbac.authorization.k8s.io": ("roleRef",),
    "ClusterRoleBinding.rbac.authorization.k8s.io": ("roleRef",),
    "Secret": ("type",),
    "StorageClass.storage.k8s.io": ("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"),
    "PriorityClass.scheduling.k8s.io": ("value", "preemptionPolicy"),
    "RuntimeClass.node.k8s.io": ("handler",),
    "IngressClass.networking.k8s.io": ("spec.controller",),
    "PersistentVolumeClaim": ("spec.storageClassName", "spec.volumeMode", "spec.accessModes", "spec.selector"),
    "CustomResourceDefinition.apiextensions.k8s.io": ("spec.scope", "spec.names.kind", "spec.names.plural", "spec.group"),
    "Endpoints": (),
}
"""From a kind to the paths that stay as they are; what lies below a path is part of it."""

POD_MAY = ("metadata", "spec.activeDeadlineSeconds", "spec.terminationGracePeriodSeconds", "spec.tolerations")
"""What of a pod can be changed, beside the images of its containers."""


def fixed(changes: Iterable[FieldChange], live: Manifest) -> list[str]:
    """Return the paths, among some changes, that the object in the cluster keeps for ever."""
    kind = group_kind(live)
    paths = [change.path for change in changes]
    if kind == "Pod":
        return [path for path in paths if not _below(path, POD_MAY) and not _is_image(path)]
    if kind in {"Secret", "ConfigMap"} and live.get("immutable") is True:
        return [path for path in paths if not path.startswith("metadata")]
    return [path for path in paths if _below(path, FIXED.get(kind, ()))]


def _below(path: str, roots: Iterable[str]) -> bool:
    return any(path == root or path.startswith((f"{root}.", f"{root}[")) for root in roots)


def _is_image(path: str) -> bool:
    return path.startswith(("spec.containers[", "spec.initContainers[")) and path.endswith("].image")
