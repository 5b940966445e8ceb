"""Where a repository's password is read from."""

from __future__ import annotations

from pathlib import Path

import pytest

from becalm.actions.password import read_reference
from becalm.errors import UsageError

SECRET = "correct horse battery staple"


def read(reference: str, **variables: str) -> str:
    """Read a reference with these variables; a plain name means what the connection `known` holds."""
    return read_reference(reference, variable=lambda name: variables.get(name, ""), named={"known": SECRET, "empty": ""}.__getitem__)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_file_is_read_without_the_end_of_its_line(tmp_path: Path, end: str) -> None:
    """An editor puts one there; whatever else stands in the file is the password."""
    (tmp_path / "password").write_bytes(f" {SECRET} {end}".encode())

    assert read(f"file:{tmp_path}/password") == f" {SECRET} "


def test_a_variable_and_a_name_are_read() -> None:
    """The name is looked up by the edge, the variable by its name alone."""
    assert read("env:SOME", SOME=SECRET) == SECRET
    assert read("known") == SECRET


@pytest.mark.parametrize("reference", ["env:NOT_SET", "env:", "empty"])
def test_an_empty_password_opens_nothing(reference: str) -> None:
    """It is an error that names the place and what to do."""
    with pytest.raises(UsageError, match="empty") as refused:
        read(reference)
    assert reference in refused.value.where
    assert refused.value.hint


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"])
def test_a_file_without_a_password_is_an_error_that_tells_nothing_of_it(tmp_path: Path, content: bytes | None) -> None:
    """It is missing, empty, or no text."""
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(UsageError) as refused:
        read(f"file:{path}")
    assert str(path) in refused.value.where
    assert refused.value.hint
