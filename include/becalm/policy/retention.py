"""Which recovery points stay, and why. Pure: no clock, no store; it decides and deletes nothing.

The rules count as restic's do: from the newest point back, a rule keeps the newest good point of each period until it has as many as
it asks for; one that has not enough periods yet keeps the oldest point too. `within` reaches back from the newest good
point and not from now, so that neither a stopped schedule nor a wrong clock empties a repository.

Whatever the rules say, these stay: the last good point, what is pinned, what is locked, what is incomplete or anomalous but newer than the last good
point, and what a wrong clock has dated (cut in the future, or before the slot that it answers).
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

from becalm.clock import format_time
from becalm.errors import PermanentError
from becalm.model import Decision
from becalm.policy.cron import bounded, zone
from becalm.policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, tzinfo

    from becalm.model import RecoveryPoint
    from becalm.policy.spec import Retention

Reasons: TypeAlias = "dict[str, list[str]]"
"""By the id of a point: why it stays."""

CLOCK_WRONG = timedelta(days=1)
"""A recovery point cannot be cut before the slot that it answers. One that says so by more than this tells no true time."""

_PERIODS: dict[str, Callable[[datetime], object]] = {
    # The offset tells the two hours apart that a clock shows twice.
    "hourly": lambda moment: (moment.date(), moment.hour, moment.utcoffset()),
    "daily": lambda moment: moment.date(),
    "weekly": lambda moment: moment.isocalendar()[:2],
    "monthly": lambda moment: (moment.year, moment.month),
    "yearly": lambda moment: moment.year,
}


def plan(points: Sequence[RecoveryPoint], rules: Retention, now: datetime, *, timezone: str = "UTC") -> tuple[Decision, ...]:
    """Say of each recovery point whether it stays, and every reason, the newest first.

    Raises PermanentError where the points are not all of one policy, or one stands there twice: then the caller is mistaken.
    """
    _same_policy(points)
    newest_first = sorted(points, key=lambda point: (point.cut, point.id), reverse=True)
    past = [point for point in newest_first if point.cut <= now]
    good = [point for point in past if point.good]
    reasons: Reasons = {point.id: [] for point in newest_first}
    _protect(newest_first, good, now, reasons)
    _apply(good, rules, zone(timezone), reasons)
    return tuple(_decision(point, reasons[point.id]) for point in newest_first)


def _same_policy(points: Sequence[RecoveryPoint]) -> None:
    policies = sorted({point.policy for point in points})
    if len(policies) > 1:
        raise PermanentError(
            "retention was asked about points of several policies: " + ", ".join(policies),
            hint="nothing was decided; ask for each policy by itself",
        )
    if len({point.id for point in points}) != len(points):
        raise PermanentError(
            "retention was given the same recovery point twice", where=policies[0], hint="nothing was decided; list the points again"
        )


def _protect(newest_first: Sequence[RecoveryPoint], good: Sequence[RecoveryPoint], now: datetime, reasons: Reasons) -> None:
    """Note what no rule may take."""
    last_good = good[0] if good else next((point for point in newest_first if point.good), None)
    for point in newest_first:
        mine = reasons[point.id]
        if point is last_good:
            mine.append("last good point")
        if point.pinned:
            mine.append("pinned")
        if point.locked_until is not None and point.locked_until > now:
            mine.append(f"locked until {format_time(point.locked_until)}")
        if point.cut > now:
            mine.append(f"cut in the future: it is {format_time(now)}")
        elif point.slot is not None and point.slot - point.cut > CLOCK_WRONG:
            mine.append(f"cut before its slot {format_time(point.slot)}: a clock was wrong")
        elif not point.good and not good:
            mine.append("there is no good point before it")
        elif not point.good and point.cut > good[0].cut:
            mine.append("newer than the last good point")


def _apply(good: Sequence[RecoveryPoint], rules: Retention, here: tzinfo, reasons: Reasons) -> None:
    """Note what the rules keep, of the good points of the past, the newest first."""
    if rules.within is not None and good:
        for point in good:
            if good[0].cut - point.cut <= rules.within:
                reasons[point.id].append(f"within {format_duration(rules.within)}")
    for number, point in enumerate(good[: rules.last or 0], start=1):
        reasons[point.id].append(f"last {number}")
    for name in _PERIODS:
        if (wanted := getattr(rules, name)) is not None:
            _keep_periods(good, name, wanted=wanted, here=here, reasons=reasons)


def _keep_periods(good: Sequence[RecoveryPoint], name: str, *, wanted: int, here: tzinfo, reasons: Reasons) -> None:
    """Keep the newest of each period until there are enough, and the oldest point of all where there are not."""
    seen: set[object] = set()
    for point in good:
        if len(seen) >= wanted:
            return
        period = _PERIODS[name](bounded(point.cut).astimezone(here))
        if period not in seen:
            seen.add(period)
            reasons[point.id].append(f"{name} {len(seen)}")
        elif point is good[-1]:
            reasons[point.id].append(f"oldest {name}")


def _decision(point: RecoveryPoint, reasons: Sequence[str]) -> Decision:
    if reasons:
        return Decision(point=point, keep=True, reasons=tuple(reasons))
    bad = "incomplete" if not point.complete else "anomalous" if point.anomalous else "of only some namespaces"
    why = "no rule keeps it" if point.good else f"{bad}, and older than the last good point"
    return Decision(point=point, keep=False, reasons=(why,))
