"""Interleavings: several actors share one bucket, each stops before every call, and a schedule says who goes on.

A schedule is a list of numbers: `2` lets the actor 2 make its next call, `~2` (that is -3) kills it there. Once the list has
ended, whoever is left runs to its end, one after the other. The same list gives the same run again, so that what fails can be
shrunk, printed and kept. Actors are threads; only one of them moves at a time.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import permutations
from typing import TYPE_CHECKING, Self, TypeAlias, TypeVar

from becalm.errors import BecalmError
from becalm.storage.wrappers import Wrapper
from becalm.testing.faulty_store import Crash
from becalm.testing.worlds import Broken, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future
    from datetime import datetime
    from random import Random
    from types import TracebackType

    from becalm.storage.base import Body, ETag, Key, ObjectInfo, ObjectStore, Span

T = TypeVar("T")

Schedule: TypeAlias = "Sequence[int]"
Chooser: TypeAlias = "Callable[[Sequence[int]], int | None]"
"""Given the actors that can go on, the one that does; `~actor` kills it; nothing lets all run to their ends."""

STUCK_SECONDS = 60.0
PAGE = 4
"""So many objects of a list are one call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """Who acts on which world, and what must hold at the end."""

    name: str
    prepare: Callable[[World], None]
    actors: tuple[Callable[[World, ObjectStore], None], ...]
    judge: Callable[[World], object]

    def world(self) -> World:
        """Return a world where the play begins."""
        made = World()
        self.prepare(made)
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What came of one run."""

    schedule: tuple[int, ...]
    """Who moved, in order; its beginning is what was chosen."""
    chosen: int
    """How many of these moves were chosen."""
    errors: tuple[BaseException | None, ...]
    """How each actor ended."""
    problem: str = ""
    """What did not hold; empty when all did."""


class _Actor:
    """One actor: its threads that wait for their turn, and whether it is over."""

    def __init__(self) -> None:
        self.waiting: deque[threading.Lock] = deque()
        self.moving = False
        self.over = False
        self.killed = False


class _Paused(Wrapper):
    """The store as one actor sees it: each call waits for its turn."""

    def __init__(self, stage: _Stage, actor: _Actor, store: ObjectStore) -> None:
        super().__init__(store)
        self._stage = stage
        self._actor = actor

    def get(self, key: Key, span: Span | None = None) -> bytes:
        return self._turn(lambda: self._store.get(key, span))

    def put(
        self, key: Key, body: Body, *, if_absent: bool = False, if_match: ETag | None = None, retain_until: datetime | None = None
    ) -> ETag:
        return self._turn(lambda: self._store.put(key, body, if_absent=if_absent, if_match=if_match, retain_until=retain_until))

    def head(self, key: Key) -> ObjectInfo:
        return self._turn(lambda: self._store.head(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        found = iter(self._store.list(prefix))
        while page := self._turn(lambda: _page(found)):
            yield from page
            if len(page) < PAGE:
                return

    def delete(self, key: Key, *, if_match: ETag | None = None) -> None:
        self._turn(lambda: self._store.delete(key, if_match=if_match))

    def retain(self, key: Key, until: datetime) -> None:
        self._turn(lambda: self._store.retain(key, until))

    def _turn(self, call: Callable[[], T]) -> T:
        self._stage.wait_for_turn(self._actor)
        try:
            return call()
        finally:
            self._stage.moved(self._actor)


def _page(found: Iterator[ObjectInfo]) -> list[ObjectInfo]:
    return [info for _, info in zip(range(PAGE), found, strict=False)]


class _Stage:
    """Where one run takes place."""

    def __init__(self, count: int) -> None:
        self.actors = [_Actor() for _ in range(count)]
        self._events: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._lock = threading.Lock()

    def wait_for_turn(self, actor: _Actor) -> None:
        """Stop until the schedule names this actor. Raises: Crash (it is killed)."""
        turn = threading.Lock()
        turn.acquire()
        with self._lock:
            if actor.killed:
                raise Crash("killed")
            actor.waiting.append(turn)
        self._events.put(None)
        turn.acquire()
        self._die(actor)

    def _die(self, actor: _Actor) -> None:
        if actor.killed:
            self.moved(actor)
            raise Crash("killed")

    def moved(self, actor: _Actor) -> None:
        """Say that the call was made."""
        with self._lock:
            actor.moving = False
            waits = bool(actor.waiting)
        if waits:
            self._events.put(None)

    def end(self, actor: _Actor) -> None:
        """Say that an actor is over."""
        with self._lock:
            actor.over, actor.moving = True, False
        self._events.put(None)

    def rest(self) -> list[int]:
        """Wait until everybody stands before a call or is over; return who can go on."""
        while True:
            with self._lock:
                if all(actor.over or (actor.waiting and not actor.moving) for actor in self.actors):
                    return [number for number, actor in enumerate(self.actors) if not actor.over]
            try:
                self._events.get(timeout=STUCK_SECONDS)
            except queue.Empty:
                raise Broken("the actors are stuck: one waits for something that is not a call to the store") from None

    def let(self, number: int, *, kill: bool) -> None:
        """Give an actor its turn, or its end."""
        actor = self.actors[number]
        with self._lock:
            turns = list(actor.waiting) if kill else [actor.waiting[0]]
            for _ in turns:
                actor.waiting.popleft()
            actor.moving, actor.killed = True, actor.killed or kill
        for turn in turns:
            turn.release()


@dataclass(slots=True)
class Theatre:
    """Threads for actors, kept from one run to the next. Use it as a context manager."""

    actors: int = 4
    _pool: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        """Hire."""
        self._pool = ThreadPoolExecutor(max_workers=self.actors, thread_name_prefix="actor")

    def __enter__(self) -> Self:
        """Nothing to do."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Let the threads go."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def play(self, cast: Cast, world: World, choose: Chooser) -> Played:
        """Run the cast on a copy of the world; then judge it."""
        own = world.fork()
        stage = _Stage(len(cast.actors))
        acts = [self._pool.submit(_act, stage, actor, act, own) for actor, act in zip(stage.actors, cast.actors, strict=True)]
        moves: list[int] = []
        chosen = 0
        free = False
        while ready := stage.rest():
            choice = None if free else choose(ready)
            if choice is None:
                free, choice = True, ready[0]
            else:
                chosen += 1
            moves.append(choice)
            stage.let(choice if choice >= 0 else ~choice, kill=choice < 0)
        errors = tuple(_ended(act) for act in acts)
        return Played(schedule=tuple(moves), chosen=chosen, errors=errors, problem=_problem(cast, own, errors))


