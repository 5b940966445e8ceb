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
from becalm.testing.enumerator import Scenario, enumerate_crashes
from becalm.testing.faulty_store import Crash, Fault, FaultyStore
from becalm.testing.memory_store import MemoryStore
from becalm.testing.scenarios import SCENARIOS
from becalm.testing.worlds import World

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


# The scenarios of the proof, a few stops of each: `make prove` tries them all.


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_scenario_that_is_cut_short_leaves_what_is_whole_and_can_be_repeated(scenario: Scenario) -> None:
    """Nothing half done is visible, verify finds nothing, the retry needs no help, and every byte comes back."""
    tally = enumerate_crashes(scenario, every=301, offset=5)

    assert tally.bad == []
    assert tally.calls > 4


def test_a_scenario_that_does_harm_is_found_out() -> None:
    """One that makes its point visible before its packs are there: the enumeration names the call."""

    def act(world: World, store: ObjectStore) -> None:
        world.expect("the run", {})
        repository = open_repository(store, "correct horse")
        tags = ("policy=shop", "run=0", "verdict=complete")
        save_snapshot(repository, SnapshotDoc(time=world.clock.now(), tree="0" * 64, tags=tags))
        store.delete(next(store.list("snapshots/")).key)

    tally = enumerate_crashes(Scenario(name="careless", prepare=World.init, act=act), ways=("nothing",))

    assert tally.bad
    assert "careless" in str(tally.bad[0])
