"""Every store keeps the one contract: memory, a directory, real S3 with and without object lock, moto, and the wrappers.

moto runs only what it is faithful in. Left out there: races (it lets two writers win), object lock (it accepts the shortening of
a lock and a lock that ends in the past), clashes of keys (its keys are no paths) and line breaks in keys; its checksums are not asked,
for it takes any.
"""

# ruff: noqa: F401, F811  (fixtures are imported by their names)

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.contract.stores import Server, a_prefix, moto_bucket, moto_server, s3_bucket, s3_locking_bucket, s3_server

from becalm.clock import SystemClock
from becalm.storage import open_store
from becalm.storage.directory import DirectoryStore
from becalm.storage.wrappers import Counting, Prefixed, Retrying
from becalm.testing.contracts.store import StoreContract, Subject
from becalm.testing.fake_clock import FakeClock
from becalm.testing.faulty_store import FaultyStore
from becalm.testing.memory_store import MemoryStore


class TestMemory(StoreContract):
    """The double that the other tests use."""

    @pytest.fixture
    def subject(self) -> Subject:
        """Return the store under test."""
        clock = FakeClock()
        return Subject(store=MemoryStore(clock=clock, page_size=4), object_lock=True, unlock=lambda: clock.advance(3), clashes=False)


class TestMemoryWithoutLock(StoreContract):
    """The double of a bucket without object lock."""

    @pytest.fixture
    def subject(self) -> Subject:
        """Return the store under test."""
        return Subject(store=MemoryStore(object_lock=False), clashes=False)


class TestDirectory(StoreContract):
    """A folder."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        """Return the store under test."""
        return Subject(store=DirectoryStore(tmp_path))


class TestOpenedDirectory(StoreContract):
    """A folder as `open_store` gives it."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        """Return the store under test."""
        return Subject(store=open_store(f"file://{tmp_path}/new/target", {}, create=True))


class TestWrappers(StoreContract):
    """All wrappers around one another change nothing of the contract."""

    @pytest.fixture
    def subject(self) -> Subject:
        """Return the store under test."""
        clock = FakeClock()
        inner = MemoryStore(clock=clock, page_size=4)
        inner.put("beside", b"not ours")
        inner.put("some/prefixed", b"not ours")
        store = Counting(Retrying(Prefixed(FaultyStore(inner), "some/prefix"), clock=clock))
        return Subject(store=store, object_lock=True, unlock=lambda: clock.advance(3), clashes=False)


@pytest.mark.s3
class TestS3(StoreContract):
    """A real bucket that keeps one version of each object."""

    @pytest.fixture
    def subject(self, s3_server: Server, s3_bucket: str) -> Subject:
        """Return the store under test."""
        return Subject(store=s3_server.store(s3_bucket, a_prefix(), page_size=4))


@pytest.mark.s3
class TestS3WithObjectLock(StoreContract):
    """A real bucket with object lock and versions."""

    @pytest.fixture
    def subject(self, s3_server: Server, s3_locking_bucket: str) -> Subject:
        """Return the store under test."""
        store = s3_server.store(s3_locking_bucket, a_prefix(), page_size=4)
        return Subject(store=store, object_lock=True, unlock=lambda: time.sleep(3.2))


@pytest.mark.s3
class TestOpenedS3(StoreContract):
    """A real bucket as `open_store` gives it."""

    @pytest.fixture
    def subject(self, s3_server: Server, s3_bucket: str) -> Subject:
        """Return the store under test."""
        return Subject(store=open_store(f"s3://{s3_bucket}/{a_prefix()}", s3_server.credentials(), clock=SystemClock()))


class TestMoto(StoreContract):
    """The in-process server, in what it is faithful in."""

    @pytest.fixture
    def subject(self, moto_server: Server, moto_bucket: str) -> Subject:
        """Return the store under test."""
        return Subject(store=moto_server.store(moto_bucket, a_prefix(), page_size=4), races=False, clashes=False)

    def test_hard_keys_travel_unchanged(self, subject: Subject) -> None:
        """Left out: moto finds no route for a key with a line break."""
        pytest.skip("moto knows no line breaks in keys")
