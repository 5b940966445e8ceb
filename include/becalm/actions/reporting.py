"""From what was read of policies to a report that a manager reads in two minutes and an auditor can check. Pure.

Each statement has a grade and names its evidence. What is not known is said to be unknown; it is never taken for good. How a policy stands
is judged in `objectives`, not here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping  # noqa: TC003  (pydantic resolves the annotations at run time)
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING

import orjson

from becalm.actions.objectives import SlotState, told
from becalm.clock import format_time
from becalm.policy.units import format_duration, span
from becalm.repository.format import Layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from becalm.actions.drill_steps import DrillReport
    from becalm.actions.objectives import PolicyStatus
    from becalm.catalog.coverage import CoverageRecord
    from becalm.catalog.verified import Known
    from becalm.model import Finding, RecoveryPoint
    from becalm.policy.spec import ProtectionPolicy

FORMAT = 1
MOST_NAMED = 20
"""So many gaps, damages or findings are told one by one; the others are counted."""


class Grade(StrEnum):
    """How a statement stands."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"
    UNASKED = "not asked for"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One thing that a report says."""

    what: str
    grade: Grade
    said: str
    figures: Mapping[str, int | float | str | None] = field(default_factory=dict)
    """The numbers in it. Times are UTC, lengths are seconds."""
    evidence: tuple[str, ...] = ()
    """Where it can be checked: objects of the bucket, numbers of the ledger, runs."""
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a report says of one policy, or of one cluster."""

    name: str
    grade: Grade
    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that is said."""

    made: datetime
    since: datetime
    version: str
    """Of Becalm."""
    grade: Grade
    policies: tuple[Part, ...]
    clusters: tuple[Part, ...]
    format: int = FORMAT


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was read of one policy. Nothing, where it could not be read."""

    policy: ProtectionPolicy
    status: PolicyStatus
    points: tuple[RecoveryPoint, ...] = ()
    """With their locks, where the policy asks for locks."""
    drills: tuple[DrillReport, ...] | None = None
    verified: Known | None = None
    coverage: CoverageRecord | None = None
    unknown: tuple[Finding, ...] = ()


def compose(seen: Sequence[Seen], *, made: datetime, window: timedelta, version: str) -> Report:
    """Return the report on these policies and their clusters, over the time before `made`."""
    policies = tuple(_policy(one, window) for one in sorted(seen, key=lambda one: (one.policy.spec.cluster, one.policy.name)))
    clusters = tuple(
        _part(name, _cluster([one for one in seen if one.policy.spec.cluster == name], made, window))
        for name in sorted({one.policy.spec.cluster for one in seen})
    )
    grade = _worst(part.grade for part in (*policies, *clusters))
    return Report(made=made, since=made - window, version=version, grade=grade, policies=policies, clusters=clusters)


def as_json(report: Report) -> bytes:
    """Write a report for programs; the same report always gives the same bytes."""
    from pydantic import TypeAdapter  # noqa: PLC0415  (only whoever writes a report waits for it)

    document = {"kind": "becalm-report", **TypeAdapter(Report).dump_python(report, mode="json")}
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"


def digest(document: bytes) -> str:
    """Return the SHA-256 by which the page names the JSON that it was made from."""
    return sha256(document).hexdigest()


def _worst(grades: Iterable[Grade]) -> Grade:
    found = set(grades)
    return next((grade for grade in (Grade.BAD, Grade.UNKNOWN, Grade.GOOD) if grade in found), Grade.UNKNOWN)


def _part(name: str, statements: Sequence[Statement]) -> Part:
    return Part(name=name, grade=_worst(one.grade for one in statements), statements=tuple(statements))


def _policy(seen: Seen, window: timedelta) -> Part:
    status = seen.status
    if not status.reached:
        return _part(status.policy, [Statement(what="recovery points", grade=Grade.UNKNOWN, said=told(status))])
    statements = [_objective(status), _slots(status), _runs(status, window), _drills(seen, window), _verified(seen, window), _locks(seen)]
    unknown = (*status.unknown, *seen.unknown)
    if unknown:
        said = f"{len(unknown)} things could not be read"
        statements.append(Statement(what="not read", grade=Grade.UNKNOWN, said=said, details=_named(map(str, unknown))))
    return _part(status.policy, statements)


def _named(texts: Iterable[str]) -> tuple[str, ...]:
    found = list(texts)
    more = [f"and {len(found) - MOST_NAMED} more"] if len(found) > MOST_NAMED else []
    return tuple(found[:MOST_NAMED] + more)


