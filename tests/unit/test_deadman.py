"""The dead-man switch under dash and busybox: what it does in the usual course, and that what it tells is true."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from becalm.quiesce import deadman
from becalm.quiesce.blueprint import HELD_NOT
from becalm.quiesce.deadman import Armed, Met, Switch, read_arm, read_disarm
from becalm.testing.fake_container import FakeContainer
from becalm.testing.switch_scenes import DEADLINE, SWITCH, Scene, end, scenes, side_by_side, wait_for

if TYPE_CHECKING:
    from pathlib import Path


def test_a_freeze_and_a_thaw_in_time(tmp_path: Path) -> None:
    """The usual course: frozen, held, disarmed, thawed, and nothing is left."""

    def play(scene: Scene) -> None:
        assert scene.armed().state is Armed.FROZEN
        assert scene.box.frozen_now()
        answer = scene.disarm()

        assert (answer.met, answer.confirmed, answer.thaw_code) == (Met.DISARMED, True, 0)
        assert [word for word, _ in scene.box.events()] == ["F", "T"]
        assert scene.folders() == []

    side_by_side(scenes(tmp_path), play)


def test_a_failed_freeze_is_thawed_in_the_same_command(tmp_path: Path) -> None:
    """A freeze that fails half-way may have frozen: it is thawed before the failure is told."""

    def play(scene: Scene) -> None:
        answer = scene.armed(freeze=scene.box.freeze(code=7))
        missing = scene.armed(switch=Switch(container="db", run="1", hook="9", attempt="1"), freeze=("/no/such",), thaw=("/no/such",))

        assert (answer.state, answer.freeze_code, answer.thaw_code) == (Armed.FAILED, 7, 0)
        assert [word for word, _ in scene.box.events()] == ["F", "T"]
        assert (missing.state, missing.untouched) == (Armed.FAILED, True)

    side_by_side(scenes(tmp_path), play)


def test_a_thaw_may_come_any_number_of_times(tmp_path: Path) -> None:
    """Before any freeze, twice after it, and after a thaw that failed: the end is always thawed."""

    def play(scene: Scene) -> None:
        before = scene.disarm()
        scene.armed()
        failed = scene.disarm(thaw=("/bin/false",))
        again, gone = scene.disarm(), scene.disarm()

        assert (before.met, before.confirmed) == (Met.GONE, True)
        assert (failed.met, failed.confirmed) == (Met.DISARMED, False)
        assert (again.met, again.confirmed) == (Met.AGAIN, True)
        assert (gone.met, gone.confirmed) == (Met.GONE, True)
        assert not scene.box.frozen_now()

    side_by_side(scenes(tmp_path), play)


def test_another_runs_thaw_is_noticed(tmp_path: Path) -> None:
    """Two policies freeze the same container: the one that is thawed by the other must not claim that its freeze held."""

    def play(scene: Scene) -> None:
        other = Switch(container="db", run="ffff", hook="5f6a7b", attempt="1")
        neighbour = Switch(container="db-2", run="ffff", hook="5f6a7b", attempt="1")
        sibling = Switch(container="db", run="ffff", hook="aaaa", attempt="1")
        for switch in (SWITCH, other, neighbour, sibling):
            assert scene.armed(switch=switch).state is Armed.FROZEN
        ends = [scene.disarm(switch=switch).met for switch in (other, sibling, SWITCH, neighbour)]

        assert ends == [Met.DISARMED, Met.DISARMED, Met.TOUCHED, Met.DISARMED]

    side_by_side(scenes(tmp_path), play)


def test_a_container_that_was_restarted_did_not_hold(tmp_path: Path) -> None:
    """The folder is still there, as memory outlives a container within its pod; the process that watched is not: nothing is promised."""

    def play(scene: Scene) -> None:
        assert scene.armed().state is Armed.FROZEN
        watcher, born = scene.state("watcher").read_text().split(":")
        assert int(born) > 0
        scene.state("watcher").write_text(f"{watcher}:{int(born) - 1}\n")
        answer = scene.disarm()

        assert (answer.met, answer.confirmed) == (Met.LOST, True)
        assert scene.folders() == []

    side_by_side(scenes(tmp_path), play)


def test_a_watcher_that_was_killed_guards_nothing(tmp_path: Path) -> None:
    """Whatever killed it may have let the application go."""

    def play(scene: Scene) -> None:
        scene.armed()
        end(scene.watcher())

        assert scene.disarm().met is Met.LOST

    side_by_side(scenes(tmp_path), play)


def test_a_freeze_that_died_with_its_container_is_not_waited_for(tmp_path: Path) -> None:
    """Its command never told an end and never will: the thaw is confirmed all the same."""

    def play(scene: Scene) -> None:
        process = scene.arm(freeze=scene.box.freeze(after="exec /bin/sleep 60"))
        wait_for(scene.box.frozen_now)
        freezer = int(scene.state("freezer").read_text())
        process.kill()
        process.communicate(timeout=DEADLINE)
        for victim in (scene.watcher(), freezer):
            end(victim)
        answer = scene.disarm()

        assert (answer.met, answer.confirmed) == (Met.LOST, True)
        assert not scene.box.frozen_now()
        assert scene.folders() == []

    side_by_side(scenes(tmp_path), play)


def test_a_thaw_that_says_it_had_not_held_is_a_thaw(tmp_path: Path) -> None:
    """Exit code 75 confirms, and takes the promise back; other codes confirm nothing."""

    def play(scene: Scene) -> None:
        for code, confirmed, broken in ((75, True, True), (74, False, False)):
            scene.armed()
            answer = scene.disarm(thaw=scene.box.thaw(code=code))

            assert (answer.confirmed, answer.broken) == (confirmed, broken)
        assert scene.disarm().confirmed
        assert scene.folders() == []

    side_by_side(scenes(tmp_path), play)


def test_both_sides_mean_the_same_by_75() -> None:
    """What a recipe's thaw ends with is what the switch reads."""
    assert deadman.HAD_NOT_HELD == HELD_NOT


