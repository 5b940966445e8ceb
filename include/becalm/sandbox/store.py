"""Objects with a history: one revision counter over everything, reads at any revision that is not compacted, and changes to follow.

It never changes an object that it was given or gave away: whoever wants to change one copies it first (`copied`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import orjson

from becalm.sandbox.answers import expired

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from becalm.model import Manifest

Place: TypeAlias = tuple[str, str]
"""Namespace (empty for objects of the cluster) and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One write: what stood there before, and what stands there now (nothing: it was removed)."""

    revision: int
    bucket: str
    place: Place
    before: Manifest | None
    after: Manifest | None
    """For a removal: nothing; the object's last state is `last`."""
    last: Manifest

    @property
    def type(self) -> str:
        """Return the type of the event that a watcher sees."""
        return "DELETED" if self.after is None else "MODIFIED" if self.before is not None else "ADDED"


def copied(manifest: Manifest) -> Manifest:
    """Return a copy that may be changed."""
    copy: Manifest = orjson.loads(orjson.dumps(manifest))
    return copy


class _Bucket:
    """The objects of one resource: now, and before."""

    def __init__(self) -> None:
        self.now: dict[Place, Manifest] = {}
        self.places: list[Place] = []
        """Every place with a history, in order."""
        self.history: dict[Place, list[tuple[int, Manifest | None]]] = {}
        self.changes: list[Change] = []

    def at(self, place: Place, revision: int) -> Manifest | None:
        versions = self.history[place]
        found = bisect_right(versions, revision, key=lambda version: version[0])
        return versions[found - 1][1] if found else None

    def forget(self, revision: int) -> None:
        self.changes = self.changes[bisect_right(self.changes, revision, key=lambda change: change.revision) :]
        for place in list(self.history):
            versions = self.history[place]
            first = max(bisect_right(versions, revision, key=lambda version: version[0]) - 1, 0)
            kept = versions[first:]
            if len(kept) == 1 and kept[0][1] is None and kept[0][0] <= revision:
                del self.history[place]
            else:
                self.history[place] = kept
        self.places = sorted(self.history)


class Store:
    """All objects. Belongs to one thread."""

    def __init__(self, *, revision: int = 0) -> None:
        """Begin after a revision; what was before it is compacted."""
        self.revision = revision
        self.compacted = revision
        self._buckets: defaultdict[str, _Bucket] = defaultdict(_Bucket)
        self._listeners: list[Callable[[Change], None]] = []

    def listen(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Call somebody with each change, who must not write in that call; return how to stop."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def load(self, bucket: str, place: Place, manifest: Manifest) -> None:
        """Take in an object from an earlier life, without a new revision."""
        self._record(bucket, place, manifest, int(manifest["metadata"]["resourceVersion"]))

    def get(self, bucket: str, place: Place) -> Manifest | None:
        """Return an object as it is now; not to be changed."""
        return self._buckets[bucket].now.get(place)

    def all(self, bucket: str, *, namespace: str | None = None) -> list[Manifest]:
        """Return a resource's objects as they are now, of one namespace or of all; not to be changed."""
        now = self._buckets[bucket].now
        return [manifest for place, manifest in now.items() if namespace is None or place[0] == namespace]

    def put(self, bucket: str, place: Place, manifest: Manifest) -> Manifest:
        """Write an object (the store owns it from now on) under the next revision."""
        before = self.get(bucket, place)
        self.revision += 1
        manifest["metadata"]["resourceVersion"] = str(self.revision)
        self._record(bucket, place, manifest, self.revision)
        self._tell(Change(revision=self.revision, bucket=bucket, place=place, before=before, after=manifest, last=manifest))
        return manifest

    def remove(self, bucket: str, place: Place) -> Manifest:
        """Remove an object and return its last state, which carries the revision of its removal."""
        held = self._buckets[bucket]
        before = held.now.pop(place)
        self.revision += 1
        last = copied(before)
        last["metadata"]["resourceVersion"] = str(self.revision)
        held.history[place].append((self.revision, None))
        self._tell(Change(revision=self.revision, bucket=bucket, place=place, before=before, after=None, last=last))
        return last

    def walk(self, bucket: str, *, namespace: str | None, revision: int, start: Place = ("", "")) -> Iterator[Manifest]:
        """Yield a resource's objects in the order of namespace and name, as they were at a revision, from a place on.

        Raises: ApiError (410) where the revision is compacted.
        """
        if revision < self.compacted:
            raise expired("The resourceVersion for the provided list is too old.")
        held = self._buckets[bucket]
        places = held.places
        index = bisect_left(places, max(start, (namespace, "")) if namespace else start)
        while index < len(places):
            place = places[index]
            if namespace and place[0] != namespace:
                return
            found = held.now.get(place) if revision >= self.revision else held.at(place, revision)
            if found is not None:
                yield found
            index += 1

    def changes(self, bucket: str, *, after: int) -> list[Change]:
        """Return a resource's changes after a revision. Raises: ApiError (410) where they are compacted."""
        if after < self.compacted:
            raise expired(f"too old resource version: {after} ({self.compacted})")
        found = self._buckets[bucket].changes
        return found[bisect_right(found, after, key=lambda change: change.revision) :]

    def compact(self, revision: int | None = None) -> int:
        """Forget what was before a revision; return what is now the oldest one."""
        self.compacted = max(self.compacted, min(self.revision, self.revision if revision is None else revision))
        for held in self._buckets.values():
            held.forget(self.compacted)
        return self.compacted

    def _record(self, bucket: str, place: Place, manifest: Manifest, revision: int) -> None:
        held = self._buckets[bucket]
        held.now[place] = manifest
        if place not in held.history:
            insort(held.places, place)
            held.history[place] = []
        held.history[place].append((revision, manifest))

    def _tell(self, change: Change) -> None:
        self._buckets[change.bucket].changes.append(change)
        for listener in tuple(self._listeners):
            listener(change)
