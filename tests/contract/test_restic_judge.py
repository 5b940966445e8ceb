"""Stock restic judges what Becalm writes, and Becalm reads what restic writes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.contract.contract_trees import AS_ROOT, allocated, make_nasty_tree, picture
from tests.contract.restics import PASSWORD, Restic, the_restic

from becalm.catalog.points import points
from becalm.repository.backup import back_up_device, back_up_directory
from becalm.repository.check import check
from becalm.repository.crypto import Kdf, add_key
from becalm.repository.extract import extract, extract_device, read_path
from becalm.repository.format import NodeType, SnapshotDoc
from becalm.repository.reader import Repository, init_repository, open_repository
from becalm.repository.snapshots import list_snapshots, save_snapshot
from becalm.repository.tree import TreeBuilder, join, lookup, walk
from becalm.repository.writer import Writer
from becalm.storage.directory import DirectoryStore

CHEAP = Kdf(n=1 << 10, r=8, p=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "repository"
    path.mkdir()
    return path


@pytest.fixture
def restic(folder: Path, tmp_path: Path) -> Restic:
    return Restic(the_restic(), folder, tmp_path)


@pytest.fixture
def repository(folder: Path) -> Repository:
    return init_repository(DirectoryStore(str(folder)), PASSWORD, kdf=CHEAP)


@pytest.fixture
def source(tmp_path: Path, restic: Restic) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    make_nasty_tree(path)
    if restic.version < (0, 16):  # it does not know `linktarget_raw`
        (path / "links" / "odd").unlink()
        os.utime(path / "links", ns=(0, 1_600_000_000))
    return path


def commit(repository: Repository, tree: str) -> str:
    return save_snapshot(
        repository,
        SnapshotDoc(
            time=datetime(2026, 3, 4, 5, 6, 7, 8, tzinfo=UTC),
            tree=tree,
            hostname="cluster",
            username="becalm",
            tags=("policy=shop", "slot=2026"),
        ),
    )


def target(tmp_path: Path, name: str) -> Path:
    path = tmp_path / name
    path.mkdir()
    return path


def test_restic_finds_every_byte_of_a_nasty_tree_in_order(repository: Repository, restic: Restic, source: Path) -> None:
    """`restic check --read-data` has nothing to say, and its counts are ours."""
    with Writer(repository) as writer:
        written = back_up_directory(repository, writer, source)
    commit(repository, written.tree)

    assert "no errors were found" in restic("check", "--read-data")
    assert restic.documents("stats", "latest", "--mode", "restore-size")[0]["total_file_count"] == len(picture(source)) - 1
    assert written.unreadable == ()
    assert check(repository, read_data=True) == []


def test_restic_restores_what_becalm_wrote(repository: Repository, restic: Restic, source: Path, tmp_path: Path) -> None:
    """Names, modes, owners, times, links, attributes and holes are as they were."""
    with Writer(repository) as writer:
        written = back_up_directory(repository, writer, source)
        builder = TreeBuilder()
        builder.add_tree("volumes/shop/data", written.tree, like=written.root)
        tree = builder.write(writer)
    commit(repository, tree)
    restored = target(tmp_path, "restored")
    sparse = ("--sparse",) if restic.version >= (0, 15) else ()
    restic("restore", "latest", "--target", str(restored), *sparse)

    assert picture(restored / "volumes/shop/data") == picture(source)
    assert allocated(restored / "volumes/shop/data/hole") == (0 if sparse else 20 << 20)


def test_becalm_restores_what_becalm_wrote(repository: Repository, source: Path, tmp_path: Path) -> None:
    """The same holds without restic, the root's own owner, mode and times included; holes stay holes."""
    with Writer(repository) as writer:
        written = back_up_directory(repository, writer, source)
    restored = target(tmp_path, "restored")
    done = extract(repository, written.tree, restored, root=written.root)

    assert picture(restored) == picture(source)
    assert done.failures == ()
    assert allocated(restored / "hole") == 0
    assert allocated(restored / "sparse") < 1 << 20


def test_a_second_restore_over_a_whole_target_writes_nothing(repository: Repository, source: Path, tmp_path: Path) -> None:
    """What has its size and its time is complete, and is kept."""
    with Writer(repository) as writer:
        written = back_up_directory(repository, writer, source)
    restored = target(tmp_path, "restored")
    extract(repository, written.tree, restored, root=written.root)
    before = picture(restored)
    (restored / "many" / "7").write_bytes(b"spoilt")
    again = extract(repository, written.tree, restored, root=written.root)

    assert picture(restored) == before
    assert again.bytes == len("7\n") * 7
    assert again.files == 1 + 2  # the spoilt one, and the further names of the file with three


