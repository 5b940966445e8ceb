"""Object lock: every object that a recovery point needs is locked at least as long as the point's own snapshot object.

That one sentence is kept by an order (what is needed first, the snapshot last) and saves the work: whatever a point shares with one that
stands is locked already, and its snapshot says until when. So a run locks what is new, and only every few days all of it again.

Packs are shared by points of different ages: a lock is only ever made longer. Nothing here deletes, and nothing decides what stays.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from becalm.errors import Damaged, NotFound
from becalm.repository.format import BlobKind, Layout, NodeType
from becalm.repository.tree import nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from becalm.repository.node import Node
    from becalm.repository.reader import Repository
    from becalm.storage.base import Key, ObjectStore

_AT_ONCE = 8
_SHORTEST_SLACK = timedelta(hours=6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """How long things are locked, as of a moment."""

    at_least: datetime
    """What the policy promises: a recovery point is locked until then, or longer."""
    until: datetime
    """How long all is locked when it is locked anew: the slack spares the runs of the next days from doing it again."""
    at_writing: datetime
    """How long a new object is locked before its point is committed: it lasts for `until` although the run takes its time."""

    @classmethod
    def of(cls, now: datetime, days: int) -> Term:
        """Reckon from the store's clock. The slack is a seventh of the time."""
        promised = timedelta(days=days)
        slack = max(_SHORTEST_SLACK, promised / 7)
        return cls(at_least=now + promised, until=now + promised + slack, at_writing=now + promised + slack * 1.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A point that stands: all it needs is locked until then."""

    tree: str
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to lock, and until when. The point's snapshot is locked as long, and after."""

    until: datetime
    keys: tuple[Key, ...]


def plan(needed: Collection[Key], *, proven_until: datetime | None, beyond: Callable[[], Collection[Key]], term: Term) -> Plan:
    """Decide what has to be locked for a new point. Pure, but for `beyond`: of the needed packs, those that the proof does not cover.

    A proof that lasts long enough spares the rest; one that does not is of no use.
    """
    if proven_until is None or proven_until < term.at_least:
        return Plan(until=term.until, keys=tuple(needed))
    uncovered = frozenset(beyond())
    keys = tuple(key for key in needed if key in uncovered or not key.startswith(Layout.DATA))
    return Plan(until=min(proven_until, term.until), keys=keys)


def proof(repository: Repository, snapshot_id: str, tree: str) -> Proof | None:
    """Return until when a point and all it needs is locked, or nothing where it is not, or is gone."""
    try:
        until = repository.store.head(Layout.snapshot(snapshot_id)).retain_until
    except NotFound:
        return None
    return Proof(tree=tree, until=until) if until is not None and until > repository.store.now() else None


def secure(repository: Repository, tree: str, needed: Collection[Key], *, days: int, proof: Proof | None) -> datetime:
    """Lock all that a tree needs, before its snapshot is written; return until when its snapshot may be locked.

    Keys that were taken out of use are left out: they may end. Raises what the store raises; then no promise was made.
    """
    gone = retired(repository.store)
    decided = plan(
        [key for key in needed if key not in gone],
        proven_until=proof.until if proof else None,
        beyond=lambda: packs_beyond(repository, tree, proof.tree if proof else ""),
        term=Term.of(repository.store.now(), days),
    )
    lock_all(repository.store, decided.keys, decided.until)
    return decided.until


def extend(repository: Repository, snapshot_id: str, tree: str, *, proof: Proof) -> datetime:
    """Lock an older point as long as the one that is the proof. Its snapshot comes last.

    Raises: Damaged (it is not whole: its lock stays as it was), NotFound (it is gone), and what the store raises.
    """
    try:
        lock_all(repository.store, packs_beyond(repository, tree, proof.tree), proof.until)
    except NotFound as error:
        raise Damaged(f"a pack is gone that recovery point {snapshot_id[:8]} needs", where=error.where, hint="run becalm verify") from error
    repository.store.retain(Layout.snapshot(snapshot_id), proof.until)
    return proof.until


def lock_all(store: ObjectStore, keys: Iterable[Key], until: datetime) -> None:
    """Lock objects at least until then, several at a time. The first that fails ends it, with its error."""
    with ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="retain") as pool:
        waiting = [pool.submit(store.retain, key, until) for key in keys]
        try:
            for done in waiting:
                done.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def retired(store: ObjectStore) -> frozenset[Key]:
    """Return the password keys that were taken out of use while they were locked: nothing locks them again."""
    return frozenset(Layout.key(info.key.removeprefix(Layout.RETIRED)) for info in store.list(Layout.RETIRED))


def packs_beyond(repository: Repository, tree: str, proven: str) -> frozenset[Key]:
    """Return the packs of what a tree holds and the proven tree does not hold at the same path. Raises: Damaged."""
    found: set[Key] = set()
    for kind, blob_id in _beyond(repository, tree, proven):
        found.add(Layout.pack(repository.locate(kind, blob_id).pack))
    return frozenset(found)


def _beyond(repository: Repository, tree: str, proven: str) -> Iterator[tuple[BlobKind, str]]:
    """Walk two trees side by side; where they are the same, nothing below is looked at."""
    stack, seen = [(tree, proven)], set()
    while stack:
        pair = stack.pop()
        if pair[0] == pair[1] or pair in seen:
            continue
        seen.add(pair)
        yield BlobKind.TREE, pair[0]
        before = _Beside(repository, pair[1])
        for node in nodes(repository, pair[0]):
            old = before.find(node)
            if node.type is NodeType.DIR and node.subtree:
                stack.append((node.subtree, old.subtree or "" if old and old.type is NodeType.DIR else ""))
            elif node.type is NodeType.FILE and node.content and (old is None or old.content != node.content):
                known = frozenset(old.content or ()) if old and old.type is NodeType.FILE else frozenset()
                yield from ((BlobKind.DATA, blob_id) for blob_id in node.content if blob_id not in known)


class _Beside:
    """The entries of the proven tree, one after the other: there may be a million. What cannot be read proves nothing."""

    def __init__(self, repository: Repository, tree: str) -> None:
        self._left: Iterator[Node] = nodes(repository, tree) if tree else iter(())
        self._next: Node | None = None

    def find(self, node: Node) -> Node | None:
        """Return the entry of the same name. They must be asked for in their order, which is that of a tree."""
        try:
            while self._next is None or self._next.key < node.key:
                self._next = next(self._left)
        except (Damaged, StopIteration):
            self._left, self._next = iter(()), None
            return None
        return self._next if self._next.name == node.name else None
