"""The two ends of a run: `begin` takes the lease and decides the slot, `finish` makes sure that nothing is left and gives the verdict.

A run is one attempt to make one recovery point, whoever conducts it. Nothing here captures data.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson

from becalm.actions import credentials, freezes, quiesce, sweep
from becalm.actions.asked import NOTHING_ASKED, demand_protected
from becalm.actions.handover import Begun, Trigger, Verdict
from becalm.actions.orphans import thaw_noted
from becalm.actions.record import keep_record, note_schedule
from becalm.catalog.points import last_good, points
from becalm.clock import format_time, seconds
from becalm.errors import AlreadyExists, BecalmError, Damaged, NotFound, OtherRepository, PartialCapture, PermanentError, UsageError
from becalm.kube.base import LABEL_MANAGED, MANAGER, Verb
from becalm.kube.kinds import NAMESPACE
from becalm.model import Finding, from_payload, run_key
from becalm.policy.slots import covered, slot_for
from becalm.repository import lease, locks
from becalm.repository.reader import open_repository
from becalm.repository.snapshots import load_snapshot
from becalm.repository.tree import lookup

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from becalm.actions.asked import Asked
    from becalm.actions.handover import Application, Committed, Cut, FreezeRecord, Ports, Thawed
    from becalm.catalog.epochs import Epoch
    from becalm.model import RecoveryPoint
    from becalm.policy.spec import ProtectionPolicy
    from becalm.repository.reader import Repository

NOTHING = "nothing was committed"

LEASE_SECONDS = 900.0
"""How long a lease lasts without renewal. Every task and every mover renews it; a dead run blocks the next no longer than this."""


def begin(
    policy: ProtectionPolicy,
    *,
    run_id: str,
    trigger: Trigger,
    run_after: datetime,
    ports: Ports,
    slot: datetime | None = None,
    asked: Asked = NOTHING_ASKED,
) -> Begun:
    """Open the repository, decide the slot, and take the lease last, and then a lock that the restic command sees.

    `asked` is what a person wants of this one run. A slot that a complete recovery point answers already gives a `Begun` with `skipped` set, and no lease is held.
    Beginning the same run again keeps its lease. Raises: NoRepository, WrongPassword, LeaseHeld, RepositoryLocked, and what the ports raise.
    """
    demand_protected(policy, asked.namespaces)
    repository = open_repository(ports.store, ports.password)
    schedules = note_schedule(policy, ports)
    _demand_slot(slot, policy, schedules)
    run, started = run_key(policy.name, run_id, repository=ports.store.url), ports.clock.now()
    owed = slot or (run_after if trigger in (Trigger.SCHEDULED, Trigger.BACKFILL) else None)
    found = points(repository, policy.name)
    earlier = [point for point in found if point.run != run]
    answered = covered(owed, earlier, missed=policy.spec.missed, now=ports.store.now()) if owed else None
    parent = last_good(earlier) or max((point for point in earlier if point.complete), key=lambda point: point.cut, default=None)
    begun = Begun(
        policy=policy.name,
        policy_digest=policy.digest,
        run_id=run_id,
        run=run,
        trigger=trigger,
        started=started,
        slot=owed,
        late_seconds=max(0.0, seconds(started - owed)) if owed else 0.0,
        repository=repository.id,
        parent=parent.id if parent else "",
        skipped=_why_skipped(owed, answered),
        note=asked.note,
        label=asked.label,
        pin_days=asked.pin_days,
        namespaces=asked.namespaces,
        quiesce=asked.quiesce,
    )
    if begun.skipped:
        return begun
    _own_namespace(ports)
    held = lease.take(ports.store, policy=policy.name, run=run, seconds=LEASE_SECONDS, clock=ports.clock)
    begun = replace(begun, epoch=held.epoch)
    try:
        _sweep_dead_runs(policy, run, ports)
        locks.keep(repository, who=run, clock=ports.clock)
    except BaseException:  # whoever interrupts here must not leave a lease that nobody uses
        lease.release(ports.store, run=run, epoch=held.epoch, clock=ports.clock)
        raise
    return begun


def _demand_slot(slot: datetime | None, policy: ProtectionPolicy, schedules: Sequence[Epoch]) -> None:
    """Raise UsageError for a slot that a person named and that no schedule of the policy has. Without a schedule any time will do."""
    known = {(policy.spec.schedule, policy.spec.timezone), *((one.schedule, one.timezone) for one in schedules)}
    if slot is None or policy.spec.schedule is None or any(slot_for(schedule, zone, slot) == slot for schedule, zone in known):
        return
    before = slot_for(policy.spec.schedule, policy.spec.timezone, slot)
    nearest = f"; the one before it is {format_time(before)}" if before else ""
    raise UsageError(
        f"{format_time(slot)} is no slot of the policy {policy.name}",
        where="slot",
        hint=f"becalm gaps lists those that are missed{nearest}",
    )


def _why_skipped(slot: datetime | None, answer: RecoveryPoint | None) -> str:
    if slot is None or answer is None:
        return ""
    return f"the slot {format_time(slot)} is answered by recovery point {answer.id[:8]} of {format_time(answer.cut)}"


def _own_namespace(ports: Ports) -> None:
    """Make Becalm's namespace where it is missing."""
    name = ports.settings.namespace
    try:
        ports.cluster.get(NAMESPACE, name)
    except NotFound:
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {LABEL_MANAGED: MANAGER}}}
        try:
            ports.cluster.apply(NAMESPACE, manifest, verb=Verb.CREATE)
        except AlreadyExists:
            return


