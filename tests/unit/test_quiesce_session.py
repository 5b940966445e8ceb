"""A session lives from the freeze to the thaw: the real script, in real shells, with a small client that takes a lock."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from becalm.quiesce.blueprint import HELD_NOT
from becalm.quiesce.session import SCRIPT, Session, ended, opened, thawed, within

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CLIENT = r"""
while read -r line; do
  case $line in
  "mark "*) echo "${line#mark }" ;;
  lock) [ ! -e "$1" ] || { echo "it is locked" >&2; exit 3; }; echo $$ >"$1" ;;
  free) rm "$1" ;;
  fail) echo "this is no statement" >&2; exit 2 ;;
  esac
done
[ ! -e "$1" ] || rm "$1"
"""
"""A client whose lock is a file that it removes when it ends."""
SHELLS = [
    pytest.param(shell, marks=pytest.mark.skipif(shutil.which(shell[0]) is None, reason=f"no {shell[0]} here"))
    for shell in (["dash"], ["busybox", "sh"], ["bash"])
]


class Room:
    """A container's worth of files, and the shell in it."""

    def __init__(self, folder: Path, shell: Sequence[str]) -> None:
        bin_ = folder / "bin"
        bin_.mkdir()
        (bin_ / "sh").write_text(f'#!/bin/sh\nexec {" ".join(shell)} "$@"\n')
        (bin_ / "sh").chmod(0o755)
        self.folder, self.lock, self.bases = folder, folder / "lock", [str(folder / "memory")]
        (folder / "memory").mkdir()
        self.path = f"{bin_}:{os.environ['PATH']}"

    def session(self, *, opening: str = "lock", closing: str = "free", linger_seconds: int = 0) -> Session:
        """Describe a session that takes the lock and lets it go."""
        client = ("sh", "-c", CLIENT, "client", str(self.lock))
        return Session(
            name="ledger", client=client, before="mark ", after="", opening=opening, closing=closing, linger_seconds=linger_seconds
        )

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        """Run a command in this room's shell."""
        return subprocess.run(command, env={"PATH": self.path}, capture_output=True, timeout=60, check=False)

    def open(self, session: Session) -> subprocess.CompletedProcess[bytes]:
        """Freeze."""
        return self.run(opened(session, folders=self.bases))

    def thaw(self, session: Session) -> subprocess.CompletedProcess[bytes]:
        """Thaw."""
        return self.run(thawed(session, folders=self.bases))

    def end(self) -> None:
        """End whatever session there is."""
        self.run(ended(self.session(), folders=self.bases))

    def client(self) -> int:
        """Return the process of the client."""
        return int((self.folder / "memory" / "becalm-session.ledger" / "client").read_text())


@pytest.fixture(params=SHELLS)
def room(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Room]:
    made = Room(tmp_path, request.param)
    yield made
    made.end()


def test_the_session_outlives_the_command_that_opened_it_and_is_thawed_by_another(room: Room) -> None:
    """Open says 0 once the lock is taken; thaw says 0 once it is let go; then nothing is left."""
    opening = room.open(room.session())
    held = room.lock.exists()
    thawing = room.thaw(room.session())

    assert (opening.returncode, held, thawing.returncode, room.lock.exists()) == (0, True, 0, False)
    assert list((room.folder / "memory").iterdir()) == []


def test_a_client_that_fails_at_its_first_statement_fails_the_freeze_with_its_own_words(room: Room) -> None:
    """And leaves nothing behind."""
    opening = room.open(room.session(opening="fail"))

    assert (opening.returncode, opening.stderr) == (1, b"this is no statement\n")
    assert list((room.folder / "memory").iterdir()) == []


def test_a_program_that_is_not_there_fails_the_freeze_by_name(room: Room) -> None:
    """The shell's own words."""
    missing = Session(name="ledger", client=("no-such-client",), before="", after="", opening="", closing="")

    opening = room.open(missing)

    assert opening.returncode == 1
    assert b"no-such-client" in opening.stderr


def test_a_session_that_died_before_the_thaw_had_not_held(room: Room) -> None:
    """The thaw says 75: nothing is frozen now, but nothing was frozen until now either."""
    room.open(room.session())
    os.kill(room.client(), signal.SIGKILL)

    assert room.thaw(room.session()).returncode == HELD_NOT


