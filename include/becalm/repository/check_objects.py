"""What a check looks at before it looks at packs: index objects, snapshots, keys, and the list of packs.

Each is looked at by itself: a damaged or foreign one becomes a finding and hides none of the others.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np

from becalm.errors import Damaged, NotFound
from becalm.repository.damage import Damage
from becalm.repository.format import Layout, SnapshotDoc, is_id, read_json
from becalm.repository.harm import Point
from becalm.repository.index import Index
from becalm.repository.intents import withdrawn
from becalm.repository.superseded import superseded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from becalm.repository.reader import Repository
    from becalm.repository.segment import Bools, Words

_LOADERS = 4
_ABSENT = -1
FOREIGN = "this is nothing that a repository holds here: its name is not an id"


def load_index(repository: Repository) -> tuple[Index, list[Damage]]:
    """Read all index objects, and name those that cannot be read. Those that were repaired are passed over."""
    index = Index()
    replaced = superseded(repository.store)
    names, damages = _names(repository, Layout.INDEX)

    def one(name: str) -> Damage | None:
        key = Layout.index(name)
        where = repository.where(key)
        try:
            index.add_document(repository.load_document(key), where=where)
        except Damaged as error:
            return None if name in replaced else Damage(where=error.where or where, problem=error.message)
        except NotFound:  # replaced since it was listed: by a prune, whose new ones are listed below
            return None
        return None

    seen: set[str] = set()
    while new := [name for name in names if name not in seen]:
        seen.update(new)
        with ThreadPoolExecutor(max_workers=_LOADERS, thread_name_prefix="index") as pool:
            damages += [damage for damage in pool.map(one, new) if damage is not None]
        names, _ = _names(repository, Layout.INDEX)
    return index, damages


def _names(repository: Repository, prefix: str) -> tuple[list[str], list[Damage]]:
    """Return the ids below a prefix, and a finding for whatever else is there."""
    names: list[str] = []
    damages: list[Damage] = []
    for info in repository.store.list(prefix):
        name = info.key.removeprefix(prefix)
        if is_id(name):
            names.append(name)
        else:
            damages.append(Damage(where=repository.where(info.key), problem=FOREIGN))
    return names, damages


def load_points(repository: Repository, snapshots: Sequence[str] | None) -> tuple[list[Point], list[Damage]]:
    """Read the snapshots (all that were not withdrawn, unless told which), and name those that cannot be read."""
    if snapshots is None:
        names, damages = _names(repository, Layout.SNAPSHOTS)
        try:
            gone = withdrawn(repository.store)
            names = [name for name in names if name not in gone]
        except Damaged as error:
            damages.append(Damage(where=error.where, problem=error.message))
    else:
        names, damages = list(snapshots), []
    points: list[Point] = []
    for name in names:
        key = Layout.snapshot(name)
        where = repository.where(key)
        try:
            doc = SnapshotDoc.decode(repository.load_document(key), where=where)
        except Damaged as error:
            damages.append(Damage(where=error.where or where, problem=error.message))
        except NotFound:
            if snapshots is not None:  # else: forgotten since it was listed
                damages.append(Damage(where=where, problem="the snapshot is not there"))
        else:
            points.append(Point(id=name, time=doc.time, tree=doc.tree))
    return points, damages


def look_at_keys(repository: Repository) -> list[Damage]:
    """Name the keys that cannot be read. Whether the others open, only their passwords can tell."""
    names, damages = _names(repository, Layout.KEYS)
    for name in names:
        where = repository.where(Layout.key(name))
        try:
            body = repository.store.get(Layout.key(name))
            if sha256(body).hexdigest() != name:
                raise Damaged("the key is not what its name says", where=where)  # noqa: TRY301  one handler names the object
            read_json(body, where=where)
        except Damaged as error:
            damages.append(Damage(where=error.where or where, problem=error.message))
        except NotFound:  # removed since it was listed
            continue
    return damages


@dataclass(slots=True, kw_only=True)
class ListedPacks:
    """The packs that are in the bucket."""

    index: Index
    by_number: Words
    """The size of each pack that the index names, by its number; below zero where it is not there."""
    others: dict[str, int]
    """Those that no index names."""
    foreign: list[tuple[str, str]]

    @property
    def unindexed(self) -> list[str]:
        """The packs that no index names."""
        return sorted(self.others)

    def there(self) -> Bools:
        """Say of each pack, by its number, whether it is there."""
        found: Bools = self.by_number > _ABSENT
        return found

    def sizes(self) -> dict[str, int]:
        """Return all packs with their sizes."""
        return {**{self.index.pack_name(n): int(self.by_number[n]) for n in np.flatnonzero(self.there()).tolist()}, **self.others}


def listed_packs(repository: Repository) -> ListedPacks:
    """List the packs, and name what is none."""
    index = repository.index
    found = ListedPacks(index=index, by_number=np.full(index.pack_count, _ABSENT, dtype=np.int64), others={}, foreign=[])
    for info in repository.store.list(Layout.DATA):
        name = info.key.rpartition("/")[2]
        if not is_id(name) or info.key != Layout.pack(name):
            found.foreign.append((repository.where(info.key), FOREIGN))
            continue
        number = index.pack_number(name)
        if number is None:
            found.others[name] = info.size
        else:
            found.by_number[number] = info.size
    return found
