"""What the console reads: policies, their recovery points, and what stands in a point. Everything comes through one port.

A bucket that answers half is shown half: what could not be read is a finding beside what could. Nothing here writes, but for the
ledger's entries of who saw what, and for pins.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from becalm.airflow.console.cache import Answer, Cache
from becalm.airflow.console.points_view import fates
from becalm.catalog import ledger
from becalm.catalog.pins import pin, pins, unpin
from becalm.catalog.points import parse
from becalm.clock import format_time
from becalm.errors import BecalmError, IntegrityError, NotFound, PointMissing
from becalm.model import Finding
from becalm.repository.intents import withdrawn
from becalm.repository.reader import open_repository
from becalm.repository.snapshots import load_snapshot, snapshot_ids
from becalm.storage.wrappers import ReadOnly

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from becalm.actions.handover import Ports
    from becalm.actions.objectives import PolicyStatus
    from becalm.clock import Clock
    from becalm.model import Decision, RecoveryPoint
    from becalm.policy.spec import ProtectionPolicy
    from becalm.repository.reader import Repository
    from becalm.storage.base import ObjectStore

FRESH_SECONDS = 20.0
"""So long an answer is taken for new."""
STATUS_SECONDS = 60.0
"""So long it stands how a policy stands: to say it, all of its bucket's short notes are read."""
KEPT_OPEN_SECONDS = 600.0
"""So long a repository stays open: prune may have moved what its index says."""
PATIENCE_SECONDS = 2.0
"""So long a page waits for what has never been read."""
MOST_REPOSITORIES = 16
MOST_POLICIES = 1000
OPENING_SECONDS = 60.0
"""So long a reader waits for a repository to open."""
READERS = 8
OPENERS = 4
FETCHERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A policy's repository, closed."""

    store: ObjectStore
    password: str


