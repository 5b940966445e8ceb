"""A drill: restore a recovery point into namespaces of its own, look whether it runs, measure how long that took, and clean up.

It touches nothing of the live application: its namespaces are new and closed, and only what carries the drill's label is removed.
`plan` is pure; `begin`, `restore_point`, `look` and `finish` are the tasks of the DAG, and `run` conducts them where Airflow does not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from becalm.actions import drill_checks, drill_record, drill_rooms, restore
from becalm.actions.drill_steps import Checked, DrillPlan, DrillReport, Restored, demand
from becalm.actions.restore_request import ClusterScoped, RestoreRequest
from becalm.actions.restore_source import Source
from becalm.catalog.points import find, points
from becalm.errors import BecalmError, NothingSelected
from becalm.kube.kinds import NAMESPACE
from becalm.kube.rules import child
from becalm.model import Finding, ResourceRef, Severity, run_key
from becalm.policy.spec import Drill, Keep
from becalm.repository.reader import open_repository

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from becalm.actions.handover import Ports
    from becalm.model import Manifest, RecoveryPoint
    from becalm.policy.spec import ProtectionPolicy

__all__ = ["begin", "demand", "finish", "look", "plan", "report", "request_of", "restore_point", "run"]

RUN_PREFIX = "drill\0"


def plan(
    policy: ProtectionPolicy,
    point: RecoveryPoint,
    namespaces: Collection[str],
    *,
    run_id: str,
    repository: str,
    now: datetime,
    keep: bool = False,
) -> DrillPlan:
    """Say what a drill will do. Pure. A policy without a section `drill` is drilled by that section's defaults.

    Raises: NothingSelected (the point holds nothing that stands in a namespace).
    """
    if not namespaces:
        raise NothingSelected(
            "the recovery point holds nothing in a namespace, so there is nothing to drill", where=f"recovery point {point.id[:8]}"
        )
    drill = policy.spec.drill or Drill()
    drill_id = run_key(policy.name, RUN_PREFIX + run_id, repository=repository)
    rooms = drill_rooms.names(policy.name, drill_id, sorted(namespaces))
    rto = policy.spec.objectives.rto
    return DrillPlan(
        id=drill_id,
        policy=policy.name,
        point=point.id,
        cut=point.cut,
        rooms=rooms,
        checks=drill_checks.plan(drill, rooms),
        custom_resources=drill.custom_resources,
        repository=repository,
        started=now,
        timeout_seconds=drill.timeout.total_seconds(),
        ready_seconds=min(drill.ready, drill.timeout).total_seconds(),
        rto_seconds=rto.total_seconds() if rto else None,
        keep_always=keep,
        keep_on_failure=drill.keep is Keep.ON_FAILURE,
    )


def begin(policy: ProtectionPolicy, ports: Ports, *, run_id: str, point: str = "latest", keep: bool = False) -> DrillPlan:
    """Choose the recovery point, and make the closed namespaces. What was made goes again where this fails.

    Raises: PointMissing, NothingSelected, AlreadyExists, Damaged, and what the ports raise.
    """
    repository = open_repository(ports.store, ports.password)
    found = find(points(repository, policy.name), point, now=ports.clock.now())
    source = Source.open(repository, found.tree)
    decided = plan(
        policy,
        found,
        {ref.namespace for ref in source.places if ref.namespace},
        run_id=run_id,
        repository=ports.store.url,
        now=ports.clock.now(),
        keep=keep,
    )
    ports.progress(f"drill {decided.id}: recovery point {found.id[:8]} into {', '.join(decided.rooms.values())}")
    try:
        drill_rooms.make(decided, _saved_namespaces(source, decided), ports)
    except BaseException as error:
        _undo(decided, ports, error)
        raise
    return decided


def _saved_namespaces(source: Source, decided: DrillPlan) -> dict[str, Manifest]:
    refs = [ResourceRef(group="", resource=NAMESPACE.resource, namespace=None, name=name) for name in decided.rooms]
    saved = source.read([ref for ref in refs if ref in source.places])
    return {str(child(one.manifest, "metadata").get("name")): one.manifest for one in saved}


def _undo(decided: DrillPlan, ports: Ports, error: BaseException) -> None:
    """Take back what was made. What cannot be is noted on the error: the reaper finds it."""
    try:
        left = drill_rooms.remove(decided.policy, decided.id, ports)
    except BecalmError as second:
        error.add_note(f"the namespaces of drill {decided.id} may be there still: {second}")
    else:
        for finding in left:
            error.add_note(str(finding))


def request_of(decided: DrillPlan) -> RestoreRequest:
    """Return what the drill asks of a restore. Pure: the same drill asks the same."""
    return RestoreRequest.read(
        {
            "policy": decided.policy,
            "point": decided.point,
            "namespace_mapping": dict(decided.rooms),
            "include_cluster_scoped": ClusterScoped.NONE,
            "isolated": True,
            "isolated_custom": decided.custom_resources,
        }
    )


def restore_point(decided: DrillPlan, ports: Ports) -> Restored:
    """Restore into the namespaces of the drill, and compare. What went wrong is in the result. Idempotent.

    Raises: what is transient, RestoreRefused (the plan names what forbids it), Damaged.
    """
    began = ports.clock.now()
    request = request_of(decided)
    within = replace(ports, settings=replace(ports.settings, mover_timeout_seconds=max(1.0, drill_checks.left_seconds(decided, ports))))
    wanted = restore.prepare(request, within)
    drill_rooms.let_movers_out(decided, restore.restore_run(wanted, request), within)
    done = restore.execute(wanted, request, within)
    seen = restore.verify(wanted, request, within)
    return Restored(
        began=began,
        objects=seen.objects,
        volumes=seen.volumes,
        bytes=sum(result.bytes_total for result in done.volumes if not result.error),
        left_out=done.skipped,
        seconds=done.seconds,
        failures=(*done.failures, *seen.failures),
        remarks=(*wanted.findings, *seen.remarks),
    )


def look(decided: DrillPlan, ports: Ports) -> Checked:
    """Wait until all is ready, run the checks, and look whether its storage is its own. Raises what the cluster raises."""
    return drill_checks.look(decided, ports)


def report(
    decided: DrillPlan,
    restored: Restored | None,
    checked: Checked | None,
    *,
    now: datetime,
    failures: Sequence[Finding] = (),
    remarks: Sequence[Finding] = (),
    kept: tuple[str, ...] = (),
) -> DrillReport:
    """Say what a drill came to. Pure. `failures` and `remarks` are what else befell it."""
    recovery = (checked.ended - restored.began).total_seconds() if restored and checked else None
    wrong = bool(failures or (restored and restored.failures))
    found = [
        *failures,
        *(restored.failures if restored else (_missing("the restore did not come to its end"),) if not failures else ()),
        *((*checked.unready, *checked.failures) if checked else (_missing("nothing was checked"),) if restored and not wrong else ()),
        *(
            Finding(where=f"{check.name} in {check.where}", message=f"failed: {check.reason}", remedy="run it there by hand")
            for check in (checked.checks if checked else ())
            if not check.ok
        ),
    ]
    if recovery is not None and decided.rto_seconds is not None and recovery > decided.rto_seconds:
        message = f"took {recovery:.0f} s, and the objective is {decided.rto_seconds:.0f} s"
        found.append(Finding(where="spec.objectives.rto", message=message, remedy="see where the time went, or state another objective"))
    if (now - decided.started).total_seconds() > decided.timeout_seconds and not (checked and checked.ended <= decided.ends):
        message = f"the drill was not done within {decided.timeout_seconds:.0f} s"
        found.append(Finding(where="spec.drill.timeout", message=message, remedy="allow it more, or see where the time went"))
    return DrillReport(
        id=decided.id,
        policy=decided.policy,
        point=decided.point,
        cut=decided.cut,
        started=decided.started,
        ended=now,
        ok=not found,
        objects=restored.objects if restored else 0,
        volumes=restored.volumes if restored else 0,
        bytes=restored.bytes if restored else 0,
        restore_seconds=restored.seconds if restored else 0.0,
        recovery_seconds=recovery,
        rto_seconds=decided.rto_seconds,
        checks=checked.checks if checked else (),
        failures=tuple(found),
        remarks=(*(restored.remarks if restored else ()), *remarks),
        kept=kept,
    )


def _missing(message: str) -> Finding:
    return Finding(where="drill", message=message, remedy="see the tasks of its run")


def finish(
    decided: DrillPlan, restored: Restored | None, checked: Checked | None, ports: Ports, *, failures: Sequence[Finding] = ()
) -> DrillReport:
    """Clean up, and write the report; what could not be removed is a failure of the drill too. Idempotent.

    Raises: what is transient (nothing is lost: finish again), AccessDenied.
    """
    ok = report(decided, restored, checked, now=ports.clock.now(), failures=failures).ok
    left: tuple[Finding, ...] = ()
    kept: tuple[str, ...] = ()
    if decided.keep_always or (decided.keep_on_failure and not ok):
        kept = drill_rooms.keep(decided.policy, decided.id, ports)
    else:
        ports.progress(f"drill {decided.id}: cleaning up")
        left = drill_rooms.remove(decided.policy, decided.id, ports)
    wrong = tuple(one for one in left if one.severity is Severity.ERROR)
    other = tuple(one for one in left if one.severity is not Severity.ERROR)
    made = report(decided, restored, checked, now=ports.clock.now(), failures=(*failures, *wrong), remarks=other, kept=kept)
    drill_record.save(made, open_repository(ports.store, ports.password))
    return made


def run(policy: ProtectionPolicy, ports: Ports, *, run_id: str, point: str = "latest", keep: bool = False) -> DrillReport:
    """Conduct a drill from its beginning to its report; clean up whatever happens. A failed drill is a report, not an error.

    Raises: PointMissing and what else `begin` raises: then nothing was restored.
    """
    decided = begin(policy, ports, run_id=run_id, point=point, keep=keep)
    restored: Restored | None = None
    checked: Checked | None = None
    failures: list[Finding] = []
    try:
        restored = restore_point(decided, ports)
        checked = None if restored.failures else look(decided, ports)
    except BecalmError as error:
        failures.append(Finding(where=error.where or "restore", message=error.message, remedy=error.hint))
    except BaseException as error:
        _undo(decided, ports, error)
        raise
    return finish(decided, restored, checked, ports, failures=failures)