def _day(moment: datetime) -> str:
    return f"{format_time(moment)[:16].replace('T', ' ')} UTC"


def _objective(status: PolicyStatus) -> Statement:
    point = status.last_good
    grade = Grade.BAD if point is None or status.met is False else Grade.UNASKED if status.rpo is None else Grade.GOOD
    return Statement(
        what="age of the last good recovery point",
        grade=grade,
        said=told(status),
        figures={
            "age_seconds": status.age.total_seconds() if status.age is not None else None,
            "rpo_seconds": status.rpo.total_seconds() if status.rpo else None,
            "at_risk_since": format_time(status.at_risk_since) if status.at_risk_since else None,
            "points": status.points,
            "good_points": status.good,
        },
        evidence=(Layout.snapshot(point.id), f"cut {format_time(point.cut)}, {point.consistency}") if point else (),
    )


def _slots(status: PolicyStatus) -> Statement:
    counts = {state.value: status.count(state) for state in SlotState}
    if not status.slots:
        said = "the policy has no schedule" if status.schedule is None else "nothing was owed in this time"
        return Statement(what="schedule kept", grade=Grade.UNASKED, said=said, figures=counts)
    closed = len(status.slots) - counts["open"]
    answered = counts["covered"] + counts["late"]
    said = f"{answered} of {closed} slots answered, {counts['late']} of them late; {counts['missed']} missed, {counts['failed']} failed"
    return Statement(
        what="schedule kept",
        grade=Grade.BAD if status.gaps else Grade.GOOD,
        said=said,
        figures=counts,
        details=_named(f"{_day(one.slot)}: {one.state}: {one.reason}" for one in reversed(status.gaps)),
    )


def _runs(status: PolicyStatus, window: timedelta) -> Statement:
    runs = [run for run in status.runs if run.ended > status.now - window]
    if not runs:
        return Statement(
            what="runs", grade=Grade.UNKNOWN, said="no run ended in this time, as far as the history tells", figures={"runs": 0}
        )
    failed = [run for run in runs if not run.ok]
    frozen = max((seconds for run in runs for seconds in run.frozen.values()), default=0.0)
    said = f"{len(runs) - len(failed)} of {len(runs)} runs succeeded"
    said += f"; the longest freeze of an application took {frozen:.1f} s" if frozen else "; no application was frozen"
    return Statement(
        what="runs",
        grade=Grade.GOOD if runs[0].ok else Grade.BAD,
        said=said + ("" if runs[0].ok else "; the newest failed"),
        figures={
            "runs": len(runs),
            "failed": len(failed),
            "longest_freeze_seconds": frozen,
            "added_bytes": sum(run.bytes_added for run in runs),
        },
        evidence=(f"run {runs[0].run_id}", Layout.history(format_time(runs[0].ended)[:10])),
        details=_named(f"{_day(run.ended)}: {run.run_id}: {'; '.join(run.reasons) or 'failed'}" for run in failed),
    )


def _drills(seen: Seen, window: timedelta) -> Statement:
    what = "restores proven by drills"
    if seen.drills is None:
        return Statement(what=what, grade=Grade.UNKNOWN, said="the reports of drills could not be read")
    if not seen.drills:
        return Statement(
            what=what, grade=Grade.UNKNOWN, said="no drill was ever done: that it can be restored is not proven", figures={"drills": 0}
        )
    last = max(seen.drills, key=lambda one: (one.ended, one.id))
    recent = [one for one in seen.drills if one.ended > seen.status.now - window]
    figures: dict[str, int | float | str | None] = {
        "drills": len(recent),
        "passed": sum(one.ok for one in recent),
        "recovery_seconds": last.recovery_seconds,
        "rto_seconds": last.rto_seconds,
    }
    evidence = (Layout.drill(last.id), f"recovery point {last.point}")
    if not recent:
        said = f"no drill in this time; the last ended on {_day(last.ended)} and {'passed' if last.ok else 'failed'}"
        return Statement(what=what, grade=Grade.UNKNOWN if last.ok else Grade.BAD, said=said, figures=figures, evidence=evidence)
    said = f"{figures['passed']} of {len(recent)} drills passed; the last on {_day(last.ended)}"
    said += f" recovered {last.objects} objects and {last.volumes} volumes" if last.ok else " failed"
    if last.recovery_seconds is not None:
        said += f" in {span(timedelta(seconds=last.recovery_seconds))}"
    if last.rto_seconds:
        said += f"; the objective is {format_duration(timedelta(seconds=last.rto_seconds))}"
    return Statement(
        what=what,
        grade=Grade.GOOD if last.ok else Grade.BAD,
        said=said,
        figures=figures,
        evidence=evidence,
        details=_named(map(str, last.failures)),
    )


