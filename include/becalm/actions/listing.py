"""Every selected object of some namespaces, listed at exactly one revision, and streamed into the repository as the server gave it.

One LIST per kind and namespace, or one per kind where the namespaces are many. If the revision is gone, all is listed again at a later one.
`survey` makes the same lists and writes nothing. Nothing is changed in the cluster.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from becalm.actions import certificates
from becalm.actions.lists import LISTS_AT_ONCE, TRIES, Job, Pass, Scope, jobs
from becalm.actions.shelf import Sheaf, Shelf
from becalm.errors import AccessDenied
from becalm.kube.kinds import NAMESPACE
from becalm.model import CORE_GROUP, Excluded, Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from becalm.clock import Clock
    from becalm.kube.base import Cluster, Discovery
    from becalm.model import Certificate
    from becalm.repository.writer import Writer

__all__ = ["LISTS_AT_ONCE", "TRIES", "Job", "Listed", "Scope", "Surveyed", "execute", "jobs", "survey"]

FEW_NAMESPACES = 16
"""Up to so many are listed one by one."""
SHARE = 4
"""More of them are listed with all others at once, if they are at least the fourth part of those that exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What was listed."""

    revision: str
    tree: str
    objects: int
    bytes_total: int = 0
    """The bytes of their JSON."""
    listed_again: str = ""
    excluded: tuple[Excluded, ...] = ()
    findings: tuple[Finding, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    notes: tuple[str, ...] = ()
    """Which kinds were listed in another version than the one that the server prefers, and why."""


def execute(scope: Scope, *, revision: str, cluster: Cluster, writer: Writer, clock: Clock) -> Listed:
    """List and write all of it. If the revision has been compacted away, everything is listed again at one later revision."""
    served = cluster.discover()
    wide = _is_wide(scope, cluster)
    with Shelf(writer) as shelf:
        done = Pass(scope, cluster, shelf, clock, served.kinds, revision, wide=wide)
        done.run()
        again = ""
        if done.gone:
            later = cluster.list(NAMESPACE, page_size=1).revision
            again = f"the revision {revision} was gone ({done.gone}); all objects were listed again at {later}"
            done = Pass(scope, cluster, shelf, clock, served.kinds, later, wide=wide, last=True)
            done.run()
            revision = later
            if done.gone:
                again += f"; what has no such revision was listed as it is ({done.gone})"
        shelf.settle()
        shelved = done.shelved()
        tree = shelf.write(shelved)
    return Listed(
        revision=revision,
        tree=tree,
        objects=sum(map(len, shelved.values())),
        bytes_total=sum(answer.size for answer in done.answers),
        listed_again=again,
        excluded=(*done.excluded, *done.counted()),
        findings=(*_silent(served), *done.findings),
        certificates=certificates.told(one for answer in done.answers for one in answer.certificates),
        notes=done.notes(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyed:
    """What a capture would list now."""

    objects: Mapping[str, int]
    """How many of each kind."""
    certificates: tuple[Certificate, ...] = ()
    excluded: tuple[Excluded, ...] = ()
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()


class _Count:
    """A shelf that keeps nothing: it only remembers that an object was there."""

    def keep(self, sheaf: Sheaf) -> None:
        """Count its objects."""
        for folder, name in sheaf.places:
            sheaf.into.setdefault(folder, {})[name] = b""


def survey(scope: Scope, *, cluster: Cluster, clock: Clock) -> Surveyed:
    """Count what a capture would list now, by the same rules and with the same lists; write nothing."""
    served = cluster.discover()
    revision = cluster.list(NAMESPACE, page_size=1).revision
    done = Pass(scope, cluster, _Count(), clock, served.kinds, revision, wide=_is_wide(scope, cluster), last=True)
    done.run()
    objects: Counter[str] = Counter()
    for (group, resource, _), entries in done.shelved().items():
        objects[resource if group == CORE_GROUP else f"{resource}.{group}"] += len(entries)
    return Surveyed(
        objects=objects,
        certificates=certificates.told(one for answer in done.answers for one in answer.certificates),
        excluded=(*done.excluded, *done.counted()),
        findings=(*_silent(served), *done.findings),
        notes=done.notes(),
    )


def _silent(served: Discovery) -> list[Finding]:
    """Name the API groups that do not answer."""
    return [
        Finding(where=name, message=f"the API group does not answer, its objects are missing: {reason}", remedy="look at its APIService")
        for name, reason in sorted(served.failures.items())
    ]


def _is_wide(scope: Scope, cluster: Cluster) -> bool:
    """Say whether to list all namespaces at once: a request for each kind and each of very many namespaces takes longer."""
    if len(scope.namespaces) <= FEW_NAMESPACES:
        return False
    try:
        return SHARE * len(scope.namespaces) >= sum(1 for _ in cluster.list(NAMESPACE))
    except AccessDenied:
        return False
