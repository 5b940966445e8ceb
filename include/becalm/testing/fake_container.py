"""A container for tests of hooks: real processes under a chosen shell and few tools, and an application that knows how long it stood still.

It runs what it is told, with no cluster in between. It never cleans up after the command: a process that outlives its exec
goes on, as it would in a real container.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from becalm.errors import NotFound
from becalm.kube.base import ExecResult
from becalm.quiesce.deadman import FOLDERS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TOOLS = ("mkdir", "sleep", "cat", "rm", "setsid")
"""All that the dead-man switch may use beside the shell; the last is a wish."""

_LOG = 'printf "%s %s\\n" "$1" "$(/bin/date +%s.%N)" >>"$0"'


def _at_home(part: str) -> str:
    """Let a switch stand in the container's own folder: the machine's `/dev/shm` is shared by all containers of all tests."""
    return "TMPDIR" if part == ":".join(FOLDERS) else part


@dataclass(slots=True, kw_only=True)
class FakeContainer:
    """One container: a folder with a shell and tools in its `bin`, and a log of what befell its application."""

    folder: Path
    shell: str = "dash"
    """`dash`, `busybox`, or nothing for a container without a shell."""
    tools: tuple[str, ...] = TOOLS
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Lay out `bin` and `tmp`."""
        for name in ("bin", "tmp"):
            (self.folder / name).mkdir(parents=True)
        for tool in (*self.tools, *(("sh",) if self.shell else ())):
            (self.folder / "bin" / tool).symlink_to(self._program(tool))

    def _program(self, tool: str) -> str:
        wanted = "busybox" if self.shell == "busybox" else "dash" if tool == "sh" else tool
        return shutil.which(wanted) or f"/bin/{wanted}"

    @property
    def log(self) -> Path:
        """Where the application writes each freeze and thaw."""
        return self.folder / "log"

    def freeze(self, *, before: str = "", after: str = "", code: int = 0) -> tuple[str, ...]:
        """Return the application's freeze, with what it does around it (in a shell of its own)."""
        return ("/bin/sh", "-c", f"{before or ':'}\n{_LOG}\n{after or ':'}\nexit {code}", str(self.log), "F")

    def thaw(self, *, before: str = "", code: int = 0) -> tuple[str, ...]:
        """Return the application's thaw."""
        return ("/bin/sh", "-c", f"{before or ':'}\n{_LOG}\nexit {code}", str(self.log), "T")

    def events(self) -> list[tuple[str, float]]:
        """Return what befell the application: `F` or `T`, and when."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [(line.split()[0], float(line.split()[1])) for line in lines]

    def frozen_now(self) -> bool:
        """Say whether the application stands still."""
        events = self.events()
        return bool(events) and events[-1][0] == "F"

    def longest_freeze(self) -> float:
        """Return the longest time in one piece that the application stood still; up to now, if it still does."""
        longest, since = 0.0, None
        for word, moment in [*self.events(), ("T", time.time())]:
            if word == "F" and since is None:
                since = moment
            elif word == "T" and since is not None:
                longest, since = max(longest, moment - since), None
        return longest

    def start(self, command: Sequence[str], *, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a command as an exec does, in a session of its own."""
        program = shutil.which(command[0], path=str(self.folder / "bin"))
        if program is None:
            raise FileNotFoundError(command[0])
        variables = {"PATH": str(self.folder / "bin"), "TMPDIR": str(self.folder / "tmp"), **(environment or {})}
        process = subprocess.Popen(
            [_at_home(part) for part in command],
            executable=program,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.running.append(process)
        return process

    def exec(
        self, namespace: str, pod: str, *, container: str, command: Sequence[str], stdin: bytes = b"", timeout_seconds: float = 30
    ) -> ExecResult:  # the signature is an executor's
        """Run a command to its end, or leave it running when the time is over: then its outcome is unknown."""
        del namespace, pod, container, stdin
        try:
            process = (
                self.start(command) if "/" not in command[0] else subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            )
        except FileNotFoundError:
            return ExecResult(stdout=b"", stderr=f'exec: "{command[0]}": executable file not found in $PATH'.encode(), exit_code=127)
        try:
            out, err = process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            return ExecResult(stdout=b"", stderr=b"", exit_code=None)
        return ExecResult(stdout=out, stderr=err, exit_code=process.returncode)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill one command as the end of a node's patience does: at once, with its whole group."""
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError as error:
            raise NotFound("the process is gone") from error
