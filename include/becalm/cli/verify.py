"""`becalm verify`: prove that what is in the repository is whole."""

from __future__ import annotations

from typing import Annotated

import typer

from becalm.cli.console import console, print_json, progress
from becalm.cli.ports import JsonOption, NameOption, PasswordOption, PolicyFile, TargetOption, find_place
from becalm.errors import Damaged
from becalm.repository.check import check
from becalm.repository.reader import open_repository


def verify(  # noqa: PLR0917  (typer reads the options from the signature)
    policy: PolicyFile = None,
    target: TargetOption = "",
    name: NameOption = "",
    password: PasswordOption = "",
    read_data: Annotated[bool, typer.Option("--read-data", help="Read, decrypt and hash every byte, not only the structure.")] = False,  # noqa: FBT002
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Check every recovery point: each tree and blob is there, in a pack of the right size; with --read-data, each byte is what was written."""
    place, _ = find_place(policy, target=target, name=name, password=password)
    repository = open_repository(place.store, place.password)
    with progress(quiet=json) as report:
        damages = check(repository, read_data=read_data, progress=report)
    if json:
        print_json({"ok": not damages, "read_data": read_data, "damages": [{"where": d.where, "problem": d.problem} for d in damages]})
    for damage in damages:
        console.print(f"{damage.where}: {damage.problem}", markup=False) if not json else None
    if damages:
        if json:
            raise typer.Exit(7)
        raise Damaged(f"{len(damages)} objects are damaged", where=place.url, hint="restore from a copy; do not prune; see docs/errors.md")
    if not json:
        console.print("every byte is whole" if read_data else "the structure is whole; --read-data would read every byte too")
