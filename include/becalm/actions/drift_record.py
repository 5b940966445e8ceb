"""One look at a policy's drift after another: what is new or other than before, what lasts, what is over, what was acknowledged. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from becalm.actions.coverage_record import MOST_LOOKS, MOST_NAMED, carried
from becalm.actions.drift_weight import Weight
from becalm.actions.watch import Message, TroubleKind
from becalm.catalog.coverage import Open
from becalm.catalog.drift import Acknowledged, DriftLook, DriftRecord
from becalm.clock import format_time
from becalm.errors import UsageError
from becalm.model import Severity

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from becalm.actions.drift import Drift, DriftReport

MOST_OPEN = 5_000
"""So many are kept one by one, the weightiest first; the look counts all."""
MOST_FIELDS = 12


def merge(before: DriftRecord | None, found: DriftReport, *, policy: str, point: str, now: datetime) -> DriftRecord:
    """Return the record after a look. Where anything could not be read, nothing counts as over."""
    before = before or DriftRecord(policy=policy)
    unknown = sum(one.severity is not Severity.INFO for one in found.findings)
    holding = tuple(one for one in before.acknowledged if one.until > now)
    known = {(one.where, one.because) for one in holding}
    drifts = [opened(one, now) for one in sorted(found.drifts, key=lambda one: (list(Weight).index(one.weight), str(one.ref)))[:MOST_OPEN]]
    quiet = tuple(one for one in drifts if (one.where, one.because) in known)
    loud = [one for one in drifts if (one.where, one.because) not in known]
    lasting, over = carried(before.open, before.over, loud, unsure=bool(unknown), same=lambda old, new: old.because == new.because)
    hushed = {one.where for one in quiet}
    counts = Counter(one.weight for one in found.drifts)
    look = DriftLook(
        time=now,
        point=point,
        compared=found.compared,
        high=counts[Weight.HIGH],
        medium=counts[Weight.MEDIUM],
        low=counts[Weight.LOW],
        unknown=unknown,
    )
    return DriftRecord(
        policy=policy,
        open=tuple(one for one in lasting if one.where not in hushed),
        quiet=quiet,
        over=tuple(one for one in over if one.where not in hushed),
        acknowledged=holding,
        looks=(*before.looks, look)[-MOST_LOOKS:],
    )


def opened(one: Drift, now: datetime) -> Open:
    """Say in one line what became of an object, who did it, and which fields differ. No value of a Secret is in it: the report has none."""
    held = " and ".join(one.held)
    by = f", by {one.by}" if one.by else ""
    fields = [f"{each.path}{f' by {each.by}' if each.by else ''}" for each in one.fields[:MOST_FIELDS]]
    more = [f"and {len(one.fields) - MOST_FIELDS} more"] if len(one.fields) > MOST_FIELDS else []
    said = f"{one.because} ({held}{by})" + (f": {', '.join([*fields, *more])}" if fields else "")
    return Open(where=str(one.ref), what=f"{one.weight} {one.change}", because=said, since=now)


def messages(record: DriftRecord, *, notify: Sequence[str]) -> tuple[Message, ...]:
    """Return what is to be said now: of all that is new in one message, of all that is over in another. What is of low weight is not told."""
    made = []
    loud = [one for one in record.open if not one.what.startswith(Weight.LOW)]
    if to := tuple(name for name in notify if any(name not in one.told for one in loud)):
        new = [one for one in loud if not set(to) <= set(one.told)]
        made.append(_message(record, new, to=to, ended=False))
    if record.over:
        to = tuple(sorted({name for one in record.over for name in one.told}))
        made.append(_message(record, record.over, to=to, ended=True))
    return tuple(made)


def _message(record: DriftRecord, items: Sequence[Open], *, to: tuple[str, ...], ended: bool) -> Message:
    count = len(items)
    named = "".join(f"- {one.what}: {one.where}: {one.because}\n" for one in items[:MOST_NAMED])
    more = f"- and {count - MOST_NAMED} more\n" if count > MOST_NAMED else ""
    if ended:
        subject = f"Becalm: policy {record.policy}: {count} no longer drifted"
        text = f"As declared and saved again, or acknowledged:\n{named}{more}Nothing is to be done.\n"
    else:
        subject = f"Becalm: policy {record.policy}: {count} newly drifted"
        text = (
            f"What runs is not what was saved or declared:\n{named}{more}"
            f"At risk: whoever applies the declaration, or restores, undoes it; and nobody may have wanted it.\n"
            f"What to do: declare it or take it back; `becalm drift` shows every field, `becalm acknowledge` lets it be until a day.\n"
        )
    since = min(one.since for one in items)
    return Message(
        policy=record.policy,
        kind=TroubleKind.DRIFT,
        ended=ended,
        since=since,
        subject=subject,
        text=f"{text}Since: {format_time(since)[:19]}Z\n",
        to=to,
    )


def acknowledge(record: DriftRecord | None, wanted: Sequence[str], *, until: datetime, who: str, note: str) -> DriftRecord:
    """Return the record with these drifts acknowledged. Raises UsageError: one of them is not open, as of the last look."""
    if record is None:
        raise UsageError("nobody has looked at the drift of this policy yet", hint="give it a section drift, or trigger becalm_drift")
    there = {one.where: one for one in (*record.open, *record.quiet)}
    unknown = [name for name in wanted if name not in there]
    if unknown:
        open_ = ", ".join(list(there)[:5]) or "nothing"
        raise UsageError(f"{unknown[0]} did not drift at the last look", where=f"policy {record.policy}", hint=f"open is {open_}")
    new = tuple(Acknowledged(where=name, because=there[name].because, until=until, who=who, note=note) for name in wanted)
    names = set(wanted)
    return replace(
        record,
        open=tuple(one for one in record.open if one.where not in names),
        quiet=tuple(one for name, one in there.items() if name in names or one in record.quiet),
        acknowledged=(*(one for one in record.acknowledged if one.where not in names), *new),
    )
