"""Histories by chance: capture, crash, retry, prune, pin and jumps of the clock, in any order. What was committed and is kept stays whole."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from becalm.catalog.pins import pin
from becalm.errors import BecalmError
from becalm.testing.builders import a_policy
from becalm.testing.faulty_store import Crash, Fault, FaultyStore
from becalm.testing.scenarios import CHANGED, SEVERAL, SMALL
from becalm.testing.worlds import POLICY, Volumes, World, demand_verified, judge, key_of

VOLUMES = st.sampled_from([SMALL, CHANGED, SEVERAL])
LEASE_SECONDS = 901


class History(RuleBasedStateMachine):
    """A repository that keeps its newest point, and those that are pinned."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(policy=a_policy(name=POLICY, retention={"last": 1}))
        self.runs = 0
        self.pinned: set[str] = set()

    @initialize()
    def begin(self) -> None:
        """Begin with an empty repository."""
        self.world.init()

    @rule(volumes=VOLUMES)
    def capture(self, volumes: Volumes) -> None:
        """A run after every lease has ended succeeds, whatever happened before; its point is the one to keep."""
        self.world.clock.advance(LEASE_SECONDS)
        self.runs += 1
        run = key_of(f"run {self.runs}")
        self.world.protect(f"run {self.runs}", volumes)
        self.world.keep = frozenset({run} | self.pinned)

    @rule(volumes=VOLUMES, call=st.integers(1, 110), fault=st.sampled_from(list(Fault)))
    def crash(self, volumes: Volumes, call: int, fault: Fault) -> None:
        """A run that something happens to may end in any way. What it showed, and what it did not, is decided by the bucket."""
        self.world.clock.advance(LEASE_SECONDS)
        self.runs += 1
        with suppress(BecalmError, Crash):
            self.world.protect(f"run {self.runs}", volumes, FaultyStore(self.world.store, {call: fault}))
        newest = self.newest()
        if newest is not None:
            self.world.keep = frozenset({newest} | self.pinned)

    @rule(call=st.integers(1, 110), fault=st.sampled_from(list(Fault)))
    def crash_of_a_prune(self, call: int, fault: Fault) -> None:
        """A prune, too."""
        self.world.clock.advance(LEASE_SECONDS)
        with suppress(BecalmError, Crash):
            self.world.reclaim(FaultyStore(self.world.store, {call: fault}))

    @precondition(lambda self: self.newest() is not None)
    @rule()
    def prune(self) -> None:
        """A prune after every lease has ended succeeds, where there is a point to keep: without one it refuses."""
        self.world.clock.advance(LEASE_SECONDS)
        self.world.reclaim()

    @rule(days=st.sampled_from([1, 8, 40]))
    def wait(self, days: int) -> None:
        """Time passes."""
        self.world.clock.advance(days * 86_400)

    @precondition(lambda self: self.newest() is not None)
    @rule()
    def pin_the_newest(self) -> None:
        """A pinned point stays for ever."""
        point = self.world.visible()[-1]
        pin(self.world.store, point.id, now=self.world.clock.now())
        self.pinned.add(point.run)

    @invariant()
    def what_is_visible_is_whole(self) -> None:
        """Each point reads as it was written, and what must be there is."""
        if self.runs:
            judge(self.world)

    def teardown(self) -> None:
        """At the end verify finds nothing."""
        if self.runs:
            demand_verified(self.world)

    def newest(self) -> str | None:
        """Return the run of the point that retention keeps."""
        found = self.world.visible() if self.runs else []
        return found[-1].run if found else None


TestHistory = History.TestCase
TestHistory.settings = settings(max_examples=8, stateful_step_count=8, deadline=None, suppress_health_check=list(HealthCheck))
