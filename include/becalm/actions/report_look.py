"""Reads from the bucket what a report on one policy needs. The cluster is not asked, and nothing is written.

What cannot be read is named, and hides nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.actions import drill_record
from becalm.actions.objectives import status, unreachable
from becalm.actions.observe import attempt, facts, unread
from becalm.actions.reporting import Seen
from becalm.catalog import coverage, verified
from becalm.catalog.points import points
from becalm.errors import BecalmError
from becalm.repository.reader import open_repository
from becalm.storage.wrappers import ReadOnly

if TYPE_CHECKING:
    from datetime import timedelta

    from becalm.actions.coverage_look import Reach
    from becalm.clock import Clock
    from becalm.model import Finding
    from becalm.policy.spec import ProtectionPolicy


def look(policy: ProtectionPolicy, reach: Reach, *, clock: Clock, window: timedelta) -> Seen:
    """Return what is known of a policy. It never raises BecalmError: that nothing can be read is what is known, then."""
    unknown: list[Finding] = []
    try:
        store, password = reach()
        repository = open_repository(ReadOnly(store), password)
        found = status(policy, facts(repository, policy.name, window=window), window=window)
    except BecalmError as error:
        return Seen(policy=policy, status=unreachable(policy, unread(error, ""), now=clock.now()))
    locked = policy.spec.target.lock is not None
    return Seen(
        policy=policy,
        status=found,
        points=attempt(lambda: tuple(points(repository, policy.name, protection=True)), (), "the locks", unknown) if locked else (),
        drills=attempt(lambda: drill_record.listed(repository), None, "the reports of drills", unknown),
        verified=attempt(lambda: verified.load(repository), None, "what was verified", unknown),
        coverage=attempt(lambda: coverage.load(repository)[0], None, "the record of coverage", unknown),
        unknown=tuple(unknown),
    )
