"""The lease of a repository: one run writes at a time, and one that slept through its lease cannot make anything visible.

It is one object, changed only by compare and swap. It is never deleted, so that its epoch only grows: whoever still holds an
older epoch has lost. Expiry is told by the store's clock, never by that of a machine which may have slept. A store whose clock was
ahead and was set back does not block anybody: a lease that ends later than any lease can is over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import orjson

from becalm.clock import Clock, SystemClock, format_time, parse_time
from becalm.errors import Conflict, Damaged, LeaseHeld, LeaseLost, NotFound, PreconditionFailed
from becalm.repository.format import Layout, read_json
from becalm.storage.base import ETag

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.storage.base import ObjectStore

FORMAT = 1
_NEW = ETag("")
_REMEDY = "when surely no run is at work, remove this object"
MOST_SECONDS = 3600.0
"""Nobody takes a lease for longer: one that ends later was written while the store's clock was ahead."""

_ATTEMPTS = 20
_PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The lease as it stands in the store."""

    epoch: int
    """Grows by one with every new holder."""
    run: str
    policy: str
    expires: datetime
    """By the store's clock."""
    released: bool = False
    """Its run has let go. Only `take` gives it life again."""
    etag: ETag

    def held(self, now: datetime) -> bool:
        """Whether somebody may be at work under it."""
        return not self.released and now < self.expires and not self.misdated(now)

    def misdated(self, now: datetime) -> bool:
        """Whether it ends later than a lease that was taken now can end: the store's clock has been set back since."""
        return self.expires > now + timedelta(seconds=MOST_SECONDS)

    def until(self, wanted: datetime, *, now: datetime) -> datetime:
        """Return when it ends if it is held on to: never sooner than it does, but for a misdated end."""
        return wanted if self.released or self.misdated(now) else max(wanted, self.expires)


def read(store: ObjectStore) -> Lease | None:
    """Return the lease, or nothing where none was ever taken. Raises: Damaged."""
    try:
        etag = store.head(Layout.LEASE).etag  # before the content: if it changes in between, the swap fails, and that is right
        document = store.get(Layout.LEASE)
    except NotFound:
        return None
    return _decode(document, etag, where=f"{store.url}/{Layout.LEASE}")


def take(store: ObjectStore, *, policy: str, run: str, seconds: float, clock: Clock | None = None) -> Lease:
    """Take the lease for a run. A run that has it, or had it last, gets it again with the same epoch.

    Raises: LeaseHeld (naming the run and until when), Conflict.
    """
    for _ in _attempts(clock):
        current = read(store)
        now = store.now()
        wanted = now + timedelta(seconds=min(seconds, MOST_SECONDS))
        if current is None:
            new = Lease(epoch=1, run=run, policy=policy, expires=wanted, etag=_NEW)
        elif current.run == run:
            new = replace(current, policy=policy, expires=current.until(wanted, now=now), released=False)
        elif current.held(now):
            raise LeaseHeld(
                f"run {current.run} of policy {current.policy} is at work, its lease lasts until {format_time(current.expires)}",
                where=f"{store.url}/{Layout.LEASE}",
                hint="wait for it; if it died, its lease ends by itself",
                delay_seconds=(current.expires - now).total_seconds(),
            )
        else:
            new = Lease(epoch=current.epoch + 1, run=run, policy=policy, expires=wanted, etag=current.etag)
        written = _swap(store, new)
        if written:
            return written
    raise _conflict(store)


def renew(store: ObjectStore, *, run: str, epoch: int, seconds: float, clock: Clock | None = None) -> Lease:
    """Make the lease last at least that long from now. Several movers of one run may do so at once.

    Raises: LeaseLost (another run has it, or this one has let go), Conflict.
    """
    seen: Lease | None = None
    for _ in _attempts(clock):
        current = _own(store, run, epoch)
        if seen and current.expires > seen.expires:
            return current  # another part of this run was quicker
        seen, now = current, store.now()
        wanted = now + timedelta(seconds=min(seconds, MOST_SECONDS))
        written = _swap(store, replace(current, expires=current.until(wanted, now=now)))
        if written:
            return written
    raise _conflict(store)


