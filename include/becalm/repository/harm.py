"""Which recovery points a damage harms, and which of their paths: every tree is read once, whichever points share it.

It is asked only when something is damaged. It names the first few paths, as restic writes names; `repair` names them all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from becalm.errors import Damaged
from becalm.repository.damage import Harm
from becalm.repository.listing import listing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from becalm.repository.reader import Repository

SHOWN = 5
"""So many paths are named for a damage in a recovery point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A snapshot that can be read."""

    id: str
    time: datetime
    tree: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """Something in a tree that is harmed: by a damage, or by what lies in the tree below it."""

    name: str
    damage: int = -1
    subtree: bytes = b""


@dataclass(slots=True)
class _Frame:
    """A tree whose subtrees are being looked at."""

    tree: bytes
    harmed: list[_Entry] = field(default_factory=list)
    below: list[tuple[str, bytes]] = field(default_factory=list)


def harms(repository: Repository, points: Iterable[Point], lost: Mapping[tuple[bool, bytes], int]) -> dict[int, tuple[Harm, ...]]:
    """Return, for each damage by its number, the points that it harms, newest first.

    `lost` says of each blob that cannot be had (whether it is a tree, and its raw id) by which damage.
    """
    walk = HarmWalk(repository, lost)
    found: dict[int, list[Harm]] = {}
    for point in sorted(points, key=lambda point: (point.time, point.id), reverse=True):
        for damage, paths in walk.harmed(bytes.fromhex(point.tree)).items():
            shown = tuple(paths[:SHOWN])
            found.setdefault(damage, []).append(Harm(point=point.id, time=point.time, paths=shown, more=len(paths) > SHOWN))
    return {damage: tuple(told) for damage, told in found.items()}


class HarmWalk:
    """Looks at each tree once."""

    def __init__(self, repository: Repository, lost: Mapping[tuple[bool, bytes], int]) -> None:
        self._repository = repository
        self._lost_trees = {raw: damage for (tree, raw), damage in lost.items() if tree}
        self._lost_blobs = {raw.hex(): damage for (tree, raw), damage in lost.items() if not tree}
        self._whole: set[bytes] = set()
        self._harmed: dict[bytes, list[_Entry]] = {}

    def harmed(self, root: bytes) -> dict[int, list[str]]:
        """Return the paths below a root that each damage harms, one more than are shown."""
        found: dict[int, list[str]] = {}
        if root in self._lost_trees:
            return {self._lost_trees[root]: ["/"]}
        self.look(root)
        waiting = [("/", root)]
        seen = {root}
        while waiting:
            path, tree = waiting.pop()
            for entry in self._harmed.get(tree, ()):
                if not entry.subtree:
                    paths = found.setdefault(entry.damage, [])
                    if len(paths) <= SHOWN:
                        paths.append(f"{path}{entry.name}")
                elif entry.subtree not in seen:
                    seen.add(entry.subtree)
                    waiting.append((f"{path}{entry.name}/", entry.subtree))
        return found

    def order(self) -> list[bytes]:
        """Return the harmed trees that were found, each after those below it."""
        return list(self._harmed)

    def look(self, root: bytes) -> None:
        """Find the harmed trees below a root."""
        if root in self._whole or root in self._harmed:
            return
        stack = [self._open(root)]
        while stack:
            frame = stack[-1]
            if not frame.below:
                stack.pop()
                if frame.harmed:
                    self._harmed[frame.tree] = frame.harmed
                else:
                    self._whole.add(frame.tree)
                continue
            name, subtree = frame.below[-1]
            if subtree in self._lost_trees:
                frame.harmed.append(_Entry(f"{name}/", self._lost_trees[subtree]))
            elif subtree in self._harmed:
                frame.harmed.append(_Entry(name, subtree=subtree))
            elif subtree not in self._whole:
                stack.append(self._open(subtree))
                continue
            frame.below.pop()

    def _open(self, tree: bytes) -> _Frame:
        """Read a tree: its harmed files, and the trees below it. One that cannot be read is left to the damage that says so."""
        frame = _Frame(tree)
        told: dict[int, int] = {}
        try:
            for name, damage, subtree in self._entries(tree):
                if subtree:
                    frame.below.append((name, subtree))
                elif told.setdefault(damage, 0) <= SHOWN:
                    told[damage] += 1
                    frame.harmed.append(_Entry(name, damage))
        except (Damaged, ValueError, KeyError, TypeError, AttributeError):
            frame.below.clear()
        return frame

    def _entries(self, tree: bytes) -> Iterator[tuple[str, int, bytes]]:
        """Yield the harmed files of a tree and all its directories."""
        lost = self._lost_blobs
        for nodes in listing(self._repository, tree.hex()):
            for node in nodes:
                if node["type"] == "dir" and node.get("subtree"):
                    yield node["name"], -1, bytes.fromhex(node["subtree"])
                elif lost and not lost.keys().isdisjoint(node.get("content") or ()):
                    for damage in sorted({lost[blob] for blob in node["content"] if blob in lost}):
                        yield node["name"], damage, b""
