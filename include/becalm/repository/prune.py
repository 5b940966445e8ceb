"""Forgetting: the snapshot objects of points that no rule keeps are deleted, one by one. Packs are not touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.errors import AccessDenied, NotFound, PermanentError, PreconditionFailed, UsageError
from becalm.model import Finding, Severity
from becalm.repository.format import Layout, is_id

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from becalm.storage.base import ObjectStore


def forget(
    store: ObjectStore, snapshot_ids: Sequence[str], *, keep: Collection[str], refused: Callable[[Finding], None] | None = None
) -> tuple[str, ...]:
    """Delete these snapshots and return the ids of those that are gone; one that is gone already counts.

    `keep` names points that stay, the last good one among them: unless the store shows one of them, nothing is deleted, nor if
    the list fails. What the store will not delete (it is locked, or it is another object by now) stays; `refused` hears of it.

    Raises: PermanentError (nothing would remain), UsageError, and what the store raises.
    """
    for snapshot_id in (*snapshot_ids, *keep):
        if not is_id(snapshot_id):
            raise UsageError(f"{snapshot_id!r} is not the whole id of a snapshot", where=store.url)
    both = set(snapshot_ids) & set(keep)
    if both:
        raise UsageError(f"snapshot {min(both)} is to be kept and to be forgotten", where=store.url)
    there = {info.key.removeprefix(Layout.SNAPSHOTS) for info in store.list(Layout.SNAPSHOTS)}
    if snapshot_ids and there.isdisjoint(keep):
        raise PermanentError(
            f"forgetting {len(snapshot_ids)} recovery points would leave none",
            where=f"{store.url}/{Layout.SNAPSHOTS}",
            hint="the last good recovery point always stays; make a new one first",
        )
    return tuple(snapshot_id for snapshot_id in snapshot_ids if _delete(store, snapshot_id, refused))


def _delete(store: ObjectStore, snapshot_id: str, refused: Callable[[Finding], None] | None) -> bool:
    key = Layout.snapshot(snapshot_id)
    try:
        store.delete(key, if_match=store.head(key).etag)
    except NotFound:
        return True
    except (AccessDenied, PreconditionFailed) as error:
        if refused:
            refused(Finding(where=error.where or key, message=error.message, remedy=error.hint, severity=Severity.WARNING))
        return False
    return True
