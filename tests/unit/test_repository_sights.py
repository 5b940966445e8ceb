"""What is as it was is gone past, and nothing else: whatever changes, the tree is the one that a backup without a parent gives."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from becalm.repository.backup import Written, back_up_directory
from becalm.repository.beside import compare, raw_ids
from becalm.repository.crypto import Kdf
from becalm.repository.entry import Entries
from becalm.repository.node import Node, encode_node, join_nodes
from becalm.repository.progress import Progress
from becalm.repository.reader import Repository, init_repository
from becalm.repository.rows import rows_of
from becalm.repository.scouts import Scouts
from becalm.repository.sights import Sight, Sights
from becalm.repository.writer import Writer
from becalm.testing.memory_store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ID = "ab" * 32


@pytest.fixture
def repository() -> Repository:
    return init_repository(MemoryStore(), "password", kdf=Kdf(n=1 << 4, r=8, p=1))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A volume with what a volume may have."""
    root = tmp_path / "source"
    for folder in ("a", "a/deep", "a/deep/deeper", "b", "c & d", "näme", "empty"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        if folder != "empty":
            for number in range(5):
                (root / folder / f"file-{number}").write_bytes(f"{folder} {number}".encode() * (number * 100))
    (root / "a" / 'odd "name" \\ <&>\t').write_bytes(b"odd")
    (root / "b" / "link").symlink_to("../a/file-1")
    os.mkfifo(root / "b" / "pipe")
    os.link(root / "b" / "file-1", root / "a" / "deep" / "hard")
    mark(root / "a" / "file-2", b"one")
    mark(root / "b", b"two")
    return root


def mark(path: Path, value: bytes) -> None:
    try:
        os.setxattr(path, "user.mark", value)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise


def back_up(repository: Repository, path: Path, tree: str = "", **options: int) -> Written:
    with Writer(repository) as writer:
        return back_up_directory(repository, writer, path, parent_tree=tree, **options)


def look(repository: Repository, path: Path, tree: str, *, workers: int = 0) -> Sight:
    fd = os.open(path, os.O_RDONLY)
    try:
        with Scouts(fd, workers=workers) as scouts:
            return Sights(repository, Progress(), scouts).look(tree)
    finally:
        os.close(fd)


@pytest.mark.parametrize("workers", [0, 1])
def test_all_of_an_unchanged_volume_is_gone_past(repository: Repository, source: Path, workers: int) -> None:
    """Links, pipes, odd names and extended attributes are as they were too; here and in a worker."""
    first = back_up(repository, source)
    sight = look(repository, source, first.tree, workers=workers)

    assert not sight.walks
    assert sight.past == [first.files, first.bytes_total, first.dirs]


def test_an_unchanged_volume_counts_as_before(repository: Repository, source: Path) -> None:
    """The second backup names the same root and as many directories, and reads nothing."""
    first = back_up(repository, source)
    second = back_up(repository, source, first.tree)

    assert (second.tree, second.dirs, second.bytes_total) == (first.tree, first.dirs, first.bytes_total)
    assert (second.bytes_read, second.bytes_added) == (0, 0)
    assert encode_node(second.root) == encode_node(first.root)


def replace_folder(root: Path) -> None:
    (root / "b" / "link").unlink()
    (root / "b" / "link").mkdir()
    (root / "b" / "link" / "new").write_bytes(b"new")


def retarget(root: Path) -> None:
    (root / "b" / "link").unlink()
    (root / "b" / "link").symlink_to("elsewhere")


def empty_folder(root: Path) -> None:
    for path in (root / "a" / "deep" / "deeper").iterdir():
        path.unlink()
    (root / "a" / "deep" / "deeper").rmdir()


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda root: (root / "a" / "deep" / "file-3").write_bytes(b"other"),
    "mode": lambda root: (root / "a" / "deep" / "file-3").chmod(0o600),
    "mode of a folder": lambda root: (root / "a" / "deep").chmod(0o700),
    "mode of the root": lambda root: root.chmod(0o700),
    "time": lambda root: os.utime(root / "b" / "file-0", ns=(1, 1)),
    "one more": lambda root: (root / "a" / "deep" / "deeper" / "zz").write_bytes(b"new"),
    "one less": lambda root: (root / "a" / "file-4").unlink(),
    "another name": lambda root: (root / "a" / "file-4").rename(root / "a" / "file-5"),
    "a new folder": lambda root: (root / "a" / "deep" / "new" / "newer").mkdir(parents=True),
    "a folder in a link's place": replace_folder,
    "a folder less": empty_folder,
    "another target": retarget,
    "an extended attribute": lambda root: mark(root / "a" / "file-2", b"three"),
    "a first extended attribute": lambda root: mark(root / "a" / "file-3", b"three"),
    "one of a folder": lambda root: mark(root / "a" / "deep", b"three"),
    "one link more": lambda root: os.link(root / "b" / "file-2", root / "b" / "another"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_is_found(repository: Repository, source: Path, change: Callable[[Path], object]) -> None:
    """With the parent, the tree is the one without a parent, and the counts agree."""
    first = back_up(repository, source)
    change(source)
    second = back_up(repository, source, first.tree)
    alone = back_up(repository, source)

    assert second.tree == alone.tree
    assert (second.files, second.dirs, second.bytes_total) == (alone.files, alone.dirs, alone.bytes_total)
    assert encode_node(second.root) == encode_node(alone.root)


def test_only_what_leads_to_a_change_is_walked(repository: Repository, source: Path) -> None:
    """A change makes its directory and those above it odd; beside them all is gone past."""
    first = back_up(repository, source)
    (source / "a" / "deep" / "file-3").write_bytes(b"other")
    sight = look(repository, source, first.tree)

    assert sight.odd is not None
    assert set(sight.odd) == {"a"}
    assert sight.even == {"b", "c & d", "näme", "empty"}
    assert set(sight.odd["a"].odd or ()) == {"deep"}
    assert (sight.odd["a"].odd or {})["deep"].even == {"deeper"}


def test_a_socket_is_noted_each_time(repository: Repository, source: Path) -> None:
    """What is left out is said of every backup, though nothing has changed."""
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        here = os.open(source, os.O_RDONLY)
        try:
            listener.bind(f"/proc/self/fd/{here}/b/socket")
        finally:
            os.close(here)
        first = back_up(repository, source)
        second = back_up(repository, source, first.tree)

    assert second.tree == first.tree
    assert [note.where for note in second.notes] == ["b/socket"] == [note.where for note in first.notes]


def test_other_inodes_are_looked_at_by_the_walk(repository: Repository, source: Path) -> None:
    """Where inodes do not last, nobody looks before: times and sizes decide, as without."""
    first = back_up(repository, source)
    second = back_up(repository, source, first.tree, stable_inodes=False)

    assert (second.tree, second.bytes_read, second.files) == (first.tree, 0, first.files)


def test_what_stands_behind_another_entry_does_not_count(tmp_path: Path) -> None:
    """A field that is not known, behind extended attributes, does not make the next entry's content this one's."""
    (tmp_path / "a").write_bytes(b"")
    status = (tmp_path / "a").lstat()
    stem = Entries().file_stem("a", status, size=0)
    marks = b',"extended_attributes":[{"name":"user.x","value":"eA=="}]'
    other = encode_node(Node.file("b", content=(ID,), size=1)).removesuffix(b',"content":["' + ID.encode() + b'"]}')
    document = join_nodes([stem + marks + b',"new":1,"content":[]}', other + marks + b',"content":["' + ID.encode() + b'"]}'])
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        rows = rows_of(fd, Entries(), device=status.st_dev)
    finally:
        os.close(fd)

    assert rows is not None
    assert not compare(rows, document, []).same


@pytest.mark.parametrize(
    "lists", [[b'"' + b"zz" * 32 + b'"'], [b'"' + ID.upper().encode() + b'"'], [b'"' + b"a " * 32 + b'"'], ['"ä"'.encode()]]
)
def test_what_is_no_id_is_not_taken_for_one(lists: list[bytes]) -> None:
    """Only small hexadecimal digits are."""
    assert raw_ids(lists) is None


def test_ids_come_in_their_order() -> None:
    """One behind the other, without what stands between them."""
    other = "cd" * 32

    assert raw_ids([f'"{ID}","{other}"'.encode(), f'"{ID}"'.encode()]) == bytes.fromhex(ID + other + ID)
