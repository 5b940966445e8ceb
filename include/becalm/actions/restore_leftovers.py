"""What a restore that died has left: the movers' Secret and their pods. Claims are what it restored, and are never touched.

A restore holds no lease. It writes onto its Secret until when it surely lives, and goes on writing while it is at work.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from becalm.actions import restore_safety
from becalm.clock import parse_time
from becalm.errors import Conflict
from becalm.kube.base import (
    ANNOTATION_EXPIRES,
    LABEL_MANAGED,
    LABEL_POLICY,
    LABEL_REPOSITORY,
    LABEL_ROLE,
    LABEL_RUN,
    MANAGER,
    ROLE_RESTORE,
    Kind,
    repository_mark,
)
from becalm.kube.kinds import POD, SECRET, SNAPSHOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.actions.handover import Ports
    from becalm.model import Manifest

UNTOLD = timedelta(hours=25)
"""How old an object must be that says nothing of its time: a mover is given no more than a day."""
POD_GRACE_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadRestore:
    """One restore that nobody is at work for any more."""

    policy: str
    run: str
    objects: tuple[str, ...]
    """What it has left, as a person reads it."""
    copies: bool = False
    """These are copies of old data that nobody has confirmed within a month: the one thing of a restore that stays when it is over."""


def dead_restores(policy: str, ports: Ports, *, now: datetime) -> tuple[DeadRestore, ...]:
    """Return the restores of a policy's points that have left something and are over. One that lives anywhere lives."""
    left: dict[str, list[str]] = {}
    until: dict[str, datetime] = {}
    for kind, found in _all(f"{LABEL_POLICY}={policy}", ports):
        metadata = found["metadata"]
        run = metadata["labels"].get(LABEL_RUN, "")
        left.setdefault(run, []).append(f"{kind}/{metadata['namespace']}/{metadata['name']}")
        until[run] = max(until.get(run, _ends(found)), _ends(found)) if kind is SECRET else until.get(run, _ends(found))
    dead = [
        DeadRestore(policy=policy, run=run, objects=tuple(objects)) for run, objects in sorted(left.items()) if run and until[run] < now
    ]
    old = restore_safety.expired(policy, ports, now=now)
    names = tuple(f"{SNAPSHOT}/{copy.volume.namespace}/{copy.name}" for copy in old)
    return (*dead, *([DeadRestore(policy=policy, run="copies", objects=names, copies=True)] if old else []))


def remove_restore(dead: DeadRestore, ports: Ports) -> None:
    """Remove its pods, then its Secrets; or the copies of old data whose time is over. What is gone is fine. Raises: AccessDenied, and what is transient."""
    if dead.copies:
        restore_safety.let_go(restore_safety.expired(dead.policy, ports, now=ports.store.now()), ports)
        return
    for kind, found in _all(f"{LABEL_POLICY}={dead.policy},{LABEL_RUN}={dead.run}", ports):
        metadata = found["metadata"]
        grace = POD_GRACE_SECONDS if kind is POD else None
        try:
            ports.cluster.delete(kind, metadata["name"], namespace=metadata["namespace"], uid=metadata["uid"], grace_seconds=grace)
        except Conflict:
            continue  # another object of its name, made since


def _all(labels: str, ports: Ports) -> Iterator[tuple[Kind, Manifest]]:
    """Yield the Secrets and pods of restores from this repository: Secrets first, since they say whether their restore lives."""
    ours = f"{LABEL_MANAGED}={MANAGER},{LABEL_ROLE}={ROLE_RESTORE},{LABEL_REPOSITORY}={repository_mark(ports.store.url)}"
    for kind in (SECRET, POD):
        for found in ports.cluster.list(kind, labels=f"{ours},{labels}"):
            yield kind, found


def _ends(found: Manifest) -> datetime:
    """Return until when the restore of an object surely lives."""
    metadata = found["metadata"]
    said = (metadata.get("annotations") or {}).get(ANNOTATION_EXPIRES, "")
    try:
        return parse_time(said)
    except ValueError:
        return parse_time(metadata["creationTimestamp"]) + UNTOLD
