"""Restic's locks as Becalm keeps them: who excludes whom, whose lock is dead, and who may remove it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from becalm.errors import BecalmError, Damaged, RepositoryLocked, StoreFull, StoreUnavailable
from becalm.repository import lease, locks
from becalm.repository.crypto import Kdf, seal
from becalm.repository.format import Layout
from becalm.repository.lockfile import STALE, LockDoc, Standing, standing
from becalm.repository.reader import Repository, init_repository
from becalm.storage.wrappers import ReadOnly
from becalm.testing.fake_clock import NOON, FakeClock
from becalm.testing.faulty_store import Crash, Fault, FaultyStore
from becalm.testing.memory_store import MemoryStore

RESTIC = LockDoc(time=NOON, exclusive=False, hostname="laptop", username="jo", pid=4711, uid=1000, gid=1000)


class Scene:
    """A repository whose clock stands still."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(clock=self.clock)
        self.repository: Repository = init_repository(self.store, "p", kdf=Kdf(n=16))

    def foreign(self, *, exclusive: bool = False) -> str:
        """Leave a lock as the restic command writes it."""
        doc = LockDoc(time=self.clock.now(), exclusive=exclusive, hostname="laptop", username="jo", pid=4711, uid=1000, gid=1000)
        return self.repository.save_document(Layout.LOCKS, doc.encode())

    def run(self, name: str) -> None:
        """Take the lease for a run."""
        lease.take(self.store, policy="shop", run=name, seconds=60, clock=self.clock)

    def pass_on(self, name: str) -> None:
        """Let the lease end, and another run take it."""
        self.clock.advance(61)
        self.run(name)

    def standing(self) -> list[str]:
        """Return whose locks stand."""
        return sorted(one.doc.username if one.doc else "?" for one in standing(self.repository))

    def behind(self, store: object) -> Repository:
        """Return the same repository through another door."""
        return Repository(store=store, id=self.repository.id, version=2, key=self.repository.key)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_shared_lock_stands_while_it_is_held_and_goes_after(scene: Scene) -> None:
    """Restic reads hostname, user and process in it; it goes also after an error."""
    with pytest.raises(ZeroDivisionError), locks.shared(scene.repository, who="run-1", clock=scene.clock):
        found = standing(scene.repository)
        raise ZeroDivisionError

    assert [(one.doc.hostname, one.doc.username, one.doc.exclusive) for one in found if one.doc] == [("becalm", "run-1", False)]
    assert scene.standing() == []


def test_shared_locks_stand_beside_each_other_and_beside_restics(scene: Scene) -> None:
    """Several movers, and a `restic backup`."""
    scene.foreign()
    with locks.shared(scene.repository, who="run-1", clock=scene.clock), locks.shared(scene.repository, who="run-1", clock=scene.clock):
        assert scene.standing() == ["jo", "run-1", "run-1"]


def test_a_capture_waits_for_a_foreign_exclusive_lock_but_not_for_ever(scene: Scene) -> None:
    """The error says who locks it, on which machine, and since when; nothing of ours is left."""
    scene.foreign(exclusive=True)
    with pytest.raises(RepositoryLocked, match=r"exclusively by jo on laptop \(process 4711\), refreshed 10 minutes ago") as caught:
        scene.clock.advance(300)
        locks.keep(scene.repository, who="run-1", clock=scene.clock, wait_seconds=300)

    assert caught.value.where.startswith("memory://store/locks/")
    assert caught.value.delay_seconds is not None
    assert sum(scene.clock.slept) == pytest.approx(300, abs=5)
    assert scene.standing() == ["jo"]


def test_a_capture_goes_on_when_the_exclusive_lock_has_gone(scene: Scene) -> None:
    """Waiting ends as soon as the way is free."""
    lock = scene.foreign(exclusive=True)
    polls = iter(range(10))

    def still() -> None:
        if next(polls) == 2:
            scene.store.delete(Layout.lock(lock))

    with locks.shared(scene.repository, who="run-1", clock=scene.clock, still=still):
        assert scene.standing() == ["run-1"]
    assert len(scene.clock.slept) == 3


