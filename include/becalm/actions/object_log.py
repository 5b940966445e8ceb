"""What became of one object from point to point: when it came, how it changed, who did it as far as that is known, and when it was gone.

It is answered from the index (`timeline`); of the bucket is read only what the index does not keep. Values of Secrets are hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from becalm.actions.diff import Change, Rules, compare_objects
from becalm.actions.drift_writers import maker_of, writer_of
from becalm.actions.timeline import Moment  # noqa: TC001  (pydantic resolves the annotations at run time)
from becalm.kube.diffing import FieldChange  # noqa: TC001  (pydantic resolves the annotations at run time)
from becalm.model import ResourceRef  # noqa: TC001  (pydantic resolves the annotations at run time)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.actions.restore_patterns import ObjectPattern
    from becalm.actions.timeline import Timeline, Version
    from becalm.model import Manifest
    from becalm.repository.reader import Repository

_GLOB = frozenset("*?[")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that became of an object, between two recovery points."""

    ref: ResourceRef
    kind: str
    change: Change
    since: Moment | None
    """The last point that knows nothing of it; None where it is in the first one there is."""
    seen: Moment
    """The first point that shows it."""
    fields: tuple[FieldChange, ...] = ()
    writers: tuple[str, ...] = ()
    """Who wrote what changed, by the server's own record. Who took something away is not in it."""


def log(timeline: Timeline, repository: Repository, pattern: ObjectPattern, rules: Rules, *, everything: bool = False) -> Iterator[Entry]:
    """Yield what became of each object that is meant, oldest first. A change that the rules ignore is left out, unless everything is asked for.

    Raises: Damaged, and what the store raises.
    """
    exact = "" if _GLOB & set(pattern.name) else pattern.name
    for _, versions in groupby(timeline.versions(name=exact, wants=pattern.matches), key=lambda version: version.ref):
        yield from _of_one(list(versions), timeline, repository, rules, everything=everything)


def _of_one(versions: list[Version], timeline: Timeline, repository: Repository, rules: Rules, *, everything: bool) -> Iterator[Entry]:
    held: Version | None = None
    old: Manifest = {}
    for version in versions:
        new = timeline.content(repository, version)
        if held is not None and version.before == held.last:
            fields, _ = compare_objects(old, new, rules.fields)
            if fields or everything:
                writers = dict.fromkeys(str(writer) for change in fields if (writer := writer_of(new, change.path)))
                yield _entry(version, Change.CHANGED, version.first, fields=tuple(fields), writers=tuple(writers))
        else:
            if held is not None and held.after is not None:
                yield _entry(held, Change.REMOVED, held.after)
            maker = maker_of(new)
            yield _entry(version, Change.ADDED, version.first, writers=(str(maker),) if maker else ())
        held, old = version, new
    if held is not None and held.after is not None:
        yield _entry(held, Change.REMOVED, held.after)


def _entry(version: Version, change: Change, seen: Moment, **more: Any) -> Entry:
    since = version.last if change is Change.REMOVED else version.before
    return Entry(ref=version.ref, kind=version.kind, change=change, since=since, seen=seen, **more)
