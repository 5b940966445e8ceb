"""What selected objects refer to beyond their namespaces: volumes and classes, roles, definitions of custom resources. Pure.

Collected while objects stream by, as names only. It follows one step, and one more from a binding to its role; nothing else.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from becalm.kube.base import Kind
    from becalm.model import Manifest

RBAC = "rbac.authorization.k8s.io"
VOLUMES = ("", "persistentvolumes")
STORAGE_CLASSES = ("storage.k8s.io", "storageclasses")
ATTRIBUTES_CLASSES = ("storage.k8s.io", "volumeattributesclasses")
SNAPSHOT_CLASSES = ("snapshot.storage.k8s.io", "volumesnapshotclasses")
PRIORITY_CLASSES = ("scheduling.k8s.io", "priorityclasses")
RUNTIME_CLASSES = ("node.k8s.io", "runtimeclasses")
INGRESS_CLASSES = ("networking.k8s.io", "ingressclasses")
CLUSTER_ROLES = (RBAC, "clusterroles")
BINDINGS = (RBAC, "clusterrolebindings")
DEFINITIONS = ("apiextensions.k8s.io", "customresourcedefinitions")

ROUNDS = (
    (BINDINGS, VOLUMES),
    (STORAGE_CLASSES, ATTRIBUTES_CLASSES, SNAPSHOT_CLASSES, PRIORITY_CLASSES, RUNTIME_CLASSES, INGRESS_CLASSES, CLUSTER_ROLES, DEFINITIONS),
)
"""In what order to read them: what the first round finds refers to something in the second."""

Table = tuple[str, str]
"""Group and resource."""


@dataclass(slots=True)
class References:
    """The names that were met, by group and resource. Safe to fill from several threads."""

    namespaces: frozenset[str] = frozenset()
    """Bindings are met by their subjects: the service accounts of these namespaces."""
    _names: dict[Table, set[str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def meet(self, kind: Kind, manifest: Manifest) -> None:
        """Note what one object refers to."""
        found = set(_references(kind, manifest))
        if kind.group:
            found.add((DEFINITIONS, f"{kind.resource}.{kind.group}"))
        with self._lock:
            for table, name in found:
                if name:
                    self._names.setdefault(table, set()).add(name)

    def add(self, table: Table, names: Iterable[str]) -> None:
        """Note names that were met elsewhere."""
        with self._lock:
            self._names.setdefault(table, set()).update(name for name in names if name)

    def means(self, kind: Kind, manifest: Manifest) -> bool:
        """Say whether a cluster-scoped object is one of those referred to."""
        table = (kind.group, kind.resource)
        if table == BINDINGS:
            return any(
                subject.get("kind") == "ServiceAccount" and subject.get("namespace") in self.namespaces
                for subject in manifest.get("subjects") or []
            )
        with self._lock:
            return manifest["metadata"]["name"] in self._names.get(table, set())

    def wants(self, table: Table) -> bool:
        """Say whether it is worth reading a kind."""
        return table == BINDINGS or bool(self._names.get(table))


def _references(kind: Kind, manifest: Manifest) -> Iterator[tuple[Table, str]]:
    spec: dict[str, Any] = manifest.get("spec") if isinstance(manifest.get("spec"), dict) else {}  # type: ignore[assignment]
    match (kind.group, kind.resource):
        case ("", "persistentvolumeclaims"):
            yield VOLUMES, spec.get("volumeName") or ""
            yield STORAGE_CLASSES, spec.get("storageClassName") or ""
            yield ATTRIBUTES_CLASSES, spec.get("volumeAttributesClassName") or ""
        case ("", "persistentvolumes"):
            yield STORAGE_CLASSES, spec.get("storageClassName") or ""
        case ("snapshot.storage.k8s.io", "volumesnapshots"):
            yield SNAPSHOT_CLASSES, spec.get("volumeSnapshotClassName") or ""
        case ("networking.k8s.io", "ingresses"):
            yield INGRESS_CLASSES, spec.get("ingressClassName") or ""
        case (group, "rolebindings" | "clusterrolebindings") if group == RBAC:
            role = manifest.get("roleRef") or {}
            if role.get("kind") == "ClusterRole":
                yield CLUSTER_ROLES, role.get("name") or ""
        case ("", "pods"):
            yield from _of_pod(spec)
        case ("batch", "cronjobs"):
            yield from _of_pod(_inner(spec, "jobTemplate", "spec", "template", "spec"))
        case ("apps" | "batch" | "", _):
            yield from _of_pod(_inner(spec, "template", "spec"))
            for claim in spec.get("volumeClaimTemplates") or []:
                yield STORAGE_CLASSES, (claim.get("spec") or {}).get("storageClassName") or ""


def _of_pod(spec: dict[str, Any]) -> Iterator[tuple[Table, str]]:
    yield PRIORITY_CLASSES, spec.get("priorityClassName") or ""
    yield RUNTIME_CLASSES, spec.get("runtimeClassName") or ""


def _inner(value: Any, *path: str) -> dict[str, Any]:
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
