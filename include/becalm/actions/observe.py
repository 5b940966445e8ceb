"""Read from the bucket what `objectives` judges: points, history, schedules, the lease, the last drill. The cluster is not asked.

What cannot be read is named, and hides nothing else. Nothing is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from becalm.actions.objectives import WINDOW, Facts, PolicyStatus, Proven, status, unreachable
from becalm.catalog import ledger
from becalm.catalog.epochs import epochs
from becalm.catalog.history import history
from becalm.catalog.points import points
from becalm.errors import BecalmError
from becalm.model import Finding, Severity
from becalm.repository import lease
from becalm.repository.format import Layout
from becalm.repository.reader import open_repository
from becalm.storage.wrappers import ReadOnly

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from becalm.catalog.history import RunRecord
    from becalm.clock import Clock
    from becalm.policy.spec import ProtectionPolicy
    from becalm.repository.reader import Repository
    from becalm.storage.base import ObjectStore

T = TypeVar("T")


def facts(repository: Repository, policy: str, *, window: timedelta = WINDOW, count_bytes: bool = False) -> Facts:
    """Read what is known of a policy. Raises what listing its points raises; what is only for information becomes a finding."""
    store = repository.store
    now = store.now()
    unknown: list[Finding] = []
    found = tuple(points(repository, policy))
    none: list[RunRecord] = []
    runs = attempt(lambda: history(repository, since=now - window, until=now, problem=unknown.append), none, "the history", unknown)
    held = attempt(lambda: lease.read(store), None, "the lease", unknown)
    size = sum(info.size for info in store.list(Layout.DATA)) if count_bytes else None
    return Facts(
        now=now,
        points=found,
        runs=tuple(runs),
        epochs=attempt(lambda: epochs(store), (), "the schedules", unknown),
        working=held is not None and held.held(now),
        repository_bytes=size,
        drill=attempt(lambda: _last_drill(repository), None, "the ledger", unknown),
        unknown=tuple(unknown),
    )


def observe(
    policy: ProtectionPolicy,
    reach: Callable[[], tuple[ObjectStore, str]],
    *,
    clock: Clock,
    window: timedelta = WINDOW,
    count_bytes: bool = False,
) -> PolicyStatus:
    """Return how a policy stands. `reach` opens its store and tells the password. It never raises BecalmError: that is how it stands, too."""
    try:
        store, password = reach()
        repository = open_repository(ReadOnly(store), password)
        return status(policy, facts(repository, policy.name, window=window, count_bytes=count_bytes), window=window)
    except BecalmError as error:
        return unreachable(policy, unread(error, ""), now=clock.now())


def _last_drill(repository: Repository) -> Proven | None:
    """Return what the newest entry of a drill says; nothing where there was none."""
    kind = next((kind for kind in ledger.EntryKind if kind.value == "drilled"), None)
    entry = next(ledger.newest(repository, kind), None) if kind else None
    if entry is None:
        return None
    said = entry.content
    return Proven(time=entry.time, ok=said.get("ok") is True, point=str(said.get("point", "")), seconds=float(said.get("seconds") or 0.0))


def attempt(read: Callable[[], T], otherwise: T, what: str, unknown: list[Finding]) -> T:
    """Return what is read; where it cannot be, note that and return the other."""
    try:
        return read()
    except BecalmError as error:
        unknown.append(unread(error, what))
        return otherwise


def unread(error: BecalmError, what: str) -> Finding:
    """Return what could not be read, as a finding."""
    return Finding(where=what or error.where, message=error.message, remedy=error.hint, severity=Severity.WARNING)
