"""The sandbox's own clock, as the API writes it. A cluster has a clock of its own, so nothing here takes one as an argument."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


def stamp(after_seconds: float = 0) -> str:
    """Return now, or a time after it, in whole seconds, as metadata and conditions carry it."""
    return (datetime.now(UTC) + timedelta(seconds=after_seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_stamp(unix_nanoseconds: int | None = None) -> str:
    """Return a time in microseconds, as log lines carry it."""
    seconds = (time.time_ns() if unix_nanoseconds is None else unix_nanoseconds) / 1e9
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def read_stamp(text: str) -> datetime:
    """Read a time that the API or a client wrote."""
    return datetime.fromisoformat(text)
