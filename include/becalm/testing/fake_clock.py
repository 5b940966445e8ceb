"""Time that moves only when a test says so."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)


class FakeClock:
    """A clock that stands still; `sleep` and `advance` move it, `jump` moves its wall clock alone. Safe in threads."""

    def __init__(self, start: datetime = NOON) -> None:
        """Begin at the given time."""
        self._lock = threading.Lock()
        self._now = start
        self._monotonic = 0.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        """Return the time that the test has set."""
        with self._lock:
            return self._now

    def monotonic(self) -> float:
        """Return the seconds that were slept or advanced."""
        with self._lock:
            return self._monotonic

    def sleep(self, seconds: float) -> None:
        """Move on at once, and remember how long."""
        self.slept.append(seconds)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self._now += timedelta(seconds=seconds)
            self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an administrator does; no time passes."""
        with self._lock:
            self._now += timedelta(seconds=seconds)
