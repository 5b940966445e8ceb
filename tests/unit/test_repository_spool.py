"""A large directory is written a part at a time, and is the same as one that was written at once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from becalm.errors import Damaged
from becalm.repository.backup import back_up_directory
from becalm.repository.crypto import Kdf, MasterKey, seal
from becalm.repository.extract import extract
from becalm.repository.format import BlobKind, IndexedBlob
from becalm.repository.node import join_nodes
from becalm.repository.opening import Opening, check_large
from becalm.repository.pack import encode_blob, read_blob
from becalm.repository.reader import Repository, init_repository
from becalm.repository.spool import Spool
from becalm.repository.tree import nodes
from becalm.repository.walk import SPOOLED
from becalm.repository.writer import Writer
from becalm.testing.memory_store import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path

ENTRY = st.binary(min_size=1, max_size=300)
KEY = MasterKey.random()


def a_repository() -> Repository:
    """A new one, whose password costs nothing."""
    return init_repository(MemoryStore(), "secret", kdf=Kdf(n=2, r=1, p=1))


@given(parts=st.lists(st.lists(ENTRY, max_size=8), max_size=8), version=st.sampled_from([1, 2]))
def test_a_spool_gives_the_blob_of_all_entries_in_their_order(parts: list[list[bytes]], version: int) -> None:
    """However the entries come, and whatever is sealed under the same key meanwhile."""
    document = join_nodes([entry for part in parts for entry in part])
    spool = Spool(KEY, version=version)
    for part in parts:
        spool.add(part)
        seal(KEY, b"another blob")
    made = spool.finish()
    place = IndexedBlob(id=made.id, kind=BlobKind.TREE, offset=0, length=len(made.sealed), uncompressed_length=made.uncompressed_length)

    assert read_blob(KEY, made.sealed, place) == document
    assert encode_blob(KEY, BlobKind.TREE, made.id, document).id == made.id


def test_a_large_blob_that_holds_something_else_is_found_while_it_is_read() -> None:
    """As one that is held is: a pack may not leave with it."""
    spool = Spool(KEY)
    spool.add([b"{}"])
    made = spool.finish()
    check_large(Opening(KEY, made.sealed), made.uncompressed_length, made.id)

    with pytest.raises(Damaged, match="something else"):
        check_large(Opening(KEY, made.sealed), made.uncompressed_length, "0" * 64)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A directory that is spooled, with a directory, a link and a pipe among its files."""
    folder = tmp_path / "volume" / "many"
    folder.mkdir(parents=True)
    fd = os.open(folder, os.O_RDONLY)
    for number in range(SPOOLED + 300):
        os.close(os.open(f"file-{number:06d}", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=fd))
    os.close(fd)
    (folder / "file-000100").write_bytes(b"content")
    (folder / "folder").mkdir()
    (folder / "folder" / "below").write_bytes(b"below")
    (folder / "a-link").symlink_to("file-000100")
    os.mkfifo(folder / "a-pipe")
    return folder.parent


def test_a_large_directory_is_backed_up_beside_its_parent_and_restored(large: Path, tmp_path: Path) -> None:
    """Every entry once, in the order of the names; unchanged, its tree is the same and nothing is written; changed, one file is."""
    repository = a_repository()
    with Writer(repository) as writer:
        first = back_up_directory(repository, writer, large, workers=0)
    with Writer(repository) as writer:
        again = back_up_directory(repository, writer, large, parent_tree=first.tree, workers=0)
    (large / "many" / "file-020200").write_bytes(b"new")
    with Writer(repository) as writer:
        changed = back_up_directory(repository, writer, large, parent_tree=first.tree, workers=0)
    (many,) = nodes(repository, changed.tree)
    written = list(nodes(repository, many.subtree))
    target = tmp_path / "restored"
    target.mkdir()
    restored = extract(repository, changed.tree, target, workers=0)

    assert (again.tree, again.bytes_added, again.unchanged) == (first.tree, 0, SPOOLED + 301)
    assert changed.unchanged == SPOOLED + 300
    assert [node.name for node in written] == sorted(path.name for path in (large / "many").iterdir())
    assert not restored.failures
    assert sorted(path.name for path in (target / "many").iterdir()) == sorted(path.name for path in (large / "many").iterdir())
    assert (target / "many" / "file-020200").read_bytes() == b"new"
    assert (target / "many" / "folder" / "below").read_bytes() == b"below"
