"""Cron expressions as sets of moments, against a slow oracle that looks at every minute."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from becalm.policy.cron import PRESETS, Cron
from becalm.policy.problems import Problem

ZURICH = "Europe/Zurich"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def fires(expression: str, timezone: str, after: str, until: str) -> list[str]:
    return [moment.isoformat()[:16] for moment in Cron.parse(expression, timezone).fires(utc(after), utc(until))]


@pytest.mark.parametrize(
    ("expression", "hours"),
    [
        ("* * * * *", 1 / 60),
        ("0 * * * *", 1),
        ("*/7 * * * *", 7 / 60),
        ("0 9-17 * * *", 16),
        ("@daily", 24),
        ("0 3 * * mon-fri", 72),
        ("@weekly", 168),
        ("@monthly", 31 * 24),
        ("@yearly", 366 * 24),
        ("0 0 29 2 *", 1461 * 24),
    ],
)
def test_the_longest_gap_is_that_of_the_wall_clock(expression: str, hours: float) -> None:
    """Nights, week ends, the longest month and the rarest day count; a clock that jumps does not."""
    gap = Cron.parse(expression, ZURICH).longest_gap()

    assert gap.total_seconds() / 3600 == pytest.approx(hours)


def test_moments_begin_after_the_first_bound_and_end_with_the_last() -> None:
    """So that two neighbouring spans never share a slot, and none is lost between them."""
    assert fires("0 * * * *", "UTC", "2026-06-15T12:00", "2026-06-15T14:00") == ["2026-06-15T13:00", "2026-06-15T14:00"]


def test_a_restricted_day_and_a_restricted_weekday_mean_either() -> None:
    """As in every cron: the 13th, and every Friday."""
    assert fires("0 0 13 * fri", "UTC", "2026-02-01T00:00", "2026-02-25T00:00") == [
        "2026-02-06T00:00",
        "2026-02-13T00:00",
        "2026-02-20T00:00",
    ]


def test_a_time_that_the_clock_skips_is_meant_as_long_after_the_jump() -> None:
    """On 2026-03-29 at 02:00 Zurich's clock jumps to 03:00: 02:30 is then 03:30, which is 01:30 UTC."""
    assert fires("30 2 * * *", ZURICH, "2026-03-28T00:00", "2026-03-30T12:00") == [
        "2026-03-28T01:30",
        "2026-03-29T01:30",
        "2026-03-30T00:30",
    ]


def test_two_times_that_fall_together_after_a_jump_are_one() -> None:
    """02:00 and 03:00 are the same moment on that day."""
    assert fires("0 2,3 * * *", ZURICH, "2026-03-29T00:00", "2026-03-29T12:00") == ["2026-03-29T01:00"]


def test_a_time_that_the_clock_shows_twice_is_meant_the_second_time() -> None:
    """On 2026-10-25 at 03:00 Zurich's clock goes back to 02:00: 02:30 comes at 00:30 and 01:30 UTC."""
    assert fires("30 2 * * *", ZURICH, "2026-10-24T12:00", "2026-10-25T12:00") == ["2026-10-25T01:30"]


def test_an_hourly_schedule_runs_through_both_hours_that_the_clock_shows_twice() -> None:
    """No hour of real time is without its slot, and none has two."""
    expected = [f"2026-10-{day:02}T{hour:02}:15" for day, hour in [(24, 22), (24, 23), (25, 0), (25, 1), (25, 2)]]

    assert expected == fires("15 * * * *", ZURICH, "2026-10-24T22:00", "2026-10-25T03:00")


def test_an_hourly_schedule_keeps_its_step_through_a_skipped_hour() -> None:
    """01:00, 03:00 on the wall are one hour apart."""
    assert fires("@hourly", ZURICH, "2026-03-28T23:00", "2026-03-29T02:00") == ["2026-03-29T00:00", "2026-03-29T01:00", "2026-03-29T02:00"]


