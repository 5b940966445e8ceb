"""Restoring: read the point and the cluster, make a plan, carry out exactly that plan, and verify what became of it.

`prepare` reads and decides, `execute` acts, `verify` reads again. Nothing that exists is overwritten or deleted, and an execution
that was interrupted is taken up by the next. The nouns are in `restore_steps`, the decisions in `restore_plan`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.actions import restore_after, restore_inplace, restore_rights, restore_trials
from becalm.actions.restore_conflicts import left_to_do
from becalm.actions.restore_live import read_live
from becalm.actions.restore_objects import Execution
from becalm.actions.restore_plan import plan, targets
from becalm.actions.restore_rate import with_estimates
from becalm.actions.restore_request import ClusterScoped, Conflict, RestoreRequest
from becalm.actions.restore_select import claim_ref, worth_reading
from becalm.actions.restore_shape import Owners, Shape
from becalm.actions.restore_source import Source
from becalm.actions.restore_steps import (
    ACTING,
    CHANGING,
    Action,
    RestorePlan,
    RestoreReport,
    Step,
    Verification,
    VolumeAction,
    VolumeStep,
    demand,
    demand_success,
)
from becalm.actions.restore_unchanged import demand_unchanged
from becalm.actions.restore_volumes import clear, fill
from becalm.catalog.points import find, points
from becalm.errors import MoverFailed
from becalm.kube.diffing import compare
from becalm.kube.kinds import CLAIM
from becalm.kube.ordering import OrderClass
from becalm.kube.rules import ANNOTATION_FILLED, child
from becalm.model import Finding, Severity, run_key
from becalm.repository.reader import open_repository

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from becalm.actions.handover import Ports
    from becalm.actions.restore_live import Live
    from becalm.actions.restore_source import SavedObject
    from becalm.model import MoverResult

__all__ = [
    "Action",
    "ClusterScoped",
    "Conflict",
    "RestorePlan",
    "RestoreReport",
    "RestoreRequest",
    "Step",
    "Verification",
    "VolumeAction",
    "VolumeStep",
    "demand",
    "demand_success",
    "execute",
    "plan",
    "prepare",
    "verify",
]

RUN_PREFIX = "restore-"
"""The key of a restore's run begins so: no capture has such a key."""


def prepare(request: RestoreRequest, ports: Ports) -> RestorePlan:
    """Read the recovery point and the cluster, and decide what a restore would do. Nothing is written.

    Raises: PointMissing, RestoreRefused (the selection matches nothing), Damaged, and what the ports raise.
    """
    repository = open_repository(ports.store, ports.password)
    point = find(points(repository, request.policy), request.point, now=ports.clock.now())
    ports.progress(f"reading recovery point {point.id[:8]}")
    source = Source.open(repository, point.tree, worth_reading(request))
    contents = source.contents(worth_reading(request))
    ports.progress(f"comparing {len(contents.objects)} objects with the cluster")
    live = read_live(((saved.kind, target) for saved, target in targets(request, contents)), ports)
    decided = restore_trials.examine(plan(request, point, contents, live), request, source, ports)
    decided = restore_inplace.examine(decided, ports, without_copy=request.without_safety_copy)
    return with_estimates(restore_rights.examine(decided, ports), repository, ports)


def restore_run(decided: RestorePlan, request: RestoreRequest) -> str:
    """Return the key of a restore: the same request for the same point has the same, so that a second execution finds the first."""
    return RUN_PREFIX + run_key(decided.policy, f"{decided.point}\0{request.model_copy(update={'point': decided.point}).model_dump_json()}")


def execute(decided: RestorePlan, request: RestoreRequest, ports: Ports) -> RestoreReport:
    """Carry out exactly a plan. Idempotent; `failures` in the report decide.

    Data comes before what mounts it: where a volume of a namespace was not filled, the workloads of that namespace are withheld.
    Raises: RestoreRefused (the plan has findings that forbid it), ClusterChanged (the cluster is not as the plan saw it: nothing was
    written, or nothing of what changed), and what is transient: run it again.
    """
    demand(decided)
    began = ports.clock.monotonic()
    run = restore_run(decided, request)
    kept, skipped = len(decided.steps_to(Action.KEEP)), len(decided.steps_to(Action.SKIP))
    if decided.changes_nothing:
        clear(decided, run, ports)
        failed, told = restore_after.settle(decided, request, run, ports)
        return RestoreReport(policy=decided.policy, point=decided.point, run=run, kept=kept, skipped=skipped, failures=failed, remarks=told)
    restore_after.begin(decided, request, run, ports)
    source = Source.open(open_repository(ports.store, ports.password), decided.tree, {step.source for step in decided.steps}.__contains__)
    execution = Execution(plan=decided, shape=Shape.of(decided, request), source=source, ports=ports)
    execution.live = demand_unchanged(execution)
    results: list[MoverResult] | None = None
    unfilled: dict[str, str] = {}
    for order, steps in execution.waves():
        if results is None and order > OrderClass.STORAGE:
            results = _fill(decided, run, execution, unfilled, ports)
        execution.carry_out(execution.withhold(steps, unfilled) if order >= OrderClass.WORKLOADS else steps)
    if results is None:
        results = _fill(decided, run, execution, unfilled, ports)
    execution.finish()
    remarks: tuple[Finding, ...] = ()
    if not execution.failures:
        failures, remarks = restore_after.settle(decided, request, run, ports)
        execution.failures += failures
    return RestoreReport(
        policy=decided.policy,
        point=decided.point,
        run=run,
        created=execution.done[Action.CREATE],
        linked=execution.done[Action.LINK],
        merged=execution.done[Action.MERGE],
        replaced=execution.done[Action.REPLACE],
        recreated=execution.done[Action.RECREATE],
        kept=kept,
        skipped=skipped,
        volumes=tuple(results),
        failures=tuple(execution.failures),
        remarks=remarks,
        seconds=ports.clock.monotonic() - began,
    )


