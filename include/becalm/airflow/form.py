"""The form of a run that a person starts: what can be said, and how it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Param

from becalm.actions.handover import Trigger
from becalm.clock import parse_time
from becalm.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime

FORM = ("note", "slot")
"""What a person can say."""


def params() -> dict[str, Param]:
    """Return the form's fields."""
    return {
        "note": Param(
            "", type="string", maxLength=1000, title="Note", description="Why this run was started. It stands in the recovery point."
        ),
        "slot": Param(
            None,
            type=["null", "string"],
            format="date-time",
            title="Slot",
            description="The slot that this run answers, as 2026-01-31T14:00:00Z. Empty: a recovery point of its own, outside the schedule.",
        ),
    }


def read_form(conf: dict[str, Any], params: dict[str, Any], run_after: datetime) -> tuple[datetime | None, str]:
    """Return the slot and the note that a person gave. Raises UsageError: Airflow itself accepts unknown keys."""
    unknown = sorted(set(conf) - set(FORM))
    if unknown:
        raise UsageError(f"a run does not know {', '.join(unknown)}", where="the run's configuration", hint=f"it knows {', '.join(FORM)}")
    text = params.get("slot")
    try:
        slot = parse_time(text) if text else None
    except ValueError as error:
        raise UsageError(f"{text!r} is no time", where="slot", hint="write it as 2026-01-31T14:00:00Z") from error
    if slot and slot > run_after:
        raise UsageError("a slot in the future cannot be answered yet", where="slot", hint="leave it empty, or name a slot that is due")
    return slot, str(params.get("note") or "")


def trigger_of(run_type: object) -> Trigger:
    """Return what started a run; what Airflow may call otherwise counts as started by hand, and answers no slot."""
    text = str(getattr(run_type, "value", run_type))
    return Trigger(text) if text in set(Trigger) else Trigger.MANUAL
