"""Intents: the note that a writer is about to make a snapshot visible. What becomes of the snapshot is decided on the note alone.

An intent is open, and then, by one conditional write, closed or cancelled. Closed: the snapshot counts, and the note goes. Cancelled:
the snapshot is withdrawn, whenever it may still appear, and the note stays for good: a writer that wakes up years later finds it.
Nothing here writes a snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import orjson

from becalm.clock import format_time
from becalm.errors import Damaged, NotFound, PreconditionFailed
from becalm.repository.format import Layout, is_id, read_json
from becalm.storage.base import ETag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from becalm.storage.base import ObjectStore

FORMAT = 1
_REMEDY = "an intent that cannot be read hides nothing and stops a prune; remove the object once no run is at work"


class State(StrEnum):
    """What was decided."""

    OPEN = "open"
    CLOSED = "closed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """An intent as it stands in the store."""

    snapshot: str
    tree: str
    run: str
    epoch: int
    created: str
    """By the store's clock."""
    state: State
    etag: ETag


def begin(store: ObjectStore, snapshot: str, *, tree: str, run: str, epoch: int) -> Intent:
    """Write the intent of a snapshot whose name is known. Raises: PreconditionFailed (there is one already)."""
    intent = Intent(snapshot=snapshot, tree=tree, run=run, epoch=epoch, created=format_time(store.now()), state=State.OPEN, etag=ETag(""))
    return replace(intent, etag=store.put(Layout.intent(snapshot), _encode(intent), if_absent=True))


def close(store: ObjectStore, intent: Intent) -> bool:
    """Decide that the snapshot counts. True if that is so now; false where it was cancelled before."""
    return _decide(store, intent, State.CLOSED) is State.CLOSED


def cancel(store: ObjectStore, intent: Intent) -> bool:
    """Decide that the snapshot never counts. True if that is so now; false where it was closed before."""
    return _decide(store, intent, State.CANCELLED) is State.CANCELLED


def read(store: ObjectStore, snapshot: str) -> Intent | None:
    """Return the intent of a snapshot; nothing where there is none, or it was closed and is gone. Raises: Damaged."""
    key = Layout.intent(snapshot)
    try:
        etag = store.head(key).etag  # before the content: if it changes in between, the swap fails, and that is right
        document = store.get(key)
    except NotFound:
        return None
    return _decode(document, etag, snapshot, where=f"{store.url}/{key}")


def standing(store: ObjectStore) -> Iterator[Intent]:
    """Yield every intent that stands. Raises: Damaged."""
    for info in store.list(Layout.INTENTS):
        snapshot = info.key.removeprefix(Layout.INTENTS)
        found = read(store, snapshot) if is_id(snapshot) else None
        if found is not None:
            yield found


def withdrawn(store: ObjectStore) -> frozenset[str]:
    """Return the ids of the snapshots that do not count, whether or not they stand there. Raises: Damaged."""
    return frozenset(intent.snapshot for intent in standing(store) if intent.state is State.CANCELLED)


def settle(store: ObjectStore, *, alive: Callable[[], object]) -> frozenset[str]:
    """Decide every open intent, and return the snapshots that are withdrawn. Only the holder of the lease does, before it looks at snapshots.

    An intent whose snapshot stands there is closed, another one cancelled. `alive` is asked before each decision, and raises where the
    lease is lost. Whoever opens an intent after this finds the lease taken.
    """
    gone: set[str] = set()
    for intent in standing(store):
        state = intent.state
        if state is State.OPEN:
            alive()
            state = _decide(store, intent, State.CLOSED if _there(store, intent.snapshot) else State.CANCELLED)
        elif state is State.CLOSED:  # whoever closed it died before it went
            store.delete(Layout.intent(intent.snapshot))
        if state is State.CANCELLED:
            gone.add(intent.snapshot)
    return frozenset(gone)


def _there(store: ObjectStore, snapshot: str) -> bool:
    try:
        store.head(Layout.snapshot(snapshot))
    except NotFound:
        return False
    return True


def _decide(store: ObjectStore, intent: Intent, wanted: State) -> State:
    """Make an open intent one or the other, and return what it is then. Of two who decide, the first has."""
    key = Layout.intent(intent.snapshot)
    try:
        store.put(key, _encode(replace(intent, state=wanted)), if_match=intent.etag)
    except PreconditionFailed:
        found = read(store, intent.snapshot)
        wanted = State.CLOSED if found is None else found.state  # only what is closed ever goes
    if wanted is State.CLOSED:
        store.delete(key)
    return wanted


def _encode(intent: Intent) -> bytes:
    return orjson.dumps(
        {
            "format": FORMAT,
            "snapshot": intent.snapshot,
            "tree": intent.tree,
            "run": intent.run,
            "epoch": intent.epoch,
            "created": intent.created,
            "state": intent.state.value,
        }
    )


def _decode(document: bytes, etag: ETag, snapshot: str, *, where: str) -> Intent:
    found = read_json(document, where=where)
    if found.get("format") != FORMAT:
        raise Damaged(f"the intent is of format {found.get('format')!r}, this version reads {FORMAT}", where=where, hint=_REMEDY)
    try:
        intent = Intent(
            snapshot=str(found["snapshot"]),
            tree=str(found["tree"]),
            run=str(found["run"]),
            epoch=int(found["epoch"]),
            created=str(found["created"]),
            state=State(found["state"]),
            etag=etag,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"the intent cannot be read: {error}", where=where, hint=_REMEDY) from error
    if intent.snapshot != snapshot:
        raise Damaged(f"the intent is that of snapshot {intent.snapshot[:8]}", where=where, hint=_REMEDY)
    return intent