def test_restic_lists_and_prints_what_becalm_named(repository: Repository, restic: Restic, source: Path) -> None:
    """`ls`, `cat`, `dump` and `snapshots` read our documents."""
    with Writer(repository) as writer:
        written = back_up_directory(repository, writer, source)
    snapshot = commit(repository, written.tree)
    listed = {document["path"] for document in restic.documents("ls", "latest") if "path" in document}
    described = json.loads(restic("cat", "snapshot", snapshot))

    assert {"/" + path for path, _ in walk(repository, written.tree) if path.isascii()} <= listed
    assert restic("dump", "latest", "/many/7") == (source / "many" / "7").read_text()
    assert described["tags"] == ["policy=shop", "slot=2026"]
    assert json.loads(restic("snapshots", "--json"))[0]["hostname"] == "cluster"
    assert len(restic("cat", "masterkey")) > 0


def test_restic_can_write_our_trees_again_without_loss(repository: Repository, restic: Restic, source: Path) -> None:
    """`restic rewrite` refuses a tree whose JSON it would write otherwise: ours is the same to the byte."""
    if restic.version < (0, 16):
        pytest.skip("this restic cannot rewrite, or does not compare")
    with Writer(repository) as writer:
        written = back_up_directory(repository, writer, source)
    commit(repository, written.tree)
    restic("rewrite", "--exclude", "/many/7", "latest")

    assert "no errors were found" in restic("check")
    trees = {document.tree for _, document in list_snapshots(repository)}
    other = next(tree for tree in trees if tree != written.tree)
    kept = {node.name: node for node in repository_again(repository).tree(other)}
    ours = {node.name: node for node in repository.tree(written.tree)}
    assert {name for name in ours if kept[name] != ours[name]} == {"many"}


def repository_again(repository: Repository) -> Repository:
    return open_repository(repository.store, PASSWORD)


def test_restic_keeps_and_prunes_beside_becalm(repository: Repository, restic: Restic, source: Path, tmp_path: Path) -> None:
    """After `restic forget --prune` took one of two snapshots, the other is whole for both."""
    with Writer(repository) as writer:
        first = back_up_directory(repository, writer, source)
        shutil.rmtree(source / "many")
        second = back_up_directory(repository, writer, source, parent_tree="")
    gone = commit(repository, first.tree)
    commit(repository, second.tree)
    restic("forget", gone, "--prune")
    restored = target(tmp_path, "restored")
    again = repository_again(repository)
    done = extract(again, second.tree, restored, root=second.root)

    assert "no errors were found" in restic("check", "--read-data")
    assert done.failures == ()
    assert picture(restored) == picture(source)


def test_restic_opens_a_joined_tree_of_small_documents(repository: Repository, restic: Restic) -> None:
    """What is put together from documents and joined is a tree like any other; the later of two wins."""
    with Writer(repository) as writer:
        one, two = TreeBuilder(mtime=datetime(2026, 1, 1, tzinfo=UTC)), TreeBuilder()
        for number in range(2000):
            one.add_bytes(f"resources/core/configmaps/shop/c{number}.json", b'{"n":%d}' % number)
        two.add_bytes("resources/core/configmaps/shop/c7.json", b"later")
        two.add_bytes("recovery-point.json", b"{}")
        trees = [one.write(writer), two.write(writer)]
        writer.flush()
        tree = join(repository, writer, trees)
    commit(repository, tree)

    assert "no errors were found" in restic("check", "--read-data")
    assert restic("dump", "latest", "/resources/core/configmaps/shop/c7.json") == "later"
    assert b"".join(read_path(repository, tree, "/resources/core/configmaps/shop/c8.json")) == b'{"n":8}'


@pytest.mark.parametrize("version", ["1", "2"])
def test_becalm_reads_what_restic_wrote(version: str, folder: Path, restic: Restic, source: Path, tmp_path: Path) -> None:
    """Both versions of the format, of a nasty tree, by a second password."""
    restic("init", "--repository-version", version)
    restic("backup", ".", "--host", "elsewhere", "--tag", "a,b", within=source)
    store = DirectoryStore(str(folder))
    first = open_repository(store, PASSWORD)
    add_key(store, first.key, "another", created=store.now(), kdf=CHEAP)
    again = open_repository(store, "another")
    _, document = next(list_snapshots(again))
    restored = target(tmp_path, "restored")
    found = extract(again, document.tree, restored)

    ours, theirs = picture(restored), picture(source)
    assert (again.id, again.version) == (first.id, int(version))
    assert found.failures == ()
    assert {path: entry for path, entry in ours.items() if path != b"."} == {path: entry for path, entry in theirs.items() if path != b"."}
    assert "no errors were found" in restic("check", "--read-data", password="another")


