"""Reading what is declared: as kubectl reads it, within bounds, and whatever cannot be read is a finding with its place and a remedy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from becalm.actions import manifest_text
from becalm.actions.declared import Declaration, gather
from becalm.actions.manifest_text import Unreadable, read, scalar
from becalm.actions.rendering import Programs
from becalm.errors import PermanentError, UsageError
from becalm.model import Severity

MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: shop}\n"
NOTHING = Programs(path="")


def names(found: Declaration) -> list[str]:
    return [one.manifest["metadata"]["name"] for one in found.objects]


def test_every_manifest_of_a_folder_is_read_with_its_file_and_line(tmp_path: Path) -> None:
    """Several in a file, lists of them, JSON, folders below it, in the order of the names; hidden folders are not looked into."""
    (tmp_path / "b.yaml").write_text(MAP % "b1" + "---\n\n" + MAP % "b2" + "---\n# nothing\n")
    (tmp_path / "a.json").write_bytes(
        orjson.dumps({"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}]})
    )
    for folder in ("below", ".git"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "c.yml").write_text(MAP % folder)
    (tmp_path / "notes.txt").write_text("no manifest")
    found = gather([tmp_path], NOTHING)

    assert names(found) == ["s", "b1", "b2", "below"]
    assert [one.where.rpartition("/")[2] for one in found.objects] == ["a.json:1", "b.yaml:1", "b.yaml:6", "c.yml:1"]
    assert found.findings == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True),
        ("Off", False),
        ("~", None),
        ("0644", 420),
        ("0o644", 420),
        ("0x1F", 31),
        ("1.50", 1.5),
        ("1e3", 1000.0),
        ("2026-01-01", "2026-01-01"),
        ("12:30", "12:30"),
        ("1.2.3", "1.2.3"),
        (".inf", ".inf"),
        ("1e999", "1e999"),
        ("'yes'", "yes"),
        ("!!str 5", "5"),
        ("|\n  yes", "yes\n"),
        ("-7", -7),
        ("500m", "500m"),
    ],
)
def test_words_mean_what_they_mean_to_kubectl(text: str, value: Any) -> None:
    """Version 1.1 of YAML for constants and octal numbers; times stay texts."""
    found = read(f"key: {text}\n".encode())[0].value["key"]

    assert (found, type(found)) == (value, type(value))


PLAIN = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=6).filter(lambda text: scalar(text) == text)
"""Texts that PyYAML and kubectl both take for texts: `1e3` is one for the first and a number for the second."""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcd/.-", min_size=1, max_size=4), inner, max_size=3),
    max_leaves=10,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.dictionaries(st.text("abcd", min_size=1, max_size=4), JSON, max_size=3), max_size=3))
def test_whatever_is_written_is_read_back(values: list[dict[str, Any]]) -> None:
    """As YAML in several documents."""
    text = yaml.safe_dump_all(values, allow_unicode=True).encode()

    assert [one.value for one in read(text)] == values


@given(st.binary(max_size=60) | st.text("{}[]&*!-:|> \n\"'#%@a0", max_size=60).map(str.encode))
def test_no_text_ends_in_anything_but_values_or_a_sentence(text: bytes) -> None:
    """Whatever the bytes are."""
    try:
        found = read(text)
    except Unreadable as why:
        assert str(why)
    else:
        assert isinstance(found, list)


def test_merge_keys_are_followed_and_aliases_shared() -> None:
    """What stands nearest wins."""
    text = b"base: &b {a: 1, b: 2}\none: {<<: *b, b: 3}\ntwo: {<<: [{a: 9}, *b]}\nsame: *b\n"
    value = read(text)[0].value

    assert (value["one"], value["two"], value["same"]) == ({"a": 1, "b": 3}, {"a": 9, "b": 2}, {"a": 1, "b": 2})


BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{number}: &a{number} [{','.join([f'*a{number - 1}'] * 9)}]\n" for number in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (BOMB, "values once its aliases are written out"),
        ("a: " + "[" * 300 + "]" * 300, "is nested deeper than 100 levels"),
        ("a: &x [*x]", "refers to nothing above it, or to itself"),
        ("a: !!python/object/apply:os.system [id]", "tags are not read"),
        ("a: 1\na: 2", "says one key twice (line 2)"),
        ("? [a]\n: 1", "a key that is not a text"),
        ("<<: 1", "merges what is not a mapping"),
        ("{{ .Values.name }}: x", "a key that is not a text"),
        ("a: [", "is not YAML"),
        ("a: \x01", "is not YAML"),
    ],
)
def test_what_hides_or_explodes_is_refused_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    """One finding for the file, and the other files are read."""
    (tmp_path / "bad.yaml").write_text(text)
    (tmp_path / "good.yaml").write_text(MAP % "good")
    found = gather([tmp_path], NOTHING)
    (finding,) = found.findings

    assert names(found) == ["good"]
    assert problem in finding.message
    assert "bad.yaml" in finding.where
    assert finding.remedy


def test_a_file_that_is_not_utf8_or_too_large_is_refused() -> None:
    """Before anything is made of it."""
    with pytest.raises(Unreadable, match=r"not UTF-8 \(byte 4\)"):
        read(b"a: \xff")
    with pytest.raises(Unreadable, match="larger than"):
        read(b"#" * (manifest_text.LARGEST_BYTES + 1))


@pytest.mark.parametrize(
    ("text", "message", "severity"),
    [
        ("replicas: 2", "no manifest", Severity.INFO),
        ("- 1", "no manifest", Severity.INFO),
        ("apiVersion: 1\nkind: X", "are texts", Severity.ERROR),
        ("apiVersion: v1\nkind: Pod\nmetadata: {generateName: x-}", "without a name", Severity.WARNING),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: x, namespace: 5}", "is a text", Severity.ERROR),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {a: 99999999999999999999999}", "no API object can hold", Severity.ERROR),
    ],
)
def test_what_is_no_manifest_is_said(tmp_path: Path, text: str, message: str, severity: Severity) -> None:
    """With its file and line; the values of a chart that lie about are no trouble."""
    (tmp_path / "x.yaml").write_text(text)
    (finding,) = gather([tmp_path], NOTHING).findings

    assert (message in finding.message, finding.severity) == (True, severity)
    assert finding.where.endswith("x.yaml:1")


def test_an_empty_folder_is_a_finding_and_one_that_is_not_there_an_error(tmp_path: Path) -> None:
    """Nothing declared is not called equal."""
    assert [finding.message for finding in gather([tmp_path], NOTHING).findings] == ["no manifest is in it"]
    with pytest.raises(UsageError, match="no such folder"):
        gather([tmp_path / "gone"], NOTHING)


def test_no_link_leads_out_of_the_folder_and_none_is_followed_twice(tmp_path: Path) -> None:
    """A repository may be hostile: a link out of it is said and not read; pipes are not opened."""
    (tmp_path / "secret.yaml").write_text(MAP % "outside")
    top = tmp_path / "top"
    (top / "below").mkdir(parents=True)
    (top / "below" / "a.yaml").write_text(MAP % "a")
    (top / "out.yaml").symlink_to(tmp_path / "secret.yaml")
    (top / "loop").symlink_to(top)
    (top / "self.yaml").symlink_to("self.yaml")
    os.mkfifo(top / "pipe.yaml")
    found = gather([top], NOTHING)

    assert names(found) == ["a"]
    assert sorted(finding.where.rpartition("/")[2] for finding in found.findings) == ["out.yaml", "self.yaml"]


def a_program(folder: Path, name: str, script: str) -> Programs:
    """Put an executable where programs are looked for."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return Programs(path=str(folder))


