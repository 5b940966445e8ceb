"""One run writes at a time; one that slept through its lease cannot go on; lost replies do no harm."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import orjson
import pytest

from becalm.errors import Damaged, LeaseHeld, LeaseLost, StoreUnavailable, Throttled
from becalm.repository import lease
from becalm.repository.lease import Fence
from becalm.storage.wrappers import Retrying
from becalm.testing.fake_clock import FakeClock
from becalm.testing.faulty_store import Crash, Fault, FaultyStore
from becalm.testing.memory_store import MemoryStore

SECONDS = 900.0


class Scene:
    """A store, its clock, and two runs."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(clock=self.clock)

    def take(self, run: str = "first", seconds: float = SECONDS) -> lease.Lease:
        """Take the lease of the policy `shop`."""
        return lease.take(self.store, policy="shop", run=run, seconds=seconds, clock=self.clock)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_the_first_lease_has_epoch_one(scene: Scene) -> None:
    """And lasts as long as was asked, by the store's clock."""
    taken = scene.take()

    assert (taken.epoch, taken.run, taken.policy) == (1, "first", "shop")
    assert taken.expires == scene.store.now() + timedelta(seconds=SECONDS)
    assert lease.read(scene.store) == taken


def test_a_held_lease_names_the_run_and_until_when(scene: Scene) -> None:
    """The error is transient and says how long to wait."""
    scene.take()
    scene.clock.advance(100)

    with pytest.raises(LeaseHeld, match=r"run first of policy shop is at work, its lease lasts until 2026-03-14T12:15:00Z") as caught:
        scene.take("second")
    assert caught.value.delay_seconds == SECONDS - 100
    assert "memory://store/becalm/lease" in caught.value.where


def test_the_same_run_takes_its_own_lease_again(scene: Scene) -> None:
    """A task that is run twice keeps the epoch, and its lease gets no shorter."""
    first = scene.take()
    scene.clock.advance(100)
    again = scene.take()
    shorter = scene.take(seconds=1)

    assert (first.epoch, again.epoch, shorter.epoch) == (1, 1, 1)
    assert again.expires == first.expires + timedelta(seconds=100)
    assert shorter.expires == again.expires


def test_an_expired_lease_goes_to_another_run_in_a_new_epoch(scene: Scene) -> None:
    """A dead run blocks the next no longer than its lease."""
    scene.take()
    scene.clock.advance(SECONDS)
    taken = scene.take("second")

    assert (taken.epoch, taken.run) == (2, "second")


def test_a_sleeper_that_wakes_finds_its_lease_lost(scene: Scene) -> None:
    """It can neither renew nor pass the fence, whatever it does; taking again makes it wait as anybody."""
    slept = scene.take()
    scene.clock.advance(SECONDS + 1)
    scene.take("second")
    fence = Fence(scene.store, "first", slept.epoch, scene.clock)

    for act in (
        fence.check,
        lambda: fence.renew(SECONDS),
        lambda: lease.renew(scene.store, run="first", epoch=slept.epoch, seconds=SECONDS),
    ):
        with pytest.raises(LeaseLost, match="run second has it since epoch 2"):
            act()
    with pytest.raises(LeaseHeld):
        scene.take()


def test_a_sleeper_does_not_come_back_with_an_old_epoch(scene: Scene) -> None:
    """Its run may take the lease anew once the other has gone; what still holds the first epoch stays out."""
    slept = scene.take()
    scene.clock.advance(SECONDS)
    scene.take("second")
    scene.clock.advance(SECONDS)
    again = scene.take()

    assert again.epoch == 3
    with pytest.raises(LeaseLost, match="it is in epoch 3"):
        Fence(scene.store, "first", slept.epoch).check()


def test_a_run_that_slept_and_met_nobody_may_go_on(scene: Scene) -> None:
    """Nobody wrote in between: renewing proves it. Until then the fence is shut."""
    slept = scene.take()
    scene.clock.advance(SECONDS + 60)
    fence = Fence(scene.store, "first", slept.epoch, scene.clock)

    with pytest.raises(LeaseLost, match="ended 60 s ago"):
        fence.check()
    fence.renew(SECONDS)
    assert fence.check().epoch == 1


def test_the_fence_wants_its_margin(scene: Scene) -> None:
    """What cannot be taken back needs time to arrive."""
    taken = scene.take()
    fence = Fence(scene.store, "first", taken.epoch)
    scene.clock.advance(SECONDS - 30)

    assert fence.check(margin_seconds=29).epoch == 1
    with pytest.raises(LeaseLost, match="ends in 30 s, 30 s are needed"):
        fence.check(margin_seconds=30)


