"""`becalm adopt`: show the snapshots of a repository that Becalm did not write as recovery points."""

from __future__ import annotations

import getpass
import socket
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from becalm.catalog.adoption import adopt as adopt_repository
from becalm.catalog.adoption import adoption_of, foreign
from becalm.cli.console import clean, console, human_bytes, print_json
from becalm.cli.ports import JsonOption, NameOption, PasswordOption, PolicyFile, TargetOption, find_place
from becalm.clock import SystemClock, format_time
from becalm.repository.quoting import quote
from becalm.repository.reader import open_repository
from becalm.repository.tree import walk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from becalm.catalog.adoption import AdoptedPoint
    from becalm.model import RecoveryPoint
    from becalm.repository.reader import Repository


def adopt(  # noqa: PLR0917  (typer reads the options from the signature)
    policy: PolicyFile = None,
    target: TargetOption = "",
    name: NameOption = "",
    password: PasswordOption = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be adopted and write nothing.")] = False,  # noqa: FBT002
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Show a repository's snapshots of other makers, restic's for one, among its recovery points from now on.

    --target without --policy names the repository itself. One small object is written beside it; no snapshot is touched, and no
    retention takes one of them.
    """
    place, _ = find_place(policy, target=target, name=name, password=password, whole=True)
    repository = open_repository(place.store, place.password)
    found = foreign(repository)
    said = adoption_of(repository)
    made = False
    if not dry_run:
        said, made = adopt_repository(repository, who=_who(), now=SystemClock().now())
    if json:
        since = format_time(said.since) if said else None
        print_json({"ok": True, "url": place.url, "adopted": since, "created": made, "points": [describe(one) for one in found]})
        return
    if found:
        console.print(adopted_table(found))
    count = f"{len(found)} snapshots of other makers"
    if said is None:
        console.print(f"{count} at {place.url}; nothing was written", markup=False)
    else:
        console.print(f"{count} at {place.url} {'are adopted' if made else f'were adopted on {format_time(said.since)}'}", markup=False)
        console.print("See them with: becalm points, becalm show --point ID; get their files with: becalm extract --point ID --to DIR")


def _who() -> str:
    """Name the person for the record, as far as this machine knows."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no name for the number, as in a container
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def describe(one: AdoptedPoint) -> dict[str, Any]:
    """Return an adopted point as one JSON object."""
    return {
        "id": one.point.id,
        "state": "adopted",
        "time": format_time(one.snapshot.time),
        "host": one.snapshot.hostname,
        "user": one.snapshot.username,
        "paths": list(one.snapshot.paths),
        "tags": list(one.snapshot.tags),
        "size_bytes": one.point.size_bytes,
        "pinned": one.point.pinned,
        "program": one.snapshot.program_version,
        "tree": one.snapshot.tree,
    }


def adopted_table(found: Sequence[AdoptedPoint]) -> Table:
    """Return what a person sees of adopted points; names in them are others', and cannot colour or move anything."""
    table = Table("adopted point", "time", "host", "paths", "tags", "size", "kept by", box=None)
    for one in found:
        size = one.point.size_bytes
        table.add_row(
            one.point.id[:8],
            format_time(one.snapshot.time)[:19] + "Z",
            clean(one.snapshot.hostname or "-"),
            clean(", ".join(one.snapshot.paths) or "-"),
            clean(", ".join(one.snapshot.tags) or "-"),
            "-" if size is None else human_bytes(size),
            "pin" if one.point.pinned else "-",
        )
    return table


def show_adopted(repository: Repository, found: RecoveryPoint, *, objects: bool, json: bool) -> None:
    """Show one adopted point: what its maker says of it and, with `objects`, every path in it."""
    [one] = [one for one in foreign(repository) if one.point.id == found.id]
    listed = [path for path, _ in walk(repository, found.tree)] if objects else []
    described = describe(one)
    if json:
        print_json({"ok": True, "point": described, "objects": [quote(path) for path in listed]})
        return
    table = Table(show_header=False, box=None)
    table.add_row("adopted point", found.id)
    for key in ("time", "host", "user", "paths", "tags", "program", "tree"):
        value = described[key]
        table.add_row(key, clean((", ".join(value) if isinstance(value, list) else value) or "-"))
    table.add_row("size", "-" if found.size_bytes is None else human_bytes(found.size_bytes))
    for path in listed:
        table.add_row("path", clean(quote(path)))
    console.print(table)
