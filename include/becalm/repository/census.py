"""What is in the bucket, counted so carefully that something may be deleted for it.

A list that cannot be trusted ends everything: one that fails, that shows other things when it is read again, that repeats or goes back,
or that does not show a snapshot of which something else tells and which is there. Nothing here deletes, but for intents that are settled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import orjson

from becalm.clock import format_time
from becalm.errors import NotFound, PruneRefused
from becalm.repository import intents, tombstones
from becalm.repository.format import Layout, SnapshotDoc, is_id, read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from becalm.repository.reader import Repository
    from becalm.repository.tombstones import Tombstone
    from becalm.storage.base import ETag, Key, ObjectInfo, ObjectStore

_FORMAT = 1
_REMEDY = "nothing was deleted; try again, and if it stays so, look at the store"


class Say(Protocol):
    """Where it is said how far it is."""

    def __call__(self, message: str, *, done: int | None = None, total: int | None = None) -> None:
        """Say one thing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What there is. Snapshots that were withdrawn are apart: they do not count."""

    stones: Mapping[str, Tombstone]
    snapshots: Mapping[str, SnapshotDoc]
    withdrawn: tuple[str, ...]
    packs: Mapping[str, ObjectInfo]
    indexes: Mapping[Key, ETag] = field(repr=False)


def look(repository: Repository, *, alive: Callable[[], object] | None, known: Iterable[str] = ()) -> Seen:
    """Look at everything: tombstones first, then intents, snapshots, index objects, and packs last.

    The order is what makes deleting safe: whoever publishes after the intents were settled sees these tombstones. `alive` raises where the
    lease is lost; without it (a dry run, which holds none) nothing is settled, and an open intent counts as what it may become.
    `known` are snapshots that should be there. Raises: PruneRefused, Damaged, and what the store raises.
    """
    store = repository.store
    stones = {stone.pack: stone for stone in tombstones.listed(store)}
    gone = intents.settle(store, alive=alive) if alive else intents.withdrawn(store)
    listed = {info.key.removeprefix(Layout.SNAPSHOTS) for info in steady(store, Layout.SNAPSHOTS)}
    snapshots = {one: _snapshot(repository, one) for one in sorted(listed) if is_id(one) and one not in gone}
    _demand_known(store, listed | gone, (*known, *_remembered(store), *_pinned(store), *(doc.parent for doc in snapshots.values())))
    indexes = {info.key: info.etag for info in steady(store, Layout.INDEX) if is_id(info.key.removeprefix(Layout.INDEX))}
    packs = {info.key.rpartition("/")[2]: info for info in steady(store, Layout.DATA)}
    packs = {pack: info for pack, info in packs.items() if is_id(pack) and info.key == Layout.pack(pack)}
    if packs and not snapshots:
        raise PruneRefused(
            f"there are {len(packs)} packs and no recovery point: everything would go",
            where=f"{store.url}/{Layout.SNAPSHOTS}",
            hint="nothing was deleted; make a recovery point first, or, if nothing here is wanted, remove the whole prefix",
        )
    return Seen(stones=stones, snapshots=snapshots, withdrawn=tuple(sorted(gone & listed)), packs=packs, indexes=indexes)


def steady(store: ObjectStore, prefix: str) -> list[ObjectInfo]:
    """List a prefix twice and return what is there. Raises: PruneRefused where the two lists differ, or one is not in order."""
    first = list(_in_order(store, prefix))
    second = iter(_in_order(store, prefix))
    for info in first:
        again = next(second, None)
        if again is None or (again.key, again.size, again.etag) != (info.key, info.size, info.etag):
            raise _unsteady(store, info.key)
    extra = next(second, None)
    if extra is not None:
        raise _unsteady(store, extra.key)
    return first


def _in_order(store: ObjectStore, prefix: str) -> Iterator[ObjectInfo]:
    last = ""
    for info in store.list(prefix):
        if info.key <= last or not info.key.startswith(prefix):
            raise PruneRefused("a list repeats itself or goes back", where=f"{store.url}/{info.key}", hint=_REMEDY)
        last = info.key
        yield info


def _unsteady(store: ObjectStore, key: Key) -> PruneRefused:
    return PruneRefused("two lists, one after the other, do not show the same", where=f"{store.url}/{key}", hint=_REMEDY)


def _snapshot(repository: Repository, snapshot_id: str) -> SnapshotDoc:
    key = Layout.snapshot(snapshot_id)
    try:
        return SnapshotDoc.decode(repository.load_document(key), where=repository.where(key))
    except NotFound as error:
        raise PruneRefused("a snapshot that was listed is not there", where=repository.where(key), hint=_REMEDY) from error


def _demand_known(store: ObjectStore, listed: set[str] | frozenset[str], known: Iterable[str]) -> None:
    """Pass if no snapshot that something else tells of is there and was not listed."""
    for snapshot_id in sorted({one for one in known if is_id(one)} - listed):
        try:
            store.head(Layout.snapshot(snapshot_id))
        except NotFound:
            continue
        raise PruneRefused(
            "this recovery point is there, and the list of snapshots does not show it",
            where=f"{store.url}/{Layout.snapshot(snapshot_id)}",
            hint=_REMEDY,
        )


def _pinned(store: ObjectStore) -> list[str]:
    return [info.key.removeprefix(Layout.PINS) for info in store.list(Layout.PINS)]


def _remembered(store: ObjectStore) -> list[str]:
    """Return the snapshots that the last look saw. A note that cannot be read tells nothing; it is written anew."""
    try:
        document = store.get(Layout.LOOK)
    except NotFound:
        return []
    found = read_json(document, where=f"{store.url}/{Layout.LOOK}").get("snapshots")
    return [str(one) for one in found] if isinstance(found, list) else []


def remember(store: ObjectStore, seen: Seen) -> None:
    """Note which snapshots there were, for the next look."""
    document = {"format": _FORMAT, "time": format_time(store.now()), "snapshots": sorted(seen.snapshots)}
    store.put(Layout.LOOK, orjson.dumps(document))
