"""The sign of life of a restore: the time until which it surely lives, on the Secret of its movers, written again while it is at work.

A restore that cannot write it for a moment goes on; one that was killed stops writing, and what it left is removed once that time is over.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from becalm.actions import credentials
from becalm.errors import BecalmError

if TYPE_CHECKING:
    from datetime import datetime

    from becalm.actions.handover import Ports

LIVES = timedelta(minutes=15)
EVERY_SECONDS = 60.0


def alive_until(ports: Ports) -> datetime:
    """Return until when who is at work now surely lives, by the store's clock."""
    return ports.store.now() + LIVES


@dataclass(slots=True, kw_only=True)
class Pulse:
    """The sign of life of one restore, in each namespace where it has a Secret. Safe to call from several threads, as often as one likes."""

    run: str
    namespaces: tuple[str, ...]
    since: float
    """When it was written last, by the machine's steady clock."""
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def beat(self, ports: Ports) -> None:
        """Write the time anew, where it was not written for a minute. Raises nothing: who lives must not die of saying so."""
        if not self._turn.acquire(blocking=False):
            return
        try:
            now = ports.clock.monotonic()
            if now - self.since < EVERY_SECONDS:
                return
            self.since = now
            with suppress(BecalmError):
                for namespace in self.namespaces:
                    credentials.prolong(self.run, namespace, alive_until(ports), ports)
        finally:
            self._turn.release()
