"""What selected objects refer to beyond their namespaces: volumes and classes, roles, definitions of custom resources. Pure.

Collected while objects stream by, as names only. It follows one step, and more only from a binding to its role, and from a role to
those that are aggregated into it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from becalm.kube.base import Kind
    from becalm.model import Manifest

Table = tuple[str, str]
"""Group and resource."""

RBAC = "rbac.authorization.k8s.io"
SNAPSHOTS = "snapshot.storage.k8s.io"
GROUP_SNAPSHOTS = "groupsnapshot.storage.k8s.io"
VOLUMES = ("", "persistentvolumes")
STORAGE_CLASSES = ("storage.k8s.io", "storageclasses")
ATTRIBUTES_CLASSES = ("storage.k8s.io", "volumeattributesclasses")
SNAPSHOT_CLASSES = (SNAPSHOTS, "volumesnapshotclasses")
GROUP_SNAPSHOT_CLASSES = (GROUP_SNAPSHOTS, "volumegroupsnapshotclasses")
PRIORITY_CLASSES = ("scheduling.k8s.io", "priorityclasses")
RUNTIME_CLASSES = ("node.k8s.io", "runtimeclasses")
INGRESS_CLASSES = ("networking.k8s.io", "ingressclasses")
CLUSTER_ROLES = (RBAC, "clusterroles")
BINDINGS = (RBAC, "clusterrolebindings")
DEFINITIONS = ("apiextensions.k8s.io", "customresourcedefinitions")
VALIDATING = ("admissionregistration.k8s.io", "validatingwebhookconfigurations")
MUTATING = ("admissionregistration.k8s.io", "mutatingwebhookconfigurations")
API_SERVICES = ("apiregistration.k8s.io", "apiservices")

INGRESS_ANNOTATION = "kubernetes.io/ingress.class"
BY_NAMESPACE: frozenset[Table] = frozenset({BINDINGS, VALIDATING, MUTATING, API_SERVICES})
"""Kinds that are meant by the namespaces they speak of, not by a name that was met."""

ROUNDS: tuple[tuple[Table, ...], ...] = (
    (BINDINGS, VOLUMES, VALIDATING, MUTATING, API_SERVICES),
    (
        STORAGE_CLASSES,
        ATTRIBUTES_CLASSES,
        SNAPSHOT_CLASSES,
        GROUP_SNAPSHOT_CLASSES,
        PRIORITY_CLASSES,
        RUNTIME_CLASSES,
        INGRESS_CLASSES,
        CLUSTER_ROLES,
        DEFINITIONS,
    ),
)
"""In what order to read them: what the first round finds refers to something in the second."""
MOST_AGGREGATIONS = 4
"""So many times cluster roles are read again for those that are aggregated into the ones that were met."""


@dataclass(slots=True)
class References:
    """The names that were met, by group and resource. Safe to fill from several threads."""

    namespaces: frozenset[str] = frozenset()
    """Bindings are met by their subjects, webhooks and API services by their services: those of these namespaces."""
    _names: dict[Table, set[str]] = field(default_factory=dict)
    _aggregated: list[Mapping[str, Any]] = field(default_factory=list)
    """The label selectors by which roles that were met take others in."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def meet(self, kind: Kind, manifest: Manifest) -> None:
        """Note what one object refers to, and the definition of its kind."""
        self.meet_kind(kind)
        if finder_of(kind):
            self.meet_object(kind, manifest)

    def meet_kind(self, kind: Kind) -> None:
        """Note that there is an object of a kind: there may be a definition of it."""
        if kind.group:
            self.add(DEFINITIONS, (f"{kind.resource}.{kind.group}",))

    def meet_object(self, kind: Kind, manifest: Manifest) -> None:
        """Note what one object of a kind that has a finder refers to."""
        finder = finder_of(kind)
        assert finder is not None
        found = set(finder(manifest))
        selectors = _selectors(manifest) if (kind.group, kind.resource) == CLUSTER_ROLES else []
        with self._lock:
            for table, name in found:
                if name:
                    self._names.setdefault(table, set()).add(name)
            self._aggregated += [one for one in selectors if one not in self._aggregated]

    def add(self, table: Table, names: Iterable[str]) -> None:
        """Note names that were met elsewhere."""
        with self._lock:
            self._names.setdefault(table, set()).update(name for name in names if name)

    def means(self, kind: Kind, manifest: Manifest) -> bool:
        """Say whether a cluster-scoped object is one of those referred to."""
        table = (kind.group, kind.resource)
        if table == BINDINGS:
            return any(self._is_account(subject) for subject in manifest.get("subjects") or [])
        if table in BY_NAMESPACE:
            return any(name in self.namespaces for name in _service_namespaces(manifest))
        with self._lock:
            if manifest["metadata"]["name"] in self._names.get(table, set()):
                return True
            return table == CLUSTER_ROLES and any(_answers(manifest, selector) for selector in self._aggregated)

    def wants(self, table: Table) -> bool:
        """Say whether it is worth reading a kind."""
        return table in BY_NAMESPACE or bool(self._names.get(table))

    @property
    def aggregations(self) -> int:
        """How many selectors of aggregated roles were met: where there are more than before, the roles are to be read again."""
        return len(self._aggregated)

    def _is_account(self, subject: Manifest) -> bool:
        """Say whether a subject is a service account of the namespaces, by one of its three names."""
        name = str(subject.get("name") or "")
        match subject.get("kind"):
            case "ServiceAccount":
                return subject.get("namespace") in self.namespaces
            case "User":
                return name.startswith("system:serviceaccount:") and name.split(":")[2] in self.namespaces
            case "Group":
                return name.startswith("system:serviceaccounts:") and name.split(":")[2] in self.namespaces
            case _:
                return False


