"""The watch over the objectives: which troubles a policy has, and which messages are due for them. Pure.

It looks at what is in the bucket, never at runs: what never ran is a trouble like any other. One event is one message, which says what is
at risk, since when, and what to do; its end is a message too. Sending is the edge's business.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from becalm.actions.objectives import SlotState
from becalm.catalog.announced import Announced
from becalm.clock import format_time
from becalm.policy.units import format_duration, span

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from becalm.actions.objectives import PolicyStatus


class TroubleKind(StrEnum):
    """What is wrong."""

    RPO = "rpo"
    """The last good point is older than the objective allows."""
    MISSED = "missed"
    """Slots go by and no run answers them."""
    FAILED = "failed"
    """The newest runs failed."""
    UNREACHABLE = "unreachable"
    """The bucket cannot be read."""
    BROKEN = "broken"
    """The policy's file cannot be followed."""
    DRILL = "drill"
    """The last drill did not succeed."""
    DRIFT = "drift"
    """What runs is not what was saved, or declared. The DAG of drift tells it, not this watch."""
    COVERAGE = "coverage"
    """State that no policy covers, or a claim that does not hold. The DAG of coverage tells it, not this watch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One thing that is wrong with a policy, now."""

    kind: TroubleKind
    since: datetime
    what: str
    risk: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is to be sent, once, to whom."""

    policy: str
    kind: TroubleKind
    ended: bool
    since: datetime
    subject: str
    text: str
    to: tuple[str, ...]
    """The connections that have not been told yet."""


def troubles(found: PolicyStatus) -> tuple[Trouble, ...]:
    """Say what is wrong with a policy now."""
    if not found.reached:
        return (_unreachable(found),)
    made = (_rpo(found), _missed(found), _failed(found), _drill(found))
    return tuple(trouble for trouble in made if trouble is not None)


def broken(problem: str, *, now: datetime) -> Trouble:
    """Return the trouble of a policy whose file cannot be followed."""
    return Trouble(
        kind=TroubleKind.BROKEN,
        since=now,
        what="The policy cannot be followed: " + problem,
        risk="Nothing is protected by it until it is mended.",
        remedy="Mend the file; `becalm policy check` says whether it is sound.",
    )


def messages(
    policy: str, now_wrong: Sequence[Trouble], before: Sequence[Announced], *, notify: Sequence[str], now: datetime
) -> tuple[Message, ...]:
    """Return what is to be said now: each new trouble, each one that somebody has not heard of, and each that ended."""
    known = {one.kind: one for one in before}
    wrong = {trouble.kind: trouble for trouble in now_wrong}
    begun = [
        _begun(policy, trouble, to=to)
        for trouble in now_wrong
        if (to := tuple(name for name in notify if trouble.kind not in known or name not in known[trouble.kind].told))
    ]
    ended = [_ended(policy, one, now=now) for one in before if one.kind not in wrong and one.told and _lifted(one, wrong)]
    return (*begun, *ended)


def after(
    now_wrong: Sequence[Trouble], before: Sequence[Announced], sent: Iterable[tuple[Message, Mapping[str, str]]]
) -> tuple[Announced, ...]:
    """Return what is to be remembered: each trouble that lasts, with those who were told, and each end that somebody has not heard of.

    `sent` gives each message with the errors by connection.
    """
    wrong = {trouble.kind: trouble for trouble in now_wrong}
    reached: dict[tuple[str, bool], set[str]] = {}
    for message, errors in sent:
        reached.setdefault((message.kind, message.ended), set()).update(name for name in message.to if name not in errors)
    known = {one.kind: one for one in before}
    kept = [
        Announced(
            kind=kind,
            since=known[kind].since if kind in known else trouble.since,
            told=tuple(sorted({*(known[kind].told if kind in known else ()), *reached.get((kind, False), ())})),
            text=trouble.what[:300],
        )
        for kind, trouble in wrong.items()
    ]
    for one in before:
        if one.kind in wrong:
            continue
        left = tuple(name for name in one.told if name not in reached.get((one.kind, True), ()))
        if left and _lifted(one, wrong):
            kept.append(replace(one, told=left))
        elif left:
            kept.append(one)
    return tuple(kept)


def _lifted(one: Announced, wrong: Mapping[TroubleKind, Trouble]) -> bool:
    """Say whether an old trouble is known to be over: while the bucket cannot be read, nothing in it is."""
    return one.kind in (TroubleKind.UNREACHABLE, TroubleKind.BROKEN) or not {TroubleKind.UNREACHABLE, TroubleKind.BROKEN} & set(wrong)


def _begun(policy: str, trouble: Trouble, *, to: tuple[str, ...]) -> Message:
    since = format_time(trouble.since)[:19] + "Z"
    text = f"{trouble.what}\nAt risk: {trouble.risk}\nSince: {since}\nWhat to do: {trouble.remedy}\n"
    return Message(
        policy=policy,
        kind=trouble.kind,
        ended=False,
        since=trouble.since,
        subject=f"Becalm: {policy}: {HEADLINE[trouble.kind]}",
        text=text,
        to=to,
    )


def _ended(policy: str, one: Announced, *, now: datetime) -> Message:
    kind = TroubleKind(one.kind)
    lasted = span(now - one.since)
    text = f"This is over: {one.text or HEADLINE[kind]}\nIt began {format_time(one.since)[:19]}Z and lasted {lasted}.\nNothing is to be done.\n"
    return Message(
        policy=policy,
        kind=kind,
        ended=True,
        since=one.since,
        subject=f"Becalm: {policy}: well again ({HEADLINE[kind]})",
        text=text,
        to=one.told,
    )


HEADLINE = {
    TroubleKind.RPO: "the last good recovery point is too old",
    TroubleKind.MISSED: "slots go by without a run",
    TroubleKind.FAILED: "the newest run failed",
    TroubleKind.UNREACHABLE: "its recovery points cannot be read",
    TroubleKind.BROKEN: "the policy cannot be followed",
    TroubleKind.DRILL: "the last drill failed",
    TroubleKind.COVERAGE: "state is not covered",
    TroubleKind.DRIFT: "what runs has drifted",
}


def _rpo(found: PolicyStatus) -> Trouble | None:
    if found.met is not False or found.at_risk_since is None or found.rpo is None:
        return None
    if found.last_good is None:
        what, risk = "There is no good recovery point at all.", "Nothing could be restored now."
    else:
        cut = format_time(found.last_good.cut)[:19] + "Z"
        what = (
            f"The last good recovery point is {span(found.now - found.last_good.cut)} old; the objective is {format_duration(found.rpo)}."
        )
        risk = f"All that was written since {cut} would be lost in a restore."
    return Trouble(kind=TroubleKind.RPO, since=found.at_risk_since, what=what, risk=risk, remedy=_why_none(found))


def _why_none(found: PolicyStatus) -> str:
    """Say what to do, by what the history knows."""
    newest = found.runs[0] if found.runs else None
    if newest is not None and not newest.ok and (found.last_good is None or newest.ended >= found.last_good.cut):
        return (
            f"The newest run, {newest.run_id}, failed: {'; '.join(newest.reasons) or 'see its tasks'}. Mend that and run the policy again."
        )
    if found.schedule is None:
        return "The policy has no schedule: run it by hand, or give it one."
    return "No run has ended since: see whether its DAG is paused, the scheduler is healthy and workers are free; then run the policy."


def _missed(found: PolicyStatus) -> Trouble | None:
    """The newest slots went by and nobody tried."""
    first = _streak(found, SlotState.MISSED)
    if first is None:
        return None
    count = sum(slot.slot >= first for slot in found.slots if slot.state is SlotState.MISSED)
    return Trouble(
        kind=TroubleKind.MISSED,
        since=first,
        what=f"{count} slot{'' if count == 1 else 's'} in a row went by, and no run has answered {'it' if count == 1 else 'them'}.",
        risk="What changes is in no recovery point.",
        remedy="See whether its DAG is paused, the scheduler is healthy and workers are free; `becalm gaps` lists the slots, a backfill answers them.",
    )


def _failed(found: PolicyStatus) -> Trouble | None:
    """The newest runs failed, by hand or by schedule."""
    if not found.runs or found.runs[0].ok:
        return None
    streak = []
    for run in found.runs:
        if run.ok:
            break
        streak.append(run)
    newest = streak[0]
    return Trouble(
        kind=TroubleKind.FAILED,
        since=streak[-1].ended,
        what=f"The run {newest.run_id} failed: {'; '.join(newest.reasons) or 'see its tasks'}.",
        risk="It left no good recovery point." if not newest.point else f"Recovery point {newest.point[:8]} lacks what is named.",
        remedy="Mend what is named and run the policy again.",
    )


def _drill(found: PolicyStatus) -> Trouble | None:
    if found.drill is None or found.drill.ok:
        return None
    return Trouble(
        kind=TroubleKind.DRILL,
        since=found.drill.time,
        what=f"The last drill, of recovery point {found.drill.point[:8]}, did not succeed.",
        risk="A restore may not work, or not in time.",
        remedy="Read the drill's report, mend what it names, and drill again.",
    )


def _unreachable(found: PolicyStatus) -> Trouble:
    return Trouble(
        kind=TroubleKind.UNREACHABLE,
        since=found.now,
        what="The recovery points cannot be read: " + "; ".join(map(str, found.unknown)),
        risk="Nobody can say whether there is a good recovery point, and none can be restored meanwhile.",
        remedy="See whether the bucket answers and the connection's keys hold.",
    )


def _streak(found: PolicyStatus, state: SlotState) -> datetime | None:
    """Return the first slot of those, up to the newest, that are all in a state; a slot that is open does not count."""
    first: datetime | None = None
    for slot in reversed(found.slots):
        if slot.state is SlotState.OPEN:
            continue
        if slot.state is not state:
            break
        first = slot.slot
    return first