def test_becalm_goes_on_where_restic_began(folder: Path, restic: Restic, source: Path, tmp_path: Path) -> None:
    """A snapshot of ours in a repository of restic's: version 1 stays uncompressed, and both are whole."""
    restic("init", "--repository-version", "1")
    repository = open_repository(DirectoryStore(str(folder)), PASSWORD)
    with Writer(repository) as writer:
        written = back_up_directory(repository, writer, source)
    commit(repository, written.tree)
    restored = target(tmp_path, "restored")
    restic("restore", "latest", "--target", str(restored))

    assert "no errors were found" in restic("check", "--read-data")
    assert {path: entry for path, entry in picture(restored).items() if path != b"."} == {
        path: entry for path, entry in picture(source).items() if path != b"."
    }


def test_a_block_device_is_a_file_for_restic(repository: Repository, restic: Restic, tmp_path: Path) -> None:
    """The image of a device comes back to the byte, and zeros cost nothing."""
    image = tmp_path / "device"
    with image.open("wb") as file:
        file.write(os.urandom(3_000_001))
        file.seek(50 << 20)
        file.write(b"end")
        file.truncate((64 << 20) + 512)
    with Writer(repository) as writer:
        written = back_up_device(writer, image)
    commit(repository, written.tree)
    again = tmp_path / "again"
    again.write_bytes(b"\xff" * 1000)
    extract_device(repository, written.tree, again)
    restored = target(tmp_path, "restored")
    restic("restore", "latest", "--target", str(restored))

    assert again.read_bytes() == image.read_bytes() == (restored / "disk.img").read_bytes()
    assert allocated(again) < 8 << 20
    assert written.bytes_added < 4 << 20


@pytest.mark.skipif(not AS_ROOT, reason="only root makes devices")
def test_devices_come_back(repository: Repository, restic: Restic, tmp_path: Path) -> None:
    """Character and block devices keep their numbers, with restic and without."""
    source = target(tmp_path, "devices")
    os.mknod(source / "null", 0o020600, os.makedev(1, 3))
    os.mknod(source / "loop", 0o060640, os.makedev(7, 300))
    with Writer(repository) as writer:
        written = back_up_directory(repository, writer, source)
    commit(repository, written.tree)
    ours, theirs = target(tmp_path, "ours"), target(tmp_path, "theirs")
    extract(repository, written.tree, ours)
    restic("restore", "latest", "--target", str(theirs))

    for place in (ours, theirs):
        assert [(entry.name, os.lstat(entry).st_rdev, os.lstat(entry).st_mode) for entry in sorted(place.iterdir())] == [
            ("loop", os.makedev(7, 300), 0o060640),
            ("null", os.makedev(1, 3), 0o020600),
        ]
    assert lookup(repository, written.tree, "null").type is NodeType.CHARDEV


@pytest.fixture
def point(repository: Repository, source: Path) -> str:
    """A recovery point of two volumes and a document, as a run writes it; its id."""
    with Writer(repository) as writer:
        written = back_up_directory(repository, writer, source)
        builder = TreeBuilder(mtime=datetime(2026, 1, 1, tzinfo=UTC))
        builder.add_bytes("recovery-point.json", b'{"format":1}')
        builder.add_tree("volumes/shop/data", written.tree, like=written.root)
        tree = builder.write(writer)
    tags = ("policy=shop", "run=0123456789", "verdict=complete", "consistency=crash-consistent", "revision=7")
    return save_snapshot(
        repository, SnapshotDoc(time=datetime(2026, 3, 4, tzinfo=UTC), tree=tree, hostname="c", username="becalm", tags=tags)
    )


def test_restic_finds_compares_and_counts(repository: Repository, restic: Restic, point: str, source: Path) -> None:
    """`find`, `diff`, `ls` of a folder and every mode of `stats` understand our trees."""
    (source / "new").write_bytes(b"n")
    with Writer(repository) as writer:
        written = back_up_directory(repository, writer, source)
        builder = TreeBuilder(mtime=datetime(2026, 1, 1, tzinfo=UTC))
        builder.add_tree("volumes/shop/data", written.tree, like=written.root)
        later = commit(repository, builder.write(writer))
    found = json.loads(restic("find", "--json", "size-4095"))
    told = restic("diff", point, later)

    assert {match["path"] for one in found for match in one["matches"]} == {"/volumes/shop/data/size-4095"}
    assert "+    /volumes/shop/data/new" in told
    assert "-    /recovery-point.json" in told
    assert "/volumes/shop/data/many/7" in restic("ls", point, "/volumes/shop/data/many")
    for mode in ("restore-size", "files-by-contents", "raw-data", "blobs-per-file"):
        assert restic.documents("stats", "--mode", mode)[0]["total_size"] > 0


