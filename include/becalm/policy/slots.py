"""Slots: the moments at which a policy owes a recovery point; which are owed, answered, missed, and how late. Pure.

A recovery point answers a slot by carrying it. With `missed: latest` it also answers every slot that came before its cut,
because what a later capture would find is not older than what it found.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from becalm.policy.cron import Cron
from becalm.policy.spec import Missed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from becalm.model import RecoveryPoint

__all__ = ["Cron", "covered", "gaps", "lateness", "owed", "slot_for"]

CLOCKS_DIFFER = timedelta(minutes=5)
"""A cut is told by the storage's clock. One that lies further in the future than this answers no other slot than its own."""


def slot_for(schedule: str | None, timezone: str, run_after: datetime) -> datetime | None:
    """Return the slot that a run of that moment stands for: the latest that is not later. A policy without a schedule has none."""
    return Cron.parse(schedule, timezone).previous(run_after) if schedule else None


def owed(schedule: str | None, timezone: str, *, since: datetime, until: datetime) -> tuple[datetime, ...]:
    """Return the slots from `since` to `until`, both included. Before `since` (the policy's beginning) nothing is owed."""
    if schedule is None or since > until:
        return ()
    return tuple(Cron.parse(schedule, timezone).fires(since - timedelta(microseconds=1), until))


def covered(
    slot: datetime, points: Iterable[RecoveryPoint], *, missed: Missed = Missed.ALL, now: datetime | None = None
) -> RecoveryPoint | None:
    """Return the good point that answers a slot, or nothing. Of several, the earliest cut.

    With `Missed.LATEST` and the present, a point that answers some other slot answers this one too if it was cut after it; one that
    claims to come from the future does not. Without the present, only its own slot counts: rather a capture too many.
    """
    good = sorted((point for point in points if point.good and point.slot is not None), key=lambda point: (point.cut, point.id))
    own = next((point for point in good if point.slot == slot), None)
    if own is not None or missed is Missed.ALL or now is None:
        return own
    return next((point for point in good if slot <= point.cut <= now + CLOCKS_DIFFER), None)


def gaps(
    slots: Sequence[datetime], points: Sequence[RecoveryPoint], *, missed: Missed = Missed.ALL, now: datetime | None = None
) -> tuple[datetime, ...]:
    """Return those of the owed slots that no good point answers, in their order."""
    own = {point.slot for point in points if point.good}
    open_slots = [slot for slot in slots if slot not in own]
    if missed is Missed.ALL or now is None:
        return tuple(open_slots)
    latest = max(
        (point.cut for point in points if point.good and point.slot is not None and point.cut <= now + CLOCKS_DIFFER), default=None
    )
    return tuple(slot for slot in open_slots if latest is None or slot > latest)


def lateness(slot: datetime, cut: datetime) -> timedelta:
    """Return how long after its slot a recovery point was cut; never less than nothing."""
    return max(timedelta(0), cut - slot)
