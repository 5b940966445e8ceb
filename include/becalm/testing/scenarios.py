"""What may be cut short: each scenario of the proof, from an empty bucket to a repository that is pruned beside a writer."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from becalm.actions import prune, repair, run
from becalm.catalog.pins import pin
from becalm.errors import BecalmError, LeaseHeld, WrongPassword
from becalm.model import MoverResult, VolumeRef
from becalm.repository import keys, lease
from becalm.repository.backup import back_up_directory
from becalm.repository.format import Layout
from becalm.repository.node import encode_node
from becalm.repository.reader import open_repository
from becalm.repository.snapshots import load_snapshot
from becalm.repository.tree import lookup
from becalm.repository.writer import Writer
from becalm.testing.builders import a_policy
from becalm.testing.enumerator import GRACE_SECONDS, LONG_SECONDS, Scenario
from becalm.testing.saved_points import CHEAP, PASSWORD
from becalm.testing.worlds import NAMESPACE, POLICY, Broken, World, begin, commit_results, key_of, move

if TYPE_CHECKING:
    from becalm.actions.handover import Begun
    from becalm.storage.base import ObjectStore
    from becalm.testing.worlds import Volumes

DAY_SECONDS = 86_400.0
SMALL: Volumes = {"data": {"a/one": b"1" * 100, "a/two": Random(1).randbytes(3000), "three": b""}}
CHANGED: Volumes = {"data": {"a/one": b"1" * 100, "a/two": Random(2).randbytes(3000), "four": b"4" * 10}}
SEVERAL: Volumes = {
    "data": SMALL["data"],
    "more": {"x": Random(3).randbytes(500), "same": SMALL["data"]["a/two"]},
    "disk": {"deep/er/file": Random(4).randbytes(2000)},
}
TAKEN, OTHER = "the run", "another run"
SECOND, THIRD = "the second password", "the third password"


def key(run_id: str) -> frozenset[str]:
    """Return the run's key, as scenarios name what must be there."""
    return frozenset({key_of(run_id)})


def _only_init(world: World, store: ObjectStore) -> None:
    world.init(store)


def _nothing(world: World) -> None:
    world.clock.advance(1)


def _first(world: World, store: ObjectStore) -> None:
    world.init(store)
    world.protect(TAKEN, SMALL, store)


def _version_1(world: World) -> None:
    world.init(version=1)


def _one_point(world: World) -> None:
    world.init()
    world.kept(OTHER, SMALL)
    world.clock.advance(DAY_SECONDS)


def _incremental(world: World, store: ObjectStore) -> None:
    world.protect(TAKEN, CHANGED, store)


def _unchanged(world: World, store: ObjectStore) -> None:
    world.protect(TAKEN, SMALL, store)


def _several(world: World, store: ObjectStore) -> None:
    world.protect(TAKEN, SEVERAL, store)


def _half_uploaded(world: World) -> None:
    """A run died when two of its three volumes were there."""
    _one_point(world)
    ports = world.ports()
    begun = begin(world.policy, TAKEN, ports)
    for claim in ("data", "more"):
        move(begun, claim, SEVERAL[claim], ports)


def _locked(world: World) -> None:
    target = {"url": "s3://backups/test", "password": "env:BECALM_PASSWORD", "lock": {"mode": "compliance", "days": 14}}
    world.policy = a_policy(name=POLICY, target=target)
    _one_point(world)


def _keeping_one(world: World) -> None:
    """Three points, of which retention keeps the newest, and a pin too."""
    world.policy = a_policy(name=POLICY, retention={"last": 1})
    world.init()
    for number, volumes in enumerate((SMALL, CHANGED)):
        world.protect(f"old run {number}", volumes)
        world.clock.advance(DAY_SECONDS)
    world.kept(OTHER, SEVERAL)
    pinned = next(point.id for point in world.visible() if {point.run} == key(OTHER))
    pin(world.store, pinned, now=world.clock.now(), note="it stays")
    world.clock.advance(DAY_SECONDS)


def _forget(world: World, store: ObjectStore) -> None:
    """Carry out retention in a run of its own."""
    ports = world.ports(store)
    begun = begin(world.policy, TAKEN, ports)
    prune.execute(begun, world.policy, ports)
    run.finish(begun, committed=None, policy=world.policy, ports=ports)


