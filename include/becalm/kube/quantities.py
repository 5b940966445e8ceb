"""Amounts as Kubernetes writes them, of cores as well as of bytes: `500m`, `1.5`, `2Gi`, `1e3`. Pure."""

from __future__ import annotations

import re
from decimal import Decimal

_AMOUNT = re.compile(r"([+-]?\d{1,30}(?:\.\d{0,18})?|[+-]?\.\d{1,18})(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?\d{1,2}))?", re.ASCII)
_FACTORS = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", 1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", 1)},
}


def amount(value: object) -> Decimal:
    """Read an amount; what is none counts for nothing."""
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    found = _AMOUNT.fullmatch(str(value))
    if found is None:
        return Decimal(0)
    number, suffix, exponent = found.groups()
    return Decimal(number) * (_FACTORS[suffix] if suffix else Decimal(10) ** int(exponent) if exponent else Decimal(1))


def written(value: Decimal) -> str:
    """Write an amount for a person: whole bytes in the largest unit that loses nothing, anything else as a plain number."""
    if value == value.to_integral_value():
        whole = int(value)
        for power, suffix in reversed(list(enumerate("KMGTPE", 1))):
            if whole and whole % 1024**power == 0:
                return f"{whole // 1024**power}{suffix}i"
        return str(whole)
    return format(value.normalize(), "f")
