"""Cron expressions as sets of moments, in a time zone. Pure; it never reads a clock.

Five fields (minute, hour, day of the month, month, day of the week) of `*`, numbers, names of months and days, ranges
`a-b`, steps `/n` after `*` or a range, and lists; or `@hourly`, `@daily` and their kind. When day of the month and day of the week are both
restricted, a day that answers either is meant. Airflow reads each of these in the same way.

Daylight saving, for a wall clock that jumps:

- A time that the clock skips (02:30 on the day it jumps from 02:00 to 03:00) is meant at the same distance after the jump
  (03:30). Two that then fall together are one.
- A time that the clock shows twice is meant once, the second time; but a schedule with `*` for the hour is meant both times.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from becalm.policy.problems import Problem, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

PRESETS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@quarterly": "0 0 1 */3 *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

_DAY = timedelta(days=1)
_HORIZON = timedelta(days=366 * 9)
"""The rarest day, the 29th of February, is at most eight years away: a day of the week never narrows a date."""
_FIRST, _LAST = datetime(1900, 1, 1, tzinfo=UTC), datetime(9900, 1, 1, tzinfo=UTC)
"""Nothing is owed outside: there, dates would overflow."""

REMEDY = 'write five fields, minute hour day month weekday, such as "0 2 * * *", or @hourly, @daily, @weekly, @monthly'


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()

    def number(self, text: str) -> int:
        if text.lower() in self.words:
            return self.words.index(text.lower()) + self.low
        if not re.fullmatch(r"\d{1,4}", text, re.ASCII):
            raise Problem(f"{quoted(text)} cannot be the {self.name}", REMEDY)
        if not self.low <= int(text) <= self.high:
            raise Problem(f"{int(text)} cannot be the {self.name}: it goes from {self.low} to {self.high}", REMEDY)
        return int(text)

    def parse(self, text: str) -> frozenset[int]:
        if "*" in text and "," in text:
            raise Problem(f"{quoted(text)} mixes * with other values in the {self.name}", "write * alone, or the values without it")
        return frozenset().union(*(self._part(part) for part in text.split(",")))

    def _part(self, text: str) -> frozenset[int]:
        span, slash, step_text = text.partition("/")
        step = 1
        if slash:
            if not re.fullmatch(r"\d{1,4}", step_text, re.ASCII) or not 1 <= int(step_text) <= self.high:
                raise Problem(f"{quoted(text)} has a step that is not between 1 and {self.high}", REMEDY)
            step = int(step_text)
        if span == "*":
            top = 6 if self.name == "weekday" else self.high
            return frozenset(range(self.low, top + 1, step))
        first, dash, last = span.partition("-")
        if not dash:
            if slash:
                raise Problem(f"{quoted(text)} has a step without a range", f"write {first}-{self.high}/{step_text}")
            return frozenset({self.number(first)})
        low, high = self.number(first), self.number(last)
        if self.name == "weekday" and high == 0 and low > 0:
            high = 7
        if low > high:
            raise Problem(f"the range {quoted(span)} runs backwards in the {self.name}", f"write {first}-{self.high},{self.low}-{last}")
        return frozenset(range(low, high + 1, step))


_MINUTE = _Field(name="minute", low=0, high=59)
_HOUR = _Field(name="hour", low=0, high=23)
_DAY_OF_MONTH = _Field(name="day of the month", low=1, high=31)
_MONTH = _Field(name="month", low=1, high=12, words=("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"))
_WEEKDAY = _Field(name="weekday", low=0, high=7, words=("sun", "mon", "tue", "wed", "thu", "fri", "sat"))
_LONGEST_MONTH = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}


@lru_cache(maxsize=256)
def zone(name: str) -> tzinfo:
    """Return the time zone of that name in the IANA list. Raises Problem."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise Problem(
            f"{quoted(name)} is no time zone that this machine knows", "write a name of the IANA list, such as Europe/Zurich or UTC"
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """A schedule in a time zone: a set of moments. Answers are in UTC."""

    expression: str
    """Five fields, with presets written out: what Airflow is given."""
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday."""
    by_day: bool
    """Whether the day of the month is restricted."""
    by_weekday: bool
    """Whether the day of the week is restricted."""
    timezone: str

    @classmethod
    def parse(cls, text: str, timezone: str = "UTC") -> Cron:
        """Read an expression. Raises Problem, also for one that names no day that exists."""
        zone(timezone)
        if text.startswith("@") and text not in PRESETS:
            raise Problem(f"{quoted(text)} is no schedule", "write one of " + ", ".join(PRESETS))
        expression = " ".join(PRESETS.get(text, text).split())
        fields = expression.split(" ") if expression else []
        if len(fields) != 5:
            raise Problem(f"{quoted(text)} has {len(fields)} field{'' if len(fields) == 1 else 's'} and not five", REMEDY)
        weekdays = frozenset(day % 7 for day in _WEEKDAY.parse(fields[4]))
        cron = cls(
            expression=expression,
            minutes=_MINUTE.parse(fields[0]),
            hours=_HOUR.parse(fields[1]),
            days=_DAY_OF_MONTH.parse(fields[2]),
            months=_MONTH.parse(fields[3]),
            weekdays=weekdays,
            by_day=fields[2] not in ("*", "*/1"),
            by_weekday=len(weekdays) < 7,
            timezone=timezone,
        )
        if not cron.by_weekday and all(min(cron.days) > _LONGEST_MONTH.get(month, 31) for month in cron.months):
            raise Problem(f"{quoted(text)} names a day that no month has", "choose a day that exists in one of the months")
        return cron

    def fires(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the moments later than `after`, up to and with `until`, in order, each once."""
        after, until = bounded(after), bounded(until)
        day, last = (after - 2 * _DAY).date(), (until + 2 * _DAY).date()
        pending: set[datetime] = set()
        while day <= last:
            if self._meant(day):
                pending.update(self._moments(day))
            # A zone, and a jump of its clock, move a moment by a day each at most: what lies two days back is complete.
            if pending:
                edge = datetime.combine(day, time(), tzinfo=UTC) - 2 * _DAY
                done = {moment for moment in pending if moment < edge or day == last}
                yield from sorted(moment for moment in done if after < moment <= until)
                pending -= done
            day += _DAY

    def previous(self, moment: datetime) -> datetime | None:
        """Return the latest moment that is not later than this one; none where the calendar has none."""
        moment = bounded(moment)
        span = 2 * _DAY
        while span < _HORIZON * 4:
            found = list(self.fires(moment - span, moment))
            if found:
                return found[-1]
            span *= 4
        return None

    def next(self, moment: datetime) -> datetime | None:
        """Return the earliest moment that is later than this one; none where the calendar has none."""
        moment = bounded(moment)
        return next(self.fires(moment, moment + _HORIZON), None)

    def longest_gap(self) -> timedelta:
        """Return the longest time between one moment and the next by the wall clock, as if that never jumped. Pure arithmetic: no year matters."""
        times = sorted(timedelta(hours=hour, minutes=minute) for hour in self.hours for minute in self.minutes)
        first = date(2000, 1, 1)
        days = [first + timedelta(days=day) for day in range(_HORIZON.days) if self._meant(first + timedelta(days=day))]
        over_days = max((later - day for day, later in pairwise(days)), default=_HORIZON)
        return max([over_days - times[-1] + times[0], *(later - time for time, later in pairwise(times))])

    def _meant(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        by_day, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        if self.by_day and self.by_weekday:
            return by_day or by_weekday
        return by_day and by_weekday

    def _moments(self, day: date) -> Iterator[datetime]:
        here, every_hour = zone(self.timezone), len(self.hours) == 24
        for hour in self.hours:
            for minute in self.minutes:
                wall = datetime.combine(day, time(hour, minute), tzinfo=here)
                first, second = (wall.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
                if first < second:  # the clock shows it twice
                    yield second
                    if every_hour:
                        yield first
                else:  # once, or not at all: then the offset before the jump puts it after the jump
                    yield first


def bounded(moment: datetime) -> datetime:
    """Return a moment in UTC, moved to the nearest one that no time zone can push out of the calendar."""
    return min(max(moment.astimezone(UTC), _FIRST), _LAST)
