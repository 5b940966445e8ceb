"""Cut the volumes of one application side by side and take the cluster's revision inside its freeze; thaw at once; then list its objects.

The thaw happens in this process, as soon as the storage has reported the last cut: no scheduler stands between. What is slow and
harmless, listing and writing, follows the thaw. Nothing is cut without a live freeze where the policy asks for one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

from becalm.actions import listing, quiesce, run
from becalm.actions.handover import Cut, FreezeOutcome, VolumeCut
from becalm.errors import BecalmError, CutFailed
from becalm.kube.base import owned_by
from becalm.kube.kinds import NAMESPACE
from becalm.kube.snapshots import SnapshotFacts, await_cuts, start_cut
from becalm.model import Consistency, VolumeUse
from becalm.policy.spec import OnFailure
from becalm.repository.reader import open_repository
from becalm.repository.retain import Term
from becalm.repository.writer import Writer

if TYPE_CHECKING:
    from datetime import datetime

    from becalm.actions.handover import Application, Begun, FreezeRecord, Ports, Thawed, VolumePlan
    from becalm.policy.spec import ProtectionPolicy

CUTS_AT_ONCE = 16
CUT_SECONDS = 300.0
"""How long a storage may take to cut where nobody is frozen meanwhile."""
ROLE = "cut"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will be cut, under which names, and until when the freeze lasts."""

    cuts: tuple[tuple[VolumePlan, str], ...]
    """Each volume with the name of its VolumeSnapshot."""
    live: tuple[VolumePlan, ...] = ()
    frozen_until: datetime | None = None
    """None: nothing is frozen."""
    refused: str = ""
    """Why nothing may be cut."""


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
        live=tuple(item for item in application.volumes if item.use is VolumeUse.LIVE),
        frozen_until=until,
        refused=refused,
    )


def _name(begun: Begun, record: FreezeRecord, item: VolumePlan) -> str:
    return f"becalm-{begun.run}-{sha256(f'{item.volume}@{record.began.isoformat()}'.encode()).hexdigest()[:8]}"


def execute(application: Application, record: FreezeRecord, begun: Begun, policy: ProtectionPolicy, ports: Ports) -> Cut:
    """Cut, take the revision, thaw, list. A volume that fails is named in its `VolumeCut`; the others go on.

    Whatever is raised, the application was thawed before. Raises: CutFailed (no live freeze), LeaseLost, and what cluster and store raise.
    """
    decided = plan(application, record, begun, policy, now=ports.clock.now())
    try:
        _demand_freeze(decided, application)
        cut = _cut(application, decided, begun, ports)
    except BaseException:
        quiesce.release(application, record, None, ports)
        raise
    thawed = quiesce.release(application, record, cut.cut, ports)
    if cut.late:
        if policy.spec.quiesce.on_failure is OnFailure.FAIL:
            names = ", ".join(str(item.volume) for item, _ in cut.late)
            raise CutFailed(
                f"the storage did not cut within the freeze: {names}", where=application.name, hint="let quiesce.timeout be longer"
            )
        cut = _wait_on(cut, ports)
        thawed = _too_late(thawed)
    return _with_objects(application, replace(cut.cut, thawed=thawed), begun, policy, ports)


def _demand_freeze(decided: Plan, application: Application) -> None:
    if decided.refused:
        raise CutFailed(
            f"there is no live freeze, so nothing was cut: {decided.refused}",
            where=application.name,
            hint="run the policy again; a longer quiesce.timeout gives more time",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cutting:
    """The cut, and what of it the storage has not reported yet."""

    cut: Cut
    late: tuple[tuple[VolumePlan, SnapshotFacts], ...] = ()


def _cut(application: Application, decided: Plan, begun: Begun, ports: Ports) -> _Cutting:
    """Ask for all cuts and for the revision at the same time, and wait for the cuts as long as the freeze lasts."""
    began = ports.clock.now()
    with ThreadPoolExecutor(max_workers=CUTS_AT_ONCE, thread_name_prefix="cut") as pool:
        revision = pool.submit(lambda: ports.cluster.list(NAMESPACE, page_size=1).revision)
        asked = list(pool.map(lambda pair: _start(pair[0], pair[1], begun, ports), decided.cuts))
        at = revision.result()
    started = [facts for facts in asked if not facts.error]
    left = CUT_SECONDS if decided.frozen_until is None else max(0.1, (decided.frozen_until - ports.clock.now()).total_seconds())
    known = {facts.volume: facts for facts in await_cuts(ports.cluster, ports.clock, started, timeout_seconds=min(left, CUT_SECONDS))}
    ended = ports.clock.now()
    overdue = decided.frozen_until is not None and ended >= decided.frozen_until
    facts_of = [known.get(facts.volume, facts) for facts in asked]
    late = [
        (item, first)
        for (item, _), first, last in zip(decided.cuts, asked, facts_of, strict=True)
        if overdue and not first.error and not last.created
    ]
    volumes = [_volume_cut(item, facts) for (item, _), facts in zip(decided.cuts, facts_of, strict=True)]
    volumes += [VolumeCut(plan=item) for item in decided.live]
    return _Cutting(cut=Cut(application=application.name, began=began, ended=ended, revision=at, volumes=tuple(volumes)), late=tuple(late))


def _start(item: VolumePlan, name: str, begun: Begun, ports: Ports) -> SnapshotFacts:
    """Ask for one cut; that it is refused is an answer."""
    labels = owned_by(begun.policy, begun.run, ROLE)
    try:
        return start_cut(ports.cluster, ports.clock, volume=item.volume, snapshot_class=item.snapshot_class, name=name, labels=labels)
    except BecalmError as error:
        return SnapshotFacts(volume=item.volume, name=name, error=str(error))


def _volume_cut(item: VolumePlan, facts: SnapshotFacts) -> VolumeCut:
    return VolumeCut(plan=item, snapshot=facts.name, content=facts.content, handle=facts.handle, created=facts.created, error=facts.error)


def _wait_on(cutting: _Cutting, ports: Ports) -> _Cutting:
    """Wait for cuts that did not come within the freeze: the application is thawed, and the data is as good as after a crash."""
    plan_of = {item.volume: item for item, _ in cutting.late}
    later = await_cuts(ports.cluster, ports.clock, [facts for _, facts in cutting.late], timeout_seconds=CUT_SECONDS)
    new = {facts.volume: _volume_cut(plan_of[facts.volume], facts) for facts in later}
    volumes = tuple(new.get(item.plan.volume, item) for item in cutting.cut.volumes)
    return _Cutting(cut=replace(cutting.cut, ended=ports.clock.now(), volumes=volumes))


def _too_late(thawed: Thawed) -> Thawed:
    return replace(thawed, consistency=Consistency.CRASH, reasons=(*thawed.reasons, "the storage cut only after the freeze was over"))


def _with_objects(application: Application, cut: Cut, begun: Begun, policy: ProtectionPolicy, ports: Ports) -> Cut:
    """List the objects at the cut's revision into the repository."""
    run.renew(begun, ports)
    lock = policy.spec.target.lock
    until = Term.of(ports.store.now(), lock.days).at_writing if lock else None
    classes = tuple(sorted({item.plan.snapshot_class for item in cut.volumes if item.plan.snapshot_class}))
    names = frozenset(item.snapshot for item in cut.volumes if item.snapshot)
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
    )
