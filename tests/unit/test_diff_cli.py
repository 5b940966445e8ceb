"""`becalm diff` as a person types it: exit codes, the document for programs, and the rules by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from becalm.actions.diff import MADE_AGAIN
from becalm.cli.app import app
from becalm.errors import PointMissing, UsageError
from becalm.kube.rules import RULES
from becalm.storage import open_store
from becalm.testing.fake_cluster import DEFAULT_KINDS
from becalm.testing.manifests import a_map, a_namespace, a_secret
from becalm.testing.saved_points import CUT, PASSWORD, save_point


@pytest.fixture
def points(tmp_path: Path) -> tuple[list[str], str, str, str]:
    """What every command line begins with; two equal points, and one that differs."""
    store = open_store(f"file://{tmp_path}/shop", {}, create=True)
    found = []
    for number, (level, key) in enumerate((("1", "YQ=="), ("1", "YQ=="), ("2", "Yg=="))):
        objects = (a_namespace(), a_map(level=level), a_secret(key=key))
        found.append(save_point(store, objects, kinds=DEFAULT_KINDS, cut=CUT.replace(minute=number)).id[:12])
    (tmp_path / "password").write_text(PASSWORD)
    begin = ["diff", "--target", f"file://{tmp_path}", "--policy", "shop", "--password", f"file:{tmp_path}/password"]
    return begin, *found


def test_equal_points_end_with_zero_and_others_with_one(points: tuple[list[str], str, str, str]) -> None:
    """As `diff` does; the differing field is printed, and the value of the Secret is not."""
    begin, first, same, other = points
    equal = CliRunner().invoke(app, [*begin, "--point", first, "--with", same])
    differs = CliRunner().invoke(app, [*begin, "--point", first, "--with", other])

    assert (equal.exit_code, differs.exit_code) == (0, 1)
    assert "3 objects compared: nothing differs" in equal.output
    assert "data.level: '1' → '2'" in differs.output
    assert "data.key: '(hidden)' → '(hidden)'" in differs.output
    assert "Yg==" not in differs.output


def test_the_document_says_the_same(points: tuple[list[str], str, str, str]) -> None:
    """One JSON document, whatever differs."""
    begin, first, _, other = points
    done = CliRunner().invoke(app, [*begin, "--point", first, "--with", other, "--json"])
    document = json.loads(done.output)

    assert (document["ok"], document["equal"], document["compared"]) == (True, False, 3)
    assert [(one["change"], one["kind"]) for one in document["differences"]] == [("changed", "ConfigMap"), ("changed", "Secret")]


def test_every_rule_is_listed_with_its_reason() -> None:
    """Without a policy, a bucket or a cluster."""
    listed = json.loads(CliRunner().invoke(app, ["diff", "--list-rules", "--json"]).output)["rules"]

    assert [one["name"] for one in listed] == [*(rule.name for rule in RULES if rule.comparing), MADE_AGAIN]
    assert all(one["because"] for one in listed)


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (["--no-ignore", "everything"], UsageError),
        (["--map", "shop=shop2"], UsageError),
        (["--kind", "pods"], UsageError),
        (["--point", "ffffffff"], PointMissing),
    ],
)
def test_what_cannot_be_compared_is_said(points: tuple[list[str], str, str, str], more: list[str], error: type[Exception]) -> None:
    """A comparison of nothing is not called equal."""
    begin, first, same, _ = points
    done = CliRunner().invoke(app, [*begin, "--point", first, "--with", same, *more])

    assert isinstance(done.exception, error)
