"""The sides of a comparison that Becalm knows: a recovery point, and a live cluster looked at as that point looked at it.

They only read. What the policy of the point does not select is not looked for in the cluster, so that nothing seems to be added which
was never meant; objects without a namespace are looked up by the names that the point holds.
"""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

import orjson
from pydantic import ValidationError

from becalm.actions.diff import SERVICES, Held, Table, selecting
from becalm.actions.restore_request import ObjectPattern, kind_matches
from becalm.actions.restore_shape import target_ref, target_volume
from becalm.actions.restore_source import SavedObject, Source
from becalm.clock import format_time
from becalm.errors import NotFound, UsageError
from becalm.kube.kinds import NAMESPACE
from becalm.kube.mapping import map_namespace
from becalm.kube.rules import child
from becalm.model import Finding, ResourceRef
from becalm.policy import globs
from becalm.policy.select import Selector
from becalm.policy.spec import Selection
from becalm.repository.tree import lookup

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from becalm.kube.base import Cluster, Discovery, Kind
    from becalm.model import Manifest, RecoveryPoint, VolumeRef
    from becalm.repository.reader import Repository

READERS = 8
ONE_BY_ONE = 8
"""Up to so many objects without a namespace are asked for by name."""
FEW_NAMESPACES = 8
"""Up to so many namespaces are listed one by one."""
DESCRIPTION = "recovery-point.json"
_NAMESPACES: Table = (NAMESPACE.group, NAMESPACE.resource)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which objects to compare, as the recovery point names them. Nothing said: all."""

    namespaces: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    objects: tuple[ObjectPattern, ...] = ()

    @classmethod
    def read(cls, *, namespaces: Collection[str] = (), kinds: Collection[str] = (), objects: Collection[str] = ()) -> Wanted:
        """Read what a person typed. Raises UsageError."""
        try:
            return cls(namespaces=tuple(namespaces), kinds=tuple(kinds), objects=tuple(map(ObjectPattern.parse, objects)))
        except ValueError as error:
            raise UsageError(str(error), where="--object") from error

    def means(self, ref: ResourceRef, kind: str) -> bool:
        """Say whether an object is to be compared."""
        if any(pattern.matches(ref, kind) for pattern in self.objects):
            return True
        if self.objects and not (self.namespaces or self.kinds):
            return False
        if self.namespaces and not any(globs.matches(pattern, _place(ref)) for pattern in self.namespaces):
            return False
        return not self.kinds or any(kind_matches(pattern, ref.group, ref.resource, kind) for pattern in self.kinds)


def _place(ref: ResourceRef) -> str:
    """Return the namespace that an object stands in, or is."""
    return ref.namespace or (ref.name if (ref.group, ref.resource) == _NAMESPACES else "")


@dataclass(kw_only=True)
class PointSide:
    """A recovery point, with its namespaces mapped as a restore would map them."""

    point: RecoveryPoint
    source: Source
    wanted: Wanted = field(default_factory=Wanted)
    mapping: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def open(
        cls, repository: Repository, point: RecoveryPoint, *, wanted: Wanted | None = None, mapping: Mapping[str, str] | None = None
    ) -> PointSide:
        """Walk the folders of a point. Raises: Damaged, UsageError (the mapping names no namespace of it), and what the store raises."""
        side = cls(point=point, source=Source.open(repository, point.tree), wanted=wanted or Wanted(), mapping=mapping or {})
        missing = sorted(set(side.mapping) - {_place(ref) for ref in side.source.places})
        if missing:
            raise UsageError(f"the recovery point holds no namespace {missing[0]}", where="--map", hint="becalm show --objects lists them")
        return side

    @property
    def title(self) -> str:
        """Its id and its cut."""
        mapped = "".join(f", {old} as {new}" for old, new in self.mapping.items())
        return f"recovery point {self.point.id[:8]} of policy {self.point.policy}, cut {format_time(self.point.cut)}{mapped}"

    @cached_property
    def volumes(self) -> Mapping[VolumeRef, str] | None:
        """The trees of its volumes; nothing where only some objects are meant, for then nobody asks for data."""
        if self.wanted.kinds or self.wanted.objects:
            return None
        found = self.source.contents(lambda _: False).volumes
        return {
            target_volume(volume, self.mapping): saved.tree
            for volume, saved in found.items()
            if not self.wanted.namespaces or any(globs.matches(pattern, volume.namespace) for pattern in self.wanted.namespaces)
        }

    @cached_property
    def _by_table(self) -> dict[Table, list[ResourceRef]]:
        found: dict[Table, list[ResourceRef]] = defaultdict(list)
        for ref in self.source.places:
            found[ref.group, ref.resource].append(ref)
        return found

    def tables(self) -> Collection[Table]:
        """Return the kinds that it holds."""
        return self._by_table.keys()

    def read(self, table: Table, *, version: str = "") -> Held:  # noqa: ARG002  (a point holds one version of each)
        """Return its objects of a kind, mapped; one that is not what its path says is a finding."""
        read = self.source.read_each(self._by_table.get(table, []))
        objects = {
            target_ref(one.ref, self.mapping): map_namespace(one.manifest, self.mapping)
            for one in read
            if isinstance(one, SavedObject) and self.wanted.means(one.ref, one.kind.kind)
        }
        return Held(objects=objects, findings=tuple(one for one in read if isinstance(one, Finding)))

    def services(self) -> Collection[str]:
        """Return its Services with a selector."""
        read = self.source.read_each(self._by_table.get(SERVICES, []))
        return selecting(map_namespace(one.manifest, self.mapping) for one in read if isinstance(one, SavedObject))

    @cached_property
    def namespaces(self) -> frozenset[str]:
        """Return the namespaces that it holds something of, as they are called after the mapping."""
        names = {_place(ref) for ref in self.source.places} - {""}
        if self.wanted.namespaces:
            names = {name for name in names if any(globs.matches(pattern, name) for pattern in self.wanted.namespaces)}
        return frozenset(self.mapping.get(name, name) for name in names)

    @cached_property
    def names(self) -> Mapping[Table, frozenset[str]]:
        """Return the names of its objects without a namespace, by kind, after the mapping."""
        found: dict[Table, set[str]] = defaultdict(set)
        for ref in self.source.places:
            if ref.namespace is None:
                found[ref.group, ref.resource].add(target_ref(ref, self.mapping).name)
        return {table: frozenset(names) for table, names in found.items()}

    @cached_property
    def selection(self) -> Selection:
        """Return what its policy selected; all that a policy selects by default, where the point does not say."""
        try:
            repository = self.source.repository
            document = orjson.loads(b"".join(repository.read_file(lookup(repository, self.point.tree, DESCRIPTION))))
            return Selection.model_validate(document["policy"]["document"]["spec"]["select"])
        except (NotFound, KeyError, TypeError, ValueError, ValidationError):
            return Selection(namespaces=("*",))


@dataclass(kw_only=True)
class LiveSide:
    """A cluster as it is now, as far as a recovery point speaks of it."""

    cluster: Cluster
    like: PointSide
    volumes: None = None
    """The digests of live volumes are not known; a drill reads them."""
    title: str = "the cluster as it is now"

    @cached_property
    def _discovery(self) -> Discovery:
        return self.cluster.discover()

    @cached_property
    def _kinds(self) -> dict[Table, list[Kind]]:
        """Return what is served and selected: each kind in all its versions, the preferred one first."""
        found: dict[Table, list[Kind]] = defaultdict(list)
        for kind in sorted(self._discovery.kinds, key=lambda kind: not kind.preferred):
            table = (kind.group, kind.resource)
            storable = {"list", "get", "create"} <= kind.verbs
            if table in self.like.tables() or (kind.namespaced and storable and self._selector.resource(*table)):
                found[table].append(kind)
        return found

    @cached_property
    def _selector(self) -> Selector:
        return Selector.of(self.like.selection)

    def tables(self) -> Collection[Table]:
        """Return the kinds that are served and selected."""
        return self._kinds.keys()

    def read(self, table: Table, *, version: str = "") -> Held:
        """List a kind in the namespaces of the point; a group that does not answer is a finding. Raises what the cluster raises."""
        kinds = self._kinds.get(table, [])
        if not kinds:
            return Held(findings=tuple(self._unknown(table[0])))
        kind = next((one for one in kinds if one.version == version), kinds[0])
        found = self._within(kind) if kind.namespaced else self._by_name(kind, table)
        back = {new: old for old, new in self.like.mapping.items()}
        objects = {}
        for manifest in found:
            metadata = child(manifest, "metadata")
            ref = ResourceRef(group=kind.group, resource=kind.resource, namespace=metadata.get("namespace"), name=str(metadata.get("name")))
            if self.like.wanted.means(target_ref(ref, back), kind.kind):
                objects[ref] = manifest
        return Held(objects=objects)

    def services(self) -> Collection[str]:
        """Return the Services with a selector."""
        kinds = self._kinds.get(SERVICES, [])
        return selecting(self._within(kinds[0])) if kinds else set()

    def _unknown(self, group: str) -> Iterator[Finding]:
        """Name a group that did not answer: whether it holds something, nobody knows."""
        for name, reason in self._discovery.failures.items():
            if name.partition("/")[0] == group:
                yield Finding(where=name, message=f"did not say what it serves: {reason}", remedy="look at its APIService")

    def _within(self, kind: Kind) -> Iterator[Manifest]:
        """Yield the selected objects of a kind in the namespaces in question."""
        names = self.like.namespaces
        if len(names) > FEW_NAMESPACES:
            found: Iterable[Manifest] = (one for one in self.cluster.list(kind) if child(one, "metadata").get("namespace") in names)
        else:
            with ThreadPoolExecutor(max_workers=READERS) as pool:
                found = chain.from_iterable(list(pool.map(lambda name: list(self.cluster.list(kind, namespace=name)), names)))
        yield from (one for one in found if self._selector.object(child(one, "metadata")))

    def _by_name(self, kind: Kind, table: Table) -> Iterator[Manifest]:
        """Yield the objects without a namespace that the point holds, too."""
        names = self.like.names.get(table, frozenset())
        if len(names) > ONE_BY_ONE:
            yield from (one for one in self.cluster.list(kind) if child(one, "metadata").get("name") in names)
            return
        for name in sorted(names):
            try:
                yield self.cluster.get(kind, name)
            except NotFound:
                continue