def test_the_leap_day_is_found_across_a_century_without_one() -> None:
    """Between 2096 and 2104 there is no 29th of February."""
    cron = Cron.parse("0 0 29 2 *")

    assert utc("2104-02-29") == cron.next(utc("2096-02-29"))
    assert utc("2096-02-29") == cron.previous(utc("2104-02-28"))


def test_previous_counts_the_moment_itself_and_next_does_not() -> None:
    """A run at its tick stands for that tick."""
    cron = Cron.parse("@daily", ZURICH)
    tick = utc("2026-06-14T22:00")

    assert tick == cron.previous(tick)
    assert tick + timedelta(days=1) == cron.next(tick)


def test_a_day_that_a_country_skipped_is_made_up_after_it() -> None:
    """Samoa had no 30 December 2011: its noon falls together with the next."""
    assert fires("0 12 * * *", "Pacific/Apia", "2011-12-29T00:00", "2012-01-01T00:00") == [
        "2011-12-29T22:00",
        "2011-12-30T22:00",
        "2011-12-31T22:00",
    ]


@pytest.mark.parametrize(("preset", "expression"), PRESETS.items())
def test_a_preset_is_written_out(preset: str, expression: str) -> None:
    """Airflow is given five fields."""
    assert expression == Cron.parse(preset).expression


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", '"" has 0 fields and not five'),
        ("* * * *", '"* * * *" has 4 fields and not five'),
        ("* * * * * *", '"* * * * * *" has 6 fields and not five'),
        ("60 * * * *", "60 cannot be the minute: it goes from 0 to 59"),
        ("* 24 * * *", "24 cannot be the hour: it goes from 0 to 23"),
        ("* * 0 * *", "0 cannot be the day of the month: it goes from 1 to 31"),
        ("* * * 13 *", "13 cannot be the month: it goes from 1 to 12"),
        ("* * * * 8", "8 cannot be the weekday: it goes from 0 to 7"),
        ("* * * * 1#2", '"1#2" cannot be the weekday'),
        ("* * L * *", '"L" cannot be the day of the month'),
        ("* * ? * *", '"?" cannot be the day of the month'),
        ("*/0 * * * *", '"*/0" has a step that is not between 1 and 59'),
        ("*/70 * * * *", '"*/70" has a step that is not between 1 and 59'),
        ("5/10 * * * *", '"5/10" has a step without a range'),
        ("* 22-3 * * *", 'the range "22-3" runs backwards in the hour'),
        ("*,5 * * * *", '"*,5" mixes * with other values in the minute'),
        ("1,,2 * * * *", '"" cannot be the minute'),
        ("٣ * * * *", '"٣" cannot be the minute'),
        ("0 0 31 2,4 *", '"0 0 31 2,4 *" names a day that no month has'),
        ("@reboot", '"@reboot" is no schedule'),
    ],
)
def test_what_is_no_schedule_is_refused_with_a_remedy(text: str, problem: str) -> None:
    """Extensions of single crons, which others read otherwise, are not guessed at."""
    with pytest.raises(Problem) as refused:
        Cron.parse(text)

    assert problem == refused.value.problem
    assert refused.value.remedy


@pytest.mark.parametrize("name", ["Europe/Zuerich", "../../etc/passwd", "/etc/localtime", "Europe", "", "UTC+1", "\0", "x" * 500])
def test_an_unknown_time_zone_is_refused(name: str) -> None:
    """Whatever the machine's list would make of the name."""
    with pytest.raises(Problem):
        Cron.parse("@daily", name)


# --- the oracle -----------------------------------------------------------------------------------------------------------

RANGES = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 6)}


@st.composite
def a_field(draw: st.DrawFn, name: str) -> tuple[str, set[int]]:
    """Return the text of a field and, apart from any parser, the numbers it means."""
    low, high = RANGES[name]
    shape = draw(st.sampled_from(["star", "step", "list", "range", "range-step"]))
    if shape == "star":
        return "*", set(range(low, high + 1))
    if shape == "step":
        step = draw(st.integers(1, high))
        return f"*/{step}", {number for number in range(low, high + 1) if (number - low) % step == 0}
    if shape == "list":
        numbers = draw(st.lists(st.integers(low, high), min_size=1, max_size=4))
        return ",".join(map(str, numbers)), set(numbers)
    first, last = sorted((draw(st.integers(low, high)), draw(st.integers(low, high))))
    if shape == "range":
        return f"{first}-{last}", {number for number in range(low, high + 1) if first <= number <= last}
    step = draw(st.integers(1, high))
    return f"{first}-{last}/{step}", {first + step * count for count in range(high + 1) if first + step * count <= last}


