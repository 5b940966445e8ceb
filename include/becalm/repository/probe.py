"""Tries a store out before anything rests on it: conditions, the bytes that come back, and object lock where it is asked for.

Everything is asked of the store itself, with objects of its own that go again. A store that fails here cannot hold a lease, or protects
nothing; no setting of Becalm's makes up for that.
"""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from becalm.clock import Clock, SystemClock
from becalm.errors import AccessDenied, BecalmError, LockNotEnforced, PermanentError, PreconditionFailed, StoreUnfit
from becalm.repository.format import Layout
from becalm.storage.base import ETag, LockBreaker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.storage.base import Key, ObjectStore

_RACERS = 4
_LOCK_SECONDS = (5, 20, 60)
"""How long the probe's lock lasts; a longer one where the answer took too long to mean anything."""

_OTHER = ETag("0" * 32)
_HINT = "use a server that honours If-None-Match and If-Match on PUT; without them two runs cannot be told apart"


def probe(store: ObjectStore, *, locks: bool = False, clock: Clock | None = None) -> tuple[str, ...]:
    """Try the store out; return what was found to hold, one sentence each. `locks` asks for object lock, too, and takes some seconds.

    Raises: StoreUnfit, LockNotEnforced, StoreReadOnly (no object lock here), and what the store raises.
    """
    sweep(store)
    key = Layout.probe(secrets.token_hex(16))
    try:
        _conditions(store, key)
    finally:
        with suppress(BecalmError):
            store.delete(key)
    _race(store)
    found = ("conditional writes are honoured, also by several at once", "what is written comes back")
    if not locks:
        return found
    _lock(store, clock or SystemClock())
    return (*found, "what is locked cannot be deleted")


def sweep(store: ObjectStore) -> None:
    """Remove what an interrupted probe left; what is still locked stays until the next time."""
    for info in store.list(Layout.PROBES):
        with suppress(AccessDenied):
            store.delete(info.key)


def _conditions(store: ObjectStore, key: Key) -> None:
    first = store.put(key, b"first", if_absent=True)
    with _must_refuse(store, "it wrote over an object that was to be written only if absent"):
        store.put(key, b"second", if_absent=True)
    with _must_refuse(store, "it wrote over an object that was not the one named (If-Match)"):
        store.put(key, b"third", if_match=_OTHER)
    second = store.put(key, b"fourth", if_match=first)
    if store.get(key) != b"fourth" or second == first:
        raise StoreUnfit("the store does not return what was written to it last", where=store.url, hint="look for a cache in between")
    with _must_refuse(store, "it deleted an object that was not the one named"):
        store.delete(key, if_match=first)
    try:
        store.delete(key, if_match=second)
    except AccessDenied as error:
        raise StoreUnfit(
            f"the store does not let go of an object that nobody locked: {error.message}",
            where=store.url,
            hint="remove the bucket's default retention (Becalm locks each object itself), and allow DeleteObject and DeleteObjectVersion",
        ) from error


@contextmanager
def _must_refuse(store: ObjectStore, otherwise: str) -> Iterator[None]:
    try:
        yield
    except PreconditionFailed:
        return
    except (AccessDenied, StoreUnfit):
        raise
    except PermanentError as error:
        raise StoreUnfit(f"the store does not know conditions: {error.message}", where=store.url, hint=_HINT) from error
    raise StoreUnfit(f"the store ignores conditions: {otherwise}", where=store.url, hint=_HINT)


def _race(store: ObjectStore) -> None:
    """Let several write one object at once: exactly one may win, and it must be the one whose bytes are there."""
    key = Layout.probe(secrets.token_hex(16))

    def write(body: bytes) -> bytes | None:
        try:
            store.put(key, body, if_absent=True)
        except PreconditionFailed:
            return None
        return body

    try:
        with ThreadPoolExecutor(max_workers=_RACERS, thread_name_prefix="probe") as pool:
            won = [body for body in pool.map(write, [b"racer %d" % number for number in range(_RACERS)]) if body]
        if won != [store.get(key)]:
            raise StoreUnfit(f"of {_RACERS} writes of the same object at once, {len(won)} were accepted", where=store.url, hint=_HINT)
    finally:
        with suppress(BecalmError):
            store.delete(key)


def _lock(store: ObjectStore, clock: Clock) -> None:
    """Lock an object for a moment and try to delete it; it goes when its lock has ended."""
    for lasts in _LOCK_SECONDS:
        key = Layout.probe(secrets.token_hex(16))
        until = store.now() + timedelta(seconds=lasts)
        store.put(key, b"locked", if_absent=True, retain_until=until)
        said = store.head(key).retain_until
        if said is None or said < until:
            raise LockNotEnforced(
                "the store took a lock and does not tell of it", where=store.url, hint="see whether the server knows object lock"
            )
        broken = store.breaks_lock(key) if isinstance(store, LockBreaker) else _deleted(store, key)
        if not broken:
            _await(store, key, clock, seconds=lasts + 2)
            return
        if store.now() < until:
            raise LockNotEnforced(
                "the bucket let an object go that was locked",
                where=store.url,
                hint="make a bucket with object lock on a server that enforces it, with keys that may not bypass governance",
            )
    raise LockNotEnforced("the store answers too slowly to say whether it enforces locks", where=store.url, hint="run becalm init again")


def _deleted(store: ObjectStore, key: Key) -> bool:
    try:
        store.delete(key)
    except AccessDenied:
        return False
    return True


def _await(store: ObjectStore, key: Key, clock: Clock, *, seconds: float) -> None:
    """Remove the probe once its lock has ended. One that stays is removed by the next probe."""
    waited = 0.0
    while waited < seconds:
        clock.sleep(0.5)
        waited += 0.5
        with suppress(AccessDenied):
            store.delete(key)
            return
