"""Carry out what retention says, and get the space back: points that no rule keeps are forgotten, packs that nothing needs go later.

In a run it comes after the recovery point is there, and what goes wrong with the reclaiming is told and does not cost the run. By hand
it takes the lease for itself. It never touches the cluster.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from becalm.actions import extend, run
from becalm.actions.handover import Pruned
from becalm.catalog import ledger
from becalm.catalog.points import last_good, points
from becalm.clock import Deadline, format_time
from becalm.errors import BecalmError, NotFound, PermanentError, StoreFull, TransientError, UsageError
from becalm.model import Finding, Severity, run_key
from becalm.policy import retention
from becalm.repository import lease, locks, reserve
from becalm.repository import prune as engine
from becalm.repository.format import Layout
from becalm.repository.prune import Rules, forget
from becalm.repository.reader import open_repository
from becalm.repository.repack import Repacked, repack
from becalm.repository.retain import Term

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from becalm.actions.handover import Begun, Ports, Progress
    from becalm.clock import Clock
    from becalm.model import Decision, RecoveryPoint
    from becalm.policy.spec import ProtectionPolicy
    from becalm.repository.prune import Plan, Pruning
    from becalm.storage.base import ObjectStore

LOOK_EVERY = timedelta(hours=24)
"""A run reclaims no oftener: to see what nothing needs, every tree of every point is read."""
LONGEST_SECONDS = 1800.0
"""A run gives the reclaiming no more than this; what is left is for the next."""
_ALIVE_SECONDS = 5.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What a prune works with: no cluster."""

    policy: str
    store: ObjectStore
    password: str
    clock: Clock
    progress: Progress


class Alive:
    """The question whether this prune may go on: it holds the lease and the lock, and has time left. It renews the lease.

    What is asked many times a second is answered from the last answer, unless a clock has moved on.
    """

    def __init__(self, desk: Desk, *, who: str, epoch: int, held: locks.Held, seconds: float | None) -> None:
        """Begin to count the time, where there is an end to it."""
        self._desk = desk
        self._who = who
        self._epoch = epoch
        self._held = held
        self._deadline = Deadline(desk.clock, seconds) if seconds else None
        self._asked: tuple[float, float] | None = None

    def __call__(self) -> None:
        """Pass, or raise LeaseLost, RepositoryLocked, or TransientError where the time is over."""
        clock = self._desk.clock
        now = (clock.monotonic(), clock.now().timestamp())
        if self._asked and all(abs(new - old) < _ALIVE_SECONDS for new, old in zip(now, self._asked, strict=True)):
            return
        self._held.demand()
        lease.renew(self._desk.store, run=self._who, epoch=self._epoch, seconds=run.LEASE_SECONDS, clock=clock)
        self._asked = now
        if self._deadline and self._deadline.passed():
            raise TransientError("the time for reclaiming is over", where=self._desk.store.url, hint="the next prune goes on")


def plan(policy: ProtectionPolicy, ports: Ports) -> tuple[Decision, ...]:
    """Read the points with their pins and locks, and ask retention. Nothing is changed."""
    return decide(_desk(policy, ports), policy)


def decide(desk: Desk, policy: ProtectionPolicy) -> tuple[Decision, ...]:
    """The same without a cluster."""
    found = points(open_repository(desk.store, desk.password), desk.policy, protection=True)
    if policy.spec.retention is None:
        return ()
    return retention.plan(found, policy.spec.retention, desk.store.now(), timezone=policy.spec.timezone)


def execute(begun: Begun, policy: ProtectionPolicy, ports: Ports) -> Pruned:
    """Forget what no rule keeps; once a day, mark and delete the packs that nothing needs. A policy without retention forgets nothing.

    Raises what forgetting raises. What reclaiming raises becomes a finding: the recovery point is there, whatever comes of this.
    """
    run.renew(begun, ports)
    desk = _desk(policy, ports)
    pruned = carry_out(plan(policy, ports), ports, run_of=begun)
    pruned = replace(pruned, findings=(*pruned.findings, *extend.prolong(policy, ports)))
    if not due(desk.store):
        return pruned
    try:
        done = reclaim(desk, who=begun.run, epoch=begun.epoch, known=_kept(pruned), seconds=LONGEST_SECONDS)
    except BecalmError as error:
        told = Finding(where=error.where, message=error.message, remedy=error.hint, severity=Severity.WARNING)
        ports.progress(f"reclaiming: {told}")
        return replace(pruned, findings=(*pruned.findings, told))
    return _with(pruned, done)


