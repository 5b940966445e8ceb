"""The recovery key at a terminal: shown once, typed back, and gone again where nobody could."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from becalm.repository import keys
from becalm.repository.reader import open_repository
from becalm.storage import open_store


def init(root: Path, *, answer: Callable[[str], str] | None = None) -> tuple[int, str]:
    """Run `becalm init --recovery-key print`; with `answer` at a terminal, where it makes what is typed out of the key. Return what was said."""
    words = ["init", "--target", f"file://{root}/backups", "--policy", "shop", "--password", "env:FIRST", "--recovery-key", "print"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(root), "FIRST": "first", "PYTHONUNBUFFERED": "1"}
    ours, theirs = pty.openpty() if answer else (-1, subprocess.DEVNULL)
    running = subprocess.Popen(
        [sys.executable, "-m", "becalm.cli", *words],
        env=environment,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = ""
    while answer and "recovery key: " not in said:
        line = running.stdout.readline()
        assert line, said
        said += line
    if answer:
        os.write(ours, (answer(shown(said)) + "\n").encode() * 3)
    rest, _ = running.communicate(timeout=60)
    for end in (ours, theirs) if answer else ():
        os.close(end)
    return running.returncode, said + rest


def shown(said: str) -> str:
    """Return the key that was shown."""
    found = re.search(r"recovery key: ([A-Z2-7-]{35})", said)
    assert found, said
    return found.group(1)


def users(root: Path) -> list[str]:
    """Return whose keys there are."""
    return [info.username for info in keys.keys(open_store(f"file://{root}/backups/shop", {}))]


def test_what_is_printed_opens_the_repository(tmp_path: Path) -> None:
    """Without a terminal nobody is asked."""
    code, said = init(tmp_path)

    assert code == 0
    assert open_repository(open_store(f"file://{tmp_path}/backups/shop", {}), shown(said))
    assert users(tmp_path) == ["becalm", "becalm-recovery"]


@pytest.mark.parametrize("typed", [lambda key: key, lambda key: key.lower().replace("-", " ")])
def test_a_person_types_it_back(tmp_path: Path, typed: Callable[[str], str]) -> None:
    """As it was written down; blanks and small letters are fine."""
    code, said = init(tmp_path, answer=typed)

    assert code == 0, said
    assert users(tmp_path) == ["becalm", "becalm-recovery"]


def test_a_key_that_nobody_wrote_down_goes_again(tmp_path: Path) -> None:
    """Three tries; the repository is there, without a recovery key that nobody has."""
    code, said = init(tmp_path, answer=lambda _: "no idea")

    assert code == 4
    assert "not typed back as it was shown" in said
    assert users(tmp_path) == ["becalm"]
