"""A repository on a real S3 server: written by Becalm, judged by restic over its own client."""

# ruff: noqa: F401, F811  (fixtures are imported by their names)

from __future__ import annotations

import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.contract.contract_trees import make_nasty_tree, picture
from tests.contract.stores import Server, s3_bucket, s3_locking_bucket, s3_server

from becalm.repository.backup import back_up_directory
from becalm.repository.check import check_tree
from becalm.repository.extract import extract
from becalm.repository.format import Layout, SnapshotDoc
from becalm.repository.reader import init_repository, open_repository
from becalm.repository.snapshots import save_snapshot
from becalm.repository.writer import Writer
from becalm.storage import open_store

pytestmark = pytest.mark.s3


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    make_nasty_tree(path)
    return path


def restic(server: Server, where: str, home: Path, *arguments: str) -> str:
    program = os.environ.get("RESTIC") or shutil.which("restic")
    if not program:
        pytest.skip("restic is not installed")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "RESTIC_PASSWORD": "p",
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
    }
    done = subprocess.run(
        [program, "--no-cache", "-r", f"s3:{server.endpoint}/{where}", *arguments], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode(errors="replace")


def test_restic_judges_a_bucket(s3_server: Server, s3_bucket: str, source: Path, tmp_path: Path) -> None:
    """`check --read-data` finds no error, and what Becalm reads back from the bucket is what was there."""
    store = open_store(f"s3://{s3_bucket}/prod/shop", s3_server.credentials())
    repository = init_repository(store, "p")
    with Writer(repository) as writer:
        written = back_up_directory(repository, writer, source)
    save_snapshot(repository, SnapshotDoc(time=datetime(2026, 1, 1, tzinfo=UTC), tree=written.tree))
    target = tmp_path / "target"
    target.mkdir()
    done = extract(open_repository(store, "p"), written.tree, target, root=written.root)

    assert "no errors were found" in restic(s3_server, f"{s3_bucket}/prod/shop", tmp_path, "check", "--read-data")
    assert done.failures == ()
    assert picture(target) == picture(source)


def test_everything_that_a_locked_point_needs_is_locked(s3_server: Server, s3_locking_bucket: str, source: Path) -> None:
    """Packs, index and snapshot at their writing; restic still reads them."""
    store = open_store(f"s3://{s3_locking_bucket}/shop", s3_server.credentials(), lock="governance")
    repository = init_repository(store, "p")
    until = store.now().replace(microsecond=0) + timedelta(seconds=12)
    with Writer(repository, retain_until=until) as writer:
        written = back_up_directory(repository, writer, source)
    snapshot = save_snapshot(repository, SnapshotDoc(time=datetime(2026, 1, 1, tzinfo=UTC), tree=written.tree), retain_until=until)
    keys = [key for key in check_tree(repository, written.tree).keys if key.startswith((Layout.DATA, Layout.INDEX))]

    assert len(keys) >= 3
    assert {store.head(key).retain_until for key in (*keys, Layout.snapshot(snapshot))} == {until}