def carry_out(decisions: Sequence[Decision], ports: Ports, *, run_of: Begun | None = None) -> Pruned:
    """Forget the points that these decisions do not keep. One that turned out to be locked stays, and is a finding."""
    policy = decisions[0].point.policy if decisions else ""
    desk = Desk(policy=policy, store=ports.store, password=ports.password, clock=ports.clock, progress=ports.progress)
    return forget_points(desk, decisions, who=run_of.run if run_of else "", epoch=run_of.epoch if run_of else 0)


def forget_points(desk: Desk, decisions: Sequence[Decision], *, who: str = "", epoch: int = 0) -> Pruned:
    """The same without a cluster; the ledger says what went and why."""
    going = [decision.point.id for decision in decisions if not decision.keep]
    keep = [decision.point.id for decision in decisions if decision.keep]
    findings: list[Finding] = []
    gone = forget(desk.store, going, keep=keep, refused=findings.append) if going else ()
    reasons = {decision.point.id: decision.reasons for decision in decisions}
    if gone:
        cut = {decision.point.id: format_time(decision.point.cut) for decision in decisions}
        said = [{"point": point, "cut": cut[point], "reasons": list(reasons[point])} for point in gone]
        findings += _note(desk, ledger.EntryKind.FORGOTTEN, {"points": said}, who=who, epoch=epoch)
    return Pruned(kept=len(decisions) - len(gone), forgotten=tuple(gone), reasons=reasons, findings=tuple(findings))


def due(store: ObjectStore) -> bool:
    """Say whether it is time to look for what nothing needs."""
    try:
        return store.now() - store.head(Layout.LOOK).modified > LOOK_EVERY
    except NotFound:
        return True


def preview(desk: Desk, *, rules: Rules | None = None, known: Iterable[str] = ()) -> Plan:
    """Say what reclaiming would do now. Nothing is changed, and no lease is taken."""
    return engine.preview(open_repository(desk.store, desk.password), rules=rules or Rules(), known=known, progress=desk.progress)


def reclaim(
    desk: Desk, *, who: str, epoch: int, rules: Rules | None = None, known: Iterable[str] = (), seconds: float | None = None
) -> Pruning:
    """Mark and delete under the lease that `who` holds, and under restic's exclusive lock. A full store gets its reserve to work with.

    Raises: PruneRefused, RepositoryLocked, LeaseLost, TransientError (the time is over), and what the store raises.
    """
    remembered = tuple(known)

    def work() -> Pruning:
        repository = open_repository(desk.store, desk.password)
        with locks.exclusive(repository, who=who, clock=desk.clock) as held:
            alive = Alive(desk, who=who, epoch=epoch, held=held, seconds=seconds)
            return engine.prune(repository, who=who, alive=alive, rules=rules, known=remembered, progress=desk.progress)

    done = with_room(desk.store, work)
    reserve.keep(desk.store, total_bytes=done.plan.total_bytes - done.deleted_bytes)
    if done.deleted or done.withdrawn or done.rescued:
        said = {
            "deleted": len(done.deleted),
            "bytes": done.deleted_bytes,
            "marked": done.marked,
            "rescued": done.rescued,
            "withdrawn": done.withdrawn,
        }
        for finding in _note(desk, ledger.EntryKind.PRUNED, said, who=who, epoch=epoch):
            desk.progress(str(finding))
    return done


def write_anew(desk: Desk, policy: ProtectionPolicy | None, *, who: str, epoch: int, below: float) -> Repacked:
    """Write anew what is needed of packs that are mostly waste, as `reclaim` works."""
    lock = policy.spec.target.lock if policy else None

    def work() -> Repacked:
        repository = open_repository(desk.store, desk.password)
        with locks.exclusive(repository, who=who, clock=desk.clock) as held:
            alive = Alive(desk, who=who, epoch=epoch, held=held, seconds=None)
            until = Term.of(desk.store.now(), lock.days).at_writing if lock else None  # no point that stands is locked for longer
            return repack(repository, who=who, alive=alive, below=below, retain_until=until, progress=desk.progress)

    return with_room(desk.store, work)


