"""`becalm key`: the passwords of a repository. They are read where a reference says, and never stand in an argument."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from becalm.cli.console import console, print_json
from becalm.cli.ports import JsonOption, NameOption, PasswordOption, PolicyFile, TargetOption, find_place, read_password
from becalm.clock import format_time
from becalm.model import payload
from becalm.repository import keys
from becalm.repository.reader import open_repository

if TYPE_CHECKING:
    from becalm.repository.keys import KeyInfo, Removed
    from becalm.repository.reader import Repository

app = typer.Typer(no_args_is_help=True)

NewPassword = Annotated[str, typer.Option("--new-password", help="Where the new password is: env:NAME or file:/path.", show_default=False)]


@app.command("list")
def list_(
    policy: PolicyFile = None,
    target: TargetOption = "",
    name: NameOption = "",
    password: PasswordOption = "",
    json: JsonOption = False,  # noqa: FBT002  (a flag)
) -> None:
    """List the keys, the oldest first: who made each and when, and which one the given password opens."""
    repository, given = _open(policy, target, name, password)
    own = keys.opened_by(repository, given)
    found = keys.keys(repository.store)
    if json:
        print_json({"ok": True, "keys": [{**payload(info), "opened": info.id == own} for info in found]})
        return
    table = Table("", "key", "created", "host", "user", "state", box=None)
    for info in found:
        created = format_time(info.created)[:19] + "Z" if info.created else "-"
        table.add_row("*" if info.id == own else "", info.id[:8], created, info.hostname or "-", info.username or "-", _state(info))
    console.print(table)
    console.print("* opens with the password that was given")


def _state(info: KeyInfo) -> str:
    said = [info.problem] if info.problem else []
    if info.retired:
        said.append("to be removed")
    if info.locked_until is not None:
        said.append(f"locked until {format_time(info.locked_until)[:19]}Z")
    return ", ".join(said) or "-"


@app.command("add")
def add(  # noqa: PLR0917  (typer reads the options from the signature)
    policy: PolicyFile = None,
    new_password: NewPassword = ...,  # type: ignore[assignment]  # typer's mark of what is required
    target: TargetOption = "",
    name: NameOption = "",
    password: PasswordOption = "",
    json: JsonOption = False,  # noqa: FBT002  (a flag)
) -> None:
    """Add a password. It is done when the new password has opened the repository."""
    repository, _ = _open(policy, target, name, password)
    key_id = keys.add(repository, read_password(new_password), hostname=socket.gethostname())
    if json:
        print_json({"ok": True, "key": key_id})
        return
    console.print(f"added key {key_id[:8]}: the new password opens the repository")


@app.command("remove")
def remove(  # noqa: PLR0917  (typer reads the options from the signature)
    key: Annotated[str, typer.Argument(metavar="KEY", help="The beginning of the key's id, as `becalm key list` shows it.")],
    policy: PolicyFile = None,
    proven_by: Annotated[
        str,
        typer.Option(
            "--proven-by", help="Where another password is that stays, to remove the key of the given one: env:NAME or file:/path."
        ),
    ] = "",
    target: TargetOption = "",
    name: NameOption = "",
    password: PasswordOption = "",
    json: JsonOption = False,  # noqa: FBT002  (a flag)
) -> None:
    """Remove a key. Never the last one, and the one that the given password opens only if another password was proven to open."""
    repository, given = _open(policy, target, name, password)
    proven = keys.opened_by(repository, read_password(proven_by) if proven_by else given)
    removed = keys.remove(repository, keys.find(repository.store, key), proven=proven)
    if json:
        print_json({"ok": True, "key": removed.id, "gone": removed.locked_until is None, "locked_until": _text(removed)})
        return
    console.print(_said(removed))


@app.command("rotate")
def rotate(  # noqa: PLR0917  (typer reads the options from the signature)
    policy: PolicyFile = None,
    new_password: NewPassword = ...,  # type: ignore[assignment]  # typer's mark of what is required
    target: TargetOption = "",
    name: NameOption = "",
    password: PasswordOption = "",
    json: JsonOption = False,  # noqa: FBT002  (a flag)
) -> None:
    """Put a new password in the place of the given one: add it, open the repository with it, remove the old one's key."""
    repository, given = _open(policy, target, name, password)
    key_id, removed = keys.rotate(repository, old=given, new=read_password(new_password), hostname=socket.gethostname())
    if json:
        print_json({"ok": True, "key": key_id, "removed": removed.id, "gone": removed.locked_until is None, "locked_until": _text(removed)})
        return
    console.print(f"added key {key_id[:8]}: the new password opens the repository")
    console.print(_said(removed))
    console.print("Put the new password where spec.target.password says, before the next run.")


def _open(policy: PolicyFile, target: str, name: str, password: str) -> tuple[Repository, str]:
    place, _ = find_place(policy, target=target, name=name, password=password)
    return open_repository(place.store, place.password), place.password


def _text(removed: Removed) -> str:
    return format_time(removed.locked_until) if removed.locked_until else ""


def _said(removed: Removed) -> str:
    if removed.locked_until is None:
        return f"removed key {removed.id[:8]}"
    return (
        f"key {removed.id[:8]} is locked until {format_time(removed.locked_until)} and opens until then; "
        "nothing locks it for longer: remove it again after that"
    )