def _act(stage: _Stage, actor: _Actor, act: Callable[[World, ObjectStore], None], world: World) -> None:
    try:
        act(world, _Paused(stage, actor, world.store))
    finally:
        stage.end(actor)


def _ended(act: Future[None]) -> BaseException | None:
    try:
        act.result()
    except (Crash, Exception) as error:  # noqa: BLE001  how it ended is judged
        return error
    return None


def _problem(cast: Cast, world: World, errors: Sequence[BaseException | None]) -> str:
    for number, error in enumerate(errors):
        if error is not None and not isinstance(error, BecalmError | Crash):
            return f"actor {number} ended with {error!r}"
    try:
        cast.judge(world)
    except (Broken, BecalmError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def following(schedule: Schedule) -> Chooser:
    """Choose as a schedule says; a move that its actor cannot make is left out."""
    left = deque(schedule)

    def choose(ready: Sequence[int]) -> int | None:
        while left:
            move = left.popleft()
            if (move if move >= 0 else ~move) in ready:
                return move
        return None

    return choose


def by_lot(random: Random, *, kill: float = 0.002) -> Chooser:
    """Choose by lot, now by ranks and now at every move: the first finds those who sleep long, the second those who race."""
    return by_rank(random, kill=kill) if random.random() < 0.7 else at_random(random, kill=kill)


def at_random(random: Random, *, kill: float = 0.002) -> Chooser:
    """Now and then another actor goes on, and once in a long while one is killed."""
    current = -1
    switch = random.choice((0.05, 0.15, 0.4))

    def choose(ready: Sequence[int]) -> int:
        nonlocal current
        if current not in ready or random.random() < switch:
            current = random.choice(ready)
        return ~current if random.random() < kill else current

    return choose


def by_rank(random: Random, *, actors: int = 4, moves: int = 160, kill: float = 0.002) -> Chooser:
    """The first in rank always goes on; at a few moves drawn by lot whoever is first falls to the end.

    A fault that needs so many falls is met with a chance that does not shrink with the length of the run (Burckhardt et al., "A
    randomized scheduler with probabilistic guarantees of finding bugs", ASPLOS 2010).
    """
    ranks = random.sample(range(actors), actors)
    falls = set(random.sample(range(moves), random.randint(1, 4)))
    place = 0

    def choose(ready: Sequence[int]) -> int:
        nonlocal place
        first = min(ready, key=ranks.index)
        if place in falls:
            ranks.remove(first)
            ranks.append(first)
            first = min(ready, key=ranks.index)
        place += 1
        return ~first if random.random() < kill else first

    return choose


def sleepers(actors: int, *, calls: int = 60, long: int = 400) -> Iterator[tuple[int, ...]]:
    """Yield the schedules of actors that fall asleep: each at each of its calls, then another at each of its own; the rest run to their end.

    Then those who sleep wake up, in either order. Of two actors the second sleeps while the first ends.
    """
    for first, second, *rest in permutations(range(actors)):
        others = tuple(number for number in rest for _ in range(long))
        for before in range(calls):
            for between in (*range(1, calls), long):
                asleep = (first,) * before + (second,) * between + others
                yield asleep + (first,) * long
                if rest:
                    yield asleep + (second,) * long


def shrink(theatre: Theatre, cast: Cast, world: World, schedule: Schedule, *, attempts: int = 400) -> tuple[int, ...]:
    """Return a shorter schedule that fails too: parts of it are left out as long as the fault stays."""
    best = tuple(schedule)
    size = max(1, len(best) // 2)
    while size and attempts > 0:
        place = 0
        while place < len(best) and attempts > 0:
            attempts -= 1
            shorter = best[:place] + best[place + size :]
            if theatre.play(cast, world, following(shorter)).problem:
                best = shorter
            else:
                place += size
        size //= 2
    return best
