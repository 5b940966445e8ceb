"""Snapshots: the objects that make a tree visible. Each is written once, last of all, and never changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.errors import NotFound, PointMissing
from becalm.repository.format import Layout, SnapshotDoc, is_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from becalm.repository.reader import Repository


def snapshot_ids(repository: Repository) -> list[str]:
    """Return the ids of all snapshots, from the list alone."""
    names = (info.key.removeprefix(Layout.SNAPSHOTS) for info in repository.store.list(Layout.SNAPSHOTS))
    return [name for name in names if is_id(name)]


def list_snapshots(repository: Repository) -> Iterator[tuple[str, SnapshotDoc]]:
    """Yield every snapshot, in no order that means anything. One that goes away meanwhile is left out. Raises: Damaged."""
    for snapshot_id in snapshot_ids(repository):
        try:
            yield snapshot_id, _load(repository, snapshot_id)
        except NotFound:
            continue


def load_snapshot(repository: Repository, prefix: str) -> tuple[str, SnapshotDoc]:
    """Return the one snapshot whose id begins with this. Raises: PointMissing (none, or several), Damaged."""
    found = [prefix] if is_id(prefix) else [one for one in snapshot_ids(repository) if prefix and one.startswith(prefix)]
    if len(found) != 1:
        problem = f"{len(found)} snapshots begin" if found else "no snapshot begins"
        raise PointMissing(f"{problem} with {prefix!r}", where=repository.store.url, hint="list them with: becalm points")
    try:
        return found[0], _load(repository, found[0])
    except NotFound as error:
        raise PointMissing(f"there is no snapshot {prefix}", where=repository.store.url, hint="list them with: becalm points") from error


def save_snapshot(repository: Repository, doc: SnapshotDoc, *, retain_until: datetime | None = None) -> str:
    """Write a snapshot: from here on its tree is visible. Return its id."""
    return repository.save_document(Layout.SNAPSHOTS, doc.encode(), retain_until=retain_until)


def _load(repository: Repository, snapshot_id: str) -> SnapshotDoc:
    key = Layout.snapshot(snapshot_id)
    return SnapshotDoc.decode(repository.load_document(key), where=repository.where(key))
