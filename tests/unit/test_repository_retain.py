"""Object lock: no object of a point is unlocked before the point is, whatever was captured, extended or interrupted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.run_scenes import Scene

from becalm.actions import extend
from becalm.errors import BecalmError, Damaged
from becalm.model import Decision, RecoveryPoint
from becalm.repository import retain
from becalm.repository.check import check_tree
from becalm.repository.crypto import Kdf, add_key
from becalm.repository.format import Layout, SnapshotDoc
from becalm.repository.reader import Repository, init_repository
from becalm.repository.snapshots import save_snapshot
from becalm.repository.tree import TreeBuilder
from becalm.repository.writer import Writer
from becalm.storage.wrappers import Counting
from becalm.testing.builders import a_policy
from becalm.testing.fake_clock import NOON, FakeClock
from becalm.testing.faulty_store import Crash, Fault, FaultyStore
from becalm.testing.memory_store import MemoryStore

DAYS = 14
KEY = Kdf(n=16)


@dataclass
class History:
    """A repository with object lock through the weeks: points are made and prolonged, by processes that may die."""

    days: int = DAYS
    clock: FakeClock = field(default_factory=FakeClock)
    points: dict[str, RecoveryPoint] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = MemoryStore(clock=self.clock)
        self.counting = Counting(self.store)
        self.repository: Repository = init_repository(self.store, "p", kdf=KEY)
        self.calls = 0

    def through(self, crash_at: int | None = None, fault: Fault = Fault.CRASH_BEFORE) -> Repository:
        """Open it through a store that may kill its caller at one of its locks."""
        faulty = _KillsAtRetain(self.counting, crash_at, fault)
        return Repository(store=faulty, id=self.repository.id, version=2, key=self.repository.key)

    def capture(self, files: dict[str, bytes], *, crash_at: int | None = None) -> str | None:
        """Make a point as a run does: write, lock, publish."""
        repository = self.through(crash_at)
        term = retain.Term.of(self.store.now(), self.days)
        with Writer(repository, retain_until=term.at_writing) as writer:
            builder = TreeBuilder(mtime=NOON)
            for name, content in files.items():
                builder.add_bytes(name, content)
            tree = builder.write(writer)
        repository.refresh()
        parent = max(self.points.values(), key=lambda point: point.cut, default=None)
        try:
            proof = retain.proof(repository, parent.id, parent.tree) if parent else None
            until = retain.secure(repository, tree, check_tree(repository, tree).keys, days=self.days, proof=proof)
            assert until >= self.store.now() + timedelta(days=self.days)
            snapshot = save_snapshot(repository, SnapshotDoc(time=self.clock.now(), tree=tree), retain_until=until)
        except Crash:
            return None
        self.points[snapshot] = RecoveryPoint(
            id=snapshot, policy="shop", cut=self.clock.now(), tree=tree, cluster="c", run=snapshot[:8], complete=True
        )
        return snapshot

    def seen(self) -> list[RecoveryPoint]:
        """Return the points with their locks, as the catalogue does."""
        return [replace(point, locked_until=self.lock_of(point.id)) for point in self.points.values()]

    def lock_of(self, snapshot: str) -> datetime | None:
        """Return until when a point is locked."""
        return self.store.head(Layout.snapshot(snapshot)).retain_until

    def prolong(self, keep: set[str], *, crash_at: int | None = None, fault: Fault = Fault.CRASH_BEFORE) -> None:
        """Prolong what is kept, as the prune of a run does."""
        decisions = [
            Decision(point=point, keep=True, reasons=("monthly 1",) if point.id in keep else ("locked until then",))
            for point in self.seen()
        ]
        decided = extend.plan(decisions, days=self.days, now=self.store.now())
        try:
            assert extend.execute(decided, self.through(crash_at, fault)) == ()
        except (Crash, BecalmError):
            assert crash_at is not None

    def broken_promises(self) -> list[str]:
        """Return what is unlocked before a point that needs it."""
        fresh = Repository(store=self.store, id=self.repository.id, version=2, key=self.repository.key)
        found = []
        for point in self.points.values():
            until = self.lock_of(point.id)
            assert until is not None
            for key in check_tree(fresh, point.tree).keys:
                locked = self.store.head(key).retain_until
                if until > self.store.now() and (locked is None or locked < until):
                    found.append(f"{key} until {locked}, point {point.id[:8]} until {until}")
        return found


class _KillsAtRetain(FaultyStore):
    """Counts only the calls that lock."""

    def __init__(self, store, crash_at: int | None, fault: Fault) -> None:
        super().__init__(store, {crash_at: fault} if crash_at else {})

    def _next(self, method, key):
        return super()._next(method, key) if method == "retain" else None


ONE, TWO = b"1" * 40, b"2" * 40
FILES = st.sampled_from([{"a": ONE}, {"a": ONE, "b": TWO}, {"a": TWO}, {"b": ONE, "c": b"3" * 40}])
CRASH = st.one_of(st.none(), st.none(), st.integers(1, 8))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(1, 24 * 20)),
        st.tuples(st.just("capture"), FILES, CRASH),
        st.tuples(st.just("prolong"), st.integers(0, 255), CRASH),
    ),
    max_size=9,
)


@settings(max_examples=30, deadline=None)
@given(STEPS, st.sampled_from([1, 7, 14, 400]))
def test_no_object_is_unlocked_before_a_point_that_needs_it(steps, days: int) -> None:
    """Captures that share files, prolongations of any choice of points, deaths at any lock, any time between."""
    history = History(days=days)
    for step in (("capture", {"a": ONE}, None), *steps):
        if step[0] == "wait":
            history.clock.advance(step[1] * 3600.0)
        elif step[0] == "capture":
            history.capture(step[1], crash_at=step[2])
        else:
            chosen = {point for number, point in enumerate(history.points) if step[1] >> number & 1}
            history.prolong(chosen, crash_at=step[2])

        assert history.broken_promises() == []


@pytest.mark.parametrize("fault", [Fault.LOST_BEFORE, Fault.LOST_AFTER, Fault.CRASH_BEFORE, Fault.CRASH_AFTER])
def test_a_death_at_any_lock_breaks_no_promise_and_the_next_run_keeps_it(fault: Fault) -> None:
    """Each lock of a prolongation in turn, with each fault."""
    number = 0
    while True:
        number += 1
        history = History()
        for content in (b"1", b"2"):
            history.capture({"same": b"s" * 50, "other": content * 50})
            history.clock.advance(3600)
        history.clock.advance(86400 * 10)
        before = history.repository.store.keys()
        history.prolong(set(history.points), crash_at=number, fault=fault)
        assert history.broken_promises() == []
        history.prolong(set(history.points))
        locks = {history.lock_of(point) for point in history.points}

        assert min(lock for lock in locks if lock) >= history.store.now() + timedelta(days=DAYS)
        assert history.broken_promises() == []
        assert history.repository.store.keys() == before
        if number > 7:
            break


def test_a_run_locks_only_what_it_brought_while_the_lock_of_its_parent_lasts() -> None:
    """Ten thousand packs are not asked for at every run: the parent's snapshot stands for them."""
    history = History()
    names = {f"f{number}": bytes([number]) * 60 for number in range(30)}
    for name, content in names.items():
        history.capture({name: content})  # a pack of its own for each
    history.clock.advance(86400 * 5)
    history.capture(names)
    packs = len([key for key in sorted(history.store.keys()) if key.startswith(Layout.DATA)])
    begin = history.counting.calls["retain"]
    history.clock.advance(3600)
    history.capture(names | {"f3": b"new" * 20})
    retained = history.counting.calls["retain"] - begin
    indexes = len([key for key in sorted(history.store.keys()) if key.startswith(Layout.INDEX)])

    assert packs > 60
    assert retained <= indexes + 2 + 6, "the index objects, the config and the key, and the new packs"
    assert history.broken_promises() == []


