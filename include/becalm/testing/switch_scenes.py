"""Scenes for the dead-man switch: a container with each shell, and the switch's commands at hand.

Everything in a scene is a real process in real time.
"""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from becalm.quiesce import deadman
from becalm.quiesce.deadman import Switch, read_arm, read_disarm
from becalm.testing.fake_container import TOOLS, FakeContainer

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence

T = TypeVar("T")
TIME = 2.0
"""Seconds after which a switch fires whose firing is what a test is about."""
PATIENT = 300.0
"""Seconds that no test waits: such a switch is there, and does not fire."""
DEADLINE = 120.0
"""When a state that should come has not come."""

SHELLS = {"dash": ("dash", TOOLS), "dash without setsid": ("dash", TOOLS[:-1]), "busybox": ("busybox", TOOLS)}
SWITCH = Switch(container="db", run="0a1b2c3d4e", hook="5f6a7b", attempt="1")


@dataclass(frozen=True, slots=True)
class Scene:
    """A container with one switch."""

    box: FakeContainer
    shell: str

    def arm(
        self,
        *,
        switch: Switch = SWITCH,
        seconds: float = PATIENT,
        freeze: Sequence[str] = (),
        thaw: Sequence[str] = (),
        script: str = deadman.SCRIPT,
    ) -> subprocess.Popen[bytes]:
        """Start the command that arms and freezes; of another script, if one is given."""
        command = deadman.arm(
            switch, timeout_seconds=seconds, freeze=freeze or self.box.freeze(), thaw=thaw or self.box.thaw(), folders=("TMPDIR",)
        )
        return self.box.start([script if part == deadman.SCRIPT else part for part in command])

    def armed(
        self, *, switch: Switch = SWITCH, seconds: float = PATIENT, freeze: Sequence[str] = (), thaw: Sequence[str] = ()
    ) -> deadman.ArmAnswer:
        """Arm and freeze, and wait for the answer."""
        return read_arm(self.arm(switch=switch, seconds=seconds, freeze=freeze, thaw=thaw).communicate(timeout=DEADLINE)[0])

    def disarm(self, *, switch: Switch = SWITCH, thaw: Sequence[str] = ()) -> deadman.DisarmAnswer:
        """Thaw, and wait for the answer."""
        process = self.box.start(deadman.disarm(switch, thaw=thaw or self.box.thaw(), folders=("TMPDIR",)))
        return read_disarm(process.communicate(timeout=DEADLINE)[0])

    def folders(self) -> list[str]:
        """Return the state folders that are there."""
        return sorted(path.name for path in (self.box.folder / "tmp").iterdir())

    def state(self, name: str, switch: Switch = SWITCH) -> Path:
        """Return where a word of the switch's state stands."""
        return self.box.folder / "tmp" / str(switch) / name

    def watcher(self, switch: Switch = SWITCH) -> int:
        """Return the process that watches."""
        return int(self.state("watcher", switch).read_text().split(":")[0])

    def until(self, word: str) -> str:
        """Return what lets a freeze wait, in its own shell, until a word of the switch's state is written."""
        return f"until [ -e '{self.state(word)}' ]; do /bin/sleep 0.05; done"


def wait_for(look: Callable[[], T]) -> T:
    """Return what a look finds, as soon as it finds something."""
    deadline = time.monotonic() + DEADLINE
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError("it did not come true")
        time.sleep(0.02)
    return found


def end(process: int) -> None:
    """Kill a process, and wait until it is dead: a signal only asks."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    wait_for(lambda: is_dead(process))


def is_dead(process: int) -> bool:
    """Say whether a process is dead; one whose parent has not heard of it yet is."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] in {"Z", "X"}


def scenes(folder: Path, note: str = "") -> list[Scene]:
    """Make a container for each shell."""
    return [
        Scene(FakeContainer(folder=folder / f"{number}{note}", shell=shell, tools=tools), f"{name} {note}".strip())
        for number, (name, (shell, tools)) in enumerate(SHELLS.items())
    ]


def side_by_side(stage: Sequence[Scene], play: Callable[[Scene], None]) -> None:
    """Play one scene in each container at the same time; the first failure is raised, with the shell's name."""
    with ThreadPoolExecutor(max_workers=len(stage)) as pool:
        for scene, playing in [(scene, pool.submit(play, scene)) for scene in stage]:
            try:
                playing.result()
            except AssertionError as error:
                error.add_note(f"in a container with {scene.shell}")
                raise
