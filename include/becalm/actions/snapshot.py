"""Cut the volumes of one application side by side and take the cluster's revision inside its freeze; thaw at once; then list its objects.

The thaw happens in this process, as soon as the storage has reported the last cut: no scheduler stands between. What is slow and
harmless, listing and writing, follows the thaw. Nothing is cut without a live freeze where the policy asks for one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

from becalm.actions import cutting, keep, listing, quiesce, run
from becalm.actions.cutting import Plan
from becalm.actions.handover import FreezeOutcome
from becalm.errors import CutFailed
from becalm.model import Consistency, VolumeUse
from becalm.policy.spec import OnFailure
from becalm.repository.reader import open_repository
from becalm.repository.retain import Term
from becalm.repository.writer import Writer

if TYPE_CHECKING:
    from datetime import datetime

    from becalm.actions.handover import Application, Begun, Cut, FreezeRecord, Ports, Thawed, VolumeGroup, VolumePlan
    from becalm.policy.spec import ProtectionPolicy

RENEW_SECONDS = 120.0
"""How often the lease is renewed while a dump goes on."""

__all__ = ["Plan", "execute", "plan"]


def plan(application: Application, record: FreezeRecord, begun: Begun, policy: ProtectionPolicy, *, now: datetime) -> Plan:
    """Decide what is cut, and whether it may be. Pure.

    A name derives from run, volume and freeze: a second try within one freeze finds the first one's cut, and never that of another freeze.
    """
    frozen = [item for item in record.frozen if item.outcome is not FreezeOutcome.FAILED]
    until = min(item.asked for item in frozen) + timedelta(seconds=record.timeout_seconds) if frozen else None
    refused = ""
    if policy.spec.quiesce.on_failure is OnFailure.FAIL and record.hooks:
        if record.reasons or len(frozen) < record.hooks:
            refused = "not everything is frozen: " + ("; ".join(record.reasons) or f"{len(frozen)} of {record.hooks} hooks")
        elif until is not None and now >= until:
            refused = f"the freeze is over, its {record.timeout_seconds:g} s have passed"
    return Plan(
        cuts=tuple((item, _name(begun, record, item)) for item in application.volumes if item.use is VolumeUse.SNAPSHOT),
        groups=tuple((group, _group_name(begun, record, group)) for group in application.groups),
        live=tuple(item for item in application.volumes if item.use is VolumeUse.LIVE),
        frozen_until=until,
        refused=refused,
    )


def _name(begun: Begun, record: FreezeRecord, item: VolumePlan) -> str:
    return f"becalm-{begun.run}-{sha256(f'{item.volume}@{record.began.isoformat()}'.encode()).hexdigest()[:8]}"


def _group_name(begun: Begun, record: FreezeRecord, group: VolumeGroup) -> str:
    meant = f"group {group.namespace} {group.driver}@{record.began.isoformat()}"
    return f"becalm-{begun.run}-{sha256(meant.encode()).hexdigest()[:8]}"


def execute(application: Application, record: FreezeRecord, begun: Begun, policy: ProtectionPolicy, ports: Ports) -> Cut:
    """Cut, take the revision, thaw, list. A volume that fails is named in its `VolumeCut`; the others go on.

    Whatever is raised, the application was thawed before. Raises: CutFailed (no live freeze), LeaseLost, and what cluster and store raise.
    """
    decided = plan(application, record, begun, policy, now=ports.clock.now())
    try:
        _demand_freeze(decided, application)
        made = cutting.cut(application, decided, begun, ports)
    except BaseException:
        quiesce.release(application, record, None, ports)
        raise
    thawed = quiesce.release(application, record, made.cut, ports)
    if made.late:
        if policy.spec.quiesce.on_failure is OnFailure.FAIL:
            names = ", ".join(str(item.volume) for item, _ in made.late)
            raise CutFailed(
                f"the storage did not cut within the freeze: {names}", where=application.name, hint="let quiesce.timeout be longer"
            )
        made = cutting.wait_on(made, ports)
        thawed = _too_late(thawed, record)
    made = cutting.settle(made, ports)
    return _with_the_rest(application, record, replace(made.cut, thawed=thawed), begun, policy, ports)


def _demand_freeze(decided: Plan, application: Application) -> None:
    if decided.refused:
        raise CutFailed(
            f"there is no live freeze, so nothing was cut: {decided.refused}",
            where=application.name,
            hint="run the policy again; a longer quiesce.timeout gives more time",
        )


def _locked_until(policy: ProtectionPolicy, ports: Ports) -> datetime | None:
    lock = policy.spec.target.lock
    return Term.of(ports.store.now(), lock.days).at_writing if lock else None


def _too_late(thawed: Thawed, record: FreezeRecord) -> Thawed:
    reasons = (*thawed.reasons, "the storage cut only after the freeze was over")
    frozen = tuple(f"{item.hook.namespace}/{item.pod}" for item in record.frozen)
    return replace(thawed, consistency=Consistency.CRASH, reasons=reasons, broken=frozen)


def _with_the_rest(  # noqa: PLR0917  (the five nouns of every verb, and the cut)
    application: Application, record: FreezeRecord, cut: Cut, begun: Begun, policy: ProtectionPolicy, ports: Ports
) -> Cut:
    """List the objects, and fetch at the same time what blueprints keep: neither can wait for the other. The lease is held meanwhile."""
    until = _locked_until(policy, ports)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="keep") as pool:
        fetching = pool.submit(keep.execute, application, record, cut, ports, until=until)
        listed = _with_objects(application, cut, begun, policy, ports)
        while not wait([fetching], timeout=RENEW_SECONDS).done:
            run.renew(begun, ports)
        return keep.onto(listed, fetching.result())


def _with_objects(application: Application, cut: Cut, begun: Begun, policy: ProtectionPolicy, ports: Ports) -> Cut:
    """List the objects at the cut's revision into the repository."""
    run.renew(begun, ports)
    until = _locked_until(policy, ports)
    classes = tuple(sorted({item.plan.snapshot_class for item in cut.volumes if item.plan.snapshot_class}))
    names = frozenset(name for item in cut.volumes for name in (item.snapshot, item.group, item.handle) if name)
    scope = listing.Scope(namespaces=application.namespaces, selection=policy.spec.select, snapshot_classes=classes, cuts=names)
    repository = open_repository(ports.store, ports.password)
    with Writer(repository, retain_until=until) as writer:
        listed = listing.execute(scope, revision=cut.revision, cluster=ports.cluster, writer=writer, clock=ports.clock)
        written = writer.flush()
    return replace(
        cut,
        revision=listed.revision,
        listed_again=listed.listed_again,
        resources_tree=listed.tree,
        objects=listed.objects,
        packs=written.packs,
        excluded=listed.excluded,
        findings=listed.findings,
        certificates=listed.certificates,
        notes=(*cut.notes, *listed.notes),
    )
