"""Adoption: the word of a person that snapshots which Becalm did not write are shown as recovery points.

One small object says so, written once; nothing else of the repository is touched. An adopted snapshot belongs to no policy: no
retention sees it, and it promises nothing about what it holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from becalm.catalog.points import find, parse, pins, points
from becalm.clock import format_time, parse_time
from becalm.errors import Damaged, NotFound, PointMissing, PreconditionFailed
from becalm.model import RecoveryPoint
from becalm.repository.format import Layout, read_json
from becalm.repository.intents import withdrawn
from becalm.repository.snapshots import list_snapshots

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from becalm.repository.format import SnapshotDoc
    from becalm.repository.reader import Repository

FORMAT = 1
POLICY = "adopted"
"""What stands in the place of a policy's name for a snapshot that no policy made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """Who adopted a repository's snapshots, and when."""

    since: datetime
    who: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptedPoint:
    """A snapshot of another maker: the point that it stands for, and all that is said of it."""

    point: RecoveryPoint
    snapshot: SnapshotDoc


def adopt(repository: Repository, *, who: str, now: datetime) -> tuple[Adoption, bool]:
    """Write the word, once. Return what holds, and whether this call said it; an earlier word stays as it is."""
    adoption = Adoption(since=now, who=who)
    document = {"format": FORMAT, "since": format_time(now), "who": who}
    try:
        repository.store.put(Layout.ADOPTED, orjson.dumps(document), if_absent=True)
    except PreconditionFailed:
        found = adoption_of(repository)
        if found is not None:
            return found, False
        raise
    return adoption, True


def adoption_of(repository: Repository) -> Adoption | None:
    """Return the word, or nothing where nobody gave it. Raises: Damaged."""
    where = repository.where(Layout.ADOPTED)
    remedy = "remove this object and adopt again"
    try:
        found = read_json(repository.store.get(Layout.ADOPTED), where=where)
    except NotFound:
        return None
    if found.get("format") != FORMAT:
        raise Damaged(f"the adoption is of format {found.get('format')!r}, this version reads {FORMAT}", where=where, hint=remedy)
    try:
        return Adoption(since=parse_time(found["since"]), who=str(found["who"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged(f"the adoption cannot be read: {error}", where=where, hint=remedy) from error


def foreign(repository: Repository) -> list[AdoptedPoint]:
    """Return the snapshots that Becalm did not write, oldest first, adopted or not. Raises: Damaged."""
    held = pins(repository.store)
    now = repository.store.now()
    found = [
        AdoptedPoint(point=_point(snapshot_id, doc, pinned=snapshot_id in held and held[snapshot_id].holds(now)), snapshot=doc)
        for snapshot_id, doc in list_snapshots(repository)
        if parse(snapshot_id, doc) is None
    ]
    return sorted(found, key=lambda one: (one.point.cut, one.point.id))


def adopted(repository: Repository) -> list[AdoptedPoint]:
    """Return the snapshots that Becalm did not write, where their repository was adopted; else none. Raises: Damaged."""
    return foreign(repository) if adoption_of(repository) is not None else []


def choose(repository: Repository, policy: str, wanted: str, *, now: datetime) -> RecoveryPoint:
    """Return the point whose files a person wants: of the policy, or any snapshot of the repository, adopted or not.

    Where the policy has points, only an id means a snapshot that is none of them. Raises: PointMissing, UsageError, Damaged.
    """
    own = points(repository, policy)
    try:
        return find(own, wanted, now=now)
    except PointMissing:
        rest = [] if own and not is_hexadecimal(wanted) else _others(repository, own)
        if not rest:
            raise
        return find([*own, *rest], wanted, now=now)


def is_hexadecimal(text: str) -> bool:
    """Say whether a text can only be the beginning of an id."""
    return set(text.strip().lower()) <= frozenset("0123456789abcdef")


def _others(repository: Repository, own: Sequence[RecoveryPoint]) -> list[RecoveryPoint]:
    known = {point.id for point in own}
    every = [(parse(snapshot_id, doc) or _point(snapshot_id, doc)) for snapshot_id, doc in list_snapshots(repository)]
    gone = withdrawn(repository.store)
    return [point for point in every if point.id not in known and point.id not in gone]


def _point(snapshot_id: str, doc: SnapshotDoc, *, pinned: bool = False) -> RecoveryPoint:
    """Return what a snapshot of another maker stands for: whole, as far as its maker says; of no policy, run or slot."""
    return RecoveryPoint(
        id=snapshot_id,
        policy=POLICY,
        cut=doc.time,
        tree=doc.tree,
        cluster=doc.hostname,
        pinned=pinned,
        size_bytes=doc.summary.total_bytes_processed if doc.summary else None,
    )
