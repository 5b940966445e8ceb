"""How the command line speaks: rich for people, JSON for programs, progress on stderr."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import orjson
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.actions.handover import Progress as Report

PIPE_WIDTH = 200
"""How wide tables may be where nobody's terminal says it: a cut identifier helps no program."""

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPE_WIDTH)
"""Results: stdout."""

notes = Console(stderr=True, highlight=False, soft_wrap=True)
"""Progress and remarks: stderr."""


def print_json(document: object) -> None:
    """Print one JSON document to stdout."""
    sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS, default=str).decode() + "\n")


def clean(text: object, style: str = "") -> Text:
    """Return text without markup and without characters that do something to a terminal."""
    return Text("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(text)), style=style)


def human_bytes(count: float) -> str:
    """Write a number of bytes for people: `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Report]:
    """Give a place to report to: a live line on a terminal, plain lines elsewhere, nothing when quiet."""
    if quiet:
        yield lambda message, *, done=None, total=None: None  # noqa: ARG005
        return
    if not notes.is_terminal:
        yield _plain_lines()
        return
    from rich.progress import (  # noqa: PLC0415  (only a terminal pays for it)
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=notes, transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def report(message: str, *, done: int | None = None, total: int | None = None) -> None:
            bar.update(task, description=message, completed=done or 0, total=total)

        yield report


def _plain_lines() -> Report:
    last = ""

    def report(message: str, *, done: int | None = None, total: int | None = None) -> None:  # noqa: ARG001
        nonlocal last
        if message != last:
            notes.print(message, markup=False)
            last = message

    return report
