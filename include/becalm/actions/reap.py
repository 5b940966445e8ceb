"""The reaper: thaw what dead runs may have left frozen, and remove what they and dead restores left in the cluster.

A run lives while it holds its policy's lease; a restore lives while it renews the time that stands on its Secret. What lives is
never touched, and neither is what does not carry the labels of this very policy and its repository. It takes no lease and holds up no run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from becalm.actions import discover, drill_rooms, freezes, sweep
from becalm.actions.drill_rooms import DeadDrill  # noqa: TC001  (pydantic resolves the annotations at run time)
from becalm.actions.freezes import Found  # noqa: TC001  (pydantic resolves the annotations at run time)
from becalm.actions.orphans import Orphans, thaw_noted
from becalm.actions.restore_leftovers import DeadRestore, dead_restores, remove_restore
from becalm.errors import BecalmError, HookFailed, LeaseHeld, NothingSelected
from becalm.model import Finding
from becalm.repository import lease

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from becalm.actions.handover import Application, Ports
    from becalm.policy.spec import ProtectionPolicy

GRACE = timedelta(seconds=15)
"""How long after its time a living run's freeze is left to that run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would be done for one policy, and what is left alone."""

    policy: str
    freezes: tuple[Found, ...] = ()
    """Notes of freezes that nobody will thaw, or whose time is over."""
    runs: tuple[str, ...] = ()
    """Dead runs that have left something in the cluster."""
    restores: tuple[DeadRestore, ...] = ()
    drills: tuple[DeadDrill, ...] = ()
    drills_unknown: str = ""
    """Why the cluster could not be asked for dead drills: that holds up no thaw."""
    living: str = ""
    """The run that holds the lease: what it made stays."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.freezes or self.runs or self.restores or self.drills)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaped:
    """What was done for one policy, and what was not."""

    policy: str
    thawed: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    """Hooks whose frozen container is gone, and nobody stands in its place yet."""
    runs: tuple[str, ...] = ()
    """Dead runs of which nothing is left."""
    restores: tuple[str, ...] = ()
    drills: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    """What may be frozen still."""
    findings: tuple[Finding, ...] = field(default_factory=tuple)


def plan(policy: ProtectionPolicy, ports: Ports, *, left: Mapping[str, frozenset[str]] | None = None) -> Plan:
    """Look, and decide. Nothing is changed. `left` holds what `sweep.survey` found, where it was asked for several policies at once.

    What is left is listed before the lease is read: a run that began in between holds it, and one that ended has cleaned up itself.
    Raises: Damaged, AccessDenied, and what is transient.
    """
    runs = sweep.of_policy(sweep.survey(ports) if left is None else left, policy.name, ports)
    notes = freezes.find(ports.store)
    living, now = _living(ports), ports.store.now()
    drills, unknown = _dead_drills(policy.name, ports, now)
    return Plan(
        policy=policy.name,
        freezes=tuple(found for found in notes if found.note.run != living or now > found.until + GRACE),
        runs=tuple(sorted(runs - {living})),
        restores=dead_restores(policy.name, ports, now=now),
        drills=drills,
        drills_unknown=unknown,
        living=living,
    )


def execute(decided: Plan, policy: ProtectionPolicy, ports: Ports) -> Reaped:
    """Thaw first, then remove. One thing that fails is named, and does not stop the others. Idempotent."""
    findings: list[Finding] = []
    let = _thaw(decided, policy, ports, findings)
    done = [run for run in decided.runs if _remove_run(policy.name, run, ports, findings)]
    restores = [dead.run for dead in decided.restores if _remove_restore(dead, ports, findings)]
    if decided.drills_unknown:
        findings.append(Finding(where="drills", message=decided.drills_unknown, remedy="the next reaper asks again"))
    drills = [dead.id for dead in decided.drills if _remove_drill(dead, ports, findings)]
    return Reaped(
        policy=policy.name,
        thawed=let.thawed,
        waiting=let.waiting,
        runs=tuple(done),
        restores=tuple(restores),
        drills=tuple(drills),
        frozen=let.problems,
        findings=tuple(findings),
    )


def demand(reaped: Sequence[Reaped]) -> None:
    """Raise HookFailed where something may be frozen still; what is left in the cluster is tried again by the next reaper."""
    frozen = [problem for item in reaped for problem in item.frozen]
    if frozen:
        raise HookFailed("; ".join(frozen), where="reap", hint="look at the application now, and thaw it by hand")


def told(decided: Plan) -> list[str]:
    """Say a plan in sentences."""
    lines = [
        f"thaw {held.namespace}/{held.pod} ({held.container}), frozen by run {found.note.run}"
        for found in decided.freezes
        for held in found.note.held
    ]
    lines += [f"remove what the dead run {run} left" for run in decided.runs]
    lines += [f"remove what the dead restore {dead.run} left: {', '.join(dead.objects)}" for dead in decided.restores]
    lines += [f"remove what the drill {dead.id} left: {', '.join(dead.namespaces)}" for dead in decided.drills]
    return [*lines, *([f"leave run {decided.living} alone: it holds the lease"] if decided.living else [])]


def _living(ports: Ports) -> str:
    """Return the run that holds the lease, by the store's clock; nothing where none does."""
    found = lease.read(ports.store)
    return found.run if found and found.held(ports.store.now()) else ""


def _thaw(decided: Plan, policy: ProtectionPolicy, ports: Ports, findings: list[Finding]) -> Orphans:
    if not decided.freezes:
        return Orphans()
    try:
        applications: tuple[Application, ...] = discover.execute(policy, ports).applications
    except NothingSelected as error:
        findings.append(Finding(where=policy.name, message=str(error), remedy="mend the policy"))
        applications = ()
    except BecalmError as error:
        return Orphans(
            problems=tuple(f"{found.note.application} may be frozen still, and cannot be looked up: {error}" for found in decided.freezes)
        )
    return thaw_noted(decided.freezes, applications, ports)


def _remove_run(policy: str, run: str, ports: Ports, findings: list[Finding]) -> bool:
    """Remove what one run left, unless it has come back to life meanwhile."""
    try:
        if _living(ports) == run:
            raise LeaseHeld(f"run {run} is at work again", where=policy, hint="it cleans up itself")
        left = sweep.sweep(policy, ports, run=run)
    except BecalmError as error:
        findings.append(Finding(where=f"run {run}", message=str(error), remedy=error.hint or "the next reaper tries again"))
        return False
    findings += left
    return not left


def _remove_restore(dead: DeadRestore, ports: Ports, findings: list[Finding]) -> bool:
    try:
        remove_restore(dead, ports)
    except BecalmError as error:
        remedy = "run `becalm reap` with an account that may delete Secrets and pods there"
        findings.append(Finding(where=f"restore {dead.run}", message=str(error), remedy=remedy))
        return False
    return True


def _dead_drills(policy: str, ports: Ports, now: datetime) -> tuple[tuple[DeadDrill, ...], str]:
    """Return the dead drills, and why they are not known where they are not."""
    try:
        return drill_rooms.dead(policy, ports, now=now), ""
    except BecalmError as error:
        return (), str(error)


def _remove_drill(dead: DeadDrill, ports: Ports, findings: list[Finding]) -> bool:
    try:
        left = drill_rooms.remove(dead.policy, dead.id, ports)
    except BecalmError as error:
        remedy = "run `becalm reap` with an account that may delete the namespaces of drills"
        findings.append(Finding(where=f"drill {dead.id}", message=str(error), remedy=remedy))
        return False
    findings += left
    return not left
