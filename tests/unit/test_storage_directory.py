"""A folder as a store: what a disk can do to it, and what it leaves behind."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from becalm.errors import AccessDenied, BucketMissing, PermanentError, PreconditionFailed, StoreFull, StoreReadOnly
from becalm.storage import open_store
from becalm.storage.directory import UNFINISHED_SECONDS, DirectoryStore
from becalm.testing.fake_clock import FakeClock

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users can reach."""
    path = Path(tempfile.mkdtemp(prefix="becalm-"))
    path.chmod(0o755)
    yield path
    for inner in [path, *path.rglob("*")]:
        if inner.is_dir():
            inner.chmod(0o755)
    shutil.rmtree(path)


@contextmanager
def _without_privileges() -> Iterator[None]:
    """Be an ordinary user for a while: root may do anything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def _room_for(size: int) -> Iterator[None]:
    """Let no file grow beyond a size, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_that_is_missing_is_never_made_by_writing(tmp_path: Path) -> None:
    """A backup disk that is not mounted is an error, not an empty target on the root disk."""
    store = DirectoryStore(tmp_path / "unmounted")

    for act in (
        lambda: store.put("key", b""),
        lambda: store.get("key"),
        lambda: store.head("key"),
        lambda: list(store.list("")),
        lambda: store.delete("key"),
    ):
        with pytest.raises(BucketMissing, match="mount the disk"):
            act()
    assert list(tmp_path.iterdir()) == []


def test_a_person_may_ask_for_the_folder(tmp_path: Path) -> None:
    """Then it is made with its parents; twice is fine; a file in its place is an error."""
    for _ in range(2):
        open_store(f"file://{tmp_path}/a/b", {}, create=True).put("key", b"x")
    (tmp_path / "file").write_bytes(b"")

    assert (tmp_path / "a/b/key").read_bytes() == b"x"
    with pytest.raises(PermanentError, match="a file stands where the folder should be"):
        open_store(f"file://{tmp_path}/file", {}, create=True)


def test_a_full_disk_is_said_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    """What was there stays, and deleting still works."""
    store = DirectoryStore(tmp_path)
    store.put("data/key", b"before")
    with _room_for(1000):
        for if_absent, key in ((False, "data/key"), (True, "data/new")):
            with pytest.raises(StoreFull, match="make room"):
                store.put(key, b"x" * 100_000, if_absent=if_absent)
        left = _everything(tmp_path)
        before = store.get("data/key")
        store.delete("data/key")

    assert before == b"before"
    assert [name for name in left if "~lock" not in name] == ["data/key"]
    assert list(store.list("")) == []


def test_a_folder_that_may_only_be_read_is_read_only(folder: Path) -> None:
    """Reading works; writing names the right that is missing."""
    store = DirectoryStore(folder)
    store.put("data/key", b"x")
    for path in (folder / "data", folder):
        path.chmod(0o555)
    (folder / "data/key").chmod(0o444)
    with _without_privileges():
        assert store.get("data/key") == b"x"
        for act in (lambda: store.put("data/new", b""), lambda: store.put("other/new", b""), lambda: store.delete("data/key")):
            with pytest.raises(StoreReadOnly, match="read and write rights"):
                act()

    assert store.get("data/key") == b"x"


def test_a_folder_that_may_not_be_read_is_denied(folder: Path) -> None:
    """Never an empty list."""
    store = DirectoryStore(folder)
    store.put("data/key", b"x")
    (folder / "data/key").chmod(0o000)
    with _without_privileges(), pytest.raises(AccessDenied):
        store.get("data/key")
    (folder / "data").chmod(0o000)

    with _without_privileges(), pytest.raises(AccessDenied):
        list(store.list(""))


def test_what_writers_that_died_left_is_invisible_and_goes_in_time(tmp_path: Path) -> None:
    """A temporary file of today may belong to a writer that lives."""
    clock = FakeClock()
    DirectoryStore(tmp_path, clock=clock).put("data/key", b"x")
    for name, age in (("dead", UNFINISHED_SECONDS + 60), ("living", 60)):
        path = tmp_path / f"data/.becalm~{name}"
        path.write_bytes(b"half")
        stamp = clock.now().timestamp() - age
        os.utime(path, (stamp, stamp))
    store = DirectoryStore(tmp_path, clock=clock)

    assert [info.key for info in store.list("")] == ["data/key"]
    store.put("data/other", b"x")
    assert [name for name in _everything(tmp_path) if "~lock" not in name] == ["data/.becalm~living", "data/key", "data/other"]


def test_a_put_leaves_nothing_beside_its_object(tmp_path: Path) -> None:
    """Not even one that lost its condition."""
    store = DirectoryStore(tmp_path)
    store.put("data/key", b"x", if_absent=True)
    with pytest.raises(PreconditionFailed):
        store.put("data/key", b"y", if_absent=True)

    assert _everything(tmp_path) == ["data/key"]


def test_two_states_of_the_same_size_in_the_same_moment_differ(tmp_path: Path) -> None:
    """The clock stands still and the file system uses inodes again: the etag must tell them apart all the same."""
    store = DirectoryStore(tmp_path, clock=FakeClock())
    etags = {store.put("key", bytes([number])) for number in range(200)}

    assert len(etags) == 200


def test_stores_at_two_heights_of_one_folder_share_their_conditions(tmp_path: Path) -> None:
    """One opened at the target and one at the policy's part of it swap the same object."""
    upper, lower = DirectoryStore(tmp_path), DirectoryStore(tmp_path / "shop")
    upper.put("shop/becalm/lease", b"0")
    swaps: list[int] = []

    def swap_often(store: DirectoryStore, key: str) -> None:
        for _ in range(50):
            etag = store.head(key).etag
            try:
                store.put(key, str(int(store.get(key)) + 1).encode(), if_match=etag)
            except PreconditionFailed:
                continue
            swaps.append(1)

    threads = [
        threading.Thread(target=swap_often, args=args) for args in ((upper, "shop/becalm/lease"), (lower, "becalm/lease")) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert int(upper.get("shop/becalm/lease")) == len(swaps)


def test_time_is_the_clocks(tmp_path: Path) -> None:
    """And objects are dated by it."""
    clock = FakeClock()
    store = DirectoryStore(tmp_path, clock=clock)
    store.put("key", b"")

    assert store.now() == clock.now()
    assert abs(store.head("key").modified - clock.now()) < timedelta(milliseconds=2)
