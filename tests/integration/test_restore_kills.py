"""A restore that is killed: whatever it left, the next one completes it, and nothing of it is left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from becalm.model import Direction, MoverResult, MoverSpec, VolumeRef, from_payload, payload
from becalm.repository.backup import back_up_directory
from becalm.repository.format import Layout
from becalm.repository.node import encode_node
from becalm.repository.reader import init_repository
from becalm.repository.writer import Writer
from becalm.storage import open_store
from becalm.storage.base import ObjectStore

FILES = 6000
PATIENCE_SECONDS = 90


class Restore:
    """A mover that restores, started and killed by a test."""

    def __init__(self, root: Path) -> None:
        self.volume, self.source, secrets = root / "volume", root / "source", root / "secrets"
        for folder in (self.volume, self.source, secrets):
            folder.mkdir()
        make_files(self.source)
        (secrets / "password").write_text("p")
        url = f"file://{root}/bucket/shop"
        self.store: ObjectStore = open_store(url, {}, create=True)
        repository = init_repository(self.store, "p")
        with Writer(repository) as writer:
            written = back_up_directory(repository, writer, self.source)
        self.spec = MoverSpec(
            name="mover",
            run="0123456789",
            direction=Direction.RESTORE,
            volume=VolumeRef(namespace="shop", claim="data"),
            namespace="becalm",
            claim="data",
            repository=url,
            secret="none",
            tree=written.tree,
            root=encode_node(written.root).decode(),
        )
        self.environment = {
            **os.environ,
            "BECALM_SECRET_DIR": str(secrets),
            "BECALM_VOLUME": str(self.volume),
            "BECALM_TERMINATION": str(root / "termination"),
        }

    def start(self, name: str = "mover") -> subprocess.Popen[bytes]:
        """Start it as its pod does."""
        environment = {**self.environment, "BECALM_MOVER_SPEC": json.dumps(payload(replace(self.spec, name=name)))}
        return subprocess.Popen([sys.executable, "-m", "becalm.mover"], env=environment, stdout=subprocess.DEVNULL)

    def result(self, name: str) -> MoverResult:
        """Return what it left."""
        return from_payload(MoverResult, json.loads(self.store.get(Layout.run_result(self.spec.run, name))))

    def wait_for_files(self, count: int) -> None:
        """Wait until some are there."""
        until = time.monotonic() + PATIENCE_SECONDS
        while sum(len(files) for _, _, files in os.walk(self.volume)) < count:
            assert time.monotonic() < until, "nothing was restored"
            time.sleep(0.01)


def make_files(root: Path) -> None:
    random = Random(3)
    for number in range(FILES):
        folder = root / f"folder-{number % 60}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}").write_bytes(random.randbytes(random.randrange(3000)))
    (root / "large").write_bytes(random.randbytes(40 << 20))


def contents(root: Path) -> dict[str, tuple[bytes, int, int]]:
    return {
        str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file()
    }


def running(volume: Path) -> list[int]:
    """Return the processes that were started with this volume: the mover and its workers."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
        except OSError:
            continue
        if f"BECALM_VOLUME={volume}".encode() in environment and (process / "cmdline").read_bytes():
            found.append(int(process.name))
    return found


@pytest.mark.parametrize("after", [1, 2500, 5000])
def test_a_killed_restore_is_completed_by_the_next(tmp_path: Path, after: int) -> None:
    """SIGKILL at any time: every file is then right and whole, those that were complete are kept, and the workers have ended, too."""
    restore = Restore(tmp_path)
    first = restore.start()
    restore.wait_for_files(after)
    first.send_signal(signal.SIGKILL)
    first.wait(timeout=PATIENCE_SECONDS)
    until = time.monotonic() + PATIENCE_SECONDS
    while running(restore.volume):
        assert time.monotonic() < until, "workers outlive their restore"
        time.sleep(0.05)
    second = restore.start("again")
    code = second.wait(timeout=PATIENCE_SECONDS)
    result = restore.result("again")

    assert (code, result.error, result.unreadable, result.files) == (0, "", (), FILES + 1)
    assert contents(restore.volume) == contents(restore.source)
