"""The nouns of a drill: what will be proven and where, what was restored, what was found, and the report. Frozen, fit for a hand-over.

They hold names, times and reasons; never an object, never a file, never the value of a Secret.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from becalm.errors import DrillFailed
from becalm.model import Finding  # noqa: TC001  (pydantic resolves the annotations at run time)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckPlan:
    """One check of the policy, in the namespaces of the drill."""

    name: str
    """Its place: `spec.drill.checks.0`."""
    namespaces: tuple[str, ...]
    labels: str = ""
    pod: str = ""
    container: str = ""
    """Empty: the first."""
    command: tuple[str, ...]
    timeout_seconds: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillPlan:
    """What a drill will do."""

    id: str
    """In the names and labels of all that it makes."""
    policy: str
    point: str
    """The recovery point's id."""
    cut: datetime
    rooms: dict[str, str] = field(default_factory=dict)
    """From each namespace of the point to the namespace that the drill makes for it."""
    checks: tuple[CheckPlan, ...] = ()
    custom_resources: tuple[str, ...] = ()
    repository: str
    """Its URL: two installations may have policies of one name on one cluster."""
    started: datetime
    timeout_seconds: float
    ready_seconds: float
    rto_seconds: float | None = None
    """The objective; nothing where the policy states none."""
    keep_always: bool = False
    keep_on_failure: bool = False

    @property
    def ends(self) -> datetime:
        """When the drill has failed for taking too long."""
        return self.started + timedelta(seconds=self.timeout_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a drill restored, and whether it is what was saved."""

    began: datetime
    """When the restore began: the recovery time counts from here."""
    objects: int = 0
    """How many objects were made and say what the recovery point says."""
    volumes: int = 0
    bytes: int = 0
    left_out: int = 0
    seconds: float = 0.0
    failures: tuple[Finding, ...] = ()
    remarks: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """How one check ended in one pod."""

    name: str
    where: str
    """The pod, or the namespace in which there was none."""
    ok: bool
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was found in what a drill restored."""

    ended: datetime
    """When all was ready and checked: the recovery time counts to here."""
    ready_seconds: float = 0.0
    unready: tuple[Finding, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    failures: tuple[Finding, ...] = ()
    """What else is wrong, such as storage that is shared with the live application."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillReport:
    """What a drill came to. It stands in the bucket, as `becalm/drills/<id>.json`."""

    id: str
    policy: str
    point: str
    cut: datetime
    started: datetime
    ended: datetime
    ok: bool
    objects: int = 0
    volumes: int = 0
    bytes: int = 0
    restore_seconds: float = 0.0
    recovery_seconds: float | None = None
    """From the beginning of the restore until all was ready and checked; nothing where it did not come so far."""
    rto_seconds: float | None = None
    checks: tuple[CheckResult, ...] = ()
    failures: tuple[Finding, ...] = ()
    remarks: tuple[Finding, ...] = ()
    kept: tuple[str, ...] = ()
    """Namespaces that were left for a person to look at."""


def demand(report: DrillReport) -> DrillReport:
    """Return the report of a drill that proved its point. Raises DrillFailed, with every reason."""
    if report.ok:
        return report
    kept = (
        f"look into {', '.join(report.kept)}" if report.kept else f"`becalm drill` with --keep leaves what was restored; report {report.id}"
    )
    raise DrillFailed(
        f"recovery point {report.point[:8]} did not prove itself: " + "; ".join(map(str, report.failures)),
        where=f"policy {report.policy}",
        hint=kept,
    )
