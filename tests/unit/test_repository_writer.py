"""Repositories: made once, opened by the right password, written in the right order, read only where whole."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from becalm.errors import BecalmError, Damaged, NoRepository, NotFound, OtherRepository, PointMissing, StoreFull, WrongPassword
from becalm.repository.check import check, check_tree
from becalm.repository.crypto import Kdf, MasterKey, add_key
from becalm.repository.format import BlobKind, Layout, SnapshotDoc, SnapshotSummary
from becalm.repository.reader import Repository, init_repository, open_repository
from becalm.repository.snapshots import list_snapshots, load_snapshot, save_snapshot
from becalm.repository.tree import TreeBuilder, join, lookup, walk
from becalm.repository.writer import Writer
from becalm.testing.memory_store import MemoryStore

CHEAP = Kdf(n=1 << 4, r=8, p=1)
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def a_repository(store: MemoryStore | None = None, *, version: int = 2) -> tuple[MemoryStore, Repository]:
    store = store or MemoryStore()
    return store, init_repository(store, "password", kdf=CHEAP, version=version)


def a_tree(repository: Repository, files: dict[str, bytes]) -> str:
    builder = TreeBuilder(mtime=NOON)
    for path, data in files.items():
        builder.add_bytes(path, data)
    with Writer(repository) as writer:
        return builder.write(writer)


def contents(repository: Repository, tree: str) -> dict[str, bytes]:
    return {path: b"".join(repository.read_file(node)) for path, node in walk(repository, tree) if node.type == "file"}


FILES = {"a/one": b"1", "a/two": b"2" * 5000, "b/c/d": Random(2).randbytes(3 << 20), "empty": b""}


@pytest.mark.parametrize("version", [1, 2])
def test_what_was_written_is_read_by_another_process(version: int) -> None:
    """Through the password and the bucket alone."""
    store, repository = a_repository(version=version)
    tree = a_tree(repository, FILES)
    again = open_repository(store, "password")

    assert contents(again, tree) == FILES
    assert (again.id, again.version) == (repository.id, version)


def test_a_second_repository_is_not_made_over_the_first() -> None:
    """Nothing of what is there is touched."""
    store, _ = a_repository()
    before = {key: store.get(key) for key in tuple(store.keys())}

    with pytest.raises(OtherRepository, match="already"):
        a_repository(store)
    assert {key: store.get(key) for key in tuple(store.keys())} == before


def test_of_many_that_make_it_at_once_one_wins() -> None:
    """The others are told, and no key of theirs stays behind."""
    store = MemoryStore()
    outcomes: list[object] = []

    def attempt() -> None:
        try:
            outcomes.append(a_repository(store)[1].id)
        except OtherRepository as error:
            outcomes.append(error)

    threads = [threading.Thread(target=attempt) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [outcome for outcome in outcomes if isinstance(outcome, str)]

    assert len(winners) == 1
    assert open_repository(store, "password").id == winners[0]
    assert len(list(store.list(Layout.KEYS))) == 1


def test_a_key_that_was_left_behind_does_no_harm() -> None:
    """Whoever died between the key and the config left a key for nothing: the next one makes the repository, and it opens."""
    store = MemoryStore()
    for _ in range(3):
        add_key(store, MasterKey.random(), "password", created=store.now(), kdf=CHEAP)
    _, repository = a_repository(store)

    assert open_repository(store, "password").id == repository.id


def test_something_else_in_the_place_is_not_overwritten() -> None:
    """A bucket that holds other things is named as such, for making and for opening."""
    store = MemoryStore()
    store.put("holiday/picture.jpg", b"x")

    with pytest.raises(OtherRepository, match="picture"):
        a_repository(store)
    with pytest.raises(OtherRepository, match="picture"):
        open_repository(store, "password")


def test_a_lost_config_is_damage_and_not_an_empty_place() -> None:
    """Who would make a new repository there would lose the old one."""
    store, repository = a_repository()
    a_tree(repository, FILES)
    store.delete(Layout.CONFIG)

    with pytest.raises(Damaged, match="config"):
        open_repository(store, "password")
    with pytest.raises(Damaged, match="config"):
        a_repository(store)


def test_nothing_there_says_so() -> None:
    """An empty place has no repository, whatever the password."""
    with pytest.raises(NoRepository):
        open_repository(MemoryStore(), "password")


def test_a_wrong_password_opens_nothing() -> None:
    """And says so."""
    store, _ = a_repository()

    with pytest.raises(WrongPassword):
        open_repository(store, "passwort")


def test_the_same_data_is_stored_once() -> None:
    """Across files, across writers, and while it is still on its way."""
    store, repository = a_repository()
    with Writer(repository) as writer:
        first = [writer.save_bytes(FILES["b/c/d"]) for _ in range(3)]
        size = writer.flush().bytes_added
    with Writer(open_repository(store, "password")) as other:
        again = other.save_bytes(FILES["b/c/d"])

    assert set(first) == {again}
    assert size < 1.1 * len(FILES["b/c/d"])
    assert other.written.bytes_added == 0


def test_many_threads_bring_each_blob_once() -> None:
    """Eight threads with the same thousand blobs make one set of them."""
    store, repository = a_repository()
    blobs = [Random(number).randbytes(3000) for number in range(300)]
    with Writer(repository) as writer:
        threads = [threading.Thread(target=lambda: [writer.save_blob(BlobKind.DATA, blob) for blob in blobs]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    again = open_repository(store, "password")

    assert writer.written.blobs == len(blobs)
    assert len(again.index) == len(blobs)


def test_packs_come_before_the_index_that_speaks_of_them() -> None:
    """Whoever sees an index object sees its packs: the order of writes is kept."""
    order: list[str] = []

    class Recording(MemoryStore):
        def put(self, key, body, **options):
            order.append(key)
            return super().put(key, body, **options)

    _, repository = a_repository(Recording())
    with Writer(repository) as writer:
        for number in range(5):
            writer.save_bytes(Random(number).randbytes(9 << 20))
    kinds = [key.split("/")[0] for key in order[2:]]

    assert kinds == sorted(kinds)
    assert kinds.count("data") == 3
    assert kinds[-1] == "index"


def test_a_store_that_fails_fails_the_writer_and_shows_nothing() -> None:
    """The error of an upload reaches the caller, and no index object is written."""
    store, repository = a_repository()
    store.capacity_bytes = 1 << 20

    with pytest.raises(StoreFull), Writer(repository) as writer:
        for number in range(100):
            writer.save_bytes(Random(number).randbytes(4 << 20))
    assert not list(store.list(Layout.INDEX))


def test_a_writer_is_no_good_after_its_end() -> None:
    """It says so instead of losing what it is given."""
    _, repository = a_repository()
    with Writer(repository) as writer:
        pass

    with pytest.raises(BecalmError, match="closed"):
        writer.save_blob(BlobKind.DATA, b"late")


def test_every_object_of_a_locked_writer_is_locked() -> None:
    """Packs and index objects, until the very moment."""
    store, repository = a_repository()
    until = store.now() + timedelta(days=3)
    with Writer(repository, retain_until=until) as writer:
        tree = writer.save_tree(())
    save_snapshot(repository, SnapshotDoc(time=NOON, tree=tree), retain_until=until)
    written = [key for key in tuple(store.keys()) if key.startswith((Layout.DATA, Layout.INDEX, Layout.SNAPSHOTS))]

    assert len(written) == 3
    assert {store.head(key).retain_until for key in written} == {until}


def test_joined_trees_merge_and_the_later_wins() -> None:
    """Folders merge to any depth; a file gives way to the later one, and to a folder."""
    _, repository = a_repository()
    trees = [
        a_tree(repository, {"a/x": b"1", "a/deep/one": b"1", "clash": b"file", "only-first": b"f"}),
        a_tree(repository, {"a/y": b"2", "a/deep/two": b"2", "clash/inside": b"folder"}),
        a_tree(repository, {"a/x": b"3"}),
    ]
    with Writer(repository) as writer:
        tree = join(repository, writer, trees)

    assert contents(repository, tree) == {
        "a/x": b"3",
        "a/y": b"2",
        "a/deep/one": b"1",
        "a/deep/two": b"2",
        "clash/inside": b"folder",
        "only-first": b"f",
    }


def test_a_tree_may_be_empty() -> None:
    """Nothing at all is a tree too, and a join of nothing is that."""
    _, repository = a_repository()
    with Writer(repository) as writer:
        tree = join(repository, writer, [])

    assert repository.tree(tree) == []


@pytest.mark.parametrize("path", ["", "/", "a//b", "a/../b", ".", "nul\0"])
def test_a_path_that_leads_nowhere_is_refused(path: str) -> None:
    """Trees have no such names."""
    with pytest.raises(ValueError, match="path"):
        TreeBuilder().add_bytes(path, b"")


def test_a_path_is_looked_up() -> None:
    """From the root, which is the empty path; what is not there says so."""
    _, repository = a_repository()
    tree = a_tree(repository, FILES)

    assert lookup(repository, tree, "/a/two").size == 5000
    assert lookup(repository, tree, "/").subtree == tree
    with pytest.raises(NotFound, match="a/three"):
        lookup(repository, tree, "a/three")


def test_a_snapshot_says_what_it_was_told() -> None:
    """Through the bucket, by its id and by the beginning of it."""
    _, repository = a_repository()
    tree = a_tree(repository, FILES)
    said = SnapshotDoc(
        time=NOON,
        tree=tree,
        parent="ab" * 32,
        hostname="cluster",
        username="becalm",
        tags=("policy=shop",),
        program_version="becalm",
        summary=SnapshotSummary(backup_start=NOON, backup_end=NOON, files_new=4, data_added=5),
    )
    snapshot = save_snapshot(repository, said)

    assert list(list_snapshots(repository)) == [(snapshot, said)]
    assert load_snapshot(repository, snapshot[:8]) == (snapshot, said)
    for missing in ("", "f" * 64, "zz"):
        with pytest.raises(PointMissing):
            load_snapshot(repository, missing)


def test_check_finds_nothing_where_all_is_well() -> None:
    """Neither in the structure nor in the data; a tree names what it needs."""
    _, repository = a_repository()
    tree = a_tree(repository, FILES)
    save_snapshot(repository, SnapshotDoc(time=NOON, tree=tree))
    checked = check_tree(repository, tree, read_data=True)

    assert check(repository, read_data=True) == []
    assert checked.damages == ()
    assert {key.split("/")[0] for key in checked.keys} == {"config", "keys", "index", "data"}


def test_every_lost_or_changed_object_is_named() -> None:
    """Whichever object is changed, shortened, replaced or gone: it is named, and there is no other error."""
    store, repository = a_repository()
    tree = a_tree(repository, {"a/one": b"1", "b": Random(1).randbytes(2000)})
    save_snapshot(repository, SnapshotDoc(time=NOON, tree=tree))
    random = Random(7)
    for key in tuple(store.keys()):
        body = store.get(key)
        for change in ("flip", "cut", "swap", "gone"):
            wrong = bytearray(body)
            if change == "flip":
                wrong[random.randrange(len(wrong))] ^= 1 << random.randrange(8)
            elif change == "cut":
                del wrong[-random.randrange(1, len(wrong)) :]
            else:
                wrong = bytearray(random.randbytes(len(wrong)))
            store.tamper(key, bytes(wrong))
            if change == "gone":
                store.delete(key)
            told = _complaint(store)
            if change == "gone" and key.startswith(Layout.SNAPSHOTS):
                assert told == ""  # nothing in the format misses a snapshot
            else:
                wanted = {"index": "no index knows", "keys": Layout.KEYS}.get(key.split("/")[0], key) if change == "gone" else key
                assert wanted in told, (key, change)
            if change == "gone":
                store.put(key, body)
            store.tamper(key, body)
    assert _complaint(store) == ""


def _complaint(store: MemoryStore) -> str:
    try:
        return "\n".join(map(str, check(open_repository(store, "password"), read_data=True)))
    except Damaged as error:
        return str(error)
