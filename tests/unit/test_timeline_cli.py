"""`becalm log` and `becalm find` as a person types them."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from becalm.cli.app import app
from becalm.errors import BecalmError, NotFound, PointMissing, UsageError
from becalm.storage import open_store
from becalm.testing.fake_cluster import DEFAULT_KINDS
from becalm.testing.manifests import a_map, a_namespace, a_secret
from becalm.testing.saved_points import CUT, PASSWORD, save_point

DESCRIPTION = {
    "policy": {"digest": "0" * 64},
    "consistency": {"label": "crash-consistent", "reasons": []},
    "counts": {"objects": 2},
    "volumes": [],
    "missing": [],
    "excluded": [],
}


@pytest.fixture
def where(tmp_path: Path) -> list[str]:
    """What every command line ends with; two points, in which one ConfigMap differs."""
    store = open_store(f"file://{tmp_path}/shop", {}, create=True)
    for number, level in enumerate("12"):
        files = {"shop/data": {"orders.db": b"1"}}
        save_point(
            store,
            [a_namespace(), a_map(level=level)],
            kinds=DEFAULT_KINDS,
            cut=CUT + timedelta(days=number),
            volumes=files,
            raw={"recovery-point.json": json.dumps(DESCRIPTION).encode()},
        )
    (tmp_path / "password").write_text(PASSWORD)
    place = ["--target", f"file://{tmp_path}", "--policy", "shop", "--password", f"file:{tmp_path}/password"]
    return [*place, "--index", str(tmp_path / "index.sqlite")]


def test_the_log_of_an_object_shows_each_change(where: list[str]) -> None:
    """When, between which points, which field; and the same for programs."""
    shown = CliRunner().invoke(app, ["log", "configmaps/*/*", *where])
    document = json.loads(CliRunner().invoke(app, ["log", "configmaps/*/*", *where, "--json"]).output)

    assert shown.exit_code == 0
    assert "data.level: '1' → '2'" in shown.output
    assert "2 complete points" in shown.output
    assert [entry["change"] for entry in document["entries"]] == ["added", "changed"]


def test_what_is_found_is_told_with_its_points(where: list[str]) -> None:
    """Objects, and files of volumes."""
    objects = json.loads(CliRunner().invoke(app, ["find", "*", "--kind", "ConfigMap", *where, "--json"]).output)["found"]
    files = CliRunner().invoke(app, ["find", "orders.*", "--file", *where])

    assert [(one["kind"], one["versions"], one["gone"]) for one in objects] == [("ConfigMap", 2, False)]
    assert "shop/data: orders.db" in files.output
    assert "in 2 points" in files.output


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["log", "nonsense"], UsageError),
        (["log", "v1/ConfigMap/shop/nobody"], NotFound),
        (["find", "nobody"], NotFound),
        (["find", "*", "--since", "yesterdayish"], UsageError),
        (["find", "*", "--selector", "=="], UsageError),
        (["find", "*", "--file", "--kind", "Secret"], UsageError),
        (["find", "one", "two", "three"], UsageError),
    ],
)
def test_what_cannot_be_meant_is_said(where: list[str], words: list[str], error: type[Exception]) -> None:
    """As one typed error."""
    assert isinstance(CliRunner().invoke(app, [*words, *where]).exception, error)


def test_a_time_before_all_points_shows_none(where: list[str]) -> None:
    """`show --as-of` means the newest point at or before it, and never a later one."""
    shown = CliRunner().invoke(app, ["show", "--as-of", "2026-03-13T23:00:00Z", *where[:-2]])

    assert isinstance(shown.exception, PointMissing)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--as-of", "2026-03-14", "--point", "abcd"], UsageError),
        (["--as-of", "abcd"], UsageError),
        (["--namespace", "nobody"], NotFound),
        (["--object", "nonsense"], UsageError),
        (["--object", "v1/ConfigMap/shop/nobody"], NotFound),
    ],
)
def test_what_cannot_be_shown_is_said(where: list[str], words: list[str], error: type[Exception]) -> None:
    """As one typed error."""
    assert isinstance(CliRunner().invoke(app, ["show", *words, *where[:-2]]).exception, error)


def test_without_a_home_the_index_needs_a_name(where: list[str]) -> None:
    """It is never put where nobody looks for it."""
    done = CliRunner().invoke(app, ["find", "*", *where[:-2]], env={"HOME": "", "XDG_CACHE_HOME": ""})

    assert isinstance(done.exception, UsageError)
    assert "--index" in str(done.exception)


def test_a_point_is_shown_as_of_a_time(where: list[str]) -> None:
    """The newest at or before it; what a namespace held then."""
    shown = CliRunner().invoke(app, ["show", "--as-of", "2026-03-14T23:00:00Z", *where[:-2], "--namespace", "shop"], env={"COLUMNS": "200"})
    words = " ".join(shown.output.split())

    assert shown.exit_code == 0
    assert "as of 2026-03-14T23:00:00Z" in words
    assert "cut 2026-03-14T11:00:00Z" in words
    assert "core/configmaps/shop/" in words
    assert "core/namespaces/_cluster/shop.json" in words


@pytest.mark.parametrize(("day", "level"), [("2026-03-14", "1"), ("2026-03-15", "2"), ("2026-04-01", "2")])
def test_an_object_is_shown_as_it_was(where: list[str], day: str, level: str) -> None:
    """Whole, from the point that a time means."""
    shown = CliRunner().invoke(app, ["show", "--as-of", day, "--object", "configmaps/shop/*", *where[:-2], "--json"])

    assert [one["data"]["level"] for one in json.loads(shown.output)["objects"]] == [level]


def test_a_secret_is_shown_without_its_values(where: list[str], tmp_path: Path) -> None:
    """Its keys are told."""
    save_point(open_store(f"file://{tmp_path}/shop", {}), [a_secret(key="c2VjcmV0")], kinds=DEFAULT_KINDS, cut=CUT + timedelta(days=5))
    shown = CliRunner().invoke(app, ["show", "--object", "v1/Secret/shop/*", *where[:-2]])

    assert "key: (hidden)" in shown.output
    assert "c2VjcmV0" not in shown.output


@pytest.mark.parametrize("words", [["log", "nowhere.yaml", "v1/ConfigMap/shop/a"], ["find", "nowhere.yaml", "*"]])
def test_of_two_words_the_first_is_the_policy(where: list[str], words: list[str]) -> None:
    """As with every other verb; a file that is not there is named."""
    done = CliRunner().invoke(app, [*words, *where[-2:]])

    assert isinstance(done.exception, BecalmError)
    assert "nowhere.yaml" in str(done.exception)
