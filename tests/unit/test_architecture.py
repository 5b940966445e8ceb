"""The repository agrees with itself: its documents say what its code says, and its words are used."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from becalm import errors
from becalm.actions.run import LEASE_SECONDS
from becalm.cli.app import app
from becalm.cli.reference import ALWAYS
from becalm.cli.reference import render as render_commands
from becalm.errors import EXIT_CODES, BecalmError, exit_code
from becalm.kube.base import HOOK_ANNOTATION, LABEL_MANAGED, LABEL_POLICY, LABEL_REPOSITORY, LABEL_RUN
from becalm.kube.resources import NEVER
from becalm.policy.load import load
from becalm.policy.reference import render as render_policy
from becalm.quiesce.command import THAW_SECONDS
from becalm.quiesce.deadman import FOLDERS
from becalm.repository.format import Layout

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CODE = ROOT / "include" / "becalm"
MADE_FOR_TESTS = ("testing", "sandbox")
"""Packages that no operator configures."""


def python_files() -> list[Path]:
    """Return every module of the package but those made for tests."""
    return [path for path in sorted(CODE.rglob("*.py")) if path.relative_to(CODE).parts[0] not in MADE_FOR_TESTS]


def pages() -> list[Path]:
    """Return every document."""
    return [*sorted(DOCS.rglob("*.md")), *sorted((ROOT / "changelog.d").glob("*.md")), ROOT / "README.md"]


def rows(page: Path, *, columns: int) -> list[list[str]]:
    """Return the cells of every table row that has so many columns, but for heads and rules."""
    lines = [line.strip().strip("|").split("|") for line in page.read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line] for line in lines if len(line) == columns]
    return [line for line in cells if not set(line[0]) <= {"-"}]


def words(text: str) -> list[str]:
    """Return what stands in backquotes."""
    return re.findall(r"`([^`]+)`", text)


def every_error(cls: type[BecalmError] = BecalmError) -> Iterator[type[BecalmError]]:
    """Yield a class and those below it that errors.py defines."""
    yield cls
    for inner in cls.__subclasses__():
        if inner.__module__ == errors.__name__:
            yield from every_error(inner)


KIND_OF = {
    errors.PolicyError: "policy",
    errors.UsageError: "usage",
    errors.TransientError: "transient",
    errors.PermanentError: "permanent",
    errors.IntegrityError: "integrity",
}


def test_every_error_stands_in_the_table_of_errors() -> None:
    """With its code, its kind and its exit code, in the order of the tree; and nothing else stands there."""
    told = [(*words(line[0]), *words(line[1]), line[2], int(line[3])) for line in rows(DOCS / "errors.md", columns=6) if words(line[0])]
    kinds = {cls: next((kind for root, kind in KIND_OF.items() if issubclass(cls, root)), "") for cls in every_error()}

    assert sorted(told) == sorted((cls.__name__, cls.code, kinds[cls], exit_code(cls.__new__(cls))) for cls in every_error())


def test_every_error_has_something_to_do() -> None:
    """Meaning and remedy are whole sentences."""
    told = [line[4:] for line in rows(DOCS / "errors.md", columns=6) if words(line[0])]

    assert told
    assert all(cell.endswith(".") for line in told for cell in line)


def test_every_code_is_its_own() -> None:
    """Two errors with one code could not be told apart in a log; exit codes are those of classes."""
    codes = [cls.code for cls in every_error()]

    assert len(set(codes)) == len(codes)
    assert set(EXIT_CODES) <= set(every_error())
    assert len(set(EXIT_CODES.values())) == len(EXIT_CODES)


def test_the_generated_pages_are_up_to_date() -> None:
    """`python -m becalm.policy.reference` and `python -m becalm.cli.reference` make them."""
    assert render_policy() == (DOCS / "policy-reference.md").read_text()
    assert render_commands() == (DOCS / "cli-reference.md").read_text()


def every_option(command: Any, name: str) -> Iterator[tuple[str, str]]:
    """Yield each command with each of its options."""
    yield name, ""
    for parameter in command.params:
        if parameter.param_type_name == "option":
            yield from ((name, written) for written in parameter.opts if written not in ALWAYS)
    context = typer.Context(command)
    for key in command.list_commands(context) if hasattr(command, "list_commands") else ():
        yield from every_option(command.get_command(context, key), f"{name} {key}")


@pytest.mark.parametrize(("command", "option"), list(every_option(typer.main.get_command(app), "becalm")))
def test_every_command_and_option_is_documented(command: str, option: str) -> None:
    """In its section of the reference."""
    sections = re.split(r"^## ", (DOCS / "cli-reference.md").read_text(), flags=re.MULTILINE)
    section = [text for text in sections if re.match(rf"`{command}(?: [^a-z`][^`]*| POLICY)?`", text)]

    assert len(section) == 1
    assert not option or f"`{option}" in section[0]


NO_VARIABLE = {"AWS_DEFAULT_REGION"}
"""A key that a caller of `open_store` may give, and that neither edge reads from its environment."""


def read_by_the_code() -> set[str]:
    """Return the variables that any module names in a string of its own."""
    pattern = re.compile(r"(?:BECALM|AWS)_[A-Z0-9_]+|KUBECONFIG|KUBERNETES_SERVICE_HOST")
    trees = (ast.parse(path.read_text()) for path in python_files())
    strings = (node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return {text for text in strings if pattern.fullmatch(text)} - NO_VARIABLE


def test_every_variable_that_is_read_is_documented_and_no_other() -> None:
    """One that nothing reads is a promise that nothing keeps."""
    section = (DOCS / "operations.md").read_text().split("## Environment variables")[1].split("\n## ")[0]
    told = re.findall(r"^\| `([A-Z_0-9]+)` \|", section, flags=re.MULTILINE)

    assert sorted(told) == sorted(read_by_the_code())


def test_the_environment_is_read_at_the_edges_only() -> None:
    """Everywhere else what is needed is an argument."""
    readers = {str(path.relative_to(CODE)) for path in python_files() if re.search(r"\bos\.(environ|getenv)\b", path.read_text())}

    edges = {
        "airflow/connections.py",
        "airflow/loader.py",
        "cli/__init__.py",
        "cli/app.py",
        "cli/ports.py",
        "mover/__main__.py",
        "mover/main.py",
    }
    assert readers == edges


def test_the_fields_of_connections_are_documented() -> None:
    """Each that is read, and each that is refused."""
    tree = ast.parse((CODE / "airflow" / "connections.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)]
    read = {
        str(call.args[0].value)
        for call in calls
        if (isinstance(call.func, ast.Attribute) and call.func.attr == "get" and getattr(call.func.value, "id", "") in ("extra", "service"))
        or (isinstance(call.func, ast.Name) and call.func.id == "said")
    }
    refused = {
        element.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "NOT_CARRIED_OUT"
        for element in node.value.elts  # type: ignore[attr-defined]
    }
    section = (DOCS / "operations.md").read_text().split("## Environment variables")[0]
    told = set(re.findall(r"\w+", section))

    assert {"kube_config_path", "mover_endpoint_url"} <= read
    assert "role_arn" in refused
    assert read - {"aws_access_key_id", "aws_secret_access_key"} | refused <= told  # these two stand in for login and password


def test_the_words_of_the_glossary_are_used() -> None:
    """A word that neither code nor another document uses is not one of ours."""
    bold = re.findall(r"^\| \*\*(.+?)\*\* \|", (DOCS / "GLOSSARY.md").read_text(), flags=re.MULTILINE)
    code = "\n".join(path.read_text() for path in python_files())
    prose = "\n".join(path.read_text() for path in pages() if path.name != "GLOSSARY.md")

    assert bold == sorted(bold)
    for word in bold:
        spelled = re.compile(rf"\b{word.replace(' ', '[ _-]')}", flags=re.IGNORECASE)
        assert spelled.search(code) or spelled.search(prose), word


def test_the_tasks_of_a_run_are_named_as_in_the_documents() -> None:
    """The table of a run has one row for each task, in its order."""
    table = (DOCS / "ARCHITECTURE.md").read_text().split("## One run")[1].split("\n## ")[0]
    told = re.findall(r"^\| ([a-z]+) \|", table, flags=re.MULTILINE)
    graph = re.findall(r"[a-z]{4,}", table.split("begin ─▶", maxsplit=1)[1].split("\n", maxsplit=1)[0])

    assert told == ["begin", *(word for word in graph if word not in ("protect", "application", "volume"))]


def test_every_key_of_the_bucket_is_in_the_format() -> None:
    """`Layout` owns them, FORMAT.md tells them."""
    page = (DOCS / "FORMAT.md").read_text()
    constants = [value for name, value in vars(Layout).items() if name.isupper()]

    assert len(constants) >= 9
    assert [key for key in constants if f"`{key}" not in page] == []


def test_the_marks_in_a_cluster_are_documented() -> None:
    """By them an operator finds what a crash has left, and an author writes hooks."""
    assert all(f"`{label}" in (DOCS / "operations.md").read_text() for label in (LABEL_MANAGED, LABEL_POLICY, LABEL_RUN, LABEL_REPOSITORY))
    assert f"`{HOOK_ANNOTATION}freeze`" in (DOCS / "hooks.md").read_text()


def test_what_is_never_restored_is_told() -> None:
    """The table of the document is that of the code, reasons and all."""
    told = {words(line[0])[0]: line[1] for line in rows(DOCS / "restore.md", columns=2) if words(line[0])}

    assert {kind: told.get(kind) for kind in NEVER} == NEVER


def test_the_times_that_the_documents_tell_are_those_of_the_code() -> None:
    """How long a dead run blocks the next, how long a thaw may take, and where the dead-man switch may stand."""
    operations, hooks = (DOCS / "operations.md").read_text(), (DOCS / "hooks.md").read_text()

    assert f"**at most {LEASE_SECONDS / 60:.0f} minutes**" in operations
    assert f"A thaw has {THAW_SECONDS:.0f} seconds." in hooks
    assert all(f"`{folder.replace('TMPDIR', '$TMPDIR')}`" in hooks for folder in FOLDERS)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as they are made by the usual hosts of code."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    """Each to a file of the repository, and to a heading in it where it names one."""
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def examples() -> list[tuple[str, str]]:
    """Return each whole policy that a document shows."""
    blocks = ((page, block) for page in pages() for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), flags=re.DOTALL))
    return [(page.name, block) for page, block in blocks if "kind: ProtectionPolicy" in block]


@pytest.mark.parametrize(("page", "text"), examples())
def test_every_policy_in_the_documents_is_accepted(page: str, text: str) -> None:
    """As `becalm policy check` would."""
    assert load(text, source=page).name


def test_parts_of_policies_in_the_documents_are_accepted() -> None:
    """A hook or a section that a document shows holds within a whole policy."""
    seen = 0
    for page in (DOCS / "hooks.md", DOCS / "getting-started.md"):
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), flags=re.DOTALL):
            part = yaml.safe_load(block)
            if "apiVersion" in part:
                continue
            document: dict[str, Any] = {
                "apiVersion": "becalm.dev/v1",
                "kind": "ProtectionPolicy",
                "metadata": {"name": "shop"},
                "spec": {"select": {"namespaces": ["shop"]}, "target": {"url": "s3://backups/prod", "password": "env:P"}},
            }
            if "command" in part:
                part = {"hooks": [{"select": {"labels": "app=x"}, **part}]}
            document["spec"] |= {"quiesce": part} if "hooks" in part else part.get("spec", part)
            assert load(yaml.safe_dump(document), source=page.name).name
            seen += 1

    assert seen >= 4


def test_every_decision_says_what_would_violate_it() -> None:
    """Context, decision, consequences, evidence; and its evidence is there."""
    decisions = sorted((DOCS / "adr").glob("*.md"))

    assert [path.name[:4] for path in decisions] == [f"{number:04}" for number in range(1, len(decisions) + 1)]
    for path in decisions:
        text = path.read_text()
        parts = re.findall(r"^\*\*(\w+)\.\*\*$|^\*\*(A change violates this decision when)\*\*", text, flags=re.MULTILINE)
        assert ["".join(part) for part in parts] == [
            "Context",
            "Decision",
            "Consequences",
            "Evidence",
            "A change violates this decision when",
        ], path.name
        tests = re.findall(r"`(tests/[\w/]+\.py)`", text)
        assert tests or "test" in text, path.name
        assert all((ROOT / test).exists() for test in tests), path.name


def kept_files() -> list[Path]:
    """Return the text files that are, or would be, in the repository; without git, those of its folders."""
    done = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False)
    folders = ("include", "dags", "plugins", "deploy", "docs", "tests", "changelog.d")
    found = (
        done.stdout.split("\n")
        if done.returncode == 0
        else [str(path.relative_to(ROOT)) for name in folders for path in (ROOT / name).rglob("*")]
    )
    return [ROOT / name for name in found if name and (ROOT / name).is_file() and not name.endswith((".lock", ".pyc"))]


def containing(*patterns: str, but: tuple[str, ...] = ()) -> list[str]:
    """Return the places in the repository that hold any of these."""
    sought = re.compile("|".join(patterns))
    found = []
    for path in kept_files():
        name = str(path.relative_to(ROOT))
        if name not in but:
            text = path.read_text(errors="replace")
            found += [f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}" for match in sought.finditer(text)]
    return found


def test_nothing_is_left_for_later() -> None:
    """What isn't there doesn't exist; what is there is done."""
    assert containing(r"\bTOD[O]\b", r"\bFIXM[E]\b", r"\bNotImplementedErro[r]\b") == []


def test_nothing_speaks_of_the_machine_where_it_was_written() -> None:
    """A path or a host of somebody's own helps nobody else."""
    machine = (r"(?<![\w.])/wor[k]/", r"/tmp/brie[f]", r"becalm-peer[s]", r"/var/lib/becalm-cluste[r]", r"10\.244\.0\.[1]\b")

    assert containing(*machine, but=(".ci/run",)) == []  # the continuous integration names the cluster that it starts
