"""Time as an argument. Nothing else in Becalm may read a clock or sleep."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> datetime:
        """Return the wall clock's time, with its zone (UTC)."""

    def monotonic(self) -> float:
        """Return seconds that never go backwards, from an arbitrary start."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the wall clock's time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the machine's monotonic seconds."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait by the machine's clock."""
        time.sleep(seconds)


@dataclass(slots=True)
class Deadline:
    """A span of time that began when this was made; it does not mind jumps of the wall clock."""

    clock: Clock
    seconds: float
    _began: float = 0.0

    def __post_init__(self) -> None:
        """Start counting."""
        self._began = self.clock.monotonic()

    def left(self) -> float:
        """Return the seconds left, never less than zero."""
        return max(0.0, self.seconds - (self.clock.monotonic() - self._began))

    def passed(self) -> bool:
        """Say whether the time is over."""
        return self.left() == 0.0


def parse_time(text: str) -> datetime:
    """Read an RFC 3339 time, as Kubernetes and restic write it, into a zoned datetime.

    Restic writes nanoseconds; they are cut to microseconds. Raises ValueError.
    """
    text = text.replace("Z", "+00:00").replace("z", "+00:00")
    if "." in text:
        head, _, tail = text.partition(".")
        digits = len(tail) - len(tail.lstrip("0123456789"))
        text = f"{head}.{tail[:digits][:6].ljust(6, '0')}{tail[digits:]}"
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def format_time(moment: datetime) -> str:
    """Write a time as RFC 3339 in UTC, with microseconds only where there are any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def seconds(span: timedelta | None) -> float:
    """Return a span in seconds; nothing is zero."""
    return span.total_seconds() if span else 0.0