def a_kustomization(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "kustomization.yaml").write_text("resources: [base.yaml]")
    (folder / "base.yaml").write_text(MAP % "base")
    return folder


@pytest.mark.parametrize(("program", "verb"), [("kustomize", "build"), ("kubectl", "kustomize")])
def test_a_folder_of_kustomize_is_rendered_and_not_read(tmp_path: Path, program: str, verb: str) -> None:
    """By whichever program is there: what it prints is what is declared."""
    folder = a_kustomization(tmp_path / "overlay")
    script = f'test "$1" = {verb} && test "$2" = "{folder}" && printf "{MAP % "rendered"}"'.replace("\n", "\\n")
    found = gather([folder], a_program(tmp_path / "bin", program, script))

    assert names(found) == ["rendered"]
    assert found.findings == []


def test_the_program_sees_no_passwords(tmp_path: Path) -> None:
    """Of the environment it gets the search path alone."""
    programs = a_program(tmp_path / "bin", "kustomize", "/usr/bin/env")
    seen = {line.partition("=")[0] for line in programs.kustomize(tmp_path).decode().splitlines()}

    assert seen <= {"PATH", "PWD", "OLDPWD", "SHLVL", "_"}


def test_what_does_not_render_is_a_finding_with_what_the_program_said(tmp_path: Path) -> None:
    """Nothing of the folder is taken for declared; without a program neither."""
    folder = a_kustomization(tmp_path / "overlay")
    failed = gather([folder], a_program(tmp_path / "bin", "kustomize", "echo 'no such base' >&2; echo 'half: an answer'; exit 1"))
    missing = gather([folder], NOTHING)

    assert (failed.objects, missing.objects) == ([], [])
    assert "no such base" in failed.findings[0].message
    assert "neither kustomize nor kubectl" in missing.findings[0].message
    assert all(one.remedy for one in (*failed.findings, *missing.findings))


