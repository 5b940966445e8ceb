"""One look at the coverage after another: what is new, what lasts, what is over, and what is to be said of it, once. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from becalm.actions.coverage import MISSING
from becalm.actions.state import VOLUMES
from becalm.actions.watch import Message, TroubleKind
from becalm.catalog.coverage import CoverageRecord, Look, Open
from becalm.catalog.drift import DriftRecord
from becalm.clock import format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from becalm.actions.claims import Audit
    from becalm.actions.coverage import Coverage

R = TypeVar("R", CoverageRecord, DriftRecord)
MOST_OPEN = 20_000
"""So many are kept one by one, volumes first; the look counts all."""
MOST_LOOKS = 400
MOST_NAMED = 10


def _always(known: Open, found: Open) -> bool:  # noqa: ARG001  (the form of a judge)
    return True


def merge(before: CoverageRecord | None, judged: Coverage, audits: Sequence[Audit], *, cluster: str, now: datetime) -> CoverageRecord:
    """Return the record after a look. Where anything could not be read, nothing counts as over: it may only be out of sight."""
    before = before or CoverageRecord(cluster=cluster)
    lasting, over = carried(before.open, before.over, _open(judged, audits, now), unsure=bool(judged.findings))
    return CoverageRecord(
        cluster=cluster,
        open=lasting[:MOST_OPEN],
        over=over,
        looks=(*before.looks, _look(judged, audits, now))[-MOST_LOOKS:],
    )


def carried(
    open_: Sequence[Open], over: Sequence[Open], found: Sequence[Open], *, unsure: bool, same: Callable[[Open, Open], bool] = _always
) -> tuple[tuple[Open, ...], tuple[Open, ...]]:
    """Return what is open now, and what is over and not yet told to whoever heard that it began.

    What was open keeps its time and whom it was told, as long as it is the `same`. While a look is `unsure`, nothing is over.
    """
    known = {one.where: one for one in open_}
    there = {one.where: one for one in found}
    if unsure:
        there = {**known, **there}
    lasting = tuple(
        replace(one, since=known[where].since, told=known[where].told) if where in known and same(known[where], one) else one
        for where, one in there.items()
    )
    waiting = {**{one.where: one for one in over}, **{where: one for where, one in known.items() if one.told}}
    return lasting, tuple(one for where, one in waiting.items() if where not in there)


def _open(judged: Coverage, audits: Sequence[Audit], now: datetime) -> list[Open]:
    """Return what is open: claims first, then volumes, then the rest."""
    claims = [
        Open(where=f"claim {one.claim.name}", what=f"claim: {one.standing}", because="; ".join(map(str, one.findings[:3])), since=now)
        for one in audits
        if not one.ok
    ]
    missing = sorted(
        (item for item in judged.items if item.verdict in MISSING), key=lambda item: (item.state.what not in VOLUMES, item.state.where)
    )
    return [*claims, *(Open(where=item.state.where, what=item.state.what.value, because=item.because, since=now) for item in missing)]


def _look(judged: Coverage, audits: Sequence[Audit], now: datetime) -> Look:
    return Look(
        time=now,
        percent=judged.score.percent,
        arithmetic=str(judged.score),
        missing=sum(item.verdict in MISSING for item in judged.items),
        unknown=len(judged.findings),
        claims={one.claim.name: one.standing.value for one in audits},
    )


def messages(record: CoverageRecord, *, keeper: str, notify: Sequence[str]) -> tuple[Message, ...]:
    """Return what is to be said now: of all that is new in one message, of all that is over in another.

    `keeper` is the policy in whose bucket the record is.
    """
    made = []
    if to := tuple(name for name in notify if any(name not in one.told for one in record.open)):
        new = [one for one in record.open if not set(to) <= set(one.told)]
        made.append(_message(record, new, keeper=keeper, to=to, ended=False))
    if record.over:
        to = tuple(sorted({name for one in record.over for name in one.told}))
        made.append(_message(record, record.over, keeper=keeper, to=to, ended=True))
    return tuple(made)


def after(record: R, sent: Iterable[tuple[Message, Mapping[str, str]]]) -> R:
    """Return what is to be remembered once messages were sent: whoever was not reached is told at the next look."""
    open_, over = record.open, record.over
    for message, errors in sent:
        reached = frozenset(name for name in message.to if name not in errors)
        if message.ended:
            over = _still_to_hear(over, reached)
        else:
            open_ = _heard(open_, reached)
    return replace(record, open=open_, over=over)


def _heard(items: Sequence[Open], reached: frozenset[str]) -> tuple[Open, ...]:
    return tuple(replace(one, told=tuple(sorted({*one.told, *reached}))) for one in items)


def _still_to_hear(items: Sequence[Open], reached: frozenset[str]) -> tuple[Open, ...]:
    left = [replace(one, told=tuple(name for name in one.told if name not in reached)) for one in items]
    return tuple(one for one in left if one.told)


def _message(record: CoverageRecord, items: Sequence[Open], *, keeper: str, to: tuple[str, ...], ended: bool) -> Message:
    count = len(items)
    sorts = ", ".join(f"{number} x {what}" for what, number in sorted(Counter(one.what for one in items).items()))
    named = "".join(f"- {one.where}: {one.because}\n" for one in items[:MOST_NAMED])
    more = f"- and {count - MOST_NAMED} more\n" if count > MOST_NAMED else ""
    if ended:
        subject = f"Becalm: cluster {record.cluster}: {count} no longer open"
        text = f"Covered, excused or gone since the last look: {sorts}.\n{named}{more}Nothing is to be done.\n"
    else:
        subject = f"Becalm: cluster {record.cluster}: {count} newly not covered"
        text = (
            f"No policy and no claim that holds covers: {sorts}.\n{named}{more}"
            f"At risk: what is named would be lost.\n"
            f"What to do: protect it by a policy, or claim that it needs none; `becalm coverage` shows all, `becalm claims` the claims.\n"
        )
    since = min(one.since for one in items)
    return Message(
        policy=keeper,
        kind=TroubleKind.COVERAGE,
        ended=ended,
        since=since,
        subject=subject,
        text=f"{text}Since: {format_time(since)[:19]}Z\n",
        to=to,
    )
