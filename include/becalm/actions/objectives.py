"""How a policy stands: what it owes, what answered it, how old the last good point is, and whether its objectives hold. Pure.

The console, the metrics, `becalm gaps` and the watch over the objectives all ask here, so that they never disagree. What is not known is
said, and is never taken for good news. Nothing here reads a bucket or a clock.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

from becalm.catalog.points import last_good
from becalm.clock import format_time
from becalm.policy.cron import Cron
from becalm.policy.slots import CLOCKS_DIFFER, owed
from becalm.policy.spec import Missed
from becalm.policy.units import format_duration, span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from becalm.catalog.epochs import Epoch
    from becalm.catalog.history import RunRecord
    from becalm.model import Finding, RecoveryPoint
    from becalm.policy.spec import ProtectionPolicy

WINDOW = timedelta(days=7)
"""How far back slots are asked for, if nobody says otherwise."""
LATE_AFTER = timedelta(minutes=5)
"""A slot that was answered later than this was answered late."""
PATIENCE = timedelta(minutes=15)
"""The newest slot is open for so long, before it counts as missed; while a run is at work, for longer."""
LONGEST_RUN = timedelta(hours=24)
MOST_SLOTS = 20_000
"""Of a window with more slots, only the newest are judged."""


class SlotState(StrEnum):
    """What became of a slot."""

    COVERED = "covered"
    LATE = "late"
    """Answered, but later, or by the point of a later slot."""
    OPEN = "open"
    """Due just now, or being worked on."""
    MISSED = "missed"
    """Nothing has answered it, and no run has tried."""
    FAILED = "failed"
    """A run has tried, and wrote no good point."""


GAPS = frozenset({SlotState.MISSED, SlotState.FAILED})


class Level(StrEnum):
    """How much a policy needs somebody."""

    TROUBLE = "trouble"
    WARNING = "warning"
    FINE = "fine"

    @property
    def rank(self) -> int:
        """Its place where the worst comes first."""
        return list(Level).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotStatus:
    """One slot, and what became of it."""

    slot: datetime
    state: SlotState
    point: str = ""
    """The point that answers it. Retention may have let it go since."""
    late: timedelta = timedelta(0)
    run: str = ""
    """The run that tried last, as its conductor names it, where the history knows one."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was read of one policy."""

    now: datetime
    """By the store's clock."""
    points: tuple[RecoveryPoint, ...] = ()
    runs: tuple[RunRecord, ...] = ()
    epochs: tuple[Epoch, ...] = ()
    working: bool = False
    """Somebody holds the lease."""
    repository_bytes: int | None = None
    """All packs; nothing where they were not counted."""
    drill: Proven | None = None
    unknown: tuple[Finding, ...] = ()
    """What could not be read."""
    reached: bool = True
    """False: of the points nothing is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """The last drill."""

    time: datetime
    ok: bool
    point: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PolicyStatus:
    """How one policy stands."""

    policy: str
    now: datetime
    schedule: str | None = None
    timezone: str = "UTC"
    rpo: timedelta | None = None
    rto: timedelta | None = None
    last_good: RecoveryPoint | None = None
    age: timedelta | None = None
    """Of the last good point."""
    met: bool | None = None
    """Whether the age is within the objective; nothing where there is no objective, or nothing is known."""
    at_risk_since: datetime | None = None
    """Since when the objective is missed."""
    points: int = 0
    good: int = 0
    slots: tuple[SlotStatus, ...] = ()
    """Oldest first."""
    next_slot: datetime | None = None
    runs: tuple[RunRecord, ...] = ()
    """Newest first."""
    size_bytes: int | None = None
    """What the last good point holds."""
    repository_bytes: int | None = None
    drill: Proven | None = None
    reached: bool = True
    unknown: tuple[Finding, ...] = ()

    @cached_property
    def gaps(self) -> tuple[SlotStatus, ...]:
        """The slots that nothing answers, oldest first."""
        return tuple(slot for slot in self.slots if slot.state in GAPS)

    @cached_property
    def level(self) -> Level:
        """Whether somebody must look."""
        if not self.reached or self.met is False or (self.schedule and self.last_good is None and self.gaps):
            return Level.TROUBLE
        newest_failed = bool(self.runs) and not self.runs[0].ok
        return Level.WARNING if self.gaps or newest_failed or self.unknown or (self.drill and not self.drill.ok) else Level.FINE

    def count(self, state: SlotState) -> int:
        """Return how many slots of the window are in a state."""
        return sum(slot.state is state for slot in self.slots)


def status(policy: ProtectionPolicy, facts: Facts, *, window: timedelta = WINDOW) -> PolicyStatus:
    """Judge a policy by what was read of it."""
    spec = policy.spec
    good = [point for point in facts.points if point.good and point.cut <= facts.now + CLOCKS_DIFFER]
    newest = last_good(good)
    age = max(timedelta(0), facts.now - newest.cut) if newest else None
    rpo = spec.objectives.rpo
    began = _beginning(facts)
    risk = _at_risk_since(newest.cut if newest else began, rpo, facts) if facts.reached else None
    return PolicyStatus(
        policy=policy.name,
        now=facts.now,
        schedule=spec.schedule,
        timezone=spec.timezone,
        rpo=rpo,
        rto=spec.objectives.rto,
        last_good=newest,
        age=age,
        met=None if rpo is None or not facts.reached else risk is None,
        at_risk_since=risk,
        points=len(facts.points),
        good=len(good),
        slots=_slots(policy, facts, good, since=facts.now - window) if facts.reached else (),
        next_slot=Cron.parse(spec.schedule, spec.timezone).next(facts.now) if spec.schedule else None,
        runs=tuple(sorted(facts.runs, key=lambda run: (run.ended, run.run), reverse=True)),
        size_bytes=newest.size_bytes if newest else None,
        repository_bytes=facts.repository_bytes,
        drill=facts.drill,
        reached=facts.reached,
        unknown=facts.unknown,
    )


def unreachable(policy: ProtectionPolicy, error: Finding, *, now: datetime) -> PolicyStatus:
    """Return how a policy stands of which nothing could be read: unknown, and so in trouble."""
    return status(policy, Facts(now=now, reached=False, unknown=(error,)))


def told(found: PolicyStatus) -> str:
    """Say in one line how a policy stands."""
    if not found.reached:
        return "nothing is known: " + "; ".join(map(str, found.unknown))
    if found.last_good is None or found.age is None:
        return "there is no good recovery point"
    said = f"the last good point is {span(found.age)} old"
    if found.rpo is not None:
        said += f", the objective of {format_duration(found.rpo)} is {'met' if found.met else 'missed'}"
    return said + (f", {len(found.gaps)} slots are unanswered" if found.gaps else "")


def _beginning(facts: Facts) -> datetime | None:
    """Return since when the policy owes anything: its first epoch, else its oldest point."""
    if facts.epochs:
        return facts.epochs[0].since
    return min((point.cut for point in facts.points), default=None)


def _at_risk_since(since: datetime | None, rpo: timedelta | None, facts: Facts) -> datetime | None:
    if rpo is None or since is None:
        return None
    return since + rpo if facts.now - since > rpo else None


def owed_slots(policy: ProtectionPolicy, facts: Facts, *, since: datetime) -> list[datetime]:
    """Return the slots that were due from then to now, each by the schedule that held at its time."""
    began = _beginning(facts)
    if began is None:
        return []
    spans = [(one.since, one.schedule, one.timezone) for one in facts.epochs] or [(began, policy.spec.schedule, policy.spec.timezone)]
    found: list[datetime] = []
    for place, (start, schedule, timezone) in enumerate(spans):
        end = spans[place + 1][0] if place + 1 < len(spans) else facts.now
        first = max(start + timedelta(microseconds=1), since)
        found += owed(schedule, timezone, since=first, until=min(end, facts.now))
    return sorted(set(found))[-MOST_SLOTS:]


def _slots(policy: ProtectionPolicy, facts: Facts, good: Sequence[RecoveryPoint], *, since: datetime) -> tuple[SlotStatus, ...]:
    judge = _Judge(policy.spec.missed, facts, good)
    slots = owed_slots(policy, facts, since=since)
    return tuple(judge(slot, newest=place == len(slots) - 1) for place, slot in enumerate(slots))


class _Judge:
    """Says of one slot after the other what became of it."""

    def __init__(self, missed: Missed, facts: Facts, good: Sequence[RecoveryPoint]) -> None:
        self._facts = facts
        by_cut = sorted(good, key=lambda point: (point.cut, point.id), reverse=True)
        self._own = {point.slot: point for point in by_cut if point.slot is not None}
        answers = [(point.cut, point.id) for point in good if point.slot is not None]
        answers += [(run.started, run.point) for run in facts.runs if run.ok and run.slot is not None]
        self._answers = sorted(answers) if missed is Missed.LATEST else []
        self._runs: dict[datetime, RunRecord] = {}
        for run in sorted(facts.runs, key=lambda run: run.ended):
            if run.slot is not None and not (run.slot in self._runs and self._runs[run.slot].ok):
                self._runs[run.slot] = run

    def __call__(self, slot: datetime, *, newest: bool) -> SlotStatus:
        point, run = self._own.get(slot), self._runs.get(slot)
        if point is not None:
            return self._answered(slot, point.id, point.late, run=run)
        if run is not None and run.ok:  # its point was good, and retention has let it go
            return self._answered(slot, run.point, timedelta(seconds=run.late_seconds), run=run)
        place = bisect_left(self._answers, (slot, ""))
        if place < len(self._answers):
            cut, answer = self._answers[place]
            reason = f"answered by recovery point {answer[:8]} of {format_time(cut)[:19]}Z"
            return SlotStatus(slot=slot, state=SlotState.LATE, point=answer, late=cut - slot, run=run.run_id if run else "", reason=reason)
        if run is not None:
            return SlotStatus(slot=slot, state=SlotState.FAILED, run=run.run_id, reason="; ".join(run.reasons) or "the run failed")
        waited = self._facts.now - slot
        if newest and (waited <= PATIENCE or (self._facts.working and waited <= LONGEST_RUN)):
            return SlotStatus(slot=slot, state=SlotState.OPEN, reason="a run is at work" if self._facts.working else "due just now")
        return SlotStatus(slot=slot, state=SlotState.MISSED, reason="no run has answered it")

    @staticmethod
    def _answered(slot: datetime, point: str, late: timedelta, *, run: RunRecord | None) -> SlotStatus:
        state = SlotState.LATE if late > LATE_AFTER else SlotState.COVERED
        reason = f"answered {span(late)} late" if state is SlotState.LATE else ""
        return SlotStatus(slot=slot, state=state, point=point, late=late, run=run.run_id if run else "", reason=reason)