def _selectors(role: Manifest) -> list[Mapping[str, Any]]:
    return list((role.get("aggregationRule") or {}).get("clusterRoleSelectors") or [])


def _answers(manifest: Manifest, selector: Mapping[str, Any]) -> bool:
    """Say whether an object's labels answer a selector of the API's own form. One without a term is answered by everything."""
    labels: Mapping[str, str] = manifest["metadata"].get("labels") or {}
    wanted: Mapping[str, str] = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _holds(labels, term) for term in selector.get("matchExpressions") or []
    )


def _holds(labels: Mapping[str, str], term: Mapping[str, Any]) -> bool:
    key, values = term.get("key"), term.get("values") or []
    match term.get("operator"):
        case "In":
            return labels.get(str(key)) in values
        case "NotIn":
            return labels.get(str(key)) not in values
        case "Exists":
            return key in labels
        case _:
            return key not in labels


def _service_namespaces(manifest: Manifest) -> Iterator[str]:
    """Yield the namespaces of the services that a webhook configuration or an API service calls."""
    yield str(((manifest.get("spec") or {}).get("service") or {}).get("namespace") or "")
    for webhook in manifest.get("webhooks") or []:
        yield str(((webhook.get("clientConfig") or {}).get("service") or {}).get("namespace") or "")


def finder_of(kind: Kind) -> Callable[[Manifest], Iterator[tuple[Table, str]]] | None:
    """Return what finds the references in an object of a kind; nothing where it has none."""
    found = _FINDERS.get((kind.group, kind.resource))
    return found or (_of_workload if kind.group in {"apps", "batch"} else None)


def _spec(manifest: Manifest) -> dict[str, Any]:
    spec = manifest.get("spec")
    return spec if isinstance(spec, dict) else {}


def _of_claim(manifest: Manifest) -> Iterator[tuple[Table, str]]:
    spec = _spec(manifest)
    yield VOLUMES, spec.get("volumeName") or ""
    yield STORAGE_CLASSES, spec.get("storageClassName") or ""
    yield ATTRIBUTES_CLASSES, spec.get("volumeAttributesClassName") or ""


def _of_volume(manifest: Manifest) -> Iterator[tuple[Table, str]]:
    yield STORAGE_CLASSES, _spec(manifest).get("storageClassName") or ""


def _of_snapshot(manifest: Manifest) -> Iterator[tuple[Table, str]]:
    yield SNAPSHOT_CLASSES, _spec(manifest).get("volumeSnapshotClassName") or ""


def _of_group_snapshot(manifest: Manifest) -> Iterator[tuple[Table, str]]:
    yield GROUP_SNAPSHOT_CLASSES, _spec(manifest).get("volumeGroupSnapshotClassName") or ""


def _of_ingress(manifest: Manifest) -> Iterator[tuple[Table, str]]:
    yield INGRESS_CLASSES, _spec(manifest).get("ingressClassName") or ""
    yield INGRESS_CLASSES, (manifest["metadata"].get("annotations") or {}).get(INGRESS_ANNOTATION) or ""


def _of_binding(manifest: Manifest) -> Iterator[tuple[Table, str]]:
    role = manifest.get("roleRef") or {}
    if role.get("kind") == "ClusterRole":
        yield CLUSTER_ROLES, role.get("name") or ""


def _of_role(_manifest: Manifest) -> Iterator[tuple[Table, str]]:
    """Name nothing: what a cluster role takes in is met by labels."""
    yield from ()


def _of_pod(manifest: Manifest) -> Iterator[tuple[Table, str]]:
    yield from _classes(_spec(manifest))


def _of_cronjob(manifest: Manifest) -> Iterator[tuple[Table, str]]:
    yield from _classes(_inner(_spec(manifest), "jobTemplate", "spec", "template", "spec"))


def _of_workload(manifest: Manifest) -> Iterator[tuple[Table, str]]:
    spec = _spec(manifest)
    yield from _classes(_inner(spec, "template", "spec"))
    for claim in spec.get("volumeClaimTemplates") or []:
        yield STORAGE_CLASSES, (claim.get("spec") or {}).get("storageClassName") or ""


def _of_template(manifest: Manifest) -> Iterator[tuple[Table, str]]:
    yield from _classes(_inner(manifest, "template", "spec"))


def _classes(pod: dict[str, Any]) -> Iterator[tuple[Table, str]]:
    yield PRIORITY_CLASSES, pod.get("priorityClassName") or ""
    yield RUNTIME_CLASSES, pod.get("runtimeClassName") or ""


def _inner(value: Any, *path: str) -> dict[str, Any]:
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


_FINDERS: dict[Table, Callable[[Manifest], Iterator[tuple[Table, str]]]] = {
    ("", "persistentvolumeclaims"): _of_claim,
    VOLUMES: _of_volume,
    (SNAPSHOTS, "volumesnapshots"): _of_snapshot,
    (GROUP_SNAPSHOTS, "volumegroupsnapshots"): _of_group_snapshot,
    ("networking.k8s.io", "ingresses"): _of_ingress,
    (RBAC, "rolebindings"): _of_binding,
    BINDINGS: _of_binding,
    CLUSTER_ROLES: _of_role,
    ("", "pods"): _of_pod,
    ("batch", "cronjobs"): _of_cronjob,
    ("", "replicationcontrollers"): _of_workload,
    ("", "podtemplates"): _of_template,
}
