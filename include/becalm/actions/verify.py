"""Prove that the repository is whole: the structure at every run, the bytes in shares, so that each is read once within a period.

Which packs a run reads follows from the ledger and the packs' ids, never from chance: whatever is due before the next run is expected,
and at least as much as keeps pace. A pack whose last reading found damage is due until it is mended or gone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence  # noqa: TC003  (the fields of a dataclass)
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from becalm.catalog import ledger, verified
from becalm.clock import Deadline, SystemClock
from becalm.errors import AccessDenied, Damaged, StoreFull, StoreReadOnly
from becalm.repository import locks
from becalm.repository.check import examine, silent
from becalm.repository.damage import Damage
from becalm.repository.format import Layout, is_id
from becalm.repository.intents import withdrawn
from becalm.repository.reader import open_repository

if TYPE_CHECKING:
    from becalm.catalog.verified import Known, OpenDamage
    from becalm.clock import Clock
    from becalm.repository.check import Examined, Report
    from becalm.repository.check_packs import Hired
    from becalm.repository.reader import Repository
    from becalm.storage.base import ObjectStore

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_INTERVAL = timedelta(days=1)
"""How soon the next run is expected where none was before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackInfo:
    """A pack in the bucket."""

    size: int
    modified: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Which packs a run is to read, in this order, and why so many."""

    packs: tuple[str, ...]
    bytes: int
    due: int
    """So many of them are due before the next run; the others keep pace."""
    left: int = 0
    """Packs that are due and do not fit into this run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a run is to do."""

    read_data: bool = False
    period: timedelta | None = None
    """Read every byte once within this."""
    max_bytes: int | None = None
    for_seconds: float | None = None
    snapshots: tuple[str, ...] = ()
    """Only these; their data is read only with `read_data`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What a run found."""

    damages: tuple[Damage, ...]
    points: int
    packs_read: int
    packs: int
    bytes_read: int
    bytes: int
    unindexed: tuple[str, ...]
    share: Share | None
    entry: int
    """The number of the ledger's entry; nothing where it could not be written."""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What the ledger says of what is in the bucket."""

    packs: int
    bytes: int
    unread_packs: int
    """Packs that were never read since they were written."""
    unread_bytes: int
    oldest: datetime | None
    """Since when the byte that waits longest was not read: its last reading, or its writing."""
    all_read: datetime | None
    """Since when every byte that is there has been read once; nothing where some never were."""
    last: datetime | None
    damages: tuple[OpenDamage, ...]


def plan(packs: Mapping[str, PackInfo], known: Known, *, now: datetime, period: timedelta, max_bytes: int | None = None) -> Share:
    """Say which of these packs are read now, those that wait longest first. Pure. (Those that are read at every run are not among them.)

    A pack waits since it was last read, or since it was written. It is due when that is a period ago before the next run, which is
    expected after as long a time as since the last one. A pack in which damage was found is due at once.
    """
    interval = min(max(now - known.last, timedelta(0)), period) if known.last else min(FIRST_INTERVAL, period)
    harmed = {damage.where.rpartition("/")[2] for damage in known.damages}
    waiting = sorted(_wait(pack, info, known, harmed) for pack, info in packs.items())
    pace = sum(info.size for info in packs.values()) * (interval / period) if period else float("inf")
    chosen: list[str] = []
    size = due = left = 0
    for since, _, pack in waiting:
        is_due = since + period <= now + interval
        if not is_due and size >= pace:
            break
        if max_bytes is not None and chosen and size + packs[pack].size > max_bytes:
            left += is_due
            continue
        chosen.append(pack)
        size += packs[pack].size
        due += is_due
    return Share(packs=tuple(chosen), bytes=size, due=due, left=left)


def _wait(pack: str, info: PackInfo, known: Known, harmed: Collection[str]) -> tuple[datetime, bool, str]:
    """Return since when a pack waits, in whole seconds as the ledger has them; of one second those come first that were never read."""
    if pack in harmed:
        return _LONG_AGO, False, pack
    read = known.when(pack)
    return (read or info.modified).replace(microsecond=0), read is not None, pack


def listed(store: ObjectStore) -> dict[str, PackInfo]:
    """Return the packs that are in the bucket."""
    found = ((info.key.rpartition("/")[2], info) for info in store.list(Layout.DATA))
    return {name: PackInfo(size=info.size, modified=info.modified) for name, info in found if is_id(name)}


