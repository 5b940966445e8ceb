"""What the verbs need (`Ports`) and what one hands to the next: small frozen nouns of identifiers, times and reasons.

They travel through Airflow's XCom by `model.payload`; no object, no file and no secret is ever in them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping  # noqa: TC003  (pydantic resolves the annotations at run time)
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003  (pydantic resolves the annotations at run time)
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from becalm.git.access import GitAccess
from becalm.model import Certificate, Consistency, Excluded, Finding, VolumeMode, VolumeRef, VolumeUse

if TYPE_CHECKING:
    from becalm.clock import Clock
    from becalm.kube.base import Cluster, Mover
    from becalm.storage.base import ObjectStore


class Progress(Protocol):
    """Where an action says what it is doing, for a person who waits."""

    def __call__(self, message: str, *, done: int | None = None, total: int | None = None) -> None:
        """Say one thing; `done` of `total` where there is a measure."""


def silent(message: str, *, done: int | None = None, total: int | None = None) -> None:
    """Say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What belongs to the installation and not to a policy."""

    cluster_name: str
    """How the cluster is called in recovery points (restic's `hostname`)."""
    namespace: str = "becalm"
    """Becalm's own namespace: exports and movers live there."""
    mover_image: str = "becalm/mover"
    store_environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Credentials and endpoint of the store, as a mover needs them: they go into the mover's Secret and nowhere else."""
    movers_at_once: int = 8
    """How many movers work side by side where Becalm starts them itself; in Airflow a pool says so."""
    git_access: Callable[[str], GitAccess] = lambda _: GitAccess()
    """How a repository of code is reached, by the name of its connection; nothing for one that names none. Raises NotFound, UsageError."""
    export_timeout_seconds: float = 600
    mover_timeout_seconds: float = 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The outer world, passed in."""

    cluster: Cluster
    store: ObjectStore
    """The policy's own part of the target: `<target>/<policy>`."""
    password: str = field(repr=False)
    clock: Clock
    settings: Settings
    movers: Mover | None = None
    """Absent where Airflow runs the movers."""
    progress: Progress = silent


class Trigger(StrEnum):
    """What started a run. The values are Airflow's."""

    SCHEDULED = "scheduled"
    MANUAL = "manual"
    BACKFILL = "backfill"
    ASSET = "asset_triggered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A run that holds its lease."""

    policy: str
    policy_digest: str
    run_id: str
    """The run as its conductor names it."""
    run: str
    """The run's key (`model.run_key`): in every name and label."""
    trigger: Trigger
    started: datetime
    slot: datetime | None = None
    late_seconds: float = 0.0
    epoch: int = 0
    repository: str = ""
    """The id of the repository."""
    parent: str = ""
    """The newest complete recovery point: unchanged files are recognised by it."""
    skipped: str = ""
    """Why there is nothing to do; empty when there is."""
    note: str = ""
    label: str = ""
    """A person's word by which the recovery point is found again."""
    pin_days: int = 0
    """The point is pinned for so many days."""
    namespaces: tuple[str, ...] = ()
    """Only these namespaces of the policy were asked for; none means all."""
    quiesce: bool = True
    """False: nothing is to be frozen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumePlan:
    """How one claim will be captured, and by which rule."""

    volume: VolumeRef
    use: VolumeUse
    by: str = "volumes.default"
    because: str = ""
    storage_class: str = ""
    driver: str = ""
    snapshot_class: str = ""
    mode: VolumeMode = VolumeMode.FILESYSTEM
    size_bytes: int = 0
    node: str = ""
    """The node of the pod that mounts it, for `live`."""
    handle: str = ""
    """The storage's own name for the volume, where a driver of the CSI holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeGroup:
    """Volumes of one namespace and driver that are cut together, by one VolumeGroupSnapshot."""

    namespace: str
    driver: str
    group_class: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The claims' own labels, with the values that mean exactly these volumes. None: all claims of the namespace are meant."""
    volumes: tuple[VolumeRef, ...] = ()


class HookOrigin(StrEnum):
    """Who brought a hook."""

    POLICY = "policy"
    ANNOTATION = "annotation"
    VELERO = "velero-annotation"


@dataclass(frozen=True, slots=True, kw_only=True)
class HookPlan:
    """A hook before it is resolved: pods are looked up again when it runs."""

    name: str
    """Its place: `spec.quiesce.hooks.0`, or the pod whose annotations it is."""
    origin: HookOrigin
    namespace: str
    labels: str = ""
    """A label selector; empty where `pod` names one."""
    pod: str = ""
    container: str = ""
    """Empty: the container that mounts the volume, or the first."""
    user: str = ""
    freeze: tuple[str, ...] = ()
    thaw: tuple[str, ...] = ()
    use: str = ""
    """The name of a blueprint, which then says how it is frozen and thawed (`hooks.recipe`)."""
    given: str = ""
    """The blueprint's parameters, as JSON."""
    timeout_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """A quiesce group: what is frozen, cut and listed together. One namespace, or all of them with `scope: policy`."""

    name: str
    namespaces: tuple[str, ...]
    volumes: tuple[VolumePlan, ...] = ()
    hooks: tuple[HookPlan, ...] = ()
    groups: tuple[VolumeGroup, ...] = ()
    """Volumes that are cut together; the others are cut one by one, side by side."""
    notes: tuple[str, ...] = ()
    """Why volumes of one driver are not cut together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovered:
    """The selection, resolved."""

    applications: tuple[Application, ...]
    excluded: tuple[Excluded, ...] = ()
    findings: tuple[Finding, ...] = ()
    """What was selected and cannot be captured: it makes the recovery point partial."""
    warnings: tuple[Finding, ...] = ()
    """What a person should know and that leaves nothing out."""
    cluster_uid: str = ""
    server_version: str = ""


class FreezeOutcome(StrEnum):
    """What is known of a freeze. Unknown counts as frozen."""

    FROZEN = "frozen"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """One container in which a freeze was attempted."""

    hook: HookPlan
    pod: str
    uid: str
    container: str
    switch: str
    """The dead-man switch's folder in the container; derives from run and hook."""
    outcome: FreezeOutcome
    asked: datetime
    confirmed: datetime | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezeRecord:
    """What quiesce did to an application."""

    application: str
    frozen: tuple[Frozen, ...] = ()
    timeout_seconds: float = 30.0
    began: datetime
    reasons: tuple[str, ...] = ()
    """Why it is not wholly frozen; empty when every hook confirmed."""
    hooks: int = 0
    """How many hooks there were to run; none means that nothing makes it application-consistent."""
    run: str = ""
    """The run's key, for its note in the bucket."""
    left_out: tuple[Excluded, ...] = ()
    """Pods and containers that look as if they were meant, and are not: those that have ended, and members that only follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thawed:
    """What thaw made sure of, and the label it decided from the recorded times."""

    application: str
    consistency: Consistency
    reasons: tuple[str, ...] = ()
    confirmed: bool = True
    """Every attempted freeze is confirmed thawed."""
    switch_fired: bool = False
    frozen_seconds: float = 0.0
    """From the first freeze asked to the last thaw confirmed."""
    broken: tuple[str, ...] = ()
    """The pods (`namespace/name`) whose freeze did not hold until the thaw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeCut:
    """The cut of one volume."""

    plan: VolumePlan
    snapshot: str = ""
    """The VolumeSnapshot in the application's namespace."""
    content: str = ""
    handle: str = ""
    created: datetime | None = None
    """creationTime, by the storage's clock."""
    group: str = ""
    """The VolumeGroupSnapshot that cut it together with others; then `snapshot` is empty."""
    error: str = ""
    """Why there is none; the recovery point is then partial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """An application at one instant: its volumes cut, its objects listed at one revision and already in the repository."""

    application: str
    began: datetime
    """Before the first cut was asked for."""
    ended: datetime
    """After the last was reported."""
    revision: str
    listed_again: str = ""
    """Why the objects are not of that revision but of a later one, which `revision` then names."""
    resources_tree: str = ""
    """A tree that holds `resources/…`."""
    objects: int = 0
    packs: tuple[str, ...] = ()
    """New packs that the objects went into."""
    volumes: tuple[VolumeCut, ...] = ()
    notes: tuple[str, ...] = ()
    """Why volumes of one driver were not cut together."""
    thawed: Thawed | None = None
    kept_tree: str = ""
    """A tree that holds `blueprints/…`, `dumps/…` and `overlays/…`: what blueprints kept."""
    excluded: tuple[Excluded, ...] = ()
    findings: tuple[Finding, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    """Those among the objects, and until when they hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A cut made readable: a claim that a mover can mount."""

    volume: VolumeRef
    use: VolumeUse
    namespace: str = ""
    claim: str = ""
    mode: VolumeMode = VolumeMode.FILESYSTEM
    node: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """A recovery point that is whole and visible."""

    point: str
    """The snapshot's id."""
    tree: str
    complete: bool
    consistency: Consistency
    missing: tuple[Finding, ...] = ()
    anomalies: tuple[Finding, ...] = ()
    """Volumes that were captured whole and hold so little that it is no good point: they were full before."""
    objects: int = 0
    volumes: int = 0
    bytes_total: int = 0
    bytes_added: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What retention said and what was carried out."""

    kept: int
    forgotten: tuple[str, ...] = ()
    """Ids of points that went, with their reasons in `reasons`."""
    reasons: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """For every point, kept or forgotten."""
    marked: int = 0
    """Packs that nothing needs, and that were marked now."""
    deleted: int = 0
    """Packs that were marked long ago, and are gone."""
    deleted_bytes: int = 0
    waiting: int = 0
    """Packs that are marked, and whose grace period has not passed."""
    locked: int = 0
    """Packs that would have gone, and are locked."""
    findings: tuple[Finding, ...] = ()
    """What did not go as it should. The recovery point is good all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a run comes to, from what was verified."""

    run: str
    ok: bool
    point: str = ""
    reasons: tuple[str, ...] = ()
