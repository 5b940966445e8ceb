"""One look at a cluster's coverage: read the cluster, judge it, remember what is open, and tell what changed. It writes one object.

Whom it tells, and how a bucket is opened, is the caller's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import orjson

from becalm.actions import census, claims, coverage, coverage_record, inventory
from becalm.actions.claims import Standing
from becalm.actions.observe import observe
from becalm.catalog import coverage as catalog
from becalm.errors import BecalmError
from becalm.repository.reader import open_repository
from becalm.repository.tree import lookup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from becalm.actions.coverage import Coverage
    from becalm.actions.inventory import Inventory
    from becalm.actions.state import Census
    from becalm.actions.watch import Message
    from becalm.actions.watching import Send
    from becalm.clock import Clock
    from becalm.kube.base import Cluster
    from becalm.model import RecoveryPoint
    from becalm.policy.claims import StatelessClaim
    from becalm.policy.spec import ProtectionPolicy
    from becalm.storage.base import ObjectStore

    Reach: TypeAlias = Callable[[], tuple[ObjectStore, str]]
    """Opens a policy's store, and tells its password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What one look came to."""

    judged: Coverage
    sent: tuple[Message, ...]
    errors: tuple[str, ...]
    """Who could not be told, and why."""


def survey(cluster: Cluster) -> tuple[Census, Inventory]:
    """Read all state, and what volumes rest on. Raises what the cluster raises."""
    seen = census.read(cluster)
    return seen, inventory.read(cluster, seen.namespaces, frozenset(item.name for item in seen.namespaces))


def protection(policy: ProtectionPolicy, reach: Reach, *, clock: Clock, problem: Callable[[str], None]) -> coverage.Protection:
    """Return how a policy stands, and whether its last good point was made by the same selection.

    A point that cannot be read is no proof that it holds what the policy selects now; `problem` is told why it cannot be.
    """
    status = observe(policy, reach, clock=clock)
    changed = False
    if status.last_good is not None:
        try:
            changed = _selects_otherwise(policy, status.last_good, reach)
        except (BecalmError, ValueError, TypeError, KeyError) as error:
            problem(f"what the last good point of {policy.name} was to hold cannot be read: {error}")
            changed = True
    return coverage.Protection(policy=policy, status=status, changed=changed)


def _selects_otherwise(policy: ProtectionPolicy, point: RecoveryPoint, reach: Reach) -> bool:
    store, password = reach()
    repository = open_repository(store, password, few=True)
    said = orjson.loads(b"".join(repository.read_file(lookup(repository, point.tree, "recovery-point.json"))))
    return coverage.selects_otherwise(policy, said["policy"]["document"])


def look(
    cluster: Cluster,
    policies: Sequence[ProtectionPolicy],
    declared: Sequence[StatelessClaim],
    reach: Callable[[ProtectionPolicy], tuple[ObjectStore, str]],
    *,
    alone: bool,
    notify: Sequence[str],
    send: Send,
    clock: Clock,
    own: str,
    problem: Callable[[str], None],
) -> Looked:
    """Look at one cluster. The record stands in the bucket of the first policy. `alone`: there is no other cluster that a claim may mean.

    Raises: what the cluster raises, and what opening, reading or writing the record raises.
    """
    keeper, now = policies[0], clock.now()
    store, password = reach(keeper)
    repository = open_repository(store, password, few=True)
    before, etag = catalog.load(repository)
    seen, facts = survey(cluster)
    audits = [one for one in claims.audit(declared, seen, now=now) if alone or one.standing is not Standing.EMPTY]
    standing = [protection(policy, lambda one=policy: reach(one), clock=clock, problem=problem) for policy in policies]  # type: ignore[misc]
    judged = coverage.judge(seen, facts, standing, claims.holding(audits), own=own)
    record = coverage_record.merge(before, judged, audits, cluster=keeper.spec.cluster, now=now)
    sent = [(message, send(message)) for message in coverage_record.messages(record, keeper=keeper.name, notify=notify)]
    catalog.save(repository, coverage_record.after(record, sent), etag)
    errors = tuple(f"{name} was not told: {why}" for _, failed in sent for name, why in failed.items())
    return Looked(judged=judged, sent=tuple(message for message, _ in sent), errors=errors)
