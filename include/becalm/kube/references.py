"""What an object refers to outside of any namespace: classes, roles, definitions. Pure.

A restore of some objects takes along what they refer to; nothing here says whether it is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.kube.rules import child, children, group_kind
from becalm.model import ResourceRef

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.kube.base import Kind
    from becalm.model import Manifest

RBAC = "rbac.authorization.k8s.io"


def cluster_ref(group: str, resource: str, name: str) -> ResourceRef:
    """Name an object that belongs to no namespace."""
    return ResourceRef(group=group, resource=resource, namespace=None, name=name)


def referred(manifest: Manifest, kind: Kind) -> Iterator[ResourceRef]:
    """Yield what an object refers to: the definition of its kind (if there is one of that name), classes, and the role of a binding."""
    if "." in kind.group:
        yield cluster_ref("apiextensions.k8s.io", "customresourcedefinitions", f"{kind.resource}.{kind.group}")
    spec, what = child(manifest, "spec"), group_kind(manifest)
    if what == "PersistentVolumeClaim":
        yield from _named("storage.k8s.io", "storageclasses", spec.get("storageClassName"))
    elif what == "StatefulSet.apps":
        for template in children(manifest, "spec", "volumeClaimTemplates"):
            yield from _named("storage.k8s.io", "storageclasses", child(template, "spec").get("storageClassName"))
    elif what == "Ingress.networking.k8s.io":
        yield from _named("networking.k8s.io", "ingressclasses", spec.get("ingressClassName"))
    elif what in {f"RoleBinding.{RBAC}", f"ClusterRoleBinding.{RBAC}"}:
        role = child(manifest, "roleRef")
        if role.get("kind") == "ClusterRole":
            yield from _named(RBAC, "clusterroles", role.get("name"))
    for pod in _pod_specs(manifest):
        yield from _named("scheduling.k8s.io", "priorityclasses", pod.get("priorityClassName"))
        yield from _named("node.k8s.io", "runtimeclasses", pod.get("runtimeClassName"))


def subject_namespaces(manifest: Manifest) -> set[str]:
    """Return the namespaces of the service accounts that a binding names."""
    return {str(subject.get("namespace")) for subject in children(manifest, "subjects") if subject.get("kind") == "ServiceAccount"}


def _named(group: str, resource: str, name: object) -> Iterator[ResourceRef]:
    if isinstance(name, str) and name:
        yield cluster_ref(group, resource, name)


def _pod_specs(manifest: Manifest) -> Iterator[Manifest]:
    """Yield the pod that an object is, or that it makes; a spec that is none has none of the fields that are asked for."""
    yield child(manifest, "spec")
    yield child(manifest, "spec", "template", "spec")
    yield child(manifest, "spec", "jobTemplate", "spec", "template", "spec")
