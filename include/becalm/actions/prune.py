"""Carry out what retention says: points that no rule keeps are forgotten. Packs stay until the engine reclaims them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.actions import run
from becalm.actions.handover import Pruned
from becalm.catalog.points import points
from becalm.policy import retention
from becalm.repository.prune import forget
from becalm.repository.reader import open_repository

if TYPE_CHECKING:
    from collections.abc import Sequence

    from becalm.actions.handover import Begun, Ports
    from becalm.model import Decision
    from becalm.policy.spec import ProtectionPolicy


def plan(policy: ProtectionPolicy, ports: Ports) -> tuple[Decision, ...]:
    """Read the points with their pins and locks, and ask retention. Nothing is changed."""
    repository = open_repository(ports.store, ports.password)
    found = points(repository, policy.name, protection=True)
    if policy.spec.retention is None:
        return ()
    return retention.plan(found, policy.spec.retention, ports.store.now(), timezone=policy.spec.timezone)


def execute(begun: Begun, policy: ProtectionPolicy, ports: Ports) -> Pruned:
    """Forget what no rule keeps. A policy without retention keeps everything."""
    run.renew(begun, ports)
    return carry_out(plan(policy, ports), ports)


def carry_out(decisions: Sequence[Decision], ports: Ports) -> Pruned:
    """Forget the points that these decisions do not keep. One that turned out to be locked stays, and is not an error."""
    going = [decision.point.id for decision in decisions if not decision.keep]
    gone = forget(ports.store, going, keep=[decision.point.id for decision in decisions if decision.keep]) if going else ()
    return Pruned(
        kept=len(decisions) - len(gone),
        forgotten=tuple(gone),
        reasons={decision.point.id: decision.reasons for decision in decisions},
    )