def by_hand(
    desk: Desk, policy: ProtectionPolicy | None, *, rules: Rules, repack_below: float | None = None
) -> tuple[Pruned, Pruning, Repacked | None]:
    """Forget by the policy's retention, then reclaim, and repack if asked to, under a lease of its own.

    Raises: LeaseHeld, and what `reclaim` raises.
    """
    who = run_key(desk.policy, f"prune {uuid4()}")
    held = with_room(desk.store, lambda: lease.take(desk.store, policy=desk.policy, run=who, seconds=run.LEASE_SECONDS, clock=desk.clock))
    try:
        decisions = decide(desk, policy) if policy else ()
        pruned = forget_points(desk, decisions, who=who, epoch=held.epoch)
        done = reclaim(desk, who=who, epoch=held.epoch, rules=rules, known=_kept(pruned))
        anew = write_anew(desk, policy, who=who, epoch=held.epoch, below=repack_below) if repack_below is not None else None
    finally:
        lease.release(desk.store, run=who, epoch=held.epoch, clock=desk.clock)
    return _with(pruned, done), done, anew


def forget_named(desk: Desk, chosen: Sequence[RecoveryPoint]) -> tuple[str, ...]:
    """Forget points that a person named. Raises UsageError for the last good one, and for those that are pinned or locked."""
    found = points(open_repository(desk.store, desk.password), desk.policy, protection=True)
    there = {point.id: point for point in found}
    last, now = last_good(found), desk.store.now()
    for point in (there[one.id] for one in chosen if one.id in there):
        why = ""
        if last is not None and point.id == last.id:
            why = "it is the last good recovery point"
        elif point.pinned:
            why = "it is pinned"
        elif point.locked_until is not None and point.locked_until > now:
            why = f"it is locked until {format_time(point.locked_until)}"
        if why:
            raise UsageError(f"recovery point {point.id[:8]} stays: {why}", where=desk.store.url, hint="nothing was forgotten")
    going = [point.id for point in chosen]
    keep = [point.id for point in found if point.id not in going]
    gone = forget(desk.store, going, keep=keep)
    said = [{"point": point, "cut": format_time(there[point].cut), "reasons": ["named by hand"]} for point in gone if point in there]
    for finding in _note(desk, ledger.EntryKind.FORGOTTEN, {"points": said}, who="by hand", epoch=0):
        desk.progress(str(finding))
    return gone


def with_room(store: ObjectStore, work: Callable[[], T]) -> T:
    """Do it; where the store is full, give up the reserve and do it again. Raises StoreFull where there is none."""
    try:
        return work()
    except StoreFull as error:
        if not reserve.spend(store):
            raise StoreFull(
                error.message,
                where=error.where,
                hint="raise the quota by some MiB for a moment: deleting needs to write a little first, and the reserve is spent",
            ) from error
    return work()


def _desk(policy: ProtectionPolicy, ports: Ports) -> Desk:
    return Desk(policy=policy.name, store=ports.store, password=ports.password, clock=ports.clock, progress=ports.progress)


def _kept(pruned: Pruned) -> list[str]:
    """Return the points that are certainly there: a list that does not show one of them is not trusted."""
    return [point for point in pruned.reasons if point not in pruned.forgotten]


def _with(pruned: Pruned, done: Pruning) -> Pruned:
    return replace(
        pruned,
        marked=done.marked,
        deleted=len(done.deleted),
        deleted_bytes=done.deleted_bytes,
        waiting=done.plan.waiting + done.marked,
        locked=done.locked,
    )


def _note(desk: Desk, kind: ledger.EntryKind, content: ledger.Content, *, who: str, epoch: int) -> list[Finding]:
    """Write into the ledger. A ledger that cannot be written does not undo what was done: it is a finding."""
    try:
        ledger.append(open_repository(desk.store, desk.password), kind, content, who="prune", run=who, epoch=epoch)
    except (PermanentError, TransientError) as error:
        return [Finding(where=error.where, message=f"the ledger does not say what was done: {error.message}", severity=Severity.WARNING)]
    return []
