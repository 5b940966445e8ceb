"""Reads a repository back and names what is damaged: each with the object, and the recovery points that it harms. It changes nothing.

The structure is read whole: every tree, with the packs that hold trees; the other packs' bytes only where that is asked. Nothing
is believed because of its name: a damaged or foreign object is a finding, and the check goes on with what is left.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Protocol

import numpy as np

from becalm.errors import Damaged
from becalm.repository import tombstones
from becalm.repository.check_objects import listed_packs, load_index, load_points, look_at_keys
from becalm.repository.check_packs import Job, Readers, job_of
from becalm.repository.damage import Damage, Harm
from becalm.repository.format import BlobKind, Layout
from becalm.repository.harm import Point, harms
from becalm.repository.listing import listing
from becalm.repository.reach import Needs
from becalm.repository.reader import Repository
from becalm.repository.tree_facts import TreeFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from becalm.repository.check_objects import ListedPacks
    from becalm.repository.check_packs import Hired
    from becalm.repository.check_worker import PackFound
    from becalm.repository.index import Index
    from becalm.repository.segment import Bools
    from becalm.storage.base import Key

__all__ = ["Checked", "Damage", "Examined", "Harm", "Report", "check", "check_tree", "examine", "silent"]

_CHUNK_BYTES = 1 << 30
"""So much is read before it is asked again whether it is enough; packs are read in the order given from one such part to the next."""
_ALONE = 20
"""So many missing blobs are named one by one; of more, one finding tells."""


class Report(Protocol):
    """Where a check says how far it is. While packs are read, `done` and `total` are bytes."""

    def __call__(self, message: str, *, done: int | None = None, total: int | None = None) -> None:
        """Say one thing."""


def silent(message: str, *, done: int | None = None, total: int | None = None) -> None:
    """Say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a tree needs, and what of it is not whole."""

    damages: tuple[Damage, ...]
    keys: tuple[Key, ...]
    """Every object without which the tree cannot be read: packs, index objects, the config and the keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What a check found."""

    damages: tuple[Damage, ...]
    points: tuple[Point, ...]
    """The snapshots that can be read and were followed."""
    lost: frozenset[tuple[bool, bytes]]
    """Blobs that cannot be had: whether it is a tree, and the raw id."""
    verified: tuple[str, ...]
    """The packs of which every byte was read and is what was written."""
    bytes_read: int
    packs: Mapping[str, int]
    """Every pack in the bucket, and its size."""
    unindexed: tuple[str, ...]
    """Packs that no index object names: left by a run that died, or their index object is lost."""
    whole: bool
    """Every snapshot was followed, and nothing that was to be read was left out."""


def check(
    repository: Repository, *, snapshots: Sequence[str] | None = None, read_data: bool = False, progress: Report = silent
) -> list[Damage]:
    """Check what the snapshots (all of them, unless told which) need; with `read_data` every byte of those packs.

    Each tree is read; each blob must be in the index, each pack in the bucket with the size that its blobs and its header make.
    """
    return list(examine(repository, snapshots=snapshots, read_data=read_data, progress=progress).damages)


def examine(
    repository: Repository,
    *,
    snapshots: Sequence[str] | None = None,
    read_data: bool = False,
    choose: Callable[[Collection[str]], Sequence[str]] = lambda read: (),  # noqa: ARG005  (none)
    enough: Callable[[], bool] | None = None,
    workers: int | None = None,
    hired: Hired | None = None,
    index: Index | None = None,
    progress: Report = silent,
) -> Examined:
    """Check the structure, and read packs: all that are needed (`read_data`), or those that are chosen, until it is enough.

    `choose` is told which packs were read for the structure, and returns more, in the order in which they are read. The structure
    is never cut short.

    `hired` are processes that wait for work, used where all is read. `workers` is for tests: the number of processes that read. `index` stands for what the index objects say. Raises: what the store raises.
    """
    with ExitStack() as stack:
        readers = stack.enter_context(_early(repository, workers, hired)) if read_data and snapshots is None and enough is None else None
        damages: list[Damage] = []
        if index is None:
            index, damages = load_index(repository)
        own = Repository(store=repository.store, id=repository.id, version=repository.version, key=repository.key, _index=index)
        damages += look_at_keys(own)
        points, unreadable = load_points(own, snapshots)
        damages += unreadable
        work = _Check(own, progress, enough=enough, workers=workers)
        if readers is not None:
            work.everything(points, readers)
        elif snapshots is None:
            work.all_trees(points)
        else:
            work.trees_of([point.tree for point in points])
        work.read(None if read_data else choose(work.read_already))
    damages += work.damages(points)
    return Examined(
        damages=tuple(sorted(set(damages))),
        points=tuple(points),
        lost=frozenset(work.lost),
        verified=tuple(sorted(work.verified)),
        bytes_read=work.bytes_read,
        packs=work.packs.sizes(),
        unindexed=tuple(work.packs.unindexed),
        whole=snapshots is None and not work.stopped,
    )


def _early(repository: Repository, workers: int | None, hired: Hired | None) -> Readers:
    """Return readers for all that is there: their processes begin while the index is loaded, if not before."""
    total = largest = 0
    for info in repository.store.list(Layout.DATA):
        total, largest = total + info.size, max(largest, info.size)
    return Readers(repository, expected_bytes=total, largest=largest, workers=workers, hired=hired)


def check_tree(repository: Repository, tree_id: str, *, read_data: bool = False, progress: Report = silent) -> Checked:
    """Check one tree, whether or not a snapshot speaks of it, and name the objects that it needs."""
    work = _Check(repository, progress)
    work.trees_of([tree_id])
    if read_data:
        work.read(None)
    store = repository.store
    others = [Layout.CONFIG, *(info.key for prefix in (Layout.KEYS, Layout.INDEX) for info in store.list(prefix))]
    keys = (*others, *(Layout.pack(pack) for pack in sorted(work.needed())))
    return Checked(damages=tuple(sorted(set(work.damages(())))), keys=keys)


class _Check:
    """One check of a repository whose index is loaded."""

    def __init__(
        self, repository: Repository, progress: Report, *, enough: Callable[[], bool] | None = None, workers: int | None = None
    ) -> None:
        self.repository = repository
        self.packs: ListedPacks = listed_packs(repository)
        self.lost: set[tuple[bool, bytes]] = set()
        self.verified: list[str] = []
        self.bytes_read = 0
        self.stopped = False
        self._index = repository.index
        self._progress = progress
        self._enough = enough or (lambda: False)
        self._workers = workers
        self._needs = Needs(self._index)
        self._roots: list[bytes] = []
        self._only_needed = False
        self.read_already: set[str] = set()
        self._found: list[PackFound] = []
        self._done: dict[str, int] = {}
        self._marked = tombstones.marked(repository.store)

    def needed(self) -> Iterator[str]:
        """Yield the packs of what was followed."""
        return (self._index.pack_name(number) for number in np.flatnonzero(self._needs.packs).tolist())

    def everything(self, points: Iterable[Point], readers: Readers) -> None:
        """Read every pack, and take in what the trees need."""
        self._roots = [bytes.fromhex(point.tree) for point in points]
        flags = self.packs.there()
        self._read_some(flags, self._bytes_of(flags), "reading the data", bounded=False, readers=readers)

    def all_trees(self, points: Iterable[Point]) -> None:
        """Read every pack that holds trees, and take in what the trees need."""
        self._roots = [bytes.fromhex(point.tree) for point in points]
        flags = self._index.packs_with_trees()
        self._progress("reading the directories")
        self._read_some(flags, self._bytes_of(flags), "reading the directories", bounded=False)

    def trees_of(self, roots: Iterable[str]) -> None:
        """Follow these trees alone."""
        self._roots = [bytes.fromhex(root) for root in roots]
        self._only_needed = True
        waiting = list(dict.fromkeys(self._roots))
        seen = set(waiting)
        while waiting:
            tree = waiting.pop()
            self._needs.need(tree)
            facts = TreeFacts()
            try:
                below = facts.add_slabs(tree, listing(self.repository, tree.hex()))
            except Damaged as error:
                if self._index.has(BlobKind.TREE, tree.hex()):
                    self.lost.add((True, tree))
                    facts.problems.append((tree, error.message))
                below = []
            self._needs.add(facts)
            waiting += [subtree for subtree in dict.fromkeys(below) if subtree not in seen]
            seen.update(below)
            if len(seen) % 100 == 0:
                self._progress(f"{len(seen)} directories")
        self._needs.settle()

    def read(self, packs: Sequence[str] | None) -> None:
        """Read these packs, or all (of what was followed, where only that counts)."""
        if packs is None:
            chosen = np.ones(self._index.pack_count, dtype=bool)
            if self._only_needed:
                chosen[: len(self._needs.packs)] &= self._needs.packs
            chosen &= self.packs.there()
            for pack in self.read_already:
                chosen[self._index.pack_number(pack)] = False
            self._read_some(chosen, self._bytes_of(chosen), "reading the data")
            return
        numbers = [self._index.pack_number(pack) for pack in packs if pack not in self.read_already]
        wanted = [number for number in numbers if number is not None and self.packs.by_number[number] >= 0]
        total = sum(int(self.packs.by_number[number]) for number in wanted)
        for part in _parts(wanted, self.packs.by_number.tolist()):
            flags = np.zeros(self._index.pack_count, dtype=bool)
            flags[part] = True
            self._read_some(flags, total, "reading the data")

    def _bytes_of(self, flags: Bools) -> int:
        return int(self.packs.by_number[flags & self.packs.there()].sum())

    def _read_some(self, flags: Bools, total: int, message: str, *, bounded: bool = True, readers: Readers | None = None) -> None:
        """Read the packs whose number is set, as far as they are there; where that is bounded, as long as it is not enough."""
        flags = flags & self.packs.there()
        base = self.bytes_read - self._done.get(message, 0)
        sizes = self.packs.by_number

        def found(result: PackFound) -> None:
            self.bytes_read += result.size
            self.read_already.add(result.pack)
            self._done[message] = self.bytes_read - base
            self._progress(message, done=self._done[message], total=total)
            if result.facts is not None:
                self._needs.add(result.facts)
                result.facts = None
            if result.problems:
                self._found.append(result)
                self.lost.update(result.lost)
            else:
                self.verified.append(result.pack)

        jobs = self._jobs(flags, bounded=bounded)
        if readers is not None:
            readers.read(jobs, found)
            return
        expected, largest = int(sizes[flags].sum()), int(sizes[flags].max(initial=0))
        with Readers(self.repository, expected_bytes=expected, largest=largest, workers=self._workers) as own:
            own.read(jobs, found)

    def _jobs(self, flags: Bools, *, bounded: bool) -> Iterator[Job]:
        """Yield the packs that hold trees, then the others: trees take longest, and at the end nobody is to wait for them."""
        trees = self._index.packs_with_trees()
        for entries in chain(self._index.entries_of_packs(flags & trees), self._index.entries_of_packs(flags & ~trees)):
            if bounded and self._enough():
                self.stopped = True
                return
            yield job_of(entries, int(self.packs.by_number[entries.number]))

    def damages(self, points: Collection[Point]) -> list[Damage]:
        """Name all that was found, each with the points that it harms."""
        found: list[tuple[str, str]] = [] if self._only_needed else list(self.packs.foreign)
        by: dict[tuple[bool, bytes], int] = {}
        leaving: set[int] = set()
        for pack, problem, lost in (*self._unlisted(), *self._unread()):
            if pack in self._marked:
                leaving.add(len(found))
            by.update(dict.fromkeys(lost, len(found)))
            found.append((self.repository.where(Layout.pack(pack)), problem))
        reached = self._needs.reached(self._roots)
        for where, problem, lost in _missing(reached.missing - by.keys(), self.repository):
            by.update(dict.fromkeys(lost, len(found)))
            found.append((where, problem))
        for tree, problem in reached.wrong:
            by.setdefault((True, tree), len(found))
            found.append((f"{self.repository.store.url}: tree {tree.hex()}", problem))
        self.lost.update(by)
        told = harms(self.repository, points, by) if by else {}
        return [
            Damage(where=where, problem=problem, harms=told.get(number, ()))
            for number, (where, problem) in enumerate(found)
            if number in told or number not in leaving  # what prune has marked and nobody needs may go, and may be half gone
        ]

    def _unlisted(self) -> Iterator[tuple[str, str, list[tuple[bool, bytes]]]]:
        """Yield packs that are not there, or not of the size that the index makes: with what is lost by it."""
        sizes = self._index.pack_sizes()
        expected = np.array([sizes[self._index.pack_name(number)] for number in range(self._index.pack_count)], dtype=np.int64)
        wrong = self.packs.by_number != expected
        if self._only_needed:
            wrong[: len(self._needs.packs)] &= self._needs.packs
        for entries in self._index.entries_of_packs(wrong):
            there = int(self.packs.by_number[entries.number])
            ends = entries.offset.astype(np.int64) + entries.length
            lost = [
                (tree, entries.ids[32 * place : 32 * place + 32]) for place, tree in enumerate(entries.tree.tolist()) if ends[place] > there
            ]
            must = int(expected[entries.number])
            yield entries.pack, "the pack is not there" if there < 0 else f"the pack has {there} bytes, its blobs make {must}", lost

    def _unread(self) -> Iterator[tuple[str, str, list[tuple[bool, bytes]]]]:
        """Yield what reading found: one problem for each, the first with all that is lost."""
        for result in self._found:
            shown = result.problems[:_ALONE]
            if len(result.problems) > _ALONE:
                shown.append(f"and {len(result.problems) - _ALONE} more")
            for place, problem in enumerate(shown):
                yield result.pack, problem, [] if place else result.lost


def _missing(missing: Collection[tuple[bool, bytes]], repository: Repository) -> Iterator[tuple[str, str, list[tuple[bool, bytes]]]]:
    """Yield what no index knows: one by one, or, where a whole index is lost, at once."""
    ordered = sorted(missing, reverse=True)
    if len(ordered) > _ALONE:
        yield (
            repository.where(Layout.INDEX),
            f"no index knows {len(ordered)} blobs that are needed, the first is {ordered[0][1].hex()}: an index object is lost, or packs are",
            ordered,
        )
        return
    for tree, raw in ordered:
        yield f"{repository.store.url}: {'tree' if tree else 'blob'} {raw.hex()}", "no index knows it", [(tree, raw)]


def _parts(numbers: Sequence[int], sizes: Sequence[int]) -> Iterator[list[int]]:
    """Cut a sequence of packs into parts of about so many bytes as are read before it is asked again."""
    part: list[int] = []
    size = 0
    for number in numbers:
        part.append(number)
        size += sizes[number]
        if size >= _CHUNK_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
