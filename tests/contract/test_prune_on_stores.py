"""Pruning on real stores: their conditions, their lists, their locks. Weeks pass by a clock that is put forward."""

# ruff: noqa: F401  (fixtures are imported by their names)

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.contract.stores import Server, a_prefix, s3_bucket, s3_locking_bucket, s3_server
from tests.unit.prune_scenes import contents, save

from becalm.errors import PreconditionFailed
from becalm.repository import intents, lease, tombstones
from becalm.repository.check import check
from becalm.repository.format import Layout
from becalm.repository.lease import Fence
from becalm.repository.prune import Pruning, Rules, prune
from becalm.repository.reader import init_repository, open_repository
from becalm.storage import open_store
from becalm.storage.base import ObjectStore
from becalm.storage.wrappers import Wrapper
from becalm.testing.saved_points import CHEAP, PASSWORD


class Later(Wrapper):
    """A store whose clock can be put forward."""

    ahead = timedelta(0)

    def now(self) -> datetime:
        """Tell its own time, and what it was put forward."""
        return super().now() + self.ahead


@pytest.fixture(params=["directory", pytest.param("s3", marks=pytest.mark.s3), pytest.param("s3 with versions", marks=pytest.mark.s3)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Later:
    """An empty repository on each store. A bucket with object lock has versions."""
    if request.param == "directory":
        made = open_store(f"file://{tmp_path}", {})
    else:
        server: Server = request.getfixturevalue("s3_server")
        bucket = request.getfixturevalue("s3_bucket" if request.param == "s3" else "s3_locking_bucket")
        made = open_store(f"s3://{bucket}/{a_prefix()}", server.credentials())
    init_repository(made, PASSWORD, kdf=CHEAP)
    return Later(made)


def a_run(store: Later, name: str) -> Fence:
    store.ahead += timedelta(hours=1)
    held = lease.take(store, policy="shop", run=name, seconds=900)
    return Fence(store, run=name, epoch=held.epoch)


def a_prune(store: Later, name: str) -> Pruning:
    fence = a_run(store, name)
    return prune(open_repository(store, PASSWORD), who=name, alive=fence.check, rules=Rules(yes_really=True))


def test_what_nothing_needs_goes_and_the_rest_can_be_read(store: Later) -> None:
    """Marked by one prune, deleted by another, index objects replaced between."""
    old = save(store, {"a": b"a" * 3000, "both": b"b" * 3000}, a_run(store, "one"))
    new = save(store, {"c": b"c" * 3000, "both": b"b" * 3000}, a_run(store, "two"))
    store.delete(Layout.snapshot(old))
    store.ahead += timedelta(days=10)
    marked = a_prune(store, "three").marked
    store.ahead += timedelta(days=8)
    deleted = a_prune(store, "four").deleted
    repository = open_repository(store, PASSWORD)

    assert marked == len(deleted) == 2
    assert contents(store) == {new: {"c": b"c" * 3000, "both": b"b" * 3000}}
    assert check(repository, read_data=True) == []
    assert repository.index.packs() == {info.key.rpartition("/")[2] for info in store.list(Layout.DATA)}
    assert tombstones.marked(store) == frozenset()


def test_of_two_who_decide_an_intent_or_a_tombstone_the_first_has(store: Later) -> None:
    """By the store's own conditions."""
    one = intents.begin(store, "ab" * 32, tree="cd" * 32, run="one", epoch=1)
    with pytest.raises(PreconditionFailed):
        intents.begin(store, "ab" * 32, tree="cd" * 32, run="two", epoch=2)
    cancelled, closed = intents.cancel(store, one), intents.close(store, one)
    two = intents.begin(store, "ef" * 32, tree="cd" * 32, run="one", epoch=1)
    ends = (intents.close(store, two), intents.cancel(store, two), intents.close(store, two))
    tombstones.mark(store, "12" * 32, reason="a test", who="one")
    again = tombstones.mark(store, "12" * 32, reason="a test", who="two")
    (stone,) = tombstones.listed(store)
    rescued = tombstones.rescue(store, stone, who="one")
    condemned = tombstones.condemn(store, stone, who="two")

    assert (cancelled, closed, ends) == (True, False, (True, False, True))
    assert intents.withdrawn(store) == {"ab" * 32}
    assert (again, rescued, condemned) == (False, True, None)
