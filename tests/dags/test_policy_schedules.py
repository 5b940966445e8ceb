"""A policy's slots are the ticks that Airflow makes runs for: otherwise a gap would be seen where there is none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pendulum
import pytest
from airflow.timetables.trigger import CronTriggerTimetable

from becalm.policy.cron import PRESETS, Cron

EXPRESSIONS = [
    "0 * * * *",
    "15,45 * * * *",
    "0 0-23 * * *",
    "0 2 * * *",
    "30 2 * * *",
    "0 2,3 * * *",
    "0 */2 * * *",
    "0 4 28 * 0",
    "0 0 */2 * 1",
    "0 0 1-31 * 1",
    "0 0 * * 5-7",
    "*/7 5-9/2 * jan-apr,oct-dec mon-fri",
    "0 12 * * sat-sun",
    *sorted(PRESETS),
]
CHANGES = ["2026-03-28T00:00", "2026-10-24T00:00", "2026-03-07T00:00", "2026-09-05T00:00", "2027-12-30T00:00"]
"""A day before clocks change: Zurich's both ways, St John's, Santiago's; and the end of a year."""


def airflow_ticks(cron: Cron, after: datetime, until: datetime) -> list[datetime]:
    """Ask Airflow's own timetable for one tick after the other."""
    timetable = CronTriggerTimetable(cron.expression, timezone=cron.timezone)
    ticks: list[datetime] = []
    current = pendulum.instance(after)
    while (current := timetable._get_next(current)) <= until:
        ticks.append(datetime.fromtimestamp(current.timestamp(), UTC))
    return ticks


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize("timezone", ["UTC", "Europe/Zurich", "America/St_Johns", "America/Santiago"])
def test_slots_are_the_ticks_of_airflows_timetable(expression: str, timezone: str) -> None:
    """Over the days around changes of the clock, where they differ most easily.

    Not compared: clocks that change by half an hour (Lord Howe), where Airflow adds a tick at the half hour, and several minutes of
    one skipped hour, where Airflow's ticks depend on when it was started.
    """
    cron = Cron.parse(expression, timezone)
    spans = [(start, start + timedelta(days=4)) for start in (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in CHANGES)]

    assert [list(cron.fires(*span)) for span in spans] == [airflow_ticks(cron, *span) for span in spans]