def test_a_parent_whose_lock_ends_too_soon_proves_nothing() -> None:
    """Then all is locked anew, with a slack that spares the next runs."""
    history = History()
    history.capture({"a": b"1" * 50})
    history.clock.advance(86400 * 3)
    last = history.capture({"a": b"1" * 50})
    assert last is not None

    assert history.lock_of(last) == history.store.now() + timedelta(days=16)
    assert history.broken_promises() == []


def test_a_lock_that_the_policy_no_longer_asks_for_is_not_handed_on() -> None:
    """Ninety days became fourteen: old objects keep theirs, new points get what is asked for now."""
    history = History(days=90)
    history.capture({"a": b"1" * 50})
    history.days = 14
    last = history.capture({"a": b"1" * 50, "b": b"2" * 50})
    assert last is not None

    assert history.lock_of(last) == history.store.now() + timedelta(days=16)


def test_a_point_that_retention_keeps_is_locked_through_its_whole_life() -> None:
    """A monthly one, with fourteen days of lock and a run every day, for months."""
    history = History()
    monthly = history.capture({"a": b"old" * 20})
    assert monthly is not None
    for day in range(50):
        history.clock.advance(86400)
        newest = history.capture({"a": b"old" * 20, "b": bytes([day % 7]) * 40})
        assert newest is not None
        for gone in [point for point in history.points if point not in {monthly, newest}]:
            del history.points[gone]  # forgotten by retention, sooner or later
        history.prolong({monthly, newest})
        left = history.lock_of(monthly) - history.store.now()

        assert timedelta(days=7) - timedelta(hours=1) <= left <= timedelta(days=17)
    assert history.broken_promises() == []


