"""The command `becalm`: its verbs, and the one place where an error becomes a message and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

import becalm
from becalm.cli.verbs import Verbs
from becalm.errors import BecalmError, PolicyError, exit_code

if TYPE_CHECKING:
    from types import FrameType

app = typer.Typer(
    name="becalm",
    cls=Verbs,
    help="Backup for applications on Kubernetes. Every verb works without Airflow; docs/ has the whole story.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:  # noqa: FBT001  (typer's callback)
    if value:
        sys.stdout.write(f"becalm {becalm.__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")] = False,  # noqa: FBT002  (typer's form)
) -> None:
    """Hold the options that belong to no verb."""


class Interrupted(BaseException):
    """SIGINT or SIGTERM: what was begun is undone on the way out."""


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  (a signal handler's signature)
    signal.signal(number, signal.SIG_DFL)  # who insists is not kept waiting: the dead-man switches hold
    raise Interrupted(number)


def run() -> None:
    """Run one verb; end with the exit code of docs/errors.md, and never with a traceback."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        app()
    except BecalmError as error:
        _say(error)
        sys.exit(exit_code(error))
    except Interrupted as end:
        left = "".join(f"becalm: {note}\n" for note in _notes(end))
        sys.stderr.write(left or "becalm: interrupted; what was begun has been undone\n")
        sys.exit(128 + int(end.args[0]))
    except BrokenPipeError:
        os._exit(141)
    except Exception as error:
        if os.environ.get("BECALM_DEBUG"):  # noqa: TID251  (an edge)
            raise
        sys.stderr.write(f"becalm: unexpected {type(error).__name__}: {error}\nThis is a fault of Becalm. BECALM_DEBUG=1 shows where.\n")
        sys.exit(1)


def _say(error: BecalmError) -> None:
    """Print an error: one JSON document where JSON was asked for, sentences otherwise."""
    if "--json" in sys.argv:
        document: dict[str, object] = {"error": error.code, "message": error.message, "where": error.where, "hint": error.hint}
        if isinstance(error, PolicyError):
            document["findings"] = [{"path": f.path, "problem": f.problem, "remedy": f.remedy} for f in error.findings]
        if _notes(error):
            document["notes"] = _notes(error)
        sys.stdout.write(orjson.dumps({"ok": False, **document}, option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    sys.stderr.write("".join(f"becalm: {line}\n" for line in (f"{error.code}: {error}", *_notes(error))))


def _notes(error: BaseException) -> list[str]:
    """Return what was noted beside an error: what else befell the run."""
    return list(getattr(error, "__notes__", ()))