def _asleep(world: World) -> None:
    """A run has captured and sent everything, and falls asleep; its lease ends."""
    _one_point(world)
    world.expect("the sleeper", CHANGED)
    ports = world.ports()
    begun = begin(world.policy, "the sleeper", ports)
    results = [move(begun, claim, files, ports) for claim, files in CHANGED.items()]
    world.clock.advance(LONG_SECONDS)
    world.sleepers += (lambda later: _commit_late(later, begun, results),)


def _commit_late(world: World, begun: Begun, results: list[MoverResult]) -> None:
    """Wake, and commit what there is. That it may not is fine."""
    with suppress(BecalmError):
        commit_results(begun, results, world.policy, world.ports())


def _folder(world: World) -> None:
    """A folder of files, as a mover meets it."""
    world.init()
    world.folder = TemporaryDirectory(prefix="becalm-proof-")
    for path, content in SMALL["data"].items():
        file = Path(world.folder.name, path)
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)


def _folder_saved(world: World) -> None:
    """A folder that was backed up, and of which one file has changed since."""
    _folder(world)
    _back_up_folder(world, world.store, OTHER, SMALL)
    world.keep |= key(OTHER)
    world.clock.advance(DAY_SECONDS)
    assert world.folder is not None
    for path, content in CHANGED["data"].items():
        if SMALL["data"].get(path) != content:
            Path(world.folder.name, path).write_bytes(content)
    Path(world.folder.name, "three").unlink()


def _back_up_folder(world: World, store: ObjectStore, run_id: str, volumes: Volumes) -> None:
    """Back up the world's folder by the mover's own engine, against the newest point, and commit it."""
    assert world.folder is not None
    world.expect(run_id, volumes)
    ports = world.ports(store)
    begun = begin(world.policy, run_id, ports)
    repository = open_repository(store, PASSWORD)
    parent = ""
    if begun.parent:
        parent = lookup(repository, load_snapshot(repository, begun.parent)[1].tree, f"volumes/{NAMESPACE}/data").subtree
    with Writer(repository) as writer:
        written = back_up_directory(repository, writer, world.folder.name, parent_tree=parent)
    result = MoverResult(
        name="m-data",
        run=begun.run,
        volume=VolumeRef(namespace=NAMESPACE, claim="data"),
        tree=written.tree,
        root=encode_node(written.root).decode(),
        files=written.files,
    )
    committed = commit_results(begun, [result], world.policy, ports)
    run.demand(run.finish(begun, committed=committed, policy=world.policy, ports=ports))


def _folder_first(world: World, store: ObjectStore) -> None:
    _back_up_folder(world, store, TAKEN, SMALL)


def _folder_again(world: World, store: ObjectStore) -> None:
    _back_up_folder(world, store, TAKEN, CHANGED)


def _finish_late(world: World, store: ObjectStore) -> None:
    """Let go of a lease twice over, as a task that is run again does."""
    ports = world.ports(store)
    begun = begin(world.policy, TAKEN, ports)
    run.renew(begun, ports)
    for _ in range(2):
        run.finish(begun, committed=None, policy=world.policy, ports=ports)


def _forgotten(world: World) -> None:
    """Two of three points are forgotten, and their packs are old."""
    _keeping_one(world)
    _forget(world, world.store)
    world.clock.advance(30 * DAY_SECONDS)


def _marked(world: World) -> None:
    """What nothing needs is marked, and the grace period is over."""
    _forgotten(world)
    world.reclaim()
    world.clock.advance(GRACE_SECONDS)


def _marked_and_full(world: World) -> None:
    """The same in a bucket that takes not one byte more."""
    _marked(world)
    world.store.capacity_bytes = sum(info.size for info in world.store.list(""))


def _marked_beside_a_sleeper(world: World) -> None:
    """What a sleeping run has sent is marked, and the grace period is over."""
    _asleep(world)
    world.clock.advance(30 * DAY_SECONDS)
    world.reclaim()
    world.clock.advance(GRACE_SECONDS)


def _reclaim(world: World, store: ObjectStore) -> None:
    """Prune; the lease of a prune that died is waited for, as the error says."""
    try:
        world.reclaim(store)
    except LeaseHeld as error:
        world.clock.advance((error.delay_seconds or 0) + 1)
        world.reclaim(store)


def _repack(world: World, store: ObjectStore) -> None:
    """Prune, and write the rest of half-empty packs anew; the lease of one that died is waited for."""
    try:
        world.reclaim(store, repack_below=0.99)
    except LeaseHeld as error:
        world.clock.advance((error.delay_seconds or 0) + 1)
        world.reclaim(store, repack_below=0.99)