def test_a_point_that_no_rule_keeps_is_let_run_out() -> None:
    """Its lock is the only reason that it still stands."""
    history = History()
    left, kept = history.capture({"a": b"1" * 50}), history.capture({"a": b"2" * 50})
    assert left is not None
    assert kept is not None
    before = history.lock_of(left)
    history.clock.advance(86400 * 12)
    history.prolong({kept})

    assert history.lock_of(left) == before
    assert history.lock_of(kept) == history.store.now() + timedelta(days=16)


def test_a_damaged_point_keeps_the_lock_it_has_and_the_others_go_on() -> None:
    """Nothing is promised of what is not whole; the finding names it."""
    history = History()
    first, second, third = (history.capture({"own": bytes([number]) * 50}) for number in range(3))
    assert first and second and third
    beyond = retain.packs_beyond(history.repository, history.points[second].tree, history.points[third].tree)
    history.clock.advance(86400 * 30)
    before = history.lock_of(second)
    for key in beyond:
        history.store.delete(key)
    decisions = [Decision(point=point, keep=True, reasons=("daily 1",)) for point in history.seen()]
    findings = extend.execute(extend.plan(decisions, days=DAYS, now=history.store.now()), history.through())

    assert [second[:8] in finding.message for finding in findings] == [True]
    assert history.lock_of(second) == before
    assert history.lock_of(first) == history.lock_of(third) == history.store.now() + timedelta(days=16)


def test_a_key_that_was_taken_out_of_use_is_not_locked_again() -> None:
    """Otherwise a password could never be removed from a bucket with object lock."""
    history = History()
    old = add_key(history.store, history.repository.key, "old", created=NOON, kdf=KEY)
    history.capture({"a": b"1" * 50})
    locked = history.store.head(Layout.key(old)).retain_until
    assert locked is not None
    history.store.put(Layout.retired(old), b"{}")
    history.clock.advance(86400 * 13)
    history.capture({"a": b"1" * 50})

    assert history.store.head(Layout.key(old)).retain_until == locked


def test_a_tree_that_cannot_be_read_proves_nothing() -> None:
    """Then every pack of the new one counts."""
    history = History()
    history.capture({"a": b"1" * 50})
    (point,) = history.points.values()
    everything = retain.packs_beyond(history.repository, point.tree, "")

    assert retain.packs_beyond(history.repository, point.tree, "f" * 64) == everything
    assert retain.packs_beyond(history.repository, point.tree, point.tree) == frozenset()
    with pytest.raises(Damaged):
        retain.packs_beyond(history.repository, "f" * 64, point.tree)


@given(st.datetimes(min_value=NOON.replace(tzinfo=None, year=2000), max_value=NOON.replace(tzinfo=None, year=2100)), st.integers(1, 36500))
def test_a_term_is_in_order(moment, days: int) -> None:
    """What is written outlasts what is locked anew, and that outlasts the promise."""
    now = moment.replace(tzinfo=NOON.tzinfo)
    term = retain.Term.of(now, days)

    assert now < term.at_least < term.until < term.at_writing
    assert term.at_least == now + timedelta(days=days)


def test_a_run_prolongs_what_its_policy_keeps() -> None:
    """With retention by its rules, without retention every point; a policy without lock locks nothing."""
    scene = Scene(policy=a_policy(target={"url": "s3://backups/p", "password": "env:X", "lock": {"mode": "compliance", "days": 14}}))
    old, new = scene.point(cut=NOON - timedelta(days=40)), scene.point(cut=NOON)
    scene.policy = scene.policy.model_copy(update={"spec": scene.policy.spec.model_copy(update={"retention": None})})

    def locks() -> list[datetime | None]:
        return [scene.store.head(Layout.snapshot(point)).retain_until for point in (old, new)]

    assert locks() == [None, None]
    assert extend.prolong(scene.policy, scene.ports) == ()
    assert locks() == [NOON + timedelta(days=16)] * 2
    scene.clock.advance(86400 * 10)
    scene.changes = {"store": FaultyStore(scene.store, {3: Fault.LOST_BEFORE})}
    (finding,) = extend.prolong(scene.policy, scene.ports)
    assert "locks were not extended" in finding.message
    assert locks() == [NOON + timedelta(days=16)] * 2
    assert extend.prolong(a_policy(), scene.ports) == ()


def test_what_others_wrote_beside_the_runs_is_locked_by_the_next_one() -> None:
    """A new password's key, an index object of the restic command or of a prune: no parent stands for those."""
    history = History()
    history.capture({"a": ONE})
    with Writer(history.repository) as writer:
        writer.save_bytes(b"from elsewhere" * 9)
    added = add_key(history.store, history.repository.key, "second", created=NOON, kdf=KEY)
    last = history.capture({"a": ONE})
    assert last is not None

    assert history.store.head(Layout.key(added)).retain_until == history.lock_of(last)
    assert history.broken_promises() == []
