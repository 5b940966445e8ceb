"""The reference page of the command line, rendered from the commands themselves: docs/cli-reference.md.

    python -m becalm.cli.reference > docs/cli-reference.md

It says what `--help` says, and nothing of its own.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import typer.main

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = """\
# The command line

<!-- Made by `python -m becalm.cli.reference` from include/becalm/cli/. Change it there. -->

Every verb works without Airflow.
`--json` prints one document to stdout; progress and errors go to stderr.
Exit codes: [errors.md](errors.md). Variables of the environment: [operations.md](operations.md#environment-variables).
"""
ALWAYS = frozenset({"--help", "--install-completion", "--show-completion"})
"""Options that every program of this make has."""


def render() -> str:
    """Return the page as Markdown."""
    from becalm.cli.app import app  # noqa: PLC0415  (the whole command line, only to describe it)

    return "\n".join([HEAD, *_pages(typer.main.get_command(app), "becalm")])


def _pages(command: Any, name: str) -> Iterator[str]:
    """Yield the section of a command, then those of the commands below it."""
    rows = [_row(parameter) for parameter in command.params if not ALWAYS.intersection(parameter.opts)]
    context = typer.Context(command)
    below = {key: command.get_command(context, key) for key in command.list_commands(context)} if hasattr(command, "list_commands") else {}
    words = " ".join([name, *(word for word in (_word(one) for one in command.params) if word)])
    about = f"## `{words}`\n\n{(command.help or '').strip()}\n"
    table = "\n".join(["| | Meaning |", "|---|---|", *rows]) + "\n"
    yield about + ("\n" + table if rows else "")
    for key, inner in below.items():
        yield from _pages(inner, f"{name} {key}")


def _word(parameter: Any) -> str:
    """Return an argument as it is written in the usage; an option has none."""
    return str(parameter.metavar or parameter.name) if parameter.param_type_name == "argument" else ""


def _row(parameter: Any) -> str:
    """Return the row of one option or argument: how it is written, and what it means."""
    value = "" if getattr(parameter, "is_flag", False) else " …"
    written = _word(parameter) or ", ".join(parameter.opts) + value
    again = " It may be given more than once." if getattr(parameter, "multiple", False) else ""
    return f"| `{written}` | {(parameter.help or '').strip()}{again} |"


if __name__ == "__main__":
    sys.stdout.write(render())
