"""Who meets whom in the proof of interleavings: writers, pruners, and time that jumps, over one small repository.

The writers are the engine's own steps without a cluster around them. Whoever finds the lease held waits it out, so that its
holder has slept through it: every order of calls is then also the story of a sleeper.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.catalog.points import tags_of
from becalm.errors import BecalmError, Damaged, LeaseHeld
from becalm.model import RecoveryPoint
from becalm.repository import intents, lease
from becalm.repository.check import check_tree
from becalm.repository.format import Layout, SnapshotDoc
from becalm.repository.lease import Fence
from becalm.repository.prune import Rules, prune
from becalm.repository.publish import mark_missing, publish
from becalm.repository.reader import open_repository
from becalm.repository.snapshots import save_snapshot
from becalm.repository.tombstones import marked
from becalm.repository.tree import TreeBuilder
from becalm.repository.writer import Writer
from becalm.testing.fake_clock import NOON
from becalm.testing.interleaver import Cast
from becalm.testing.saved_points import PASSWORD
from becalm.testing.worlds import NAMESPACE, POLICY, Broken, World, content, key_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from becalm.repository.lease import Lease
    from becalm.repository.reader import Repository
    from becalm.storage.base import ObjectStore
    from becalm.testing.worlds import Volumes

LEASE_SECONDS = 900.0
MARGIN_SECONDS = 60.0
DAY_SECONDS = 86_400.0
PATIENCE = 6
HEALING_RUNS = 2
RULES = Rules(most_share=1.0)

STAYS: Volumes = {"data": {"stays": b"what stays"}}
GOES: Volumes = {"data": {"goes": b"what goes"}, "same": {"folder/file": b"what comes back"}}
"""No pack of it holds anything of another point."""
AGAIN: Volumes = {"data": {"goes": b"what goes", "new": b"what is new"}, "same": GOES["same"]}
"""Needs what lies in packs that nothing refers to any more."""
BESIDE: Volumes = {"data": {"goes": b"what goes", "other": b"what another writes"}}


def take(store: ObjectStore, world: World, run: str) -> Lease:
    """Take the lease; whoever holds it sleeps until it has ended. Raises: LeaseHeld where that happens too often."""
    for _ in range(PATIENCE):
        try:
            return lease.take(store, policy=POLICY, run=run, seconds=LEASE_SECONDS, clock=world.clock)
        except LeaseHeld as error:
            world.clock.advance((error.delay_seconds or LEASE_SECONDS) + 1)
    raise LeaseHeld("somebody always was quicker", where=store.url)


def save(world: World, store: ObjectStore, run_id: str, volumes: Volumes) -> None:
    """Make a recovery point by the engine's own steps. What it holds is noted in the world."""
    run = key_of(run_id)
    held = take(store, world, run)
    fence = Fence(store, run, held.epoch, world.clock)
    intents.settle(store, alive=fence.check)
    repository = open_repository(store, PASSWORD).avoiding(marked(store))
    tree = _written(repository, volumes)
    lease.renew(store, run=run, epoch=held.epoch, seconds=LEASE_SECONDS, clock=world.clock)
    checked = check_tree(repository, tree)
    needs = frozenset(key.rpartition("/")[2] for key in checked.keys if key.startswith(Layout.DATA))
    if checked.damages:
        mark_missing(repository, sorted(needs))
        raise Damaged(str(checked.damages[0]))
    publish(
        repository,
        _snapshot(world, tree, run),
        run=run,
        epoch=held.epoch,
        fence=fence,
        needs=needs,
        margin_seconds=MARGIN_SECONDS,
    )
    lease.release(store, run=run, epoch=held.epoch, clock=world.clock)


def _written(repository: Repository, volumes: Volumes) -> str:
    """Write the volumes' files, and return their tree."""
    with Writer(repository, workers=1) as writer:
        builder = TreeBuilder(mtime=NOON)
        for claim, files in volumes.items():
            for path, data in files.items():
                builder.add_bytes(f"volumes/{NAMESPACE}/{claim}/{path}", data)
        tree = builder.write(writer)
        writer.flush()
    return tree


def _snapshot(world: World, tree: str, run: str) -> SnapshotDoc:
    point = RecoveryPoint(id="", policy=POLICY, cut=world.clock.now(), tree=tree, run=run)
    return SnapshotDoc(time=point.cut, tree=tree, tags=tags_of(point))


def writer(run_id: str, volumes: Volumes) -> Callable[[World, ObjectStore], None]:
    """Return an actor that makes a recovery point; once it has heard that all went well, the point must be there."""

    def act(world: World, store: ObjectStore) -> None:
        save(world, store, run_id, volumes)
        world.keep |= {key_of(run_id)}

    return act


def careless_writer(world: World, store: ObjectStore) -> None:
    """Make a point with a look at its lease, but without an intent, and without a look at tombstones: what must be found out."""
    run = key_of("again")
    held = take(store, world, run)
    repository = open_repository(store, PASSWORD)
    tree = _written(repository, AGAIN)
    if not check_tree(repository, tree).damages:
        Fence(store, run, held.epoch, world.clock).check()
        save_snapshot(repository, _snapshot(world, tree, run))
    lease.release(store, run=run, epoch=held.epoch, clock=world.clock)


