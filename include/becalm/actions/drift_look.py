"""One look at a policy's drift: the last good point and the code in it beside the cluster; what is open is remembered, and what changed told.

It writes one object. Whom it tells is the caller's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from becalm.actions import drift_record
from becalm.actions.coverage_record import after
from becalm.actions.declared import gather
from becalm.actions.diff_sides import LiveSide, PointSide, Wanted
from becalm.actions.drift import DriftReport, compare
from becalm.actions.drift_ignore import as_rules
from becalm.actions.drift_rules import DriftRules
from becalm.actions.drift_sides import DeclaredSide, of_another_cluster
from becalm.actions.infrastructure import FOLDER, mirrored_in
from becalm.actions.rendering import Programs
from becalm.catalog import drift as catalog
from becalm.catalog.points import last_good, points
from becalm.errors import NotFound, PointMissing
from becalm.git.contents import clone
from becalm.repository.extract import extract
from becalm.repository.reader import open_repository

if TYPE_CHECKING:
    from collections.abc import Sequence

    from becalm.actions.handover import Ports
    from becalm.actions.watch import Message
    from becalm.actions.watching import Send
    from becalm.policy.drifting import Drift
    from becalm.policy.spec import ProtectionPolicy
    from becalm.repository.reader import Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What one look came to."""

    report: DriftReport
    record: catalog.DriftRecord
    sent: tuple[Message, ...]
    errors: tuple[str, ...]
    """Who could not be told, and why."""


def look(policy: ProtectionPolicy, ports: Ports, *, notify: Sequence[str], send: Send, search: str) -> Looked:
    """Compare, remember and tell. `search` is where kustomize is looked for, as PATH writes it.

    Raises: PointMissing (there is no good point), NotFound (the point holds no such code), and what the cluster and the store raise.
    """
    repository = open_repository(ports.store, ports.password)
    before, etag = catalog.load(repository)
    point = last_good(points(repository, policy.name))
    if point is None:
        raise PointMissing("there is no good recovery point to compare with", where=f"policy {policy.name}", hint="run the policy first")
    wanted = Wanted.read(namespaces=(), kinds=(), objects=())
    section = policy.spec.drift
    saved = PointSide.open(repository, point, wanted=wanted)
    rules = DriftRules.without([], as_rules(section.ignore) if section else ())
    with TemporaryDirectory(prefix="becalm-drift-") as place:
        corner = None
        if section and section.declared:
            folders = _declared(repository, point.tree, section, Path(place))
            corner = DeclaredSide.of(
                gather(folders, Programs(path=search)), ports.cluster, namespace=section.default_namespace, wanted=wanted
            )
        found = compare(saved, LiveSide(cluster=ports.cluster, like=saved), declared=corner, rules=rules)
    report = found.with_finding(of_another_cluster(saved, ports.cluster))
    record = drift_record.merge(before, report, policy=policy.name, point=point.id, now=ports.clock.now())
    sent = [(message, send(message)) for message in drift_record.messages(record, notify=notify)]
    record = after(record, sent)
    catalog.save(repository, record, etag)
    errors = tuple(f"{name} was not told: {why}" for _, failed in sent for name, why in failed.items())
    return Looked(report=report, record=record, sent=tuple(message for message, _ in sent), errors=errors)


def _declared(repository: Repository, tree: str, section: Drift, place: Path) -> list[Path]:
    """Check out the code that a point holds, and return the folders that are declared. Raises NotFound, Damaged."""
    there = {one.name: one for one in mirrored_in(repository, tree)}
    folders = []
    for source in section.declared:
        mirrored = there.get(source.repository)
        if mirrored is None:
            raise NotFound(
                f"the last good point holds no repository {source.repository}", where="spec.drift.declared", hint="run the policy first"
            )
        working = place / "clones" / source.repository
        if not working.exists():
            extract(repository, tree, place, include=f"{FOLDER}/{source.repository}")
            clone(place / source.repository, working, mirrored.ref, origin=mirrored.url)
        folder = (working / source.path).resolve()
        if not folder.is_relative_to(working.resolve()) or not folder.exists():
            raise NotFound(f"the repository {source.repository} has no {source.path} at {mirrored.ref}", where="spec.drift.declared")
        folders.append(folder)
    return folders
