"""What the proof of a backfill (`tests/prove/backfill.py`) accepts, and what it names."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.prove.backfill import Slot, judge

from becalm.catalog.history import RunRecord
from becalm.testing.builders import NOON

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
MADE = tuple(
    RunRecord(
        run=f"r{number}",
        run_id=f"backfill-{number}",
        trigger="backfill",
        started=NOON + number * MINUTE,
        ended=NOON + number * MINUTE + MINUTE / 2,
        slot=NOON + (number - 9) * DAY,
        ok=True,
        point=f"p{number}",
        complete=True,
    )
    for number in range(3)
)
GRID = tuple(Slot(slot=NOON + (number - 9) * DAY, run="success", begin="success", others=("success",), reason="") for number in range(3))
WHY = "the slot 2026-06-07 is answered by recovery point abcdef01 of 2026-06-15"
LATEST = (GRID[0], *(replace(slot, begin="skipped", others=("skipped",), reason=WHY) for slot in GRID[1:]))


def test_three_points_in_order_and_one_for_three_are_what_must_be() -> None:
    """`all` makes each, `latest` makes the first and says why it makes no other."""
    every, one = judge("all", 3, GRID, MADE), judge("latest", 3, LATEST, MADE[:1])

    assert (every.bad, every.made, every.skipped) == ([], 3, 0)
    assert (one.bad, one.made, one.skipped) == ([], 1, 2)


def test_a_scheduled_run_beside_a_backfill_counts_only_in_that_it_must_not_overlap() -> None:
    """Airflow schedules the newest slot of a new policy once it has any run."""
    scheduled = replace(MADE[2], run="s", trigger="scheduled", slot=NOON, started=MADE[0].ended, ended=MADE[1].started)
    beside, upon = judge("all", 3, GRID, (*MADE, scheduled)), judge("all", 3, GRID, (*MADE, replace(scheduled, ended=MADE[1].ended)))

    assert (beside.bad, beside.made) == ([], 3)
    assert any("began before" in line for line in upon.bad)


@pytest.mark.parametrize(
    ("grid", "records", "words"),
    [
        (GRID, (MADE[0], MADE[1], replace(MADE[2], started=MADE[1].ended - MINUTE / 4)), "began before"),
        (GRID, (MADE[0], replace(MADE[1], slot=MADE[2].slot), replace(MADE[2], slot=MADE[1].slot)), "not in the order"),
        (GRID, MADE[:2], "2 points"),
        (GRID, (*MADE[:2], replace(MADE[2], complete=False)), "not a whole recovery point"),
        ((*GRID[:2], replace(GRID[2], run="failed")), MADE, "the run ended failed"),
        (GRID[:2], MADE, "2 runs"),
    ],
)
def test_what_all_must_not_be_is_named(grid: tuple[Slot, ...], records: tuple[RunRecord, ...], words: str) -> None:
    """Two at once, another order, one too few, one that is not whole, a run that failed."""
    assert any(words in line for line in judge("all", 3, grid, records).bad)


@pytest.mark.parametrize(
    ("slot", "words"),
    [
        (replace(LATEST[2], reason=""), "nothing says why"),
        (replace(LATEST[2], others=("skipped", "success")), "yet tasks ended"),
        (GRID[2], "1 skipped"),
    ],
)
def test_what_latest_must_not_be_is_named(slot: Slot, words: str) -> None:
    """A skip without its reason, a task that ran after all, a slot that was made."""
    assert any(words in line for line in judge("latest", 3, (*LATEST[:2], slot), MADE[:1]).bad)
