"""`becalm drift` as a person types it: exit codes, the document for programs, the rules by name, and what is printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from becalm.actions.declared import Pointer
from becalm.actions.diff_sides import PointSide, Wanted
from becalm.actions.drift import DriftReport
from becalm.actions.drift_ignore import read_rules
from becalm.actions.drift_rules import DriftRules, told
from becalm.catalog.points import points as points_of
from becalm.cli.app import app
from becalm.cli.drift import look, print_report
from becalm.errors import PointMissing, PolicyError, UsageError
from becalm.model import Finding
from becalm.repository.reader import open_repository
from becalm.storage import open_store
from becalm.testing.fake_cluster import DEFAULT_KINDS, FakeCluster
from becalm.testing.manifests import a_deployment, a_map, a_namespace, a_secret
from becalm.testing.memory_store import MemoryStore
from becalm.testing.saved_points import CUT, PASSWORD, save_point


@pytest.fixture
def begin(tmp_path: Path) -> tuple[list[str], str, str]:
    """What every command line begins with, and two points that differ."""
    store = open_store(f"file://{tmp_path}/shop", {}, create=True)
    found = []
    for number, (level, key) in enumerate((("1", "YQ=="), ("2", "Yg=="))):
        objects = (a_namespace(), a_map(level=level), a_secret(key=key))
        found.append(save_point(store, objects, kinds=DEFAULT_KINDS, cut=CUT.replace(minute=number)).id[:12])
    (tmp_path / "password").write_text(PASSWORD)
    return ["drift", "--target", f"file://{tmp_path}", "--policy", "shop", "--password", f"file:{tmp_path}/password"], *found


def test_points_that_are_alike_end_with_zero_and_others_with_one(begin: tuple[list[str], str, str]) -> None:
    """The field that changed since is printed with its weight, and the value of the Secret is not."""
    words, first, second = begin
    same = CliRunner().invoke(app, [*words, "--point", first, "--since", first])
    differs = CliRunner().invoke(app, [*words, "--point", second, "--since", first])

    assert (same.exit_code, differs.exit_code) == (0, 1)
    assert "3 objects compared: nothing drifted" in same.output
    assert "data.level: saved '1', runs '2'" in differs.output
    assert "data.key: saved '(hidden)', runs '(hidden)'" in differs.output
    assert differs.output.index("high") < differs.output.index("medium")
    assert "Yg==" not in differs.output


def test_the_document_says_the_same(begin: tuple[list[str], str, str]) -> None:
    """One JSON document, whatever differs."""
    words, first, second = begin
    document = json.loads(CliRunner().invoke(app, [*words, "--point", second, "--since", first, "--json"]).output)

    assert (document["ok"], document["equal"], document["compared"], document["declared"]) == (True, False, 3, None)
    assert [(one["change"], one["kind"], one["weight"]) for one in document["drifts"]] == [
        ("changed", "Secret", "high"),
        ("changed", "ConfigMap", "medium"),
    ]


def test_every_rule_is_listed_with_its_reason() -> None:
    """Without a policy, a bucket or a cluster."""
    listed = json.loads(CliRunner().invoke(app, ["drift", "--list-rules", "--json"]).output)["rules"]
    page = CliRunner().invoke(app, ["drift", "--list-rules"])

    assert [one["name"] for one in listed] == [name for name, _, _ in told()]
    assert (page.exit_code, "undeclared" in page.output) == (0, True)


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (["--no-ignore", "everything"], UsageError),
        (["--declared", "."], UsageError),
        (["--kind", "pods"], UsageError),
        (["--point", "ffffffff"], PointMissing),
    ],
)
def test_what_cannot_be_compared_is_said(begin: tuple[list[str], str, str], more: list[str], error: type[Exception]) -> None:
    """A comparison of nothing is not called equal."""
    words, first, second = begin
    done = CliRunner().invoke(app, [*words, "--since", first, "--point", second, *more])

    assert isinstance(done.exception, error)


def drifted(folder: Path) -> DriftReport:
    """A folder declares two objects; one was changed by hand, and a third runs that nobody declared."""
    store, web = MemoryStore(), a_deployment()
    manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 2}}
    (folder / "web.json").write_text(json.dumps(manifest))
    (folder / "shop.yaml").write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n{{ template }}\n")
    save_point(store, (a_namespace(), web), kinds=DEFAULT_KINDS)
    web["spec"]["replicas"] = 9
    edited = {"manager": "kubectl-edit", "time": "2026-03-01T00:00:00Z", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    web["metadata"]["managedFields"] = [edited]
    cluster = FakeCluster(kinds=list(DEFAULT_KINDS))
    cluster.put(a_namespace(), web, a_map("by-hand\x1b[2J"))
    repository = open_repository(store, PASSWORD)
    side = PointSide.open(repository, points_of(repository, "shop")[0])
    return look(side, cluster, wanted=Wanted(), rules=DriftRules(), declared=[folder], namespace="shop")


def test_a_folder_is_compared_with_the_cluster_and_the_page_says_who_changed_what(tmp_path: Path) -> None:
    """Where it is declared, what it was in each corner, by whom; a file that cannot be read is said; no control character is printed."""
    screen = Console(width=300)
    with screen.capture() as page:
        print_report(drifted(tmp_path), screen)
    text = page.get()

    assert "spec.replicas: declared 2, saved 2, runs 9, by kubectl-edit, 2026-03-01T00:00:00Z" in text
    assert f"declared in {tmp_path}/web.json:1" in text
    assert "medium added configmaps/shop/by-hand" in text
    assert "a key that is not a text (line 5)" in text
    assert "\x1b" not in text


def test_pointers_findings_and_long_lists_are_printed_in_short(tmp_path: Path) -> None:
    """Where more is declared is named, for it was not read."""
    screen = Console(width=300)
    pointer = Pointer(where="a.yaml:1", kind="Application", name="shop", to=("https://git.example.org/shop", "prod"))
    with screen.capture() as page:
        print_report(DriftReport(saved="a point", running="here", pointers=(pointer,), findings=(Finding(where="x", message="y"),)), screen)

    assert "Application shop points to https://git.example.org/shop prod" in page.get()
    assert "error: x: y" in page.get()


def rules_file(folder: Path, text: str) -> Path:
    path = folder / "rules.yaml"
    path.write_text(text)
    return path


def test_an_authors_own_rules_come_from_a_file(begin: tuple[list[str], str, str], tmp_path: Path) -> None:
    """What they keep out is counted under their reason, and is no drift."""
    words, first, second = begin
    text = (
        'ignore:\n  - {kinds: [Secret], because: it rotates}\n  - {names: ["shop/sett*"], fields: [data.level], because: a robot sets it}\n'
    )
    done = CliRunner().invoke(app, [*words, "--point", second, "--since", first, "--ignore", str(rules_file(tmp_path, text))])

    assert done.exit_code == 0
    assert "for a robot sets it: data.level (1)" in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ignore: []", "ignore"),
        ("ignore: [{because: x}]", "this would let everything differ"),
        ("ignore: [{kinds: [Secret]}]", "ignore.0.because: this is missing"),
        ("ignore: [{kind: Secret, because: x}]", "no such key is known here"),
        ("ignore: [{kinds: Secret, because: x}]", "a list is wanted"),
        ("ignore: [", "not YAML"),
        ("a: 1\na: 2", "written twice"),
        ("", "empty"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    """Before anything is compared."""
    with pytest.raises(PolicyError) as refused:
        read_rules(rules_file(tmp_path, text))

    assert told in str(refused.value)


def test_a_file_of_rules_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """With its name."""
    with pytest.raises(PolicyError, match="no such file"):
        read_rules(tmp_path / "gone.yaml")


def test_the_rules_in_the_documents_can_be_followed(tmp_path: Path) -> None:
    """The example of docs/drift.md, as it stands there."""
    page = (Path(__file__).parents[2] / "docs" / "drift.md").read_text()
    example = page.partition("```yaml\n")[2].partition("```")[0]

    assert [rule.because for rule in read_rules(rules_file(tmp_path, example))] == [
        "the release robot sets it",
        "the application writes them",
    ]