def _sweep_dead_runs(policy: ProtectionPolicy, run: str, ports: Ports) -> None:
    """Remove what earlier runs of this policy left: with the lease in hand, none of them lives. It must not stop this run."""
    try:
        for finding in sweep.sweep(policy.name, ports, keep_run=run):
            ports.progress(f"left by an earlier run: {finding}")
    except BecalmError as error:
        ports.progress(f"what earlier runs left could not be removed: {error}")


def renew(begun: Begun, ports: Ports) -> None:
    """Hold the lease for longer. Raises LeaseLost where another run holds it now."""
    lease.renew(ports.store, run=begun.run, epoch=begun.epoch, seconds=LEASE_SECONDS, clock=ports.clock)


def finish(
    begun: Begun,
    *,
    applications: Sequence[Application] = (),
    records: Sequence[FreezeRecord] = (),
    cuts: Sequence[Cut] = (),
    thaws: Sequence[Thawed] = (),
    committed: Committed | None,
    failures: Sequence[str] = (),
    tasks: Mapping[str, float] | None = None,
    policy: ProtectionPolicy,
    ports: Ports,
) -> Verdict:
    """Thaw what is not confirmed thawed, remove what is temporary, let go of the lease, and verify the recovery point.

    `tasks` says how long each took, where it is known. `failures` are what the conductor saw fail; the verdict is never better than what the bucket shows. Idempotent. Raises only what is
    transient about the lease: by then all else is done.
    """
    reasons = [
        *failures,
        *_thaw_rest(begun, applications=applications, records=records, cuts=cuts, thaws=thaws, policy=policy, ports=ports),
        *_thaw_noted(begun, applications, ports),
    ]
    reasons += [str(finding) for finding in _remove_temporary(begun, ports)]
    reasons += _verify(committed, ports)
    reasons += _let_go(begun, ports)
    verdict = Verdict(run=begun.run, ok=not reasons, point=committed.point if committed else "", reasons=tuple(reasons))
    keep_record(begun, verdict, committed=committed, thaws=thaws, tasks=tasks or {}, ports=ports)
    return verdict


def demand(verdict: Verdict) -> Verdict:
    """Return a verdict that is good. Raises PartialCapture, with every reason, for one that is not."""
    if verdict.ok:
        return verdict
    what = f"recovery point {verdict.point[:8]} is no good one" if verdict.point else "there is no recovery point"
    raise PartialCapture(
        f"{what}: " + "; ".join(verdict.reasons), where=f"run {verdict.run}", hint="mend what is named and run the policy again"
    )


