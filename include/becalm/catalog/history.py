"""What each run came to: one small record a run, in one sealed object a day, written when the run finishes.

Recovery points tell what succeeded; this tells also what failed, how long things took, and which slots were answered by points
that retention has let go since. No record is proof of a recovery point: only its snapshot is. Nothing here decides anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson

from becalm.clock import format_time, parse_time
from becalm.errors import BecalmError, Conflict, Damaged, NotFound, PreconditionFailed
from becalm.model import Finding, Severity
from becalm.repository.format import Layout, read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from becalm.repository.reader import Repository

FORMAT = 1
KEPT_DAYS = 400
MOST_REASONS = 5
LONGEST_REASON = 300
_ATTEMPTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run, as it ended."""

    run: str
    """The run's key."""
    run_id: str
    trigger: str
    started: datetime
    ended: datetime
    slot: datetime | None = None
    late_seconds: float = 0.0
    ok: bool
    point: str = ""
    """The recovery point that it wrote; it may be gone by now."""
    complete: bool = False
    consistency: str = ""
    reasons: tuple[str, ...] = ()
    """Why it is not well."""
    objects: int = 0
    volumes: int = 0
    bytes_total: int = 0
    bytes_added: int = 0
    frozen: Mapping[str, float] = field(default_factory=dict)
    """How long each application was frozen, in seconds."""
    tasks: Mapping[str, float] = field(default_factory=dict)
    """How long each task took, in seconds."""
    label: str = ""
    note: str = ""


def record(repository: Repository, run: RunRecord) -> None:
    """Write a run into the day of its end; the same run again replaces its record. Of two writers at once, one writes after the other.

    Raises: Conflict (others were faster again and again), and what the store raises.
    """
    key = Layout.history(_day(run.ended))
    for _ in range(_ATTEMPTS):
        try:
            etag = repository.store.head(key).etag  # before the content: if it changes in between, the swap fails, and that is right
            there = _readable(repository, key)
        except NotFound:
            etag, there = None, []
        kept = [item for item in there if item.get("run") != run.run]
        sealed, _ = repository.seal_document(orjson.dumps({"format": FORMAT, "runs": [*kept, _encode(run)]}))
        try:
            repository.store.put(key, sealed, if_absent=etag is None, if_match=etag)
        except PreconditionFailed:
            continue
        if etag is None:
            _forget_old(repository, run.ended)
        return
    raise Conflict(f"others wrote to the history {_ATTEMPTS} times meanwhile", where=repository.where(key), hint="try again")


def history(
    repository: Repository, *, since: datetime, until: datetime, problem: Callable[[Finding], None] | None = None
) -> list[RunRecord]:
    """Return the runs that ended in these days, oldest first. A day that cannot be read is a problem, and hides no other.

    Without `problem`, such a day raises Damaged.
    """
    found: dict[str, RunRecord] = {}
    first, last = _day(since), _day(until)
    for info in repository.store.list(Layout.HISTORY):
        if not first <= info.key.removeprefix(Layout.HISTORY) <= last:
            continue
        try:
            found.update((run.run, run) for run in _load(repository, info.key))
        except NotFound:
            continue
        except Damaged as error:
            if problem is None:
                raise
            problem(
                Finding(where=error.where, message=f"the history of this day cannot be read: {error.message}", severity=Severity.WARNING)
            )
    return sorted(found.values(), key=lambda run: (run.ended, run.run))


def _day(moment: datetime) -> str:
    return format_time(moment)[:10]


def _readable(repository: Repository, key: str) -> list[dict[str, Any]]:
    """Return what a day holds already; one that cannot be read is written anew, for it tells nobody anything."""
    try:
        return _runs(repository, key)
    except Damaged:
        return []


def _runs(repository: Repository, key: str) -> list[dict[str, Any]]:
    where = repository.where(key)
    document = read_json(repository.open_document(repository.store.get(key), where=where), where=where)
    if document.get("format") != FORMAT:
        raise Damaged(f"it is of format {document.get('format')!r}, this version reads {FORMAT}", where=where, hint="use a newer Becalm")
    runs = document.get("runs")
    if not (isinstance(runs, list) and all(isinstance(item, dict) for item in runs)):
        raise Damaged("it holds no list of runs", where=where)
    return runs


def _load(repository: Repository, key: str) -> list[RunRecord]:
    runs = _runs(repository, key)
    try:
        return [_decode(item) for item in runs]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged(f"a run in it cannot be read: {error}", where=repository.where(key)) from error


def _encode(run: RunRecord) -> dict[str, Any]:
    return {
        "run": run.run,
        "run_id": run.run_id,
        "trigger": run.trigger,
        "started": format_time(run.started),
        "ended": format_time(run.ended),
        "slot": format_time(run.slot) if run.slot else "",
        "late_seconds": round(run.late_seconds, 3),
        "ok": run.ok,
        "point": run.point,
        "complete": run.complete,
        "consistency": run.consistency,
        "reasons": [reason[:LONGEST_REASON] for reason in run.reasons[:MOST_REASONS]],
        "objects": run.objects,
        "volumes": run.volumes,
        "bytes_total": run.bytes_total,
        "bytes_added": run.bytes_added,
        "frozen": {name: round(seconds, 3) for name, seconds in run.frozen.items()},
        "tasks": {name: round(seconds, 3) for name, seconds in run.tasks.items()},
        "label": run.label,
        "note": run.note[:LONGEST_REASON],
    }


def _decode(said: dict[str, Any]) -> RunRecord:
    return RunRecord(
        run=str(said["run"]),
        run_id=str(said["run_id"]),
        trigger=str(said["trigger"]),
        started=parse_time(said["started"]),
        ended=parse_time(said["ended"]),
        slot=parse_time(said["slot"]) if said["slot"] else None,
        late_seconds=float(said["late_seconds"]),
        ok=said["ok"] is True,
        point=str(said["point"]),
        complete=said["complete"] is True,
        consistency=str(said["consistency"]),
        reasons=tuple(map(str, said["reasons"])),
        objects=int(said["objects"]),
        volumes=int(said["volumes"]),
        bytes_total=int(said["bytes_total"]),
        bytes_added=int(said["bytes_added"]),
        frozen={str(name): float(seconds) for name, seconds in said["frozen"].items()},
        tasks={str(name): float(seconds) for name, seconds in said["tasks"].items()},
        label=str(said["label"]),
        note=str(said["note"]),
    )


def _forget_old(repository: Repository, now: datetime) -> None:
    """Remove days that are older than anybody asks for. A store that keeps them longer is fine."""
    oldest = _day(now - timedelta(days=KEPT_DAYS))
    try:
        for info in list(repository.store.list(Layout.HISTORY)):
            if info.key.removeprefix(Layout.HISTORY) < oldest:
                repository.store.delete(info.key)
    except BecalmError:  # the record is written, and the next new day tries again: it may be locked, or the store may be gone
        return