def test_the_machines_own_clock_does_not_matter(scene: Scene) -> None:
    """Only the store's clock does: a wall clock that is a year off neither ends nor prolongs a lease."""
    other = FakeClock()
    for jump in (-365 * 86400, 365 * 86400):
        other.jump(jump)
        lease.take(scene.store, policy="shop", run="first", seconds=SECONDS, clock=other)

        with pytest.raises(LeaseHeld):
            lease.take(scene.store, policy="shop", run="second", seconds=SECONDS, clock=other)


def test_a_released_lease_is_free_at_once_and_keeps_its_epoch(scene: Scene) -> None:
    """The object stays, so that the epoch only grows; letting go twice is fine."""
    taken = scene.take()
    for _ in range(2):
        lease.release(scene.store, run="first", epoch=taken.epoch, clock=scene.clock)

    assert scene.store.keys() == ("becalm/lease",)
    assert scene.take("second").epoch == 2


def test_a_straggler_of_a_run_that_let_go_cannot_hold_up_the_next(scene: Scene) -> None:
    """A mover that outlives its run must not renew what its run gave back; the run itself may begin again."""
    taken = scene.take()
    lease.release(scene.store, run="first", epoch=taken.epoch)

    with pytest.raises(LeaseLost, match="this run has let go of it"):
        lease.renew(scene.store, run="first", epoch=taken.epoch, seconds=SECONDS)
    with pytest.raises(LeaseLost):
        Fence(scene.store, "first", taken.epoch).check()
    assert scene.take().epoch == 1


def test_releasing_what_another_run_holds_does_nothing(scene: Scene) -> None:
    """Nor does it where there is no lease at all."""
    lease.release(scene.store, run="first", epoch=1)
    scene.take("second")
    lease.release(scene.store, run="first", epoch=1)
    lease.release(scene.store, run="second", epoch=7)

    with pytest.raises(LeaseHeld):
        scene.take("third")


def test_renewing_makes_it_last_longer_and_never_shorter(scene: Scene) -> None:
    """Tasks and movers renew for different times."""
    taken = scene.take()
    longer = lease.renew(scene.store, run="first", epoch=1, seconds=2 * SECONDS)
    same = lease.renew(scene.store, run="first", epoch=1, seconds=60)

    assert longer.expires == taken.expires + timedelta(seconds=SECONDS)
    assert same.expires == longer.expires


def test_without_a_lease_nothing_can_be_renewed(scene: Scene) -> None:
    """An empty store holds none."""
    with pytest.raises(LeaseLost, match="nobody holds a lease here"):
        lease.renew(scene.store, run="first", epoch=1, seconds=1)


def test_of_eight_runs_that_race_exactly_one_takes_the_lease(scene: Scene) -> None:
    """A fresh one and, after it, an expired one."""
    for heat in range(5):
        holders = _race([lambda run=f"{heat}-{number}": scene.take(run).epoch for number in range(8)])

        assert holders == [heat + 1]
        scene.clock.advance(SECONDS * 2)


def test_eight_movers_of_one_run_renew_at_once(scene: Scene) -> None:
    """None of them loses the lease over it."""
    scene.take()
    renewals = _race([lambda: lease.renew(scene.store, run="first", epoch=1, seconds=2 * SECONDS, clock=scene.clock).epoch] * 8)

    assert renewals == [1] * 8


@pytest.mark.parametrize("fault", [Fault.LOST_BEFORE, Fault.LOST_AFTER, Fault.THROTTLED, Fault.CRASH_BEFORE, Fault.CRASH_AFTER])
@pytest.mark.parametrize("verb", ["take", "take expired", "renew", "release"])
def test_every_verb_can_be_repeated_after_a_fault_at_any_call(verb: str, fault: Fault) -> None:
    """Fail the n-th call for every n, then do it again: the end is as if nothing had failed."""
    expected = _after(verb, {})
    calls = expected[0]

    assert calls >= 2
    for number in range(1, calls + 1):
        assert _after(verb, {number: fault})[1:] == expected[1:]


@pytest.mark.parametrize("fault", [Fault.LOST_BEFORE, Fault.LOST_AFTER, Fault.THROTTLED])
@pytest.mark.parametrize("verb", ["take", "take expired", "renew", "release"])
def test_with_retries_in_the_store_no_verb_notices_a_fault(verb: str, fault: Fault) -> None:
    """A put whose reply was lost meets its own object and has succeeded."""
    expected = _after(verb, {})
    for number in range(1, expected[0] + 1):
        scene = Scene()
        prepared = _prepare(scene, verb)
        store = Retrying(FaultyStore(scene.store, {number: fault}), clock=FakeClock(), attempts=2)
        prepared(store)

        assert _state(scene) == expected[1:]


