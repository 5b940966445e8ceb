"""Schedules that spread by themselves: `H` in a cron expression stands for a number that follows from the policy's name. Pure.

`H * * * *` is once an hour at a minute of the policy's own; `H H * * *` once a day; `H/15 * * * *` every quarter of an hour. The same name
always gives the same numbers, so slots stay where they are, and five hundred policies do not all begin at once.
"""

from __future__ import annotations

import re
from hashlib import sha256

_FIELDS = (("minute", 60), ("hour", 24))
_HASHED = re.compile(r"H(?:/(\d{1,2}))?", re.ASCII)


def spreads(expression: str) -> bool:
    """Say whether an expression asks for numbers of the policy's own."""
    return any(_HASHED.fullmatch(field) for field in expression.split()[:2])


def spread(expression: str, name: str) -> str:
    """Return the expression with its numbers; one without `H` in minute or hour is returned as it is."""
    if not spreads(expression):
        return expression
    fields = expression.split()
    for place, (what, size) in enumerate(_FIELDS):
        match = _HASHED.fullmatch(fields[place]) if place < len(fields) else None
        if match is None:
            continue
        number = int.from_bytes(sha256(f"{what}\0{name}".encode()).digest()[:8])
        step = int(match[1]) if match[1] else 0
        if match[1] and not 1 <= step < size:
            continue  # left as it is, and refused as no number
        fields[place] = f"{number % step}-{size - 1}/{step}" if step else str(number % size)
    return " ".join(fields)
