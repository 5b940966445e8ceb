"""Scouts may go ahead of the repository, and of a directory that has changed they say which entries stay."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from becalm.repository.backup import Written, back_up_directory
from becalm.repository.beside import Below, Seen, Stays, compare, patch_below
from becalm.repository.crypto import Kdf
from becalm.repository.entry import Entries
from becalm.repository.format import BlobKind
from becalm.repository.progress import Progress
from becalm.repository.reader import Repository, init_repository
from becalm.repository.rows import Rows, rows_of
from becalm.repository.scouts import Scouts, sent_out
from becalm.repository.sights import Sights, document_of, parts_of
from becalm.repository.writer import Writer
from becalm.testing.memory_store import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def repository() -> Repository:
    return init_repository(MemoryStore(), "password", kdf=Kdf(n=1 << 4, r=8, p=1))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    for folder in ("", "a", "a/b", "c", "c/d", "e <&> ä"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(4):
            (root / folder / f"file-{number}").write_bytes(f"{folder} {number}".encode())
    return root


def back_up(repository: Repository, path: Path, tree: str = "", scouts: Scouts | None = None) -> Written:
    with Writer(repository) as writer:
        return back_up_directory(repository, writer, path, parent_tree=tree, scouts=scouts, workers=0)


def rows(path: Path) -> Rows:
    fd = os.open(path, os.O_RDONLY)
    try:
        found = rows_of(fd, Entries(), device=os.fstat(fd).st_dev)
    finally:
        os.close(fd)
    assert found is not None
    return found


def beside(repository: Repository, path: Path, tree: str) -> Seen:
    return compare(rows(path), bytes(repository.blob(BlobKind.TREE, tree)), [])


def test_of_a_changed_directory_only_what_has_changed_is_left(repository: Repository, source: Path) -> None:
    """One has changed, one is new, one has gone: the first two are named, and what stays is told by its place in the tree."""
    first = back_up(repository, source / "a")
    (source / "a" / "file-1").write_bytes(b"other")
    (source / "a" / "file-11").write_bytes(b"new")
    (source / "a" / "file-2").unlink()
    seen = beside(repository, source / "a", first.tree)
    document = bytes(repository.blob(BlobKind.TREE, first.tree))

    assert not seen.same
    assert seen.files == 2
    assert seen.patch is not None
    assert [part for part in seen.patch if isinstance(part, str)] == ["file-1", "file-11"]
    assert [part.name for part in seen.patch if isinstance(part, Below)] == ["b"]
    assert [document[part.begin : part.end].count(b'"type":"file"') for part in seen.patch if isinstance(part, Stays)] == [1, 1]


def test_where_most_has_changed_the_walk_looks_at_all(repository: Repository, source: Path) -> None:
    """Another tool may have written the tree, with fields that say the same in another way."""
    first = back_up(repository, source / "a")
    for number in range(3):
        (source / "a" / f"file-{number}").write_bytes(b"other")
    seen = beside(repository, source / "a", first.tree)

    assert (seen.same, seen.patch) == (False, None)
    assert [name for name, _ in seen.folders or ()] == ["b"]


def test_a_tree_is_cut_at_the_directories_that_have_changed(repository: Repository, source: Path) -> None:
    """What lies between them stays, with its commas; a name that is not there makes it unknown."""
    document = bytes(repository.blob(BlobKind.TREE, back_up(repository, source).tree))
    patch = patch_below(document, ["c", "e <&> ä"])

    assert patch is not None
    assert [type(part) for part in patch] == [Stays, Below, Below, Stays]
    assert document == b'{"nodes":[' + b",".join(document[p.begin : p.end] for p in patch if not isinstance(p, str)) + b"]}\n"
    assert patch_below(document, ["file-1"]) is None


def test_an_empty_directory_that_was_not_empty_is_another(repository: Repository, source: Path) -> None:
    """And so is one that has become so."""
    (source / "empty").mkdir()
    full, empty = back_up(repository, source / "c" / "d"), back_up(repository, source / "empty")

    assert beside(repository, source / "empty", empty.tree).same
    assert not beside(repository, source / "empty", full.tree).same
    assert not beside(repository, source / "c" / "d", empty.tree).same


@pytest.mark.parametrize("workers", [1, 2])
def test_scouts_that_went_ahead_find_the_same(repository: Repository, source: Path, workers: int) -> None:
    """What they have listed before they hear the key counts as what they list after."""
    first = back_up(repository, source)
    (source / "c" / "d" / "file-3").write_bytes(b"other")
    fd = os.open(source, os.O_RDONLY)
    try:
        with Scouts(fd, workers=workers, ahead=True) as scouts:
            second = back_up(repository, source, first.tree, scouts)
    finally:
        os.close(fd)
    alone = back_up(repository, source)

    assert second.tree == alone.tree
    assert (second.files, second.dirs, second.bytes_total) == (alone.files, alone.dirs, alone.bytes_total)
    assert (second.unchanged, second.bytes_read) == (first.files - 1, len(b"other"))


def test_scouts_of_another_directory_are_not_believed(repository: Repository, source: Path) -> None:
    """The path may have become another directory since they were sent out."""
    first = back_up(repository, source)
    (source / "a" / "file-1").write_bytes(b"other")
    fd = os.open(source / "c", os.O_RDONLY)
    try:
        with Scouts(fd, workers=0) as scouts:
            second = back_up(repository, source, first.tree, scouts)
    finally:
        os.close(fd)

    assert second.tree == back_up(repository, source).tree


def test_nobody_is_sent_where_there_is_little_or_nothing(source: Path) -> None:
    """A crew does not pay there; that a directory is missing is for others to say."""
    with sent_out(str(source)) as few, sent_out(str(source / "missing")) as none:
        sent = (few, none)

    assert sent == (None, None)


def test_a_crew_is_sent_where_there_are_many_directories(repository: Repository, source: Path) -> None:
    """It is gone when the work is done, and has found what is as it was."""
    for number in range(450):
        (source / f"folder-{number}").mkdir()
    first = back_up(repository, source)
    with sent_out(str(source)) as scouts:
        assert scouts is not None
        second = back_up(repository, source, first.tree, scouts)

    assert (second.tree, second.files, second.unchanged, second.bytes_read) == (first.tree, first.files, first.files, 0)


def test_a_tree_is_the_same_whether_it_was_held_or_is_fetched_again(repository: Repository, source: Path) -> None:
    """What is held of trees is bounded."""
    first = back_up(repository, source)
    (source / "file-1").write_bytes(b"other")
    fd = os.open(source, os.O_RDONLY)
    try:
        with Scouts(fd, workers=0) as scouts:
            sight = Sights(repository, Progress(), scouts).look(first.tree)
    finally:
        os.close(fd)
    held = document_of(sight, repository)
    sight.asked = None

    assert held == document_of(sight, repository)
    assert [part for part in parts_of(sight, held) or () if not isinstance(part, Stays)] == ["file-1"]
