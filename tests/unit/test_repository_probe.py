"""Trying a store out: each thing that everything rests on is noticed where it is missing, and nothing is left behind."""

from __future__ import annotations

from contextlib import suppress

import pytest

from becalm.errors import AccessDenied, BecalmError, LockNotEnforced, PermanentError, PreconditionFailed, StoreReadOnly, StoreUnfit
from becalm.repository.format import Layout
from becalm.repository.probe import probe
from becalm.storage.base import ETag
from becalm.storage.wrappers import Wrapper
from becalm.testing.fake_clock import FakeClock
from becalm.testing.faulty_store import Crash, Fault, FaultyStore
from becalm.testing.memory_store import MemoryStore


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_a_good_store_passes_and_keeps_nothing(clock: FakeClock) -> None:
    """The locked object goes as well, once its lock has ended."""
    store = MemoryStore(clock=clock)

    assert len(probe(store, clock=clock)) == 2
    assert probe(store, locks=True, clock=clock)[-1] == "what is locked cannot be deleted"
    assert store.keys() == ()


class NoIfAbsent(Wrapper):
    """Writes over what is there."""

    def put(self, key, body, *, if_absent=False, **rest):
        """Do just that."""
        return super().put(key, body, **rest)


class NoIfMatch(Wrapper):
    """Compares nothing."""

    def put(self, key, body, *, if_match=None, **rest):
        """Do just that."""
        return super().put(key, body, **rest)


class NoConditionalDelete(Wrapper):
    """Deletes whatever is there."""

    def delete(self, key, *, if_match=None):
        """Do just that."""
        super().delete(key)


class Unheard(Wrapper):
    """Has never heard of conditions."""

    def put(self, key, body, *, if_absent=False, if_match=None, **rest):
        """Do just that."""
        if if_match:
            raise PermanentError("the server refused put_object with 501: NotImplemented")
        return super().put(key, body, if_absent=if_absent, **rest)


class Forgetful(Wrapper):
    """Answers reads from a cache."""

    def __init__(self, store):
        super().__init__(store)
        self.first: dict[str, bytes] = {}

    def get(self, key, span=None):
        """Do just that."""
        return self.first.setdefault(key, b"first")


class LastOneWins(Wrapper):
    """Looks before it writes, and does not hold what it saw."""

    def put(self, key, body, *, if_absent=False, if_match: ETag | None = None, **rest):
        """Do just that."""
        racing = bytes(body).startswith(b"racer")
        return super().put(key, body, if_absent=if_absent and not racing, if_match=if_match, **rest)


class LocksAll(Wrapper):
    """A bucket with a retention by default."""

    def delete(self, key, *, if_match=None):
        """Do just that."""
        if if_match is not None and self._store.head(key).etag != if_match:
            raise PreconditionFailed("the object is not the one that was read")
        raise AccessDenied("the object is locked until 2027-01-01T00:00:00Z", where=key)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (NoIfAbsent, "only if absent"),
        (NoIfMatch, "If-Match"),
        (NoConditionalDelete, "it deleted an object"),
        (Unheard, "does not know conditions: the server refused"),
        (Forgetful, "does not return what was written"),
        (LastOneWins, "of 4 writes of the same object at once, 4 were accepted"),
        (LocksAll, "does not let go of an object that nobody locked"),
    ],
)
def test_a_store_that_cannot_hold_a_lease_is_refused(clock: FakeClock, kind: type[Wrapper], says: str) -> None:
    """The error says what it does not do, and what would."""
    with pytest.raises(StoreUnfit, match=says) as caught:
        probe(kind(MemoryStore(clock=clock)), clock=clock)

    assert caught.value.hint


class LocksNothing(Wrapper):
    """Notes a lock, tells of it, and deletes all the same."""

    def breaks_lock(self, key):
        """Do just that."""
        raw = self._store
        del raw._held[key]  # the store behind its own port
        return True


class Silent(Wrapper):
    """Takes a lock and keeps none."""

    def put(self, key, body, *, retain_until=None, **rest):
        """Do just that."""
        return super().put(key, body, **rest)


@pytest.mark.parametrize(("kind", "says"), [(LocksNothing, "let an object go that was locked"), (Silent, "does not tell of it")])
def test_a_bucket_whose_lock_protects_nothing_is_refused(clock: FakeClock, kind: type[Wrapper], says: str) -> None:
    """Only where a lock is asked for."""
    store = kind(MemoryStore(clock=clock))
    assert probe(store, clock=clock)

    with pytest.raises(LockNotEnforced, match=says):
        probe(store, locks=True, clock=clock)


def test_a_bucket_without_object_lock_is_told_from_one_that_does_not_enforce_it(clock: FakeClock) -> None:
    """The remedy is another one."""
    with pytest.raises(StoreReadOnly, match="no object lock here"):
        probe(MemoryStore(clock=clock, object_lock=False), locks=True, clock=clock)


class Slow(Wrapper):
    """Takes so long to delete that the lock has ended."""

    def __init__(self, store, clock: FakeClock, seconds: float) -> None:
        super().__init__(store)
        self.clock, self.seconds = clock, seconds

    def breaks_lock(self, key):
        """Do just that."""
        self.clock.advance(self.seconds)
        try:
            self._store.delete(key)
        except AccessDenied:
            return False
        return True


def test_a_slow_store_is_asked_with_a_longer_lock(clock: FakeClock) -> None:
    """That the object went after its lock had ended says nothing."""
    store = MemoryStore(clock=clock)

    assert len(probe(Slow(store, clock, 10), locks=True, clock=clock)) == 3
    with pytest.raises(LockNotEnforced, match="too slowly"):
        probe(Slow(store, clock, 100), locks=True, clock=clock)


@pytest.mark.parametrize("fault", list(Fault))
def test_an_interrupted_probe_leaves_nothing_that_the_next_does_not_remove(clock: FakeClock, fault: Fault) -> None:
    """At each call, with each fault: the next probe passes and cleans up."""
    number = 0
    while True:
        number += 1
        store = MemoryStore(clock=clock)
        faulty = FaultyStore(store, {number: fault})
        with suppress(BecalmError, Crash):
            probe(faulty, locks=True, clock=clock)
        clock.advance(60)
        probe(store, locks=True, clock=clock)

        assert list(store.list(Layout.PROBES)) == []
        if len(faulty.calls) < number:  # it was not reached: these were all
            break
    assert number > 15
