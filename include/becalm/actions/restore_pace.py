"""How fast the data of one volume comes, and how long it still takes: from what its mover says, and when it said so. It asks nobody."""

from __future__ import annotations

import math
from dataclasses import dataclass

LEAST_SECONDS = 2.0
"""Before that a rate says more of the mover's start than of the volume."""
MEBIBYTE = 1 << 20


@dataclass(slots=True)
class Pace:
    """What was seen of one mover. What was there when it was first seen is no measure of its rate."""

    _since: float | None = None
    _first: int = 0

    def told(self, done: int, *, size: int, now: float) -> str:
        """Take in how many bytes are done; say the rate and the time that is left, or nothing where neither is known yet."""
        if self._since is None or done < self._first:  # a mover that began anew counts anew
            self._since, self._first = now, done
        elapsed, moved = now - self._since, done - self._first
        if elapsed < LEAST_SECONDS or moved <= 0:
            return ""
        rate = moved / elapsed
        left = f", {_duration(math.ceil((size - done) / rate))} left" if size > done else ""
        return f"{rate / MEBIBYTE:.1f} MiB/s{left}"


def _duration(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
