"""A file as it is, a folder as a tar archive: every byte as it was saved, and no name that leads anywhere else."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from becalm.errors import NotFound
from becalm.repository.backup import back_up_directory
from becalm.repository.crypto import Kdf
from becalm.repository.reader import Repository, init_repository
from becalm.repository.stream import send
from becalm.repository.writer import Writer
from becalm.testing.memory_store import MemoryStore


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Repository, str]:
    """A repository with a small folder of everything."""
    (tmp_path / "data" / "inner").mkdir(parents=True)
    (tmp_path / "data" / "large").write_bytes(bytes(range(256)) * 20_000)
    (tmp_path / "data" / "inner" / "empty").write_bytes(b"")
    (tmp_path / "data" / "inner" / "odd\udcff").write_bytes(b"x")
    (tmp_path / "data" / "link").symlink_to("inner/empty")
    (tmp_path / "data" / "inner" / "empty").chmod(0o640)
    repository = init_repository(MemoryStore(), "p", kdf=Kdf(n=16, r=1))
    with Writer(repository, workers=1) as writer:
        written = back_up_directory(repository, writer, str(tmp_path))
    return repository, written.tree


def test_a_file_comes_as_it_is(saved: tuple[Repository, str]) -> None:
    """Nothing around it."""
    out = io.BytesIO()

    assert send(*saved, "data/large", out) == 1
    assert out.getvalue() == bytes(range(256)) * 20_000


def test_a_folder_comes_as_an_archive(saved: tuple[Repository, str], tmp_path: Path) -> None:
    """With modes, links, empty files and names of any bytes; what tar makes of it is what was saved."""
    out = io.BytesIO()
    count = send(*saved, "data", out)
    out.seek(0)
    with tarfile.open(fileobj=out, mode="r|") as archive:
        archive.extractall(tmp_path / "again", filter="tar")
    names = {str(path.relative_to(tmp_path / "again")): path for path in (tmp_path / "again").rglob("*")}

    assert count == 3
    assert set(names) == {"data", "data/inner", "data/inner/empty", "data/inner/odd\udcff", "data/large", "data/link"}
    assert names["data/large"].read_bytes() == bytes(range(256)) * 20_000
    assert names["data/inner/odd\udcff"].read_bytes() == b"x"
    assert names["data/link"].readlink() == Path("inner/empty")
    assert names["data/inner/empty"].stat().st_mode & 0o777 == 0o640


def test_what_is_not_there_is_said(saved: tuple[Repository, str]) -> None:
    """Before a byte leaves."""
    out = io.BytesIO()
    with pytest.raises(NotFound):
        send(*saved, "data/none", out)

    assert out.getvalue() == b""
