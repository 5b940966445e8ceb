"""A small repository whose points come and go, for the tests of publishing and pruning: no threads of its own, a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from becalm.errors import Damaged
from becalm.repository import intents, lease, tombstones
from becalm.repository.check import check, check_tree
from becalm.repository.format import Layout, SnapshotDoc
from becalm.repository.lease import Fence
from becalm.repository.prune import Pruning, Rules, prune
from becalm.repository.publish import mark_missing, publish
from becalm.repository.reader import Repository, init_repository, open_repository
from becalm.repository.snapshots import list_snapshots
from becalm.repository.tree import TreeBuilder, walk
from becalm.repository.writer import Writer
from becalm.storage.base import ObjectInfo, ObjectStore
from becalm.storage.wrappers import Wrapper
from becalm.testing.fake_clock import NOON, FakeClock
from becalm.testing.memory_store import MemoryStore
from becalm.testing.saved_points import CHEAP, PASSWORD

DAY = 86400.0
LEASE = 900.0


class World:
    """A store, its clock, and what becomes of it."""

    def __init__(self, **options: Any) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(clock=self.clock, **options)
        init_repository(self.store, PASSWORD, kdf=CHEAP)
        self._runs = 0

    def copy(self) -> World:
        """Return another world that is as this one is now."""
        made = object.__new__(World)
        made.clock = FakeClock(self.clock.now())
        made.store = self.store.copy(made.clock)
        made._runs = self._runs
        return made

    def days(self, number: float) -> None:
        """Let days pass."""
        self.clock.advance(number * DAY)

    def begin(self, store: ObjectStore | None = None) -> Fence:
        """Take the lease for a new run; whoever had it has let go, or has lost it."""
        self._runs += 1
        store = store or self.store
        run = f"run{self._runs}"
        held = lease.take(store, policy="shop", run=run, seconds=LEASE, clock=self.clock)
        return Fence(store, run=run, epoch=held.epoch, clock=self.clock)

    def end(self, fence: Fence) -> None:
        """Let go of the lease."""
        lease.release(self.store, run=fence._run, epoch=fence._epoch, clock=self.clock)

    def write(self, files: dict[str, bytes], store: ObjectStore | None = None) -> str:
        """Make one point as a run does, from the lease to the snapshot; return its id."""
        store = store or self.store
        fence = self.begin(store)
        made = save(store, files, fence)
        self.end(fence)
        return made

    def retry(self, files: dict[str, bytes]) -> str:
        """Make a point; where an index object names what is gone, the first run finds that out, and the second goes well."""
        try:
            return self.write(files)
        except Damaged:
            self.days(1)
            return self.write(files)

    def prune(self, store: ObjectStore | None = None, **rest: Any) -> Pruning:
        """Prune as a run does; the reserve is left out."""
        store = store or self.store
        fence = self.begin(store)
        try:
            done = prune(open_repository(store, PASSWORD), who=fence._run, alive=fence.check, **{"rules": Rules(yes_really=True), **rest})
        finally:
            self.end(fence)
        return done

    def forget(self, snapshot_id: str) -> None:
        """Forget a point."""
        self.store.delete(Layout.snapshot(snapshot_id))

    def packs(self) -> set[str]:
        """Return the packs that are there."""
        return {info.key.rpartition("/")[2] for info in self.store.list(Layout.DATA)}

    def stones(self) -> frozenset[str]:
        """Return the packs that are marked."""
        return tombstones.marked(self.store)

    def content(self) -> dict[str, dict[str, bytes]]:
        """Read every file of every point that counts. Raises: Damaged."""
        return contents(self.store)

    def damages(self) -> list[str]:
        """Return what a whole check of the points that count finds."""
        repository = open_repository(self.store, PASSWORD)
        gone = intents.withdrawn(self.store)
        ids = [one for one, _ in list_snapshots(repository) if one not in gone]
        return list(map(str, check(repository, snapshots=ids, read_data=True)))


def save(store: ObjectStore, files: dict[str, bytes], fence: Fence) -> str:
    """Write a tree and publish it, as `commit` does: marked packs are not relied on."""
    intents.settle(store, alive=fence.check)
    repository = open_repository(store, PASSWORD).avoiding(tombstones.marked(store))
    tree = write_tree(repository, files)
    checked = check_tree(repository, tree)
    needs = [key.rpartition("/")[2] for key in checked.keys if key.startswith(Layout.DATA)]
    if checked.damages:
        mark_missing(repository, needs)
        raise Damaged(str(checked.damages[0]))
    doc = SnapshotDoc(time=store.now(), tree=tree, hostname="test", tags=("policy=shop", f"run={fence._run}", "verdict=complete"))
    return publish(repository, doc, run=fence._run, epoch=fence._epoch, fence=fence, needs=needs)


def write_tree(repository: Repository, files: dict[str, bytes]) -> str:
    """Write files, each in a pack of its own; return their tree."""
    builder = TreeBuilder(mtime=NOON)
    for path, data in files.items():
        with Writer(repository, workers=1) as writer:
            writer.save_bytes(data)
        builder.add_bytes(path, data)
    with Writer(repository, workers=1) as writer:
        tree = builder.write(writer)
        writer.flush()
    return tree


def contents(store: ObjectStore) -> dict[str, dict[str, bytes]]:
    """Read every file of every point that counts. Raises: Damaged."""
    repository = open_repository(store, PASSWORD)
    gone = intents.withdrawn(store)
    return {
        one: {path: b"".join(bytes(part) for part in repository.read_file(node)) for path, node in walk(repository, doc.tree)}
        for one, doc in list_snapshots(repository)
        if one not in gone
    }


class Meanwhile(Wrapper):
    """A store that lets others act right before its k-th call: whoever uses it sleeps there."""

    def __init__(self, store: ObjectStore, at: int, then: Callable[[], object]) -> None:
        super().__init__(store)
        self._at = at
        self._then = then
        self.calls = 0

    def _step(self) -> None:
        self.calls += 1
        if self.calls == self._at:
            self._then()

    def get(self, key: str, span: Any = None) -> bytes:
        """Sleep, or read."""
        self._step()
        return super().get(key, span)

    def put(self, key: str, body: Any, **rest: Any) -> Any:
        """Sleep, or write."""
        self._step()
        return super().put(key, body, **rest)

    def head(self, key: str) -> ObjectInfo:
        """Sleep, or look."""
        self._step()
        return super().head(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Sleep, or list."""
        self._step()
        return super().list(prefix)

    def delete(self, key: str, **rest: Any) -> None:
        """Sleep, or delete."""
        self._step()
        super().delete(key, **rest)


class Listing(Wrapper):
    """A store whose k-th list is made wrong."""

    def __init__(
        self, store: ObjectStore, at: int, wrong: Callable[[list[ObjectInfo]], Iterable[ObjectInfo]], *, lasting: bool = False
    ) -> None:
        super().__init__(store)
        self._at = at
        self._wrong = wrong
        self._lasting = lasting
        self._prefix = ""
        self.lists: list[str] = []
        self.deleted: list[str] = []

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List, wrongly where it is time for that."""
        self.lists.append(prefix)
        if len(self.lists) == self._at:
            self._prefix = prefix
        found = list(super().list(prefix))
        hit = len(self.lists) == self._at or (self._lasting and prefix == self._prefix)
        yield from self._wrong(found) if hit else found

    def delete(self, key: str, **rest: Any) -> None:
        """Delete, and remember it."""
        self.deleted.append(key)
        super().delete(key, **rest)
