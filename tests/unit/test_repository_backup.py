"""Volumes in and out: what is unchanged is not read, what cannot be kept is named, and nothing is written outside the target."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from random import Random

import pytest

from becalm.errors import BecalmError, Damaged, NotFound, PermanentError
from becalm.repository.backup import Written, back_up_device, back_up_directory
from becalm.repository.crypto import Kdf
from becalm.repository.extract import Extracted, extract, extract_device, read_path
from becalm.repository.format import BlobKind, Layout
from becalm.repository.node import Node, NodeType, encode_node, go_mode, join_nodes
from becalm.repository.progress import Progress
from becalm.repository.reader import Repository, init_repository
from becalm.repository.scheme import PIECE
from becalm.repository.tree import lookup, walk
from becalm.repository.writer import Writer
from becalm.testing.memory_store import MemoryStore


@pytest.fixture
def repository() -> Repository:
    return init_repository(MemoryStore(), "password", kdf=Kdf(n=1 << 4, r=8, p=1))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


def back_up(repository: Repository, path: Path, parent: Written | None = None, **options) -> Written:
    with Writer(repository) as writer:
        return back_up_directory(repository, writer, path, parent_tree=parent.tree if parent else "", **options)


def make_files(root: Path) -> None:
    for number in range(40):
        (root / f"folder-{number % 4}").mkdir(exist_ok=True)
        (root / f"folder-{number % 4}" / f"file-{number}").write_bytes(Random(number).randbytes(number * 400))
    (root / "large").write_bytes(Random(99).randbytes(3 << 20))


def test_an_unchanged_folder_is_not_read_again(repository: Repository, source: Path) -> None:
    """The second backup reads nothing, adds nothing, and gives the same tree."""
    make_files(source)
    first = back_up(repository, source)
    second = back_up(repository, source, first)

    assert (second.bytes_read, second.bytes_added, second.unchanged) == (0, 0, 41)
    assert (second.tree, second.files, second.bytes_total) == (first.tree, 41, first.bytes_total)
    assert first.bytes_read == first.bytes_total == sum(path.stat().st_size for path in source.rglob("*") if path.is_file())


def test_a_changed_file_is_read_though_size_and_time_are_the_same(repository: Repository, source: Path) -> None:
    """Its time of change tells; where inodes are not kept, that cannot be seen, and the caller says so."""
    make_files(source)
    first = back_up(repository, source)
    changed = source / "folder-1" / "file-21"
    times = changed.stat()
    changed.write_bytes(b"x" * times.st_size)
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))
    blind = back_up(repository, source, first, stable_inodes=False)
    second = back_up(repository, source, first)

    assert second.bytes_read == times.st_size
    assert b"".join(read_path(repository, second.tree, "folder-1/file-21")) == b"x" * times.st_size
    assert blind.bytes_read == 0


def test_a_parent_that_is_gone_costs_time_and_nothing_else(repository: Repository, source: Path) -> None:
    """All is read, and a note says why."""
    make_files(source)
    first = back_up(repository, source)
    with Writer(repository) as writer:
        second = back_up_directory(repository, writer, source, parent_tree="ab" * 32)

    assert second.tree == first.tree
    assert second.bytes_read == first.bytes_read
    assert "parent" in second.notes[0].message


def test_content_that_left_the_repository_is_read_again(repository: Repository, source: Path) -> None:
    """A parent whose blobs are not in the index any more vouches for nothing."""
    (source / "file").write_bytes(b"content")
    status = (source / "file").stat()
    node = Node(
        name="file",
        type=NodeType.FILE,
        mode=go_mode(NodeType.FILE, status.st_mode),
        size=7,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
        inode=status.st_ino,
        content=("cd" * 32,),
    )
    with Writer(repository) as writer:
        parent = writer.save_tree([node])
        writer.flush()
        written = back_up_directory(repository, writer, source, parent_tree=parent)

    assert written.bytes_read == 7
    assert b"".join(read_path(repository, written.tree, "file")) == b"content"


def test_a_folder_that_is_not_there_is_an_error(repository: Repository, tmp_path: Path) -> None:
    """And never an empty backup."""
    with pytest.raises(PermanentError, match="cannot be read"), Writer(repository) as writer:
        back_up_directory(repository, writer, tmp_path / "nowhere")


def test_sockets_are_left_out_with_a_note(repository: Repository, source: Path) -> None:
    """A socket without its process is nothing."""
    with socket.socket(socket.AF_UNIX) as listening:
        before = Path.cwd()
        os.chdir(source)
        try:
            listening.bind("listening")
        finally:
            os.chdir(before)
        written = back_up(repository, source)

    assert [note.where for note in written.notes] == ["listening"]
    assert list(walk(repository, written.tree)) == []
    assert written.unreadable == ()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_may_not_be_read_is_named(repository: Repository, source: Path) -> None:
    """A closed file and a closed folder are findings; the rest is there."""
    make_files(source)
    (source / "folder-1" / "file-21").chmod(0)
    (source / "folder-2").chmod(0)
    try:
        written = back_up(repository, source)
    finally:
        (source / "folder-2").chmod(0o755)

    assert sorted(finding.where for finding in written.unreadable) == ["folder-1/file-21", "folder-2"]
    assert lookup(repository, written.tree, "folder-3/file-3").size == 1200


def test_a_file_that_goes_away_is_noted(repository: Repository, source: Path) -> None:
    """Between the look and the reading; the others are there."""
    make_files(source)

    class Vanishing(Progress):
        def add(self, *, files: int = 0, size: int = 0) -> None:
            (source / "folder-3" / "file-39").unlink(missing_ok=True)
            super().add(files=files, size=size)

    written = back_up(repository, source, progress=Vanishing())

    assert [note.where for note in written.notes] in ([], ["folder-3/file-39"])
    assert "file-35" in {node.name for _, node in walk(repository, written.tree)}


def test_a_file_that_grows_while_it_is_read_is_noted(repository: Repository, source: Path) -> None:
    """What was read is kept as far as it was told, with its size."""
    path = source / "log"
    path.write_bytes(b"l" * (3 << 20))

    class Growing(Progress):
        def add(self, *, files: int = 0, size: int = 0) -> None:
            with path.open("ab") as file:
                file.write(b"more")
            super().add(files=files, size=size)

    written = back_up(repository, source, progress=Growing())

    assert [(note.where, note.message) for note in written.notes] == [("log", "it changed while it was read")]
    assert lookup(repository, written.tree, "log").size == 3 << 20


def test_a_backup_can_be_stopped(repository: Repository, source: Path) -> None:
    """By the error that the one who stops it gives."""
    make_files(source)
    progress = Progress()
    progress.stop(PermanentError("enough"))

    with pytest.raises(PermanentError, match="enough"):
        back_up(repository, source, progress=progress)


def test_holes_are_not_read(repository: Repository, source: Path, target: Path) -> None:
    """A file of a gibibyte with two bytes in it costs two bytes, and comes back with its holes."""
    path = source / "sparse"
    with path.open("wb") as file:
        file.write(b"a")
        file.seek((1 << 30) - 1)
        file.write(b"z")
    written = back_up(repository, source)
    extract(repository, written.tree, target)
    restored = target / "sparse"

    assert written.bytes_read < 1 << 20
    assert written.bytes_total == restored.stat().st_size == 1 << 30
    assert restored.stat().st_blocks * 512 < 1 << 20
    with restored.open("rb") as file:
        assert file.read(1) == b"a"
        file.seek(-2, os.SEEK_END)
        assert file.read() == b"\0z"


def test_a_folder_of_very_many_entries_keeps_them_all(repository: Repository, source: Path) -> None:
    """Batches and bounds do not lose or reorder any."""
    for number in range(3000):
        (source / f"{number}").write_bytes(b"%d" % number)
    written = back_up(repository, source)
    nodes = repository.tree(written.tree)

    assert [node.name for node in nodes] == sorted(str(number) for number in range(3000))
    assert all(b"".join(repository.read_file(node)) == node.name.encode() for node in nodes[::97])


def hostile_tree(repository: Repository, *nodes: Node) -> str:
    with Writer(repository) as writer:
        return writer.save_blob(BlobKind.TREE, join_nodes(encode_node(node) for node in nodes))


def a_file(repository: Repository, name: str, data: bytes = b"evil", **changes) -> Node:
    with Writer(repository) as writer:
        saved = writer.save_bytes(data)
    return Node(**{"name": name, "type": NodeType.FILE, "mode": 0o644, "size": saved.size, "content": saved.content, "links": 1, **changes})


@pytest.mark.parametrize("name", ["..", ".", "", "../escaped", "/escaped", "a/../../escaped", "nul\0name", "n" * 256])
def test_a_hostile_name_is_refused_and_the_rest_restored(repository: Repository, tmp_path: Path, target: Path, name: str) -> None:
    """Nothing is written outside the target; the name is a finding."""
    before = sorted(tmp_path.rglob("*"))
    done = extract(repository, hostile_tree(repository, a_file(repository, name), a_file(repository, "good", b"good")), target)

    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before] == [target / "good"]
    assert len(done.failures) == 1
    assert (target / "good").read_bytes() == b"good"


def test_a_link_is_never_written_through(repository: Repository, tmp_path: Path, target: Path) -> None:
    """A tree that first makes a link and then a folder or a file of that name does not leave the target."""
    outside = tmp_path / "outside"
    outside.mkdir()
    link = Node(name="way", type=NodeType.SYMLINK, mode=go_mode(NodeType.SYMLINK, 0o777), linktarget=str(outside))
    below = hostile_tree(repository, a_file(repository, "file"))
    folder = Node.directory("way", subtree=below)
    done = extract(repository, hostile_tree(repository, link, folder, a_file(repository, "way")), target)

    assert list(outside.iterdir()) == []
    assert "way" in {finding.where for finding in done.failures}


def test_links_that_stand_in_the_target_are_not_followed(repository: Repository, source: Path, tmp_path: Path, target: Path) -> None:
    """Whoever put a link where a folder belongs gets a finding; a link where a file belongs is replaced."""
    (source / "folder").mkdir()
    (source / "folder" / "file").write_bytes(b"data")
    (source / "file").write_bytes(b"data")
    written = back_up(repository, source)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"precious")
    (target / "folder").symlink_to(outside)
    (target / "file").symlink_to(outside / "precious")
    done = extract(repository, written.tree, target)

    assert sorted(path.name for path in outside.iterdir()) == ["precious"]
    assert (outside / "precious").read_bytes() == b"precious"
    assert (target / "file").read_bytes() == b"data"
    assert [finding.where for finding in done.failures] == ["folder"]


def test_a_file_that_lies_about_its_size_is_not_restored(repository: Repository, target: Path) -> None:
    """Its blobs have another length than it says."""
    done = extract(repository, hostile_tree(repository, a_file(repository, "liar", size=1 << 50)), target)

    assert [finding.where for finding in done.failures] == ["liar"]
    assert list(target.iterdir()) == []


def spoil(repository: Repository, kind: BlobKind, blob: str) -> None:
    place = repository.locate(kind, blob)
    store = repository.store
    assert isinstance(store, MemoryStore)
    body = bytearray(store.get(Layout.pack(place.pack)))
    body[place.blob.offset + 20] ^= 1
    store.tamper(Layout.pack(place.pack), bytes(body))


def test_a_damaged_blob_spoils_its_file_and_no_other(repository: Repository, source: Path, target: Path) -> None:
    """The file is missing and named, never there with wrong bytes; the rest is whole."""
    make_files(source)
    written = back_up(repository, source)
    spoil(repository, BlobKind.DATA, lookup(repository, written.tree, "folder-1/file-21").content[0])
    done = extract(repository, written.tree, target)

    assert [finding.where for finding in done.failures] == ["folder-1/file-21"]
    assert not (target / "folder-1" / "file-21").exists()
    assert (target / "large").read_bytes() == (source / "large").read_bytes()
    assert done.files == 40


def test_a_damaged_root_is_an_error(repository: Repository, source: Path, target: Path) -> None:
    """Without the tree there is nothing to restore."""
    make_files(source)
    written = back_up(repository, source)
    spoil(repository, BlobKind.TREE, written.tree)
    repository._blocks._held.clear()

    with pytest.raises(Damaged, match="data/"):
        extract(repository, written.tree, target)


def test_a_restore_that_was_stopped_is_finished_by_the_next(repository: Repository, source: Path, target: Path) -> None:
    """What was whole stays, what was not is written again."""
    make_files(source)
    written = back_up(repository, source)

    class Stopping(Progress):
        def add(self, *, files: int = 0, size: int = 0) -> None:
            super().add(files=files, size=size)
            if self.bytes > 100_000:
                self.stop(PermanentError("power cut"))

    with pytest.raises(PermanentError, match="power cut"):
        extract(repository, written.tree, target, progress=Stopping())
    done = extract(repository, written.tree, target)

    assert done.failures == ()
    assert done.files + done.kept == 41
    assert {path.relative_to(source): path.read_bytes() for path in source.rglob("*") if path.is_file()} == {
        path.relative_to(target): path.read_bytes() for path in target.rglob("*") if path.is_file()
    }


def test_other_files_in_the_target_stay(repository: Repository, source: Path, target: Path) -> None:
    """A restore adds and replaces, and deletes nothing."""
    (source / "file").write_bytes(b"new")
    (target / "file").write_bytes(b"old and longer")
    (target / "mine").write_bytes(b"mine")
    extract(repository, back_up(repository, source).tree, target)

    assert (target / "file").read_bytes() == b"new"
    assert (target / "mine").read_bytes() == b"mine"


def test_a_folder_in_the_place_of_a_file_is_named(repository: Repository, source: Path, target: Path) -> None:
    """It is not deleted for the file's sake."""
    (source / "file").write_bytes(b"new")
    (target / "file").mkdir()
    done = extract(repository, back_up(repository, source).tree, target)

    assert [finding.where for finding in done.failures] == ["file"]
    assert (target / "file").is_dir()


