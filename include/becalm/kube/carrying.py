"""A long command on its way into a container: its words travel on its input, for a URL of many thousand characters does not pass every proxy.

The words of a command stand in the URL of the request that runs it, each quoted. Becalm's own commands begin with a shell and carry whole scripts;
such a command is replaced by a short one that reads the words and becomes the command. A command without a shell, or one that is short, travels as it
is. Pure: nothing here talks to a cluster.

Half of the words never run: what was cut off is either no shell text at all, or ends without having become the command, with code 125.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

if TYPE_CHECKING:
    from collections.abc import Sequence

SHELL = "sh"
LONGEST_QUERY = 2048
"""A command whose quoted words take more than that travels on its input."""
LOADER = (
    SHELL,
    "-c",
    'becalm=; eval "$(cat || while IFS= read -r x; do printf "%s\\n" "$x"; done)"; [ -z "$becalm" ] || exec "$@"; exit 125',
    "becalm-carried",
)
"""Reads the words, to the end, and becomes the command. It does without a `cat` where the image has none."""


_BEFORE, _AFTER = "set -- ", "\nbecalm=whole\n"


def is_long(command: Sequence[str]) -> bool:
    """Say whether a command travels better on its input: it is long, and it needs a shell anyway."""
    return bool(command) and command[0] == SHELL and sum(len(quote_plus(word)) for word in command) > LONGEST_QUERY


def carried(command: Sequence[str]) -> tuple[tuple[str, ...], bytes]:
    """Return the short command, and what must be on its input, to the end, for it to become the long one. Its own input is then empty."""
    return LOADER, f"{_BEFORE}{shlex.join(command)}{_AFTER}".encode()


def taken_out(words: bytes) -> tuple[str, ...]:
    """Return the command that was carried, for a server that does without a shell of its own. Nothing: it is not whole."""
    text = words.decode(errors="surrogateescape")
    if not (text.startswith(_BEFORE) and text.endswith(_AFTER)):
        return ()
    return tuple(shlex.split(text.removeprefix(_BEFORE).removesuffix(_AFTER)))
