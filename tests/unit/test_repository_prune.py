"""Prune takes what nothing needs, late and twice looked at; what anything needs stays, wherever anybody was cut off or slept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.prune_scenes import Listing, Meanwhile, World, contents

from becalm.errors import BecalmError, Damaged, LeaseLost, PreconditionFailed, PruneRefused, StoreFull, UsageError
from becalm.repository import intents, reserve, tombstones
from becalm.repository.census import Seen
from becalm.repository.format import IndexDoc, IndexedBlob, Layout
from becalm.repository.index import Index
from becalm.repository.prune import GRACE, SHORTEST_GRACE, Rules, plan, preview, prune
from becalm.repository.reader import open_repository
from becalm.repository.references import Needed
from becalm.repository.repack import Repacked, repack
from becalm.repository.tombstones import Tombstone
from becalm.repository.writer import Writer
from becalm.storage.base import ETag, ObjectInfo, ObjectStore
from becalm.storage.wrappers import Wrapper
from becalm.testing.fake_clock import NOON
from becalm.testing.faulty_store import Crash, Fault, FaultyStore, faults_of
from becalm.testing.saved_points import PASSWORD

A = {"a": b"a" * 900, "both": b"b" * 900}
B = {"b": b"c" * 900, "both": b"b" * 900}
C = {"c": b"d" * 900, "a": b"a" * 900}


def a_world_with_waste() -> tuple[World, str, dict[str, dict[str, bytes]]]:
    """Two points, the older one forgotten: two of five packs are waste, and old enough."""
    world = World()
    old, new = world.write(A), world.write(B)
    world.days(10)
    world.forget(old)
    return world, new, world.content()


@pytest.fixture(scope="module")
def wasteful() -> World:
    return a_world_with_waste()[0]


@pytest.fixture(scope="module")
def marked(wasteful: World) -> World:
    """The same, its waste marked, and the grace period over."""
    world = wasteful.copy()
    world.prune()
    world.days(8)
    return world


# What goes, and when.


def test_what_only_forgotten_points_needed_is_marked_and_goes_after_the_grace_period(wasteful: World) -> None:
    """What another point shares stays, and every byte of it can be read."""
    world = wasteful.copy()
    before = world.content()
    first = world.prune()
    kept = world.packs()
    world.days(6.9)
    early = world.prune()
    world.days(0.2)
    last = world.prune()

    assert (first.marked, first.deleted, len(kept)) == (2, [], 5)
    assert (early.deleted, early.plan.waiting) == ([], 2)
    assert (len(last.deleted), len(world.packs()), world.stones()) == (2, 3, frozenset())
    assert (world.content(), world.damages()) == (before, [])
    assert open_repository(world.store, PASSWORD).index.packs() == world.packs()


def test_packs_of_a_run_that_died_go_too_but_not_while_they_are_young() -> None:
    """Nothing names them; they are found by looking at what there is."""
    world = World()
    world.write(A)
    repository = open_repository(world.store, PASSWORD)
    writer = Writer(repository, workers=1)
    writer.save_bytes(b"e" * 900)
    with suppress(ZeroDivisionError), writer:
        raise ZeroDivisionError
    world.store.put(Layout.pack("ab" * 32), b"a pack whose index was never written")
    world.days(1)
    young = world.prune()
    world.days(1)
    old = world.prune()
    world.days(8)
    gone = world.prune()

    assert (young.marked, young.plan.young) == (0, 1)
    assert old.marked == 1
    assert gone.deleted == ["ab" * 32]
    assert world.damages() == []


def test_a_pack_that_is_needed_after_all_loses_its_tombstone() -> None:
    """A copy of a forgotten snapshot was put back before the grace period was over."""
    forgotten = World()
    ids = [forgotten.write(A), forgotten.write(B)]
    held = forgotten.store.get(Layout.snapshot(ids[0]))
    forgotten.days(10)
    forgotten.forget(ids[0])
    forgotten.prune()
    forgotten.store.put(Layout.snapshot(ids[0]), held)
    forgotten.days(8)
    done = forgotten.prune()

    assert (done.rescued, done.deleted, forgotten.stones()) == (2, [], frozenset())
    assert forgotten.content()[ids[0]] == A
    assert forgotten.damages() == []


def test_a_blob_that_was_written_anew_does_not_keep_its_marked_pack(marked: World) -> None:
    """A run brings what lies in marked packs again; then the old pack goes all the same."""
    world = marked.copy()
    again = world.write(C)
    done = world.prune()

    assert (done.rescued, len(done.deleted)) == (0, 2)
    assert world.content()[again] == C
    assert world.damages() == []


def test_a_tombstone_whose_pack_is_gone_goes(marked: World) -> None:
    """Somebody was cut off between the pack and its tombstone, or a commit has marked what it missed."""
    world = marked.copy()
    for pack in world.stones():
        world.store.delete(Layout.pack(pack))
    done = world.prune()

    assert (done.deleted, world.stones()) == ([], frozenset())
    assert open_repository(world.store, PASSWORD).index.packs() == world.packs()


# What is refused.


def test_more_than_the_stated_share_needs_a_word(marked: World) -> None:
    """Nothing is deleted, nor marked."""
    world = marked.copy()
    fence = world.begin()
    repository = open_repository(world.store, PASSWORD)
    with pytest.raises(PruneRefused, match="44%") as caught:
        prune(repository, who="p", alive=fence.check, rules=Rules(most_share=0.4))
    kept = world.packs()
    done = prune(repository, who="p", alive=fence.check, rules=Rules(most_share=0.4, yes_really=True))

    assert "--yes-really" in caught.value.hint
    assert len(kept) == 5
    assert len(done.deleted) == 2


def test_a_grace_period_that_a_run_may_outlast_is_refused() -> None:
    with pytest.raises(UsageError, match="shorter"):
        Rules(grace=timedelta(hours=3))


def test_without_any_point_nothing_goes() -> None:
    """Not even with a word: whoever wants nothing of it removes the prefix."""
    world, point, _ = a_world_with_waste()
    world.forget(point)
    with pytest.raises(PruneRefused, match="no recovery point"):
        world.prune(rules=Rules(yes_really=True))

    assert (len(world.packs()), world.stones()) == (5, frozenset())


def test_a_blob_that_no_index_knows_stops_it(wasteful: World) -> None:
    """It may lie in the very pack that seems to be waste."""
    world = wasteful.copy()
    for info in list(world.store.list(Layout.INDEX)):
        world.store.delete(info.key)
    with pytest.raises(PruneRefused, match="no index knows"):
        world.prune()

    assert (len(world.packs()), world.stones()) == (5, frozenset())


def test_a_point_that_something_else_knows_must_be_in_the_list(wasteful: World) -> None:
    """A list that is short twice does not take a pinned point, the parent of another, or one that was seen before."""
    world = wasteful.copy()
    lonely = world.write({"z": b"z" * 900})
    world.store.put(Layout.pin(lonely), b"{}")

    class Short(Wrapper):
        def list(self, prefix: str) -> Iterator[ObjectInfo]:
            return (info for info in super().list(prefix) if info.key != Layout.snapshot(lonely))

    store = Short(world.store)
    with pytest.raises(PruneRefused, match="does not show it"):
        world.prune(store)
    pinned = world.stones()
    world.store.delete(Layout.pin(lonely))
    world.prune()
    world.days(9)
    with pytest.raises(PruneRefused, match="does not show it"):
        world.prune(store)

    assert pinned == frozenset()
    assert world.damages() == []


WRONG: dict[str, Callable[[list[ObjectInfo]], list[ObjectInfo]]] = {
    "empty": lambda found: [],
    "short": lambda found: found[: len(found) // 2],
    "without its beginning": lambda found: found[1:],
    "doubled": lambda found: [one for info in found for one in (info, info)],
    "backwards": lambda found: found[::-1],
    "stale": lambda found: [*found, *(replace(info, key=info.key[:-1] + "z") for info in found[-1:])],
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "for good"])
def test_no_list_that_lies_costs_anything_that_is_needed(marked: World, wrong: str, lasting: bool) -> None:
    """Every list of a prune in turn, wrong once or wrong for good: no pack goes that a point needs, and no tombstone comes to stay."""
    count = Listing(marked.copy().store, 0, list)
    world = marked.copy()
    count._store = world.store
    world.prune(count)
    before = marked.content()
    for number in range(1, len(count.lists) + 1):
        world = marked.copy()
        store = Listing(world.store, number, WRONG[wrong], lasting=lasting)
        with suppress(BecalmError):
            world.prune(store)

        assert (number, world.content(), world.damages()) == (number, before, [])
        assert not [key for key in store.deleted if key.startswith(Layout.SNAPSHOTS)]


@pytest.mark.parametrize("wrong", ["empty", "short", "doubled", "backwards"])
def test_a_wrong_list_of_what_is_counted_deletes_nothing_at_all(marked: World, wrong: str) -> None:
    """Snapshots, index objects and packs are listed twice, and compared."""
    counted = Listing(marked.copy().store, 0, list)
    marked.copy().prune(counted)
    for number, prefix in enumerate(counted.lists, start=1):
        if prefix not in {Layout.SNAPSHOTS, Layout.INDEX, Layout.DATA}:
            continue
        world = marked.copy()
        store = Listing(world.store, number, WRONG[wrong])
        if len(list(world.store.list(prefix))) == 1 and wrong in {"short", "backwards"}:
            continue  # half of one is nothing, and one is in order
        with pytest.raises(PruneRefused):
            world.prune(store)

        assert not [key for key in store.deleted if key.startswith((Layout.DATA, Layout.INDEX, Layout.SNAPSHOTS))]


# Cut off, and asleep.


SAME = {Fault.THROTTLED, Fault.CRASH_BEFORE}
"""At the store, the same as a call that was lost before it arrived."""


def _after_a_fault(before: World, number: int, fault: Fault) -> tuple[World, bool]:
    """Prune until a call goes wrong. Return the world, and whether there was such a call."""
    world = before.copy()
    store = FaultyStore(world.store, {number: fault})
    with suppress(BecalmError, Crash):
        world.prune(store)
    return world, bool(store.met)


@pytest.mark.parametrize("scene", ["wasteful", "marked"])
def test_wherever_it_is_cut_off_every_point_is_whole_and_the_next_ones_finish(scene: str, request: pytest.FixtureRequest) -> None:
    """Every call of a prune, every fault; then whatever another run needs to write, and the next prunes."""
    before: World = request.getfixturevalue(scene)
    calls = FaultyStore(before.copy().store)
    whole = before.copy()
    calls._store = whole.store
    whole.prune(calls)
    content = before.content()
    tried = 0
    for number, (method, _) in enumerate(calls.calls, start=1):
        for fault in [fault for fault in faults_of(method) if fault not in SAME]:
            world, met = _after_a_fault(before, number, fault)
            tried += met

            assert contents(world.store) == content
            if fault is Fault.CRASH_AFTER:
                world.days(1)
                point = world.write(C)
                for _ in range(3):
                    world.days(9)
                    world.prune()
                assert world.content() == content | {point: C}
                assert world.damages() == []
                assert world.stones() == frozenset()
                assert open_repository(world.store, PASSWORD).index.packs() == world.packs()

    assert tried > 100


def _prune_out(world: World) -> None:
    """Let the lease run out, then forget nothing and reclaim all that can be, for weeks."""
    for _ in range(3):
        world.days(9)
        world.prune()


@pytest.mark.parametrize("days", [0.0, 30.0], ids=["awake", "weeks later"])
def test_a_writer_that_sleeps_at_any_call_leaves_no_point_that_misses_something(days: float) -> None:
    """Others prune for weeks while it sleeps: it publishes a whole point, or nothing that counts. A new run then goes well."""
    base, _, content = a_world_with_waste()
    calls = Meanwhile(base.copy().store, 0, list)
    awake = base.copy()
    calls._store = awake.store
    awake.write(C, calls)
    ends = set()
    for number in range(1, calls.calls + 1):
        world = base.copy()

        def others(world: World = world) -> None:
            world.days(days)
            if days:
                _prune_out(world)

        point = None
        try:
            point = world.write(C, Meanwhile(world.store, number, others))
            ends.add("published")
        except LeaseLost:
            ends.add("lost")
        except (PreconditionFailed, Damaged, BecalmError) as error:
            ends.add(type(error).__name__)

        assert world.content() == content | ({point: C} if point else {})
        again = world.retry(C | {"again": b"!" * 900})
        _prune_out(world)
        assert world.content()[again] == C | {"again": b"!" * 900}
        assert world.damages() == []

    assert "published" in ends
    assert ("lost" in ends) == bool(days)


def test_a_pruner_that_sleeps_at_any_call_takes_nothing_that_was_written_since(marked: World) -> None:
    """Others write and prune while it sleeps, and it does not even ask for its lease when it wakes."""
    calls = Meanwhile(marked.copy().store, 0, list)
    whole = marked.copy()
    calls._store = whole.store
    prune(open_repository(calls, PASSWORD), who="sleeper", alive=lambda: None, rules=Rules(yes_really=True))
    for number in range(1, calls.calls + 1):
        world = marked.copy()
        points: dict[str, dict[str, bytes]] = {}

        def others(world: World = world, points: dict[str, dict[str, bytes]] = points) -> None:
            points[world.retry(C)] = C
            _prune_out(world)
            points[world.retry(A)] = A

        with suppress(BecalmError):
            store = Meanwhile(world.store, number, others)
            prune(open_repository(store, PASSWORD), who="sleeper", alive=lambda: None, rules=Rules(yes_really=True))

        assert {point: files for point, files in world.content().items() if point in points} == points
        assert world.damages() == []


def test_a_run_that_relied_on_a_pack_that_is_gone_is_refused_once(marked: World) -> None:
    """An index object that a sleeper wrote names a pack that is not there: the second run does not believe it any more."""
    world = marked.copy()
    stale = open_repository(world.store, PASSWORD)
    naming = [stale.load_document(info.key) for info in world.store.list(Layout.INDEX)]
    world.prune()
    for document in naming:
        stale.save_document(Layout.INDEX, document)
    with pytest.raises(Damaged):
        world.write(C)
    world.days(1)
    point = world.write(C)
    at_once = world.content()[point]
    world.days(9)
    world.prune()

    assert at_once == C
    assert world.content()[point] == C
    assert open_repository(world.store, PASSWORD).index.packs() == world.packs()


def test_a_withdrawn_point_is_removed_and_its_note_stays() -> None:
    """Whoever wrote it may still come and put it back."""
    world = World()
    kept = world.write(A)
    counting = Meanwhile(world.copy().store, 0, list)
    World.write(world.copy(), B, counting)
    withdrawn = []
    for number in range(counting.calls, 0, -1):
        twin = world.copy()

        def sleep(twin: World = twin) -> None:
            twin.days(1)
            twin.prune()

        with suppress(BecalmError):
            twin.write(B, Meanwhile(twin.store, number, sleep))
        gone = intents.withdrawn(twin.store)
        if gone:
            (one,) = gone
            withdrawn.append(one)
            twin.store.put(Layout.snapshot(one), world.store.get(Layout.snapshot(kept)))
            done = twin.prune()

            assert done.withdrawn == [one]
            assert list(twin.content()) == [kept]
            assert intents.withdrawn(twin.store) == gone

    assert withdrawn


# Full, and locked.


def test_a_full_store_is_emptied_by_giving_up_the_reserve(marked: World) -> None:
    """Not one byte can be written, and two packs go all the same."""
    world = marked.copy()
    assert reserve.keep(world.store, total_bytes=0)
    world.store.capacity_bytes = sum(world.store.head(key).size for key in list(world.store.keys()))
    with pytest.raises(StoreFull):
        world.prune()
    refused = world.packs()
    reserve.spend(world.store)
    done = world.prune()

    assert len(refused) == 5
    assert len(done.deleted) == 2
    assert world.damages() == []


def test_what_is_locked_stays_and_is_counted(marked: World) -> None:
    """So does what a locked index object names; when the locks have ended it goes."""
    world = marked.copy()
    stones = sorted(world.stones())
    world.store.retain(Layout.pack(stones[0]), world.clock.now() + timedelta(days=30))
    first = world.prune()
    rest = world.copy()
    rest.days(31)
    last = rest.prune()

    assert (first.locked, first.deleted) == (1, [stones[1]])
    assert (last.locked, last.deleted) == (0, [stones[0]])

    world = marked.copy()
    for info in world.store.list(Layout.INDEX):
        world.store.retain(info.key, world.clock.now() + timedelta(days=30))
    held = world.prune()
    world.days(31)
    after = world.prune()

    assert (held.locked, held.deleted) == (2, [])
    assert sorted(after.deleted) == stones
    assert world.damages() == []


def test_a_preview_says_what_would_go_and_changes_nothing(marked: World) -> None:
    """Not the lease, not a note."""
    world = marked.copy()
    before = {key: world.store.get(key) for key in list(world.store.keys())}
    made = preview(open_repository(world.store, PASSWORD), rules=Rules())

    assert {stone.pack for stone in made.delete} == world.stones()
    assert {key: world.store.get(key) for key in list(world.store.keys())} == before


# The plan alone.

PACKS = [f"{number:064x}" for number in range(8)]
AGES = st.timedeltas(min_value=timedelta(days=-2), max_value=timedelta(days=30))


@given(
    there=st.dictionaries(st.sampled_from(PACKS), AGES),
    stones=st.dictionaries(st.sampled_from(PACKS), AGES),
    wanted=st.sets(st.sampled_from(PACKS)),
    named=st.sets(st.sampled_from(PACKS)),
)
def test_a_plan_takes_only_what_is_unneeded_marked_and_old(
    there: dict[str, timedelta], stones: dict[str, timedelta], wanted: set[str], named: set[str]
) -> None:
    """Whatever stands there: what is needed is neither deleted nor marked, and every pack has one fate."""
    packs = {pack: ObjectInfo(key=Layout.pack(pack), size=1, etag=ETag(pack), modified=NOON - age) for pack, age in there.items()}
    seen = Seen(
        stones={pack: Tombstone(pack=pack, etag=ETag(pack), since=NOON - age) for pack, age in stones.items()},
        snapshots={},
        withdrawn=(),
        packs=packs,
        indexes={},
    )
    needed = Needed(index=Index(), packs=frozenset(wanted & packs.keys()), named={"index/x": tuple(sorted(named))}, live={})
    made = plan(seen, needed, now=NOON, rules=Rules())
    deleted, kept = {stone.pack for stone in made.delete}, {stone.pack for stone in made.rescue}

    assert not (deleted | set(made.mark)) & needed.packs
    assert all(stones[pack] > GRACE and pack in packs for pack in deleted)
    assert all(there[pack] > SHORTEST_GRACE and pack not in stones for pack in made.mark)
    assert kept == needed.packs & stones.keys()
    assert set(made.dangling) == named - packs.keys()
    assert len(deleted) + len(made.mark) + made.waiting + made.young + len(needed.packs) == len(packs)


def test_two_index_objects_that_name_a_pack_twice_are_one_afterwards(marked: World) -> None:
    """What a crash between the new and the old left is cleaned on the way, where both must be replaced."""
    world = marked.copy()
    repository = open_repository(world.store, PASSWORD)
    packs: dict[str, tuple[IndexedBlob, ...]] = {}
    for info in world.store.list(Layout.INDEX):
        packs |= IndexDoc.decode(repository.load_document(info.key), where="").packs
    for _ in range(2):
        repository.save_document(Layout.INDEX, IndexDoc(packs).encode())
    world.prune()

    assert open_repository(world.store, PASSWORD).index.packs() == world.packs()
    assert world.damages() == []
    assert tombstones.marked(world.store) == frozenset()


# Repacking.


def a_world_of_half_empty_packs() -> World:
    """One pack with ten blobs, of which the point that is left needs two."""
    world = World()
    files = {str(number): bytes([number]) * 900 for number in range(10)}
    repository = open_repository(world.store, PASSWORD)
    with Writer(repository, workers=1) as writer:
        for data in files.values():
            writer.save_bytes(data)
    old = world.write(files)
    world.write({name: files[name] for name in ("1", "2")})
    world.days(10)
    world.forget(old)
    return world


def _repack(world: World, store: ObjectStore | None = None) -> Repacked:
    store = store or world.store
    fence = world.begin(store)
    try:
        return repack(open_repository(store, PASSWORD), who="p", alive=fence.check, progress=lambda message, **_: None)
    finally:
        world.end(fence)


def test_what_is_needed_of_a_pack_that_is_mostly_waste_is_written_anew() -> None:
    """Nothing is changed in place; the old pack goes after the grace period, as any other does."""
    world = a_world_of_half_empty_packs()
    before, packs = world.content(), world.packs()
    done = _repack(world)
    between = world.content()
    twice = _repack(world)
    for _ in range(2):
        world.days(9)
        world.prune()

    assert (done.packs, done.blobs, twice.packs) == (1, 2, 0)
    assert between == world.content() == before
    assert world.damages() == []
    assert len(world.packs() & packs) < len(packs)
    assert open_repository(world.store, PASSWORD).index.packs() == world.packs()


def test_a_repack_that_is_cut_off_loses_nothing() -> None:
    """At every call of its own thread, before and after; then prunes take what is left."""
    base = a_world_of_half_empty_packs()
    content = base.content()
    counting = FaultyStore(base.copy().store)
    whole = base.copy()
    counting._store = whole.store
    _repack(whole, counting)
    for number in range(1, len(counting.calls) + 1):
        for fault in (Fault.CRASH_BEFORE, Fault.LOST_AFTER):
            world = base.copy()
            with suppress(BecalmError, Crash):
                _repack(world, FaultyStore(world.store, {number: fault}))
            now = world.content()
            for _ in range(3):
                world.days(9)
                world.prune()

            assert now == world.content() == content
            assert world.damages() == []
            assert world.stones() == frozenset()


def test_a_repack_that_sleeps_at_any_call_takes_nothing_that_was_written_since() -> None:
    """Others use the same blobs and prune for weeks meanwhile."""
    base = a_world_of_half_empty_packs()
    counting = Meanwhile(base.copy().store, 0, list)
    whole = base.copy()
    counting._store = whole.store
    repack(open_repository(counting, PASSWORD), who="p", alive=lambda: None, progress=lambda message, **_: None)
    fresh = {"5": bytes([5]) * 900, "1": bytes([1]) * 900}
    for number in range(1, counting.calls + 1):
        world = base.copy()
        points: list[str] = []

        def others(world: World = world, points: list[str] = points) -> None:
            world.days(1)
            points.append(world.retry(fresh))
            _prune_out(world)

        with suppress(BecalmError):
            repack(
                open_repository(Meanwhile(world.store, number, others), PASSWORD),
                who="sleeper",
                alive=lambda: None,
                progress=lambda message, **_: None,
            )
        _prune_out(world)

        assert [world.content()[point] for point in points] == [fresh]
        assert world.damages() == []
