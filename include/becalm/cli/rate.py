"""How fast bytes are read, and how long the rest will take: said beside what a work reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.cli.console import human_bytes

if TYPE_CHECKING:
    from becalm.actions.handover import Progress
    from becalm.clock import Clock

_TELLING = 1.0
"""Seconds before a rate means anything, and between two lines that differ only by it."""


def rated(report: Progress, clock: Clock, *, lively: bool) -> Progress:
    """Return a place to report bytes to; it says them to `report` with their rate. Where it is not lively, only now and then."""
    return _Rated(report, clock, lively=lively)


class _Rated:
    def __init__(self, report: Progress, clock: Clock, *, lively: bool) -> None:
        self._report, self._clock, self._lively = report, clock, lively
        self._message = ""
        self._began = self._said = 0.0

    def __call__(self, message: str, *, done: int | None = None, total: int | None = None) -> None:
        """Say one thing; `done` and `total` are bytes."""
        now = self._clock.monotonic()
        if message != self._message:
            self._message, self._began, self._said = message, now, 0.0
        if done is None or total is None:
            self._report(message)
            return
        if now - self._said < (_TELLING if self._lively else 30 * _TELLING) and done < total:
            return
        self._said = now
        self._report(f"{message}: {human_bytes(done)} of {human_bytes(total)}{_pace(done, total, now - self._began)}")


def _pace(done: int, total: int, seconds: float) -> str:
    """Say how fast it goes and what is left. Pure."""
    if seconds < _TELLING or done <= 0:
        return ""
    rate = done / seconds
    left = max(0, total - done) / rate
    return f", {human_bytes(rate)}/s" + (f", {_span(left)} left" if done < total else "")


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
