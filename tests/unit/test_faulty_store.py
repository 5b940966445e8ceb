"""The store that fails on demand: each fault does what its name says, at the call it was planned for."""

from __future__ import annotations

import pytest

from becalm.errors import StoreFull, StoreUnavailable, Throttled
from becalm.testing.faulty_store import Crash, Fault, FaultyStore, faults_of
from becalm.testing.memory_store import MemoryStore


def a_store(plan: dict[int, Fault]) -> FaultyStore:
    """Return a faulty store over one that holds four objects."""
    store = MemoryStore()
    for number in range(4):
        store.put(f"a/{number}", bytes(8))
    return FaultyStore(store, plan)


def keys(store: FaultyStore) -> list[str]:
    return [info.key for info in store.list("a/")]


@pytest.mark.parametrize(
    ("fault", "error"), [(Fault.LOST_BEFORE, StoreUnavailable), (Fault.THROTTLED, Throttled), (Fault.CRASH_BEFORE, Crash)]
)
def test_before_means_that_nothing_was_done(fault: Fault, error: type[BaseException]) -> None:
    """The object is not there."""
    store = a_store({1: fault})
    with pytest.raises(error):
        store.put("a/new", b"")

    assert "a/new" not in keys(store)
    assert store.met == [fault]


@pytest.mark.parametrize(("fault", "error"), [(Fault.LOST_AFTER, StoreUnavailable), (Fault.CRASH_AFTER, Crash)])
def test_after_means_that_it_was_done(fault: Fault, error: type[BaseException]) -> None:
    """The object is there."""
    store = a_store({1: fault})
    with pytest.raises(error):
        store.put("a/new", b"")

    assert "a/new" in keys(store)


def test_a_body_that_is_cut_short_is_an_error_and_one_that_is_garbled_is_not() -> None:
    """As it is with adapters: they count the bytes."""
    store = a_store({1: Fault.TRUNCATED, 2: Fault.GARBLED})
    with pytest.raises(StoreUnavailable):
        store.get("a/0")
    garbled = store.get("a/0")

    assert len(garbled) == 8
    assert garbled != bytes(8)


def test_a_full_store_takes_nothing() -> None:
    """The write is refused, once."""
    store = a_store({1: Fault.FULL})
    with pytest.raises(StoreFull):
        store.put("a/new", b"")

    assert len(keys(store)) == 4


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault.LIST_EMPTY, []),
        (Fault.LIST_SHORT, ["a/0", "a/1"]),
        (Fault.LIST_DOUBLED, ["a/0", "a/0", "a/1", "a/1", "a/2", "a/2", "a/3", "a/3"]),
    ],
)
def test_a_list_that_lies(fault: Fault, expected: list[str]) -> None:
    """Nothing, the first half, or everything twice; the next one is right."""
    store = a_store({1: fault})

    assert keys(store) == expected
    assert len(keys(store)) == 4


def test_a_stale_list_is_behind() -> None:
    """It misses what was written, and shows what was deleted."""
    store = a_store({3: Fault.LIST_STALE})
    store.put("a/new", b"")
    store.delete("a/1")

    assert keys(store) == ["a/0", "a/1", "a/2", "a/3"]
    assert keys(store) == ["a/0", "a/2", "a/3", "a/new"]


def test_a_fault_that_the_call_cannot_meet_does_not_come() -> None:
    """A list of a thing is no `get`: nothing happens, and nothing is counted."""
    store = a_store({1: Fault.GARBLED})

    assert len(keys(store)) == 4
    assert store.met == []
    assert Fault.GARBLED not in faults_of("list")
