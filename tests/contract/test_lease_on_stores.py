"""Lease, forgetting and catalogue on real stores: a directory and a bucket, with several processes at once."""

# ruff: noqa: F401, F811  (fixtures are imported by their names)

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from tests.contract.stores import Server, a_prefix, s3_bucket, s3_locking_bucket, s3_server

from becalm.catalog import points as catalog
from becalm.errors import LeaseHeld, LeaseLost
from becalm.model import Finding, RecoveryPoint
from becalm.repository import lease
from becalm.repository.format import SnapshotDoc
from becalm.repository.lease import Fence
from becalm.repository.prune import forget
from becalm.repository.reader import init_repository
from becalm.repository.snapshots import save_snapshot
from becalm.storage import open_store
from becalm.storage.base import ObjectStore
from becalm.testing.builders import NOON, hours

Place = tuple[str, dict[str, str]]


@pytest.fixture(params=["directory", pytest.param("s3", marks=pytest.mark.s3), pytest.param("s3 with lock", marks=pytest.mark.s3)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """The URL and the credentials of a store that is empty."""
    if request.param == "directory":
        return f"file://{tmp_path}", {}
    server: Server = request.getfixturevalue("s3_server")
    bucket = request.getfixturevalue("s3_bucket" if request.param == "s3" else "s3_locking_bucket")
    return f"s3://{bucket}/{a_prefix()}", server.credentials()


@pytest.fixture
def store(place: Place) -> ObjectStore:
    """The store as the edges open it."""
    return open_store(*place)


def test_a_sleeper_that_wakes_after_its_lease_is_stopped(store: ObjectStore) -> None:
    """By the store's clock, in real time."""
    slept = lease.take(store, policy="shop", run="first", seconds=1.5)
    with pytest.raises(LeaseHeld, match="run first of policy shop") as caught:
        lease.take(store, policy="shop", run="second", seconds=60)
    assert caught.value.delay_seconds is not None
    assert 0 < caught.value.delay_seconds <= 2.5
    time.sleep(3)
    taken = lease.take(store, policy="shop", run="second", seconds=60)

    assert (slept.epoch, taken.epoch) == (1, 2)
    for act in (Fence(store, "first", slept.epoch).check, lambda: lease.renew(store, run="first", epoch=slept.epoch, seconds=60)):
        with pytest.raises(LeaseLost, match="run second has it since epoch 2"):
            act()
    lease.release(store, run="second", epoch=taken.epoch)
    assert lease.take(store, policy="shop", run="third", seconds=60).epoch == 3


CONTENDER = """
import json, sys
from becalm.errors import LeaseHeld
from becalm.repository import lease
from becalm.storage import open_store
url, credentials, run = json.loads(sys.argv[1])
store = open_store(url, credentials)
print("ready", flush=True)
sys.stdin.readline()
try:
    print(lease.take(store, policy="shop", run=run, seconds=60).epoch)
except LeaseHeld:
    print("held")
"""


def test_of_four_processes_exactly_one_takes_the_lease(place: Place) -> None:
    """Conditions hold between processes, not only between threads."""
    runs = [f"run-{number}" for number in range(4)]
    contenders = [
        subprocess.Popen(
            [sys.executable, "-c", CONTENDER, json.dumps([*place, run])], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for run in runs
    ]
    for contender in contenders:
        assert contender.stdout.readline() == "ready\n"
    for contender in contenders:
        contender.stdin.write("go\n")
        contender.stdin.flush()
    said = [contender.communicate(timeout=60)[0].strip() for contender in contenders]

    assert sorted(said) == ["1", "held", "held", "held"]
    held = lease.read(open_store(*place))
    assert held is not None
    assert held.run == runs[said.index("1")]


def test_points_are_read_pinned_and_forgotten(store: ObjectStore) -> None:
    """The whole life of a point in the catalogue, on the store itself."""
    repository = init_repository(store, "password")
    saved = [_save(repository, cut=NOON - hours(age)) for age in (3, 2, 1)]
    catalog.pin(store, saved[0], now=NOON, note="keep it")

    found = catalog.points(repository, "shop", protection=True)
    assert [(point.id, point.pinned) for point in found] == [(saved[0], True), (saved[1], False), (saved[2], False)]
    assert catalog.find(found, "2 hours ago", now=NOON).id == saved[1]
    assert forget(store, [saved[1]], keep=[saved[0], saved[2]]) == (saved[1],)
    assert [point.id for point in catalog.points(repository, "shop")] == [saved[0], saved[2]]


@pytest.mark.s3
def test_a_point_under_object_lock_is_not_forgotten(s3_server: Server, s3_locking_bucket: str) -> None:
    """The catalogue tells its lock, forgetting reports it, and the point stays."""
    store = open_store(f"s3://{s3_locking_bucket}/{a_prefix()}", s3_server.credentials())
    repository = init_repository(store, "password")
    until = store.now() + timedelta(seconds=4)
    locked, kept = _save(repository, cut=NOON, retain_until=until), _save(repository, cut=NOON + hours(1))
    refused: list[Finding] = []

    assert forget(store, [locked], keep=[kept], refused=refused.append) == ()
    assert "locked until" in refused[0].message
    locked_until = {point.id: point.locked_until for point in catalog.points(repository, "shop", protection=True)}
    assert locked_until[kept] is None
    assert locked_until[locked] is not None
    assert locked_until[locked] >= until


def _save(repository, *, cut, retain_until=None) -> str:
    point = RecoveryPoint(id="", policy="shop", cut=cut, tree="a" * 64, run="0123456789")
    return save_snapshot(repository, SnapshotDoc(time=cut, tree=point.tree, tags=catalog.tags_of(point)), retain_until=retain_until)
