"""What was read, kept for a while: old answers at once, new ones as soon as they are there.

A page never waits long for a bucket. What is older than its time is read anew beside, by a few threads, once at a time for each
key; until then the old answer stands, with the moment at which it was true. Nothing is kept beyond a fixed number of keys.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from becalm.errors import BecalmError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from becalm.clock import Clock

K = TypeVar("K")
V = TypeVar("V")


class StillReading(Exception):  # noqa: N818  (no failure: the answer is on its way)
    """The bucket is being read for the first time; the page comes by itself when it is."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[V]):
    """What was read, when, and what has gone wrong since."""

    value: V
    read: datetime
    problem: BecalmError | None = None


@dataclass(slots=True)
class _Held(Generic[V]):
    answer: Answer[V]
    monotonic: float


class Cache(Generic[K, V]):
    """Answers by key. `read` is called by a thread of the pool, and may raise Becalm's errors."""

    def __init__(
        self,
        read: Callable[[K, V | None], V],
        *,
        clock: Clock,
        pool: ThreadPoolExecutor,
        fresh_seconds: float,
        patience_seconds: float,
        most: int,
    ) -> None:
        """Begin empty. `read` is given what was known of the key before."""
        self._read, self._clock, self._pool = read, clock, pool
        self._fresh, self._patience, self._most = fresh_seconds, patience_seconds, most
        self._lock = threading.Lock()
        self._held: OrderedDict[K, _Held[V]] = OrderedDict()
        self._reading: dict[K, Future[Answer[V]]] = {}

    def get(self, key: K, *, patience_seconds: float | None = None) -> Answer[V]:
        """Return the answer, however old; without one, wait for it a little. Raises StillReading, and what reading raises."""
        with self._lock:
            held = self._held.get(key)
            if held is not None:
                self._held.move_to_end(key)
                if self._clock.monotonic() - held.monotonic <= self._fresh:
                    return held.answer
            reading = self._begin(key, held)
        if held is not None:
            return held.answer
        try:
            return reading.result(timeout=self._patience if patience_seconds is None else patience_seconds)
        except NotYet:
            raise StillReading from None

    def ask(self, key: K) -> Answer[V] | None:
        """Return the answer if there is one, and have it read if not."""
        try:
            return self.get(key, patience_seconds=0)
        except StillReading:
            return None

    def settle(self) -> None:
        """Wait until nothing is being read."""
        with self._lock:
            waiting = list(self._reading.values())
        for one in waiting:
            one.exception()

    def forget(self, key: K) -> None:
        """Have it read anew when it is next asked for."""
        with self._lock:
            self._held.pop(key, None)

    def _begin(self, key: K, held: _Held[V] | None) -> Future[Answer[V]]:
        """Have the key read, unless it is being read. The lock is held."""
        if key not in self._reading:
            self._reading[key] = self._pool.submit(self._work, key, held)
        return self._reading[key]

    def _work(self, key: K, held: _Held[V] | None) -> Answer[V]:
        try:
            answer = self._answer(key, held)
        except BaseException:
            with self._lock:
                self._reading.pop(key, None)
            raise
        with self._lock:
            self._held[key] = _Held(answer, self._clock.monotonic())
            self._held.move_to_end(key)
            while len(self._held) > self._most:
                self._held.popitem(last=False)
            self._reading.pop(key, None)
        return answer

    def _answer(self, key: K, held: _Held[V] | None) -> Answer[V]:
        """Read; what fails leaves the old answer standing, with the problem beside it. Raises where there is none."""
        known = held.answer if held is not None else None
        try:
            value = self._read(key, known.value if known else None)
        except BecalmError as error:
            if known is None:
                raise
            return Answer(known.value, known.read, error)
        return Answer(value, self._clock.now())
