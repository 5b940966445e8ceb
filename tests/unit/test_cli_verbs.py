"""The verbs of the command line: all are shown, and one is loaded without the others."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from becalm.cli.app import app

PROGRAM = """
import sys
import typer.main
from becalm.cli.app import app

group = typer.main.get_command(app)
if sys.argv[1:]:
    group.get_command(typer.Context(group), sys.argv[1])
print(*(name for name in ("numpy", "pydantic", "botocore", "kubernetes", "becalm.cli.extract", "becalm.cli.restore") if name in sys.modules))
"""


def loaded(*verb: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *verb], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_without_a_verb_none_is_loaded() -> None:
    """Neither a verb nor what verbs need is imported before one is named."""
    assert loaded() == []


def test_getting_a_file_loads_nothing_of_policies_and_clusters() -> None:
    """`extract` comes alone: no pydantic, no Kubernetes, no other verb; botocore only with the first request, numpy with the index."""
    assert loaded("extract") == ["becalm.cli.extract"]


def test_help_names_every_verb() -> None:
    """The help loads all of them, in their order."""
    lines = CliRunner().invoke(app, ["--help"]).output.splitlines()
    first = [line[2:].split(" ", 1)[0] for line in lines if line.startswith("│ ")]  # a line that goes on is indented
    verbs = ["init", "run", "points", "extract", "verify", "repair", "policy", "key"]

    assert [word for word in first if word in verbs] == verbs


@pytest.mark.parametrize(("typed", "meant"), [("verfy", "verify"), ("extrct", "extract")])
def test_a_mistyped_verb_is_answered_with_the_nearest(typed: str, meant: str) -> None:
    """A verb that is none ends the command with what may be meant."""
    shown = CliRunner().invoke(app, [typed])

    assert shown.exit_code == 2
    assert meant in shown.output


def test_all_threads_can_share_one_heap() -> None:
    """Where the C library is glibc; elsewhere nothing is changed, and that is said."""
    program = (
        "import ctypes; from becalm.cli.memory import one_heap; print(one_heap() == hasattr(ctypes.CDLL(None), 'gnu_get_libc_version'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "True\n"