def _thaw_rest(
    begun: Begun,
    *,
    applications: Sequence[Application],
    records: Sequence[FreezeRecord],
    cuts: Sequence[Cut],
    thaws: Sequence[Thawed],
    policy: ProtectionPolicy,
    ports: Ports,
) -> list[str]:
    """Thaw every application whose thaw was not confirmed; return what stays unconfirmed."""
    done = {thawed.application for thawed in thaws if thawed.confirmed}
    by_name = {application.name: application for application in applications}
    cut_of = {cut.application: cut for cut in cuts}
    left: list[str] = []
    for record in records:
        if record.application in done or record.application not in by_name:
            continue
        try:
            thawed = quiesce.thaw(by_name[record.application], record, cut_of.get(record.application), begun, policy, ports)
        except BecalmError as error:
            left.append(f"{record.application} is not confirmed thawed: {error}")
            continue
        if not thawed.confirmed:
            left.append(f"{record.application} is not confirmed thawed: {'; '.join(thawed.reasons)}")
    return left


def _thaw_noted(begun: Begun, applications: Sequence[Application], ports: Ports) -> list[str]:
    """Thaw what a task froze that died before it could tell anyone; return what stays unconfirmed."""
    try:
        return list(thaw_noted(freezes.find(ports.store, run=begun.run), applications, ports).problems)
    except BecalmError as error:
        return [f"what this run may have frozen cannot be read: {error}"]


def _remove_temporary(begun: Begun, ports: Ports) -> list[object]:
    try:
        credentials.remove(begun.policy, begun.run, ports)
        return list(sweep.sweep(begun.policy, ports, run=begun.run))
    except BecalmError as error:
        return [f"temporary objects of run {begun.run} are left: {error}"]


def _let_go(begun: Begun, ports: Ports) -> list[str]:
    """Remove the run's locks and release the lease; a store that takes no write keeps both, until the next run and until it ends by itself."""
    with suppress(BecalmError):
        if begun.epoch:
            locks.let_go(open_repository(ports.store, ports.password), who=begun.run)
    try:
        lease.release(ports.store, run=begun.run, epoch=begun.epoch, clock=ports.clock)
    except PermanentError as error:
        return [f"the lease could not be let go and ends by itself within {LEASE_SECONDS / 60:.0f} minutes: {error}"]
    return []


def _verify(committed: Committed | None, ports: Ports) -> list[str]:
    """Read the recovery point back from the bucket; return what is wrong with it, and what it says itself is missing."""
    if committed is None:
        return [NOTHING]
    try:
        repository = open_repository(ports.store, ports.password)
        said = missing_in(repository, load_snapshot(repository, committed.point)[1].tree)
    except BecalmError as error:
        return [f"recovery point {committed.point[:8]} cannot be read back: {error}"]
    return list(dict.fromkeys(str(finding) for finding in (*committed.missing, *said, *committed.anomalies)))


def missing_in(repository: Repository, tree: str) -> tuple[Finding, ...]:
    """Return what a recovery point says of itself that is missing. Raises: NotFound, Damaged."""
    where = repository.where("recovery-point.json")
    try:
        said = orjson.loads(b"".join(repository.read_file(lookup(repository, tree, "recovery-point.json"))))
        found = tuple(from_payload(Finding, item) for item in said["missing"])
        complete = said["complete"] is True
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"the recovery point does not say what it holds: {error}", where=where, hint="make a new one") from error
    return found if found or complete else (Finding(where=where, message="the recovery point says that it is partial"),)


def open_same(begun: Begun, ports: Ports) -> Repository:
    """Open the repository that the run began with, and keep its lock fresh.

    Raises: OtherRepository (another one stands there now), RepositoryLocked.
    """
    repository = open_repository(ports.store, ports.password)
    if begun.repository and repository.id != begun.repository:
        raise OtherRepository(
            f"repository {repository.id[:10]} stands there now, the run began with {begun.repository[:10]}",
            where=ports.store.url,
            hint="find out who replaced it; then run the policy again",
        )
    locks.keep(repository, who=begun.run, clock=ports.clock)
    return repository
