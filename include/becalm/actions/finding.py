"""Finding things over all points of a policy: objects by name, kind, label and namespace, files of volumes by name; each with the points that hold it.

Objects are answered from the index. The names of files are read from the bucket when they are asked for first, directory by directory, and stand in
the index from then on; a directory that is the same in many points is looked at once.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  (pydantic resolves the annotations at run time)
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from becalm.actions.restore_patterns import kind_matches
from becalm.actions.timeline import Moment  # noqa: TC001  (pydantic resolves the annotations at run time)
from becalm.errors import UsageError
from becalm.kube.kinds import NAMESPACE
from becalm.model import ResourceRef  # noqa: TC001  (pydantic resolves the annotations at run time)
from becalm.policy import globs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from becalm.actions.timeline import Timeline, Version
    from becalm.policy.labels import LabelSelector
    from becalm.repository.reader import Repository

MOST_HITS = 100_000
VOLUMES = "volumes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is looked for. Nothing said: everything."""

    name: str = "*"
    """A glob."""
    namespaces: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    labels: tuple[LabelSelector, ...] = ()
    """One of them suffices."""
    since: datetime | None = None
    until: datetime | None = None
    """Points cut outside of these times do not count."""

    def means(self, ref: ResourceRef, kind: str) -> bool:
        """Say whether an object is meant, by its reference and its kind."""
        place = ref.namespace or (ref.name if (ref.group, ref.resource) == (NAMESPACE.group, NAMESPACE.resource) else "")
        return (
            fnmatchcase(ref.name, self.name)
            and (not self.namespaces or any(globs.matches(pattern, place) for pattern in self.namespaces))
            and (not self.kinds or any(kind_matches(pattern, ref.group, ref.resource, kind) for pattern in self.kinds))
        )

    def counts(self, moment: Moment) -> bool:
        """Say whether a point counts."""
        return (self.since is None or moment.cut >= self.since) and (self.until is None or moment.cut <= self.until)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundObject:
    """An object, and the points that hold it."""

    ref: ResourceRef
    kind: str
    labels: Mapping[str, str]
    """Those of its last version."""
    versions: int
    first: Moment
    last: Moment
    gone: bool
    """Whether the newest point is without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A file of a volume, or a folder in it, and the points that hold it."""

    volume: str
    """`namespace/claim`."""
    path: str
    first: Moment
    last: Moment
    points: int


def objects(timeline: Timeline, query: Query) -> list[FoundObject]:
    """Return the objects that are meant, in the order of their paths."""
    found: dict[ResourceRef, FoundObject] = {}
    for version in timeline.versions(wants=query.means):
        if not _overlaps(version, query) or (query.labels and not any(one.matches(version.labels) for one in query.labels)):
            continue
        before = found.get(version.ref)
        found[version.ref] = FoundObject(
            ref=version.ref,
            kind=version.kind or (before.kind if before else ""),
            labels=version.labels,
            versions=before.versions + 1 if before else 1,
            first=before.first if before else version.first,
            last=version.last,
            gone=version.after is not None,
        )
    return list(found.values())


def _overlaps(version: Version, query: Query) -> bool:
    return (query.until is None or version.first.cut <= query.until) and (query.since is None or version.last.cut >= query.since)


def files(timeline: Timeline, repository: Repository, query: Query) -> list[FoundFile]:
    """Return the files and folders of volumes that are meant: a glob with a slash is for the path in the volume, one without for the name.

    Raises: UsageError (too many are meant), Damaged, and what the store raises.
    """
    with timeline.at_once():
        return _files(timeline, _Search(timeline, repository, query.name), query)


def _files(timeline: Timeline, search: _Search, query: Query) -> list[FoundFile]:
    found: dict[tuple[str, str], FoundFile] = {}
    for moment in timeline.moments:
        if not query.counts(moment):
            continue
        for volume, tree in search.volumes(moment.tree):
            if query.namespaces and not any(globs.matches(pattern, volume.partition("/")[0]) for pattern in query.namespaces):
                continue
            for path in search.below(tree):
                before = found.get((volume, path))
                found[volume, path] = (
                    replace(before, last=moment, points=before.points + 1)
                    if before
                    else FoundFile(volume=volume, path=path, first=moment, last=moment, points=1)
                )
            if len(found) > MOST_HITS:
                raise UsageError(f"more than {MOST_HITS} files are meant", where=query.name, hint="say more of the name, or --namespace")
    return sorted(found.values(), key=lambda one: (one.volume, one.path))


@dataclass(slots=True)
class _Search:
    """One search; what is below a tree is found once, whatever number of points hold it."""

    timeline: Timeline
    repository: Repository
    glob: str
    _found: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def volumes(self, tree: str) -> Iterator[tuple[str, str]]:
        """Yield the volumes of a point, each with its tree."""
        for name, top in self.timeline.entries(self.repository, tree):
            if name == VOLUMES and top:
                for namespace, inside in self.timeline.entries(self.repository, top):
                    for claim, own in self.timeline.entries(self.repository, inside) if inside else ():
                        if own:
                            yield f"{namespace}/{claim}", own

    def below(self, tree: str) -> tuple[str, ...]:
        """Return the paths below a tree, from there, that are meant."""
        by_path = "/" in self.glob
        waiting = [tree]
        while waiting:
            entries = self.timeline.entries(self.repository, waiting[-1])
            missing = [inside for _, inside in entries if inside and inside not in self._found]
            if missing:
                waiting += missing
                continue
            self._found[waiting.pop()] = tuple(self._matching(entries, by_path=by_path))
        found = self._found[tree]
        return tuple(path for path in found if fnmatchcase(path, self.glob)) if by_path else found

    def _matching(self, entries: list[tuple[str, str]], *, by_path: bool) -> Iterator[str]:
        """Yield what is meant of a directory; where a path is asked for, all that its last segment allows."""
        last = self.glob.rpartition("/")[2]
        for name, inside in entries:
            if fnmatchcase(name, last if by_path else self.glob):
                yield name
            for path in self._found[inside] if inside else ():
                yield f"{name}/{path}"