def test_a_program_that_does_not_start_is_said(tmp_path: Path) -> None:
    """Its interpreter may be missing."""
    programs = a_program(tmp_path / "bin", "kustomize", "")
    (tmp_path / "bin" / "kustomize").write_text("#!/no/such/interpreter\n")
    with pytest.raises(PermanentError, match="does not start"):
        programs.kustomize(tmp_path)


def test_what_has_to_be_rendered_below_a_folder_is_a_finding_and_not_read(tmp_path: Path) -> None:
    """Only people know which overlay is applied, and with what values a chart is."""
    a_kustomization(tmp_path / "overlays")
    for chart in (tmp_path / "chart", tmp_path / "top"):
        (chart / "templates").mkdir(parents=True)
        (chart / "Chart.yaml").write_text("name: x")
        (chart / "templates" / "a.yaml").write_text("{{ if x }}")
    (tmp_path / "a.yaml").write_text(MAP % "a")
    found, chart_alone = gather([tmp_path], NOTHING), gather([tmp_path / "chart"], NOTHING)

    assert names(found) == ["a"]
    assert sorted(finding.where.rpartition("/")[2] for finding in found.findings) == ["chart", "overlays", "top"]
    assert "helm template" in chart_alone.findings[0].remedy


def test_the_objects_of_argo_cd_and_flux_are_pointers_as_well(tmp_path: Path) -> None:
    """They are declared themselves, and say where more is."""
    application = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": "shop"},
        "spec": {"source": {"repoURL": "https://git.example.org/shop", "path": "prod", "targetRevision": "v1"}},
    }
    flux = {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": {"name": "infra"},
        "spec": {"sourceRef": {"kind": "GitRepository", "name": "fleet"}, "path": "./infra"},
    }
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all([application, flux]))
    found = gather([tmp_path], NOTHING)

    assert names(found) == ["shop", "infra"]
    assert [(one.kind, one.name, one.to) for one in found.pointers] == [
        ("Application", "shop", ("https://git.example.org/shop", "prod", "v1")),
        ("Kustomization", "infra", ("fleet", "./infra")),
    ]
