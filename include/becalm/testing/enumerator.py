"""Crash enumeration: a scenario is stopped at every call to its store, with every fault, and then has to go on.

After each stop several ways are tried, each from the same state: nothing; verify; the plain retry, at once or much later; another
run and two prunes; a full restore. Whatever is visible must be whole, what was committed must be there, and no way needs a person.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias

from becalm.errors import BecalmError, StoreFull, TransientError
from becalm.repository.extract import extract
from becalm.repository.reader import open_repository
from becalm.repository.tree import lookup
from becalm.testing.faulty_store import Crash, Fault, FaultyStore, faults_of
from becalm.testing.saved_points import PASSWORD
from becalm.testing.worlds import NAMESPACE, Broken, World, demand_verified, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from becalm.storage.base import ObjectStore

LONG_SECONDS = 3600.0
"""Longer than any lease lasts that nobody renews."""
NEXT, NEXT_VOLUMES = "the next run", {"next": {"file": b"of the next run"}}
GRACE_SECONDS = 10 * 86_400.0
"""Longer than prune waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Something that is done to a bucket, and may be cut short anywhere. `act` again is its plain retry."""

    name: str
    prepare: Callable[[World], None]
    """Brings a new world to where the scenario begins."""
    act: Callable[[World, ObjectStore], None]
    then: frozenset[str] = frozenset()
    """Keys of the runs whose points are there once it has succeeded."""
    ways: tuple[str, ...] = ()
    """The only ways that make sense before it has succeeded; all, unless said."""

    def world(self) -> World:
        """Return a world where it begins."""
        made = World()
        self.prepare(made)
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """A stop after which something did not hold."""

    scenario: str
    plan: Mapping[int, Fault]
    way: str
    reason: str

    def __str__(self) -> str:
        """Name what is needed to repeat it."""
        faults = ", ".join(f"{fault} at call {call}" for call, fault in self.plan.items())
        return f"{self.scenario}, {faults}, then {self.way}: {self.reason}"


@dataclass(slots=True)
class Tally:
    """What an enumeration has tried."""

    points: int = 0
    """Stops that came: each a call and a fault, or two of them."""
    pairs: int = 0
    """Those of them that were pairs."""
    calls: int = 0
    bad: list[Bad] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take in another one."""
        self.points += other.points
        self.pairs += other.pairs
        self.calls += other.calls
        self.bad += other.bad


def calls_of(scenario: Scenario, world: World) -> list[tuple[str, str]]:
    """Live through it once without a fault, and return its calls. Raises: Broken where even that does not end well."""
    alone = world.fork()
    store = FaultyStore(alone.store)
    scenario.act(alone, store)
    judge(alone, also=scenario.then)
    return store.calls


def enumerate_crashes(
    scenario: Scenario, *, every: int = 1, offset: int = 0, pairs: int = 0, seed: int = 0, ways: Iterable[str] | None = None
) -> Tally:
    """Stop the scenario at every call (or at every n-th, from an offset on) with every fault; then at sampled pairs of calls."""
    world = scenario.world()
    try:
        return _enumerate(scenario, world, every=every, offset=offset, pairs=pairs, random=Random(seed), ways=ways)
    finally:
        world.close()


def _enumerate(
    scenario: Scenario, world: World, *, every: int, offset: int, pairs: int, random: Random, ways: Iterable[str] | None
) -> Tally:
    calls = calls_of(scenario, world)
    tally = Tally(calls=len(calls))
    stops = ((number, fault) for number, (method, _) in enumerate(calls, 1) for fault in faults_of(method))
    for number, fault in islice(stops, offset, None, every):
        _stop(scenario, world, {number: fault}, tally, ways)
    for _ in range(pairs):
        first, second = sorted(random.sample(range(1, len(calls) + 1), 2))
        survived = [fault for fault in faults_of(calls[first - 1][0]) if fault not in {Fault.CRASH_BEFORE, Fault.CRASH_AFTER}]
        plan = {first: random.choice(survived), second: random.choice(faults_of(calls[second - 1][0]))}
        before = tally.points
        _stop(scenario, world, plan, tally, ways)
        tally.pairs += tally.points - before
    return tally


Way: TypeAlias = "Callable[[Scenario, World], None]"
WAYS: dict[str, tuple[Way, int]] = {}
"""The ways on, by name; each is gone after every n-th stop."""


