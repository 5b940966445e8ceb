"""How far a long work has come, and whether it must stop. The worker counts; whoever waits reads, or stops it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass(slots=True)
class Progress:
    """Counters that several threads add to. Reading them without the lock is fine: they only tell."""

    files: int = 0
    bytes: int = 0
    path: str = ""
    _error: BaseException | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, *, files: int = 0, size: int = 0) -> None:
        """Count. Raises what `stop` was given."""
        with self._lock:
            self.files += files
            self.bytes += size
        if self._error is not None:
            raise self._error

    def stop(self, error: BaseException) -> None:
        """Make the work end with this error at its next step."""
        self._error = self._error or error

    def check(self) -> None:
        """Go on, or raise what `stop` was given."""
        if self._error is not None:
            raise self._error
