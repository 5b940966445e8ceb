"""Make a recovery point visible: join what was captured, check that all of it is there, and write one snapshot object.

Before that object nothing of the run can be seen; after it the recovery point is whole. What was selected and is not in it
stands in it by name.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import becalm
from becalm.actions import anomalies, infrastructure, keep, run
from becalm.actions.description import consistency, context, describe, missing
from becalm.actions.handover import Committed
from becalm.catalog.points import pin, pins, points, tags_of
from becalm.errors import (
    AccessDenied,
    BecalmError,
    BucketMissing,
    CutFailed,
    Damaged,
    LeaseLost,
    NoRepository,
    OtherRepository,
    StoreFull,
    StoreReadOnly,
    WrongPassword,
)
from becalm.model import RecoveryPoint
from becalm.repository import intents, retain, tombstones
from becalm.repository.check import check_tree
from becalm.repository.format import Layout, SnapshotDoc
from becalm.repository.lease import Fence
from becalm.repository.node import decode_node
from becalm.repository.publish import mark_missing, publish
from becalm.repository.tree import TreeBuilder, join
from becalm.repository.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from becalm.actions.handover import Begun, Cut, Discovered, Exported, Ports, Thawed
    from becalm.actions.infrastructure import Code
    from becalm.model import MoverResult
    from becalm.policy.spec import ProtectionPolicy
    from becalm.repository.reader import Repository

FENCE_MARGIN_SECONDS = 60.0
OF_THE_TARGET: dict[str, type[BecalmError]] = {
    cls.code: cls
    for cls in (AccessDenied, BucketMissing, LeaseLost, NoRepository, OtherRepository, StoreFull, StoreReadOnly, WrongPassword)
}
"""Errors of a mover that are no volume's fault: with them nothing of the run may become visible."""


def execute(
    begun: Begun,
    *,
    discovered: Discovered,
    cuts: Sequence[Cut],
    thaws: Sequence[Thawed],
    exports: Sequence[Exported],
    results: Sequence[MoverResult],
    policy: ProtectionPolicy,
    ports: Ports,
    failures: Mapping[str, str] | None = None,
) -> Committed:
    """Write the recovery point, or return the one that this run has written already. One that is better than that is written beside it.

    Raises: CutFailed (nothing at all was captured), Damaged (something it needs is not in the bucket), LeaseLost, and what a mover met
    at the target.
    """
    run.renew(begun, ports)
    fence = Fence(ports.store, run=begun.run, epoch=begun.epoch, clock=ports.clock)
    intents.settle(ports.store, alive=fence.check)
    repository = run.open_same(begun, ports).avoiding(tombstones.marked(ports.store))
    _demand_target(results)
    absent = missing(discovered, cuts=cuts, thaws=thaws, exports=exports, results=results, failures=failures)
    label, why = consistency(cuts, thaws)
    uploaded = [result for result in results if result.tree and not result.error]
    if not uploaded and not any(cut.objects for cut in cuts):
        raise CutFailed(
            "nothing was captured: " + "; ".join(map(str, absent)), where=f"run {begun.run}", hint="nothing was written; mend what is named"
        )
    found = points(repository, policy.name)
    parent = next((point for point in found if point.id == begun.parent), None)
    code = infrastructure.save(policy, repository, parent, ports, until=_at_writing(policy, ports))
    absent += code.missing
    run.renew(begun, ports)
    facts = Committed(
        point="",
        tree="",
        complete=not absent,
        consistency=label,
        missing=absent,
        objects=sum(cut.objects for cut in cuts),
        volumes=len(uploaded),
        bytes_total=sum(result.bytes_total for result in uploaded),
        bytes_added=sum(result.bytes_added for result in uploaded),
    )
    others = [point for point in found if point.run != begun.run]
    facts = replace(facts, anomalies=anomalies.find(uploaded, others, policy=policy, repository=repository))
    earlier = [point for point in found if point.run == begun.run]
    best = max(earlier, key=lambda point: (point.complete, point.cut), default=None)
    if best and (best.complete or not facts.complete):
        _pin(best.id, begun, ports)
        return _written(repository, best, facts)
    document = describe(
        begun, facts, why=why, discovered=discovered, cuts=cuts, thaws=thaws, exports=exports, results=results, policy=policy
    )
    tree = _join(repository, document, cuts=cuts, uploaded=uploaded, code=code, ports=ports, until=_at_writing(policy, ports))
    keys = _all_there(repository, tree)
    until = _lock(repository, tree, keys, policy, parent=parent)
    point = _point(begun, facts, cuts=cuts, tree=tree, policy=policy, ports=ports)
    snapshot = publish(
        repository,
        _snapshot(point, begun),
        run=begun.run,
        epoch=begun.epoch,
        fence=fence,
        needs=frozenset(key.rpartition("/")[2] for key in keys if key.startswith(Layout.DATA)),
        retain_until=until,
        margin_seconds=FENCE_MARGIN_SECONDS,
    )
    _pin(snapshot, begun, ports)
    return replace(facts, point=snapshot, tree=tree)


def _pin(point: str, begun: Begun, ports: Ports) -> None:
    """Pin the point for as long as the run was asked to. A pin that is there stays as it is: somebody may have changed it."""
    if begun.pin_days and point not in pins(ports.store):
        now = ports.store.now()
        until = now + timedelta(days=begun.pin_days)
        pin(ports.store, point, now=now, until=until, note=begun.note, who=f"run {begun.run_id}")


