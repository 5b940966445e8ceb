"""Saves what can be saved, by adding: index objects for packs that none names, and new snapshots beside harmed ones.

A salvaged snapshot holds everything of the harmed one that can still be read, names what it has lost, and is never complete.
Nothing that exists is changed or deleted, so a repair can be looked at, thrown away, and done again.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from becalm.errors import Damaged, NotFound, StoreUnavailable
from becalm.repository import tombstones
from becalm.repository.check import Damage, examine, silent
from becalm.repository.check_objects import load_index
from becalm.repository.crypto import OVERHEAD, unseal
from becalm.repository.format import IndexDoc, Layout
from becalm.repository.harm import HarmWalk
from becalm.repository.pack import decode_header
from becalm.repository.reader import Repository
from becalm.repository.salvage import Salvage, name_lost
from becalm.repository.superseded import supersede, superseded
from becalm.storage.base import Span

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from becalm.repository.check import Examined, Report
    from becalm.repository.format import IndexedBlob
    from becalm.repository.index import Index

_LENGTH = struct.Struct("<I")
_TAIL = 128 << 10
_BLOBS_PER_INDEX = 40_000
_LOOKS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairPlan:
    """What a repair would write."""

    damages: tuple[Damage, ...]
    packs: Mapping[str, tuple[IndexedBlob, ...]]
    """Packs that get an index object: none names them."""
    superseded: tuple[str, ...]
    """Damaged index objects in whose place the new ones stand."""
    salvages: tuple[Salvage, ...]
    examined: Examined

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to write."""
        return not self.packs and not self.superseded and all(one.hopeless for one in self.salvages)

    def agrees(self, other: RepairPlan) -> bool:
        """Whether another look found the same."""
        own, theirs = ((one.damages, one.packs, one.superseded, one.salvages, one.examined.lost) for one in (self, other))
        return own == theirs


def plan(repository: Repository, *, read_data: bool = False, packs: Sequence[str] = (), progress: Report = silent) -> RepairPlan:
    """Say what would be written and what is lost. Nothing is changed.

    `read_data` reads every byte first; else only the structure and `packs`, those that were found damaged before. What is damaged
    is looked at again: what was damaged on its way only is not lost. Raises: StoreUnavailable (no two looks agree).
    """
    plans: list[RepairPlan] = []
    for _ in range(_LOOKS):
        afresh = Repository(store=repository.store, id=repository.id, version=repository.version, key=repository.key)
        plans.append(_look(afresh, read_data=read_data, packs=packs, progress=progress))
        last = plans[-1]
        if not last.damages or any(last.agrees(other) for other in plans[:-1]):
            return last
    raise StoreUnavailable(
        f"{_LOOKS} looks at the repository found something else each time",
        where=repository.store.url,
        hint="the store, or the way to it, damages what is read: mend that first; nothing was written",
    )


def _look(repository: Repository, *, read_data: bool, packs: Sequence[str], progress: Report) -> RepairPlan:
    index, damages = load_index(repository)
    damaged = [damage.where.rpartition("/")[2] for damage in damages]
    marked = tombstones.marked(repository.store)
    found = _headers(repository, index, marked)
    for pack, blobs in found.items():
        index.add(pack, blobs)
    examined = examine(repository, read_data=read_data, choose=lambda _: packs, index=index, progress=progress)
    own = Repository(store=repository.store, id=repository.id, version=repository.version, key=repository.key, _index=index)
    walk = HarmWalk(own, dict.fromkeys(examined.lost, 0)) if examined.lost else None
    salvages = [name_lost(own, walk, point, examined.lost) for point in examined.points] if walk else []
    return RepairPlan(
        damages=tuple(sorted({*damages, *examined.damages})),
        packs=found,
        superseded=tuple(sorted(name for name in damaged if len(name) == 64 and name not in superseded(repository.store))),
        salvages=tuple(one for one in salvages if one.lost),
        examined=examined,
    )


def _headers(repository: Repository, index: Index, marked: Collection[str]) -> dict[str, tuple[IndexedBlob, ...]]:
    """Read the headers of the packs that no index names. Those that prune has marked are on their way out, and stay unnamed."""
    found: dict[str, tuple[IndexedBlob, ...]] = {}
    for info in list(repository.store.list(Layout.DATA)):
        pack = info.key.rpartition("/")[2]
        if info.key != Layout.pack(pack) or index.pack_number(pack) is not None or pack in marked:
            continue
        try:
            found[pack] = tuple(header_of(repository, pack, info.size))
        except (Damaged, NotFound):
            continue  # whatever it was, nothing can be read of it: the blobs it held are missing by name
    return found


def header_of(repository: Repository, pack: str, size: int) -> list[IndexedBlob]:
    """Return what a pack holds, from its end alone. Raises: NotFound, Damaged."""
    key, where = Layout.pack(pack), repository.where(Layout.pack(pack))
    if size < OVERHEAD + _LENGTH.size:
        raise Damaged("the pack is too short", where=where)
    begin = max(0, size - _TAIL)
    tail = repository.store.get(key, Span(offset=begin, length=size - begin))
    (length,) = _LENGTH.unpack_from(tail, len(tail) - _LENGTH.size)
    if not OVERHEAD <= length <= size - _LENGTH.size:
        raise Damaged(f"the pack says that its header has {length} bytes", where=where)
    if length + _LENGTH.size > len(tail):
        tail = repository.store.get(key, Span(offset=size - length - _LENGTH.size, length=length + _LENGTH.size))
    blobs = decode_header(unseal(repository.key, tail[-length - _LENGTH.size : -_LENGTH.size], where=where), where=where)
    end = blobs[-1].offset + blobs[-1].length if blobs else 0
    if end + length + _LENGTH.size != size:
        raise Damaged(f"the blobs of the pack end at {end}, its header does not begin there", where=where)
    return blobs


def restore_index(repository: Repository, plan: RepairPlan, *, who: str, retain_until: datetime | None = None) -> int:
    """Write index objects for the packs of the plan, then the notes on those that they replace; return how many were written."""
    written = 0
    bundle: dict[str, tuple[IndexedBlob, ...]] = {}
    for pack, blobs in sorted(plan.packs.items()):
        bundle[pack] = blobs
        if sum(map(len, bundle.values())) >= _BLOBS_PER_INDEX:
            repository.save_document(Layout.INDEX, IndexDoc(bundle).encode(), retain_until=retain_until)
            bundle, written = {}, written + 1
    if bundle:
        repository.save_document(Layout.INDEX, IndexDoc(bundle).encode(), retain_until=retain_until)
        written += 1
    for name in plan.superseded:
        supersede(repository.store, name, who=who)
    return written
