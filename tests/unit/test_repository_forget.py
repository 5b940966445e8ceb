"""Forgetting takes what it was told, never the last point, and nothing at all when it cannot see what is there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256

import pytest

from becalm.errors import NotFound, PermanentError, StoreUnavailable, UsageError
from becalm.model import Finding
from becalm.repository.prune import forget
from becalm.storage.base import ObjectInfo
from becalm.storage.wrappers import Wrapper
from becalm.testing.fake_clock import FakeClock
from becalm.testing.faulty_store import Crash, Fault, FaultyStore
from becalm.testing.memory_store import MemoryStore

ONE, TWO, THREE = (sha256(name).hexdigest() for name in (b"one", b"two", b"three"))


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore(clock=FakeClock())
    for snapshot_id in (ONE, TWO, THREE):
        store.put(f"snapshots/{snapshot_id}", snapshot_id.encode())
    store.put("data/ab/pack", b"pack")
    return store


def _left(store: MemoryStore) -> set[str]:
    return {info.key.removeprefix("snapshots/") for info in store.list("snapshots/")}


def test_what_no_rule_keeps_is_deleted_and_nothing_else(store: MemoryStore) -> None:
    """Only snapshot objects go; packs stay."""
    gone = forget(store, [ONE, TWO], keep=[THREE])

    assert gone == (ONE, TWO)
    assert _left(store) == {THREE}
    assert store.get("data/ab/pack") == b"pack"


def test_forgetting_twice_is_as_forgetting_once(store: MemoryStore) -> None:
    """What is gone already counts as gone."""
    forget(store, [ONE], keep=[THREE])

    assert forget(store, [ONE, TWO], keep=[THREE]) == (ONE, TWO)


@pytest.mark.parametrize("keep", [[], [sha256(b"gone long ago").hexdigest()]])
def test_the_last_points_are_never_forgotten(store: MemoryStore, keep: list[str]) -> None:
    """Unless one that stays is really there, nothing goes."""
    with pytest.raises(PermanentError, match="would leave none"):
        forget(store, [ONE, TWO, THREE], keep=keep)
    assert _left(store) == {ONE, TWO, THREE}


def test_what_is_kept_and_forgotten_at_once_is_a_mistake(store: MemoryStore) -> None:
    """Nothing goes."""
    with pytest.raises(UsageError, match="to be kept and to be forgotten"):
        forget(store, [ONE, TWO], keep=[TWO, THREE])
    assert _left(store) == {ONE, TWO, THREE}


@pytest.mark.parametrize("wrong", ["", "latest", ONE[:8], f"../{ONE}", ONE.upper()])
def test_only_whole_ids_are_taken(store: MemoryStore, wrong: str) -> None:
    """A slip of the pen deletes nothing."""
    with pytest.raises(UsageError):
        forget(store, [ONE, wrong], keep=[THREE])
    assert _left(store) == {ONE, TWO, THREE}


def test_a_locked_point_stays_and_is_reported(store: MemoryStore) -> None:
    """The others go."""
    store.retain(f"snapshots/{ONE}", store.now() + timedelta(days=14))
    refused: list[Finding] = []
    gone = forget(store, [ONE, TWO], keep=[THREE], refused=refused.append)

    assert gone == (TWO,)
    assert _left(store) == {ONE, THREE}
    assert [(finding.where, finding.message) for finding in refused] == [
        (f"memory://store/snapshots/{ONE}", "the object is locked until 2026-03-28T12:00:00Z")
    ]


@pytest.mark.parametrize("fault", [Fault.LOST_BEFORE, Fault.LOST_AFTER, Fault.CRASH_AFTER])
def test_a_list_that_fails_ends_it_before_anything_is_deleted(store: MemoryStore, fault: Fault) -> None:
    """At its beginning, or at its last page."""
    with pytest.raises((StoreUnavailable, Crash)):
        forget(FaultyStore(store, {1: fault}), [ONE, TWO], keep=[THREE])
    assert _left(store) == {ONE, TWO, THREE}


class _Lists(Wrapper):
    """A store whose lists show only what they are told to."""

    def __init__(self, store: MemoryStore, shown: list[str]) -> None:
        super().__init__(store)
        self._shown = shown

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield a part."""
        return (info for info in super().list(prefix) if info.key.removeprefix("snapshots/") in self._shown)


def test_an_empty_list_deletes_nothing(store: MemoryStore) -> None:
    """A store that shows nothing is broken, not empty."""
    with pytest.raises(PermanentError):
        forget(_Lists(store, []), [ONE, TWO], keep=[THREE])
    assert _left(store) == {ONE, TWO, THREE}


def test_a_stale_list_does_not_hide_what_is_to_go(store: MemoryStore) -> None:
    """Each object is looked at by itself."""
    gone = forget(_Lists(store, [THREE]), [ONE], keep=[THREE])

    assert gone == (ONE,)
    with pytest.raises(NotFound):
        store.head(f"snapshots/{ONE}")


def test_after_a_crash_at_any_call_it_can_be_done_again(store: MemoryStore) -> None:
    """Fail the n-th call for every n: nothing that stays is ever touched, and the repetition ends it."""
    for fault in (Fault.CRASH_BEFORE, Fault.CRASH_AFTER):
        for number in range(1, 6):
            for snapshot_id in (ONE, TWO):
                store.put(f"snapshots/{snapshot_id}", b"again")
            with pytest.raises(Crash):
                forget(FaultyStore(store, {number: fault}), [ONE, TWO], keep=[THREE])
            assert THREE in _left(store)

            assert forget(store, [ONE, TWO], keep=[THREE]) == (ONE, TWO)
            assert _left(store) == {THREE}