def test_a_client_that_fails_at_the_thaw_is_ended_and_its_lock_goes(room: Room) -> None:
    """An error in the closing is no success."""
    room.open(room.session())
    thawing = room.thaw(room.session(closing="fail"))

    assert thawing.returncode == HELD_NOT
    assert b"this is no statement" in thawing.stderr


def test_a_thaw_may_come_without_a_freeze_and_twice(room: Room) -> None:
    """Both are fine, and neither claims that a freeze held."""
    before = room.thaw(room.session())
    room.open(room.session(linger_seconds=60))
    codes = [room.thaw(room.session(linger_seconds=60)).returncode for _ in range(3)]

    assert (before.returncode, codes) == (HELD_NOT, [0, HELD_NOT, HELD_NOT])


def test_two_thaws_at_once_thaw_once(room: Room) -> None:
    """One of them held."""
    room.open(room.session(linger_seconds=60))
    command = thawed(room.session(linger_seconds=60), folders=room.bases)
    both = [subprocess.Popen(command, env={"PATH": room.path}, stderr=subprocess.DEVNULL) for _ in range(2)]

    assert sorted(one.wait(timeout=60) for one in both) == [0, HELD_NOT]


def test_a_second_backup_does_not_take_over_a_session_that_holds(room: Room) -> None:
    """It fails with a sentence, and the first one still holds."""
    room.open(room.session())
    second = room.open(room.session())

    assert (second.returncode, second.stderr) == (1, b"another backup holds a session here\n")
    assert room.thaw(room.session()).returncode == 0


def test_a_session_that_lingers_after_its_thaw_makes_way(room: Room) -> None:
    """What is kept of it is over when the next backup comes."""
    room.open(room.session(linger_seconds=60))
    first = room.client()
    room.thaw(room.session(linger_seconds=60))
    again = room.open(room.session(linger_seconds=60))

    assert again.returncode == 0
    assert room.client() != first


def test_who_held_a_session_that_made_way_leaves_the_next_one_alone(room: Room) -> None:
    """Its folder has the same name: the holder knows its own by what it wrote into it."""
    room.open(room.session())
    place = room.folder / "memory" / "becalm-session.ledger"
    holder, client = int((place / "holder").read_text()), room.client()
    place.rename(room.folder / "before")
    place.mkdir()
    (place / "holder").write_text("1\n")
    (place / "ended").touch()
    deadline = time.monotonic() + 30
    while _runs(holder) and time.monotonic() < deadline:
        time.sleep(0.05)
    gone = not _runs(holder)
    with suppress(ProcessLookupError):  # it ends by itself, as nobody speaks to it any more
        os.kill(client, signal.SIGKILL)

    assert gone
    assert sorted(file.name for file in place.iterdir()) == ["ended", "holder"]


def _runs(pid: int) -> bool:
    """Say whether a process is there, and not only waits to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_something_may_be_asked_of_a_session_while_it_lingers(room: Room) -> None:
    """With its folder in the environment; before the thaw and after the end it fails with a sentence."""
    look = ["sh", "-c", 'echo "$1"; ls "$BECALM_SESSION/client"', "look", "a; b $(c)"]
    session = room.session(linger_seconds=60)
    room.open(session)
    early = room.run(within(session, look, folders=room.bases))
    room.thaw(session)
    asked = room.run(within(session, look, folders=room.bases))
    room.end()
    late = room.run(within(session, look, folders=room.bases))

    assert (early.returncode, late.returncode, late.stderr) == (1, 1, b"the session is gone\n")
    assert asked.stdout.decode().splitlines() == ["a; b $(c)", str(room.folder / "memory/becalm-session.ledger/client")]


def test_a_folder_that_cannot_be_made_is_said(room: Room) -> None:
    """Every place is named."""
    opening = room.run(opened(room.session(), folders=[str(room.folder / "none")]))

    assert opening.returncode == 1
    assert b"no folder for a session can be made" in opening.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_read_by_every_shell(shell: list[str]) -> None:
    """Without running it."""
    checked = subprocess.run([*shell, "-n"], input=SCRIPT.encode(), capture_output=True, timeout=20, check=False)

    assert (checked.returncode, checked.stderr) == (0, b"")
