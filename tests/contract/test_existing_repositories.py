"""Repositories that restic wrote: of both versions, packed and compressed in every way, pruned, migrated, with many keys and indexes.

Becalm opens each, lists its snapshots, verifies every byte and restores what was there.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from random import Random

import orjson
import pytest
from tests.contract.portraits import Entry, portrait
from tests.contract.restics import PASSWORD, Restic, programs, the_restic, version_of
from tests.contract.stores import Server, s3_bucket, s3_server  # noqa: F401  (fixtures are imported by their names)

from becalm.errors import WrongPassword
from becalm.repository.check import check
from becalm.repository.extract import extract
from becalm.repository.format import BlobKind, Layout, NodeType
from becalm.repository.reader import Repository, open_repository
from becalm.repository.snapshots import list_snapshots
from becalm.repository.tree import lookup, walk
from becalm.repository.writer import Writer
from becalm.storage import open_store
from becalm.storage.base import ObjectStore
from becalm.storage.directory import DirectoryStore


@pytest.fixture(scope="module", params=programs() or [""], ids=lambda program: ".".join(map(str, version_of(program))) if program else "-")
def program(request: pytest.FixtureRequest) -> str:
    """Every restic at hand, one after the other."""
    if not request.param:
        pytest.skip("restic is not installed")
    return str(request.param)


@pytest.fixture
def restic(program: str, tmp_path: Path) -> Restic:
    return Restic(program, tmp_path / "repository", tmp_path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder that compresses in parts, repeats itself, and has pieces of all sizes."""
    path = tmp_path / "source"
    path.mkdir()
    random = Random(11)
    for number in range(60):
        folder = path / f"folder{number % 5}"
        folder.mkdir(exist_ok=True)
        (folder / f"file{number}").write_bytes(random.randbytes(number * 100) + b"text " * (number * 20))
    (path / "large").write_bytes(random.randbytes(6 << 20) * 2)
    (path / "zeros").write_bytes(bytes(20 << 20))
    (path / "folder0" / "link").symlink_to("../large")
    return path


def opened(restic: Restic, password: str = PASSWORD) -> Repository:
    return open_repository(DirectoryStore(restic.where), password)


def without_root(entries: dict[bytes, Entry]) -> dict[bytes, Entry]:
    """Return what is in the folder: restic keeps nothing of the folder itself."""
    return {path: entry for path, entry in entries.items() if path != b"."}


def restored(repository: Repository, tree: str, goal: Path) -> dict[bytes, Entry]:
    goal.mkdir()
    done = extract(repository, tree, goal)
    assert done.failures == ()
    return without_root(portrait(goal, holes=False))


def newest(repository: Repository) -> str:
    return max(list_snapshots(repository), key=lambda found: found[1].time)[1].tree


def assert_whole(restic: Restic, source: Path, goal: Path) -> Repository:
    """Every byte verifies, and the newest snapshot is the folder."""
    repository = opened(restic)
    assert check(repository, read_data=True) == []
    assert restored(repository, newest(repository), goal) == without_root(portrait(source, holes=False))
    return repository


def flag(restic: Restic, *words: str, since: tuple[int, ...]) -> tuple[str, ...]:
    """Return an option where this restic knows it."""
    return words if restic.version >= since else ()


@pytest.mark.parametrize(
    ("version", "options"),
    [
        ("1", ()),
        ("2", ("--compression", "auto")),
        ("2", ("--compression", "max")),
        ("2", ("--compression", "off")),
        ("2", ("--pack-size", "4")),
        ("2", ("--pack-size", "100")),
    ],
    ids=["version 1", "auto", "max", "off", "small packs", "large packs"],
)
def test_a_repository_of_every_making_is_read(version: str, options: tuple[str, ...], restic: Restic, source: Path, tmp_path: Path) -> None:
    """Whatever version, compression and size of packs it was written with."""
    restic("init", "--repository-version", version)
    restic("backup", ".", *options, within=source)
    repository = assert_whole(restic, source, tmp_path / "restored")

    assert repository.version == int(version)


def test_every_key_opens_and_a_removed_one_does_not(restic: Restic, source: Path, tmp_path: Path) -> None:
    """Keys that restic added and removed."""
    restic("init")
    restic("backup", ".", within=source)
    (tmp_path / "second").write_text("the second\n")
    (tmp_path / "third").write_text("the third\n")
    restic("key", "add", "--new-password-file", str(tmp_path / "second"))
    restic("key", "add", "--new-password-file", str(tmp_path / "third"))
    third = next(key["id"] for key in orjson.loads(restic("key", "list", "--json", password="the third")) if key["current"])
    restic("key", "remove", third)

    assert {opened(restic).id, opened(restic, "the second").id} == {opened(restic).id}
    with pytest.raises(WrongPassword, match="none of the 2 keys"):
        opened(restic, "the third")


