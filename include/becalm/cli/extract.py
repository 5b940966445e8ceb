"""`becalm extract`: files of a recovery point into a local folder. It needs the bucket and the password, and no cluster."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003  (typer resolves the annotations at run time)
from typing import TYPE_CHECKING, Annotated

import typer

from becalm.catalog.adoption import choose
from becalm.cli.console import clean, console, human_bytes, print_json, progress
from becalm.cli.ports import JsonOption, NameOption, PasswordOption, PolicyFile, TargetOption, find_place
from becalm.clock import SystemClock
from becalm.errors import PermanentError, UsageError, exit_code
from becalm.repository.extract import Extracted
from becalm.repository.extract import extract as extract_tree
from becalm.repository.globs import match
from becalm.repository.progress import Progress
from becalm.repository.reader import open_repository
from becalm.repository.stream import send

if TYPE_CHECKING:
    from collections.abc import Sequence

    from becalm.actions.handover import Progress as Report
    from becalm.model import RecoveryPoint
    from becalm.repository.reader import Repository


def extract(
    *,
    policy: PolicyFile = None,
    target: TargetOption = "",
    name: NameOption = "",
    password: PasswordOption = "",
    point: Annotated[str, typer.Option("--point", help="A recovery point: latest, an id, a time, or “2 weeks ago”.")] = "latest",
    paths: Annotated[
        list[str] | None,
        typer.Option("--path", help="Only this file or folder of the point: volumes/shop/data/orders, or with * and ? in a segment."),
    ] = None,
    to: Annotated[
        Path,
        typer.Option(
            "--to",
            help="The folder to write into; it is made where it is not there. - is the standard output: a file as it is, a folder as tar.",
        ),
    ],
    resume: Annotated[
        bool, typer.Option("--resume", help="Write into a folder that is not empty: finish what was begun, replace files of the same name.")
    ] = False,
    devices: Annotated[bool, typer.Option("--devices", help="Make devices, too (as root).")] = False,
    setuid: Annotated[bool, typer.Option("--setuid", help="Keep the bits by which a program runs as its owner or group.")] = False,
    json: JsonOption = False,
) -> None:
    """Get files out of a recovery point: all of it, a folder, or one file, with owners, modes, times, links and holes.

    Each path comes into the folder under its own last name.
    """
    place, _ = find_place(policy, target=target, name=name, password=password, whole=True)
    repository = open_repository(place.store, place.password, few=bool(paths))
    found = choose(repository, place.policy, point, now=SystemClock().now())
    wanted = selected(repository, found.tree, paths or [])
    if str(to) == "-":
        _send(repository, found, wanted)
        return
    prepare(to, resume=resume)
    with progress(quiet=json) as report:
        done = extract_tree(
            repository,
            found.tree,
            to,
            include=wanted,
            devices=devices,
            setuid=setuid,
            progress=_Reporting(report),
        )
    _end(found, to, done, json=json)


def _send(repository: Repository, found: RecoveryPoint, wanted: Sequence[str]) -> None:
    """Write one file or folder to the standard output. Raises: UsageError (not exactly one is meant), Damaged."""
    if len(wanted) != 1:
        raise UsageError(
            "the standard output takes one file or one folder", where="--to -", hint="name it with --path; a folder comes as tar"
        )
    send(repository, found.tree, wanted[0], sys.stdout.buffer)
    sys.stdout.buffer.flush()


class _Reporting(Progress):
    """Tells a person how far it is, now and then."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self._report = report
        self._said = -1

    def add(self, *, files: int = 0, size: int = 0) -> None:
        super().add(files=files, size=size)
        if self.bytes >> 26 != self._said:
            self._said = self.bytes >> 26
            self._report(f"{self.files} files, {human_bytes(self.bytes)} written")


def selected(repository: Repository, tree: str, patterns: Sequence[str]) -> tuple[str, ...]:
    """Return the paths that the patterns mean; nothing means all. Raises: UsageError (nothing fits; two would get one name), Damaged."""
    found: dict[str, None] = {}
    for pattern in patterns:
        matched = match(repository, tree, pattern)
        if not matched:
            raise UsageError(
                f"nothing in the recovery point is called {pattern!r}",
                where="--path",
                hint="look with: becalm show --objects, or restic ls; a path has all its folders, as in volumes/shop/data/orders",
            )
        found.update(dict.fromkeys(matched))
    names: dict[str, str] = {}
    for path in found:
        name = path.rpartition("/")[2]
        if name in names:
            raise UsageError(
                f"{names[name]} and {path} would both become {name}", where="--path", hint="get them one after the other, into two folders"
            )
        names[name] = path
    return tuple(found)


def prepare(folder: Path, *, resume: bool) -> None:
    """Make the folder, or see that nothing in it would be written over unasked. Raises: UsageError."""
    try:
        folder.mkdir(exist_ok=True)
        empty = not any(folder.iterdir())
    except OSError as error:
        raise UsageError(f"the folder cannot be used: {error.strerror}", where=str(folder), hint="name another with --to") from error
    if not empty and not resume:
        raise UsageError("the folder is not empty", where=str(folder), hint="name an empty one, or say --resume")


def _end(found: RecoveryPoint, to: Path, done: Extracted, *, json: bool) -> None:
    """Say what was written; what was not as it was decides the exit code. Raises: PermanentError."""
    failed = PermanentError(
        f"{len(done.failures)} entries are not as they were", where=str(to), hint="they are named above; the rest is whole"
    )
    if json:
        findings = {
            kind: [{"where": one.where, "message": one.message, "remedy": one.remedy} for one in of]
            for kind, of in (("failures", done.failures), ("notes", done.notes))
        }
        print_json({"ok": not done.failures, "point": found.id, "to": str(to), "files": done.files, "kept": done.kept, **findings})
        if done.failures:
            raise typer.Exit(exit_code(failed))
        return
    for one in (*done.notes, *done.failures):
        console.print(clean(str(one)))
    kept = f", {done.kept} were there already" if done.kept else ""
    console.print(f"{done.files} files, {human_bytes(done.bytes)} of {found.id[:8]} are in {to}{kept}", markup=False)
    if done.failures:
        raise failed