def _verified(seen: Seen, window: timedelta) -> Statement:
    what, known = "repository verified", seen.verified
    if known is None:
        return Statement(what=what, grade=Grade.UNKNOWN, said="what the ledger says of it could not be read")
    figures: dict[str, int | float | str | None] = {
        "last": format_time(known.last) if known.last else None,
        "packs_read": len(known.read),
        "damages": len(known.damages),
    }
    if known.last is None:
        return Statement(what=what, grade=Grade.UNKNOWN, said="it was never verified", figures=figures)
    fresh = known.last > seen.status.now - window
    said = f"last on {_day(known.last)}; {len(known.read)} packs were read whole, {len(known.damages)} damages are open"
    return Statement(
        what=what,
        grade=Grade.BAD if known.damages else Grade.GOOD if fresh else Grade.UNKNOWN,
        said=said if fresh else f"{said}; not in this time",
        figures=figures,
        evidence=(Layout.ledger(known.entry),),
        details=_named(f"{one.where}: {one.problem}, since {_day(one.since)}" for one in known.damages),
    )


def _locks(seen: Seen) -> Statement:
    what, lock, now = "locks in force", seen.policy.spec.target.lock, seen.status.now
    if lock is None:
        said = "no lock is asked for: whoever may write to the bucket may delete what is in it"
        return Statement(what=what, grade=Grade.UNASKED, said=said)
    due = [point for point in seen.points if point.good and point.cut > now - timedelta(days=lock.days)]
    if not due:
        return Statement(what=what, grade=Grade.UNKNOWN, said=f"there is no good point of the last {lock.days} days")
    free = [point for point in due if point.locked_until is None or point.locked_until <= now]
    until = [point.locked_until for point in due if point.locked_until is not None]
    said = f"{len(due) - len(free)} of {len(due)} good points of the last {lock.days} days are locked ({lock.mode})"
    return Statement(
        what=what,
        grade=Grade.BAD if free else Grade.GOOD,
        said=said + (f", the last until {_day(max(until))}" if until else ""),
        figures={"points": len(due), "locked": len(due) - len(free), "until": format_time(max(until)) if until else None},
        evidence=tuple(Layout.snapshot(point.id) for point in due[-1:]),
        details=_named(f"{point.id[:8]} of {_day(point.cut)} is not locked" for point in free),
    )


def _cluster(seen: Sequence[Seen], now: datetime, window: timedelta) -> list[Statement]:
    records = [(one.coverage, one.policy.name) for one in seen if one.coverage is not None and one.coverage.looks]
    if not records:
        said = "nobody has looked, as far as the buckets of these policies tell; the DAG becalm_coverage does so every day"
        return [Statement(what=what, grade=Grade.UNKNOWN, said=said) for what in ("state that is covered", "claims of needing no backup")]
    record, keeper = max(records, key=lambda pair: pair[0].looks[-1].time)
    look = record.looks[-1]
    fresh = look.time > now - window
    evidence = (f"policy {keeper}: {Layout.COVERAGE}", f"looked at {format_time(look.time)}")
    grade = Grade.BAD if look.missing else Grade.UNKNOWN if look.unknown or not fresh else Grade.GOOD
    not_read = f"; {look.unknown} things could not be read" if look.unknown else ""
    when = "" if fresh else f"; the last look was on {_day(look.time)}"
    pieces = [one for one in record.open if not one.what.startswith("claim")]
    covered = Statement(
        what="state that is covered",
        grade=grade,
        said=f"{look.arithmetic}{not_read}{when}",
        figures={"percent": look.percent, "missing": look.missing, "unknown": look.unknown},
        evidence=evidence,
        details=_named(f"{one.where}: {one.because}, since {_day(one.since)}" for one in pieces),
    )
    standings = Counter(look.claims.values())
    broken = {name: standing for name, standing in look.claims.items() if standing != "valid"}
    said = ", ".join(f"{count} {standing}" for standing, count in sorted(standings.items())) or "there are no claims"
    grade = Grade.BAD if broken else Grade.UNASKED if not look.claims else Grade.GOOD if fresh else Grade.UNKNOWN
    claims = Statement(
        what="claims of needing no backup",
        grade=grade,
        said=said + when,
        figures=dict(standings),
        evidence=evidence,
        details=_named(f"{name}: {standing}" for name, standing in sorted(broken.items())),
    )
    return [covered, claims]
