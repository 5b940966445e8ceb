"""Filling claims with the data of a recovery point: one mover per claim, while nothing mounts it.

A new claim is written into only while it carries the mark of this restore and waits for its data; how one that exists is emptied of its
users is `restore_inplace`'s. The mark changes when a mover has said which tree it restored, and it is the planned one. Movers and their
Secret are gone when this is over, however it ends.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import groupby
from threading import Event
from typing import TYPE_CHECKING

from becalm.actions import credentials, upload
from becalm.actions.pulse import Pulse, alive_until
from becalm.actions.restore_inplace import Replacing
from becalm.actions.restore_marks import Mark, Stage
from becalm.actions.restore_pace import Pace
from becalm.actions.restore_shape import restored_from
from becalm.actions.restore_steps import VolumeAction
from becalm.clock import Deadline
from becalm.errors import MoverFailed, PermanentError
from becalm.kube.base import ANNOTATION_IN_PLACE, ANNOTATION_RESTORED_FROM, LABEL_ROLE, LABEL_RUN, MoverState, Verb
from becalm.kube.kinds import CLAIM, POD
from becalm.kube.rules import ANNOTATION_FILLED, FILL_PENDING, child
from becalm.model import Direction, MoverResult, MoverSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from becalm.actions.handover import Ports
    from becalm.actions.restore_steps import RestorePlan, VolumeStep
    from becalm.kube.base import Mover, MoverStatus
    from becalm.model import Manifest

SIDE_BY_SIDE = 4
POLL_SECONDS = 0.5
SHOWN = 5
"""So many differences of a volume are told."""
POLLS_PER_LOAN = 10
"""How often the Secret is looked at while a mover has not begun: another task of the same restore may have taken it away."""
_BYTES = re.compile(r"\bbytes (\d+)")
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


def fill(plan: RestorePlan, steps: Sequence[VolumeStep], run: str, ports: Ports, *, parallel: int = SIDE_BY_SIDE) -> list[MoverResult]:
    """Fill claims side by side, and return what each mover said, in the order of the steps; one that failed says so in its result.

    Idempotent: a mover that is at work already is adopted. Raises: AlreadyExists (the Secret's name is taken), PermanentError, and where
    data is replaced what `restore_inplace` raises.
    """
    if steps and ports.movers is None:
        raise PermanentError("there is nothing to run movers with", hint="pass a Mover in the ports")
    namespaces = tuple(sorted({step.target.namespace for step in steps}))
    filling = Filling(plan=plan, run=run, ports=ports, pulse=Pulse(run=run, namespaces=namespaces, since=ports.clock.monotonic()))
    try:
        for namespace in namespaces:
            filling.lend(namespace)
        return filling.all(steps, parallel)
    finally:
        clear(plan, run, ports)


def clear(plan: RestorePlan, run: str, ports: Ports) -> None:
    """Remove the Secret of this restore wherever it may be: an execution that was killed has left it.

    Where movers of the same restore are at work, which another task started, it stays for them: the last one removes it.
    """
    labels = f"{LABEL_RUN}={run},{LABEL_ROLE}={credentials.RESTORE_ROLE}"
    for namespace in sorted({step.target.namespace for step in plan.volumes}):
        if not any(True for _ in ports.cluster.list(POD, namespace=namespace, labels=labels)):
            credentials.remove(plan.policy, run, ports, namespace=namespace, role=credentials.RESTORE_ROLE)


@dataclass(slots=True, kw_only=True)
class Filling:
    """The filling of one restore's claims, under way."""

    plan: RestorePlan
    run: str
    ports: Ports
    pulse: Pulse
    given_up: Event = field(default_factory=Event)
    """Set where the whole of it ends: nobody waits for a mover any more."""

    def lend(self, namespace: str) -> None:
        """Put the credentials for the movers into a namespace."""
        expires = alive_until(self.ports)
        credentials.ensure(self.plan.policy, self.run, namespace, self.ports, role=credentials.RESTORE_ROLE, expires=expires)

    def all(self, steps: Sequence[VolumeStep], parallel: int) -> list[MoverResult]:
        """Fill new claims, then replace data, namespace by namespace."""
        results: dict[VolumeStep, MoverResult] = {}
        new = [step for step in steps if step.action is not VolumeAction.REPLACE]
        pool = ThreadPoolExecutor(max_workers=parallel, thread_name_prefix="fill")
        try:
            results |= dict(zip(new, pool.map(self._fill_new, new), strict=True))
            used = sorted((step for step in steps if step.action is VolumeAction.REPLACE), key=lambda step: step.target)
            for _, group in groupby(used, key=lambda step: step.target.namespace):
                together = list(group)
                replacing = Replacing(
                    plan=self.plan, steps=together, run=self.run, ports=self.ports, write=self._write_over, side_by_side=pool.map
                )
                results |= dict(zip(together, replacing.carry_out(), strict=True))
        except BaseException:
            self.given_up.set()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        return [results[step] for step in steps]

    def _fill_new(self, step: VolumeStep) -> MoverResult:
        """Fill a claim that waits for its data, unless that was done before."""
        claim = self._claim(step)
        filled = child(claim, "metadata", "annotations").get(ANNOTATION_FILLED)
        answer = MoverResult(name="", run=self.run, volume=step.volume)
        if restored_from(claim) == self.plan.point and filled == step.tree:
            return replace(answer, tree=step.tree)
        if restored_from(claim) != self.plan.point or filled != FILL_PENDING:
            return replace(answer, error="the claim changed since the plan was made, and does not wait for the data of this recovery point")
        answer = self._verified(mover_spec(step, self.run, claim["metadata"]["uid"], self.ports.store.url), step, lambda: None)
        if not answer.error and answer.tree == step.tree:
            _mark(claim, step, self.plan, self.run, self.ports)
        return answer

    def _write_over(self, step: VolumeStep, look: Callable[[], None]) -> MoverResult:
        """Make the files of a claim those of the point: what differs is written, what is not in the point goes."""
        spec = mover_spec(step, self.run, self._claim(step)["metadata"]["uid"], self.ports.store.url)
        return self._verified(replace(spec, exact=True), step, look)

    def _verified(self, spec: MoverSpec, step: VolumeStep, look: Callable[[], None]) -> MoverResult:
        """Write a volume; where that is asked for, have another mover read it again before anything mounts it."""
        answer = self.move(spec, step, look)
        if answer.error or not step.verify:
            return answer
        seen = self.move(replace(spec, name=f"{spec.name}-check", exact=False, compare=True), step, look)
        wrong = seen.error or "; ".join(map(str, seen.unreadable[:SHOWN]))
        if not wrong:
            return answer
        more = f", and {len(seen.unreadable) - SHOWN} more" if len(seen.unreadable) > SHOWN else ""
        return replace(answer, error=f"what was written is not what the point holds: {wrong}{more}", seconds=answer.seconds + seen.seconds)

    def _claim(self, step: VolumeStep) -> Manifest:
        return self.ports.cluster.get(CLAIM, step.target.claim, namespace=step.target.namespace)

    def move(self, spec: MoverSpec, step: VolumeStep, look: Callable[[], None]) -> MoverResult:
        """Run one mover to its end, and return what it said. Its pod is gone when this returns."""
        movers = self.ports.movers
        assert movers is not None
        try:
            movers.start(spec)
            reason = self._wait(spec, step, movers, look)
            answer = upload.collect([spec], self.ports, reasons={spec.name: reason})[0]
        finally:
            _remove(spec, movers, self.ports)
        # what stands in the bucket may be the word of an earlier try
        return replace(answer, error=reason) if reason and not answer.error else answer

    def _wait(self, spec: MoverSpec, step: VolumeStep, movers: Mover, look: Callable[[], None]) -> str:
        """Wait until a mover ended; return why it failed, or nothing."""
        deadline = Deadline(self.ports.clock, self.ports.settings.mover_timeout_seconds)
        polls, pace = 0, Pace()
        while not deadline.passed():
            self.pulse.beat(self.ports)
            look()
            status = movers.poll(spec.name, namespace=spec.namespace)
            if status.state is MoverState.SUCCEEDED:
                return ""
            if status.state in (MoverState.FAILED, MoverState.GONE):
                return status.reason or f"the mover is {status.state}"
            if self.given_up.is_set():
                return "the restore was ended before it was filled"
            polls += 1
            if status.state is MoverState.WAITING and polls % POLLS_PER_LOAN == 0:
                self.lend(spec.namespace)
            self.ports.progress(f"fill {step.target}: {told(status, step, pace, now=self.ports.clock.monotonic())}")
            self.ports.clock.sleep(POLL_SECONDS)
        return f"not done within {self.ports.settings.mover_timeout_seconds:.0f} s"


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


def _mark(claim: Manifest, step: VolumeStep, plan: RestorePlan, run: str, ports: Ports) -> None:
    """Write down that the claim holds its data. Where the restore may replace data, doing it all again must not replace this."""
    metadata = claim["metadata"]
    marks = {ANNOTATION_RESTORED_FROM: restored_from(claim), ANNOTATION_FILLED: step.tree}
    if step.in_place:
        done = Mark(policy=plan.policy, point=plan.point, tree=step.tree, run=run, stage=Stage.DONE)
        marks[ANNOTATION_IN_PLACE] = done.encode()
    patch = {
        "apiVersion": CLAIM.api_version,
        "kind": CLAIM.kind,
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"], "annotations": marks},
    }
    ports.cluster.apply(CLAIM, patch, verb=Verb.MERGE)


def told(status: MoverStatus, step: VolumeStep, pace: Pace, *, now: float) -> str:
    """Say how far a mover is, for a person: what it said itself, which share of the volume that is, how fast it comes, and for how long."""
    said = status.progress or status.reason or str(status.state)
    found = _BYTES.search(status.progress)
    if not found or not step.size_bytes:
        return said
    done = int(found[1])
    rate = pace.told(done, size=step.size_bytes, now=now)
    return f"{min(100, 100 * done // step.size_bytes)} %, {said}{rate and f', {rate}'}"
