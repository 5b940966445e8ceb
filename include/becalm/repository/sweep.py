"""The hands of a prune: marks, rescues and deletes packs, in an order that leaves nothing dangling wherever it is cut off.

A pack goes in five steps: its tombstone is condemned, the index objects that name it are replaced, the pack is deleted, then the
tombstone. Whoever is cut off between two of them leaves packs that nobody relies on, and the next prune begins again with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.errors import AccessDenied, Conflict, NotFound, PreconditionFailed
from becalm.repository import reindex, tombstones
from becalm.repository.census import steady
from becalm.repository.format import IndexDoc, Layout, is_id

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from becalm.repository.census import Say, Seen
    from becalm.repository.reader import Repository
    from becalm.repository.tombstones import Tombstone
    from becalm.storage.base import ETag, Key

_BATCH = 1000
"""So many packs go together: each batch frees its space before the next begins."""
_BETWEEN = 50


class Sweep:
    """One prune at work."""

    def __init__(
        self,
        repository: Repository,
        seen: Seen,
        named: Mapping[Key, tuple[str, ...]],
        *,
        who: str,
        alive: Callable[[], object],
        progress: Say,
    ) -> None:
        """Know what was seen, and which packs each index object names."""
        self._repository = repository
        self._store = repository.store
        self._seen = seen
        self._named = dict(named)
        self._who = who
        self._alive = alive
        self._progress = progress
        self._stones = {stone.pack: stone.etag for stone in seen.stones.values()}
        """The tombstones as they must be while nobody else is at work."""
        self._own: set[Key] = set()
        """Index objects that were written."""

    @property
    def indexes(self) -> int:
        """How many index objects were written."""
        return len(self._own)

    def mark(self, packs: Sequence[str]) -> int:
        """Write tombstones; return how many. One that is there already is fine."""
        new = 0
        for number, pack in enumerate(packs):
            if number % _BETWEEN == 0:
                self._alive()
                self._progress("packs marked", done=number, total=len(packs))
            new += tombstones.mark(self._store, pack, reason="nothing referred to it", who=self._who)
        return new

    def rescue(self, stones: Sequence[Tombstone]) -> int:
        """Take tombstones away again. Raises: Conflict where somebody else was quicker; then nothing may be deleted."""
        for stone in stones:
            self._alive()
            if not tombstones.rescue(self._store, stone, who=self._who):
                raise Conflict(
                    "the tombstone of a pack that is needed has changed since it was read",
                    where=self._repository.where(Layout.tombstone(stone.pack)),
                    hint="nothing was deleted; prune again",
                )
            self._stones.pop(stone.pack, None)
        return len(stones)

    def forget_gone(self, stones: Sequence[Tombstone]) -> None:
        """Take away the tombstones of packs that are not there, unless an index object still names them."""
        named = {pack for packs in self._named.values() for pack in packs}
        for stone in stones:
            if stone.pack not in named:
                self._alive()
                tombstones.remove(self._store, stone.pack, stone.etag)
                self._stones.pop(stone.pack, None)

    def delete(self, stones: Sequence[Tombstone], *, dangling: frozenset[str]) -> tuple[list[str], int]:
        """Delete packs, batch by batch; return those that are gone, and how many stay because something is locked.

        Index objects are replaced by such as do not name them, nor the `dangling` packs, which are not there.
        """
        gone: list[str] = []
        stay = 0
        for batch in self._batches(stones):
            held = self._held_by_index({stone.pack for stone in batch})
            free = [stone for stone in batch if stone.pack not in held and not reindex.locked(self._repository, Layout.pack(stone.pack))]
            stay += len(batch) - len(free)
            condemned = self._condemn(free)
            self._demand_unnamed(condemned.keys())
            self._reindex(dangling | condemned.keys())
            named = {pack for key in self._naming(condemned) for pack in self._named[key]}
            for pack, etag in condemned.items():
                self._alive()
                if pack not in named and self._delete(pack, etag):
                    gone.append(pack)
                else:
                    stay += 1
                self._progress("packs deleted", done=len(gone), total=len(stones))
        if not stones and dangling:
            self._reindex(dangling)
        return gone, stay

    def _batches(self, stones: Sequence[Tombstone]) -> Iterator[Sequence[Tombstone]]:
        """Yield the packs a thousand at a time, those together that one index object names: it is replaced as seldom as can be."""
        place = {pack: number for number, packs in enumerate(self._named.values()) for pack in packs}
        ordered = sorted(stones, key=lambda stone: (place.get(stone.pack, -1), stone.pack))
        for begin in range(0, len(ordered), _BATCH):
            yield ordered[begin : begin + _BATCH]

    def _naming(self, packs: Iterable[str]) -> list[Key]:
        wanted = frozenset(packs)
        return [key for key, named in self._named.items() if not wanted.isdisjoint(named)]

    def _held_by_index(self, packs: set[str]) -> set[str]:
        """Return those packs that a locked index object names: while it stands it must not name what is gone."""
        locked = [key for key in self._naming(packs) if reindex.locked(self._repository, key)]
        return {pack for key in locked for pack in self._named[key]} & packs

    def _condemn(self, stones: Sequence[Tombstone]) -> dict[str, ETag]:
        condemned: dict[str, ETag] = {}
        for stone in stones:
            self._alive()
            etag = tombstones.condemn(self._store, stone, who=self._who)
            if etag is not None:
                condemned[stone.pack] = self._stones[stone.pack] = etag
        return condemned

    def _demand_unnamed(self, packs: Collection[str]) -> None:
        """Raise Conflict where an index object that came meanwhile names one of these packs: somebody else prunes, and has kept it."""
        for info in steady(self._store, Layout.INDEX):
            if info.key in self._seen.indexes or info.key in self._own or not is_id(info.key.removeprefix(Layout.INDEX)):
                continue
            try:
                document = self._repository.load_index(info.key)
            except NotFound:
                continue
            slabs = IndexDoc.pack_slabs(document, where=self._repository.where(info.key))
            if any(pack in packs for slab in slabs for pack, _ in slab):
                raise self._not_alone(info.key)

    def _demand_alone(self) -> None:
        """Raise Conflict where a tombstone is not as it was left: somebody else prunes, and may be deleting what the new index objects name."""
        there = {stone.pack: stone.etag for stone in tombstones.listed(self._store)}
        for pack, etag in self._stones.items():
            if there.get(pack) != etag:
                raise self._not_alone(Layout.tombstone(pack))

    def _not_alone(self, key: Key) -> Conflict:
        return Conflict(
            "it changed while packs were being deleted: somebody else prunes", where=self._repository.where(key), hint="prune again"
        )

    def _reindex(self, packs: Iterable[str]) -> None:
        without = frozenset(packs)
        keys = [key for key in self._naming(without) if not reindex.locked(self._repository, key)]
        if not keys:
            return
        self._progress(f"{len(keys)} index objects are replaced")
        written, stay = reindex.replace(
            self._repository, keys, self._seen.indexes, without=without, alive=self._alive, alone=self._demand_alone
        )
        self._own.update(written)
        for key in set(keys).difference(stay):
            del self._named[key]

    def _delete(self, pack: str, etag: ETag) -> bool:
        key = Layout.pack(pack)
        try:
            self._store.delete(key, if_match=self._seen.packs[pack].etag)
        except (AccessDenied, PreconditionFailed):  # locked meanwhile, or another object under this name
            return False
        tombstones.remove(self._store, pack, etag)
        self._stones.pop(pack, None)
        return True
