"""Forgetting and reclaiming: snapshots that no rule keeps are deleted; packs that nothing refers to are marked, and deleted much later.

Nothing is deleted for what one look has shown. A pack is marked by one, and after the grace period another one, which begins with the
tombstones, must come to the same. `plan` decides, and is pure; `prune` looks, plans, and does exactly that. A crash at any call leaves
nothing dangling, and the next prune goes on. docs/adr/0007 tells why this is safe beside writers and pruners that sleep.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from becalm.errors import AccessDenied, NotFound, PermanentError, PreconditionFailed, PruneRefused, UsageError
from becalm.model import Finding, Severity
from becalm.repository import census, references
from becalm.repository.format import Layout, is_id
from becalm.repository.sweep import Sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from datetime import datetime

    from becalm.repository.census import Say, Seen
    from becalm.repository.reader import Repository
    from becalm.repository.references import Needed
    from becalm.repository.tombstones import Tombstone
    from becalm.storage.base import ObjectStore

GRACE = timedelta(days=7)
SHORTEST_GRACE = timedelta(hours=25)
"""Longer than the longest run of a mover and its lease: packs that are younger may belong to a run at work."""
MOST_SHARE = 0.5
"""So much of the bytes may go without a word. What a changed retention frees is less as a rule; what a wrong list would cost is more."""


def _silent(message: str, *, done: int | None = None, total: int | None = None) -> None:
    """Say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How long, and how much."""

    grace: timedelta = GRACE
    most_share: float = MOST_SHARE
    """Of all bytes in packs, so much may be deleted in one go."""
    yes_really: bool = False
    """A person has said that more may go."""

    def __post_init__(self) -> None:
        """Refuse what would be reckless. Raises UsageError."""
        if self.grace < SHORTEST_GRACE:
            raise UsageError(
                f"a grace period of {self.grace} is shorter than a run may last", hint=f"say {SHORTEST_GRACE} or more; nothing was deleted"
            )
        if not 0 < self.most_share <= 1:
            raise UsageError(f"a share of {self.most_share} is none", hint="say a number above 0 and up to 1, or a percentage")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a prune would do. Sizes are bytes in the bucket."""

    mark: tuple[str, ...]
    """Packs that nothing refers to, old enough to be marked."""
    delete: tuple[Tombstone, ...]
    """Packs that were marked the grace period ago, and still nothing refers to."""
    rescue: tuple[Tombstone, ...]
    """Packs that were marked, and something refers to after all."""
    gone: tuple[Tombstone, ...]
    """Tombstones of packs that are not there any more."""
    dangling: tuple[str, ...]
    """Packs that index objects name, that nothing needs, and that are not there."""
    withdrawn: tuple[str, ...]
    """Snapshots that do not count, and go."""
    marked_bytes: int
    deleted_bytes: int
    waiting: int
    """Packs that are marked, and whose time has not come."""
    waiting_bytes: int
    young: int
    """Packs that nothing refers to and that are too young to be marked: a run may be about to need them."""
    total: int
    total_bytes: int

    @property
    def share(self) -> float:
        """How much of the bytes would be deleted."""
        return self.deleted_bytes / self.total_bytes if self.total_bytes else 0.0


@dataclass(slots=True, kw_only=True)
class Pruning:
    """What a prune did."""

    plan: Plan
    marked: int = 0
    deleted: list[str] = field(default_factory=list)
    """Packs that are gone."""
    deleted_bytes: int = 0
    rescued: int = 0
    locked: int = 0
    """Packs that stay because the store still holds a lock on them, or on an index object that names them."""
    indexes: int = 0
    """Index objects that were written."""
    withdrawn: list[str] = field(default_factory=list)
    """Snapshots that did not count, and are gone."""


def plan(seen: Seen, needed: Needed, *, now: datetime, rules: Rules) -> Plan:
    """Decide what goes, what is marked, what waits. Pure. All times are the store's."""
    stones, packs = seen.stones, seen.packs
    free = {pack: info for pack, info in packs.items() if pack not in needed.packs}
    old = {pack for pack, stone in stones.items() if now - stone.since > rules.grace}
    delete = [stones[pack] for pack in sorted(old & free.keys())]
    marked = [pack for pack, info in sorted(free.items()) if pack not in stones and now - info.modified > SHORTEST_GRACE]
    waiting = (stones.keys() & free.keys()) - old
    named = {pack for packs_of_one in needed.named.values() for pack in packs_of_one}
    return Plan(
        mark=tuple(marked),
        delete=tuple(delete),
        rescue=tuple(stones[pack] for pack in sorted(stones.keys() & needed.packs)),
        gone=tuple(stone for pack, stone in sorted(stones.items()) if pack not in packs),
        dangling=tuple(sorted(named - packs.keys())),
        withdrawn=seen.withdrawn,
        marked_bytes=sum(packs[pack].size for pack in marked),
        deleted_bytes=sum(packs[stone.pack].size for stone in delete),
        waiting=len(waiting),
        waiting_bytes=sum(packs[pack].size for pack in waiting),
        young=len(free) - len(marked) - len(waiting) - len(delete),
        total=len(packs),
        total_bytes=sum(info.size for info in packs.values()),
    )


def preview(repository: Repository, *, rules: Rules, known: Iterable[str] = (), progress: Say = _silent) -> Plan:
    """Return what a prune would do now. Nothing is changed, and no lease is needed."""
    seen = census.look(repository, alive=None, known=known)
    found = references.needed(repository, seen, alive=_silent_alive, progress=progress)
    return plan(seen, found, now=repository.store.now(), rules=rules)


def prune(
    repository: Repository,
    *,
    who: str,
    alive: Callable[[], object],
    rules: Rules | None = None,
    known: Iterable[str] = (),
    progress: Say = _silent,
) -> Pruning:
    """Look, plan, and do it: under the lease, and under the exclusive lock where others use the repository too.

    `alive` raises where the lease or the lock is lost; it is asked before whatever cannot be taken back. `known` are snapshots that
    should be there. Raises: PruneRefused (nothing was deleted), LeaseLost, Conflict, Damaged, and what the store raises.
    """
    rules = rules or Rules()
    store = repository.store
    alive()
    seen = census.look(repository, alive=alive, known=known)
    found = references.needed(repository, seen, alive=alive, progress=progress)
    made = plan(seen, found, now=store.now(), rules=rules)
    refuse(made, rules, where=store.url)
    alive()
    census.remember(store, seen)
    done = Pruning(plan=made)
    sweep = Sweep(repository, seen, found.named, who=who, alive=alive, progress=progress)
    for snapshot_id in made.withdrawn:
        alive()
        if _delete(store, snapshot_id, None):
            done.withdrawn.append(snapshot_id)
    done.rescued = sweep.rescue(made.rescue)
    done.deleted, done.locked = sweep.delete(made.delete, dangling=frozenset(made.dangling))
    done.deleted_bytes = sum(seen.packs[pack].size for pack in done.deleted)
    done.indexes = sweep.indexes
    sweep.forget_gone(made.gone)
    done.marked = sweep.mark(made.mark)
    return done


def refuse(made: Plan, rules: Rules, *, where: str) -> None:
    """Raise PruneRefused where more would go than may go without a word."""
    if made.share > rules.most_share and not rules.yes_really:
        raise PruneRefused(
            f"{made.deleted_bytes} of {made.total_bytes} bytes would be deleted, {made.share:.0%} of them; "
            f"without a word it may be {rules.most_share:.0%}",
            where=where,
            hint="nothing was deleted; look at becalm points, and if that is so, say --yes-really",
        )


def _silent_alive() -> None:
    """Hold no lease, and need none."""


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