def test_whoever_waits_can_be_stopped(scene: Scene) -> None:
    """A mover that is told to end does not wait to the end."""
    scene.foreign(exclusive=True)

    def still() -> None:
        raise Damaged("stop")

    with pytest.raises(Damaged, match="stop"), locks.shared(scene.repository, who="run-1", clock=scene.clock, still=still):
        pass


@pytest.mark.parametrize("foreign_exclusive", [False, True])
def test_any_live_foreign_lock_ends_a_deletion(scene: Scene, foreign_exclusive: bool) -> None:
    """At once, and without a trace."""
    scene.foreign(exclusive=foreign_exclusive)
    with (
        pytest.raises(RepositoryLocked, match="nothing may be deleted beside it"),
        locks.exclusive(scene.repository, who="run-1", clock=scene.clock),
    ):
        pass

    assert scene.standing() == ["jo"]
    assert scene.clock.slept == []


def test_a_foreign_lock_that_is_half_an_hour_old_binds_nobody_and_stays(scene: Scene) -> None:
    """Removing it is its owner's business, or that of `restic unlock`."""
    scene.foreign(exclusive=True)
    scene.clock.advance(STALE.total_seconds() + 1)
    with locks.exclusive(scene.repository, who="run-1", clock=scene.clock):
        assert scene.standing() == ["jo", "run-1"]
    assert scene.standing() == ["jo"]


def test_a_lock_that_cannot_be_read_counts_as_exclusive_until_it_is_stale(scene: Scene) -> None:
    """Nobody knows whose it is."""
    body = bytes(seal(scene.repository.key, b"no lock"))
    scene.store.put(Layout.lock("a" * 64), body)
    with (
        pytest.raises(RepositoryLocked, match="a lock that cannot be read"),
        locks.shared(scene.repository, who="run-1", clock=scene.clock, wait_seconds=10),
    ):
        pass
    scene.clock.advance(STALE.total_seconds())

    with locks.shared(scene.repository, who="run-1", clock=scene.clock):
        assert scene.standing() == ["?", "run-1"]


@pytest.mark.parametrize("year", [365, -365])
def test_a_jump_of_the_stores_clock_makes_no_lock_eternal(scene: Scene, year: int) -> None:
    """A lock from far in the future is as dead as one from the past: its owner would have refreshed it."""
    scene.foreign(exclusive=True)
    scene.clock.jump(year * 86400)
    with locks.shared(scene.repository, who="run-1", clock=scene.clock):
        assert scene.standing() == ["jo", "run-1"]


def test_the_next_run_removes_the_locks_of_a_dead_run_and_no_other(scene: Scene) -> None:
    """With the lease in hand no other run lives, however fresh its lock is. Restic's stay."""
    scene.run("dead")
    dead = LockDoc.ours("dead", exclusive=True).at(scene.clock.now())
    scene.repository.save_document(Layout.LOCKS, dead.encode())
    scene.foreign()
    scene.pass_on("next")
    locks.keep(scene.repository, who="next", clock=scene.clock)

    assert scene.standing() == ["jo", "next"]


def test_without_the_lease_no_lock_of_another_run_is_removed(scene: Scene) -> None:
    """A run that has lost its lease does not take the living one's lock."""
    scene.run("sleeper")
    scene.pass_on("living")
    locks.keep(scene.repository, who="living", clock=scene.clock)

    assert locks.sweep(scene.repository, who="sleeper") == ()
    with pytest.raises(RepositoryLocked), locks.exclusive(scene.repository, who="sleeper", clock=scene.clock):
        pass
    assert scene.standing() == ["living"]


def test_a_reader_is_no_run_and_is_removed_only_when_it_is_stale(scene: Scene) -> None:
    """`becalm verify` beside a run: the run's deletion waits for it."""
    scene.run("run-1")
    reader = LockDoc.ours("verify", exclusive=False, leased=False).at(scene.clock.now())
    scene.repository.save_document(Layout.LOCKS, reader.encode())
    with (
        pytest.raises(RepositoryLocked, match="verify on becalm-reader"),
        locks.exclusive(scene.repository, who="run-1", clock=scene.clock),
    ):
        pass
    scene.clock.advance(STALE.total_seconds() + 1)
    scene.run("run-1")

    with locks.exclusive(scene.repository, who="run-1", clock=scene.clock):
        assert scene.standing() == ["run-1"]


