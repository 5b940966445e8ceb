"""Each wrapper does its one thing: tries again, refuses, counts, stands below a prefix."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from becalm.errors import NotFound, PermanentError, PreconditionFailed, StoreFull, StoreReadOnly, StoreUnavailable, Throttled
from becalm.storage.base import ETag, Span
from becalm.storage.wrappers import Counting, Prefixed, ReadOnly, Retrying, Wrapper
from becalm.testing.fake_clock import FakeClock
from becalm.testing.faulty_store import Fault, FaultyStore
from becalm.testing.memory_store import MemoryStore

TRANSIENT = [Fault.LOST_BEFORE, Fault.LOST_AFTER, Fault.THROTTLED]


def _retrying(store: MemoryStore, *faults: Fault, clock: FakeClock | None = None) -> tuple[Retrying, FaultyStore]:
    """Return a patient store over one whose first calls go wrong."""
    faulty = FaultyStore(store, dict(enumerate(faults, 1)))
    return Retrying(
        faulty, clock=clock or FakeClock(), attempts=4, first_delay_seconds=1, longest_delay_seconds=3, jitter=lambda: 1.0
    ), faulty


@pytest.mark.parametrize("fault", TRANSIENT)
def test_every_call_is_tried_again(fault: Fault) -> None:
    """And its result is as if nothing had happened."""
    store = MemoryStore(clock=FakeClock())
    etag = store.put("key", b"body")
    until = store.now().replace(year=2030)

    assert _retrying(store, fault)[0].get("key", Span(offset=1, length=2)) == b"od"
    assert _retrying(store, fault)[0].head("key").etag == etag
    assert [info.key for info in _retrying(store, fault)[0].list("")] == ["key"]
    assert _retrying(store, fault)[0].now() == store.now()
    _retrying(store, fault)[0].retain("key", until)
    assert store.head("key").retain_until == until
    _retrying(store, fault)[0].put("other", b"")
    _retrying(store, fault)[0].delete("other", if_match=store.head("other").etag)
    with pytest.raises(NotFound):
        store.head("other")


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_conditional_put_that_meets_its_own_object_has_succeeded(fault: Fault) -> None:
    """The first reply was lost; the etag is that of what is there."""
    store = MemoryStore()
    first = _retrying(store, fault)[0].put("key", b"first", if_absent=True)
    second = _retrying(store, fault)[0].put("key", memoryview(b"second"), if_match=first)

    assert store.get("key") == b"second"
    assert second == store.head("key").etag


def test_a_conditional_put_that_meets_anothers_object_has_failed() -> None:
    """Also when it is as long, and also at the second attempt."""
    for faults in ((), (Fault.LOST_BEFORE,), (Fault.THROTTLED, Fault.LOST_BEFORE)):
        store = MemoryStore()
        store.put("key", b"other")

        with pytest.raises(PreconditionFailed):
            _retrying(store, *faults)[0].put("key", b"first", if_absent=True)
        with pytest.raises(PreconditionFailed):
            _retrying(store, *faults)[0].put("key", b"first", if_match=ETag("of-something-else"))
        with pytest.raises(PreconditionFailed):
            _retrying(store, *faults)[0].put("absent", b"first", if_match=ETag("of-something-else"))
        assert store.get("key") == b"other"


def test_a_first_attempt_never_takes_an_equal_object_for_its_own() -> None:
    """Two writers of the same bytes: only one of them was first, and both know which."""
    store = MemoryStore()
    store.put("key", b"same")

    with pytest.raises(PreconditionFailed):
        _retrying(store)[0].put("key", b"same", if_absent=True)


def test_the_waits_double_up_to_the_longest() -> None:
    """And after the last attempt the error is the store's own."""
    clock = FakeClock()
    store, faulty = _retrying(MemoryStore(), *[Fault.LOST_BEFORE] * 9, clock=clock)

    with pytest.raises(StoreUnavailable, match="get was lost"):
        store.get("key")
    assert clock.slept == [1, 2, 3]
    assert len(faulty.calls) == 4


def test_a_part_of_each_wait_is_chance() -> None:
    """Many movers do not come back at the same moment."""
    clock = FakeClock()
    faulty = FaultyStore(MemoryStore(), {1: Fault.LOST_BEFORE})
    Retrying(faulty, clock=clock, first_delay_seconds=1, jitter=lambda: 0.0).now()

    assert clock.slept == [0.5]


def test_what_the_server_asked_to_wait_is_waited() -> None:
    """Even if it is longer than any wait of our own."""

    class Slow(Wrapper):
        asked = 0

        def get(self, key: str, span: Span | None = None) -> bytes:
            """Ask for patience once."""
            self.asked += 1
            if self.asked == 1:
                raise Throttled("slowly", delay_seconds=42)
            return super().get(key, span)

    clock, store = FakeClock(), MemoryStore()
    store.put("key", b"body")

    assert Retrying(Slow(store), clock=clock).get("key") == b"body"
    assert clock.slept == [42]


def test_what_does_not_go_away_is_not_tried_again() -> None:
    """One call, no wait."""
    clock = FakeClock()
    store, faulty = _retrying(MemoryStore(capacity_bytes=3, object_lock=False), clock=clock)

    for act, error in (
        (lambda: store.get("absent"), NotFound),
        (lambda: store.put("key", b"too much"), StoreFull),
        (lambda: store.put("no//key", b""), PermanentError),
    ):
        with pytest.raises(error):
            act()
    assert len(faulty.calls) == 3
    assert clock.slept == []


@given(faults=st.dictionaries(st.integers(1, 12), st.sampled_from(TRANSIENT), max_size=3), count=st.integers(0, 9))
def test_a_list_that_was_interrupted_goes_on_without_gap_or_double(faults: dict[int, Fault], count: int) -> None:
    """Wherever it broke off."""
    store = MemoryStore(page_size=2)
    keys = [f"key/{number}" for number in range(count)]
    for key in keys:
        store.put(key, b"")
    patient = Retrying(FaultyStore(store, faults), clock=FakeClock(), attempts=4)

    assert [info.key for info in patient.list("")] == keys


def test_a_store_for_reading_refuses_every_change() -> None:
    """And reads."""
    inner = MemoryStore()
    inner.put("key", b"body")
    store = ReadOnly(inner)

    for act in (lambda: store.put("key", b""), lambda: store.delete("key"), lambda: store.retain("key", inner.now())):
        with pytest.raises(StoreReadOnly, match="opened for reading"):
            act()
    assert store.get("key") == b"body"


def test_calls_and_bytes_are_counted() -> None:
    """By method."""
    store = Counting(MemoryStore())
    store.put("key", memoryview(b"1234"))
    store.get("key", Span(offset=0, length=3))
    store.head("key")
    list(store.list(""))
    store.delete("key")

    assert store.calls == {"put": 1, "get": 1, "head": 1, "list": 1, "delete": 1}
    assert (store.bytes_read, store.bytes_written) == (3, 4)


def test_below_a_prefix_nothing_else_can_be_reached() -> None:
    """Neither by a key nor by a list."""
    inner = MemoryStore()
    inner.put("target/shop/key", b"ours")
    inner.put("target/shop2/key", b"another's")
    store = Prefixed(inner, "target/shop")

    assert [info.key for info in store.list("")] == ["key"]
    assert store.url == "memory://store/target/shop"
    with pytest.raises(PermanentError):
        store.get("../shop2/key")