def test_restic_changes_tags_and_becalm_knows_the_point_again(repository: Repository, restic: Restic, point: str) -> None:
    """A tag that restic adds makes a new snapshot of the same point; one that it takes away weakens only what it said."""
    restic("tag", "--add", "checked", point)
    [one] = points(repository, "shop")
    restic("tag", "--remove", "verdict=complete", "--add", "verdict=unknown", "latest")
    [weaker] = points(repository, "shop")

    assert one.id != point
    assert (one.complete, weaker.complete) == (True, False)
    assert one.tree == weaker.tree


def test_restic_copies_a_point_and_becalm_reads_the_copy(
    repository: Repository, restic: Restic, point: str, source: Path, tmp_path: Path
) -> None:
    """Into another repository with another key and password: the point is one there too, to the byte."""
    (tmp_path / "ours").write_text(PASSWORD)
    other = Restic(restic.program, tmp_path / "other", tmp_path)
    other("init", password="another")
    other("copy", "--from-repo", restic.where, "--from-password-file", str(tmp_path / "ours"), password="another")
    copied = open_repository(DirectoryStore(other.where), "another")
    [one] = points(copied, "shop")
    restored = target(tmp_path, "restored")
    data = lookup(copied, one.tree, "volumes/shop/data")
    done = extract(copied, data.subtree, restored, root=data)

    assert one.tree == points(repository, "shop")[0].tree
    assert done.failures == ()
    assert check(copied, read_data=True) == []
    assert picture(restored) == picture(source)


def test_restic_makes_the_index_anew_and_adds_a_key(
    repository: Repository, restic: Restic, folder: Path, point: str, source: Path, tmp_path: Path
) -> None:
    """After all index objects were lost, `repair index` reads our packs' headers; a key of restic's opens for us."""
    for name in (folder / "index").iterdir():
        name.unlink()
    restic.rebuild_index()
    (tmp_path / "new").write_text("a new one")
    restic("key", "add", "--new-password-file", str(tmp_path / "new"))
    again = open_repository(repository.store, "a new one")
    restored = target(tmp_path, "restored")
    data = lookup(again, points(again, "shop")[0].tree, "volumes/shop/data")
    extract(again, data.subtree, restored, root=data)

    assert points(again, "shop")[0].id == point
    assert "no errors were found" in restic("check", "--read-data")
    assert picture(restored) == picture(source)


def test_restic_forgets_a_point_and_keeps_what_others_need(repository: Repository, restic: Restic, point: str, source: Path) -> None:
    """`forget --prune` packs anew; the point that stays is whole for a fresh opening and for the repository that was open."""
    shutil.rmtree(source / "many")
    with Writer(repository) as writer:
        written = back_up_directory(repository, writer, source)
        builder = TreeBuilder()
        builder.add_tree("volumes/shop/data", written.tree, like=written.root)
        later = commit(repository, builder.write(writer))
    restic("forget", point, "--prune", "--max-unused", "0")

    assert [snapshot for snapshot, _ in list_snapshots(repository)] == [later]
    assert check(repository_again(repository), read_data=True) == []


@pytest.fixture
def mountpoint(tmp_path: Path) -> Iterator[Path]:
    path = target(tmp_path, "mounted")
    yield path
    subprocess.run(["fusermount", "-u", "-z", str(path)], check=False, capture_output=True)


@pytest.mark.skipif(not os.access("/dev/fuse", os.W_OK) or not shutil.which("fusermount"), reason="nothing can be mounted here")
def test_restic_mounts_a_point(repository: Repository, restic: Restic, point: str, source: Path, mountpoint: Path) -> None:
    """A recovery point can be looked through like a folder, by its id and by its tags."""
    assert repository.id
    process = subprocess.Popen(
        restic.command("mount", str(mountpoint)), env=restic.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        seen = mountpoint / "ids" / point[:8] / "volumes" / "shop" / "data"
        deadline = time.monotonic() + 30
        while not (mountpoint / "ids").is_dir() and time.monotonic() < deadline:
            time.sleep(0.1)
        names = {path.name for path in (seen / "many").iterdir()}
        content, size = (seen / "size-4095").read_bytes(), (seen / "sparse").stat().st_size
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)

    assert names == {path.name for path in (source / "many").iterdir()}
    assert content == (source / "size-4095").read_bytes()
    assert size == 70 << 20