def test_without_a_folder_nothing_is_frozen(tmp_path: Path) -> None:
    """Where no state folder can be made the command says so, and has not frozen anything."""
    box = FakeContainer(folder=tmp_path / "box")
    command = deadman.arm(SWITCH, timeout_seconds=300, freeze=box.freeze(), thaw=box.thaw(), folders=("/proc/nowhere", "/sys"))
    process = box.start(command)

    assert read_arm(process.communicate(timeout=DEADLINE)[0]).state is Armed.NONE
    assert box.events() == []


def test_arguments_arrive_as_they_were_given(tmp_path: Path) -> None:
    """No text of an author is ever read as shell."""
    box = FakeContainer(folder=tmp_path / "box")
    nasty = ["a b", "$(touch pwned)", "';", "*", "", "-n", "\n", '"$@"', "ü:ü"]
    shown = tmp_path / "shown"
    show = ("/usr/bin/python3", "-c", f"import sys; open({str(shown)!r}, 'a').write(repr(sys.argv[1:]) + '\\n')", *nasty)
    box.start(deadman.arm(SWITCH, timeout_seconds=300, freeze=show, thaw=("/bin/true", *nasty), folders=("TMPDIR",))).communicate(
        timeout=DEADLINE
    )
    box.start(deadman.disarm(SWITCH, thaw=show, folders=("TMPDIR",))).communicate(timeout=DEADLINE)

    assert shown.read_text() == f"{nasty!r}\n" * 2


_part = st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=20)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_part, _part, _part, _part)
def test_a_switchs_name_reads_back(container: str, run: str, hook: str, attempt: str) -> None:
    """The record holds only the name; a thaw makes the switch of it."""
    switch = Switch(container=container, run=run, hook=hook, attempt=attempt)

    assert Switch.parse(str(switch)) == switch


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200))
def test_nonsense_is_unknown(noise: bytes) -> None:
    """Whatever comes back, an answer that was not given is not invented."""
    assert read_arm(noise).state in set(Armed)
    assert read_disarm(noise).met is Met.UNKNOWN
    assert not read_disarm(noise).confirmed


def test_another_user_runs_the_same_arguments() -> None:
    """Through `su`, without a word of the command becoming shell; really so where the tests may change the user."""
    nasty = ("printf", "[%s]", "a b", "-c", "$(id)", "--", "")
    command = deadman.as_user("nobody", nasty)

    assert deadman.as_user("", nasty) == nasty
    assert command[-len(nasty) :] == nasty
    if os.geteuid() == 0:
        for su in ([command[0]], ["busybox", command[0]]):
            assert subprocess.run([*su, *command[1:]], capture_output=True, check=True).stdout == b"[a b][-c][$(id)][--][]"


def test_a_cut_off_answer_is_unknown() -> None:
    """A stream that ended after `armed` tells nothing of the freeze."""
    assert read_arm(b"becalm-switch armed\n").state is Armed.UNKNOWN
    assert read_arm(b"").state is Armed.UNKNOWN