def _without_index(world: World) -> None:
    """Every index object is lost."""
    _one_point(world)
    for info in list(world.store.list(Layout.INDEX)):
        world.store.lose(info.key)


def _repair(world: World, store: ObjectStore) -> None:
    """Plan a repair and carry it out, as `becalm repair` does; the lease of one that died is waited for."""
    held = lease.read(world.store)
    if held is not None and held.held(world.store.now()):
        world.clock.advance((held.expires - world.store.now()).total_seconds() + 1)
    planned = repair.plan(store, PASSWORD)
    repair.execute(store, PASSWORD, planned, policy=POLICY, who="the proof", clock=world.clock)


def _add_key(world: World, store: ObjectStore) -> None:
    """Add a password; doing it again adds one more key for it."""
    keys.add(open_repository(store, PASSWORD), SECOND, kdf=CHEAP)
    open_repository(world.store, SECOND)


def _two_keys(world: World) -> None:
    _one_point(world)
    _add_key(world, world.store)


def _remove_key(world: World, store: ObjectStore) -> None:
    """Remove the second password's key. Once it is gone, nothing opens with it."""
    repository = open_repository(store, PASSWORD)
    with suppress(WrongPassword):
        keys.remove(repository, keys.opened_by(repository, SECOND), proven=keys.opened_by(repository, PASSWORD))
        _demand_shut(world, SECOND)


def _rotate_key(world: World, store: ObjectStore) -> None:
    """Put a third password in the place of the second. That the second no longer opens says that it was done."""
    repository = open_repository(store, PASSWORD)
    try:
        keys.rotate(repository, old=SECOND, new=THIRD, kdf=CHEAP)
    except WrongPassword:
        keys.opened_by(repository, THIRD)
    _demand_shut(world, SECOND)
    open_repository(world.store, THIRD)


def _demand_shut(world: World, password: str) -> None:
    with suppress(WrongPassword):
        open_repository(world.store, password)
        raise Broken("a password that was removed still opens the repository")


SCENARIOS = (
    Scenario(name="make a repository", prepare=_nothing, act=_only_init),
    Scenario(name="first backup", prepare=_nothing, act=_first, then=key(TAKEN)),
    Scenario(name="first backup, format 1", prepare=_version_1, act=_first, then=key(TAKEN)),
    Scenario(name="first backup of a folder", prepare=_folder, act=_folder_first, then=key(TAKEN)),
    Scenario(name="incremental backup of a folder", prepare=_folder_saved, act=_folder_again, then=key(TAKEN)),
    Scenario(name="incremental backup", prepare=_one_point, act=_incremental, then=key(TAKEN)),
    Scenario(name="nothing changed", prepare=_one_point, act=_unchanged, then=key(TAKEN)),
    Scenario(name="several volumes", prepare=_one_point, act=_several, then=key(TAKEN)),
    Scenario(name="resumed after half an upload", prepare=_half_uploaded, act=_several, then=key(TAKEN)),
    Scenario(name="beside a writer that slept", prepare=_asleep, act=_incremental, then=key(TAKEN)),
    Scenario(name="locks made longer", prepare=_locked, act=_unchanged, then=key(TAKEN)),
    Scenario(name="forget", prepare=_keeping_one, act=_forget),
    Scenario(name="prune that marks", prepare=_forgotten, act=_reclaim),
    Scenario(name="prune that deletes", prepare=_marked, act=_reclaim),
    Scenario(name="prune in a full bucket", prepare=_marked_and_full, act=_reclaim),
    Scenario(name="prune beside a writer that slept", prepare=_marked_beside_a_sleeper, act=_reclaim),
    Scenario(name="prune that repacks", prepare=_forgotten, act=_repack),
    Scenario(name="repair of a lost index", prepare=_without_index, act=_repair, ways=("the retry", "the retry much later")),
    Scenario(name="backup after a prune has marked", prepare=_marked, act=_several, then=key(TAKEN)),
    Scenario(name="add a password", prepare=_one_point, act=_add_key),
    Scenario(name="remove a password", prepare=_two_keys, act=_remove_key),
    Scenario(name="rotate a password", prepare=_two_keys, act=_rotate_key),
    Scenario(name="take, renew and let go of the lease", prepare=_one_point, act=_finish_late),
)
"""Every scenario of the proof."""