def execute(
    store: ObjectStore,
    password: str,
    wanted: Wanted,
    *,
    who: str,
    clock: Clock | None = None,
    progress: Report = silent,
    retain_until: datetime | None = None,
    hired: Hired | None = None,
) -> Verified:
    """Verify, and write into the ledger what was verified. A ledger that cannot be written is noted; one that is broken is a damage.

    `hired` are processes that were started before, to read what is read.

    Raises: NoRepository, WrongPassword, RepositoryLocked (a prune deletes), Damaged (config, keys), and what the store raises.
    """
    clock = clock or SystemClock()
    repository = open_repository(store, password)
    began, deadline = store.now(), Deadline(clock, wanted.for_seconds if wanted.for_seconds is not None else float("inf"))
    started = clock.monotonic()
    known, damages = _known(repository, whole=wanted.read_data)
    shares: list[Share] = []

    def choose(read: Collection[str]) -> tuple[str, ...]:
        if wanted.period is None:
            return ()
        waiting = {pack: info for pack, info in listed(store).items() if pack not in read}
        shares.append(plan(waiting, known, now=began, period=wanted.period, max_bytes=wanted.max_bytes))
        return shares[0].packs

    with locks.shared(repository, who="verify", clock=clock, leased=False, required=False):  # what is read is not deleted meanwhile
        found = examine(
            repository,
            snapshots=wanted.snapshots or None,
            read_data=wanted.read_data,
            choose=choose,
            enough=deadline.passed if wanted.for_seconds is not None else None,
            hired=hired,
            progress=progress,
        )
    if not wanted.snapshots:
        damages += _vanished(repository, known, found)
    damages = [*found.damages, *damages]
    finished = _finished(known, found, damages, began=began, seconds=clock.monotonic() - started, whole=not wanted.snapshots)
    entry, note = _record(repository, known, finished, who=who, retain_until=retain_until)
    return _told(found, damages, share=shares[0] if shares else None, entry=entry, note=note)


def _finished(
    known: Known, found: Examined, damages: Sequence[Damage], *, began: datetime, seconds: float, whole: bool
) -> verified.Finished:
    """Return what the ledger is told. A point that is gone and was named as a damage stays among the known ones."""
    vanished = known.points - {point.id for point in found.points}
    return verified.Finished(
        began=began,
        seconds=seconds,
        whole=whole,
        verified=found.verified,
        bytes_read=found.bytes_read,
        damages=damages,
        points=[*(point.id for point in found.points), *(point for point in vanished if _names(damages, point))],
        present=found.packs.keys(),
    )


def _told(found: Examined, damages: Sequence[Damage], *, share: Share | None, entry: int, note: str) -> Verified:
    """Return what whoever asked is told."""
    return Verified(
        damages=tuple(damages),
        points=len(found.points),
        packs_read=len(found.verified),
        packs=len(found.packs),
        bytes_read=found.bytes_read,
        bytes=sum(found.packs.values()),
        unindexed=found.unindexed,
        share=share,
        entry=entry,
        note=note,
    )


def status(store: ObjectStore, password: str) -> Status:
    """Say what the ledger knows of the packs that are there. Nothing but the ledger is read. Raises: Damaged (the ledger)."""
    repository = open_repository(store, password)
    known, packs = verified.load(repository), listed(store)
    read = {pack: known.when(pack) for pack in packs}
    never = [pack for pack, when in read.items() if when is None]
    since = [read[pack] or info.modified for pack, info in packs.items()]
    return Status(
        packs=len(packs),
        bytes=sum(info.size for info in packs.values()),
        unread_packs=len(never),
        unread_bytes=sum(packs[pack].size for pack in never),
        oldest=min(since, default=None),
        all_read=None if never else min(since, default=None),
        last=known.last,
        damages=known.damages,
    )


def _known(repository: Repository, *, whole: bool) -> tuple[Known, list[Damage]]:
    """Read the ledger, and name what is broken in it: between any entries, or (unless all is asked for) since the last run."""
    known, broken = verified.Known(), ledger.gaps(repository)
    try:
        known = verified.load(repository)
    except Damaged as error:
        broken.append(error)
    broken += ledger.broken(repository, since=1 if whole else max(1, known.entry))
    return known, [Damage(where=where, problem=problem) for where, problem in dict.fromkeys((e.where, e.message) for e in broken)]


def _vanished(repository: Repository, known: Known, found: Examined) -> list[Damage]:
    """Name the points that the last run followed, and that went without a word in the ledger."""
    named = {point.id for point in found.points}
    gone = {point for point in known.points - named - _withdrawn(repository) if not _names(found.damages, point)}
    if not gone:
        return []
    told: set[str] = set()
    for kind in (ledger.EntryKind.FORGOTTEN, ledger.EntryKind.PRUNED):
        try:
            for entry in ledger.newest(repository, kind):
                if entry.number <= known.entry:
                    break
                told.update(point for point in gone if point in str(entry.content))
        except Damaged:  # named by the look at the chain
            continue
    return [
        Damage(
            where=repository.where(Layout.snapshot(point)), problem="the recovery point is gone, and the ledger does not say who forgot it"
        )
        for point in sorted(gone - told)
    ]


def _withdrawn(repository: Repository) -> frozenset[str]:
    """Return the snapshots that never counted; an intent that cannot be read was named by the check."""
    try:
        return withdrawn(repository.store)
    except Damaged:
        return frozenset()


def _names(damages: Sequence[Damage], point: str) -> bool:
    """Say whether a damage is about this snapshot."""
    return any(damage.where.endswith(point) for damage in damages)


def _record(
    repository: Repository, known: Known, finished: verified.Finished, *, who: str, retain_until: datetime | None
) -> tuple[int, str]:
    try:
        return verified.record(repository, known, finished, who=who, retain_until=retain_until).number, ""
    except (AccessDenied, StoreReadOnly, StoreFull) as error:
        return 0, f"the ledger could not be written, so the next run does not know of this one: {error}"
