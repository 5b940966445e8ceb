"""Lock for longer what retention keeps for longer: a point that must live nine months is locked through all of them, a stretch at a time.

Each run prolongs the kept points whose lock has run down to half of the policy's days. A point that no rule keeps any more is left
alone: its lock ends by itself, and then retention may forget it. Nothing here makes a lock shorter.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from becalm.catalog.points import points
from becalm.errors import BecalmError, Damaged, NotFound
from becalm.model import Decision, Finding, Severity
from becalm.policy import retention
from becalm.repository import retain
from becalm.repository.check import check_tree
from becalm.repository.format import Layout
from becalm.repository.reader import open_repository

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from becalm.actions.handover import Ports
    from becalm.model import RecoveryPoint
    from becalm.policy.spec import ProtectionPolicy
    from becalm.repository.reader import Repository

_BY_LOCK = "locked until "
"""A reason of retention that is no wish to keep a point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which points are locked for longer, and by which one."""

    days: int
    anchor: RecoveryPoint | None = None
    """The point with the longest lock: what the others share with it is locked already."""
    anew: bool = False
    """The anchor itself has to be locked for longer first."""
    points: tuple[RecoveryPoint, ...] = ()


def plan(decisions: Sequence[Decision], *, days: int, now: datetime) -> Plan:
    """Choose the points. Pure. None is due: nothing to do. One is due: all that are not fresh go along, for they share their packs."""
    kept = [decision.point for decision in decisions if decision.keep and any(not why.startswith(_BY_LOCK) for why in decision.reasons)]
    whole = timedelta(days=days)
    if not any(_left(point, now) < whole / 2 for point in kept):
        return Plan(days=days)
    anchor = max(kept, key=lambda point: (_left(point, now), point.cut))
    going = tuple(point for point in kept if point is not anchor and _left(point, now) < whole)
    return Plan(days=days, anchor=anchor, anew=_left(anchor, now) < whole, points=going)


def _left(point: RecoveryPoint, now: datetime) -> timedelta:
    return point.locked_until - now if point.locked_until is not None else timedelta(0)


def execute(decided: Plan, repository: Repository) -> tuple[Finding, ...]:
    """Lock them; return what could not be. A point that is not whole keeps the lock that it has. Raises what the store raises."""
    if decided.anchor is None:
        return ()
    anchor, left = decided.anchor, []
    try:
        proof = _anchor(repository, anchor, decided.days) if decided.anew else retain.proof(repository, anchor.id, anchor.tree)
    except (Damaged, NotFound) as error:
        return (_finding(anchor, error),)
    if proof is None:  # forgotten meanwhile: the next run finds another
        return ()
    for point in decided.points:
        try:
            retain.extend(repository, point.id, point.tree, proof=proof)
        except (Damaged, NotFound) as error:
            left.append(_finding(point, error))
    return tuple(left)


def prolong(policy: ProtectionPolicy, ports: Ports) -> tuple[Finding, ...]:
    """Ask retention, plan, and execute, where the policy locks. A policy without retention keeps every point.

    What goes wrong is a finding: the locks that stand hold, and the next run does it again.
    """
    lock = policy.spec.target.lock
    if lock is None:
        return ()
    try:
        repository = open_repository(ports.store, ports.password)
        now = ports.store.now()
        found = points(repository, policy.name, protection=True)
        rules = policy.spec.retention
        decisions: Sequence[Decision] = (
            [Decision(point=point, keep=True, reasons=("there is no retention",)) for point in found]
            if rules is None
            else retention.plan(found, rules, now, timezone=policy.spec.timezone)
        )
        return execute(plan(decisions, days=lock.days, now=now), repository)
    except BecalmError as error:
        return (
            Finding(where=error.where, message=f"locks were not extended: {error.message}", remedy=error.hint, severity=Severity.WARNING),
        )


def _anchor(repository: Repository, point: RecoveryPoint, days: int) -> retain.Proof:
    checked = check_tree(repository, point.tree)
    if checked.damages:
        raise Damaged(checked.damages[0].problem, where=checked.damages[0].where)
    until = retain.secure(repository, point.tree, checked.keys, days=days, proof=None)
    repository.store.retain(Layout.snapshot(point.id), until)
    return retain.Proof(tree=point.tree, until=until)


def _finding(point: RecoveryPoint, error: Damaged | NotFound) -> Finding:
    return Finding(
        where=error.where or f"recovery point {point.id[:8]}",
        message=f"recovery point {point.id[:8]} could not be locked for longer: {error.message}",
        remedy=error.hint or "run becalm verify",
        severity=Severity.WARNING,
    )
