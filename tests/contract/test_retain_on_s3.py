"""Object lock on a real bucket: points that share packs, an incremental run that locks little, and a lock that is handed on."""

# ruff: noqa: F401, F811  (fixtures are imported by their names)

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest
from tests.contract.stores import Server, s3_server

from becalm.errors import AccessDenied
from becalm.repository import retain
from becalm.repository.check import check_tree
from becalm.repository.format import Layout, SnapshotDoc
from becalm.repository.reader import Repository, init_repository
from becalm.repository.snapshots import save_snapshot
from becalm.repository.tree import TreeBuilder
from becalm.repository.writer import Writer
from becalm.storage import open_store
from becalm.storage.base import ObjectStore
from becalm.storage.wrappers import Counting

pytestmark = pytest.mark.s3

DAYS = 7


@pytest.fixture
def store(s3_server: Server) -> Iterator[ObjectStore]:
    """A bucket with object lock, whose locks end by an owner's bypass and not by waiting for days."""
    client, name = s3_server.client(), f"becalm-contract-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    yield open_store(f"s3://{name}/shop", s3_server.credentials(), lock="governance")
    for page in client.get_paginator("list_object_versions").paginate(Bucket=name):
        for version in [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]:
            client.delete_object(Bucket=name, Key=version["Key"], VersionId=version["VersionId"], BypassGovernanceRetention=True)
    client.delete_bucket(Bucket=name)
    client.close()


def capture(repository: Repository, files: dict[str, bytes], parent: tuple[str, str] | None) -> tuple[str, str]:
    """Make a point as a run does; return its snapshot and its tree."""
    store = repository.store
    with Writer(repository, retain_until=retain.Term.of(store.now(), DAYS).at_writing) as writer:
        builder = TreeBuilder(mtime=store.now())
        for name, content in files.items():
            builder.add_bytes(name, content)
        tree = builder.write(writer)
    repository.refresh()
    proof = retain.proof(repository, *parent) if parent else None
    until = retain.secure(repository, tree, check_tree(repository, tree).keys, days=DAYS, proof=proof)
    return save_snapshot(repository, SnapshotDoc(time=store.now(), tree=tree), retain_until=until), tree


def test_what_a_point_needs_is_locked_as_long_as_the_point_and_little_is_asked_for(store: ObjectStore) -> None:
    """Beside each point every object stands longer; the bucket refuses to let any of them go."""
    counting = Counting(store)
    repository = init_repository(counting, "p")
    began = store.now()
    parent, files = None, {}
    for number in range(12):
        files[f"f{number}"] = bytes([number]) * 100
        counting.calls.clear()
        parent = capture(repository, files, parent)
    snapshot, tree = parent
    needed = check_tree(repository, tree).keys
    packs = [key for key in needed if key.startswith(Layout.DATA)]
    until = store.head(Layout.snapshot(snapshot)).retain_until

    assert len(packs) > 10
    assert counting.calls["retain"] <= len(needed) - len(packs) + 3, "the packs of the parent are not asked for"
    assert until >= began + timedelta(days=DAYS)
    assert all(store.head(key).retain_until >= until for key in needed)
    for key in (packs[0], Layout.snapshot(snapshot)):
        with pytest.raises(AccessDenied, match="locked until"):
            store.delete(key)


def test_an_older_point_is_locked_as_long_as_the_newest(store: ObjectStore) -> None:
    """Its own packs first, its snapshot last."""
    repository = init_repository(store, "p")
    old = capture(repository, {"same": b"s" * 100, "old": b"o" * 100}, None)
    store.retain(Layout.snapshot(old[0]), store.now() + timedelta(days=DAYS + 1))
    new = capture(repository, {"same": b"s" * 100, "new": b"n" * 100}, None)
    longer = store.now() + timedelta(days=2 * DAYS)
    retain.lock_all(store, [*check_tree(repository, new[1]).keys, Layout.snapshot(new[0])], longer)
    proof = retain.proof(repository, *new)
    assert proof is not None
    retain.extend(repository, *old, proof=proof)

    assert store.head(Layout.snapshot(old[0])).retain_until == proof.until >= longer
    assert all(store.head(key).retain_until >= proof.until for key in check_tree(repository, old[1]).keys)
