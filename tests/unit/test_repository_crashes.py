"""Crashes: whichever call to the store is the last, what can be seen is whole, and the plain retry succeeds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from random import Random

import pytest

from becalm.errors import BecalmError, NoRepository
from becalm.repository.check import check
from becalm.repository.crypto import Kdf
from becalm.repository.format import SnapshotDoc
from becalm.repository.reader import init_repository, open_repository
from becalm.repository.snapshots import list_snapshots, save_snapshot
from becalm.repository.tree import TreeBuilder, join, walk
from becalm.repository.writer import Writer
from becalm.storage.base import ObjectStore
from becalm.testing.faulty_store import Crash, Fault, FaultyStore
from becalm.testing.memory_store import MemoryStore

CHEAP = Kdf(n=1 << 4, r=8, p=1)
FILES = {"a/one": b"1" * 100, "a/two": Random(1).randbytes(3000), "three": b""}
LONG_ENOUGH = 60


def story(store: ObjectStore) -> None:
    """Make a repository where there is none, write two trees, join them, and make a snapshot of it."""
    try:
        repository = open_repository(store, "password")
    except NoRepository:
        repository = init_repository(store, "password", kdf=CHEAP)
    with Writer(repository) as writer:
        trees = []
        for path, data in FILES.items():
            builder = TreeBuilder()
            builder.add_bytes(path, data)
            trees.append(builder.write(writer))
        writer.flush()
        tree = join(repository, writer, trees)
    save_snapshot(repository, SnapshotDoc(time=datetime(2026, 1, 1, tzinfo=UTC), tree=tree))


def meets(store: MemoryStore, plan: Mapping[int, Fault]) -> bool:
    """Live through the story with faults; say whether one of them came."""
    faulty = FaultyStore(store, plan)
    try:
        story(faulty)
    except (BecalmError, Crash):
        return True
    return False


def what_is_seen(store: MemoryStore) -> list[dict[str, bytes]]:
    """Return the content of every snapshot; damage is an error."""
    try:
        repository = open_repository(store, "password")
    except NoRepository:
        return []
    assert check(repository, read_data=True) == []
    return [
        {path: b"".join(repository.read_file(node)) for path, node in walk(repository, document.tree) if node.type == "file"}
        for _, document in list_snapshots(repository)
    ]


@pytest.mark.parametrize("fault", [Fault.LOST_BEFORE, Fault.LOST_AFTER, Fault.CRASH_BEFORE, Fault.CRASH_AFTER])
def test_whatever_call_is_the_last_the_retry_succeeds(fault: Fault) -> None:
    """At each call in turn: nothing half done is visible, and the same again, without any repair, makes it whole."""
    came = 0
    for call in range(1, LONG_ENOUGH):
        store = MemoryStore()
        if not meets(store, {call: fault}):
            break
        came += 1
        assert all(seen == FILES for seen in what_is_seen(store)), call
        story(store)
        seen = what_is_seen(store)
        assert seen, call
        assert all(one == FILES for one in seen), call

    assert 12 < came < LONG_ENOUGH - 1


def test_two_faults_in_a_row_do_no_more_harm_than_one() -> None:
    """A retry that fails too leaves nothing that the next one cannot bear."""
    random = Random(5)
    for _ in range(40):
        store = MemoryStore()
        for _ in range(2):
            meets(store, {random.randrange(1, 24): random.choice(list(Fault))})
            assert all(seen == FILES for seen in what_is_seen(store))
        story(store)
        assert FILES in what_is_seen(store)