def a_device(path: Path, *parts: tuple[int, bytes], size: int) -> Path:
    with path.open("wb") as file:
        for place, data in parts:
            file.seek(place)
            file.write(data)
        file.truncate(size)
    return path


def test_a_device_comes_back_to_the_byte(repository: Repository, tmp_path: Path) -> None:
    """Data between zeros, an odd end, and what stood on the target before."""
    device = a_device(tmp_path / "device", (0, Random(1).randbytes(700_000)), (9 << 20, b"x"), size=(20 << 20) + 512)
    with Writer(repository) as writer:
        written = back_up_device(writer, device)
    other = a_device(tmp_path / "other", (0, b"\xff" * (3 << 20)), size=30 << 20)
    done = extract_device(repository, written.tree, other)

    assert other.read_bytes() == device.read_bytes()
    assert isinstance(done, Extracted)
    assert written.bytes_total == (20 << 20) + 512


def test_a_changed_block_of_a_device_adds_only_itself(repository: Repository, tmp_path: Path) -> None:
    """Blocks are aligned: what changes in place changes one of them."""
    device = a_device(tmp_path / "device", (0, Random(1).randbytes(8 << 20)), size=8 << 20)
    with Writer(repository) as writer:
        back_up_device(writer, device)
    with device.open("r+b") as file:
        file.seek(5 << 20)
        file.write(b"changed")
    with Writer(repository) as writer:
        again = back_up_device(writer, device)

    assert PIECE < again.bytes_added < 2 * PIECE


def test_a_tree_of_files_is_not_a_device(repository: Repository, source: Path, tmp_path: Path) -> None:
    """And a device that is not there is named."""
    make_files(source)
    tree = back_up(repository, source).tree

    with pytest.raises(NotFound, match=r"disk\.img"):
        extract_device(repository, tree, tmp_path / "any")
    with pytest.raises(BecalmError, match="nowhere"), Writer(repository) as writer:
        back_up_device(writer, tmp_path / "nowhere")
