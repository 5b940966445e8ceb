"""A small world that a proof can begin anew, copy and cut short: a bucket, a clock, and what each run's recovery point must hold.

It runs the verbs themselves (begin, a mover's work, commit, prune, finish) on a store that may fail. It decides nothing about
what goes wrong; `judge` says whether what can be seen is whole.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from becalm.actions import commit, prune, run, verify
from becalm.actions.handover import Application, Cut, Discovered, Exported, Ports, Settings, Thawed, Trigger, VolumeCut, VolumePlan, silent
from becalm.actions.prune import Desk
from becalm.actions.verify import Wanted
from becalm.catalog.points import points
from becalm.errors import BecalmError, NoRepository, NotFound
from becalm.model import Consistency, MoverResult, RecoveryPoint, VolumeRef, VolumeUse, run_key
from becalm.repository.check import check, check_tree
from becalm.repository.format import Layout
from becalm.repository.prune import Rules
from becalm.repository.reader import Repository, init_repository, open_repository
from becalm.repository.tree import TreeBuilder, lookup, walk
from becalm.repository.writer import Writer
from becalm.testing.builders import a_policy
from becalm.testing.fake_clock import NOON, FakeClock
from becalm.testing.fake_cluster import FakeCluster
from becalm.testing.memory_store import URL, MemoryStore
from becalm.testing.objects import a_namespace
from becalm.testing.saved_points import CHEAP, PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from tempfile import TemporaryDirectory

    from becalm.actions.handover import Begun, Committed
    from becalm.policy.spec import ProtectionPolicy
    from becalm.repository.prune import Pruning
    from becalm.storage.base import ObjectStore

Files: TypeAlias = "Mapping[str, bytes]"
"""Paths of a volume's files, to what is in them."""
Volumes: TypeAlias = "Mapping[str, Files]"
"""Claims, to their files."""

NAMESPACE = "shop"
POLICY = "shop"


def key_of(run_id: str) -> str:
    """Return the key of a run into the world's one bucket."""
    return run_key(POLICY, run_id, repository=URL)


class Broken(AssertionError):  # noqa: N818  named after what happened, as errors.py does
    """What must hold does not: the proof has found a fault."""


