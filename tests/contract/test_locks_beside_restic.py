"""Becalm and the restic command beside each other on one bucket: neither deletes while the other is at work, and no unlock is needed."""

# ruff: noqa: F401, F811  (fixtures are imported by their names)

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.contract.restics import PASSWORD, Restic, the_restic
from tests.contract.stores import Server, a_prefix, s3_bucket, s3_server

from becalm.errors import RepositoryLocked
from becalm.model import Direction, MoverSpec, VolumeRef, payload
from becalm.repository import lease, locks
from becalm.repository.format import Layout, SnapshotDoc
from becalm.repository.lockfile import standing
from becalm.repository.reader import Repository, init_repository, open_repository
from becalm.repository.snapshots import save_snapshot
from becalm.repository.tree import TreeBuilder
from becalm.repository.writer import Writer
from becalm.storage import open_store

pytestmark = pytest.mark.s3

PATIENCE_SECONDS = 180


class Scene:
    """A repository on a bucket with one snapshot, the restic command, and movers as processes."""

    def __init__(self, server: Server, bucket: str, root: Path) -> None:
        prefix = a_prefix()
        self.url = f"s3://{bucket}/{prefix}"
        self.store = open_store(self.url, server.credentials())
        self.repository: Repository = init_repository(self.store, PASSWORD)
        self.restic = Restic(the_restic(), f"s3:{server.endpoint}/{bucket}/{prefix}", root, server)
        self.volume, self.secrets = root / "volume", root / "secrets"
        self.volume.mkdir()
        self.secrets.mkdir()
        for name, value in (server.credentials() | {"password": PASSWORD}).items():
            (self.secrets / name).write_text(value)
        for number in range(4):
            (self.volume / f"file-{number}").write_bytes(os.urandom(48 << 20))

    def point(self) -> None:
        """Write a snapshot of two small files."""
        with Writer(self.repository) as writer:
            builder = TreeBuilder(mtime=self.store.now())
            builder.add_bytes("a", b"a" * 100)
            tree = builder.write(writer)
        save_snapshot(self.repository, SnapshotDoc(time=self.store.now(), tree=tree))

    @contextmanager
    def mover(self, run: str, *, seconds: float = 600) -> Iterator[subprocess.Popen[bytes]]:
        """Take the lease for a run and start its mover; end it in any case."""
        held = lease.take(self.store, policy="shop", run=run, seconds=seconds)
        spec = MoverSpec(
            name="mover",
            run=run,
            direction=Direction.BACK_UP,
            volume=VolumeRef(namespace="shop", claim="data"),
            namespace="becalm",
            claim="data",
            repository=self.url,
            secret="none",
            epoch=held.epoch,
        )
        environment = {
            "PATH": os.environ["PATH"],
            "BECALM_MOVER_SPEC": json.dumps(payload(spec)),
            "BECALM_SECRET_DIR": str(self.secrets),
            "BECALM_VOLUME": str(self.volume),
            "BECALM_TERMINATION": str(self.secrets.parent / "termination"),
        }
        running = subprocess.Popen([sys.executable, "-m", "becalm.mover"], env=environment, stdout=subprocess.PIPE)
        try:
            yield running
        finally:
            running.kill()
            running.communicate(timeout=PATIENCE_SECONDS)

    def wait_for(self, there: Callable[[], object]) -> None:
        """Wait until something is so."""
        began = time.monotonic()
        while not there():
            assert time.monotonic() - began < PATIENCE_SECONDS
            time.sleep(0.02)

    def locks(self) -> list[str]:
        """Return whose locks stand."""
        return [one.doc.username for one in standing(self.repository) if one.doc]


@pytest.fixture
def scene(s3_server: Server, s3_bucket: str, tmp_path: Path) -> Scene:
    return Scene(s3_server, s3_bucket, tmp_path)


def test_restic_deletes_nothing_while_a_mover_is_at_work_and_says_who_it_is(scene: Scene) -> None:
    """`prune` and `forget --prune` fail with restic's own message; the mover's work is whole after."""
    scene.point()
    scene.point()
    with scene.mover("run-of-shop") as running:
        scene.wait_for(scene.locks)
        running.send_signal(signal.SIGSTOP)  # it is at work as long as the test looks
        said = [
            scene.restic.try_to(*words).stderr.decode() for words in (("prune",), ("forget", "--keep-last", "1", "--prune"), ("check",))
        ]
        running.send_signal(signal.SIGCONT)
        running.communicate(timeout=PATIENCE_SECONDS)

        assert running.returncode == 0
    for message in said[:2]:
        assert "already locked" in message
        assert "on becalm by run-of-shop" in message
    assert scene.locks() == []
    assert "no errors were found" in scene.restic("check", "--read-data")


def test_a_killed_movers_lock_is_removed_by_the_next_run_and_nobody_unlocks(scene: Scene) -> None:
    """SIGKILL leaves a lock; restic is refused until the next run comes by, and works after it."""
    scene.point()
    with scene.mover("killed") as running:
        scene.wait_for(scene.locks)
        running.kill()
        running.communicate(timeout=PATIENCE_SECONDS)
    assert scene.locks() == ["killed"]
    assert "on becalm by killed" in scene.restic.try_to("prune").stderr.decode()
    lease.release(scene.store, run="killed", epoch=1)  # as if its time had passed
    with scene.mover("next") as running:
        running.communicate(timeout=PATIENCE_SECONDS)

    assert running.returncode == 0
    assert scene.locks() == []
    scene.restic("prune")
    assert "no errors were found" in scene.restic("check")


def test_nothing_is_deleted_while_restic_backs_up(scene: Scene) -> None:
    """The refusal names restic's host and process; when it is done, the way is free."""
    command = scene.restic.command("backup", "--stdin", "--stdin-filename", "slow")
    running = subprocess.Popen(command, env=scene.restic.environment(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        scene.wait_for(lambda: standing(scene.repository))
        expected = rf"process {running.pid}\), refreshed [01] minutes ago: nothing may be deleted"
        with pytest.raises(RepositoryLocked, match=expected), locks.exclusive(scene.repository, who="run-1"):
            pass
        with locks.shared(scene.repository, who="run-1"):
            assert len(standing(scene.repository)) == 2, "a capture goes on beside it"
        running.communicate(b"content", timeout=PATIENCE_SECONDS)
    finally:
        running.kill()
        running.wait()

    assert running.returncode == 0
    with locks.exclusive(open_repository(scene.store, PASSWORD), who="run-1"):
        assert "already locked exclusively" in scene.restic.try_to("backup", str(scene.secrets)).stderr.decode()
    assert "no errors were found" in scene.restic("check")


def test_restic_reads_our_lock_as_its_own(scene: Scene) -> None:
    """`restic list locks` and `restic unlock` know it: a fresh one is not taken for dead."""
    with locks.shared(scene.repository, who="run-1") as held:
        assert scene.restic("--no-lock", "list", "locks").split() == [held.id]
        document = json.loads(scene.restic("--no-lock", "cat", "lock", held.id))
        scene.restic("unlock")
        assert [one.id for one in standing(scene.repository)] == [held.id]

    assert (document["hostname"], document["username"], document["exclusive"], document["pid"]) == ("becalm", "run-1", False, os.getpid())
    assert list(scene.store.list(Layout.LOCKS)) == []
