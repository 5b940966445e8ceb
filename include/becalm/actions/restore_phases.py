"""A restore in parts, for a conductor that runs its volumes as tasks of their own: the plan kept as it was shown, the ground laid, one volume filled.

The rest is `restore.execute`: it finds what was done here, and does what is left. The plan stands sealed in the bucket under its digest:
what is carried out is what was approved, to the last letter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from becalm.actions.restore import restore_run
from becalm.actions.restore_objects import Execution
from becalm.actions.restore_record import plan_digest
from becalm.actions.restore_shape import Shape
from becalm.actions.restore_source import Source
from becalm.actions.restore_steps import RestorePlan, VolumeAction, demand
from becalm.actions.restore_volumes import fill
from becalm.errors import Damaged, MoverFailed, NotFound
from becalm.kube.ordering import OrderClass
from becalm.model import from_payload, payload
from becalm.repository.format import Layout
from becalm.repository.reader import open_repository

if TYPE_CHECKING:
    from becalm.actions.handover import Ports
    from becalm.actions.restore_request import RestoreRequest
    from becalm.model import Finding, MoverResult

PLAN = "plan-"


def keep(decided: RestorePlan, request: RestoreRequest, ports: Ports) -> str:
    """Write a plan into the bucket, sealed; return its digest. Idempotent."""
    digest = plan_digest(decided)
    repository = open_repository(ports.store, ports.password)
    sealed, _ = repository.seal_document(orjson.dumps(payload(decided)))
    ports.store.put(_key(restore_run(decided, request), digest), sealed)
    return digest


def kept(run: str, digest: str, ports: Ports) -> RestorePlan:
    """Return a plan that was kept. Raises: NotFound (it was carried out, or given up), Damaged (it is not the one of that digest)."""
    repository = open_repository(ports.store, ports.password)
    key = _key(run, digest)
    try:
        sealed = ports.store.get(key)
    except NotFound as error:
        raise NotFound("the plan is not kept any more", where=repository.where(key), hint="start the restore again") from error
    found = from_payload(RestorePlan, orjson.loads(repository.open_document(sealed, where=repository.where(key))))
    if plan_digest(found) != digest:
        raise Damaged("this is not the plan that was shown", where=repository.where(key), hint="find out who wrote there; start again")
    return found


def forget(run: str, digest: str, ports: Ports) -> None:
    """Take a plan away that is over."""
    ports.store.delete(_key(run, digest))


def _key(run: str, digest: str) -> str:
    return Layout.run_result(run, PLAN + digest[:16])


def lay(decided: RestorePlan, request: RestoreRequest, ports: Ports) -> tuple[Finding, ...]:
    """Make what volumes are filled in: everything up to the claims, and no data. Return what failed. Idempotent."""
    demand(decided)
    if decided.changes_nothing:
        return ()
    source = Source.open(open_repository(ports.store, ports.password), decided.tree)
    execution = Execution(plan=decided, shape=Shape.of(decided, request), source=source, ports=ports)
    for order, steps in execution.waves():
        if order > OrderClass.STORAGE:
            break
        execution.carry_out(steps)
    return tuple(execution.failures)


def to_fill(decided: RestorePlan) -> tuple[str, ...]:
    """Return the claims that are filled one by one. Data that is replaced in place waits for its workloads, and is `execute`'s. Pure."""
    return tuple(str(step.target) for step in decided.volumes_to(VolumeAction.FILL))


def fill_one(decided: RestorePlan, request: RestoreRequest, target: str, ports: Ports) -> MoverResult:
    """Fill one new claim. Idempotent. Raises: NotFound (it is not in the plan), MoverFailed, and what the ports raise."""
    steps = [step for step in decided.volumes_to(VolumeAction.FILL) if str(step.target) == target]
    if not steps:
        raise NotFound(f"the plan fills no volume {target}", where=f"recovery point {decided.point[:8]}", hint="start the restore again")
    result = fill(decided, steps, restore_run(decided, request), ports)[0]
    if result.error or result.tree != steps[0].tree:
        raise MoverFailed(result.error or "the mover restored another tree", where=f"volumes/{target}", hint="restore again")
    return result
