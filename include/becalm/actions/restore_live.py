"""What a plan must know of the cluster: what it serves, and which of the objects in question are there. It only reads.

One list per kind and namespace, however many objects are asked for; a handful is asked for one by one.
"""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from becalm.actions.restore_scaling import as_before
from becalm.errors import NotFound
from becalm.kube.kinds import NAMESPACE, STORAGE_CLASS
from becalm.kube.rules import child
from becalm.model import ResourceRef

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

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
    quotas: tuple[Manifest, ...] = ()
    """The quotas of the namespaces that the objects go into."""
    own_namespace: str = "becalm"
    _served: frozenset[tuple[str, str, str]] = field(init=False, repr=False)
    _preferred: Mapping[tuple[str, str], str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Make the answers to `serves` and `version_for` quick: they are asked for each object."""
        object.__setattr__(self, "_served", frozenset((one.group, one.resource, one.version) for one in self.kinds))
        preferred = {(one.group, one.resource): one.version for one in reversed(self.kinds)}
        preferred |= {(one.group, one.resource): one.version for one in self.kinds if one.preferred}
        object.__setattr__(self, "_preferred", preferred)

    def serves(self, kind: Kind) -> bool:
        """Say whether a kind is served in that version."""
        return (kind.group, kind.resource, kind.version) in self._served

    def versions(self, kind: Kind) -> tuple[str, ...]:
        """Return the versions in which a kind is served."""
        return tuple(sorted(one.version for one in self.kinds if (one.group, one.resource) == (kind.group, kind.resource)))

    def version_for(self, kind: Kind) -> str:
        """Return the version in which a kind is written: the one it was saved in where that is served, else the one that the server prefers."""
        if (kind.group, kind.resource, kind.version) in self._served:
            return kind.version
        return self._preferred.get((kind.group, kind.resource), kind.version)

    def namespace(self, name: str) -> Manifest | None:
        """Return a namespace, or nothing."""
        return self.objects.get(namespace_ref(name))


def namespace_ref(name: str) -> ResourceRef:
    """Name a namespace as an object."""
    return ResourceRef(group="", resource=NAMESPACE.resource, namespace=None, name=name)


_NAMESPACES = replace(NAMESPACE, verbs=frozenset(), preferred=True)


def read_live(targets: Iterable[tuple[Kind, ResourceRef]], ports: Ports) -> Live:
    """Look up what a plan needs. Raises: AccessDenied, and what the cluster raises."""
    discovery = ports.cluster.discover()
    wanted = _by_kind(targets, discovery)
    namespaces = wanted.pop(_NAMESPACES, set())
    objects = dict(_read(NAMESPACE, None, namespaces, ports=ports)) if namespaces else {}
    there = {ref.name for ref in objects}
    with ThreadPoolExecutor(max_workers=READERS) as pool:
        found = pool.map(lambda one: list(_read(*one, ports=ports)), list(_questions(wanted, there)))
        objects |= {ref: manifest for answer in found for ref, manifest in answer}
    return Live(
        kinds=discovery.kinds,
        failures=discovery.failures,
        objects=objects,
        storage_classes=tuple(ports.cluster.list(STORAGE_CLASS)),
        quotas=tuple(_quotas(discovery, there, ports)),
        own_namespace=ports.settings.namespace,
    )


def _by_kind(targets: Iterable[tuple[Kind, ResourceRef]], discovery: Discovery) -> dict[Kind, set[ResourceRef]]:
    """Gather the references by served kind; what is not served cannot be there. The namespaces of all of them are asked for too."""
    known = Live(kinds=discovery.kinds)
    bare: dict[Kind, Kind] = {}
    wanted: dict[Kind, set[ResourceRef]] = defaultdict(set)
    for kind, ref in targets:
        if kind not in bare:
            bare[kind] = replace(kind, version=known.version_for(kind), verbs=frozenset(), preferred=True)
        if known.serves(bare[kind]):
            wanted[bare[kind]].add(ref)
        if ref.namespace:
            wanted[_NAMESPACES].add(namespace_ref(ref.namespace))
    return wanted


def _quotas(discovery: Discovery, namespaces: Collection[str], ports: Ports) -> Iterator[Manifest]:
    """Yield the quotas of the namespaces that are there."""
    kind = next((kind for kind in discovery.kinds if not kind.group and kind.resource == "resourcequotas"), None)
    if kind is None or not namespaces:
        return
    if len(namespaces) > MANY_NAMESPACES:
        yield from (quota for quota in ports.cluster.list(kind) if child(quota, "metadata").get("namespace") in namespaces)
        return
    for namespace in sorted(namespaces):
        yield from ports.cluster.list(kind, namespace=namespace)


def _questions(wanted: Mapping[Kind, set[ResourceRef]], namespaces: Collection[str]) -> Iterator[tuple[Kind, str | None, set[ResourceRef]]]:
    """Yield one question per kind and namespace that is there, or per kind where there are many namespaces."""
    for kind, refs in wanted.items():
        by_namespace: dict[str | None, set[ResourceRef]] = defaultdict(set)
        for ref in refs:
            if ref.namespace is None or ref.namespace in namespaces:
                by_namespace[ref.namespace].add(ref)
        if len(by_namespace) > MANY_NAMESPACES:
            yield kind, None, {ref for those in by_namespace.values() for ref in those}
        else:
            yield from ((kind, namespace, those) for namespace, those in by_namespace.items())


def _read(kind: Kind, namespace: str | None, refs: set[ResourceRef], *, ports: Ports) -> Iterator[tuple[ResourceRef, Manifest]]:
    if len(refs) <= ONE_BY_ONE:
        for ref in refs:
            try:
                yield ref, as_before(ports.cluster.get(kind, ref.name, namespace=ref.namespace))
            except NotFound:
                continue
        return
    for manifest in ports.cluster.list(kind, namespace=namespace):
        metadata = child(manifest, "metadata")
        ref = ResourceRef(group=kind.group, resource=kind.resource, namespace=metadata.get("namespace"), name=str(metadata.get("name")))
        if ref in refs:
            yield ref, as_before(manifest)
