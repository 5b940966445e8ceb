"""Replacing the data of claims that are in use: stop what mounts them, copy the old data, write, start again.

Whoever is killed in between leaves marks (`restore_marks`, and on each workload how it was), and the same restore run again goes on from
them. Before the first byte is written every end starts the workloads again, on the old data. After it they stay stopped until the new data
is whole: nothing ever starts on half of each.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from becalm.actions import credentials, restore_safety, restore_scaling
from becalm.actions.restore_marks import Mark, Stage, forget, write
from becalm.actions.restore_steps import RestorePlan, VolumeAction, VolumeStep
from becalm.clock import Deadline, parse_time
from becalm.errors import BecalmError, Conflict, NotFound
from becalm.kube.base import ANNOTATION_EXPIRES
from becalm.kube.kinds import CLAIM, SECRET
from becalm.kube.rules import child
from becalm.kube.snapshot_facts import quantity
from becalm.model import Finding, MoverResult, Severity, VolumeMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from becalm.actions.handover import Ports
    from becalm.model import Manifest

STOP_SECONDS = 600.0
"""How long what mounts a claim may take to end: pods have their own time for that."""
POLL_SECONDS = 0.5
LOOK_SECONDS = 5.0
"""How often one looks, while a volume is written, whether something has mounted it."""

Look: TypeAlias = "Callable[[], None]"
Write: TypeAlias = "Callable[[VolumeStep, Look], MoverResult]"
SideBySide: TypeAlias = "Callable[[Callable[[VolumeStep], MoverResult], Sequence[VolumeStep]], Iterable[MoverResult]]"


def examine(plan: RestorePlan, ports: Ports, *, without_copy: bool = False) -> RestorePlan:
    """Complete a plan: what is stopped for each volume that is replaced, what copies its old data, and what forbids it. Nothing is written."""
    if not plan.volumes_to(VolumeAction.REPLACE):
        return plan
    volumes: list[VolumeStep] = []
    blocking: list[Finding] = []
    notes: list[Finding] = []
    for step in plan.volumes:
        if step.action is not VolumeAction.REPLACE:
            volumes.append(step)
            continue
        claim = ports.cluster.get(CLAIM, step.target.claim, namespace=step.target.namespace)
        found = restore_scaling.users(ports.cluster, step.target.namespace, frozenset({step.target.claim}))
        class_name = "" if without_copy else restore_safety.snapshot_class(ports.cluster, claim)
        volumes.append(replace(step, stops=tuple(map(str, found.workloads)), snapshot_class=class_name))
        blocking += [*found.unstoppable, *_unfit(step, claim)]
        if not class_name and not without_copy and not Mark.of(claim).copy:
            blocking.append(_no_copy(step))
        notes.append(_note(step, found, class_name))
    return replace(plan, volumes=tuple(volumes), blocking=(*plan.blocking, *blocking), findings=(*plan.findings, *notes))


def _no_copy(step: VolumeStep) -> Finding:
    message = "no snapshot class can copy its old data before that is replaced"
    return Finding(
        where=f"volumes/{step.target}", message=message, remedy="make a VolumeSnapshotClass for its driver, or say --without-safety-copy"
    )


def _note(step: VolumeStep, found: restore_scaling.Users, class_name: str) -> Finding:
    stopped = f"{', '.join(map(str, found.workloads))} is stopped meanwhile" if found.workloads else "nothing mounts it now"
    kept = f"its old data is kept as a snapshot of class {class_name} until becalm confirm" if class_name else "its old data is not kept"
    return Finding(where=f"volumes/{step.target}", message=f"{stopped}; {kept}", severity=Severity.WARNING)


def _unfit(step: VolumeStep, claim: Manifest) -> Iterator[Finding]:
    """Yield why a claim cannot take the data."""
    where, spec = f"volumes/{step.target}", child(claim, "spec")
    mode = VolumeMode.BLOCK if spec.get("volumeMode") == VolumeMode.BLOCK else VolumeMode.FILESYSTEM
    size = quantity(child(claim, "status", "capacity").get("storage")) or quantity(child(spec, "resources", "requests").get("storage"))
    if mode is not step.mode:
        yield Finding(
            where=where, message=f"is a {mode} volume, and the point holds a {step.mode} one", remedy="restore into another claim"
        )
    elif size and step.size_bytes > size:
        message = f"has {size} bytes, and the data has {step.size_bytes}"
        yield Finding(where=where, message=message, remedy="make the claim larger, or restore into another one")
    if claim["metadata"].get("deletionTimestamp"):
        yield Finding(where=where, message="is being deleted", remedy="wait until it is gone")


@dataclass(slots=True, kw_only=True)
class Replacing:
    """The volumes of one namespace that are replaced together: one stop and one start for all of them."""

    plan: RestorePlan
    steps: Sequence[VolumeStep]
    run: str
    ports: Ports
    write: Write
    """Writes one volume. It calls now and then what it is given, which raises where something has mounted the claim."""
    side_by_side: SideBySide
    """Does the same with several: `map`, or that of a pool."""
    _claims: dict[VolumeStep, Manifest] = field(default_factory=dict)
    _marks: dict[VolumeStep, Mark] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        """Where all of it stands."""
        return self.steps[0].target.namespace

    def carry_out(self) -> list[MoverResult]:
        """Replace the data; one result for each volume. Raises: Conflict (something mounts it again), CutFailed, and what the ports raise."""
        try:
            for step in self.steps:
                self._claims[step] = claim = self._claim(step)
                self._marks[step] = Mark.of(claim)
            waiting = [step for step in self.steps if not self._is_written(step)]
            if waiting:
                self._begin(waiting)
                self._stop(waiting)
                for step in waiting:
                    self._copy(step)
            results = list(self.side_by_side(self._replace, self.steps))
        except BaseException as error:
            self._leave(error)
            raise
        left = self._start()
        return [self._told(step, result, left) for step, result in zip(self.steps, results, strict=True)]

    def _claim(self, step: VolumeStep) -> Manifest:
        return self.ports.cluster.get(CLAIM, step.target.claim, namespace=step.target.namespace)

    def _is_written(self, step: VolumeStep) -> bool:
        mark = self._marks[step]
        return (mark.stage is Stage.DONE or (mark.stage is Stage.WRITTEN and mark.run == self.run)) and mark.speaks_of(
            self.plan.point, step.tree
        )

    def _mark(self, step: VolumeStep, mark: Mark) -> None:
        self._marks[step] = write(self.ports.cluster, self._claims[step], mark)

    def _begin(self, waiting: Sequence[VolumeStep]) -> None:
        """Say on each claim that this restore is at work. Raises: Conflict (another one is)."""
        earlier = sorted({mark.run for mark in self._marks.values() if mark.stage not in (Stage.NONE, Stage.DONE)} - {self.run})
        for run in earlier:
            self._demand_dead(run)
        for step in waiting:
            begun = self._marks[step].going_on(policy=self.plan.policy, point=self.plan.point, tree=step.tree, run=self.run)
            self._mark(step, begun)
        for run in earlier:
            for workload in list(restore_scaling.stopped_by(self.ports.cluster, self.namespace, run)):
                restore_scaling.stop(self.ports.cluster, workload, self.run, may_take_over=True)

    def _demand_dead(self, run: str) -> None:
        """Raise Conflict where an earlier restore of these claims may be at work still."""
        try:
            found = self.ports.cluster.get(SECRET, credentials.secret_name(run), namespace=self.namespace)
            until = parse_time(child(found, "metadata", "annotations").get(ANNOTATION_EXPIRES, ""))
        except (NotFound, ValueError):
            return
        if until > self.ports.store.now():
            hint = f"wait for it; where it is dead, it is taken up after {until:%H:%M} UTC, or now by the very same restore"
            raise Conflict(f"restore {run} is replacing data here", where=self.namespace, hint=hint)

    def _stop(self, waiting: Sequence[VolumeStep]) -> None:
        """Stop what mounts the claims, and wait until nothing does. Raises: Conflict, PermanentError (a pod cannot be stopped)."""
        names = frozenset(step.target.claim for step in waiting)
        found = restore_scaling.users(self.ports.cluster, self.namespace, names)
        restore_scaling.demand_stoppable(found)
        named = {name for step in self.steps for name in step.stops}
        if others := restore_scaling.unexpected(found, named):
            raise Conflict(
                f"{', '.join(others)} mounts it, and the plan does not say that it is stopped",
                where=f"volumes/{self.namespace}/{min(names)}",
                hint="make the plan again",
            )
        for workload in found.workloads:
            self.ports.progress(f"stop {workload}")
            restore_scaling.stop(self.ports.cluster, workload, self.run)
        deadline = Deadline(self.ports.clock, STOP_SECONDS)
        while pods := restore_scaling.mounting(self.ports.cluster, self.namespace, names):
            if deadline.passed():
                raise Conflict(
                    f"{_named(pods)} still mounts it after {STOP_SECONDS:.0f} s",
                    where=f"volumes/{self.namespace}/{min(names)}",
                    hint="look at the pod; what starts it again (an operator, an autoscaler) must be paused",
                )
            self.ports.progress(f"waiting until {_named(pods)} has ended")
            self.ports.clock.sleep(POLL_SECONDS)

    def _copy(self, step: VolumeStep) -> None:
        """Copy the old data, where that is wanted and still there. From here on the claim is marked as being written."""
        mark = self._marks[step]
        if mark.stage is not Stage.BEGUN:
            return
        uid = self._claims[step]["metadata"]["uid"]
        copy = ""
        if step.snapshot_class:
            copy = restore_safety.cut(step.target, uid, step.snapshot_class, self.ports, policy=self.plan.policy, run=self.run)
        self._look(step, mark)
        self._mark(step, replace(mark, stage=Stage.WRITING, copy=copy))

    def _look(self, step: VolumeStep, mark: Mark) -> None:
        """Raise Conflict where something mounts the claim."""
        pods = restore_scaling.mounting(self.ports.cluster, self.namespace, frozenset({step.target.claim}))
        if pods:
            kept = f"; the old data is in the VolumeSnapshot {mark.copy}" if mark.copy else ""
            raise Conflict(
                f"{_named(pods)} mounts it again while its data is replaced",
                where=f"volumes/{step.target}",
                hint=f"pause what starts it (an operator, an autoscaler), and run the same restore again{kept}",
            )

    def _replace(self, step: VolumeStep) -> MoverResult:
        """Write one volume, and say on its claim that it is whole."""
        if self._is_written(step):
            return MoverResult(name="", run=self.run, volume=step.volume, tree=step.tree)
        mark = self._marks[step]
        self._look(step, mark)
        seen = [self.ports.clock.monotonic()]

        def look() -> None:
            if self.ports.clock.monotonic() - seen[0] >= LOOK_SECONDS:
                seen[0] = self.ports.clock.monotonic()
                self._look(step, mark)

        result = self.write(step, look)
        if not result.error and result.tree == step.tree:
            self._mark(step, replace(mark, stage=Stage.WRITTEN))
        return result

    def _unsettled(self) -> list[str]:
        """Return the claims of the namespace that this restore is not done with, whoever of it is at work on them."""
        left = []
        for step in self.plan.volumes_to(VolumeAction.REPLACE):
            if step.target.namespace == self.namespace:
                mark = Mark.of(self._claim(step))
                if mark.run == self.run and mark.stage in (Stage.BEGUN, Stage.WRITING):
                    left.append(str(step.target))
        return left

    def _start(self) -> list[str]:
        """Start what was stopped, unless a claim is not whole; return what stays stopped."""
        stopped = list(restore_scaling.stopped_by(self.ports.cluster, self.namespace, self.run))
        if self._unsettled():
            return [str(workload) for workload in stopped]
        for workload in reversed(stopped):
            self.ports.progress(f"start {workload}")
            restore_scaling.start(self.ports.cluster, workload)
        for step, mark in list(self._marks.items()):
            if mark.stage is Stage.WRITTEN:
                self._mark(step, replace(mark, stage=Stage.DONE))
        return []

    def _told(self, step: VolumeStep, result: MoverResult, left: Sequence[str]) -> MoverResult:
        """Add to a failure what a person has to know of it."""
        return replace(result, error=f"{result.error}; {self._state(step, left)}") if result.error else result

    def _state(self, step: VolumeStep, left: Sequence[str]) -> str:
        stays = f"{', '.join(left)} stays stopped until the same restore has been run again" if left else "nothing was stopped"
        copy = self._marks[step].copy
        return stays + (f"; the old data is in the VolumeSnapshot {self.namespace}/{copy}" if copy else "")

    def _leave(self, error: BaseException) -> None:
        """Leave a clear state: on the old data, with everything started, if nothing was written; else stopped. Say which."""
        try:
            for step, mark in self._marks.items():
                if mark.run == self.run and mark.stage is Stage.BEGUN:
                    forget(self.ports.cluster, self._claims[step])
            left = self._start()
        except BecalmError as problem:
            error.add_note(f"{self.namespace}: what was stopped could not be started again: {problem}; run the same restore again")
            return
        if not left and not any(mark.stage is Stage.WRITING for mark in self._marks.values()):
            error.add_note(f"{self.namespace}: the old data is untouched, and what was stopped runs again")
        for step, mark in self._marks.items():
            if mark.stage is Stage.WRITING:
                error.add_note(f"volumes/{step.target}: is half written; {self._state(step, left)}")


def _named(pods: Sequence[Manifest]) -> str:
    names = [str(pod["metadata"]["name"]) for pod in pods]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} pods more" if len(names) > 3 else "")
