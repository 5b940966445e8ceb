"""A repository's password, read where a policy says that it stands: `file:/path`, `env:NAME`, or under a name.

What a plain name means is the edge's business: for Airflow a connection, for the command line a variable. The password is never in an
error, and nothing here keeps or prints it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from becalm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable


def read_reference(reference: str, *, variable: Callable[[str], str], named: Callable[[str], str]) -> str:
    """Return the password. `variable` gives a variable of the environment, empty where it is not set; `named` what a plain name means.

    Raises: UsageError (there is no password there), and what `named` raises.
    """
    kind, colon, rest = reference.partition(":")
    where = f"spec.target.password ({reference})"
    if colon and kind == "file":
        found, hint = _from_file(Path(rest), where), "write the password into this file"
    elif colon and kind == "env":
        found, hint = variable(rest), f"set {rest}"
    else:
        found, hint = named(reference), "set it"
    if not found:
        raise UsageError("the repository's password is empty", where=where, hint=f"{hint}; without it no recovery point can be opened")
    return found


def _from_file(path: Path, where: str) -> str:
    """Read a file without its last line's end. Raises UsageError."""
    hint = "give a file with one line of text that this program can read"
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise UsageError(f"the password's file cannot be read: {error.strerror}", where=where, hint=hint) from error
    except UnicodeDecodeError:
        raise UsageError("the password's file is not text", where=where, hint=hint) from None
