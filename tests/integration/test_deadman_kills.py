"""The dead-man switch in real time, under dash and busybox: slow and hanging freezes, and SIGKILL between any two of its steps.

Nothing here depends on how fast the machine is: each scene waits for the state that it is about. How long a freeze lasts is measured
where it can be measured, on a cluster by itself.
"""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from becalm.quiesce import deadman
from becalm.quiesce.deadman import Armed, Met, Switch, read_arm
from becalm.testing.switch_scenes import DEADLINE, SWITCH, TIME, Scene, is_dead, scenes, side_by_side, wait_for

if TYPE_CHECKING:
    from pathlib import Path


def test_without_a_thaw_the_switch_thaws(tmp_path: Path) -> None:
    """Nobody comes to thaw: the container does it itself when the time is over, and says so to whoever comes late."""

    def play(scene: Scene) -> None:
        assert scene.armed(seconds=TIME).state in {Armed.FROZEN, Armed.LATE}
        wait_for(scene.state("thaw").exists)
        assert not scene.box.frozen_now()
        # A thaw that fails where nothing is frozen is believed when the switch's own had success.
        late = scene.disarm(thaw=("/bin/false",))

        assert (late.met, late.confirmed) == (Met.FIRED, True)

    side_by_side(scenes(tmp_path), play)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small memory")
def test_a_full_memory_leaves_nobody_frozen(tmp_path: Path) -> None:
    """The application, or what a freeze says, has filled the memory in which the switch keeps its marks: it fires all the same."""

    def play(scene: Scene) -> None:
        memory = scene.box.folder / "tmp"
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "becalm-test", memory], check=True)
        try:
            full = f"/bin/head -c 1000000 /dev/zero; /bin/head -c 1000000 /dev/zero >'{memory}/application'"
            answer = scene.armed(seconds=TIME, freeze=scene.box.freeze(after=full))
            assert answer.state in {Armed.FROZEN, Armed.LATE}
            wait_for(lambda: not scene.box.frozen_now())
            late = scene.disarm()

            assert (late.met, late.confirmed) == (Met.FIRED, True)
        finally:
            subprocess.run(["umount", "--lazy", memory], check=True)

    side_by_side(scenes(tmp_path), play)


def test_a_freeze_that_comes_back_too_late_thaws_itself(tmp_path: Path) -> None:
    """The freeze ignores being ended and completes after the switch has fired: it is thawed again."""

    def play(scene: Scene) -> None:
        answer = scene.armed(seconds=TIME, freeze=scene.box.freeze(before=f"trap '' TERM; {scene.until('end')}"))

        assert answer.state is Armed.LATE
        assert not scene.box.frozen_now()
        assert scene.disarm().met is Met.FIRED

    side_by_side(scenes(tmp_path), play)


def test_a_freeze_that_hangs_is_ended(tmp_path: Path) -> None:
    """The freeze has frozen and never comes back: it is ended and thawed within the time."""

    def play(scene: Scene) -> None:
        assert scene.armed(seconds=TIME, freeze=scene.box.freeze(after="/bin/sleep 600")).state is Armed.LATE
        assert not scene.box.frozen_now()

    side_by_side(scenes(tmp_path), play)


def test_a_thaw_that_comes_while_the_freeze_is_at_work(tmp_path: Path) -> None:
    """The asker lost patience before the freeze came back: the thaw wins, and the freeze cannot freeze for good afterwards."""

    def play(scene: Scene) -> None:
        process = scene.arm(freeze=scene.box.freeze(before=scene.until("end")))
        wait_for(scene.state("freezer").exists)
        answer = scene.disarm()
        told = read_arm(process.communicate(timeout=DEADLINE)[0])

        assert answer.met is Met.DISARMED
        assert answer.confirmed
        assert told.state in {Armed.LATE, Armed.FAILED}
        assert not scene.box.frozen_now()

    side_by_side(scenes(tmp_path), play)


def test_a_second_attempt_takes_over_from_the_first(tmp_path: Path) -> None:
    """The first attempt's switch must not fire into the second's window: its watcher ends without having thawed."""

    def play(scene: Scene) -> None:
        scene.armed()
        first = scene.watcher()
        second = Switch(container="db", run=SWITCH.run, hook=SWITCH.hook, attempt="2")
        assert scene.armed(switch=second).state is Armed.FROZEN
        wait_for(lambda: is_dead(first))

        assert [word for word, _ in scene.box.events()] == ["F", "T", "F"]
        assert scene.disarm(switch=second).met is Met.DISARMED
        assert scene.folders() == []

    side_by_side(scenes(tmp_path), play)


def test_a_freeze_whose_command_was_killed_cannot_freeze_for_good(tmp_path: Path) -> None:
    """The command dies, its freeze lives on and completes after the switch has fired: the watcher waits for it and thaws again."""

    def play(scene: Scene) -> None:
        process = scene.arm(seconds=TIME, freeze=scene.box.freeze(before=f"trap '' TERM; {scene.until('end')}"))
        wait_for(scene.state("freezer").exists)
        process.kill()
        process.communicate(timeout=DEADLINE)
        wait_for(scene.state("settled").exists)

        assert not scene.box.frozen_now()
        assert scene.disarm().confirmed
        assert scene.folders() == []

    side_by_side(scenes(tmp_path), play)


_STEP = 'step() {{ _n=$((${{_n:-0}}+1)); [ "$_n" -ne {at} ] || kill -9 $$; }}\n'


def script_killed_at(step: int) -> tuple[str, int]:
    """Return the script with a murderer between the steps of `arm`, and how many such places there are."""
    head, arm, rest = re.split(r"(?<=\narm\)\n)(.*?)(?=\nwatch\)\n)", deadman.SCRIPT, maxsplit=1, flags=re.DOTALL)
    lines = arm.removesuffix(" ;;").split("\n")
    killing = "\nstep\n".join(["", *lines, ""])
    return _STEP.format(at=step) + head + killing + " ;;" + rest, len(lines) + 1


@pytest.mark.parametrize("before", [":", "/bin/sleep 0.4"], ids=["quick", "slow"])
def test_killed_between_any_two_steps_it_thaws_by_itself(tmp_path: Path, before: str) -> None:
    """SIGKILL at every place of the freezing command, on every shell: thawed by the container itself, and a later thaw is confirmed."""
    places = script_killed_at(0)[1]
    stage = [scene for step in range(1, places + 1) for scene in scenes(tmp_path, f" killed at {step}")]

    def play(scene: Scene) -> None:
        script, _ = script_killed_at(int(scene.shell.split()[-1]))
        process = scene.arm(seconds=TIME, freeze=scene.box.freeze(before=before), script=script)
        process.communicate(timeout=DEADLINE)
        if scene.state("watcher").exists():  # before there is one, nothing is frozen
            watcher = scene.watcher()
            wait_for(lambda: is_dead(watcher))

        assert process.returncode == -9
        assert not scene.box.frozen_now()
        assert scene.disarm().confirmed

    assert places > 15
    side_by_side(stage, play)
