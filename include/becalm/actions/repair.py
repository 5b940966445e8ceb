"""Save what can be saved of a damaged repository, under the lease: index objects anew, and salvaged points beside harmed ones.

It adds and never deletes. The plan is made without a lease, for it may read for hours; what is written is looked at once more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from becalm.actions.run import LEASE_SECONDS
from becalm.catalog import ledger, verified
from becalm.clock import SystemClock
from becalm.errors import Damaged
from becalm.model import run_key
from becalm.repository import intents, lease, locks, repair, tombstones
from becalm.repository.check import check_tree, silent
from becalm.repository.format import Layout
from becalm.repository.publish import publish
from becalm.repository.reader import open_repository
from becalm.repository.salvage import SALVAGED, Salvage, rebuild
from becalm.repository.snapshots import load_snapshot

if TYPE_CHECKING:
    from datetime import datetime

    from becalm.clock import Clock
    from becalm.repository.check import Report
    from becalm.repository.format import SnapshotDoc
    from becalm.repository.lease import Fence
    from becalm.repository.reader import Repository
    from becalm.repository.repair import RepairPlan
    from becalm.storage.base import ObjectStore

_MARGIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Salvaged:
    """A point that was written beside a harmed one."""

    old: str
    new: str
    lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """What a repair wrote."""

    index_objects: int
    salvaged: tuple[Salvaged, ...]
    hopeless: tuple[str, ...]
    """Points of which nothing can be read."""
    done_before: tuple[str, ...]
    """Harmed points beside which a salvaged one stands already, and is whole."""


def plan(store: ObjectStore, password: str, *, read_data: bool = False, progress: Report = silent) -> RepairPlan:
    """Say what would be written. Packs in which a verify found damage are read again. Nothing is changed."""
    repository = open_repository(store, password)
    return repair.plan(repository, read_data=read_data, packs=_suspects(repository), progress=progress)


def execute(
    store: ObjectStore,
    password: str,
    plan: RepairPlan,
    *,
    policy: str,
    who: str,
    clock: Clock | None = None,
    retain_until: datetime | None = None,
) -> Repaired:
    """Write what the plan says, and nothing else. Raises: LeaseHeld, RepositoryLocked, LeaseLost, and what the store raises."""
    clock = clock or SystemClock()
    run = run_key(policy, f"repair {uuid4()}")
    held = lease.take(store, policy=policy, run=run, seconds=LEASE_SECONDS, clock=clock)
    fence = lease.Fence(store, run, held.epoch, clock)
    try:
        intents.settle(store, alive=fence.check)
        repository = open_repository(store, password)
        with locks.shared(repository, who=run, clock=clock):
            done = _Desk(store, password, plan, fence, epoch=held.epoch, run=run, retain_until=retain_until).carry_out(who)
            content: ledger.Content = {
                "index_objects": done.index_objects,
                "points": [{"from": one.old, "to": one.new, "lost": one.lost} for one in done.salvaged],
            }
            if done.index_objects or done.salvaged:
                ledger.append(repository, ledger.EntryKind.SALVAGED, content, who=who, run=run, epoch=held.epoch, retain_until=retain_until)
            return done
    finally:
        lease.release(store, run=run, epoch=held.epoch, clock=clock)


class _Desk:
    """One repair at work."""

    def __init__(
        self,
        store: ObjectStore,
        password: str,
        plan: RepairPlan,
        fence: Fence,
        *,
        epoch: int,
        run: str,
        retain_until: datetime | None,
    ) -> None:
        self._store, self._password, self._plan = store, password, plan
        self._fence, self._epoch, self._run, self._until = fence, epoch, run, retain_until

    def carry_out(self, who: str) -> Repaired:
        """Index objects first: salvaged points rest on them."""
        plan = self._plan
        written = repair.restore_index(open_repository(self._store, self._password), plan, who=who, retain_until=self._until)
        repository = open_repository(self._store, self._password).avoiding(tombstones.marked(self._store))
        before = _done_before(repository, plan)
        salvaged = [self._salvage(repository, one) for one in plan.salvages if not one.hopeless and one.point.id not in before]
        return Repaired(
            index_objects=written,
            salvaged=tuple(salvaged),
            hopeless=tuple(one.point.id for one in plan.salvages if one.hopeless),
            done_before=tuple(sorted(before)),
        )

    def _salvage(self, repository: Repository, salvage: Salvage) -> Salvaged:
        self._fence.renew(LEASE_SECONDS)
        doc = rebuild(repository, salvage, self._plan.examined.lost, now=self._store.now(), retain_until=self._until)
        return Salvaged(old=salvage.point.id, new=self._publish(repository, doc), lost=len(salvage.lost))

    def _publish(self, repository: Repository, doc: SnapshotDoc) -> str:
        checked = check_tree(repository, doc.tree)
        if checked.damages:
            raise Damaged(
                f"what was salvaged is not whole: {checked.damages[0].problem}",
                where=checked.damages[0].where,
                hint="nothing of it became visible; repair again with --read-data",
            )
        if self._until is not None:
            for key in checked.keys:
                self._store.retain(key, self._until)
        return publish(
            repository,
            doc,
            run=self._run,
            epoch=self._epoch,
            fence=self._fence,
            needs=frozenset(key.rpartition("/")[2] for key in checked.keys if key.startswith(Layout.DATA)),
            retain_until=self._until,
            margin_seconds=_MARGIN_SECONDS,
        )


def _suspects(repository: Repository) -> tuple[str, ...]:
    """Return the packs of which the ledger knows damage; without a ledger that can be read, none."""
    try:
        known = verified.load(repository)
    except Damaged:
        return ()
    return tuple(sorted({damage.where.rpartition("/")[2] for damage in known.damages if f"/{Layout.DATA}" in damage.where}))


def _done_before(repository: Repository, plan: RepairPlan) -> frozenset[str]:
    """Return the harmed points that have a salvaged one which is not harmed itself."""
    harmed = {one.point.id for one in plan.salvages}
    done: set[str] = set()
    for point in plan.examined.points if harmed else ():
        if point.id not in harmed:
            _, doc = load_snapshot(repository, point.id)
            done.update(tag.partition("=")[2] for tag in doc.tags if tag.startswith(f"{SALVAGED}="))
    return frozenset(done & harmed)
