"""Restic's own locks, so that the `restic` command and Becalm respect each other beside the same repository.

A lock is a sealed document under `locks/`, named by its hash; keeping it means to write a new one and remove the old one. Shared ones
stand beside each other, an exclusive one stands alone. Between runs of Becalm the lease decides; these locks are for others.

What a killed run of Becalm leaves is removed by whoever holds the lease: then no other run lives. A lock of anybody else is never
removed; one that was not refreshed for half an hour, by the store's clock, binds nobody here.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from becalm.clock import Clock, Deadline, SystemClock
from becalm.errors import AccessDenied, BecalmError, RepositoryLocked, StoreFull, StoreReadOnly
from becalm.repository import lease
from becalm.repository.format import Layout
from becalm.repository.lockfile import STALE, LockDoc, Standing, standing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from becalm.repository.reader import Repository

REFRESH_SECONDS = 300.0
"""How old a lock may become before it is written anew; restic does it as often."""

LOST_SECONDS = (STALE - timedelta(minutes=7.5)).total_seconds()
"""A lock that could not be refreshed for so long may soon be taken for dead: who deletes must stop. Restic stops as late."""

CAPTURE_WAIT_SECONDS = 300.0
"""How long a capture waits for a foreign exclusive lock to go."""

_PAUSE_SECONDS = 5.0
_TICK_SECONDS = 15.0


def _go_on() -> None:
    """Find no reason to stop waiting."""


class _Wait:
    """How long somebody waits for a lock, and what may end it before."""

    def __init__(self, clock: Clock, seconds: float, still: Callable[[], None] = _go_on) -> None:
        self.clock = clock
        self._deadline = Deadline(clock, seconds)
        self._still = still

    def pause_or(self, refusal: RepositoryLocked) -> None:
        """Wait a little; raise the refusal when the time is over."""
        if self._deadline.passed():
            raise refusal
        self._still()
        self.clock.sleep(min(_PAUSE_SECONDS, max(0.1, self._deadline.left())))


class Held:
    """A lock that we hold. Safe in threads."""

    def __init__(self, repository: Repository, doc: LockDoc, clock: Clock, *, lock_id: str) -> None:
        """Remember what was written. An empty id is a lock that could not be written, and was not needed."""
        self._repository = repository
        self._doc = doc
        self._clock = clock
        self._guard = threading.Lock()
        self._id = lock_id
        self._fresh = clock.monotonic()
        self._lost: BecalmError | None = None

    @property
    def id(self) -> str:
        """The name of its object as it is now; empty where none was written."""
        return self._id

    def refresh(self, *, older_than_seconds: float = REFRESH_SECONDS) -> None:
        """Write the lock anew where it is that old, then remove the one before. Raises what the store raises.

        An exclusive lock that somebody removed, and that others stand in the way of, is lost: `demand` says so.
        """
        with self._guard:
            if not self._id or self._clock.monotonic() - self._fresh < older_than_seconds:
                return
            if self._doc.exclusive and self._lost is None:
                others = _in_the_way(self._repository, self._doc)
                self._lost = _refusal(self._repository, self._doc, others) if others else None
            before, began = self._id, self._clock.monotonic()
            self._id = _write(self._repository, self._doc)
            self._fresh = began
            self._repository.store.delete(Layout.lock(before))

    def demand(self) -> None:
        """Pass if the lock still protects. Whoever deletes asks before each deletion. Raises: RepositoryLocked."""
        if self._lost is not None:
            raise self._lost
        age = self._clock.monotonic() - self._fresh
        if self._id and age > LOST_SECONDS:
            raise RepositoryLocked(
                f"our own lock could not be refreshed for {age / 60:.0f} minutes",
                where=self._repository.where(Layout.lock(self._id)),
                hint="start again once the store answers",
            )

    def release(self) -> None:
        """Remove the lock. What the store cannot remove now is removed by the next run."""
        with self._guard:
            if self._id:
                with suppress(BecalmError):
                    self._repository.store.delete(Layout.lock(self._id))
            self._id = ""


@contextmanager
def shared(
    repository: Repository,
    *,
    who: str,
    clock: Clock | None = None,
    leased: bool = True,
    required: bool = True,
    wait_seconds: float = CAPTURE_WAIT_SECONDS,
    still: Callable[[], None] = _go_on,
) -> Iterator[Held]:
    """Hold a lock that forbids others to delete; a thread keeps it fresh.

    `who` is the run. Without `leased` (reading beside runs: verify, repair) the lock is no run's, and no run takes it for dead before it is stale.
    With `required` false, who cannot write goes without. `still` is asked while waiting, and may raise.
    Raises: RepositoryLocked (a live exclusive lock did not go in time).
    """
    doc = LockDoc.ours(who, exclusive=False, leased=leased)
    wait = _Wait(clock or SystemClock(), wait_seconds, still)
    with _kept(_take(repository, doc, wait, required=required)) as held:
        yield held


@contextmanager
def exclusive(repository: Repository, *, who: str, clock: Clock | None = None, wait_seconds: float = 0.0) -> Iterator[Held]:
    """Hold the lock under which one may delete; the caller holds the lease as `who`. Ask `demand` of it before each deletion.

    Raises: RepositoryLocked (any live lock that is not this run's).
    """
    doc = LockDoc.ours(who, exclusive=True)
    with _kept(_take(repository, doc, _Wait(clock or SystemClock(), wait_seconds), required=True)) as held:
        yield held


def keep(repository: Repository, *, who: str, clock: Clock | None = None, wait_seconds: float = CAPTURE_WAIT_SECONDS) -> None:
    """See to it that a fresh shared lock of this run stands, without holding it: a run lasts longer than any of its processes.

    The holder of the lease calls it at its beginning and whenever it comes by. Raises: RepositoryLocked.
    """
    doc = LockDoc.ours(who, exclusive=False)
    found = standing(repository)
    own = [one for one in found if one.of_run(who)]
    sweep(repository, who=who, found=found)
    now = repository.store.now()
    if any(abs(one.age(now)) < timedelta(seconds=REFRESH_SECONDS) for one in own if not one.exclusive):
        return
    _take(repository, doc, _Wait(clock or SystemClock(), wait_seconds), required=True)
    for one in own:
        if not one.exclusive and not one.live(now):
            repository.store.delete(one.key)


def let_go(repository: Repository, *, who: str) -> None:
    """Remove every lock of this run. Its processes are over."""
    for one in standing(repository):
        if one.of_run(who):
            repository.store.delete(one.key)


def sweep(repository: Repository, *, who: str, found: Sequence[Standing] | None = None) -> tuple[Standing, ...]:
    """Remove the locks of Becalm's dead runs, and its readers' stale ones; return them.

    Only the holder of the lease does: for anybody else nothing is dead. Restic's locks stay.
    """
    store = repository.store
    ours = [one for one in (standing(repository) if found is None else found) if one.becalm and not one.of_run(who)]
    if not ours:
        return ()
    held, now = lease.read(store), store.now()
    if held is None or held.run != who or not held.held(now):
        return ()
    dead = tuple(one for one in ours if one.leased or not one.live(now))
    for one in dead:
        store.delete(one.key)
    return dead


def _take(repository: Repository, doc: LockDoc, wait: _Wait, *, required: bool) -> Held:
    """Write a lock once nothing stands in its way, and look again: of two at once, at least one sees the other."""
    while True:
        others = _in_the_way(repository, doc)
        if not others:
            try:
                held = Held(repository, doc, wait.clock, lock_id=_write(repository, doc))
            except (StoreReadOnly, AccessDenied, StoreFull):
                if required:
                    raise
                return Held(repository, doc, wait.clock, lock_id="")
            try:
                others = _in_the_way(repository, doc)
            except BaseException:
                held.release()
                raise
            if not others:
                return held
            held.release()
        wait.pause_or(_refusal(repository, doc, others))


def _in_the_way(repository: Repository, doc: LockDoc) -> list[Standing]:
    """Return the live locks that exclude this one. What a lease in hand shows to be dead is removed on the way."""
    found = standing(repository)
    if doc.leased:
        dead = set(sweep(repository, who=doc.username, found=found))
        found = [one for one in found if one not in dead and not one.of_run(doc.username)]
    else:
        found = _without_orphans(repository, found)
    now = repository.store.now()
    return [one for one in found if one.live(now) and (doc.exclusive or one.exclusive)]


def _without_orphans(repository: Repository, found: Sequence[Standing]) -> list[Standing]:
    """Leave out exclusive locks of runs of Becalm that no longer hold the lease: their fence lets them delete nothing more."""
    suspects = [one for one in found if one.becalm and one.leased and one.exclusive]
    if not suspects:
        return list(found)
    held, now = lease.read(repository.store), repository.store.now()
    alive = held.run if held is not None and held.held(now) else None
    return [one for one in found if one not in suspects or (alive is not None and one.of_run(alive))]


def _refusal(repository: Repository, doc: LockDoc, others: Sequence[Standing]) -> RepositoryLocked:
    first, now = others[0], repository.store.now()
    more = f", and {len(others) - 1} more" if len(others) > 1 else ""
    purpose = "nothing may be deleted beside it" if doc.exclusive else "nothing may be written beside it"
    return RepositoryLocked(
        f"{first.describe(now)}{more}: {purpose}",
        where=repository.where(first.key),
        hint="wait until it is done; if its program died, the lock stops to count half an hour after its last refresh",
        delay_seconds=60.0,
    )


def _write(repository: Repository, doc: LockDoc) -> str:
    return repository.save_document(Layout.LOCKS, doc.at(repository.store.now()).encode())


@contextmanager
def _kept(held: Held) -> Iterator[Held]:
    """Refresh a lock beside the work, and remove it after."""
    over = threading.Event()

    def refresh() -> None:
        while not over.wait(_TICK_SECONDS):
            with suppress(BecalmError):  # tried again; `demand` tells when it has been too long
                held.refresh()

    thread = threading.Thread(target=refresh, name="lock", daemon=True)
    thread.start()
    try:
        yield held
    finally:
        over.set()
        thread.join()
        held.release()