@cache
def observed(timezone: str, start: datetime, minutes: int) -> list[tuple[datetime, datetime]]:
    """Return every minute of real time with what a wall clock shows then."""
    moments = [start + timedelta(minutes=count) for count in range(minutes)]
    return [(moment, moment.astimezone(ZoneInfo(timezone)).replace(tzinfo=None, fold=0)) for moment in moments]


def oracle(texts: dict[str, str], meant: dict[str, set[int]], timezone: str, start: datetime, minutes: int) -> list[datetime]:
    """Walk over every minute of real time, read the wall clock, and compare it with the fields."""
    walls = observed(timezone, start, minutes)
    shown = Counter(wall for _, wall in walls)

    def matches(wall: datetime) -> bool:
        days, weekday = wall.day in meant["day"], wall.isoweekday() % 7 in meant["weekday"]
        either = texts["day"] not in ("*", "*/1") and len(meant["weekday"]) < 7
        right_day = (days or weekday) if either else (days and weekday)
        return wall.minute in meant["minute"] and wall.hour in meant["hour"] and wall.month in meant["month"] and right_day

    found: set[datetime] = set()
    seen: set[datetime] = set()
    for number, (moment, wall) in enumerate(walls):
        if matches(wall) and (shown[wall] == 1 or wall in seen or len(meant["hour"]) == 24):
            found.add(moment)
        seen.add(wall)
        skipped = int((wall - walls[number - 1][1]) / timedelta(minutes=1)) - 1 if number else 0
        for late in range(max(0, skipped)):
            if matches(walls[number - 1][1] + timedelta(minutes=1 + late)):
                found.add(moment + timedelta(minutes=late))
    return sorted(found)


@given(
    st.fixed_dictionaries({name: a_field(name) for name in RANGES}),
    st.sampled_from(["UTC", ZURICH, "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Santiago"]),
    st.sampled_from(
        [
            "2026-03-28T00:00",
            "2026-10-24T00:00",
            "2026-10-31T12:00",
            "2026-04-04T00:00",
            "2026-09-05T00:00",
            "2024-02-28T00:00",
            "2025-12-30T12:00",
        ]
    ),
)
@settings(deadline=None)
def test_the_moments_are_those_that_an_observer_of_the_wall_clock_names(
    fields: dict[str, tuple[str, set[int]]], timezone: str, around: str
) -> None:
    """Over a day, around changes of the clock, the leap day and the end of the year."""
    texts = {name: text for name, (text, _) in fields.items()}
    meant = {name: numbers for name, (_, numbers) in fields.items()}
    start = utc(around)
    after, until = start + timedelta(hours=12), start + timedelta(hours=36)
    try:
        cron = Cron.parse(" ".join(texts[name] for name in RANGES), timezone)
    except Problem as found:
        assert "no month has" in found.problem
        return

    expected = [moment for moment in oracle(texts, meant, timezone, start, 48 * 60) if after < moment <= until]

    assert expected == list(cron.fires(after, until))
    assert (expected[-1] if expected else None) == next((moment for moment in [cron.previous(until)] if moment and moment > after), None)
    assert (expected[0] if expected else None) == next((moment for moment in [cron.next(after)] if moment and moment <= until), None)


@given(st.text(alphabet="*/,-0123456789 @adhnotwLW#?", max_size=20))
@settings(deadline=None)
def test_any_text_is_a_schedule_or_a_problem(text: str) -> None:
    """Nothing else comes out."""
    try:
        cron = Cron.parse(text)
    except Problem as found:
        assert found.problem
    else:
        assert cron.next(utc("2026-01-01")) is not None
