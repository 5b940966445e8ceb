"""`becalm report` on a folder that is a bucket: what it writes, how it ends, and what it refuses."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from tests.unit.test_cli_gaps import policy, run

from becalm.cli.report import write_new
from becalm.errors import UsageError

__all__ = ["policy"]


def test_a_page_and_its_json_are_written_and_belong_together(policy: Path, tmp_path: Path) -> None:
    """The page names the JSON by its digest. What does not hold or is not known ends with 5."""
    folder = tmp_path / "reports"
    folder.mkdir()
    told = run("report", str(policy), "--to", str(folder), "--json")
    page, document = sorted(folder.iterdir())
    said = json.loads(document.read_bytes())

    assert (told.exit_code, page.suffix, document.suffix) == (5, ".html", ".json")
    assert hashlib.sha256(document.read_bytes()).hexdigest() in page.read_text()
    assert document.name in page.read_text()
    assert [part["name"] for part in said["policies"]] == ["shop"]
    assert {one["what"]: one["grade"] for one in said["policies"][0]["statements"]}["age of the last good recovery point"] == "bad"


def test_on_a_terminal_each_statement_is_a_row(policy: Path) -> None:
    """With what nobody looked at."""
    told = run("report", str(policy))

    assert told.exit_code == 5
    assert "no drill was ever done" in told.output
    assert "all together: bad" in told.output


@pytest.mark.parametrize("words", [("--since", "soon"), ("--to", "/nowhere/at/all")])
def test_what_makes_no_sense_is_refused_before_anything_is_read(policy: Path, words: tuple[str, ...]) -> None:
    """With one sentence."""
    assert isinstance(run("report", str(policy), *words).exception, UsageError)


def test_a_folder_without_policies_is_refused(tmp_path: Path) -> None:
    """A report on nothing would look well."""
    assert isinstance(run("report", str(tmp_path)).exception, UsageError)


def test_a_file_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    """And nothing is left beside it."""
    file = tmp_path / "report.json"
    write_new(file, b"first")
    with pytest.raises(FileExistsError):
        write_new(file, b"second")

    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("report.json", b"first")]