class Source(Protocol):
    """Where policies are, and how their buckets open."""

    def policies(self) -> Mapping[str, ProtectionPolicy | BecalmError]:
        """Return the policies by their names; a broken one's file says what is wrong with it."""

    def place(self, policy: ProtectionPolicy) -> Place:
        """Open the store of a policy. Raises what the adapters raise."""

    def ports(self, policy: ProtectionPolicy) -> Ports:
        """Open the cluster too: for what compares with it. Raises what the adapters raise."""

    def status(self, policy: ProtectionPolicy) -> PolicyStatus:
        """Hold a policy's objectives against what its bucket says. What could not be read is told in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """The points of a policy, oldest first, and what could not be read of them."""

    points: tuple[RecoveryPoint, ...]
    findings: tuple[Finding, ...] = ()
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    """What retention says of each, by its id; nothing where the policy forgets nothing."""

    def find(self, point_id: str) -> RecoveryPoint:
        """Return a point by its whole id. Raises PointMissing."""
        for point in self.points:
            if point.id == point_id:
                return point
        raise PointMissing(f"there is no recovery point {point_id[:8]} any more", hint="go back to the list of recovery points")


class Library:
    """Policies, points and repositories, kept for a while. Safe for several threads."""

    def __init__(self, source: Source, *, clock: Clock, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Begin with nothing read."""
        self.clock = clock
        self._source = source
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="becalm-console")
        # A reader may wait for an opener, and an opener for a fetcher; never the other way round.
        self._openers = ThreadPoolExecutor(OPENERS, thread_name_prefix="becalm-console-open")
        self._fetchers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="becalm-console-fetch")

        fresh, patience = FRESH_SECONDS, patience_seconds
        self._policies: Cache[str, Mapping[str, ProtectionPolicy | BecalmError]] = Cache(
            lambda _key, _known: source.policies(), clock=clock, pool=self._fetchers, fresh_seconds=fresh, patience_seconds=patience, most=1
        )
        self._repositories: Cache[str, Repository] = Cache(
            self._open,
            clock=clock,
            pool=self._openers,
            fresh_seconds=KEPT_OPEN_SECONDS,
            patience_seconds=patience,
            most=MOST_REPOSITORIES,
        )
        self._points: Cache[str, Listed] = Cache(
            self._list, clock=clock, pool=self._pool, fresh_seconds=fresh, patience_seconds=patience, most=MOST_REPOSITORIES
        )
        self._statuses: Cache[str, PolicyStatus] = Cache(
            lambda name, _known: source.status(self.policy(name)),
            clock=clock,
            pool=self._pool,
            fresh_seconds=STATUS_SECONDS,
            patience_seconds=patience,
            most=MOST_POLICIES,
        )

    def close(self) -> None:
        """Let the threads go."""
        for pool in (self._pool, self._openers, self._fetchers):
            pool.shutdown(wait=True, cancel_futures=True)

    def policies(self) -> Mapping[str, ProtectionPolicy | BecalmError]:
        """Return the policies. Raises StillReading."""
        return self._policies.get("").value

    def policy(self, name: str) -> ProtectionPolicy:
        """Return a policy by its name. Raises NotFound, and its own error where its file is broken."""
        found = self.policies().get(name)
        if found is None:
            raise NotFound(f"there is no policy {name} that you may see", hint="look at the overview")
        if isinstance(found, BecalmError):
            raise found
        return found

    def status(self, name: str) -> Answer[PolicyStatus] | None:
        """Return how a policy stands; nothing while that is read for the first time. Raises what reading raises."""
        return self._statuses.ask(name)

    def points(self, name: str) -> Answer[Listed]:
        """Return the points of a policy. Raises StillReading, and what reading raises."""
        return self._points.get(name)

    def repository(self, name: str) -> Repository:
        """Return a policy's repository, which cannot be changed through this door. Raises StillReading, and what opening raises."""
        return self._repositories.get(name).value

    def ports(self, name: str) -> Ports:
        """Open the cluster of a policy too. Raises what the adapters raise."""
        return self._source.ports(self.policy(name))

    def note(self, name: str, kind: ledger.EntryKind, content: ledger.Content, *, who: str) -> None:
        """Write into a policy's ledger who saw what. Raises what the store raises: what is not noted is not shown."""
        place = self._source.place(self.policy(name))
        ledger.append(open_repository(place.store, place.password), kind, content, who=who)

    def pin(self, name: str, point_id: str, *, who: str, note: str, until: datetime | None) -> None:
        """Keep a point, whatever retention says; the ledger says first who wants it. Raises what the store raises."""
        said = {"format": 1, "point": point_id, "note": note, "until": format_time(until) if until else ""}
        self.note(name, ledger.EntryKind.PINNED, said, who=who)
        pin(self._source.place(self.policy(name)).store, point_id, now=self.clock.now(), note=note, who=who, until=until)
        self._points.forget(name)

    def unpin(self, name: str, point_id: str, *, who: str) -> None:
        """Leave a point to retention again; the ledger says first who wants it. Raises what the store raises."""
        self.note(name, ledger.EntryKind.UNPINNED, {"format": 1, "point": point_id}, who=who)
        unpin(self._source.place(self.policy(name)).store, point_id)
        self._points.forget(name)

    def settle(self) -> None:
        """Wait until nothing is being read."""
        for cache in (self._policies, self._repositories, self._points, self._statuses):
            cache.settle()

    def _open(self, name: str, known: Repository | None) -> Repository:
        del known
        place = self._source.place(self.policy(name))
        return open_repository(ReadOnly(place.store), place.password)

    def _list(self, name: str, known: Listed | None) -> Listed:
        """List the points: of those that were known nothing is read again but their pins."""
        repository = self._repositories.get(name, patience_seconds=OPENING_SECONDS).value
        had = {point.id: point for point in known.points} if known else {}
        held, now = pins(repository.store), repository.store.now()
        ids = snapshot_ids(repository)
        gone = withdrawn(repository.store)
        read = self._fetchers.map(lambda one: self._load(repository, one), [one for one in ids if one not in had])
        findings: list[Finding] = []
        for point in read:
            if isinstance(point, Finding):
                findings.append(point)
            elif point is not None and point.policy == name:
                had[point.id] = point
        if known is not None and len(had) > len(known.points):  # what is new stands in an index that was not there
            self._repositories.forget(name)
        there = set(ids) - set(gone)
        found = [replace(point, pinned=point.id in held and held[point.id].holds(now)) for point in had.values() if point.id in there]
        ordered = tuple(sorted(found, key=lambda point: (point.cut, point.id)))
        return Listed(points=ordered, findings=tuple(findings), decisions=fates(self.policy(name), ordered, now))

    @staticmethod
    def _load(repository: Repository, snapshot_id: str) -> RecoveryPoint | Finding | None:
        try:
            return parse(*load_snapshot(repository, snapshot_id))
        except PointMissing:  # forgotten since it was listed
            return None
        except IntegrityError as error:
            return Finding(where=error.where or f"snapshots/{snapshot_id}", message=error.message, remedy=error.hint)
