"""Retention: which recovery points stay, against an oracle that knows the rules and not the program."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from becalm.errors import PermanentError
from becalm.policy.retention import plan
from becalm.policy.spec import Retention
from becalm.testing.builders import NOON, a_point, days, hours

if TYPE_CHECKING:
    from collections.abc import Sequence

    from becalm.model import RecoveryPoint

ZURICH = "Europe/Zurich"


def kept(points: Sequence[RecoveryPoint], rules: Retention, now: datetime = NOON, timezone: str = "UTC") -> set[str]:
    return {decision.point.id for decision in plan(points, rules, now, timezone=timezone) if decision.keep}


def reasons(
    points: Sequence[RecoveryPoint], rules: Retention, now: datetime = NOON, timezone: str = "UTC"
) -> list[tuple[bool, tuple[str, ...]]]:
    return [(decision.keep, decision.reasons) for decision in plan(points, rules, now, timezone=timezone)]


def test_every_rule_that_keeps_a_point_is_named() -> None:
    """The newest first; what no rule keeps says so."""
    points = [a_point(age=hours(age)) for age in (0, 1, 24, 30)]

    assert reasons(points, Retention(last=1, daily=2)) == [
        (True, ("last good point", "last 1", "daily 1")),
        (False, ("no rule keeps it",)),
        (True, ("daily 2",)),
        (False, ("no rule keeps it",)),
    ]


def test_the_last_good_point_stays_when_newer_ones_failed() -> None:
    """Failures that go on for a year must not expire the last success."""
    failed = [a_point(age=days(age), complete=False) for age in range(5)]
    good = a_point(age=days(400))

    assert reasons([*failed, good], Retention(last=1))[-1] == (True, ("last good point", "last 1"))


def test_incomplete_points_fill_no_rule_and_stay_only_while_they_are_newer_than_the_last_good_one() -> None:
    """They help where there is nothing better."""
    points = [a_point(age=days(0), complete=False), a_point(age=days(1)), a_point(age=days(2), complete=False), a_point(age=days(3))]

    assert reasons(points, Retention(last=2)) == [
        (True, ("newer than the last good point",)),
        (True, ("last good point", "last 1")),
        (False, ("incomplete, and older than the last good point",)),
        (True, ("last 2",)),
    ]


def test_without_any_good_point_nothing_goes() -> None:
    """What is incomplete may be all there is."""
    points = [a_point(age=days(age), complete=False) for age in (0, 400)]

    assert reasons(points, Retention(last=1)) == [(True, ("there is no good point before it",))] * 2


def test_pinned_and_locked_points_stay_and_say_until_when() -> None:
    """A lock that is over protects no more."""
    points = [
        a_point(),
        a_point(age=days(30), pinned=True),
        a_point(age=days(40), locked_until=NOON + days(1)),
        a_point(age=days(50), locked_until=NOON),
    ]

    assert reasons(points, Retention(last=1)) == [
        (True, ("last good point", "last 1")),
        (True, ("pinned",)),
        (True, ("locked until 2026-06-16T12:00:00Z",)),
        (False, ("no rule keeps it",)),
    ]


def test_a_point_from_the_future_stays_and_takes_nobodys_place() -> None:
    """Some clock is wrong; that must not make true points go."""
    points = [a_point(cut=NOON + days(365)), a_point(), a_point(age=days(1))]

    assert reasons(points, Retention(last=1)) == [
        (True, ("cut in the future: it is 2026-06-15T12:00:00Z",)),
        (True, ("last good point", "last 1")),
        (False, ("no rule keeps it",)),
    ]


def test_a_point_dated_before_its_slot_stays() -> None:
    """A storage whose clock stands in the past must not lose what it has just captured."""
    points = [a_point(age=days(1)), a_point(cut=NOON - days(365), slot=NOON)]

    assert reasons(points, Retention(last=1))[-1] == (True, ("cut before its slot 2026-06-15T12:00:00Z: a clock was wrong",))


@pytest.mark.parametrize("now", [NOON + days(365), NOON - days(365), NOON - hours(1), datetime(1970, 1, 1, tzinfo=UTC)])
def test_a_wrong_present_makes_nothing_go_that_stays_today(now: datetime) -> None:
    """No rule measures an age from now."""
    rules = Retention(last=2, daily=3, monthly=2, within="10d")
    points = [a_point(age=hours(7 * number)) for number in range(60)]

    assert kept(points, rules) <= kept(points, rules, now)


def test_within_reaches_back_from_the_newest_good_point() -> None:
    """A schedule that stood still for a year has not lost its last fortnight."""
    points = [a_point(age=days(age)) for age in (365, 370, 379, 379.1, 380)]

    assert [keep for keep, _ in reasons(points, Retention(within="14d"))] == [True, True, True, False, False]


def test_days_are_those_of_the_policys_time_zone() -> None:
    """22:30 UTC is already tomorrow in Zurich."""
    points = [a_point(cut=datetime(2026, 6, 14, hour, 30, tzinfo=UTC)) for hour in (21, 22)]

    assert [points[1].id] == sorted(kept(points, Retention(daily=1)))
    assert [points[1].id] == sorted(kept(points, Retention(daily=1), timezone=ZURICH))
    assert reasons(points, Retention(daily=2), timezone=ZURICH)[0][1] == ("last good point", "daily 1")
    assert [reasons(points, Retention(daily=2), timezone=zone)[1][1] for zone in ("UTC", ZURICH)] == [("oldest daily",), ("daily 2",)]


def test_the_two_hours_that_a_clock_shows_twice_are_two() -> None:
    """00:30 and 01:30 UTC on 2026-10-25 are both 02:30 in Zurich."""
    points = [a_point(cut=datetime(2026, 10, 25, hour, 30, tzinfo=UTC)) for hour in (0, 1)]
    decisions = reasons(points, Retention(hourly=2), now=datetime(2026, 11, 1, tzinfo=UTC), timezone=ZURICH)

    assert decisions == [(True, ("last good point", "hourly 1")), (True, ("hourly 2",))]


def test_a_leap_day_is_a_day_and_the_last_week_of_a_year_may_begin_the_next() -> None:
    """ISO weeks: 2024-12-30 belongs to the first week of 2025."""
    leap = [a_point(cut=datetime(2024, 2, day, 12, tzinfo=UTC)) for day in (28, 29)]
    turn = [a_point(cut=datetime(2024, 12, 30, tzinfo=UTC)), a_point(cut=datetime(2025, 1, 2, tzinfo=UTC))]

    assert len(kept(leap, Retention(daily=2))) == 2
    assert {turn[1].id} == kept(turn, Retention(weekly=1))


def test_a_rule_that_is_not_yet_full_keeps_the_oldest_point_too() -> None:
    """As restic does: history grows to its full length from the first day."""
    points = [a_point(age=hours(age)) for age in (0, 1, 2)]

    assert reasons(points, Retention(yearly=3)) == [
        (True, ("last good point", "yearly 1")),
        (False, ("no rule keeps it",)),
        (True, ("oldest yearly",)),
    ]


def test_points_of_several_policies_are_refused() -> None:
    """One policy's retention must never reach another's points."""
    with pytest.raises(PermanentError, match="several policies: cart, shop"):
        plan([a_point(policy="shop"), a_point(policy="cart")], Retention(last=1), NOON)


def test_the_same_point_twice_is_refused() -> None:
    """A double would count twice, and could then be deleted once."""
    point = a_point()

    with pytest.raises(PermanentError, match="twice"):
        plan([point, point], Retention(last=1), NOON)


def test_no_points_need_no_decision() -> None:
    """A new policy has none."""
    assert plan([], Retention(last=1), NOON) == ()


def test_a_date_at_the_edge_of_the_calendar_is_no_accident() -> None:
    """What stands in a bucket may say anything."""
    points = [a_point(cut=datetime(1, 1, 1, tzinfo=UTC)), a_point(cut=datetime(9999, 12, 31, 23, 59, tzinfo=UTC)), a_point()]

    assert len(plan(points, Retention(daily=1), NOON, timezone="America/Santiago")) == 3


# --- the oracle -----------------------------------------------------------------------------------------------------------

FORMATS = {"hourly": "%Y-%m-%d %H %z", "daily": "%Y-%m-%d", "weekly": "%G week %V", "monthly": "%Y-%m", "yearly": "%Y"}


def oracle(points: Sequence[RecoveryPoint], rules: Retention, now: datetime, timezone: str) -> set[str]:
    """Say what stays, from the sentences of the documentation: sets and sorted calendars, no walk over the points."""
    stays = {point.id for point in points if point.pinned or point.cut > now}
    stays |= {point.id for point in points if point.locked_until and now < point.locked_until}
    stays |= {point.id for point in points if point.slot and point.cut + timedelta(days=1) < point.slot}
    good = {(point.cut, point.id) for point in points if point.complete and point.cut <= now}
    if not good:
        newest = max(((point.cut, point.id) for point in points if point.complete), default=(None, ""))
        return stays | {newest[1]} | {point.id for point in points if not point.complete}
    newest_cut, newest_id = max(good)
    stays |= {newest_id} | {point.id for point in points if not point.complete and point.cut > newest_cut}
    if rules.within:
        stays |= {name for cut, name in good if cut + rules.within >= newest_cut}
    stays |= {name for _, name in sorted(good)[len(good) - min(rules.last or 0, len(good)) :]}
    for rule, calendar in FORMATS.items():
        wanted = getattr(rules, rule)
        if wanted:
            periods: dict[str, list[tuple[datetime, str]]] = defaultdict(list)
            for cut, name in good:
                periods[cut.astimezone(ZoneInfo(timezone)).strftime(calendar)].append((cut, name))
            champions = sorted((max(members) for members in periods.values()), reverse=True)
            stays |= {name for _, name in champions[:wanted]}
            stays |= {min(good)[1]} if len(periods) < wanted else set()
    return stays


some_rules = (
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("last", "hourly", "daily", "weekly", "monthly", "yearly"), st.integers(1, 6)),
            "within": st.sampled_from(["1h", "1d", "14d", "400d"]),
        },
    )
    .filter(bool)
    .map(Retention.model_validate)
)

bases = st.sampled_from(
    [
        datetime(2026, 3, 29, 1, 30, tzinfo=UTC),
        datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
        datetime(2024, 2, 29, 12, tzinfo=UTC),
        datetime(2025, 1, 1, tzinfo=UTC),
        NOON,
    ]
)
steps = st.one_of(
    st.integers(0, 50).map(lambda count: timedelta(minutes=30 * count)),
    st.integers(-40, 900).map(lambda count: timedelta(hours=11 * count)),
)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[RecoveryPoint], datetime]:
    """Return points of one policy and a present: around changes of the clock, with doubles in time, failures, pins, locks and the future."""
    base = draw(bases)
    points: dict[str, RecoveryPoint] = {}
    for number, step in enumerate(draw(st.lists(steps, max_size=25))):
        lock = draw(st.sampled_from([None, None, None, base - days(1), base + days(3)]))
        point = a_point(
            cut=base - step,
            id=f"{number:064x}",
            complete=draw(st.sampled_from([True, True, True, False])),
            pinned=draw(st.sampled_from([False] * 9 + [True])),
            locked_until=lock,
            slot=draw(st.sampled_from([None, base - step, base - step, base + days(300)])) if draw(st.booleans()) else None,
        )
        points[point.id] = point
    now = draw(st.sampled_from([base, base + timedelta(seconds=1), base + days(365), base - days(365), base - hours(30)]))
    return list(points.values()), now


ZONES = st.sampled_from(["UTC", ZURICH, "America/St_Johns", "Asia/Kathmandu"])


@given(histories(), some_rules, ZONES)
@settings(deadline=None)
def test_what_stays_is_what_the_documentation_says(history: tuple[list[RecoveryPoint], datetime], rules: Retention, timezone: str) -> None:
    """Over policies, points and clocks."""
    points, now = history

    assert oracle(points, rules, now, timezone) - {""} == kept(points, rules, now, timezone)


@given(histories(), some_rules, some_rules, ZONES)
@settings(deadline=None)
def test_a_longer_policy_never_takes_more(
    history: tuple[list[RecoveryPoint], datetime], rules: Retention, more: Retention, timezone: str
) -> None:
    """Adding to a rule, or adding a rule, only ever keeps more points."""
    points, now = history
    longer: dict[str, object] = {}
    for key in Retention.model_fields:
        values = [value for value in (getattr(rules, key), getattr(more, key)) if value is not None]
        longer |= {key: max(values)} if values else {}

    assert kept(points, rules, now, timezone) <= kept(points, Retention.model_validate(longer), now, timezone)


@given(histories(), some_rules, ZONES, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_decision_depends_on_no_order_and_holds_when_it_is_asked_again(
    history: tuple[list[RecoveryPoint], datetime], rules: Retention, timezone: str, random: object
) -> None:
    """What was kept is kept the next time, in whatever order the bucket lists it."""
    points, now = history
    first = plan(points, rules, now, timezone=timezone)
    random.shuffle(points)  # type: ignore[attr-defined]
    survivors = [decision.point for decision in first if decision.keep]

    assert first == plan(points, rules, now, timezone=timezone)
    assert {point.id for point in survivors} == kept(survivors, rules, now, timezone)


@given(histories(), some_rules)
@settings(deadline=None)
def test_every_decision_has_a_reason_and_a_good_point_is_always_left(
    history: tuple[list[RecoveryPoint], datetime], rules: Retention
) -> None:
    """An operator can always ask why."""
    points, now = history
    decisions = plan(points, rules, now)

    assert all(decision.reasons for decision in decisions)
    assert any(point.good for point in points) == any(decision.keep and decision.point.good for decision in decisions)
