"""`becalm log` and `becalm find` as a person types them."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from becalm.cli.app import app
from becalm.errors import NotFound, PointMissing, UsageError
from becalm.storage import open_store
from becalm.testing.fake_cluster import DEFAULT_KINDS
from becalm.testing.manifests import a_map, a_namespace
from becalm.testing.saved_points import CUT, PASSWORD, save_point


@pytest.fixture
def where(tmp_path: Path) -> list[str]:
    """What every command line ends with; two points, in which one ConfigMap differs."""
    store = open_store(f"file://{tmp_path}/shop", {}, create=True)
    for number, level in enumerate("12"):
        files = {"shop/data": {"orders.db": b"1"}}
        save_point(store, [a_namespace(), a_map(level=level)], kinds=DEFAULT_KINDS, cut=CUT + timedelta(days=number), volumes=files)
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
    ],
)
def test_what_cannot_be_meant_is_said(where: list[str], words: list[str], error: type[Exception]) -> None:
    """As one typed error."""
    assert isinstance(CliRunner().invoke(app, [*words, *where]).exception, error)


def test_a_time_before_all_points_shows_none(where: list[str]) -> None:
    """`show --as-of` means the newest point at or before it, and never a later one."""
    shown = CliRunner().invoke(app, ["show", "--as-of", "2026-03-13T23:00:00Z", *where[:-2]])

    assert isinstance(shown.exception, PointMissing)
