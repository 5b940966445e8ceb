"""Which packs the snapshots need: every tree is read once, and every blob is found in the index, many at a time.

It keeps 32 bytes for each tree and one bit's worth for each pack. A blob that no index knows ends it: then nobody knows what it is in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from becalm.errors import BecalmError, Damaged, PruneRefused
from becalm.repository.format import BlobKind, IndexDoc, IndexedBlob
from becalm.repository.index import Index
from becalm.repository.listing import listing
from becalm.repository.reader import Repository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from becalm.repository.census import Say, Seen
    from becalm.repository.index import Places
    from becalm.storage.base import Key

_AT_ONCE = 1 << 16
_TREES_BETWEEN = 500
_REMEDY = "nothing was deleted; becalm verify names what is damaged, becalm repair saves what can be saved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """What the index says, and what of it the snapshots need."""

    index: Index
    packs: frozenset[str]
    """Packs that hold something needed. Of a blob that lies in several, one is taken: without a tombstone, where there is such a one."""
    named: Mapping[Key, tuple[str, ...]]
    """The packs that each index object names."""
    live: Mapping[str, float]
    """Of each needed pack, the share of its blobs' bytes that is needed; only where it was asked for."""
    collected: Mapping[str, Mapping[str, IndexedBlob]] = field(default_factory=dict, repr=False)
    """Of the packs that were asked for, the blobs that are needed and lie nowhere better."""


def needed(
    repository: Repository,
    seen: Seen,
    *,
    alive: Callable[[], object],
    progress: Say,
    measure: bool = False,
    collect: frozenset[str] = frozenset(),
) -> Needed:
    """Read the index and every tree. `measure` asks for the shares, `collect` for what is needed of some packs.

    Raises: PruneRefused, and what the store raises.
    """
    index, named = _index(repository, seen)
    view = Repository(store=repository.store, id=repository.id, version=repository.version, key=repository.key, _index=index)
    walk = _Walk(view, index, measure=measure, collect=collect)
    roots = [doc.tree for doc in seen.snapshots.values()]
    try:
        walk.follow(roots, alive=alive, progress=progress)
    except Damaged as error:
        raise PruneRefused(
            f"a tree cannot be read, so nobody knows what it needs: {error.message}", where=error.where, hint=_REMEDY
        ) from error
    packs = frozenset(index.pack_name(int(number)) for number in np.flatnonzero(walk.packs))
    gone = sorted(packs - seen.packs.keys())
    if gone:
        raise PruneRefused(
            f"{len(gone)} packs that recovery points need are not there",
            where=repository.where(f"data/{gone[0][:2]}/{gone[0]}"),
            hint=_REMEDY,
        )
    return Needed(index=index, packs=packs, named=named, live=walk.shares() if measure else {}, collected=walk.collected)


def _index(repository: Repository, seen: Seen) -> tuple[Index, dict[Key, tuple[str, ...]]]:
    """Read all index objects; what they say of packs that are marked or gone comes last, so that another place of the same blob is found first."""
    index = Index()
    named: dict[Key, tuple[str, ...]] = {}
    later: list[Key] = []
    for key in seen.indexes:
        packs: list[str] = []
        try:
            for slab in IndexDoc.pack_slabs(repository.load_index(key), where=repository.where(key)):
                packs += [pack for pack, _ in slab]
                index.add_raw([(pack, blobs) for pack, blobs in slab if _usable(pack, seen)], where=repository.where(key))
        except BecalmError as error:
            if not isinstance(error, Damaged):
                raise
            raise PruneRefused(f"an index object cannot be read: {error.message}", where=error.where, hint=_REMEDY) from error
        named[key] = tuple(packs)
        if not all(_usable(pack, seen) for pack in packs):
            later.append(key)
    for there in (True, False):  # what is there before what is not
        for key in later:
            for slab in IndexDoc.pack_slabs(repository.load_index(key), where=repository.where(key)):
                rest = [(pack, blobs) for pack, blobs in slab if not _usable(pack, seen) and (pack in seen.packs) is there]
                index.add_raw(rest, where=repository.where(key))
    return index, named