def _fill(decided: RestorePlan, run: str, execution: Execution, unfilled: dict[str, str], ports: Ports) -> list[MoverResult]:
    """Fill the volumes of a plan; note the namespaces in which one was not filled."""
    refused = {failure.where for failure in execution.failures}
    wanted = decided.volumes_to(VolumeAction.FILL, VolumeAction.REPLACE)
    steps = [step for step in wanted if str(claim_ref(step.target)) not in refused]
    unfilled.update({step.target.namespace: f"the claim {step.target} was not created" for step in wanted if step not in steps})
    results = fill(decided, steps, run, ports, parallel=execution.shape.request.parallel)
    for step, result in zip(steps, results, strict=True):
        wrong = result.error or ("" if result.tree == step.tree else f"the mover restored the tree {result.tree[:8] or 'none'}")
        if wrong:
            failed = MoverFailed(wrong, where=f"volumes/{step.target}", hint="restore again: a claim that is not filled is filled anew")
            execution.failures.append(Finding(where=failed.where, message=f"was not filled: {failed.message}", remedy=failed.hint))
            unfilled[step.target.namespace] = f"the volume {step.target} was not filled"
        execution.failures += result.unreadable
    return results


def verify(decided: RestorePlan, request: RestoreRequest, ports: Ports) -> Verification:
    """Read again what was to be created and filled, and compare it with the recovery point.

    A field that the cluster only added is a remark; one that is missing or says something else is a failure.
    """
    shape = Shape.of(decided, request)
    owners = Owners(by_uid={step.saved_uid: step.source for step in decided.steps if step.action is not Action.SKIP and step.saved_uid})
    steps = decided.steps_to(*ACTING)
    source = Source.open(open_repository(ports.store, ports.password), decided.tree, {step.source for step in decided.steps}.__contains__)
    live = read_live([(step.api, step.target) for step in steps], ports)
    findings = [
        found
        for step, saved in zip(steps, source.read([step.source for step in steps]), strict=True)
        for found in _differences(step, saved, shape, owners, live)
    ]
    filled = decided.volumes_to(VolumeAction.FILL, VolumeAction.REPLACE)
    unfilled = list(_unfilled(filled, ports))
    failures = [*(found for found in findings if found.severity is Severity.ERROR), *unfilled]
    wrong = {found.where for found in failures}
    return Verification(
        objects=sum(str(step.target) not in wrong for step in steps),
        volumes=len(filled) - len(unfilled),
        failures=tuple(failures),
        remarks=tuple(found for found in findings if found.severity is not Severity.ERROR),
    )


def _differences(step: Step, saved: SavedObject, shape: Shape, owners: Owners, live: Live) -> Iterator[Finding]:
    found = live.objects.get(step.target)
    if found is None:
        yield Finding(where=str(step.target), message="is not there", remedy="see the report of the restore, and restore again")
        return
    wanted = shape.manifest(saved, owners=owners.linked(saved))
    left = {change.path for change in left_to_do(step.action, wanted, found, ours=True)} if step.action in CHANGING else None
    for change in compare(wanted, found):
        severity = Severity.WARNING if change.added or (left is not None and change.path not in left) else Severity.ERROR
        yield Finding(
            where=str(step.target),
            message=f"differs from the recovery point: {change}",
            remedy="a controller may have changed it since",
            severity=severity,
        )


def _unfilled(steps: Sequence[VolumeStep], ports: Ports) -> Iterator[Finding]:
    for step in steps:
        claim = ports.cluster.get(CLAIM, step.target.claim, namespace=step.target.namespace)
        if child(claim, "metadata", "annotations").get(ANNOTATION_FILLED) != step.tree:
            yield Finding(
                where=f"volumes/{step.target}", message="is not filled with the data of the recovery point", remedy="restore again"
            )
