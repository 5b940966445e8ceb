"""Publishing: the one write that makes a recovery point visible, between two looks at everything that it rests on.

Order is all here. The intent comes first, then the look at tombstones and packs, then the look at the lease, then the snapshot. Whoever
takes the lease after that look finds the intent and decides it; whoever took it before is found by the look. So a writer that sleeps at
any of these calls, for hours or for weeks, either publishes a whole point or has it withdrawn. Nothing here writes packs.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import chain, islice
from typing import TYPE_CHECKING

from becalm.errors import AccessDenied, BecalmError, Damaged, LeaseLost, NotFound, PreconditionFailed
from becalm.repository import intents, tombstones
from becalm.repository.format import Layout
from becalm.repository.reader import put_once

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from becalm.repository.format import SnapshotDoc
    from becalm.repository.intents import Intent
    from becalm.repository.lease import Fence
    from becalm.repository.reader import Repository
    from becalm.storage.base import ObjectStore

_REMEDY = "start a new run: it brings what is missing anew"
_MOST_MARKED = 10_000


def publish(
    repository: Repository,
    doc: SnapshotDoc,
    *,
    run: str,
    epoch: int,
    fence: Fence,
    needs: Collection[str],
    retain_until: datetime | None = None,
    margin_seconds: float = 0.0,
) -> str:
    """Write a snapshot whose tree lies in the packs `needs`, under the lease; return its id.

    Raises: LeaseLost (nothing is visible, or it was withdrawn), PreconditionFailed (a pack was marked by a prune), Damaged (a pack is gone).
    With the last two a new run goes well; the same one would meet them again.
    """
    store = repository.store
    sealed, snapshot = repository.seal_document(doc.encode())
    intent = intents.begin(store, snapshot, tree=doc.tree, run=run, epoch=epoch)
    try:
        _demand_packs(repository, needs)
        fence.check(margin_seconds=margin_seconds)
    except BecalmError:
        with suppress(BecalmError):
            store.delete(Layout.intent(snapshot))  # nobody else knows this name, and its snapshot is never sent
        raise
    put_once(store, Layout.snapshot(snapshot), sealed, retain_until=retain_until)
    _conclude(store, intent, fence)
    return snapshot


def _demand_packs(repository: Repository, needs: Collection[str]) -> None:
    """Pass if every pack is there, and none is about to go: first the tombstones, then the packs, for they go in the other order."""
    store, wanted = repository.store, frozenset(needs)
    stones = wanted & tombstones.marked(store)
    if stones:
        raise PreconditionFailed(
            f"prune has marked {len(stones)} packs that this recovery point needs, since the run began; first: {min(stones)}",
            where=f"{store.url}/{Layout.TOMBSTONES}",
            hint=f"nothing became visible; {_REMEDY}",
        )
    gone = mark_missing(repository, wanted)
    if gone:
        raise Damaged(
            f"{len(gone)} packs that this recovery point needs are gone", where=f"{store.url}/{Layout.pack(gone[0])}", hint=_REMEDY
        )


def mark_missing(repository: Repository, packs: Collection[str]) -> list[str]:
    """Return which of these packs are not there, and give them tombstones: no later run believes an index object that names them.

    So does every other pack that the index names and that is not there: what lies below a tree that is gone is not met before.
    """
    store = repository.store
    there = {info.key.rpartition("/")[2] for info in store.list(Layout.DATA)}
    gone = [pack for pack in sorted(frozenset(packs) - there) if not _there(store, pack)]
    others = sorted(repository.index.packs() - there - set(gone)) if gone else []
    missing = chain(gone, (pack for pack in others if not _there(store, pack)))
    for pack in islice(missing, _MOST_MARKED):
        tombstones.mark(store, pack, reason="an index object names it, and it is not there", who="commit")
    return gone


def _there(store: ObjectStore, pack: str) -> bool:
    try:
        store.head(Layout.pack(pack))
    except NotFound:
        return False
    return True


def _conclude(store: ObjectStore, intent: Intent, fence: Fence) -> None:
    """Let the snapshot count, or withdraw it. Raises: LeaseLost."""
    lost: LeaseLost | None = None
    try:
        fence.check()
    except LeaseLost as error:
        lost = error
    # Who holds the lease now may have seen the snapshot, and may rest on it: what was decided first holds.
    if not intents.cancel(store, intent) if lost else intents.close(store, intent):
        return
    with suppress(AccessDenied):  # locked: it stays, and the cancelled intent says that it does not count
        store.delete(Layout.snapshot(intent.snapshot))
    raise LeaseLost(
        f"recovery point {intent.snapshot[:8]} was written while the lease was lost, and was withdrawn",
        where=f"{store.url}/{Layout.intent(intent.snapshot)}",
        hint="start the run again; look at what kept this one so long",
    ) from lost
