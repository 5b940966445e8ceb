"""Restores: by processes as by one, only what was asked for, and finished by the next one whatever ended the last."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from becalm.errors import MoverFailed, NotFound, UsageError
from becalm.repository.backup import Written, back_up_device, back_up_directory
from becalm.repository.crypto import Kdf
from becalm.repository.extract import extract, extract_device
from becalm.repository.format import BlobKind, Layout
from becalm.repository.node import Node, NodeType, encode_node, go_mode, join_nodes
from becalm.repository.progress import Progress
from becalm.repository.reader import Repository, init_repository
from becalm.repository.tree import lookup
from becalm.repository.writer import Writer
from becalm.testing.memory_store import MemoryStore
from becalm.testing.processes import crew_workers

LARGE = 5 << 20
PATHS = [0, 2]
"""In this process, and by two workers."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do this")


@pytest.fixture
def repository() -> Repository:
    return init_repository(MemoryStore(), "password", kdf=Kdf(n=1 << 4, r=8, p=1))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path


def a_target(root: Path, name: str = "target") -> Path:
    path = root / name
    path.mkdir()
    return path


def back_up(repository: Repository, path: Path) -> Written:
    with Writer(repository) as writer:
        return back_up_directory(repository, writer, path)


def make_nasty(root: Path) -> None:
    """Fill a folder with whatever a file system can hold."""
    random = Random(7)
    for number in range(300):
        folder = root / f"folder-{number % 7}"
        folder.mkdir(exist_ok=True)
        (folder / f"file-{number}").write_bytes(random.randbytes(number * 37))
        (folder / f"again-{number}").write_bytes(b"the same in many files" * (number % 3))
    (root / "large").write_bytes(random.randbytes(LARGE))
    (root / "large-again").write_bytes((root / "large").read_bytes())
    with (root / "sparse").open("wb") as file:
        file.write(b"a")
        file.seek(40 << 20)
        file.write(random.randbytes(100_000))
        file.truncate(80 << 20)
    os.link(root / "folder-0" / "file-7", root / "folder-6" / "zz-linked")
    os.link(root / "large", root / "a-link-to-large")
    (root / "pointer").symlink_to("nowhere/at all")
    os.mkfifo(root / "pipe", 0o640)
    Path(os.fsdecode(os.fsencode(root) + b"/not-\xff-text")).write_bytes(b"odd name")
    (root / 'quoted "\\ name\n').write_bytes(b"odder name")
    (root / ("n" * 255)).write_bytes(b"long name")
    (root / "empty").mkdir(mode=0o700)
    (root / "program").write_bytes(b"#!/bin/sh\n")
    (root / "program").chmod(0o6755)
    os.setxattr(root / "program", "user.note", b"\0kept")
    os.setxattr(root / "folder-3", "user.note", b"of a folder")
    for number, path in enumerate(sorted(root.rglob("*"), reverse=True)):
        os.utime(path, ns=(10**18 + number, 10**18 + 7 * number + 123_456_789), follow_symlinks=False)


def entries(root: Path) -> Iterator[tuple[str, object]]:
    """Yield what can be said of each entry."""
    for path in sorted(root.rglob("*")):
        found = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(found.st_mode) else str(path.readlink()) if path.is_symlink() else ""
        attributes = [(key, os.getxattr(path, key, follow_symlinks=False)) for key in os.listxattr(path, follow_symlinks=False)]
        links = 0 if stat.S_ISDIR(found.st_mode) else found.st_nlink
        yield str(path.relative_to(root)), (found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns, links, content, attributes)


def tree_of(repository: Repository, *nodes: Node) -> str:
    with Writer(repository) as writer:
        return writer.save_blob(BlobKind.TREE, join_nodes(encode_node(node) for node in nodes))


def a_file(repository: Repository, name: str, **changes) -> Node:
    with Writer(repository) as writer:
        saved = writer.save_bytes(b"content of " + name.encode())
    mode = go_mode(NodeType.FILE, changes.pop("mode", 0o644))
    return Node(**{"name": name, "type": NodeType.FILE, "mode": mode, "size": saved.size, "content": saved.content, "links": 1, **changes})


