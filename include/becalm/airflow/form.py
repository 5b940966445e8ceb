"""The form of a run that a person starts: what can be said, and how it is read.

The same words are understood in the form, over REST, and by `becalm run`; `actions/asked.py` checks them for all three.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Param

from becalm.actions.asked import LABEL, LONGEST_NOTE, MOST_PIN_DAYS, NAMESPACE, read
from becalm.actions.handover import Trigger
from becalm.clock import parse_time
from becalm.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from becalm.actions.asked import Asked

FORM = ("note", "slot", "label", "pin_days", "namespaces", "quiesce")
"""What a person can say."""


def params() -> dict[str, Param]:
    """Return the form's fields."""
    return {
        "note": Param(
            "",
            type="string",
            maxLength=LONGEST_NOTE,
            title="Note",
            description="Why this run was started. It stands in the recovery point.",
        ),
        "label": Param(
            None,
            type=["null", "string"],
            pattern=f"^({LABEL})?$",
            title="Label",
            description="A word by which the recovery point is found again, such as before-migration.",
        ),
        "pin_days": Param(
            0,
            type="integer",
            minimum=0,
            maximum=MOST_PIN_DAYS,
            title="Pin for so many days",
            description="Retention leaves the recovery point alone until then. 0: no pin.",
        ),
        "namespaces": Param(
            [],
            type=["array", "null"],
            items={"type": "string", "pattern": f"^{NAMESPACE}$"},
            title="Only these namespaces",
            description="Of those that the policy protects. Such a point is never the last good one, and answers no slot. Empty: all.",
        ),
        "quiesce": Param(
            default=True,
            type="boolean",
            title="Quiesce",
            description="Freeze applications for the moment of the cut. Without it the point is crash-consistent.",
        ),
        "slot": Param(
            None,
            type=["null", "string"],
            format="date-time",
            title="Slot",
            description="The slot that this run answers, as 2026-01-31T14:00:00Z. Empty: a recovery point of its own, outside the schedule.",
        ),
    }


def read_form(conf: dict[str, Any], params: dict[str, Any], run_after: datetime) -> tuple[datetime | None, Asked]:
    """Return the slot, and what else a person asked for. Raises UsageError: Airflow itself accepts unknown keys."""
    unknown = sorted(map(str, set(conf) - set(FORM)))
    if unknown:
        shown = ", ".join(repr(key[:60]) for key in unknown[:5])
        raise UsageError(f"a run does not know {shown}", where="the run's configuration", hint=f"it knows {', '.join(FORM)}")
    text = params.get("slot")
    try:
        slot = parse_time(text) if text else None
    except (ValueError, AttributeError, TypeError) as error:
        raise UsageError(f"{str(text)[:60]!r} is no time", where="slot", hint="write it as 2026-01-31T14:00:00Z") from error
    if slot and slot > run_after:
        raise UsageError("a slot in the future cannot be answered yet", where="slot", hint="leave it empty, or name a slot that is due")
    return slot, read(params, slot=slot)


def trigger_of(run_type: object) -> Trigger:
    """Return what started a run; what Airflow may call otherwise counts as started by hand, and answers no slot."""
    text = str(getattr(run_type, "value", run_type))
    return Trigger(text) if text in set(Trigger) else Trigger.MANUAL
