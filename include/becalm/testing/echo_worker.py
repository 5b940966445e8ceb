"""A worker for the tests of a crew: it says what it got, writes into slots, raises, and dies."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

from becalm.errors import Damaged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from becalm.repository.crew import Answers


class Echo:
    """Answers with its setup, the message, and what the files hold."""

    def __init__(self, setup: str, answers: Answers) -> None:
        """Begin."""
        self._setup, self._answers = setup, answers

    def handle(self, message: Any, files: Sequence[int]) -> None:
        """Do what the message says."""
        if message == "raise":
            raise Damaged("broken", where="here", hint="mend it")
        if message == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if isinstance(message, tuple):
            slot, data = message
            self._answers.slots[slot][: len(data)] = data
        contents = [os.pread(fd, 1 << 20, 0) for fd in files]
        for fd in files:
            os.close(fd)
        self._answers.send((self._setup, message, contents))
