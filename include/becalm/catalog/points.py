"""Recovery points, read from the bucket alone: which there are, and which one a person means.

A point is a restic snapshot with Becalm's tags; `tags_of` and `parse` are the only places that know them. Snapshots of other
makers are not points, and are left alone.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from becalm.catalog.moments import FORMS, moment
from becalm.catalog.pins import Pin, pin, pins, unpin
from becalm.clock import format_time, parse_time
from becalm.errors import NotFound, PointMissing, UsageError
from becalm.model import Consistency, RecoveryPoint
from becalm.policy.problems import Problem
from becalm.policy.units import format_duration, parse_duration
from becalm.repository.format import Layout
from becalm.repository.intents import withdrawn
from becalm.repository.snapshots import list_snapshots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from becalm.repository.format import SnapshotDoc
    from becalm.repository.reader import Repository

__all__ = ["Pin", "as_of", "find", "last_good", "parse", "pin", "pins", "points", "tags_of", "unpin"]

COMPLETE, PARTIAL = "complete", "partial"
ANOMALY = "lost-files"
NARROWED = "narrowed"
"""Only some of the policy's namespaces."""
LATEST = "latest"
SHORTEST_ID = 4
"""Digits of an id that a person must write: fewer are more likely a slip of the pen."""

_SHOWN = 5
_HEXADECIMAL = frozenset("0123456789abcdef")


def tags_of(point: RecoveryPoint) -> tuple[str, ...]:
    """Return the tags of a point's snapshot. What a snapshot has a field for (time, host, tree) is not said again."""
    tags = [
        f"policy={point.policy}",
        f"run={point.run}",
        f"verdict={COMPLETE if point.complete else PARTIAL}",
        f"consistency={point.consistency}",
        f"revision={point.revision}",
    ]
    if point.slot is not None:
        tags += [f"slot={format_time(point.slot)}", f"late={format_duration(point.late)}"]
    if point.anomalous:
        tags.append(f"anomaly={ANOMALY}")
    if point.salvaged:
        tags.append(f"salvaged={point.salvaged}")
    if point.label:
        tags.append(f"label={point.label}")
    if point.narrowed:
        tags.append(f"selection={NARROWED}")
    return tuple(tags)


def parse(snapshot_id: str, doc: SnapshotDoc) -> RecoveryPoint | None:
    """Return the point that a snapshot is, or nothing for one that Becalm did not write.

    A tag that somebody has changed so that it says nothing counts as the weaker claim: partial, crash-consistent, no slot.
    """
    said = dict(tag.split("=", 1) for tag in reversed(doc.tags) if "=" in tag)
    if not (said.get("policy") and "run" in said and "verdict" in said):
        return None
    slot = _time(said.get("slot", ""))
    return RecoveryPoint(
        id=snapshot_id,
        policy=said["policy"],
        cut=doc.time,
        tree=doc.tree,
        cluster=doc.hostname,
        revision=said.get("revision", ""),
        run=said["run"],
        slot=slot,
        late=_span(said.get("late", "")) if slot else timedelta(0),
        consistency=Consistency.APPLICATION if said.get("consistency") == Consistency.APPLICATION else Consistency.CRASH,
        complete=said["verdict"] == COMPLETE and not said.get("salvaged"),
        size_bytes=doc.summary.total_bytes_processed if doc.summary else None,
        anomalous="anomaly" in said,
        salvaged=said.get("salvaged", ""),
        label=said.get("label", ""),
        narrowed="selection" in said,
    )


def points(repository: Repository, policy: str, *, protection: bool = False) -> list[RecoveryPoint]:
    """Return the points of a policy, oldest cut first, with their pins; those that were withdrawn do not count.

    With `protection`, each is asked for its lock too.
    """
    store = repository.store
    held = pins(store)
    now = store.now()
    found: list[RecoveryPoint] = []
    listed = list(list_snapshots(repository))
    gone = withdrawn(store)  # after the list: what is in it and was withdrawn meanwhile is not shown
    for snapshot_id, doc in listed:
        point = parse(snapshot_id, doc)
        if point is None or point.policy != policy or snapshot_id in gone:
            continue
        pinned = snapshot_id in held and held[snapshot_id].holds(now)
        try:
            locked_until = store.head(Layout.snapshot(snapshot_id)).retain_until if protection else None
        except NotFound:  # forgotten since it was listed
            continue
        found.append(replace(point, pinned=pinned, locked_until=locked_until))
    return sorted(found, key=_by_cut)


def last_good(points: Sequence[RecoveryPoint]) -> RecoveryPoint | None:
    """Return the newest good point, or nothing: complete, and without an anomaly."""
    return max((point for point in points if point.good), key=_by_cut, default=None)


def as_of(points: Sequence[RecoveryPoint], moment: datetime) -> RecoveryPoint:
    """Return the newest complete point that was cut at that moment or before. Raises: PointMissing."""
    found = last_good([point for point in points if point.cut <= moment])
    if found is None:
        raise PointMissing(f"no complete recovery point is as old as {format_time(moment)}", hint=_there(points))
    return found


def find(points: Sequence[RecoveryPoint], text: str, *, now: datetime) -> RecoveryPoint:
    """Return the point that a person means: `latest`, the beginning of an id, or a time.

    `latest` and times mean complete points; a partial one is named by its id. Raises: PointMissing, UsageError.
    """
    wanted = " ".join(text.split())
    if not wanted:
        raise UsageError("no recovery point was named", hint=f"write latest, the beginning of an id, or a time; {FORMS}")
    if wanted.lower() == LATEST:
        latest = last_good(points)
        if latest is None:
            raise PointMissing("there is no complete recovery point", hint=_there(points))
        return latest
    if set(wanted.lower()) <= _HEXADECIMAL:
        return _by_id(points, wanted.lower())
    return as_of(points, moment(wanted, now=now))


def _by_id(points: Sequence[RecoveryPoint], prefix: str) -> RecoveryPoint:
    if len(prefix) < SHORTEST_ID:
        raise UsageError(f"{prefix!r} is too short for an id, and no time", hint=f"write at least {SHORTEST_ID} digits of the id; {FORMS}")
    found = [point for point in points if point.id.startswith(prefix)]
    if not found:
        raise PointMissing(f"no recovery point's id begins with {prefix}", hint=_there(points))
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} recovery points begin with {prefix}",
            hint="write more of the id: " + ", ".join(point.id[:16] for point in found[:_SHOWN]),
        )
    return found[0]


def _there(points: Sequence[RecoveryPoint]) -> str:
    """Say what there is instead."""
    if not points:
        return "the policy has no recovery point at this target"
    newest = sorted(points, key=_by_cut, reverse=True)
    shown = ", ".join(
        f"{point.id[:8]} of {format_time(point.cut)}{'' if point.good else f' ({_flaw(point)})'}" for point in newest[:_SHOWN]
    )
    rest = f" and {len(points) - _SHOWN} more, the oldest of {format_time(newest[-1].cut)}" if len(points) > _SHOWN else ""
    return f"there is {shown}{rest}"


def _flaw(point: RecoveryPoint) -> str:
    """Say why a point is no good one."""
    if not point.complete:
        return "partial"
    return "anomalous" if point.anomalous else "only some namespaces"


def _by_cut(point: RecoveryPoint) -> tuple[datetime, str]:
    return (point.cut, point.id)


def _time(text: str) -> datetime | None:
    try:
        return parse_time(text)
    except ValueError:
        return None


def _span(text: str) -> timedelta:
    try:
        return timedelta(0) if text in {"", "0s"} else parse_duration(text)
    except Problem:
        return timedelta(0)