def spoil(repository: Repository, blob: str) -> None:
    place = repository.locate(BlobKind.DATA, blob)
    store = repository.store
    assert isinstance(store, MemoryStore)
    body = bytearray(store.get(Layout.pack(place.pack)))
    body[place.blob.offset + 20] ^= 1
    store.tamper(Layout.pack(place.pack), bytes(body))


@pytest.mark.parametrize("workers", PATHS)
def test_processes_restore_what_one_process_restores(repository: Repository, source: Path, tmp_path: Path, workers: int) -> None:
    """Content, names, owners, modes, times, attributes, links and holes."""
    make_nasty(source)
    written = back_up(repository, source)
    target = a_target(tmp_path)
    done = extract(repository, written.tree, target, root=written.root, workers=workers)

    assert (done.failures, done.notes) == ((), ())
    assert dict(entries(target)) == dict(entries(source))
    assert (target / "sparse").stat().st_blocks * 512 < 1 << 20
    assert done.files == written.files
    assert target.stat().st_mtime_ns == source.stat().st_mtime_ns


@pytest.mark.parametrize("workers", PATHS)
def test_what_is_complete_is_kept_and_mended_and_the_rest_written(
    repository: Repository, source: Path, tmp_path: Path, workers: int
) -> None:
    """Owner, mode and attributes of a complete file are set where they differ; one of another time is written again."""
    make_nasty(source)
    written = back_up(repository, source)
    target = a_target(tmp_path)
    extract(repository, written.tree, target, root=written.root, workers=0)
    (target / "folder-1" / "file-8").chmod(0o600)
    os.removexattr(target / "program", "user.note")
    (target / "folder-2" / "file-9").write_bytes(b"spoilt")
    done = extract(repository, written.tree, target, root=written.root, workers=workers)

    assert done.failures == ()
    assert done.kept + done.files == written.files
    assert done.bytes == 9 * 37
    assert dict(entries(target)) == dict(entries(source))


@pytest.mark.parametrize("workers", PATHS)
def test_damage_spoils_the_files_that_hold_it_and_no_other(repository: Repository, source: Path, tmp_path: Path, workers: int) -> None:
    """The object and the file are named, and no wrong byte is left, not even of what was there before."""
    make_nasty(source)
    written = back_up(repository, source)
    small, large = lookup(repository, written.tree, "folder-3/file-10").content, lookup(repository, written.tree, "large-again").content
    spoil(repository, small[0])
    spoil(repository, large[-1])
    target = a_target(tmp_path)
    (target / "folder-3").mkdir()
    (target / "folder-3" / "file-10").write_bytes(b"from before")
    done = extract(repository, written.tree, target, workers=workers)
    lost = {"folder-3/file-10", "large", "large-again", "a-link-to-large"}

    assert {finding.where for finding in done.failures} == lost
    assert all("data/" in finding.message for finding in done.failures if "linked" not in finding.message)
    assert {name for name, _ in entries(source)} - {name for name, _ in entries(target)} == lost
    assert all((source / name).read_bytes() == (target / name).read_bytes() for name in ("folder-3/file-17", "program", "sparse"))


def test_of_a_truncated_pack_what_is_left_is_restored(repository: Repository, source: Path, tmp_path: Path) -> None:
    """A range that ends in nothing is read in halves, down to the files that are lost."""
    for number in range(40):
        (source / f"file-{number:02}").write_bytes(Random(number).randbytes(2000))
    written = back_up(repository, source)
    places = {
        name: repository.locate(BlobKind.DATA, lookup(repository, written.tree, name).content[0])
        for name in (path.name for path in source.iterdir())
    }
    store = repository.store
    assert isinstance(store, MemoryStore)
    pack = Layout.pack(next(iter(places.values())).pack)
    store.tamper(pack, store.get(pack)[:30_000])
    done = extract(repository, written.tree, target := a_target(tmp_path))
    whole = {name for name, place in places.items() if place.blob.offset + place.blob.length <= 30_000}

    assert 5 < len(whole) < 35
    assert {path.name for path in target.iterdir()} == whole
    assert {finding.where for finding in done.failures} == set(places) - whole