def _usable(pack: str, seen: Seen) -> bool:
    return pack in seen.packs and pack not in seen.stones


class _Walk:
    """Follows trees, and notes the packs of all that they name."""

    def __init__(self, view: Repository, index: Index, *, measure: bool, collect: frozenset[str]) -> None:
        self._view = view
        self._index = index
        self._seen: set[bytes] = set()
        self._blobs: list[bytes] = []
        self._waiting = 0
        self.packs = np.zeros(index.pack_count, dtype=bool)
        self._counted: set[bytes] | None = set() if measure else None
        self.collected: dict[str, dict[str, IndexedBlob]] = {}
        self._wanted = np.zeros(index.pack_count, dtype=bool)
        self._wanted[[number for pack in collect if (number := index.pack_number(pack)) is not None]] = True
        self._live = np.zeros(index.pack_count if measure else 0, dtype=np.int64)

    def follow(self, roots: Sequence[str], *, alive: Callable[[], object], progress: Say) -> None:
        """Read every tree below the roots, each once."""
        stack = list(roots)
        while stack:
            tree = stack.pop()
            raw = bytes.fromhex(tree)
            if raw in self._seen:
                continue
            self._seen.add(raw)
            if len(self._seen) % _TREES_BETWEEN == 0:
                alive()
                progress(f"{len(self._seen)} directories")
            for nodes in listing(self._view, tree):
                stack += [node["subtree"] for node in nodes if node.get("subtree")]
                self._take([blob for node in nodes for blob in node.get("content") or ()])
        self._settle()
        trees = list(self._seen)
        for begin in range(0, len(trees), _AT_ONCE):
            self._note(BlobKind.TREE, b"".join(trees[begin : begin + _AT_ONCE]))

    def _take(self, blobs: list[str]) -> None:
        if not blobs:
            return
        try:
            self._blobs.append(bytes.fromhex("".join(blobs)))
        except (ValueError, TypeError) as error:
            raise Damaged(f"a file names a blob that has no id: {error}", where=self._view.store.url) from error
        self._waiting += len(blobs)
        if self._waiting >= _AT_ONCE:
            self._settle()

    def _settle(self) -> None:
        joined, self._blobs, self._waiting = b"".join(self._blobs), [], 0
        self._note(BlobKind.DATA, joined)

    def _note(self, kind: BlobKind, joined: bytes) -> None:
        if self._counted is not None:
            joined = b"".join(self._first_seen(joined))
        places = self._index.locate_many(kind, joined)
        if not places.found.all():
            lost = int(np.flatnonzero(~places.found)[0])
            raise Damaged(f"no index knows the {kind} blob {joined[32 * lost : 32 * lost + 32].hex()}", where=self._view.store.url)
        self.packs[places.pack] = True
        for at in np.flatnonzero(self._wanted[places.pack]).tolist():
            self._collect(kind, joined[32 * at : 32 * at + 32].hex(), places, at)
        if self._counted is not None:
            np.add.at(self._live, places.pack, places.length.astype(np.int64))

    def _collect(self, kind: BlobKind, blob_id: str, places: Places, at: int) -> None:
        pack = self._index.pack_name(int(places.pack[at]))
        self.collected.setdefault(pack, {})[f"{kind} {blob_id}"] = IndexedBlob(
            id=blob_id,
            kind=kind,
            offset=int(places.offset[at]),
            length=int(places.length[at]),
            uncompressed_length=int(places.plain[at]),
        )

    def _first_seen(self, joined: bytes) -> Iterable[bytes]:
        counted = self._counted if self._counted is not None else set()
        for place in range(0, len(joined), 32):
            raw = joined[place : place + 32]
            if raw not in counted:
                counted.add(raw)
                yield raw

    def shares(self) -> dict[str, float]:
        """Return how much of each needed pack is needed."""
        ends = self._index.pack_ends()
        return {
            pack: int(self._live[number]) / max(1, ends[pack])
            for number in np.flatnonzero(self.packs).tolist()
            if (pack := self._index.pack_name(number))
        }
