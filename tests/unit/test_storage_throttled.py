"""A bucket that throttles for minutes: it is borne with, not for ever, and the error says for how long."""

from __future__ import annotations

import pytest

from becalm.errors import StoreUnavailable, Throttled
from becalm.storage.wrappers import Retrying, Wrapper
from becalm.testing.fake_clock import FakeClock
from becalm.testing.memory_store import MemoryStore


class Busy(Wrapper):
    """A store that throttles until a moment, and asks for so much patience."""

    def __init__(self, clock: FakeClock, seconds: float, *, asks: float | None = None, error: type[Exception] = Throttled) -> None:
        super().__init__(MemoryStore(clock=clock))
        self.clock, self.seconds, self.asks, self.error, self.calls = clock, seconds, asks, error, 0

    def _meet(self, key: str) -> None:
        self.calls += 1
        if self.clock.monotonic() < self.seconds:
            raise self.error("the server asks for patience", where=key, delay_seconds=self.asks)

    def put(self, key, body, **conditions):
        """Throttle, or write."""
        self._meet(key)
        return super().put(key, body, **conditions)

    def list(self, prefix):
        """Throttle, or list."""
        self._meet(prefix)
        yield from super().list(prefix)


@pytest.mark.parametrize("minutes", [1, 5, 9])
def test_a_mover_bears_with_minutes_of_throttling(minutes: int) -> None:
    """With waits that grow to a quarter of a minute, and then stay."""
    clock = FakeClock()
    busy = Busy(clock, minutes * 60)
    store = Retrying(busy, clock=clock, attempts=12, throttled_seconds=600)
    store.put("data/x", b"body")

    assert minutes * 60 <= clock.monotonic() < minutes * 60 + 16
    assert busy.calls < 20 + minutes * 8
    assert [info.key for info in store.list("data/")] == ["data/x"]


@pytest.mark.parametrize("call", [lambda store: store.put("data/x", b"body"), lambda store: list(store.list("data/"))])
def test_throttling_without_end_is_an_error_that_says_for_how_long(call) -> None:
    """It names the object and what a person can do; nothing was written."""
    clock = FakeClock()
    busy = Busy(clock, 1e9, asks=7)
    with pytest.raises(Throttled, match=r"data/x?: the server asks for patience, and has done so for 6\d\d s") as caught:
        call(Retrying(busy, clock=clock, attempts=12, throttled_seconds=600))

    assert "fewer movers" in caught.value.hint
    assert caught.value.delay_seconds == 7
    assert 600 <= clock.monotonic() < 640


def test_a_server_that_asks_for_hours_is_asked_again_sooner() -> None:
    """Whoever says `Retry-After: 86400` does not stop a backup for a day."""
    clock = FakeClock()
    Retrying(Busy(clock, 100, asks=86400), clock=clock, throttled_seconds=600).put("key", b"x")

    assert clock.slept == [120]


def test_a_server_that_is_down_is_not_borne_with_like_one_that_throttles() -> None:
    """It is raised after so many attempts, within seconds on the command line."""
    clock = FakeClock()
    with pytest.raises(StoreUnavailable):
        Retrying(Busy(clock, 1e9, error=StoreUnavailable), clock=clock, throttled_seconds=600).put("key", b"x")

    assert clock.monotonic() < 10