def _point(begun: Begun, facts: Committed, *, cuts: Sequence[Cut], tree: str, policy: ProtectionPolicy, ports: Ports) -> RecoveryPoint:
    """Return what the catalog is to say of the point."""
    return RecoveryPoint(
        id="",
        policy=policy.name,
        cut=min(cut.began for cut in cuts),
        tree=tree,
        cluster=ports.settings.cluster_name,
        revision=max((cut.revision for cut in cuts), key=_as_number),
        run=begun.run,
        slot=begun.slot,
        late=timedelta(seconds=begun.late_seconds),
        consistency=facts.consistency,
        complete=facts.complete,
        anomalous=bool(facts.anomalies),
        label=begun.label,
        narrowed=bool(begun.namespaces),
    )


def _demand_target(results: Sequence[MoverResult]) -> None:
    """Raise what a mover met at the target: a full bucket, or refused keys, is not the fault of one volume."""
    for result in results:
        code = next((part for part in result.error.split(": ") if part in OF_THE_TARGET), "")
        if code:
            raise OF_THE_TARGET[code](
                f"the mover could not write: {result.error.partition(f'{code}: ')[2]}",
                where=f"volumes/{result.volume}",
                hint="nothing became visible; mend the target, and run the policy again",
            )


def _written(repository: Repository, point: RecoveryPoint, facts: Committed) -> Committed:
    """Return the point of this run that stands in the bucket, as it is and not as this attempt would have been."""
    said = () if point.complete else run.missing_in(repository, point.tree)
    return replace(facts, point=point.id, tree=point.tree, complete=point.complete, consistency=point.consistency, missing=said)


def _as_number(revision: str) -> tuple[int, str]:
    """Order revisions. Kubernetes promises comparison as numbers from 1.35 on (KEP-5504); before, this is what they are."""
    return (int(revision), "") if revision.isdigit() else (0, revision)


def _at_writing(policy: ProtectionPolicy, ports: Ports) -> datetime | None:
    """Return until when a new object is locked before its point is committed."""
    lock = policy.spec.target.lock
    return retain.Term.of(ports.store.now(), lock.days).at_writing if lock else None


def _lock(
    repository: Repository, tree: str, keys: Sequence[str], policy: ProtectionPolicy, *, parent: RecoveryPoint | None
) -> datetime | None:
    """Lock all that the point needs, and return until when the point itself may be locked."""
    lock = policy.spec.target.lock
    if lock is None:
        return None
    proof = retain.proof(repository, parent.id, parent.tree) if parent else None
    return retain.secure(repository, tree, keys, days=lock.days, proof=proof)


def _snapshot(point: RecoveryPoint, begun: Begun) -> SnapshotDoc:
    return SnapshotDoc(
        time=point.cut,
        tree=point.tree,
        paths=("/",),
        hostname=point.cluster,
        username="becalm",
        tags=tags_of(point),
        parent=begun.parent,
        program_version=f"becalm {becalm.__version__}",
    )


def _join(
    repository: Repository,
    document: bytes,
    *,
    cuts: Sequence[Cut],
    uploaded: Sequence[MoverResult],
    code: Code,
    ports: Ports,
    until: datetime | None,
) -> str:
    """Write the tree of the point: objects, volumes, context, and its own description."""
    now = ports.clock.now()
    with Writer(repository, retain_until=until) as writer:
        builder = TreeBuilder(mtime=now)
        builder.add_bytes("recovery-point.json", document)
        for result in uploaded:
            root = decode_node(result.root) if result.root else None
            tree = keep.over(repository, writer, result.tree, result.volume, cuts)
            builder.add_tree(f"volumes/{result.volume}", tree, like=root)
        for name, root in code.mirrors.items():
            builder.add_node(f"{infrastructure.FOLDER}/{name}", root)
        if code.document:
            builder.add_bytes(infrastructure.DOCUMENT, code.document)
        for path, content in context(ports):
            builder.add_bytes(f"endpoints/{path}", content)
        own = builder.write(writer)
        writer.flush()  # what is joined is read
        newest_last = sorted((cut for cut in cuts if cut.resources_tree), key=lambda cut: _as_number(cut.revision))
        kept = [cut.kept_tree for cut in cuts if cut.kept_tree]
        tree = join(repository, writer, [*(cut.resources_tree for cut in newest_last), *kept, own])
        writer.flush()
    return tree


def _all_there(repository: Repository, tree: str) -> tuple[str, ...]:
    """Demand that every blob of the tree lies in a pack that is in the bucket; return every object that the point needs.

    A pack that prune has marked does not count: the repository was opened without those.
    """
    repository.refresh()
    checked = check_tree(repository, tree)
    if checked.damages:
        first = checked.damages[0]
        mark_missing(repository, [key.rpartition("/")[2] for key in checked.keys if key.startswith(Layout.DATA)])
        raise Damaged(
            f"{len(checked.damages)} objects that this recovery point needs are not whole, first: {first.problem}",
            where=first.where,
            hint="nothing became visible; becalm verify says what else is damaged",
        )
    return checked.keys


def report(committed: Committed) -> str:
    """Say in one line what was written."""
    state = "complete" if committed.complete else f"partial, {len(committed.missing)} missing"
    state += f", {len(committed.anomalies)} anomalies" if committed.anomalies else ""
    return (
        f"recovery point {committed.point[:8]}: {state}, {committed.consistency}, {committed.objects} objects, {committed.volumes} volumes"
    )
