"""`becalm report`: how policies and clusters stood over a time, as a page for people and JSON for auditors. Only buckets are asked."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from tempfile import mkstemp
from typing import TYPE_CHECKING, Annotated

import orjson
import typer
from rich.table import Table

from becalm import __version__
from becalm.actions import report_look, report_page, reporting
from becalm.actions.reporting import Grade
from becalm.cli.console import clean, console, notes, print_json
from becalm.cli.gaps import Policies, read_span, sound
from becalm.cli.ports import JsonOption, find_place
from becalm.clock import SystemClock, format_time
from becalm.errors import PartialCapture, UsageError, exit_code

if TYPE_CHECKING:
    from datetime import timedelta

    from becalm.actions.reporting import Report, Seen
    from becalm.policy.spec import ProtectionPolicy
    from becalm.storage.base import ObjectStore


def report(
    policies: Policies,
    *,
    since: Annotated[str, typer.Option("--since", help="How far back: 30d, 12h.")] = "30d",
    to: Annotated[
        Path | None, typer.Option("--to", help="Write becalm-report-TIME.html and .json into this folder.", metavar="FOLDER")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Say what was promised, what was kept and what proves it. Ends with 5 where something does not hold or is not known."""
    window, clock = read_span(since), SystemClock()
    if to is not None and not to.is_dir():
        raise UsageError("there is no such folder", where=f"--to {to}", hint="make it, or name another")
    found = []
    for path, policy in sound(policies):
        notes.print(clean(f"reading {policy.name}"))
        found.append(_look(policy, path, window))
    if not found:
        raise UsageError("there are no policies", where=", ".join(map(str, policies)), hint="name files or folders that hold some")
    made = reporting.compose(found, made=clock.now(), window=window, version=__version__)
    document = reporting.as_json(made)
    if to is not None:
        _write(made, document, to)
    if json:
        print_json(orjson.loads(document))
    else:
        _show(made)
    if made.grade is not Grade.GOOD:
        raise typer.Exit(exit_code(PartialCapture("")))


def _look(policy: ProtectionPolicy, path: Path, window: timedelta) -> Seen:
    def reach() -> tuple[ObjectStore, str]:
        place, _ = find_place(path)
        return place.store, place.password

    return report_look.look(policy, reach, clock=SystemClock(), window=window)


def _write(made: Report, document: bytes, folder: Path) -> None:
    """Write both files; the page last, for it names the other. Raises UsageError."""
    name = f"becalm-report-{format_time(made.made)[:19].replace(':', '')}Z"
    page = report_page.render(made, json_name=f"{name}.json", json_digest=reporting.digest(document))
    for file, content in ((folder / f"{name}.json", document), (folder / f"{name}.html", page.encode())):
        try:
            write_new(file, content)
        except OSError as error:
            raise UsageError(f"it cannot be written: {error.strerror}", where=str(file), hint="look at the folder") from error
        notes.print(clean(f"written: {file}"))


def write_new(file: Path, content: bytes) -> None:
    """Write a file that is not there yet, whole or not at all. Raises OSError (FileExistsError where it is there)."""
    descriptor, name = mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        os.link(name, file)
    finally:
        with suppress(OSError):
            Path(name).unlink()


def _show(made: Report) -> None:
    table = Table("of", "what", "grade", "found", box=None)
    for kind, parts in (("cluster", made.clusters), ("policy", made.policies)):
        for part in parts:
            for one in part.statements:
                table.add_row(clean(f"{kind} {part.name}"), one.what, one.grade.value, clean(one.said))
    console.print(table)
    console.print(clean(f"all together: {made.grade.value}: {report_page.SUMMARY[made.grade]}"))
