"""The list of a policy's recovery points: search, pages, a calendar, and what retention will do. Pure."""

from __future__ import annotations

import calendar
from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

from becalm.catalog.moments import moment
from becalm.errors import PermanentError, UsageError
from becalm.policy import retention

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from becalm.model import Decision, RecoveryPoint
    from becalm.policy.spec import ProtectionPolicy

PAGE = 50
STATES = ("good", "partial", "anomalous", "salvaged", "pinned", "application-consistent", "crash-consistent", "late", "by hand")
LATE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What was asked for, as it was written."""

    text: str = ""
    """The beginning of an id, or a part of the run's key, the cluster or the label."""
    state: str = ""
    after: str = ""
    before: str = ""
    page: int = 1

    @classmethod
    def read(cls, fields: Mapping[str, str]) -> Search:
        """Read the form. Raises UsageError."""
        state = fields.get("state", "")
        if state and state not in STATES:
            raise UsageError(f"{state!r} is no state of a recovery point", hint="choose one of " + ", ".join(STATES))
        page = fields.get("page", "1")
        if not (page.isascii() and page.isdigit() and 1 <= int(page[:9]) <= 10**6):
            raise UsageError(f"{page!r} is no page", hint="go back to the first page")
        return cls(
            text=fields.get("q", "").strip(),
            state=state,
            after=fields.get("after", "").strip(),
            before=fields.get("before", "").strip(),
            page=int(page),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One point of the list."""

    point: RecoveryPoint
    state: str
    """good, partial, anomalous or salvaged."""
    fate: str
    """What retention says, in one line."""
    stays: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One page of what was found."""

    rows: tuple[Row, ...]
    total: int
    page: int
    pages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """One day of the calendar."""

    day: date
    count: int
    good: int
    in_month: bool
    would_be: str
    """The id of the point that a restore as of the end of this day would take; nothing where there is none."""


def state_of(point: RecoveryPoint) -> str:
    """Say in a word what a point is worth."""
    if point.salvaged:
        return "salvaged"
    if not point.complete:
        return "partial"
    return "anomalous" if point.anomalous else "good"


def _has(point: RecoveryPoint, state: str) -> bool:
    if state == "pinned":
        return point.pinned
    if state == "late":
        return point.late >= LATE
    if state == "by hand":
        return point.slot is None
    return state in (state_of(point), str(point.consistency))


def search(points: Sequence[RecoveryPoint], asked: Search, *, now: datetime) -> list[RecoveryPoint]:
    """Return what was asked for, newest first. Raises UsageError for a time that is none."""
    begin = moment(asked.after, now=now) if asked.after else None
    end = moment(asked.before, now=now) if asked.before else None
    if begin and len(asked.after) == len("2026-01-31"):  # a day means its end elsewhere; what comes after a day begins with it
        begin -= timedelta(days=1)
    text = asked.text.lower()
    return [
        point
        for point in reversed(points)
        if (begin is None or point.cut >= begin)
        and (end is None or point.cut <= end)
        and (not asked.state or _has(point, asked.state))
        and (not text or point.id.startswith(text) or text in f"{point.run} {point.cluster} {getattr(point, 'label', '')}".lower())
    ]


def fates(policy: ProtectionPolicy, points: Sequence[RecoveryPoint], now: datetime) -> dict[str, Decision]:
    """Say of each point whether retention keeps it and why. A policy without retention keeps all of them, and says nothing."""
    if policy.spec.retention is None:
        return {}
    try:
        decided = retention.plan(points, policy.spec.retention, now, timezone=policy.spec.timezone)
    except PermanentError:
        return {}
    return {decision.point.id: decision for decision in decided}


def page_of(found: Sequence[RecoveryPoint], asked: Search, decided: Mapping[str, Decision], *, rules: bool) -> Found:
    """Return one page of the list."""
    pages = max(1, -(-len(found) // PAGE))
    page = min(asked.page, pages)
    shown = found[(page - 1) * PAGE : page * PAGE]
    return Found(rows=tuple(_row(point, decided.get(point.id), rules=rules) for point in shown), total=len(found), page=page, pages=pages)


def _row(point: RecoveryPoint, decision: Decision | None, *, rules: bool) -> Row:
    if decision is None:
        fate = "not told" if rules else "kept: the policy forgets nothing"
        return Row(point=point, state=state_of(point), fate=fate, stays=True)
    said = ", ".join(decision.reasons)
    return Row(point=point, state=state_of(point), fate=said if decision.keep else f"goes: {said}", stays=decision.keep)


def month_of(points: Sequence[RecoveryPoint], month: date, *, now: datetime) -> list[list[Day]]:
    """Return the weeks of a month; each day says how many points were cut on it, and what a restore as of its end would take.

    The points come oldest first.
    """
    weeks = calendar.Calendar().monthdatescalendar(month.year, month.month)
    good = [point for point in points if point.good]
    both = (points, [point.cut for point in points]), (good, [point.cut for point in good])
    return [[_day(both, day, month=month, now=now) for day in week] for week in weeks]


_Timed: TypeAlias = "tuple[Sequence[RecoveryPoint], list[datetime]]"


def _day(both: tuple[_Timed, _Timed], day: date, *, month: date, now: datetime) -> Day:
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    end = begin + timedelta(days=1)
    (_, cuts), (good, good_cuts) = both
    newest = bisect_left(good_cuts, min(now, end)) - 1
    shown = day <= now.date() and day.month == month.month and newest >= 0
    return Day(
        day=day,
        count=bisect_left(cuts, end) - bisect_left(cuts, begin),
        good=bisect_left(good_cuts, end) - bisect_left(good_cuts, begin),
        in_month=day.month == month.month,
        would_be=good[newest].id if shown else "",
    )


def month_asked(text: str, now: datetime) -> date:
    """Read `2026-03`; without it, this month. Raises UsageError."""
    if not text:
        return now.date().replace(day=1)
    try:
        year, _, month = text.partition("-")
        found = date(int(year), int(month), 1)
    except ValueError as error:
        raise UsageError(f"{text!r} is no month", hint="write it as 2026-03") from error
    if not 1971 <= found.year <= 9000:
        raise UsageError(f"{text!r} is out of any calendar that helps", hint="write it as 2026-03")
    return found


def beside(month: date) -> tuple[str, str]:
    """Return the months before and after, as they are asked for."""
    before = (month - timedelta(days=1)).replace(day=1)
    after = (month + timedelta(days=32)).replace(day=1)
    return before.strftime("%Y-%m"), after.strftime("%Y-%m")