def release(store: ObjectStore, *, run: str, epoch: int, clock: Clock | None = None) -> None:
    """Let go of the lease, so that the next run need not wait. What is not held, or no longer, is fine. Raises: Conflict."""
    for _ in _attempts(clock):
        current = read(store)
        if current is None or current.run != run or current.epoch != epoch or current.released:
            return
        if _swap(store, replace(current, expires=store.now(), released=True)):
            return
    raise _conflict(store)


class Fence:
    """The question before everything that cannot be taken back: does this run still hold its lease?"""

    def __init__(self, store: ObjectStore, run: str, epoch: int, clock: Clock | None = None) -> None:
        """Remember what `take` returned."""
        self._store = store
        self._run = run
        self._epoch = epoch
        self._clock = clock

    def check(self, margin_seconds: float = 0.0) -> Lease:
        """Return the lease if it is ours for longer than the margin. Raises: LeaseLost."""
        current = _own(self._store, self._run, self._epoch)
        left = (current.expires - self._store.now()).total_seconds()
        if left <= margin_seconds:
            raise LeaseLost(
                f"the lease of run {self._run} ends in {left:.0f} s, {margin_seconds:.0f} s are needed"
                if left > 0
                else f"the lease of run {self._run} ended {-left:.0f} s ago",
                where=f"{self._store.url}/{Layout.LEASE}",
                hint="start the run again; nothing of this one became visible",
            )
        return current

    def renew(self, seconds: float) -> Lease:
        """Make it last longer, as the function does. Raises: LeaseLost, Conflict."""
        return renew(self._store, run=self._run, epoch=self._epoch, seconds=seconds, clock=self._clock)


def _own(store: ObjectStore, run: str, epoch: int) -> Lease:
    current = read(store)
    if current is not None and current.run == run and current.epoch == epoch and not current.released:
        return current
    if current is None:
        reason = "nobody holds a lease here"
    elif current.run != run:
        reason = f"run {current.run} has it since epoch {current.epoch}"
    elif current.released:
        reason = "this run has let go of it"
    else:
        reason = f"it is in epoch {current.epoch}"
    raise LeaseLost(
        f"run {run} no longer holds the lease of epoch {epoch}: {reason}",
        where=f"{store.url}/{Layout.LEASE}",
        hint="start the run again; nothing of this one became visible",
    )


def _swap(store: ObjectStore, new: Lease) -> Lease | None:
    """Write the lease over the state it was made from. Nothing where that state is no longer there."""
    body = orjson.dumps(
        {
            "format": FORMAT,
            "epoch": new.epoch,
            "policy": new.policy,
            "run": new.run,
            "expires": format_time(new.expires),
            "released": new.released,
        }
    )
    try:
        etag = store.put(Layout.LEASE, body, if_absent=True) if new.etag == _NEW else store.put(Layout.LEASE, body, if_match=new.etag)
    except PreconditionFailed:
        return None
    return replace(new, etag=etag)


def _decode(document: bytes, etag: ETag, *, where: str) -> Lease:
    found = read_json(document, where=where)
    epoch = found.get("epoch")
    if found.get("format") != FORMAT or not isinstance(epoch, int) or epoch < 1:
        raise Damaged(
            f"the lease is of format {found.get('format')!r} and epoch {epoch!r}; this version reads format {FORMAT}",
            where=where,
            hint=_REMEDY,
        )
    try:
        return Lease(
            epoch=epoch,
            run=str(found["run"]),
            policy=str(found["policy"]),
            expires=parse_time(found["expires"]),
            released=found["released"] is True,
            etag=etag,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged(f"the lease cannot be read: {error}", where=where, hint=_REMEDY) from error


def _attempts(clock: Clock | None) -> Iterator[int]:
    """Count the attempts at a swap, with a growing pause between them."""
    for number in range(_ATTEMPTS):
        if number:
            (clock or SystemClock()).sleep(_PAUSE_SECONDS * number)
        yield number


def _conflict(store: ObjectStore) -> Conflict:
    return Conflict("the lease changes faster than it can be written", where=f"{store.url}/{Layout.LEASE}")
