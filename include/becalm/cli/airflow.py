"""`becalm airflow`: whether Airflow is as Becalm needs it. A process of its own looks; this module imports no Airflow.

It knows how to ask and how to show the answer; what is needed, and why, stands beside the DAGs.
"""

from __future__ import annotations

import json as json_text
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from becalm.cli.console import clean, console, print_json
from becalm.cli.ports import JsonOption, environment
from becalm.errors import PermanentError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(help="Airflow, as Becalm needs it.", no_args_is_help=True)

EXAMINER = (sys.executable, "-m", "becalm.airflow.setup")
SERVER = {"_AIRFLOW_PROCESS_CONTEXT": "server"}
"""By this Airflow reads its connections where they are kept, and not only those of the environment."""


@app.callback()
def _nothing() -> None:
    """A group needs something to call before its verb."""


@app.command()
def setup(
    policies: Annotated[
        Path | None, typer.Option("--policies", help="The folder of policies; default: the one that the DAGs read.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Change nothing.")] = False,  # noqa: FBT002  (typer's form)
    json: JsonOption = False,  # noqa: FBT002  (typer's form)
) -> None:
    """Make the pools that are missing; look at settings, versions, and the connections of all policies. Ends with 1 where something must change."""
    demand_airflow()
    found = examined(check=check, policies=policies)
    if json:
        print_json(found)
    else:
        _print(found)
    if not found["ok"]:
        raise typer.Exit(1)


def demand_airflow(find: Callable[[str], object | None] = find_spec) -> None:
    """Raise UsageError where this environment holds no Airflow."""
    if find("airflow") is None:
        raise UsageError(
            "Airflow is not installed here",
            where="becalm airflow",
            hint="run it in Airflow's own environment, with becalm[airflow] installed",
        )


def examined(*, check: bool, policies: Path | None, command: tuple[str, ...] = EXAMINER) -> dict[str, Any]:
    """Return what the examining process wrote: `ok`, and `rows`. Raises PermanentError: it came to no answer."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        options = [*(["--check"] if check else []), *(["--policies", str(policies)] if policies else [])]
        done = subprocess.run(
            [*command, "--report", str(answer), *options], capture_output=True, text=True, check=False, env={**environment(), **SERVER}
        )
        if not answer.is_file():
            last = done.stderr.strip().splitlines()[-1:] or [f"it ended with {done.returncode}, and said nothing"]
            raise PermanentError(f"Airflow could not be looked at: {last[0]}", where="becalm airflow setup")
        found: dict[str, Any] = json_text.loads(answer.read_text(encoding="utf-8"))
        return found


def _print(found: dict[str, Any]) -> None:
    """Show what was found, what must change first."""
    table = Table("", "what", "name", "is", "advised", "why", box=None)
    order = {"must change": 0, "advice": 1, "made": 2}
    for row in sorted(found["rows"], key=lambda row: order.get(row["state"], len(order))):
        style = {"must change": "red", "advice": "yellow"}.get(row["state"], "")
        cells = (row["what"], row["name"], row["value"], row["advised"], row["why"])
        table.add_row(clean(row["state"], style), *map(clean, cells))
    console.print(table)
    count = sum(1 for row in found["rows"] if row["state"] == "must change")
    advised = sum(1 for row in found["rows"] if row["state"] == "advice")
    console.print(f"{count} must change, {advised} advised" if count or advised else "Airflow is as Becalm needs it")
