"""The restic command, as a peer: it writes what Becalm reads, and judges what Becalm wrote.

`RESTIC` names the program; without it, the one on the path is taken. `OLD_RESTIC` may name an older one beside it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.contract.stores import Server

PASSWORD = "correct horse"


def programs() -> list[str]:
    """Return the programs that can be asked: the one that counts first."""
    named = [os.environ.get("RESTIC") or shutil.which("restic"), os.environ.get("OLD_RESTIC")]
    return list(dict.fromkeys(str(Path(name).resolve()) for name in named if name and Path(name).exists()))


def version_of(program: str) -> tuple[int, ...]:
    """Return the numbers of a program's version."""
    done = subprocess.run([program, "version"], capture_output=True, text=True, check=True)
    return tuple(int(number) for number in done.stdout.split()[1].split("-")[0].split("."))


class Restic:
    """The restic command on one repository: a folder, or restic's own words for a bucket."""

    def __init__(self, program: str, where: Path | str, home: Path, server: Server | None = None) -> None:
        self.program, self.where, self.home = program, str(where), home
        self._keys = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key} if server else {}
        self.version = version_of(program)

    def environment(self, password: str = PASSWORD) -> dict[str, str]:
        """Return all that it is told beside its arguments."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.home), "RESTIC_PASSWORD": password, **self._keys}

    def command(self, *arguments: str) -> list[str]:
        """Return the whole command."""
        return [self.program, "--no-cache", "-r", self.where, *arguments]

    def try_to(self, *arguments: str, password: str = PASSWORD, within: Path | None = None) -> subprocess.CompletedProcess[bytes]:
        """Run it, whatever comes of it."""
        return subprocess.run(self.command(*arguments), cwd=within, env=self.environment(password), capture_output=True, check=False)

    def __call__(self, *arguments: str, password: str = PASSWORD, within: Path | None = None) -> str:
        """Run it and return what it printed; it must succeed."""
        done = self.try_to(*arguments, password=password, within=within)
        assert done.returncode == 0, (arguments, done.stderr.decode(errors="replace"), done.stdout.decode(errors="replace")[-2000:])
        return done.stdout.decode(errors="replace")

    def rebuild_index(self) -> None:
        """Write the index anew from the packs; restic renamed the command in 0.16."""
        self(*(("repair", "index") if self.version >= (0, 16) else ("rebuild-index",)))

    def documents(self, *arguments: str) -> list[dict[str, Any]]:
        """Run with --json and return one document per line."""
        return [json.loads(line) for line in self(*arguments, "--json").splitlines() if line.startswith("{")]

    def snapshots(self) -> list[dict[str, Any]]:
        """Return all snapshots, as it describes them."""
        found: list[dict[str, Any]] = json.loads(self("snapshots", "--json"))
        return found


def the_restic() -> str:
    """Return the program, or skip the test."""
    found = programs()
    if not found:
        pytest.skip("restic is not installed")
    return found[0]
