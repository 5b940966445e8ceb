"""From what trees need to what is missing: every blob is looked up, many at once, and every tree that a root reaches is found.

It takes in the facts of trees in any order. It reads nothing itself; it keeps 32 bytes for each tree and each way to one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from becalm.repository.format import BlobKind
from becalm.repository.tree_facts import TreeFacts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from becalm.repository.index import Index

_AT_ONCE = 1 << 16
_MOST_MISSING = 50_000
"""Blobs that are remembered by name; whoever misses more has lost a whole index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """What the roots need and cannot have."""

    trees: int
    """So many trees were reached."""
    missing: frozenset[tuple[bool, bytes]]
    """Blobs that no index knows: whether it is a tree, and the raw id."""
    wrong: tuple[tuple[bytes, str], ...]
    """Trees that are not as trees are, and why."""
    unread: frozenset[bytes]
    """Trees that the index knows and of which no facts came: their packs say why."""


class Needs:
    """What trees need. Not for several threads."""

    def __init__(self, index: Index) -> None:
        """Know nothing yet."""
        self._index = index
        self._waiting = TreeFacts()
        self._trees: list[bytes] = []
        self._subtree_counts: list[np.ndarray[tuple[int], np.dtype[np.uint32]]] = []
        self._subtrees: list[bytes] = []
        self._problems: dict[bytes, list[str]] = {}
        self._missing: dict[bytes, set[bytes]] = {}
        self._missing_count = 0
        self.packs = np.zeros(index.pack_count, dtype=bool)
        """Which packs hold something that was needed, by number."""

    def add(self, facts: TreeFacts) -> None:
        """Take in the facts of some trees."""
        waiting = self._waiting
        if len(facts.blobs) >= 32 * _AT_ONCE:
            self.settle()
            waiting = self._waiting = facts  # a directory so large is not copied
        else:
            waiting.take(facts)
        for tree, problem in facts.problems:
            self._problems.setdefault(tree, []).append(problem)
        if len(waiting.blobs) + len(waiting.trees) >= 32 * _AT_ONCE:
            self.settle()

    def need(self, trees: bytes) -> None:
        """Note the packs of trees (raw ids, one behind the other)."""
        places = self._index.locate_many(BlobKind.TREE, trees)
        self.packs[places.pack[places.found]] = True

    def settle(self) -> None:
        """Look up what has come and was not looked up yet."""
        facts, self._waiting = self._waiting, TreeFacts()
        if facts.trees:
            self._trees.append(bytes(facts.trees))
            self._subtrees.append(bytes(facts.subtrees))
            self._subtree_counts.append(np.array(facts.subtree_counts, dtype=np.uint32))
        if not facts.sizes:
            return
        counts, sizes = np.frombuffer(facts.blob_counts, dtype=np.uintc), np.frombuffer(facts.sizes, dtype=np.uint64)
        files_until = np.cumsum(np.frombuffer(facts.file_counts, dtype=np.uintc), dtype=np.int64)
        trees, place = bytes(facts.trees), 0
        with memoryview(facts.blobs) as blobs:
            for begin in range(0, len(counts), _AT_ONCE):  # a directory may be so large that even its numbers are not taken at once
                ends = np.concatenate([[0], np.cumsum(counts[begin : begin + _AT_ONCE], dtype=np.int64)])
                owner = np.searchsorted(files_until, np.arange(begin, begin + len(ends) - 1), side="right")
                until = place + 32 * int(ends[-1])
                self._settle_files(trees, owner, ends, sizes[begin : begin + _AT_ONCE], bytes(blobs[place:until]))
                place = until

    def _settle_files(self, trees: bytes, owner: _Places, ends: _Places, sizes: _Sizes, blobs: bytes) -> None:
        """Look up the blobs of some files. `owner` says which tree each is of, `ends` where its blobs end, and where the first begin."""
        places = self._index.locate_many(BlobKind.DATA, blobs)
        self.packs[places.pack[places.found]] = True
        sums = np.concatenate([[0], np.cumsum(places.plain_lengths())])[ends]
        absent = np.concatenate([[0], np.cumsum(~places.found)])[ends]
        whole = np.diff(absent) == 0
        strange = whole & (np.diff(sums).astype(np.uint64) != sizes)
        if not strange.any() and places.found.all():
            return
        for tree, count in zip(*np.unique(owner[strange], return_counts=True), strict=True):
            raw = trees[32 * tree : 32 * tree + 32]
            self._problems.setdefault(raw, []).append(f"{count} files in it do not have the sizes of their blobs")
        of_file = np.repeat(np.arange(len(owner)), np.diff(ends))
        for place in np.flatnonzero(~places.found).tolist():
            if self._missing_count >= _MOST_MISSING:
                break
            tree = int(owner[of_file[place]])
            self._missing.setdefault(trees[32 * tree : 32 * tree + 32], set()).add(blobs[32 * place : 32 * place + 32])
            self._missing_count += 1

    def reached(self, roots: Iterable[bytes]) -> Reached:
        """Follow the roots, and say what of all that was found matters to them."""
        self.settle()
        ids, first, counts, subtrees = self._graph()
        wanted = np.frombuffer(b"".join(roots), dtype="S32")
        seen = np.zeros(len(ids), dtype=bool)
        absent: list[bytes] = []
        while len(wanted):
            wanted = np.unique(wanted)
            places = np.minimum(np.searchsorted(ids, wanted), max(0, len(ids) - 1))
            known = ids[places] == wanted if len(ids) else np.zeros(len(wanted), dtype=bool)
            absent += [raw.ljust(32, b"\0") for raw in wanted[~known].tolist()]
            new = places[known]
            new = new[~seen[new]]
            seen[new] = True
            edges = counts[new]
            begins = (
                np.repeat(first[new] - np.concatenate([[0], np.cumsum(edges)[:-1]]), edges) if len(new) else np.empty(0, dtype=np.int64)
            )
            wanted = subtrees[begins + np.arange(len(begins))]
        reached = {raw.ljust(32, b"\0") for raw in ids[seen].tolist()} if self._problems or self._missing else set()
        distinct = sorted(set(absent))
        known_to_index = self._index.has_many(BlobKind.TREE, distinct)
        missing = {(True, raw) for raw, known in zip(distinct, known_to_index, strict=True) if not known}
        missing |= {(False, blob) for tree, blobs in self._missing.items() if tree in reached for blob in blobs}
        unread = frozenset(raw for raw, known in zip(distinct, known_to_index, strict=True) if known)
        wrong = [(tree, problem) for tree, problems in sorted(self._problems.items()) if tree in reached | unread for problem in problems]
        return Reached(
            trees=int(np.count_nonzero(seen)), missing=frozenset(missing), wrong=tuple(wrong), unread=unread - {tree for tree, _ in wrong}
        )

    def _graph(self) -> tuple[_Ids, _Places, _Places, _Ids]:
        """Return the trees sorted, where the trees below each begin and how many they are, and those trees.

        A numpy string forgets zeros at its end: two ids that differ in nothing else would have to agree in 31 bytes.
        """
        ids = np.frombuffer(b"".join(self._trees), dtype="S32")
        subtrees = np.frombuffer(b"".join(self._subtrees), dtype="S32")
        counts = (np.concatenate(self._subtree_counts) if self._subtree_counts else np.empty(0)).astype(np.int64)
        first = np.cumsum(counts) - counts
        order = np.argsort(ids, kind="stable")
        return ids[order], first[order], counts[order], subtrees


_Sizes = np.ndarray[tuple[int], np.dtype[np.uint64]]
_Ids = np.ndarray[tuple[int], np.dtype[np.bytes_]]
_Places = np.ndarray[tuple[int], np.dtype[np.int64]]
