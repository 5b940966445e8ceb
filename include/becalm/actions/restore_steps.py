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
    SKIP = "skip"
    """It is not restored at all."""


class VolumeAction(StrEnum):
    """What becomes of the data of a claim."""

    FILL = "fill"
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
    action: Action
    reason: str
    order: tuple[int, int]
    """Class and rank (`kube.ordering`): the lower is done before the higher."""
    changes: tuple[FieldChange, ...] = ()
    """What the point says otherwise; before is the point, after is the cluster."""
    saved_uid: str = ""
    live_uid: str = ""
    notes: tuple[str, ...] = ()
    """Owner references that are dropped, and why."""

    @property
    def api(self) -> Kind:
        """The kind, in the version that the object was saved in."""
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

    def steps_to(self, *actions: Action) -> tuple[Step, ...]:
        """Return the steps of some actions."""
        return tuple(step for step in self.steps if step.action in actions)

    def volumes_to(self, action: VolumeAction) -> tuple[VolumeStep, ...]:
        """Return the volumes of one action."""
        return tuple(volume for volume in self.volumes if volume.action is action)

    @property
    def changes_nothing(self) -> bool:
        """Whether its execution would write nothing."""
        return not self.steps_to(Action.CREATE, Action.LINK) and not self.volumes_to(VolumeAction.FILL)


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
    kept: int = 0
    skipped: int = 0
    volumes: tuple[MoverResult, ...] = ()
    failures: tuple[Finding, ...] = ()
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
