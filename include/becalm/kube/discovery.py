"""The API server's list of what it serves, read from either of its two forms. Pure: documents in, kinds and failures out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from becalm.kube.base import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from becalm.model import Manifest

AGGREGATED = "APIGroupDiscoveryList"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupVersion:
    """One version of a group, in the order of the server's preference."""

    group: str
    version: str

    def __str__(self) -> str:
        """`apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def path(self) -> str:
        """Where its resources are listed."""
        return f"/apis/{self}" if self.group else f"/api/{self}"


def from_aggregated(document: Manifest) -> tuple[list[Kind], dict[str, str]]:
    """Read one aggregated document: the kinds, and each version whose own server does not answer, with the reason."""
    kinds: list[Kind] = []
    failures: dict[str, str] = {}
    for item in document.get("items") or []:
        for version in item.get("versions") or []:
            served = GroupVersion(group=(item.get("metadata") or {}).get("name") or "", version=version["version"])
            if version.get("freshness") == "Stale":
                failures[str(served)] = "the server of this API group does not answer"
                continue
            kinds += [
                _kind(
                    served,
                    resource=resource["resource"],
                    kind=(resource.get("responseKind") or {}).get("kind") or "",
                    namespaced=resource.get("scope") == "Namespaced",
                    verbs=resource.get("verbs"),
                )
                for resource in version.get("resources") or []
            ]
    return mark_preferred(listable(kinds)), failures


def versions_of(document: Manifest) -> Iterator[GroupVersion]:
    """Read a plain APIVersions or APIGroupList: every version, the preferred one of each group first."""
    for version in document.get("versions") or []:
        yield GroupVersion(group="", version=version)
    for group in document.get("groups") or []:
        first = (group.get("preferredVersion") or {}).get("version")
        names = [version["version"] for version in group.get("versions") or []]
        for name in sorted(names, key=lambda name: name != first):
            yield GroupVersion(group=group["name"], version=name)


def from_resource_list(served: GroupVersion, document: Manifest) -> list[Kind]:
    """Read a plain APIResourceList."""
    return listable(
        _kind(
            served, resource=entry["name"], kind=entry.get("kind") or "", namespaced=bool(entry.get("namespaced")), verbs=entry.get("verbs")
        )
        for entry in document.get("resources") or []
    )


def mark_preferred(kinds: Iterable[Kind]) -> list[Kind]:
    """Mark, for each resource, the first version that serves it: a resource that only an older version of its group has is preferred in that one."""
    seen: set[tuple[str, str]] = set()
    marked: list[Kind] = []
    for kind in kinds:
        identity = (kind.group, kind.resource)
        marked.append(replace(kind, preferred=identity not in seen))
        seen.add(identity)
    return marked


def listable(kinds: Iterable[Kind]) -> list[Kind]:
    """Keep what is stored and can be listed: no subresources, no reviews."""
    return [kind for kind in kinds if kind.kind and "/" not in kind.resource and "list" in kind.verbs]


def _kind(served: GroupVersion, *, resource: str, kind: str, namespaced: bool, verbs: list[str] | None) -> Kind:
    return Kind(
        group=served.group, version=served.version, resource=resource, kind=kind, namespaced=namespaced, verbs=frozenset(verbs or ())
    )
