"""What a person means by a time: `2026-03-14T12:00:00Z`, `2026-03-14`, `5 minutes ago`, `9 months ago`. Pure."""

from __future__ import annotations

import calendar
import re
from datetime import datetime, timedelta

from becalm.clock import parse_time
from becalm.errors import UsageError

FORMS = "write a time such as 2026-03-14T12:00:00Z, a day such as 2026-03-14, or 5 minutes, 2 weeks, 9 months ago"

_AGO = re.compile(r"(?:as of )?(\d{1,6}) ?([a-z]+) ago", re.ASCII | re.IGNORECASE)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_SPANS = {
    "seconds": ("s", "sec", "second", "seconds"),
    "minutes": ("m", "min", "minute", "minutes"),
    "hours": ("h", "hour", "hours"),
    "days": ("d", "day", "days"),
    "weeks": ("w", "week", "weeks"),
}
_MONTHS = {"month": 1, "months": 1, "year": 12, "years": 12, "y": 12}
_SPAN_OF = {word: unit for unit, words in _SPANS.items() for word in words}


def moment(text: str, *, now: datetime) -> datetime:
    """Return the moment that a text means. A day means its end, in UTC; a month ago is the same day of the month before.

    Raises: UsageError.
    """
    words = " ".join(text.split())
    match = _AGO.fullmatch(words)
    try:
        if match:
            return _ago(int(match[1]), match[2].lower(), now)
        plain = words.removeprefix("as of ")
        if _DAY.fullmatch(plain):
            return parse_time(plain) + timedelta(days=1, microseconds=-1)
        return parse_time(plain)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{text!r} is no time", hint=FORMS) from error


def _ago(count: int, unit: str, now: datetime) -> datetime:
    if unit in _SPAN_OF:
        return now - timedelta(**{_SPAN_OF[unit]: count})
    if unit not in _MONTHS:
        raise ValueError(unit)
    months = now.year * 12 + now.month - 1 - count * _MONTHS[unit]
    year, month = divmod(months, 12)
    day = min(now.day, calendar.monthrange(year, month + 1)[1]) if year >= 1 else 1
    return now.replace(year=year, month=month + 1, day=day)
