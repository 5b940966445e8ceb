"""A declaration beside a cluster: its objects by what the server calls them, and those that run, in the versions in which they are declared.

It only reads. What nobody selected for backup is looked up one by one, by the names of the declaration.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import orjson

from becalm.actions.diff_sides import DESCRIPTION
from becalm.actions.lanes import side_by_side
from becalm.errors import NotFound
from becalm.kube.rules import child
from becalm.model import Finding, ResourceRef, Severity
from becalm.repository.tree import lookup

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from becalm.actions.declared import Declaration, DeclaredObject, Pointer
    from becalm.actions.diff import Table
    from becalm.actions.diff_sides import PointSide, Wanted
    from becalm.kube.base import Cluster, Kind
    from becalm.model import Manifest

READERS = 8


@dataclass(kw_only=True)
class DeclaredSide:
    """What is declared, as far as the server knows its kinds and the person asked for it."""

    cluster: Cluster
    by_table: dict[Table, dict[ResourceRef, DeclaredObject]] = field(default_factory=dict)
    pointers: Sequence[Pointer] = ()
    findings: list[Finding] = field(default_factory=list)
    kinds: Mapping[tuple[str, str], Kind] = field(default_factory=dict)

    @classmethod
    def of(cls, declaration: Declaration, cluster: Cluster, *, namespace: str, wanted: Wanted) -> DeclaredSide:
        """Give each manifest its place; `namespace` is for those that say none. Raises what the cluster raises."""
        served = {(kind.api_version, kind.kind): kind for kind in cluster.discover().kinds if "/" not in kind.resource}
        side = cls(cluster=cluster, pointers=declaration.pointers, findings=list(declaration.findings), kinds=served)
        for one in declaration.objects:
            side._place(one, namespace, wanted)
        return side

    def _place(self, one: DeclaredObject, namespace: str, wanted: Wanted) -> None:
        manifest = one.manifest
        kind = self.kinds.get((manifest["apiVersion"], manifest["kind"]))
        if kind is None:
            message = f"the server serves no {manifest['apiVersion']} {manifest['kind']}"
            self._say(one, message, "install its definition, or declare it in a version that is served")
            return
        metadata = child(manifest, "metadata")
        place = (metadata.get("namespace") or namespace) if kind.namespaced else None
        ref = ResourceRef(group=kind.group, resource=kind.resource, namespace=place, name=metadata["name"])
        if not wanted.means(ref, kind.kind):
            return
        known = self.by_table.setdefault((kind.group, kind.resource), {})
        if ref in known:
            self._say(
                one, f"{ref} is declared twice, first in {known[ref].where}; this one is compared", "keep one of the two", Severity.WARNING
            )
        known[ref] = one

    def _say(self, one: DeclaredObject, message: str, remedy: str, severity: Severity = Severity.ERROR) -> None:
        self.findings.append(Finding(where=one.where, message=message, remedy=remedy, severity=severity))

    def running(self, table: Table, listed: Mapping[ResourceRef, Manifest]) -> Mapping[ResourceRef, Manifest]:
        """Return what runs of the declared objects of a kind. Raises what the cluster raises."""
        found: dict[ResourceRef, Manifest] = {}
        missing: dict[Kind, list[ResourceRef]] = defaultdict(list)
        for ref, one in self.by_table.get(table, {}).items():
            version = one.manifest["apiVersion"]
            if ref in listed and listed[ref].get("apiVersion") == version:
                found[ref] = listed[ref]
            else:
                missing[self.kinds[version, one.manifest["kind"]]].append(ref)
        for kind, refs in missing.items():
            looked = side_by_side(partial(self._get, kind), refs, lanes=READERS)
            found |= {ref: manifest for ref, manifest in zip(refs, looked, strict=True) if manifest is not None}
        return found

    def _get(self, kind: Kind, ref: ResourceRef) -> Manifest | None:
        try:
            return self.cluster.get(kind, ref.name, namespace=ref.namespace)
        except NotFound:
            return None


def of_another_cluster(side: PointSide, cluster: Cluster) -> Finding | None:
    """Say so where a recovery point was made of another cluster than this one: everything may differ then. Nothing where nobody knows."""
    repository = side.source.repository
    try:
        document = orjson.loads(b"".join(repository.read_file(lookup(repository, side.point.tree, DESCRIPTION))))
        made_of = str(document["cluster"]["uid"])
    except (NotFound, KeyError, TypeError, ValueError):
        return None
    here = cluster.discover().uid
    if not (made_of and here) or made_of == here:
        return None
    return Finding(
        where=side.title,
        message="the recovery point was made of another cluster",
        remedy="look whether --kubeconfig and --context name the right one",
        severity=Severity.WARNING,
    )