def test_a_reader_does_not_wait_for_a_dead_run_of_becalm(scene: Scene) -> None:
    """While the run has its lease its exclusive lock binds; after it, that run can delete nothing more."""
    scene.run("run")
    doc = LockDoc.ours("run", exclusive=True).at(scene.clock.now())
    scene.repository.save_document(Layout.LOCKS, doc.encode())
    with pytest.raises(RepositoryLocked), locks.shared(scene.repository, who="r", clock=scene.clock, leased=False, wait_seconds=0):
        pass
    scene.clock.advance(61)
    with locks.shared(scene.repository, who="r", clock=scene.clock, leased=False, wait_seconds=0) as held:
        written = held.id

    assert written
    assert scene.standing() == ["run"]


def test_a_runs_own_locks_do_not_stand_in_its_way(scene: Scene) -> None:
    """The prune of a run, beside the lock that the run holds throughout."""
    scene.run("run-1")
    locks.keep(scene.repository, who="run-1", clock=scene.clock)
    with locks.exclusive(scene.repository, who="run-1", clock=scene.clock):
        assert scene.standing() == ["run-1", "run-1"]
    locks.let_go(scene.repository, who="run-1")
    assert scene.standing() == []


def test_keeping_a_fresh_lock_costs_one_list_and_writes_nothing(scene: Scene) -> None:
    """After five minutes it is written anew, and half an hour later the old one is removed."""
    scene.run("run-1")
    locks.keep(scene.repository, who="run-1", clock=scene.clock)
    first = standing(scene.repository)
    locks.keep(scene.repository, who="run-1", clock=scene.clock)
    assert standing(scene.repository) == first
    scene.clock.advance(STALE.total_seconds() + 1)
    locks.keep(scene.repository, who="run-1", clock=scene.clock)
    second = standing(scene.repository)

    assert [one.id for one in second] != [one.id for one in first]
    assert len(second) == 1


def test_a_refreshed_lock_is_a_new_object_and_the_old_one_goes(scene: Scene) -> None:
    """Never none in between: the new one is written first."""
    store = FaultyStore(scene.store)
    with locks.shared(scene.behind(store), who="run-1", clock=scene.clock) as held:
        first = held.id
        held.refresh()
        assert held.id == first
        scene.clock.advance(locks.REFRESH_SECONDS)
        begin = len(store.calls)
        held.refresh()
        assert held.id != first
        assert [method for method, _ in store.calls[begin:] if method != "now"] == ["put", "delete"]
        assert len(standing(scene.repository)) == 1


def test_a_lock_that_could_not_be_refreshed_in_time_ends_the_deletion(scene: Scene) -> None:
    """Before anybody else may take it for dead."""
    with locks.exclusive(scene.repository, who="run-1", clock=scene.clock) as held:
        held.demand()
        scene.clock.advance(locks.LOST_SECONDS + 1)
        with pytest.raises(RepositoryLocked, match="our own lock could not be refreshed for"):
            held.demand()
        held.refresh()
        held.demand()


def test_an_exclusive_lock_that_was_broken_stays_lost(scene: Scene) -> None:
    """Somebody ran `restic unlock --remove-all`, and began to write."""
    with locks.exclusive(scene.repository, who="run-1", clock=scene.clock) as held:
        scene.store.delete(Layout.lock(held.id))
        scene.foreign()
        scene.clock.advance(locks.REFRESH_SECONDS)
        held.refresh()
        with pytest.raises(RepositoryLocked, match="jo on laptop"):
            held.demand()


