"""`becalm policy …` at a terminal."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from becalm.cli.policy import app
from becalm.policy.load import load, sample


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, arguments)
    return done.exit_code, done.output


@pytest.fixture
def good(tmp_path: Path) -> Path:
    file = tmp_path / "good.yaml"
    file.write_text(sample())
    return file


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    file = tmp_path / "bad.yaml"
    file.write_text(sample().replace("name: shop ", "name: cart ").replace("timezone:", "timezon:"))
    return file


def test_a_good_file_takes_one_line(good: Path) -> None:
    """And ends with 0."""
    assert (0, f"{good}: ok, policy shop\n") == run("check", str(good))


def test_a_bad_file_names_its_findings_and_harms_no_other(good: Path, bad: Path) -> None:
    """It ends with the exit code of policy errors."""
    assert (3, f"{good}: ok, policy shop\n{bad}: 1 finding\n  spec.timezon: no such key is known here (line 8); write timezone\n") == run(
        "check", str(good), str(bad)
    )


def test_a_file_that_is_not_there_is_a_finding(tmp_path: Path) -> None:
    """No traceback, and the same exit code."""
    missing = tmp_path / "none.yaml"

    assert (3, f"{missing}: 1 finding\n  file: there is no such file; name a file with one policy\n") == run("check", str(missing))


def test_a_name_that_is_not_text_is_printed_all_the_same(tmp_path: Path) -> None:
    """Names of files are bytes."""
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.yaml"))
    file.write_text(sample())

    assert run("check", str(file)) == (0, f"{tmp_path}/?.yaml: ok, policy shop\n")
    assert run("check", "--json", str(file))[0] == 0


def test_a_folder_means_its_policy_files_and_a_name_used_twice_is_noticed(good: Path) -> None:
    """Two policies of one name would share a repository."""
    (good.parent / "again.yml").write_text(sample())
    (good.parent / "notes.txt").write_text("no policy")
    code, output = run("check", str(good.parent))

    assert code == 3
    assert 'metadata.name: "shop" is also the name of the policy in good.yaml; give each policy its own name' in output
    assert "notes.txt" not in output


def test_json_says_the_same(good: Path, bad: Path) -> None:
    """For programs."""
    code, output = run("check", "--json", str(good), str(bad))
    answer = json.loads(output)

    assert (code, answer["ok"]) == (3, False)
    assert {"file": str(good), "ok": True, "policy": "shop", "digest": load(sample(), source="x").digest, "findings": []} == answer[
        "files"
    ][0]
    assert answer["files"][1]["findings"][0] == {
        "path": "spec.timezon",
        "problem": "no such key is known here (line 8)",
        "remedy": "write timezone",
    }


def test_an_explanation_is_given_when_asked_for(good: Path) -> None:
    """What the policy protects, in sentences."""
    assert "  Namespaces: shop, shop-*.\n" in run("check", "--explain", str(good))[1]


def test_the_schema_is_json_and_the_sample_is_a_policy() -> None:
    """Both can be sent to a file."""
    assert json.loads(run("schema")[1])["title"] == "ProtectionPolicy"
    assert load(run("sample")[1], source="sample").name == "shop"


def test_nothing_to_check_is_a_mistake_of_usage() -> None:
    """Exit code 2."""
    assert run("check")[0] == 2