class Killing(Progress):
    """Kills a worker once some files are there."""

    def add(self, *, files: int = 0, size: int = 0) -> None:
        """Count, and kill one once."""
        before = self.files
        super().add(files=files, size=size)
        if before == 0 < self.files:
            os.kill(crew_workers()[0], signal.SIGKILL)


def test_a_killed_worker_ends_a_restore_and_the_next_completes_it(repository: Repository, source: Path, tmp_path: Path) -> None:
    """It is said, as transient, and nothing is left running."""
    for number in range(2500):
        (source / f"{number}").write_bytes(b"%d" % number)
    (source / "large").write_bytes(Random(1).randbytes(LARGE))
    written = back_up(repository, source)
    target = a_target(tmp_path)
    with pytest.raises(MoverFailed, match="signal 9"):
        extract(repository, written.tree, target, root=written.root, workers=2, progress=Killing())
    left = crew_workers()
    done = extract(repository, written.tree, target, root=written.root)

    assert left == []
    assert done.failures == ()
    assert done.kept > 0
    assert done.kept + done.files == 2501
    assert dict(entries(target)) == dict(entries(source))


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="processes do not pay with one processor")
def test_large_work_is_done_by_processes_and_small_work_is_not(repository: Repository, source: Path, tmp_path: Path) -> None:
    """Nobody says how many: it depends on the work and on the processors."""
    seen: list[int] = []

    class Looking(Progress):
        def add(self, *, files: int = 0, size: int = 0) -> None:
            super().add(files=files, size=size)
            seen.append(len(crew_workers()))

    for number in range(3500):
        (source / f"{number}").write_bytes(b"%d" % (number % 10))
    written = back_up(repository, source)
    small = tree_of(repository, *(a_file(repository, f"{number}") for number in range(3)))
    extract(repository, small, a_target(tmp_path, "small"), progress=Looking())
    few, seen[:] = max(seen), []
    extract(repository, written.tree, a_target(tmp_path, "large"), progress=Looking())

    assert few == 0
    assert max(seen) > 0


def test_one_file_is_restored_under_its_own_name(repository: Repository, source: Path, tmp_path: Path) -> None:
    make_nasty(source)
    written = back_up(repository, source)
    target = a_target(tmp_path)
    before = target.stat().st_mode
    done = extract(repository, written.tree, target, root=written.root, include="folder-3/file-17")

    assert dict(entries(target)) == {"file-17": dict(entries(source))["folder-3/file-17"]}
    assert (done.files, done.failures, target.stat().st_mode) == (1, (), before)


def test_subtrees_are_restored_whole_and_nothing_beside_them(repository: Repository, source: Path, tmp_path: Path) -> None:
    make_nasty(source)
    written = back_up(repository, source)
    target = a_target(tmp_path)
    extract(repository, written.tree, target, include=["folder-3", os.fsdecode(b"not-\xff-text")])
    expected = {name: value for name, value in entries(source) if name.startswith(("folder-3", "not-"))}

    assert dict(entries(target)) == expected


@pytest.mark.parametrize(
    ("include", "error"),
    [
        ("folder-1/nothing", NotFound),
        ("large/below", NotFound),
        ("../etc", UsageError),
        ("/", UsageError),
        (["folder-1/same", "folder-2/same"], UsageError),
    ],
)
def test_what_cannot_be_included_is_said_before_anything_is_written(
    repository: Repository, source: Path, tmp_path: Path, include: str | list[str], error: type[Exception]
) -> None:
    for folder in ("folder-1", "folder-2"):
        (source / folder).mkdir()
        (source / folder / "same").write_bytes(b"data")
    (source / "large").write_bytes(b"data")
    written = back_up(repository, source)
    target = a_target(tmp_path)
    with pytest.raises(error):
        extract(repository, written.tree, target, include=include)

    assert list(target.iterdir()) == []


