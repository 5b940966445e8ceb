"""The report of a restore in the catalog: one sealed object that says who asked for what, what was done, and what came of it.

It is written when the restore begins, and once more when it ends: one that was killed stays behind as unfinished. A bucket that may only be read is no obstacle to a restore: then there is no report, and
that is said. What a recovery point holds is not touched by it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime  # noqa: TC003  (pydantic resolves the annotations at run time)
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import orjson

from becalm.catalog import ledger
from becalm.errors import BecalmError, Damaged, PermanentError
from becalm.model import Finding, Severity, VolumeRef, from_payload, payload
from becalm.repository.format import Layout
from becalm.repository.reader import open_repository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.actions.handover import Ports
    from becalm.actions.restore_request import RestoreRequest
    from becalm.actions.restore_steps import RestorePlan, RestoreReport, Verification
    from becalm.repository.reader import Repository

MOST_FINDINGS = 1000


class RestoreState(StrEnum):
    """How far a restore came."""

    RUNNING = "running"
    """It began. Where nothing of it runs any more, it was killed: the same restore, run again, goes on from there."""
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRecord:
    """What became of one volume."""

    volume: VolumeRef
    target: VolumeRef
    action: str
    bytes: int = 0
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRecord:
    """One restore, as it is remembered."""

    id: str
    """Begins with its time, so that the names in the bucket are in order."""
    policy: str
    point: str
    run: str
    cluster: str
    started: datetime
    ended: datetime
    ok: bool
    """From what was verified, not from how a program ended."""
    asked_by: str = ""
    approved_by: str = ""
    approved: datetime | None = None
    request: dict[str, Any] = field(default_factory=dict)
    plan_digest: str = ""
    """The SHA-256 of the plan that was carried out, as JSON."""
    planned: dict[str, int] = field(default_factory=dict)
    """How many objects had each action."""
    objects: int = 0
    """Objects that were found to say the same afterwards."""
    volumes: tuple[VolumeRecord, ...] = ()
    findings: tuple[Finding, ...] = ()
    state: RestoreState = RestoreState.ENDED


def plan_digest(plan: RestorePlan) -> str:
    """Return what stands for exactly this plan. Pure."""
    return sha256(orjson.dumps(payload(plan), option=orjson.OPT_SORT_KEYS)).hexdigest()


def begun(
    plan: RestorePlan, request: RestoreRequest, *, run: str, cluster: str, started: datetime, asked_by: str = "", approved_by: str = ""
) -> RestoreRecord:
    """Return what is known of a restore before its first write. Pure."""
    return RestoreRecord(
        id=_id(started, run),
        policy=plan.policy,
        point=plan.point,
        run=run,
        cluster=cluster,
        started=started,
        ended=started,
        ok=False,
        asked_by=asked_by,
        approved_by=approved_by,
        request=request.model_dump(mode="json", exclude_defaults=True),
        plan_digest=plan_digest(plan),
        planned=dict(Counter(str(step.action) for step in plan.steps)),
        state=RestoreState.RUNNING,
    )


def broken_off(made: RestoreRecord, error: BecalmError, *, ended: datetime) -> RestoreRecord:
    """Return the report of a restore that ended with an error before it was verified. Pure."""
    finding = Finding(where=error.where, message=error.message, remedy=error.hint)
    return replace(made, state=RestoreState.ENDED, ended=ended, ok=False, findings=(finding,))


def _id(started: datetime, run: str) -> str:
    """Name a restore by its beginning, which its first and its last report share. Pure."""
    return f"{started:%Y%m%dT%H%M%S%f}-{run.rpartition('-')[2]}"


def record(
    plan: RestorePlan,
    request: RestoreRequest,
    report: RestoreReport,
    verification: Verification | None,
    *,
    cluster: str,
    ended: datetime,
    started: datetime,
    asked_by: str = "",
    approved_by: str = "",
    approved: datetime | None = None,
) -> RestoreRecord:
    """Put a restore's report together. Without a verification it is never a success. Pure."""
    found = {str(result.volume): result for result in report.volumes}
    volumes = tuple(
        VolumeRecord(
            volume=step.volume,
            target=step.target,
            action=str(step.action),
            bytes=result.bytes_total if (result := found.get(str(step.volume))) else 0,
            seconds=result.seconds if result else 0.0,
            error=result.error if result else "",
        )
        for step in plan.volumes
    )
    findings = (*report.failures, *(verification.failures if verification else ()), *report.remarks, *plan.findings)
    return RestoreRecord(
        id=_id(started, report.run),
        policy=plan.policy,
        point=plan.point,
        run=report.run,
        cluster=cluster,
        started=started,
        ended=ended,
        ok=report.ok and verification is not None and verification.ok,
        asked_by=asked_by,
        approved_by=approved_by,
        approved=approved,
        request=request.model_dump(mode="json", exclude_defaults=True),
        plan_digest=plan_digest(plan),
        planned=dict(Counter(str(step.action) for step in plan.steps)),
        objects=verification.objects if verification else 0,
        volumes=volumes,
        findings=findings[:MOST_FINDINGS],
    )


def save(made: RestoreRecord, ports: Ports) -> tuple[Finding, ...]:
    """Write a report, and once the restore ended an entry of the ledger that names it by its digest.

    Return what went wrong: a restore does not fail by its report. The last report takes the place of the first.
    """
    try:
        repository = open_repository(ports.store, ports.password)
        sealed, _ = repository.seal_document(orjson.dumps(payload(made)))
        ports.store.put(Layout.restore(made.id), sealed)
        if made.state is RestoreState.RUNNING:
            return ()
        content = {"restore": made.id, "point": made.point, "ok": made.ok, "digest": sha256(sealed).hexdigest()}
        ledger.append(repository, ledger.EntryKind.RESTORED, content, who=made.asked_by or "becalm", run=made.run)
    except BecalmError as error:
        message = f"the report of the restore could not be kept: {error.message}"
        return (Finding(where=f"{Layout.RESTORES}{made.id}", message=message, remedy=error.hint, severity=Severity.WARNING),)
    return ()


def listed(repository: Repository) -> Iterator[RestoreRecord]:
    """Yield the reports, oldest first. Raises: Damaged."""
    for info in repository.store.list(Layout.RESTORES):
        yield read(repository, info.key.removeprefix(Layout.RESTORES))


def read(repository: Repository, name: str) -> RestoreRecord:
    """Return one report by its id. Raises: NotFound, Damaged."""
    key = Layout.restore(name)
    where = repository.where(key)
    document = repository.open_document(repository.store.get(key), where=where)
    try:
        return from_payload(RestoreRecord, orjson.loads(document))
    except (ValueError, PermanentError) as error:
        raise Damaged(f"the report of a restore cannot be read: {error}", where=where, hint="use a newer Becalm") from error
