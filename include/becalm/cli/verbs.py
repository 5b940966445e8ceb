"""The verbs of the command line, each in a module that is imported when the verb is used: one verb does not wait for the others.

It knows where each verb is, and nothing of what it does. Help and completion ask for all of them, and so load all.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
import typer.main
from typer.core import TyperGroup


@dataclass(frozen=True, slots=True)
class _Verb:
    """Where a verb is: a function, or verbs of its own."""

    module: str
    function: str
    help: str | None = None


_VERBS = {
    "init": _Verb("init", "init"),
    "plan": _Verb("plan", "plan"),
    "run": _Verb("protect", "run"),
    "points": _Verb("points", "points"),
    "show": _Verb("points", "show"),
    "gaps": _Verb("gaps", "gaps"),
    "rpo": _Verb("gaps", "rpo"),
    "metrics": _Verb("metrics", "app", "How policies stand, for Prometheus: print, serve."),
    "pin": _Verb("points", "pin"),
    "unpin": _Verb("points", "unpin"),
    "reap": _Verb("reap", "reap"),
    "prune": _Verb("prune", "prune"),
    "forget": _Verb("prune", "forget"),
    "adopt": _Verb("adopt", "adopt"),
    "extract": _Verb("extract", "extract"),
    "restore": _Verb("restore", "restore"),
    "restores": _Verb("restores", "restores"),
    "confirm": _Verb("restores", "confirm"),
    "diff": _Verb("diff", "diff"),
    "log": _Verb("timeline", "log"),
    "find": _Verb("timeline", "find"),
    "drift": _Verb("drift", "drift"),
    "drifts": _Verb("acknowledge", "drifts"),
    "acknowledge": _Verb("acknowledge", "acknowledge"),
    "rebuild": _Verb("rebuild", "rebuild"),
    "drill": _Verb("drill", "drill"),
    "drills": _Verb("drill", "drills"),
    "verify": _Verb("verify", "verify"),
    "repair": _Verb("repair", "repair"),
    "coverage": _Verb("coverage", "report"),
    "claims": _Verb("claims", "app", "Claims that something needs no backup: audit (also without the word), confirm."),
    "assess": _Verb("assess", "look"),
    "report": _Verb("report", "report"),
    "policy": _Verb("policy", "app", "Check policy files, print their schema and a sample."),
    "airflow": _Verb("airflow", "app", "Airflow, as Becalm needs it: setup."),
    "key": _Verb("key", "app", "The passwords of a repository: list, add, remove, rotate."),
}


class Verbs(TyperGroup):
    """The verbs as typer wants them."""

    def __init__(self, **attributes: Any) -> None:
        """Begin with names alone."""
        super().__init__(**attributes)
        self.commands: dict[str, Any] = dict.fromkeys(_VERBS)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  (typer's form)
        """Return the names, in the order of the help."""
        return list(_VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002  (typer's form)
        """Return a command, or nothing where there is none of this name. Its module is imported now."""
        if cmd_name in _VERBS and self.commands[cmd_name] is None:
            self.commands[cmd_name] = _command(cmd_name, _VERBS[cmd_name])
        return self.commands.get(cmd_name)


def _command(name: str, verb: _Verb) -> Any:
    """Make the command of a verb."""
    found = getattr(import_module(f"becalm.cli.{verb.module}"), verb.function)
    around = typer.Typer(add_completion=False, callback=_nothing)
    if isinstance(found, typer.Typer):
        around.add_typer(found, name=name, help=verb.help)
    else:
        around.command(name)(found)
    return typer.main.get_group(around).commands[name]


def _nothing() -> None:
    """A group needs something to call before its verb."""
