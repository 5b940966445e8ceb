"""The mover as a process of its own, as a pod would run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from becalm.model import Direction, MoverResult, MoverSpec, VolumeRef, from_payload, payload
from becalm.repository.format import Layout
from becalm.repository.reader import init_repository
from becalm.storage import open_store
from becalm.storage.base import ObjectStore

PATIENCE_SECONDS = 60


class Process:
    """A mover over a folder's repository, started and ended by a test."""

    def __init__(self, root: Path) -> None:
        self.volume, secrets = root / "volume", root / "secrets"
        self.volume.mkdir()
        secrets.mkdir()
        (secrets / "password").write_text("p")
        url = f"file://{root}/bucket/shop"
        self.store: ObjectStore = open_store(url, {}, create=True)
        init_repository(self.store, "p")
        self.spec = MoverSpec(
            name="mover",
            run="0123456789",
            direction=Direction.BACK_UP,
            volume=VolumeRef(namespace="shop", claim="data"),
            namespace="becalm",
            claim="data",
            repository=url,
            secret="none",
        )
        self.environment = {
            **os.environ,
            "BECALM_MOVER_SPEC": json.dumps(payload(self.spec)),
            "BECALM_SECRET_DIR": str(secrets),
            "BECALM_VOLUME": str(self.volume),
            "BECALM_TERMINATION": str(root / "termination"),
        }

    def start(self) -> subprocess.Popen[bytes]:
        """Start it as its pod does."""
        return subprocess.Popen([sys.executable, "-m", "becalm.mover"], env=self.environment, stdout=subprocess.PIPE)

    def result(self) -> MoverResult:
        """Return what it left."""
        return from_payload(MoverResult, json.loads(self.store.get(Layout.run_result(self.spec.run, self.spec.name))))

    def wait_for_a_pack(self) -> None:
        """Wait until something was sent."""
        began = time.monotonic()
        while not any(self.store.list(Layout.DATA)):
            assert time.monotonic() - began < PATIENCE_SECONDS
            time.sleep(0.01)


@pytest.fixture
def process(tmp_path: Path) -> Process:
    return Process(tmp_path)


def make_large(volume: Path) -> None:
    for number in range(6):
        (volume / f"file-{number}").write_bytes(os.urandom(48 << 20))


def test_a_mover_that_is_told_to_end_ends_with_a_result(process: Process) -> None:
    """SIGTERM is not a success, and not silence either."""
    make_large(process.volume)
    running = process.start()
    process.wait_for_a_pack()
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=PATIENCE_SECONDS)
    result = process.result()

    assert running.returncode == 6
    assert result.error.startswith("mover-failed: ")
    assert result.tree == ""


def test_a_mover_that_was_killed_is_repeated_without_repair(process: Process) -> None:
    """What it had sent lies there unseen; the next one needs no help, and its tree is whole."""
    make_large(process.volume)
    first = process.start()
    process.wait_for_a_pack()
    first.kill()
    first.communicate(timeout=PATIENCE_SECONDS)
    second = process.start()
    out, _ = second.communicate(timeout=PATIENCE_SECONDS)
    last = json.loads(out.splitlines()[-1])

    assert second.returncode == 0
    assert process.result().files == 6
    assert last["result"]["tree"] == process.result().tree


def test_a_mover_keeps_within_its_memory(process: Process) -> None:
    """Large files do not make a large process."""
    make_large(process.volume)
    running = process.start()
    running.communicate(timeout=PATIENCE_SECONDS)

    assert running.returncode == 0
    assert process.result().peak_memory_bytes < 512 << 20
