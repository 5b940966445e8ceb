"""One container: its process run after run, its state as the API shows it. Knows its pod only as folders and words."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

from becalm.sandbox.environment import CONTAINER_VARIABLE, StartError, Surroundings, first_command
from becalm.sandbox.logbook import Logbook, lines_of
from becalm.sandbox.processes import end_marked, signal_group
from becalm.sandbox.times import stamp

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from becalm.model import Manifest

_MESSAGE_LIMIT = 4096
_START_FAILED = 128


class Container:
    """Runs one container's command; tells `changed` whenever its state is another."""

    def __init__(self, spec: Manifest, *, mark: str, folder: Path, restarts: int, changed: Callable[[], None]) -> None:
        """Begin in the state waiting."""
        self.spec = spec
        self.name: str = spec["name"]
        self.mark = mark
        self.restarts = restarts
        self.ready = False
        self.state: Manifest = {"waiting": {"reason": "ContainerCreating"}}
        self.last_state: Manifest = {}
        self.surroundings: Surroundings | None = None
        self.logbook: Logbook | None = None
        self._folder = folder
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        """Say whether its process runs."""
        return "running" in self.state

    @property
    def exit_code(self) -> int | None:
        """Return how its last run ended."""
        ended = self.state.get("terminated") or self.last_state.get("terminated")
        return None if ended is None else int(ended["exitCode"])

    @property
    def leader(self) -> int | None:
        """Return its first process, while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    def log_path(self, restart: int) -> Path:
        """Return where the log of one run stands."""
        return self._folder / f"{restart}.log"

    def wait(self, reason: str, message: str = "") -> None:
        """Show why it does not run."""
        waiting = {"reason": reason, "message": message} if message else {"reason": reason}
        if self.state != {"waiting": waiting}:
            if "terminated" in self.state:
                self.last_state = self.state
            self.state = {"waiting": waiting}
            self._changed()

    async def run(self, surroundings: Surroundings) -> int:
        """Run the command once, to its end; return its exit code."""
        self.surroundings = surroundings
        self.logbook = Logbook(self.log_path(self.restarts))
        if "terminated" in self.state:
            self.last_state = self.state
        started = stamp()
        try:
            words = surroundings.words(first_command(self.spec, surroundings.declared))
            self._process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=surroundings.variables,
                cwd=surroundings.folder,
                start_new_session=True,
            )
        except (StartError, OSError) as error:
            self.logbook.end()
            self._end(_START_FAILED, reason="StartError", message=f"failed to create containerd task: {error}", started=started)
            return _START_FAILED
        self.state = {"running": {"startedAt": started}}
        self.ready = "readinessProbe" not in self.spec
        self._changed()
        return await self._until_the_end(self._process, started)

    async def _until_the_end(self, process: asyncio.subprocess.Process, started: str) -> int:
        assert process.stdout is not None
        assert self.logbook is not None
        taking = asyncio.create_task(self.logbook.take(process.stdout))
        try:
            returned = await process.wait()
        except asyncio.CancelledError:
            signal_group(process.pid, signal.SIGKILL)
            raise
        finally:
            end_marked(CONTAINER_VARIABLE, self.mark)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(taking, 1)
            self.logbook.end()
        code = returned if returned >= 0 else 128 - returned
        self._end(code, reason="Completed" if code == 0 else "Error", message=self._last_words(code), started=started)
        return code

    def terminate(self, number: signal.Signals) -> None:
        """Send a signal to its processes: to the first one's group, and with SIGKILL to all that carry its mark."""
        if self.leader is not None:
            signal_group(self.leader, signal.SIGCONT)
            signal_group(self.leader, number)
        if number == signal.SIGKILL:
            end_marked(CONTAINER_VARIABLE, self.mark)

    def _end(self, code: int, *, reason: str, message: str, started: str) -> None:
        ended: Manifest = {
            "exitCode": code,
            "reason": reason,
            "startedAt": started,
            "finishedAt": stamp(),
            "containerID": f"process://{self.mark}",
        }
        if message:
            ended["message"] = message
        self._process = None
        self.ready = False
        self.state = {"terminated": ended}
        self._changed()

    def _last_words(self, code: int) -> str:
        assert self.surroundings is not None
        try:
            text = self.surroundings.termination_log.read_bytes()[-_MESSAGE_LIMIT:]
        except OSError:
            text = b""
        if not text and code and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            lines, _ = lines_of(self.log_path(self.restarts), tail=80, since=None)
            text = b"".join(line.split(b" ", 1)[1] for line in lines)[-2048:]
        return text.decode(errors="replace")

    def status(self) -> Manifest:
        """Return its status as the API shows it."""
        status: Manifest = {
            "name": self.name,
            "image": self.spec["image"],
            "imageID": f"sandbox://{self.spec['image']}",
            "lastState": self.last_state,
            "ready": self.ready,
            "restartCount": self.restarts,
            "started": self.running,
            "state": self.state,
        }
        if "waiting" not in self.state or self.last_state:
            status["containerID"] = f"process://{self.mark}"
        return status
