"""Scenes for the dead-man switch: a container with each shell, and the switch's commands at hand.

Everything in a scene is a real process in real time.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from becalm.quiesce import deadman
from becalm.quiesce.deadman import Switch, read_arm, read_disarm
from becalm.testing.fake_container import TOOLS, FakeContainer

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence
    from pathlib import Path

TIME = 2.0
"""Seconds after which the switch fires."""
SLACK = 1.7
"""What a loaded machine may add."""

SHELLS = {"dash": ("dash", TOOLS), "dash without setsid": ("dash", TOOLS[:-1]), "busybox": ("busybox", TOOLS)}
SWITCH = Switch(container="db", run="0a1b2c3d4e", hook="5f6a7b", attempt="1")


@dataclass(frozen=True, slots=True)
class Scene:
    """A container with one switch."""

    box: FakeContainer
    shell: str

    def arm(
        self, *, switch: Switch = SWITCH, freeze: Sequence[str] = (), thaw: Sequence[str] = (), script: str = deadman.SCRIPT
    ) -> subprocess.Popen[bytes]:
        """Start the command that arms and freezes; of another script, if one is given."""
        command = deadman.arm(
            switch, timeout_seconds=TIME, freeze=freeze or self.box.freeze(), thaw=thaw or self.box.thaw(), folders=("TMPDIR",)
        )
        return self.box.start([script if part == deadman.SCRIPT else part for part in command])

    def armed(self, *, switch: Switch = SWITCH, freeze: Sequence[str] = (), thaw: Sequence[str] = ()) -> deadman.ArmAnswer:
        """Arm and freeze, and wait for the answer."""
        return read_arm(self.arm(switch=switch, freeze=freeze, thaw=thaw).communicate(timeout=30)[0])

    def disarm(self, *, switch: Switch = SWITCH, thaw: Sequence[str] = ()) -> deadman.DisarmAnswer:
        """Thaw, and wait for the answer."""
        process = self.box.start(deadman.disarm(switch, thaw=thaw or self.box.thaw(), folders=("TMPDIR",)))
        return read_disarm(process.communicate(timeout=30)[0])

    def folders(self) -> list[str]:
        """Return the state folders that are there."""
        return sorted(path.name for path in (self.box.folder / "tmp").iterdir())

    def wait_over(self, since: float, extra: float = SLACK) -> None:
        """Wait until the switch must have fired."""
        time.sleep(max(0.0, since + TIME + extra - time.monotonic()))


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
