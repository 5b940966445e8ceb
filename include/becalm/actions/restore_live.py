"""What a plan must know of the cluster: what it serves, and which of the objects in question are there. It only reads.

One list per kind and namespace, however many objects are asked for; a handful is asked for one by one.
"""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from becalm.errors import NotFound
from becalm.kube.kinds import NAMESPACE, STORAGE_CLASS
from becalm.kube.rules import child
from becalm.model import ResourceRef

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from becalm.actions.handover import Ports
    from becalm.kube.base import Discovery, Kind
    from becalm.model import Manifest

READERS = 8
ONE_BY_ONE = 3
"""Up to so many objects of a kind in a namespace are asked for by name."""
MANY_NAMESPACES = 20
"""From so many namespaces on, a kind is listed once for the whole cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """The cluster, as far as a restore is concerned with it."""

    kinds: tuple[Kind, ...]
    failures: Mapping[str, str] = field(default_factory=dict)
    """Groups that did not answer the question what they serve."""
    objects: Mapping[ResourceRef, Manifest] = field(default_factory=dict)
    """Those of the objects in question that are there, and the namespaces they would stand in."""
    storage_classes: tuple[Manifest, ...] = ()
    own_namespace: str = "becalm"

    def serves(self, kind: Kind) -> bool:
        """Say whether a kind is served in that version."""
        return any((one.group, one.resource, one.version) == (kind.group, kind.resource, kind.version) for one in self.kinds)

    def versions(self, kind: Kind) -> tuple[str, ...]:
        """Return the versions in which a kind is served."""
        return tuple(sorted(one.version for one in self.kinds if (one.group, one.resource) == (kind.group, kind.resource)))

    def namespace(self, name: str) -> Manifest | None:
        """Return a namespace, or nothing."""
        return self.objects.get(namespace_ref(name))


def namespace_ref(name: str) -> ResourceRef:
    """Name a namespace as an object."""
    return ResourceRef(group="", resource=NAMESPACE.resource, namespace=None, name=name)


def read_live(targets: Iterable[tuple[Kind, ResourceRef]], ports: Ports) -> Live:
    """Look up what a plan needs. Raises: AccessDenied, and what the cluster raises."""
    discovery = ports.cluster.discover()
    wanted = _by_kind(targets, discovery)
    with ThreadPoolExecutor(max_workers=READERS) as pool:
        found = pool.map(lambda one: list(_read(*one, ports=ports)), list(_questions(wanted)))
        objects = {ref: manifest for answer in found for ref, manifest in answer}
    return Live(
        kinds=discovery.kinds,
        failures=discovery.failures,
        objects=objects,
        storage_classes=tuple(ports.cluster.list(STORAGE_CLASS)),
        own_namespace=ports.settings.namespace,
    )


def _by_kind(targets: Iterable[tuple[Kind, ResourceRef]], discovery: Discovery) -> dict[Kind, set[ResourceRef]]:
    """Gather the references by served kind; what is not served cannot be there. The namespaces of all of them are asked for too."""
    served = {(kind.group, kind.version, kind.resource): kind for kind in discovery.kinds}
    wanted: dict[Kind, set[ResourceRef]] = defaultdict(set)
    for kind, ref in targets:
        if (kind.group, kind.version, kind.resource) in served:
            wanted[replace(kind, verbs=frozenset())].add(ref)
        if ref.namespace:
            wanted[replace(NAMESPACE, verbs=frozenset())].add(namespace_ref(ref.namespace))
    return wanted


def _questions(wanted: Mapping[Kind, set[ResourceRef]]) -> Iterator[tuple[Kind, str | None, set[ResourceRef]]]:
    """Yield one question per kind and namespace, or per kind where there are many namespaces."""
    for kind, refs in wanted.items():
        by_namespace: dict[str | None, set[ResourceRef]] = defaultdict(set)
        for ref in refs:
            by_namespace[ref.namespace].add(ref)
        if len(by_namespace) > MANY_NAMESPACES:
            yield kind, None, refs
        else:
            yield from ((kind, namespace, those) for namespace, those in by_namespace.items())


def _read(kind: Kind, namespace: str | None, refs: set[ResourceRef], *, ports: Ports) -> Iterator[tuple[ResourceRef, Manifest]]:
    if len(refs) <= ONE_BY_ONE:
        for ref in refs:
            try:
                yield ref, ports.cluster.get(kind, ref.name, namespace=ref.namespace)
            except NotFound:
                continue
        return
    for manifest in ports.cluster.list(kind, namespace=namespace):
        metadata = child(manifest, "metadata")
        ref = ResourceRef(group=kind.group, resource=kind.resource, namespace=metadata.get("namespace"), name=str(metadata.get("name")))
        if ref in refs:
            yield ref, manifest
