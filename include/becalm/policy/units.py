"""Lengths of time and amounts of bytes, as a policy writes them: `90s`, `1h30m`, `14d`; `500Gi`, `2T`.

It reads and writes them; what they mean is said where they are used.
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

from becalm.policy.problems import Problem, quoted

_UNIT_SECONDS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:(\d{1,9})w)?(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?", re.ASCII)
LONGEST = timedelta(days=36_525)
"""A hundred years: what is longer is a slip of the pen."""

DURATION_REMEDY = "write whole numbers with w, d, h, m, s, the largest first: 30s, 15m, 1h30m, 14d"

_FACTORS = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "P": 10**15,
    "E": 10**18,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "Pi": 2**50,
    "Ei": 2**60,
}
_QUANTITY = re.compile(r"(\d{1,20}(?:\.\d{1,9})?)(|[kMGTPE]|[KMGTPE]i)", re.ASCII)
LARGEST = 2**63 - 1
QUANTITY_REMEDY = "write a number with Ki, Mi, Gi, Ti (powers of 1024) or k, M, G, T (powers of 1000): 500Gi"


def parse_duration(text: str) -> timedelta:
    """Read a length of time. A day is 24 hours. Raises Problem; nothing and zero are problems too."""
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise Problem(f"{quoted(text)} is not a length of time", DURATION_REMEDY)
    total = sum(int(count) * size for count, size in zip(match.groups(), _UNIT_SECONDS.values(), strict=True) if count)
    if total == 0:
        raise Problem("a length of time of zero means nothing here", "leave the key out, or write more than zero")
    if total > LONGEST.total_seconds():
        raise Problem(f"{quoted(text)} is longer than a hundred years", DURATION_REMEDY)
    return timedelta(seconds=total)


def format_duration(span: timedelta) -> str:
    """Write a length of time in whole seconds, the inverse of `parse_duration`."""
    left = int(span.total_seconds())
    parts: list[str] = []
    for unit, size in list(_UNIT_SECONDS.items())[1:]:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def span(length: timedelta) -> str:
    """Write a length of time for people, in its two greatest units."""
    seconds = max(0, int(length.total_seconds()))
    parts = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s")]
    first = next((place for place, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count}{unit}" for count, unit in parts[first : first + 2] if count) or "0s"


def parse_quantity(text: str) -> int:
    """Read an amount as Kubernetes writes it, in bytes. Raises Problem; a part of a byte is a problem too."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise Problem(f"{quoted(text)} is not an amount of bytes", QUANTITY_REMEDY)
    amount = Decimal(match[1]) * _FACTORS[match[2]]
    if amount > LARGEST:
        raise Problem(f"{quoted(text)} is more than any volume holds", QUANTITY_REMEDY)
    if amount != int(amount) or amount == 0:
        raise Problem(f"{quoted(text)} is not a whole number of bytes above zero", QUANTITY_REMEDY)
    return int(amount)


def format_quantity(amount: int) -> str:
    """Write an amount of bytes in the largest unit that loses nothing, the inverse of `parse_quantity`."""
    for suffix in ("Ei", "Pi", "Ti", "Gi", "Mi", "Ki"):
        if amount and amount % _FACTORS[suffix] == 0:
            return f"{amount // _FACTORS[suffix]}{suffix}"
    return str(amount)
