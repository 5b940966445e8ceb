"""Workers of a backup: whoever does the work, the tree is the same; and nobody's death goes unheard."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from pathlib import Path
from random import Random

import pytest

from becalm.errors import BecalmError, MoverFailed, PermanentError, StoreFull
from becalm.repository.backup import Written, back_up_device, back_up_directory
from becalm.repository.crypto import Kdf
from becalm.repository.extract import read_path
from becalm.repository.format import BlobKind, Layout
from becalm.repository.progress import Progress
from becalm.repository.reader import Repository, init_repository, open_repository
from becalm.repository.scheme import PIECE
from becalm.repository.tree import lookup
from becalm.repository.writer import Writer
from becalm.testing.memory_store import MemoryStore
from becalm.testing.processes import crew_workers


def a_repository(store: MemoryStore | None = None) -> Repository:
    return init_repository(store or MemoryStore(), "password", kdf=Kdf(n=1 << 4, r=8, p=1))


def back_up(repository: Repository, path: Path, *, workers: int | None = None, parent: Written | None = None, **more) -> Written:
    with Writer(repository, **more) as writer:
        return back_up_directory(repository, writer, path, parent_tree=parent.tree if parent else "", workers=workers)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Files of each kind: small, cut by content, in place, with holes, of the same content, and with odd names."""
    path = tmp_path / "source"
    path.mkdir()
    for number in range(600):
        folder = path / f"folder-{number % 40}"
        folder.mkdir(exist_ok=True)
        (folder / f"file {number}").write_bytes(Random(number // 2).randbytes(number * 7))
    (path / os.fsdecode(b"odd\xff\n<>")).write_bytes(b"odd")
    (path / "free").write_bytes(Random(1).randbytes((5 << 20) + 1))
    (path / "in-place").write_bytes(Random(2).randbytes(3 << 20))
    (path / "link").symlink_to("free")
    os.link(path / "free", path / "second")
    with (path / "sparse").open("wb") as file:
        file.write(b"begin")
        file.seek(9 << 20)
        file.write(b"end")
    return path


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_crew_writes_the_same_tree_as_this_process(source: Path) -> None:
    """The workers' number decides who reads a file, and nothing else."""
    one, other = a_repository(), a_repository()
    before = open_files()
    alone, together = back_up(one, source, workers=0), back_up(other, source, workers=2)

    assert together.tree == alone.tree
    assert (together.files, together.bytes_read, together.bytes_total) == (alone.files, alone.bytes_read, alone.bytes_total)
    assert b"".join(read_path(open_repository(other.store, "password"), together.tree, "free")) == (source / "free").read_bytes()
    assert open_files() == before


def test_much_to_read_calls_a_crew(source: Path) -> None:
    """By itself, in the middle of a backup; what was read before and after is one tree."""
    for number in range(2600):
        (source / f"z{number}").write_bytes(b"%d" % number)
    one, other = a_repository(), a_repository()

    assert back_up(one, source).tree == back_up(other, source, workers=0).tree


def test_a_worker_that_is_killed_fails_the_backup(source: Path) -> None:
    """The caller hears of it; no process and no file stays open, and nothing is visible."""
    repository = a_repository()
    before = open_files()

    class Killing(Progress):
        def add(self, *, files: int = 0, size: int = 0) -> None:
            super().add(files=files, size=size)
            for worker in crew_workers():
                with contextlib.suppress(ProcessLookupError):  # it may be dead already
                    os.kill(worker, signal.SIGKILL)

    with pytest.raises(MoverFailed, match="killed"), Writer(repository) as writer:
        back_up_directory(repository, writer, source, progress=Killing(), workers=2)
    assert not list(repository.store.list(Layout.INDEX))
    assert open_files() == before


def test_a_crew_is_started_early_where_nothing_was_backed_up_before(source: Path) -> None:
    """Six hundred files of a first backup are the begin of more; six hundred new ones beside a parent are read in this process."""
    repository = a_repository()
    most = [0]

    class Counting(Progress):
        def add(self, *, files: int = 0, size: int = 0) -> None:
            super().add(files=files, size=size)
            most[0] = max(most[0], len(crew_workers()))

    empty = source.parent / "empty"
    empty.mkdir()
    nothing = back_up(repository, empty)
    with Writer(a_repository()) as writer:
        back_up_directory(writer.repository, writer, source, progress=Counting())
    at_first, most[0] = most[0], 0
    with Writer(repository) as writer:
        back_up_directory(repository, writer, source, parent_tree=nothing.tree, progress=Counting())

    assert (at_first > 0, most[0]) == (True, 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_backup_is_stopped_in_the_middle(source: Path, workers: int) -> None:
    """By the error it is given, and nothing stays behind."""
    repository = a_repository()
    before, threads = open_files(), threading.active_count()

    class Stopping(Progress):
        def add(self, *, files: int = 0, size: int = 0) -> None:
            super().add(files=files, size=size)
            self.stop(PermanentError("enough"))

    with pytest.raises(PermanentError, match="enough"), Writer(repository) as writer:
        back_up_directory(repository, writer, source, progress=Stopping(), workers=workers)
    assert (open_files(), threading.active_count()) == (before, threads)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_full_bucket_ends_the_backup(source: Path, workers: int) -> None:
    """With the store's own error, once, and without an index object."""
    store = MemoryStore()
    repository = a_repository(store)
    store.capacity_bytes = 1 << 20

    with pytest.raises(StoreFull):
        back_up(repository, source, workers=workers)
    assert not list(store.list(Layout.INDEX))


def test_a_changed_page_of_a_database_adds_one_piece(source: Path) -> None:
    """What changes in place is cut at fixed places; its neighbours stay what they were."""
    repository = a_repository()
    first = back_up(repository, source)
    with (source / "in-place").open("r+b") as file:
        file.seek(PIECE + 4096)
        file.write(b"changed")
    second = back_up(repository, source, parent=first)
    old, new = (lookup(repository, written.tree, "in-place").content for written in (first, second))

    assert [number for number, (one, other) in enumerate(zip(old, new, strict=True)) if one != other] == [1]
    assert second.bytes_added < 2 * PIECE
    assert b"".join(read_path(repository, second.tree, "in-place")) == (source / "in-place").read_bytes()


def test_segments_are_put_together_in_order(tmp_path: Path) -> None:
    """A device of several segments comes back to the byte, read by one worker or by two; zeros between are not stored."""
    device = tmp_path / "device"
    with device.open("wb") as file:
        for place in (0, (64 << 20) - 100, (128 << 20) - 5000, (192 << 20) + 4096):
            file.seek(place)
            file.write(Random(place).randbytes(10_000))
        file.truncate((200 << 20) + 512)
    trees = []
    for workers in (0, 2):
        repository = a_repository()
        with Writer(repository) as writer:
            trees.append(back_up_device(writer, device, workers=workers).tree)
        assert b"".join(read_path(repository, trees[-1], "disk.img")) == device.read_bytes()
        assert writer.written.bytes_added < 2 << 20

    assert trees[0] == trees[1]


def test_unchanged_folders_are_not_written_again(source: Path) -> None:
    """Only the folder with the new file, and those above it, become other trees."""
    repository = a_repository()
    first = back_up(repository, source)
    (source / "folder-7" / "new").write_bytes(b"new")
    with Writer(repository) as writer:
        second = back_up_directory(repository, writer, source, parent_tree=first.tree)
    alone = back_up(a_repository(), source)

    assert second.tree == alone.tree
    assert writer.written.blobs == 3  # the file, its folder, the root
    assert second.unchanged == first.files


def test_another_mode_is_seen_though_the_content_is_the_same(source: Path) -> None:
    """Mode, owner and extended attributes are the entry's, and read each time; the file is not."""
    repository = a_repository()
    first = back_up(repository, source)
    (source / "folder-3" / "file 3").chmod(0o600)
    second = back_up(repository, source, parent=first)

    assert lookup(repository, second.tree, "folder-3/file 3").permissions == 0o600
    assert second.tree == back_up(a_repository(), source).tree


def test_what_lies_only_in_a_pack_with_a_tombstone_is_brought_again(source: Path) -> None:
    """Prune may take that pack: nothing new relies on it, neither files nor trees, though the parent has them."""
    repository = a_repository()
    first = back_up(repository, source)
    packs = repository.index.packs()
    for pack in packs:
        repository.store.put(Layout.tombstone(pack), b"{}")
    again = open_repository(repository.store, "password")
    second = back_up(again, source, parent=first)
    for pack in packs:
        repository.store.delete(Layout.pack(pack))
    third = back_up(open_repository(repository.store, "password"), source, parent=second)

    assert second.tree == first.tree
    assert second.bytes_read == first.bytes_read
    assert third.bytes_added == 0
    assert again.index.has(BlobKind.TREE, second.tree)


def test_a_worker_does_not_run_on_after_a_failure(source: Path) -> None:
    """Whoever uses the writer after it failed gets the same error."""
    store = MemoryStore()
    repository = a_repository(store)
    store.capacity_bytes = 1 << 20
    writer = Writer(repository)
    with pytest.raises(BecalmError), writer:
        back_up_directory(repository, writer, source, workers=2)

    with pytest.raises(BecalmError):
        writer.save_blob(BlobKind.DATA, b"late")