@pytest.mark.parametrize("workers", PATHS)
def test_without_leave_no_file_takes_rights_with_it(repository: Repository, tmp_path: Path, workers: int) -> None:
    """Programs lose the bits; a folder keeps its own, which gives no rights."""
    program = a_file(repository, "program", mode=0o6755, xattrs=(("user.kept", b"yes"),))
    folder = Node.directory("folder", subtree=tree_of(repository, program), mode=0o2755)
    target = a_target(tmp_path)
    extract(repository, tree_of(repository, folder), target, setuid=False, workers=workers)
    again = extract(repository, tree_of(repository, folder), target, setuid=False, workers=workers)

    assert stat.S_IMODE((target / "folder" / "program").stat().st_mode) == 0o755
    assert stat.S_IMODE((target / "folder").stat().st_mode) == 0o2755
    assert os.getxattr(target / "folder" / "program", "user.kept") == b"yes"
    assert (again.kept, again.files) == (1, 0)


@needs_root
def test_devices_are_made_only_with_leave(repository: Repository, tmp_path: Path) -> None:
    """Without it, one note says so; a pipe is no device."""
    null = Node(name="null", type=NodeType.CHARDEV, mode=go_mode(NodeType.CHARDEV, 0o666), device=os.makedev(1, 3), links=1)
    pipe = Node(name="pipe", type=NodeType.FIFO, mode=go_mode(NodeType.FIFO, 0o600), links=1)
    tree = tree_of(repository, null, pipe)
    without, allowed = a_target(tmp_path, "without"), a_target(tmp_path, "allowed")
    done = extract(repository, tree, without, devices=False)
    extract(repository, tree, allowed)

    assert [path.name for path in without.iterdir()] == ["pipe"]
    assert [note.where for note in done.notes] == ["null"]
    assert (allowed / "null").stat().st_rdev == os.makedev(1, 3)


def test_an_entry_that_cannot_be_read_spoils_nothing_else(repository: Repository, tmp_path: Path) -> None:
    """Whoever wrote the tree: it is named, and what stands beside it is restored."""
    good = encode_node(a_file(repository, "good"))
    bad = [
        encode_node(a_file(repository, "bad-time")).replace(b'"mtime":"1970', b'"mtime":"then'),
        encode_node(a_file(repository, "bad-user")).replace(b'"uid":0', b'"uid":"root"'),
        encode_node(a_file(repository, "bad-type")).replace(b'"type":"file"', b'"type":"thing"'),
        encode_node(a_file(repository, "bad-blobs")).replace(b'"content":["', b'"content":["zz'),
        b'{"type":"file"}',
    ]
    with Writer(repository) as writer:
        tree = writer.save_blob(BlobKind.TREE, join_nodes([*bad, good]))
    target = a_target(tmp_path)
    done = extract(repository, tree, target)

    assert [path.name for path in target.iterdir()] == ["good"]
    assert sorted(finding.where for finding in done.failures) == ["/", "bad-blobs", "bad-time", "bad-type", "bad-user"]


@pytest.mark.parametrize("workers", PATHS)
def test_an_image_comes_back_by_processes_too(repository: Repository, tmp_path: Path, workers: int) -> None:
    device, restored = tmp_path / "device", tmp_path / "restored"
    with device.open("wb") as file:
        for number in range(8):
            file.seek(number * (3 << 20))
            file.write(Random(number).randbytes(1 << 20))
        file.truncate(32 << 20)
    restored.write_bytes(b"old" * 1000)
    with Writer(repository) as writer:
        written = back_up_device(writer, device)
    extract_device(repository, written.tree, restored, workers=workers)

    assert restored.read_bytes() == device.read_bytes()
    assert restored.stat().st_blocks * 512 < 20 << 20