def test_many_snapshots_indexes_parents_and_paths_are_all_read(restic: Restic, source: Path, tmp_path: Path) -> None:
    """Each snapshot is what the folder was at its time, though it shares with the others; paths stand from the root."""
    restic("init")
    wanted: dict[str, dict[bytes, Entry]] = {}
    for number in range(5):
        (source / f"new{number}").write_bytes(Random(number).randbytes(100_000))
        (source / "folder1" / "file1").write_text(f"{number}")
        restic("backup", ".", "--host", f"host{number}", "--tag", f"t{number},all", within=source)
        wanted[f"host{number}"] = without_root(portrait(source, holes=False))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thing").write_bytes(b"o")
    restic("backup", str(source), str(tmp_path / "other"), "--host", "both")
    repository = opened(restic)
    snapshots = {doc.hostname: doc for _, doc in list_snapshots(repository)}

    assert len(list(repository.store.list(Layout.INDEX))) >= 6
    assert check(repository, read_data=True) == []
    assert snapshots["host3"].tags == ("t3", "all")
    assert set(snapshots["both"].paths) == {str(tmp_path / "other"), str(source)}
    for host, entries in wanted.items():
        assert restored(repository, snapshots[host].tree, tmp_path / f"restored-{host}") == entries
    absolute = lookup(repository, snapshots["both"].tree, str(source))
    assert restored(repository, absolute.subtree, tmp_path / "restored-both") == without_root(portrait(source, holes=False))
    assert lookup(repository, snapshots["both"].tree, str(tmp_path / "other" / "thing")).size == 1


def test_a_repository_that_was_forgotten_from_and_pruned_is_whole(restic: Restic, source: Path, tmp_path: Path) -> None:
    """Restic packs again what stays and writes its indexes anew."""
    restic("init")
    restic("backup", ".", within=source)
    shutil.rmtree(source / "folder2")
    (source / "large").write_bytes(Random(5).randbytes(1 << 20))
    restic("backup", ".", within=source)
    before = opened(restic)
    held = {blob.pack for blob in before.index.entries()}
    restic("forget", "--keep-last", "1", "--prune", "--max-unused", "0")
    repository = assert_whole(restic, source, tmp_path / "restored")

    assert len(list(list_snapshots(repository))) == 1
    assert {blob.pack for blob in repository.index.entries()} != held


def test_a_repository_that_was_migrated_holds_both_kinds_of_blobs(restic: Restic, source: Path, tmp_path: Path) -> None:
    """After `migrate upgrade_repo_v2`, old packs are plain and new ones compressed."""
    restic("init", "--repository-version", "1")
    restic("backup", ".", within=source)
    restic("migrate", "upgrade_repo_v2")
    (source / "later").write_bytes(b"compresses well " * 100_000)
    restic("backup", ".", within=source)
    repository = assert_whole(restic, source, tmp_path / "restored")
    compressed = {bool(place.blob.uncompressed_length) for place in repository.index.entries()}

    assert repository.version == 2
    assert compressed == {True, False}


def test_restic_reads_on_after_becalm_wrote_into_its_repository(restic: Restic, source: Path, tmp_path: Path) -> None:
    """Beside `becalm/`, which restic does not look at: its check, its next backup and its prune work as before."""
    restic("init")
    restic("backup", ".", within=source)
    store = DirectoryStore(restic.where)
    store.put("becalm/adopted", b"{}", if_absent=True)
    (source / "more").write_bytes(b"m")
    restic("backup", ".", within=source)
    restic("forget", "--keep-last", "1", "--prune")

    assert "no errors were found" in restic("check", "--read-data")
    assert store.get("becalm/adopted") == b"{}"
    assert_whole(restic, source, tmp_path / "restored")


def test_attributes_of_other_systems_are_passed_over(tmp_path: Path) -> None:
    """`generic_attributes`, and fields that nobody knows yet, do not keep a tree from being read."""
    restic = Restic(the_restic(), tmp_path / "repository", tmp_path)
    restic("init")
    repository = opened(restic)
    entry = {
        "name": "file",
        "type": "file",
        "mode": 0o644,
        "mtime": "2026-01-02T03:04:05.6+01:00",
        "atime": "2026-01-02T03:04:05Z",
        "ctime": "2026-01-02T03:04:05Z",
        "uid": 1,
        "gid": 2,
        "user": "somebody",
        "generic_attributes": {"windows.creation_time": "WK8YbtHI2gE=", "windows.file_attributes": 32},
        "of_the_future": [1, {"two": 3}],
        "content": None,
    }
    with Writer(repository) as writer:
        tree = writer.save_blob(BlobKind.TREE, orjson.dumps({"nodes": [entry], "also": 1}) + b"\n")
    [(path, node)] = walk(opened(restic), tree)

    assert (path, node.type, node.uid, node.gid, node.user) == ("file", NodeType.FILE, 1, 2, "somebody")
    assert node.mtime_ns == 1_767_319_445_600_000_000


@pytest.fixture
def bucket_prefix(s3_bucket: str) -> Iterator[str]:  # noqa: F811  (a fixture, by its name)
    yield f"{s3_bucket}/{uuid.uuid4().hex[:8]}"


@pytest.mark.s3
def test_a_repository_in_a_bucket_is_read_like_one_in_a_folder(
    program: str,
    s3_server: Server,  # noqa: F811  (a fixture, by its name)
    bucket_prefix: str,
    source: Path,
    tmp_path: Path,
) -> None:
    """Written by restic's own client, read by ours."""
    restic = Restic(program, f"s3:{s3_server.endpoint}/{bucket_prefix}", tmp_path, s3_server)
    restic("init")
    restic("backup", ".", within=source)
    store: ObjectStore = open_store(f"s3://{bucket_prefix}", s3_server.credentials())
    repository = open_repository(store, PASSWORD)

    assert check(repository, read_data=True) == []
    assert restored(repository, newest(repository), tmp_path / "restored") == without_root(portrait(source, holes=False))
