"""Restic as the judge of what a prune leaves, and as a pruner beside Becalm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.contract.restics import Restic, programs
from tests.unit.prune_scenes import contents, save

from becalm.clock import SystemClock
from becalm.repository import lease, tombstones
from becalm.repository.lease import Fence
from becalm.repository.prune import Pruning, Rules, prune
from becalm.repository.reader import init_repository, open_repository
from becalm.repository.repack import repack
from becalm.repository.snapshots import snapshot_ids
from becalm.repository.writer import Writer
from becalm.storage.directory import DirectoryStore
from becalm.testing.fake_clock import FakeClock
from becalm.testing.saved_points import PASSWORD

DAY = 86400.0


class Beside:
    """A folder that is a repository for both, and a clock that Becalm's side goes by."""

    def __init__(self, folder: Path, restic: Restic) -> None:
        self.clock = FakeClock(SystemClock().now())  # the folder dates its files by the real one
        self.store = DirectoryStore(folder, clock=self.clock)
        self.restic = restic
        init_repository(self.store, PASSWORD)
        self._runs = 0

    def begin(self) -> Fence:
        """Take the lease, once the one before is over."""
        self._runs += 1
        self.clock.advance(3600)
        held = lease.take(self.store, policy="shop", run=f"run{self._runs}", seconds=900, clock=self.clock)
        return Fence(self.store, run=held.run, epoch=held.epoch, clock=self.clock)

    def write(self, **files: bytes) -> str:
        """Make a point."""
        return save(self.store, files, self.begin())

    def prune(self) -> Pruning:
        """Prune as a run does."""
        fence = self.begin()
        return prune(open_repository(self.store, PASSWORD), who="p", alive=fence.check, rules=Rules(yes_really=True))


@pytest.fixture(params=programs() or [pytest.param("", marks=pytest.mark.skip(reason="restic is not here"))])
def beside(request: pytest.FixtureRequest, tmp_path: Path) -> Beside:
    """Once for each restic that is here."""
    (tmp_path / "repository").mkdir()
    return Beside(tmp_path / "repository", Restic(request.param, tmp_path / "repository", tmp_path))


def test_restic_finds_nothing_wrong_before_between_and_after(beside: Beside) -> None:
    """Marked packs are whole for it; deleted ones are named by no index object."""
    old = beside.write(a=b"a" * 5000, both=b"b" * 5000)
    new = beside.write(b=b"c" * 5000, both=b"b" * 5000)
    beside.clock.advance(10 * DAY)
    beside.store.delete(f"snapshots/{old}")
    beside.restic("check", "--read-data")
    marked = beside.prune().marked
    beside.restic("check", "--read-data")
    beside.clock.advance(8 * DAY)
    deleted = len(beside.prune().deleted)
    said = beside.restic("check", "--read-data")

    assert marked == deleted == 2
    assert "no errors were found" in said
    assert [one["id"] for one in json.loads(beside.restic("snapshots", "--json"))] == [new]


def test_restic_finds_nothing_wrong_with_a_repacked_repository(beside: Beside) -> None:
    """Neither while both copies are there nor when the old one has gone."""
    files = {f"f{number}": bytes([number]) * 5000 for number in range(8)}
    repository = open_repository(beside.store, PASSWORD)
    with Writer(repository) as writer:
        for data in files.values():
            writer.save_bytes(data)
    old = beside.write(**files)
    beside.write(f1=files["f1"])
    beside.clock.advance(10 * DAY)
    beside.store.delete(f"snapshots/{old}")
    fence = beside.begin()
    done = repack(open_repository(beside.store, PASSWORD), who="p", alive=fence.check, progress=lambda message, **_: None)
    between = beside.restic("check", "--read-data")
    for _ in range(2):
        beside.clock.advance(8 * DAY)
        beside.prune()
    after = beside.restic("check", "--read-data")

    assert done.packs == 1
    assert "no errors were found" in between
    assert "no errors were found" in after
    assert list(contents(beside.store).values()) == [{"f1": files["f1"]}]


def test_what_restic_pruned_and_reindexed_becalm_reads_and_prunes(beside: Beside) -> None:
    """Restic replaces index objects and packs; points of Becalm stay whole, and so does a new one, tombstones or not."""
    first = beside.write(a=b"a" * 5000, both=b"b" * 5000)
    second = beside.write(b=b"c" * 5000, both=b"b" * 5000)
    beside.clock.advance(10 * DAY)
    beside.restic("forget", first, "--prune", "--max-unused", "0")
    read = contents(beside.store)
    beside.restic.rebuild_index()
    marked = beside.prune().marked
    third = beside.write(d=b"d" * 5000, a=b"a" * 5000)
    beside.clock.advance(8 * DAY)
    beside.prune()

    assert read == {second: {"b": b"c" * 5000, "both": b"b" * 5000}}
    assert marked == 0
    assert contents(beside.store)[third] == {"d": b"d" * 5000, "a": b"a" * 5000}
    assert "no errors were found" in beside.restic("check", "--read-data")


def test_a_tombstone_of_a_pack_that_restic_took_goes(beside: Beside) -> None:
    """Restic knows no tombstones: it deletes marked packs at once, and Becalm's next prune tidies up after it."""
    old = beside.write(a=b"a" * 5000)
    beside.write(b=b"c" * 5000)
    beside.clock.advance(10 * DAY)
    beside.store.delete(f"snapshots/{old}")
    marked = beside.prune().marked
    beside.restic("prune", "--max-unused", "0")
    beside.clock.advance(8 * DAY)
    done = beside.prune()

    assert marked == 2
    assert done.deleted == []
    assert tombstones.marked(beside.store) == frozenset()
    assert len(snapshot_ids(open_repository(beside.store, PASSWORD))) == 1