def test_a_lease_that_cannot_be_read_is_damage_with_a_remedy(scene: Scene) -> None:
    """Nobody guesses: whoever writes over an unknown lease may write over a living one."""
    for body in (
        b"",
        b"[]",
        b"{}",
        b'{"format": 2, "epoch": 1}',
        orjson.dumps({"format": 1, "epoch": "1"}),
        orjson.dumps({"format": 1, "epoch": 1, "run": "x"}),
    ):
        scene.store.put("becalm/lease", body)

        with pytest.raises(Damaged, match="becalm/lease"):
            scene.take()


def _prepare(scene: Scene, verb: str) -> Callable[[object], object]:
    """Bring the scene to where the verb begins, and return the verb."""
    if verb == "take expired":
        scene.take("dead", seconds=10)
        scene.clock.advance(11)
    if verb in {"renew", "release"}:
        scene.take()
        scene.clock.advance(5)
    if verb == "renew":
        return lambda store: lease.renew(store, run="first", epoch=1, seconds=SECONDS, clock=FakeClock())
    if verb == "release":
        return lambda store: lease.release(store, run="first", epoch=1, clock=FakeClock())
    return lambda store: lease.take(store, policy="shop", run="first", seconds=SECONDS, clock=FakeClock())


def _after(verb: str, plan: dict[int, Fault]) -> tuple[object, ...]:
    """Do the verb with the faults, and once more if it failed; return the number of calls and the state at the end."""
    scene = Scene()
    act = _prepare(scene, verb)
    store = FaultyStore(scene.store, plan)
    try:
        act(store)
    except (StoreUnavailable, Throttled, Crash):
        act(scene.store)
    else:
        assert not plan
    return (len(store.calls), *_state(scene))


def _state(scene: Scene) -> tuple[object, ...]:
    found = lease.read(scene.store)
    assert found is not None
    return (found.epoch, found.run, found.expires, found.released)


def _race(acts: list[Callable[[], int]]) -> list[int]:
    """Run all at once; return what those that were not refused returned."""
    gate = threading.Barrier(len(acts))
    returned: list[int] = []

    def run(act: Callable[[], int]) -> None:
        gate.wait()
        try:
            returned.append(act())
        except LeaseHeld:
            return

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return returned


# Clocks that are wrong.

YEAR = 365 * 86400.0


@pytest.mark.parametrize("off", [YEAR, -YEAR])
def test_a_machine_whose_clock_is_a_year_off_takes_and_keeps_its_lease_like_any_other(off: float) -> None:
    """Only the store's clock counts: the machine's is not asked."""
    scene, wrong = Scene(), FakeClock()
    wrong.jump(off)
    taken = lease.take(scene.store, policy="shop", run="first", seconds=SECONDS, clock=wrong)
    Fence(scene.store, "first", taken.epoch, wrong).check(margin_seconds=60)
    with pytest.raises(LeaseHeld):
        lease.take(scene.store, policy="shop", run="second", seconds=SECONDS, clock=wrong)
    scene.clock.advance(SECONDS + 1)

    assert lease.take(scene.store, policy="shop", run="second", seconds=SECONDS, clock=wrong).epoch == 2


def test_a_store_whose_clock_was_a_year_ahead_blocks_nobody_once_it_is_right(scene: Scene) -> None:
    """A lease that ends in a year is no lease: the next run takes it, and the one before is fenced."""
    scene.clock.jump(YEAR)
    before = scene.take()
    scene.clock.jump(-YEAR)
    second = scene.take("second")

    assert second.epoch == before.epoch + 1
    assert second.expires == scene.store.now() + timedelta(seconds=SECONDS)
    with pytest.raises(LeaseLost, match="run second has it"):
        Fence(scene.store, "first", before.epoch).check()


def test_a_run_that_lives_through_the_jump_rights_its_own_lease(scene: Scene) -> None:
    """At its next renewal, which comes every half minute."""
    scene.clock.jump(YEAR)
    taken = scene.take()
    scene.clock.jump(-YEAR)
    renewed = lease.renew(scene.store, run="first", epoch=taken.epoch, seconds=SECONDS)

    assert renewed.expires == scene.store.now() + timedelta(seconds=SECONDS)
    with pytest.raises(LeaseHeld):
        scene.take("second")


def test_a_store_whose_clock_jumps_ahead_costs_a_run_and_no_more(scene: Scene) -> None:
    """The lease is over at once; whoever takes it fences the first."""
    first = scene.take()
    scene.clock.jump(YEAR)
    with pytest.raises(LeaseLost, match="ended"):
        Fence(scene.store, "first", first.epoch).check()

    assert scene.take("second").epoch == 2
    with pytest.raises(LeaseLost):
        lease.renew(scene.store, run="first", epoch=first.epoch, seconds=SECONDS)


def test_nobody_takes_a_lease_for_days(scene: Scene) -> None:
    """Else one that a wrong clock made could not be told from it."""
    assert scene.take(seconds=7 * 86400).expires == scene.store.now() + timedelta(seconds=lease.MOST_SECONDS)
