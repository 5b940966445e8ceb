"""Filling new claims with the data of a recovery point: one mover per claim, before anything mounts it.

A claim is written into only while it carries the mark of this restore and waits for its data. The mark changes when a mover has
said which tree it restored, and it is the planned one. Movers and their Secret are gone when this is over, however it ends.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from becalm.actions import credentials, upload
from becalm.actions.pulse import Pulse, alive_until
from becalm.actions.restore_shape import restored_from
from becalm.clock import Deadline
from becalm.errors import MoverFailed, PermanentError
from becalm.kube.base import ANNOTATION_RESTORED_FROM, MoverState, Verb
from becalm.kube.kinds import CLAIM
from becalm.kube.rules import ANNOTATION_FILLED, FILL_PENDING, child
from becalm.model import Direction, MoverResult, MoverSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from becalm.actions.handover import Ports
    from becalm.actions.restore_steps import RestorePlan, VolumeStep
    from becalm.kube.base import Mover
    from becalm.model import Manifest

SIDE_BY_SIDE = 4
POLL_SECONDS = 0.5
GONE_SECONDS = 120.0
"""How long a mover's pod may take to go. A volume that only one node may mount is not free before."""


def mover_spec(step: VolumeStep, run: str, uid: str, repository: str) -> MoverSpec:
    """Describe the mover of one claim. Its name holds the claim's uid: another claim of the same name is another mover. Pure."""
    return MoverSpec(
        name=f"becalm-{run}-{sha256(f'{step.target}/{uid}'.encode()).hexdigest()[:10]}",
        run=run,
        direction=Direction.RESTORE,
        volume=step.volume,
        namespace=step.target.namespace,
        claim=step.target.claim,
        mode=step.mode,
        repository=repository,
        secret=credentials.secret_name(run),
        tree=step.tree,
        root=step.root,
    )


def fill(plan: RestorePlan, steps: Sequence[VolumeStep], run: str, ports: Ports) -> list[MoverResult]:
    """Fill claims side by side, and return what each mover said; one that failed says so in its result.

    Idempotent: a mover that is at work already is adopted. Raises: AlreadyExists (the Secret's name is taken), PermanentError.
    """
    if steps and ports.movers is None:
        raise PermanentError("there is nothing to run movers with", hint="pass a Mover in the ports")
    try:
        for namespace in sorted({step.target.namespace for step in steps}):
            credentials.ensure(plan.policy, run, namespace, ports, role=credentials.RESTORE_ROLE, expires=alive_until(ports))
        pulse = Pulse(run=run, namespaces=tuple(sorted({step.target.namespace for step in steps})), since=ports.clock.monotonic())
        with ThreadPoolExecutor(max_workers=SIDE_BY_SIDE) as pool:
            return list(pool.map(lambda step: _fill_one(plan, step, run, pulse, ports), steps))
    finally:
        clear(plan, run, ports)


def clear(plan: RestorePlan, run: str, ports: Ports) -> None:
    """Remove the Secret of this restore wherever it may be: an execution that was killed has left it."""
    for namespace in sorted({step.target.namespace for step in plan.volumes}):
        credentials.remove(plan.policy, run, ports, namespace=namespace, role=credentials.RESTORE_ROLE)


def _fill_one(plan: RestorePlan, step: VolumeStep, run: str, pulse: Pulse, ports: Ports) -> MoverResult:
    movers = ports.movers
    assert movers is not None
    claim = ports.cluster.get(CLAIM, step.target.claim, namespace=step.target.namespace)
    spec = mover_spec(step, run, child(claim, "metadata")["uid"], ports.store.url)
    answer = MoverResult(name=spec.name, run=run, volume=step.volume)
    filled = child(claim, "metadata", "annotations").get(ANNOTATION_FILLED)
    if restored_from(claim) == plan.point and filled == step.tree:
        return replace(answer, tree=step.tree)
    if restored_from(claim) != plan.point or filled != FILL_PENDING:
        return replace(answer, error="the claim changed since the plan was made, and does not wait for the data of this recovery point")
    try:
        movers.start(spec)
        reason = _wait(spec, step, pulse, movers, ports)
        answer = upload.collect([spec], ports, reasons={spec.name: reason})[0]
    finally:
        _remove(spec, movers, ports)
    if reason and not answer.error:  # what stands in the bucket is the word of an earlier try
        answer = replace(answer, error=reason)
    if not answer.error and answer.tree == step.tree:
        _mark(claim, step, ports)
    return answer


def _wait(spec: MoverSpec, step: VolumeStep, pulse: Pulse, movers: Mover, ports: Ports) -> str:
    """Wait until a mover ended; return why it failed, or nothing."""
    deadline = Deadline(ports.clock, ports.settings.mover_timeout_seconds)
    while not deadline.passed():
        pulse.beat(ports)
        status = movers.poll(spec.name, namespace=spec.namespace)
        if status.state is MoverState.SUCCEEDED:
            return ""
        if status.state in (MoverState.FAILED, MoverState.GONE):
            return status.reason or f"the mover is {status.state}"
        ports.progress(f"fill {step.target}: {status.progress or status.reason or status.state}")
        ports.clock.sleep(POLL_SECONDS)
    return f"not done within {ports.settings.mover_timeout_seconds:.0f} s"


def _remove(spec: MoverSpec, movers: Mover, ports: Ports) -> None:
    """Remove a mover and wait until it let go of the claim. Raises MoverFailed where it does not."""
    movers.cancel(spec.name, namespace=spec.namespace)
    deadline = Deadline(ports.clock, GONE_SECONDS)
    while movers.poll(spec.name, namespace=spec.namespace).state is not MoverState.GONE:
        if deadline.passed():
            raise MoverFailed(
                f"the mover's pod has not gone within {GONE_SECONDS:.0f} s", where=f"{spec.namespace}/{spec.name}", hint="look at its node"
            )
        ports.clock.sleep(POLL_SECONDS)


def _mark(claim: Manifest, step: VolumeStep, ports: Ports) -> None:
    """Write down that the claim holds its data."""
    metadata = claim["metadata"]
    marks = {ANNOTATION_RESTORED_FROM: restored_from(claim), ANNOTATION_FILLED: step.tree}
    patch = {
        "apiVersion": CLAIM.api_version,
        "kind": CLAIM.kind,
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"], "annotations": marks},
    }
    ports.cluster.apply(CLAIM, patch, verb=Verb.MERGE)