@dataclass(slots=True)
class World:
    """One bucket, one clock, and what is expected of them."""

    clock: FakeClock = field(default_factory=FakeClock)
    store: MemoryStore = field(init=False)
    policy: ProtectionPolicy = field(default_factory=lambda: a_policy(name=POLICY))
    contents: dict[str, Volumes] = field(default_factory=dict)
    """What the recovery point of a run holds, by the run's key."""
    keep: frozenset[str] = frozenset()
    """Runs whose points must be there whatever happens."""
    sleepers: tuple[Callable[[World], None], ...] = ()
    """What goes on when somebody who slept wakes up, in whichever copy of the world it then is."""
    folder: TemporaryDirectory[str] | None = None
    """A volume's files, where a scenario reads real ones; every copy has the same."""

    def __post_init__(self) -> None:
        """Begin with an empty bucket."""
        self.store = MemoryStore(clock=self.clock)

    def fork(self) -> World:
        """Return the same world once more; what happens in one of the two does not happen in the other."""
        clock = FakeClock(self.clock.now())
        twin = World(
            clock=clock, policy=self.policy, contents=dict(self.contents), keep=self.keep, sleepers=self.sleepers, folder=self.folder
        )
        twin.store = self.store.copy(clock)
        return twin

    def ports(self, store: ObjectStore | None = None, clock: FakeClock | None = None) -> Ports:
        """Return the ports of a process that has just begun."""
        cluster = FakeCluster()
        cluster.put(a_namespace(NAMESPACE), a_namespace("becalm"))
        return Ports(
            cluster=cluster,
            store=store or self.store,
            password=PASSWORD,
            clock=clock or self.clock,
            settings=Settings(cluster_name="test"),
        )

    def init(self, store: ObjectStore | None = None, *, version: int = 2) -> None:
        """Make the repository; one that is there is fine."""
        store = store or self.store
        try:
            open_repository(store, PASSWORD)
        except NoRepository:
            init_repository(store, PASSWORD, version=version, kdf=CHEAP)

    def expect(self, run_id: str, volumes: Volumes) -> str:
        """Note what the point of a run holds. Return the run's key."""
        key = key_of(run_id)
        self.contents[key] = volumes
        return key

    def protect(self, run_id: str, volumes: Volumes, store: ObjectStore | None = None) -> None:
        """Make a recovery point, as the command line does it: when something fails, `finish` is tried all the same."""
        self.expect(run_id, volumes)
        ports = self.ports(store)
        begun = begin(self.policy, run_id, ports)
        try:
            committed = write(begun, volumes, self.policy, ports)
        except BecalmError:
            with suppress(BecalmError):
                run.finish(begun, committed=None, policy=self.policy, ports=ports)
            raise
        run.demand(run.finish(begun, committed=committed, policy=self.policy, ports=ports))

    def kept(self, run_id: str, volumes: Volumes) -> None:
        """Make a point that must stay for ever."""
        self.protect(run_id, volumes)
        self.keep |= {key_of(run_id)}

    def reclaim(self, store: ObjectStore | None = None, *, repack_below: float | None = None) -> Pruning:
        """Forget and reclaim as `becalm prune` does, whatever share of the bytes goes."""
        desk = Desk(policy=POLICY, store=store or self.store, password=PASSWORD, clock=self.clock, progress=silent)
        return prune.by_hand(desk, self.policy, rules=Rules(most_share=1.0), repack_below=repack_below)[1]

    def close(self) -> None:
        """Remove the folder, where there is one: the world and its copies have ended."""
        if self.folder is not None:
            self.folder.cleanup()

    def wake(self) -> None:
        """Let whoever sleeps wake up and go on."""
        for sleeper in self.sleepers:
            sleeper(self)

    def visible(self) -> list[RecoveryPoint]:
        """Return the points that the catalog shows; none where there is no repository."""
        try:
            return points(open_repository(self.store, PASSWORD), POLICY)
        except NoRepository:
            return []


def begin(policy: ProtectionPolicy, run_id: str, ports: Ports) -> Begun:
    """Begin a run that somebody has asked for."""
    return run.begin(policy, run_id=run_id, trigger=Trigger.MANUAL, run_after=NOON, ports=ports)


def write(begun: Begun, volumes: Volumes, policy: ProtectionPolicy, ports: Ports) -> Committed:
    """Do what movers do, one after the other, and commit it."""
    return commit_results(begun, [move(begun, claim, files, ports) for claim, files in volumes.items()], policy, ports)


def move(begun: Begun, claim: str, files: Files, ports: Ports) -> MoverResult:
    """Write one volume."""
    repository = open_repository(ports.store, ports.password)
    with Writer(repository) as writer:
        builder = TreeBuilder(mtime=NOON)
        for path, content in files.items():
            builder.add_bytes(path, content)
        tree = builder.write(writer)
        writer.flush()
    return MoverResult(name=f"m-{claim}", run=begun.run, volume=VolumeRef(namespace=NAMESPACE, claim=claim), tree=tree, files=len(files))


def commit_results(begun: Begun, results: list[MoverResult], policy: ProtectionPolicy, ports: Ports) -> Committed:
    """Commit what movers have written."""
    volumes = [result.volume for result in results]
    cut = Cut(
        application=NAMESPACE,
        began=ports.clock.now(),
        ended=ports.clock.now(),
        revision="7",
        volumes=tuple(VolumeCut(plan=VolumePlan(volume=volume, use=VolumeUse.SNAPSHOT), handle="h", created=NOON) for volume in volumes),
    )
    return commit.execute(
        begun,
        discovered=Discovered(applications=(Application(name=NAMESPACE, namespaces=(NAMESPACE,)),)),
        cuts=[cut],
        thaws=[Thawed(application=NAMESPACE, consistency=Consistency.CRASH)],
        exports=[Exported(volume=volume, use=VolumeUse.SNAPSHOT, namespace="becalm", claim=volume.claim) for volume in volumes],
        results=results,
        policy=policy,
        ports=ports,
    )