def test_who_may_not_write_reads_without_a_lock(scene: Scene) -> None:
    """As restic's --no-lock; where the lock is required, the refusal is raised."""
    repository = scene.behind(ReadOnly(scene.store))
    with locks.shared(repository, who="verify", clock=scene.clock, leased=False, required=False) as held:
        held.refresh()
        held.demand()
        assert held.id == ""
    with pytest.raises(BecalmError, match="opened for reading"), locks.shared(repository, who="run-1", clock=scene.clock):
        pass


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize("kind", [locks.shared, locks.exclusive])
def test_whatever_call_fails_the_next_run_needs_no_unlock(kind: Callable[..., object], fault: Fault) -> None:
    """Taking, holding and letting go, interrupted at each call: the next run locks and deletes, and restic finds nothing after."""
    number = 0
    while True:
        number += 1
        scene = Scene()
        scene.run("first")
        store = FaultyStore(scene.store, {number: fault})
        try:
            with kind(scene.behind(store), who="first", clock=scene.clock) as held:
                scene.clock.advance(50)
                held.refresh(older_than_seconds=1)
        except (BecalmError, Crash):
            pass
        reached = len(store.calls) >= number
        scene.pass_on("next")
        with locks.exclusive(scene.repository, who="next", clock=scene.clock):
            assert scene.standing() == ["next"]
        assert scene.standing() == []
        if not reached:
            break
    assert number > 5


def test_two_at_once_never_both_hold_what_excludes_the_other(scene: Scene) -> None:
    """A foreign lock that comes between our first look and our lock is seen at the second."""
    others = iter([True, False])

    class Between(FaultyStore):
        def put(self, key, body, **conditions):  # the port's own signature
            if key.startswith(Layout.LOCKS) and next(others):
                scene.foreign(exclusive=True)
            return super().put(key, body, **conditions)

    with pytest.raises(RepositoryLocked), locks.shared(scene.behind(Between(scene.store)), who="run-1", clock=scene.clock, wait_seconds=0):
        pass
    assert scene.standing() == ["jo"]


def test_a_lock_is_let_go_when_the_second_look_fails(scene: Scene) -> None:
    """A store that fails in between leaves no lock behind."""
    calls = FaultyStore(scene.store)
    with locks.shared(scene.behind(calls), who="run-1", clock=scene.clock):
        second_look = [number for number, (method, _) in enumerate(calls.calls, 1) if method == "list"][1]
    faulty = FaultyStore(scene.store, {second_look: Fault.LOST_BEFORE})
    with pytest.raises(StoreUnavailable), locks.shared(scene.behind(faulty), who="run-1", clock=scene.clock):
        pass

    assert scene.standing() == []


LOCK_DOCS = st.builds(
    LockDoc,
    time=st.datetimes().map(lambda moment: moment.replace(tzinfo=NOON.tzinfo)),
    exclusive=st.booleans(),
    hostname=st.text(),
    username=st.text(),
    pid=st.integers(0, 1 << 22),
    uid=st.integers(0, 1 << 32),
    gid=st.integers(0, 1 << 32),
)


@given(LOCK_DOCS)
def test_a_lock_reads_back_as_it_was_written(doc: LockDoc) -> None:
    """Whatever stands in it."""
    assert LockDoc.decode(doc.encode(), where="locks/x") == doc


@pytest.mark.parametrize(
    "document", [b"[]", b"{}", b'{"time": 3}', b'{"time": "yesterday", "exclusive": true}', b'{"time": "2026-01-01T00:00:00Z"}']
)
def test_what_is_no_lock_is_damaged(document: bytes) -> None:
    """It is named."""
    with pytest.raises(Damaged, match="locks/x"):
        LockDoc.decode(document, where="locks/x")


@given(st.timedeltas(min_value=timedelta(days=-4000), max_value=timedelta(days=4000)))
def test_a_lock_lives_half_an_hour_on_either_side(age: timedelta) -> None:
    """By the store's clock alone: what it says itself of the time does not count."""
    one = Standing(id="a" * 64, written=NOON - age, doc=RESTIC)

    assert one.live(NOON) == (abs(age) <= timedelta(minutes=30))


def test_a_reader_goes_on_in_a_full_bucket(scene: Scene) -> None:
    """A lock that needs room is not worth a verification; who writes needs it."""
    scene.store.capacity_bytes = 10
    with locks.shared(scene.repository, who="verify", clock=scene.clock, leased=False, required=False) as held:
        assert held.id == ""
    with pytest.raises(StoreFull), locks.shared(scene.repository, who="run-1", clock=scene.clock):
        pass
