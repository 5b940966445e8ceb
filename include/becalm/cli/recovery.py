"""The recovery key: a password for the day on which all others are lost. It is shown once, and proven before anybody relies on it."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from becalm.cli.console import console
from becalm.errors import UsageError, WrongPassword
from becalm.repository import keys
from becalm.repository.format import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from becalm.repository.reader import Repository

PRINT = "print"
_TRIES = 3


def make(repository: Repository, where: str) -> str:
    """Make a recovery key, show it in a file or on the terminal, and open the repository with what is read back. Return its id.

    Raises: UsageError (the file is there already, or cannot be written; it was typed wrong), and what the store raises.
    """
    password = keys.recovery_password()
    if where == PRINT:
        return _proven(repository, password, show=_printed, forget=lambda: None)
    path = Path(where)
    _write(path, password)
    return _proven(repository, password, show=lambda _: _read(path), forget=lambda: path.unlink(missing_ok=True))


def _proven(repository: Repository, password: str, *, show: Callable[[str], str], forget: Callable[[], None]) -> str:
    """Add the key and prove it with what a person has of it. A key that nobody can prove goes again."""
    key_id = ""
    try:
        key_id = keys.add(repository, password, hostname=socket.gethostname(), username=keys.RECOVERY)
        keys.prove(repository, key_id, show(password))
    except BaseException:
        forget()
        if key_id:
            with suppress(Exception):  # what went wrong first is what is told
                repository.store.delete(Layout.key(key_id))
        raise
    return key_id


def _write(path: Path, password: str) -> None:
    """Write a file that only its owner reads. One that is there is not touched."""
    where, hint = f"--recovery-key {path}", "name a file that is not there yet, in a folder that is"
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(password + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UsageError(f"the recovery key cannot be written: {error.strerror}", where=where, hint=hint) from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").rstrip("\r\n")
    except OSError as error:
        raise UsageError(f"the recovery key cannot be read back: {error.strerror}", where=f"--recovery-key {path}") from error


def _printed(password: str) -> str:
    """Show it; a person at a terminal types it back, for a key that nobody wrote down is none."""
    console.print(f"recovery key: {password}", markup=False)
    console.print("Write it down now: it is not shown again.")
    if not sys.stdin.isatty():
        return password
    for _ in range(_TRIES):
        typed = "-".join(str(typer.prompt("Type it back")).upper().replace("-", " ").split())
        if typed == password:
            return typed
        console.print("That is not it.")
    raise WrongPassword("the recovery key was not typed back as it was shown", hint="run becalm init again: it makes a new one")
