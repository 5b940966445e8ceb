"""A folder that was in use becomes what a tree says, and is held beside it: by bytes, never by times alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from becalm.errors import PermanentError, UsageError
from becalm.repository.backup import back_up_directory
from becalm.repository.compare import compare
from becalm.repository.crypto import Kdf
from becalm.repository.extract import extract
from becalm.repository.reader import Repository, init_repository
from becalm.repository.target import opened_below
from becalm.repository.writer import Writer
from becalm.testing.memory_store import MemoryStore

NAMES = st.sampled_from(["a", "b", "c", "d"])
TREES = st.recursive(st.binary(max_size=20), lambda below: st.dictionaries(NAMES, below, max_size=4), max_leaves=8).filter(
    lambda found: isinstance(found, dict)
)


def save(source: Path) -> tuple[Repository, str]:
    """Write a folder into a new repository; return the tree."""
    repository = init_repository(MemoryStore(), "p", kdf=Kdf(n=16, r=1))
    with Writer(repository, workers=1) as writer:
        written = back_up_directory(repository, writer, str(source))
    return repository, written.tree


def make(folder: Path, tree: dict) -> None:
    """Make files and folders."""
    folder.mkdir()
    for name, below in tree.items():
        if isinstance(below, dict):
            make(folder / name, below)
        else:
            (folder / name).write_bytes(below)


def contents(folder: Path) -> dict[str, bytes | None]:
    """Return every path, with the bytes of files."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@given(saved=TREES, live=TREES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_folder_becomes_any_tree(saved: dict, live: dict, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Files in the place of folders and folders in the place of files, too; afterwards nothing differs."""
    root = tmp_path_factory.mktemp("exact")
    make(root / "saved", saved)
    make(root / "live", live)
    repository, tree = save(root / "saved")
    done = extract(repository, tree, root / "live", exact=True, workers=0)

    assert done.failures == ()
    assert contents(root / "live") == contents(root / "saved")
    assert compare(repository, tree, str(root / "live")).differences == ()


def test_a_file_of_the_same_size_and_time_with_other_bytes_is_written_again(tmp_path: Path) -> None:
    """A program may set a time back; files whose bytes are right stay the very same files."""
    source, live = tmp_path / "source", tmp_path / "live"
    make(source, {"forged": b"right", "same": b"right", "touched": b"right"})
    repository, tree = save(source)
    live.mkdir()
    extract(repository, tree, live, workers=0)
    same, touched = (live / "same").stat().st_ino, (live / "touched").stat().st_ino
    times = (live / "forged").stat()
    (live / "forged").write_bytes(b"wrong")
    os.utime(live / "forged", ns=(times.st_atime_ns, times.st_mtime_ns))
    os.utime(live / "touched", ns=(1, 1))
    told = [str(one) for one in compare(repository, tree, str(live)).differences]
    done = extract(repository, tree, live, exact=True, workers=0)

    assert told == ["forged: holds other bytes", "touched: has another time"]
    assert (done.files, done.kept) == (1, 2)
    assert (live / "forged").read_bytes() == b"right"
    assert ((live / "same").stat().st_ino, (live / "touched").stat().st_ino) == (same, touched)
    assert (live / "touched").stat().st_mtime_ns == (source / "touched").stat().st_mtime_ns


def test_what_is_too_much_goes_and_nothing_beyond_a_link(tmp_path: Path) -> None:
    """A link that leads out of the volume is removed, and what it leads to stays; `lost+found` belongs to the file system."""
    source, live, outside = tmp_path / "source", tmp_path / "live", tmp_path / "outside"
    make(source, {"keep": b"1"})
    make(outside, {"precious": b"2"})
    make(live, {"extra": {"deep": {"er": b"3"}}, "lost+found": {"x": b"4"}})
    (live / "link").symlink_to(outside)
    (live / "extra" / "link").symlink_to(outside / "precious")
    repository, tree = save(source)
    extract(repository, tree, live, exact=True, workers=0)

    assert sorted(path.name for path in live.iterdir()) == ["keep", "lost+found"]
    assert contents(outside) == {"precious": b"2"}


def test_a_link_in_the_place_of_a_folder_is_not_followed(tmp_path: Path) -> None:
    """The folder of the tree is made where the link was; not a byte goes where it led."""
    source, live, outside = tmp_path / "source", tmp_path / "live", tmp_path / "outside"
    make(source, {"etc": {"passwd": b"of the point"}})
    make(outside, {"passwd": b"of the node"})
    live.mkdir()
    (live / "etc").symlink_to(outside)
    repository, tree = save(source)
    extract(repository, tree, live, exact=True, workers=0)

    assert (live / "etc" / "passwd").read_bytes() == b"of the point"
    assert contents(outside) == {"passwd": b"of the node"}


def test_without_exact_what_is_there_stays(tmp_path: Path) -> None:
    """Only a restore in place removes anything."""
    source, live = tmp_path / "source", tmp_path / "live"
    make(source, {"a": b"1"})
    make(live, {"b": b"2"})
    repository, tree = save(source)
    extract(repository, tree, live, workers=0)

    assert contents(live) == {"a": b"1", "b": b"2"}
    assert [str(one) for one in compare(repository, tree, str(live)).differences] == ["b: is not in the recovery point"]


def test_a_folder_within_a_volume_is_reached_without_following_links(tmp_path: Path) -> None:
    """Neither a link nor `..` leads out of the volume."""
    (tmp_path / "volume" / "inner").mkdir(parents=True)
    (tmp_path / "volume" / "link").symlink_to(tmp_path)
    with opened_below(str(tmp_path / "volume"), "inner") as folder:
        (Path(folder) / "file").write_bytes(b"1")

    assert (tmp_path / "volume" / "inner" / "file").read_bytes() == b"1"
    with pytest.raises(PermanentError, match="the target cannot be opened"), opened_below(str(tmp_path / "volume"), "link"):
        pass
    with pytest.raises(UsageError, match="leads out of the volume"), opened_below(str(tmp_path / "volume"), "inner/../.."):
        pass


def test_of_a_sparse_file_the_hole_need_not_be_read(tmp_path: Path) -> None:
    """A hole is the same as the zeros that were saved; other bytes in its place are not."""
    source = tmp_path / "source"
    source.mkdir()
    with (source / "disk").open("wb") as file:
        file.truncate(64 << 20)
        file.seek(32 << 20)
        file.write(b"x" * 5000)
    repository, tree = save(source)
    same = compare(repository, tree, str(source))
    with (source / "disk").open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"y")

    assert (same.files, same.differences) == (1, ())
    assert [one.message for one in compare(repository, tree, str(source)).differences] == ["holds other bytes"]
