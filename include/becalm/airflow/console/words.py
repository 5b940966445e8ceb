"""How the console writes things: times, spans, sizes, names that others chose. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode

from becalm.repository.quoting import quote as escaped
from becalm.repository.quoting import to_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

_STEPS = ((86400 * 365, "year"), (86400 * 30, "month"), (86400, "day"), (3600, "hour"), (60, "minute"))
_LONGEST_NAME = 300


def bytes_of(number: float | None) -> str:
    """Write a size: `12.3 GiB`."""
    if number is None:
        return "unknown"
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if abs(number) < 1024 or unit == "TiB":
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1024
    raise AssertionError


def span_of(span: timedelta | float | None) -> str:
    """Write a span by its largest unit, with the next one where it says more: `3 hours 12 minutes`."""
    if span is None:
        return "unknown"
    seconds = span.total_seconds() if isinstance(span, timedelta) else float(span)
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 or seconds == int(seconds) else f"{seconds:.2f} s"
    for place, (size, unit) in enumerate(_STEPS):
        count = int(seconds // size)
        if count:
            said = f"{count} {unit}{'s' if count > 1 else ''}"
            if place + 1 < len(_STEPS) and count < 4:
                smaller, name = _STEPS[place + 1]
                rest = int((seconds - count * size) // smaller)
                said += f" {rest} {name}{'s' if rest > 1 else ''}" if rest else ""
            return said
    return "0 s"


def ago(moment: datetime | None, now: datetime) -> str:
    """Write how long ago a moment was."""
    if moment is None:
        return "never"
    return f"{span_of(now - moment)} ago" if moment <= now else f"in {span_of(moment - now)}"


def time_of(moment: datetime | None) -> str:
    """Write a moment to the second, in UTC."""
    return "never" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def name_of(name: str) -> str:
    """Write a name so that it shows what it is: what cannot be printed, or turns the writing round, is escaped."""
    shown = escaped(name)
    return shown if len(shown) <= _LONGEST_NAME else shown[:_LONGEST_NAME] + "…"


def in_url(text: str) -> str:
    """Write a name or a path for a URL; bytes that are not UTF-8 stay what they are."""
    return quote(to_bytes(text), safe="/")


def query(**fields: str | int | None) -> str:
    """Write the fields that say something as a query, with its question mark."""
    said = [(key, to_bytes(str(value))) for key, value in fields.items() if value not in (None, "")]
    return f"?{urlencode(said)}" if said else ""


def read_fields(raw: bytes) -> Mapping[str, str]:
    """Read a query or a form. Bytes that are not UTF-8 come through; of a field that comes twice, the last counts."""
    return dict(parse_qsl(raw.decode("latin-1"), keep_blank_values=True, errors="surrogateescape", max_num_fields=64))
