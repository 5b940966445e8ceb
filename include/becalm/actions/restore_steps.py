"""The nouns of a restore: its plan, what it did, and what was verified. Frozen, printable, and fit for a hand-over.

They hold references, reasons and differences; never an object, and never the value of a Secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  (pydantic resolves the annotations at run time)
from enum import StrEnum

from becalm.errors import PermanentError, RestoreRefused
from becalm.kube.base import Kind
from becalm.kube.diffing import FieldChange  # noqa: TC001  (pydantic resolves the annotations at run time)
from becalm.model import Finding, MoverResult, ResourceRef, VolumeMode, VolumeRef


class Action(StrEnum):
    """What becomes of an object."""

    CREATE = "create"
    LINK = "link"
    """An earlier, interrupted execution created it, and did not come to linking its owners."""
    KEEP = "keep"
    """It is there, and is not touched."""
    MERGE = "merge"
    """It is there, and gets the fields that the point holds."""
    REPLACE = "replace"
    """It is there, and comes to say what the point says, and nothing else."""
    RECREATE = "delete-and-restore"
    """It is there, is deleted, and made again."""
    SKIP = "skip"
    """It is not restored at all."""


CHANGING = (Action.MERGE, Action.REPLACE, Action.RECREATE)
"""What is done to an object that exists, and only where a person asked for it."""
ACTING = (Action.CREATE, Action.LINK, *CHANGING)
"""What writes."""


class VolumeAction(StrEnum):
    """What becomes of the data of a claim."""

    FILL = "fill"
    REPLACE = "replace-data"
    """The claim is there; what mounts it is stopped, and its data becomes that of the point."""
    EMPTY = "empty"
    """A new claim, without data."""
    KEEP = "keep"
    """The claim is there, and its data is not touched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One object: where it stands in the point, where it goes, what is done and why."""

    source: ResourceRef
    target: ResourceRef
    kind: str
    version: str
    """The version in which it is written."""
    saved_version: str = ""
    """The version in which it was saved, where that is another one."""
    action: Action
    reason: str
    order: tuple[int, int]
    """Class and rank (`kube.ordering`): the lower is done before the higher."""
    changes: tuple[FieldChange, ...] = ()
    """What the point says otherwise; before is the point, after is the cluster."""
    saved_uid: str = ""
    live_uid: str = ""
    seen: str = ""
    """A mark of what the cluster said when the plan was made: the execution changes nothing that says something else by then."""
    notes: tuple[str, ...] = ()
    """Owner references and finalizers that are dropped, and why."""

    @property
    def api(self) -> Kind:
        """The kind, in the version in which the object is written."""
        return Kind(
            group=self.source.group,
            version=self.version,
            resource=self.source.resource,
            kind=self.kind,
            namespaced=self.source.namespace is not None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeStep:
    """One volume: which data goes into which claim."""

    volume: VolumeRef
    target: VolumeRef
    action: VolumeAction
    reason: str
    tree: str = ""
    """The data in the point; empty where it holds none."""
    root: str = ""
    """The entry of the volume's own directory (restic's JSON of a node)."""
    size_bytes: int = 0
    storage_class: str = ""
    """Empty: the cluster's default."""
    static: bool = False
    """The claim asks for no class at all: it binds only to a volume that was made by hand."""
    mode: VolumeMode = VolumeMode.FILESYSTEM
    in_place: bool = False
    """The restore may replace data: once filled, the claim says so until that is confirmed."""
    verify: bool = False
    """Once filled, the volume is read again and compared with the point, before anything mounts it."""
    stops: tuple[str, ...] = ()
    """Replacing: the workloads that are stopped meanwhile, and started again as they were."""
    snapshot_class: str = ""
    """Replacing: the class that copies the old data before. Empty: no copy is made."""
    estimated_seconds: float = 0.0
    """How long it takes at the plan's rate; nothing where the size is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePlan:
    """All that a restore would do, in its order, and what forbids it."""

    policy: str
    point: str
    tree: str
    cut: datetime
    consistency: str
    complete: bool
    steps: tuple[Step, ...]
    volumes: tuple[VolumeStep, ...]
    blocking: tuple[Finding, ...] = ()
    """While there is one of these, nothing is executed."""
    findings: tuple[Finding, ...] = ()
    """What a person should know; it forbids nothing."""
    dropped_finalizers: tuple[str, ...] = ()
    """Those that nobody in this cluster would clear: no object is restored with them."""
    rate_bytes: int = 0
    """So many bytes a second one volume is expected to take."""
    rate_measured: bool = False
    """Whether earlier restores of this policy say so; else it is an assumption."""

    def steps_to(self, *actions: Action) -> tuple[Step, ...]:
        """Return the steps of some actions."""
        return tuple(step for step in self.steps if step.action in actions)

    def volumes_to(self, *actions: VolumeAction) -> tuple[VolumeStep, ...]:
        """Return the volumes of some actions."""
        return tuple(volume for volume in self.volumes if volume.action in actions)

    @property
    def changes_nothing(self) -> bool:
        """Whether its execution would write nothing."""
        return not self.steps_to(*ACTING) and not self.volumes_to(VolumeAction.FILL, VolumeAction.REPLACE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What the cluster shows after a restore."""

    objects: int = 0
    """How many planned objects are there and say the same."""
    volumes: int = 0
    """How many volumes are filled with the tree that was planned."""
    failures: tuple[Finding, ...] = ()
    remarks: tuple[Finding, ...] = ()
    """What the cluster added to what was restored."""

    @property
    def ok(self) -> bool:
        """Whether everything is as planned."""
        return not self.failures


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreReport:
    """What an execution did. `failures` decides."""

    policy: str
    point: str
    run: str
    created: int = 0
    linked: int = 0
    merged: int = 0
    replaced: int = 0
    recreated: int = 0
    kept: int = 0
    skipped: int = 0
    volumes: tuple[MoverResult, ...] = ()
    failures: tuple[Finding, ...] = ()
    remarks: tuple[Finding, ...] = ()
    """What a person should know of it, and that fails nothing."""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether all that was planned was done."""
        return not self.failures


def demand(plan: RestorePlan) -> RestorePlan:
    """Return a plan that can be executed. Raises RestoreRefused, with every reason, for one that cannot."""
    if not plan.blocking:
        return plan
    raise RestoreRefused(
        "the restore cannot be carried out as asked: " + "; ".join(map(str, plan.blocking)),
        where=f"recovery point {plan.point[:8]}",
        hint="nothing was changed; the plan shows the whole of it",
    )


def demand_success(report: RestoreReport | Verification) -> None:
    """Raise PermanentError with every failure of a report or a verification that has some."""
    if report.failures:
        raise PermanentError(
            f"{len(report.failures)} parts of the restore failed: " + "; ".join(map(str, report.failures)),
            hint="mend what is named and restore again: what is done already is kept",
        )
