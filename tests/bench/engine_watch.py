"""One command, watched: its seconds, its processor seconds, and the most memory that it and its children held together.

Memory is the sum of the proportional shares (PSS) of all processes of the tree: what two of them share is counted once. The kernel walks
every page for that number, on the processors that the command works on; so the resident pages, which it counts anyway, are looked at every
100 ms, and the shares only when those have grown.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from becalm.testing.processes import descendants

if TYPE_CHECKING:
    from collections.abc import Mapping

LOOK_SECONDS = 0.1
GROWN = 1.01
"""The shares are read again when the resident pages are this many times those at the last reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one command took."""

    seconds: float
    cpu: float
    """Processor seconds, user and system, of the process and of those it has waited for."""
    memory: float
    """MiB."""
    output: str = ""


class CommandFailedError(Exception):
    """A command that is measured did not do its work."""


def watch(command: list[str], environment: Mapping[str, str], *, cwd: Path | None = None) -> Measured:
    """Run a command to its end. Raises CommandFailedError where it ends with anything but zero."""
    os.sync()  # what the one before has left to write is not this one's burden
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        began = time.monotonic()
        process = subprocess.Popen(command, env=dict(environment), cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
        looker = _Looker(process.pid)
        looker.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            seconds = time.monotonic() - began
            looker.stop()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        if process.returncode:
            errors.seek(0)
            told = (errors.read()[-3000:] + output.read()[-1000:]).decode(errors="replace")
            raise CommandFailedError(f"{' '.join(command)[:300]} ended with {process.returncode}: {told}")
        return Measured(
            seconds=seconds, cpu=usage.ru_utime + usage.ru_stime, memory=looker.most / 1024, output=output.read().decode(errors="replace")
        )


class _Looker(threading.Thread):
    """Looks at the memory of a tree of processes until it is told to stop."""

    def __init__(self, root: int) -> None:
        super().__init__(name="looker", daemon=True)
        self.most = 0
        self._root = root
        self._resident = 0
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(LOOK_SECONDS):
            processes = descendants(self._root)
            resident = sum(map(_resident, processes))
            if resident > self._resident * GROWN:
                self._resident = resident
                self.most = max(self.most, sum(map(_share, processes)))

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def _resident(pid: int) -> int:
    """Return a process's resident pages; nothing where it has ended."""
    with suppress(OSError), open(f"/proc/{pid}/statm", "rb") as counters:  # noqa: PTH123  (read some hundred times a second)
        return int(counters.read().split()[1])
    return 0


def _share(pid: int) -> int:
    """Return a process's share in KiB; nothing where it has ended."""
    with suppress(OSError), open(f"/proc/{pid}/smaps_rollup", "rb") as rollup:  # noqa: PTH123  (read some hundred times a second)
        for line in rollup:
            if line.startswith(b"Pss:"):
                return int(line.split()[1])
    return 0