def content(repository: Repository, tree: str) -> Volumes:
    """Read every file of every volume of a point."""
    try:
        below = lookup(repository, tree, f"volumes/{NAMESPACE}")
    except NotFound:
        return {}
    found: dict[str, dict[str, bytes]] = {node.name: {} for node in repository.tree(below.subtree)}
    for path, node in walk(repository, below.subtree):
        claim, _, rest = path.partition("/")
        if node.type == "file":
            found[claim][rest] = b"".join(repository.read_file(node))
    return found


def judge(world: World, *, also: frozenset[str] = frozenset()) -> list[RecoveryPoint]:
    """Demand that whatever is visible is whole, and that what must be there is. Return the points. Raises: Broken.

    `also` names runs that must have a point besides those of the world.
    """
    needed = world.keep | also
    try:
        repository = open_repository(world.store, PASSWORD)
    except NoRepository:
        if needed:
            raise Broken("the repository is gone") from None
        return []
    found = points(repository, POLICY)
    missing = needed - {point.run for point in found}
    if missing:
        raise Broken(f"the points of the runs {sorted(missing)} are not there")
    damages = check(repository, snapshots=[point.id for point in found], read_data=True)
    if damages:
        raise Broken(f"{len(damages)} damages in what is visible, first: {damages[0]}")
    for point in found:
        if content(repository, point.tree) != world.contents.get(point.run):
            raise Broken(f"the point {point.id[:8]} of run {point.run} does not hold what was written")
        if world.policy.spec.target.lock:
            _demand_locks(repository, point)
    return found


def demand_verified(world: World) -> None:
    """Demand that `becalm verify`, which reads every byte, finds nothing. Raises: Broken."""
    try:
        done = verify.execute(world.store, PASSWORD, Wanted(read_data=True), who="the proof", clock=world.clock)
    except NoRepository:
        return
    if done.damages:
        raise Broken(f"verify finds {len(done.damages)} damages, first: {done.damages[0]}")


def _demand_locks(repository: Repository, point: RecoveryPoint) -> None:
    """Demand that whatever a point needs is locked at least as long as the point itself. Raises: Broken.

    A blob may lie in two packs; it is enough that one of them is locked.
    """
    store = repository.store
    until = store.head(Layout.snapshot(point.id)).retain_until
    short = [needed for needed in check_tree(repository, point.tree).keys if not _holds(store.head(needed).retain_until, until)]
    packs = {place.removeprefix(Layout.DATA)[3:] for place in short if place.startswith(Layout.DATA)}
    others = [place for place in short if not place.startswith(Layout.DATA)]
    if others or (packs and not _elsewhere(repository, packs, until)):
        raise Broken(f"{(others or short)[0]} is not locked until {until}, as the point {point.id[:8]} that needs it")


def _elsewhere(repository: Repository, packs: set[str], until: datetime | None) -> bool:
    """Say whether every blob of these packs lies in another one that is locked long enough."""
    homes: dict[tuple[str, str], set[str]] = {}
    for place in repository.index.entries():
        homes.setdefault((place.blob.kind, place.blob.id), set()).add(place.pack)
    rivals = [found - packs for found in homes.values() if found & packs]
    return all(any(_holds(repository.store.head(Layout.pack(pack)).retain_until, until) for pack in found) for found in rivals)


def _holds(locked: datetime | None, until: datetime | None) -> bool:
    return until is not None and locked is not None and locked >= until