def careless_pruner(world: World, store: ObjectStore) -> None:
    """Delete at once what nothing refers to, under the lease, without a tombstone or a look at intents: what must be found out."""
    run = key_of("careless")
    take(store, world, run)
    repository = open_repository(store, PASSWORD)
    needed: set[str] = set()
    for info in store.list(Layout.SNAPSHOTS):
        tree = SnapshotDoc.decode(repository.load_document(info.key), where=info.key).tree
        needed.update(check_tree(repository, tree).keys)
    for info in list(store.list(Layout.DATA)):
        if info.key not in needed:
            store.delete(info.key)


def an_old_repository(world: World) -> None:
    """A point that stays, and the packs of one that was forgotten a month ago."""
    world.init()
    for run_id, volumes in (("goes", GOES), ("stays", STAYS)):
        world.expect(run_id, volumes)
        save(world, world.store, run_id, volumes)
        world.clock.advance(1)
    world.keep = frozenset({key_of("stays")})
    gone = next(point.id for point in world.visible() if point.run == key_of("goes"))
    world.store.delete(Layout.snapshot(gone))
    for run_id, volumes in (("again", AGAIN), ("beside", BESIDE)):
        world.expect(run_id, volumes)
    world.clock.advance(30 * DAY_SECONDS)


def nothing_dangles(world: World) -> None:
    """Demand that every visible point reads as it was written, and that what must stay is there. Raises: Broken."""
    found = world.visible()
    missing = world.keep - {point.run for point in found}
    if missing:
        raise Broken(f"the points of the runs {sorted(missing)} are gone")
    repository = open_repository(world.store, PASSWORD)
    for point in found:
        if content(repository, point.tree) != world.contents[point.run]:
            raise Broken(f"the point of run {point.run} does not hold what was written")


def a_marked_repository(world: World) -> None:
    """The same, and prune has marked those packs longer ago than the grace period."""
    an_old_repository(world)
    prune(open_repository(world.store, PASSWORD), who="before", alive=_believes, rules=RULES)
    world.clock.advance(30 * DAY_SECONDS)


def _believes() -> None:
    """Never ask whether the lease still holds."""


def pruner(run_id: str, *, times: int = 1, asks: bool = True) -> Callable[[World, ObjectStore], None]:
    """Return an actor that marks and deletes, `times` over with ten days between; one that does not ask never notices its lease's end."""

    def act(world: World, store: ObjectStore) -> None:
        for number in range(times):
            run = key_of(f"{run_id} {number}")
            held = take(store, world, run)
            alive = Fence(store, run, held.epoch, world.clock).check if asks else _believes
            prune(open_repository(store, PASSWORD), who=run, alive=alive, rules=RULES)
            lease.release(store, run=run, epoch=held.epoch, clock=world.clock)
            if number + 1 < times:
                world.clock.advance(10 * DAY_SECONDS)

    return act


def and_the_next_run_is_good(world: World) -> None:
    """Demand the same, and that new runs come to a good point without help. Raises: Broken.

    Where a prune that never asked has left an index that names packs which are gone, the first run marks all of them and fails.
    """
    nothing_dangles(world)
    world.clock.advance(2 * LEASE_SECONDS)
    for attempt in range(HEALING_RUNS):
        run_id = f"next {attempt}"
        world.expect(run_id, AGAIN)
        try:
            save(world, world.store, run_id, AGAIN)
        except BecalmError as error:
            if attempt + 1 == HEALING_RUNS:
                raise Broken(f"the next run fails: {error}") from error
        else:
            break
    nothing_dangles(world)
    if not any(point.run == key_of(run_id) for point in world.visible()):
        raise Broken("the next run left no point")


CARELESS = (
    Cast(
        name="a writer and a careless pruner",
        prepare=an_old_repository,
        actors=(writer("again", AGAIN), careless_pruner),
        judge=nothing_dangles,
    ),
    Cast(
        name="a careless writer and a prune that marks and deletes",
        prepare=an_old_repository,
        actors=(careless_writer, pruner("p", times=2)),
        judge=nothing_dangles,
    ),
)
"""Actors that do harm: the interleaver has to find out how."""

_WRITER, _OTHER = writer("again", AGAIN), writer("beside", BESIDE)

CASTS = (
    Cast(name="two writers", prepare=an_old_repository, actors=(_WRITER, _OTHER), judge=nothing_dangles),
    Cast(name="a writer and a prune that deletes", prepare=a_marked_repository, actors=(_WRITER, pruner("p")), judge=nothing_dangles),
    Cast(
        name="a writer and a prune that marks and deletes",
        prepare=an_old_repository,
        actors=(_WRITER, pruner("p", times=2)),
        judge=and_the_next_run_is_good,
    ),
    Cast(
        name="two writers and a prune that deletes",
        prepare=a_marked_repository,
        actors=(_WRITER, _OTHER, pruner("p")),
        judge=nothing_dangles,
    ),
    Cast(
        name="a writer and two prunes that never ask for their lease",
        prepare=a_marked_repository,
        actors=(_WRITER, pruner("p", asks=False), pruner("q", asks=False)),
        judge=nothing_dangles,
    ),
    Cast(
        name="two writers, a prune that marks and deletes, and one that never asks",
        prepare=an_old_repository,
        actors=(_WRITER, _OTHER, pruner("p", times=2), pruner("q", times=2, asks=False)),
        judge=and_the_next_run_is_good,
    ),
)
"""Every cast of the proof."""