def _way(name: str, *, every: int = 1) -> Callable[[Way], Way]:
    def note(function: Way) -> Way:
        WAYS[name] = (function, every)
        return function

    return note


@_way("nothing")
def nothing(scenario: Scenario, world: World) -> None:  # noqa: ARG001  (a way's signature)
    """Look at once."""
    judge(world)


@_way("the retry")
def retry(scenario: Scenario, world: World) -> None:
    """Do the same again, without a fault: it must succeed as it is."""
    scenario.act(world, world.store)
    world.wake()
    judge(world, also=scenario.then)


@_way("the retry much later", every=3)
def late_retry(scenario: Scenario, world: World) -> None:
    """Do the same again when every lease has ended."""
    world.clock.advance(LONG_SECONDS)
    retry(scenario, world)


@_way("the next run", every=2)
def next_run(scenario: Scenario, world: World) -> None:  # noqa: ARG001  (a way's signature)
    """Let the lease end and another run be made; then reclaim what nothing needs: mark it, and delete it ten days later."""
    world.clock.advance(LONG_SECONDS)
    world.init()
    try:
        world.protect(NEXT, NEXT_VOLUMES)
    except StoreFull:  # then space is got back first
        world.reclaim()
        world.protect(NEXT, NEXT_VOLUMES)
    also = frozenset({run for run, files in world.contents.items() if "next" in files})
    world.wake()
    judge(world, also=also)
    for _ in range(2):
        world.reclaim()
        world.clock.advance(GRACE_SECONDS)
    world.wake()
    judge(world, also=also)


@_way("verify", every=2)
def verify(scenario: Scenario, world: World) -> None:  # noqa: ARG001  (a way's signature)
    """Verify every byte; where a lock of the one that died is in the way, once it has ended."""
    try:
        demand_verified(world)
    except TransientError:
        world.clock.advance(LONG_SECONDS)
        demand_verified(world)


@_way("a restore", every=3)
def restore(scenario: Scenario, world: World) -> None:  # noqa: ARG001  (a way's signature)
    """Restore every volume of every point into a folder, and compare."""
    for point in world.visible():
        restore_point(world, point.tree, world.contents.get(point.run, {}))


def restore_point(world: World, tree: str, volumes: Mapping[str, Mapping[str, bytes]]) -> None:
    """Restore the volumes of a point as a mover does. Raises: Broken where a file is not what was written."""
    repository = open_repository(world.store, PASSWORD)
    for claim, files in volumes.items():
        with tempfile.TemporaryDirectory(prefix="becalm-proof-") as folder:
            done = extract(repository, lookup(repository, tree, f"volumes/{NAMESPACE}/{claim}").subtree, folder)
            found = {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
        if done.failures or found != files:
            raise Broken(f"the restore of {claim} differs: {done.failures or sorted(found.keys() ^ files.keys())}")


def _stop(scenario: Scenario, world: World, plan: Mapping[int, Fault], tally: Tally, ways: Iterable[str] | None) -> None:
    """Live through the scenario with these faults; then go on in every way."""
    stopped = world.fork()
    store = FaultyStore(stopped.store, plan)
    failure = _outcome(lambda: scenario.act(stopped, store))
    if not store.met:
        return
    tally.points += 1
    if isinstance(failure, Exception) and not isinstance(failure, BecalmError):
        tally.bad.append(Bad(scenario=scenario.name, plan=plan, way="at once", reason=f"not an error of Becalm's: {failure!r}"))
        return
    for name in ways or scenario.ways or [name for name, (_, every) in WAYS.items() if tally.points % every == 0]:
        problem = _outcome(_going(WAYS[name][0], scenario, stopped.fork()))
        if problem is not None:
            tally.bad.append(Bad(scenario=scenario.name, plan=plan, way=name, reason=f"{type(problem).__name__}: {problem}"))


def _going(way: Callable[[Scenario, World], None], scenario: Scenario, world: World) -> Callable[[], None]:
    return lambda: way(scenario, world)


def _outcome(act: Callable[[], Any]) -> BaseException | None:
    try:
        act()
    except (Crash, Exception) as error:  # noqa: BLE001  what it was is judged
        return error
    return None
