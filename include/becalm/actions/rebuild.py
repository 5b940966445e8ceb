"""A rebuild: everything that a target protects, into a cluster that holds nothing of it, with nothing but the bucket and a password.

`prepare` finds the policies under the target, their newest good points, and an order; `execute` restores them in phases: what belongs to no
namespace first, over all policies, then policy after policy, and what guards the API last. Nothing that exists is overwritten, and the same
command again goes on where the last one ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from becalm.actions import rebuild_nodes, restore
from becalm.actions.readiness import wait_ready
from becalm.actions.rebuild_nodes import NodeFacts, facts
from becalm.actions.rebuild_outside import outside
from becalm.actions.rebuild_steps import Part, PartReport, Phase, RebuildPlan, RebuildReport, demand
from becalm.actions.restore_request import ClusterScoped, RestoreRequest
from becalm.actions.restore_source import Source
from becalm.catalog.points import find, points
from becalm.errors import BecalmError, NoRepository, NotFound, NothingSelected
from becalm.kube.base import Kind
from becalm.kube.kinds import NAMESPACE
from becalm.kube.ordering import OrderClass, wave
from becalm.model import CORE_GROUP, Finding, Severity
from becalm.repository.reader import open_repository
from becalm.repository.tree import lookup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from becalm.actions.handover import Ports
    from becalm.model import RecoveryPoint, ResourceRef
    from becalm.repository.reader import Repository

__all__ = ["demand", "execute", "order", "prepare", "requests"]

ENVIRONMENTS = ("production", "staging", "test")
"""In this order policies are restored; what says nothing counts as production."""


def prepare(
    policies: Iterable[str], ports_for: Callable[[str], Ports], *, target: str, as_of: str = "latest", first: Sequence[str] = ()
) -> RebuildPlan:
    """Read the points of these policies and the cluster, and decide. Nothing is written. A policy that cannot be read is a finding.

    `first` names policies that others depend on. Raises: NothingSelected (there is nothing to rebuild), and what the cluster raises.
    """
    parts: list[Part] = []
    wrong: list[Finding] = []
    for policy in policies:
        try:
            parts.append(_part(policy, ports_for(policy), as_of))
        except NoRepository:
            continue
        except BecalmError as error:
            wrong.append(Finding(where=f"policy {policy}", message=f"cannot be rebuilt: {error.message}", remedy=error.hint))
    if not parts:
        told = "; ".join(map(str, wrong)) or "no policy keeps recovery points there"
        raise NothingSelected(f"there is nothing to rebuild: {told}", where=target, hint="look at the target's URL and the password")
    ordered = order(parts, first=first)
    saved = _nodes(ordered)
    live = rebuild_nodes.live_nodes(ports_for(ordered[0].policy))
    partial = [
        Finding(
            where=f"policy {part.policy}",
            message=f"recovery point {part.point[:8]} is partial",
            remedy="becalm show lists what is missing in it",
            severity=Severity.WARNING,
        )
        for part in ordered
        if not part.complete
    ]
    return RebuildPlan(
        target=target,
        parts=ordered,
        nodes=rebuild_nodes.changes(saved, live),
        findings=(*wrong, *partial, *rebuild_nodes.findings(saved, live)),
    )


def order(parts: Iterable[Part], *, first: Sequence[str] = ()) -> tuple[Part, ...]:
    """Put policies into the order in which they are restored: those named first, then by environment, then by name. Pure."""

    def rank(part: Part) -> tuple[int, int, str]:
        named = first.index(part.policy) if part.policy in first else len(first)
        return named, ENVIRONMENTS.index(part.environment) if part.environment in ENVIRONMENTS else 0, part.policy

    return tuple(sorted(parts, key=rank))


def _nodes(parts: Iterable[Part]) -> tuple[NodeFacts, ...]:
    """Return the nodes as the newest point remembers each. Pure."""
    known = {node.name: node for part in sorted(parts, key=lambda part: part.cut) for node in part.nodes}
    return tuple(node for _, node in sorted(known.items()))


def _part(policy: str, ports: Ports, as_of: str) -> Part:
    """Read what a rebuild must know of one policy. Raises: NoRepository, WrongPassword, PointMissing, Damaged."""
    repository = open_repository(ports.store, ports.password)
    point = find(points(repository, policy), as_of, now=ports.clock.now())
    source = Source.open(repository, point.tree)
    beside = {_kind(ref) for ref in source.places if ref.namespace is None} - {str(NAMESPACE) + f".{CORE_GROUP}"}
    gates = {name for name in beside if _is_gate(name)}
    document = _document(repository, point, "recovery-point.json")
    served = _document(repository, point, "endpoints/discovery.json")
    nodes = _document(repository, point, "endpoints/nodes.json")
    said = document.get("policy", {}).get("document", {}).get("spec", {}) if isinstance(document, dict) else {}
    counts = document.get("counts", {}) if isinstance(document, dict) else {}
    return Part(
        policy=policy,
        point=point.id,
        cut=point.cut,
        cluster=point.cluster,
        complete=point.complete,
        environment=str(said.get("environment") or ENVIRONMENTS[0]),
        namespaces=tuple(sorted({ref.namespace for ref in source.places if ref.namespace})),
        objects=len(source.places),
        volumes=int(counts.get("volumes") or 0),
        bytes=int(counts.get("bytes") or 0),
        cluster_kinds=tuple(sorted(beside - gates)),
        gate_kinds=tuple(sorted(gates)),
        served=tuple(
            sorted({str(kind.get("group") or CORE_GROUP) for kind in served.get("kinds", ())} if isinstance(served, dict) else ())
        ),
        version=str(served.get("version") or "") if isinstance(served, dict) else "",
        nodes=tuple(facts(node) for node in nodes) if isinstance(nodes, list) else (),
        outside=outside(source),
    )


def _document(repository: Repository, point: RecoveryPoint, path: str) -> object:
    """Return a document of a point; nothing where the point holds none, or none that can be read."""
    try:
        found: object = orjson.loads(b"".join(repository.read_file(lookup(repository, point.tree, path))))
    except (NotFound, ValueError):
        return {}
    return found


def _kind(ref: ResourceRef) -> str:
    return f"{ref.resource}.{ref.group or CORE_GROUP}"


def _is_gate(name: str) -> bool:
    resource, _, group = name.partition(".")
    kind = Kind(group="" if group == CORE_GROUP else group, version="v1", resource=resource, kind="", namespaced=False)
    return wave(kind)[0] is OrderClass.GATES


def requests(part: Part) -> dict[Phase, RestoreRequest]:
    """Return what is asked of a restore in each phase; a phase without anything to restore is left out. Pure."""
    common = {"policy": part.policy, "point": part.point, "include_cluster_scoped": ClusterScoped.NONE}
    asked: dict[Phase, RestoreRequest] = {}
    if part.cluster_kinds:
        asked[Phase.CLUSTER] = RestoreRequest.read({**common, "kinds": part.cluster_kinds})
    if part.namespaces:
        asked[Phase.APPLICATIONS] = RestoreRequest.read(common)
    if part.gate_kinds:
        asked[Phase.GATES] = RestoreRequest.read({**common, "kinds": part.gate_kinds})
    return asked


def execute(decided: RebuildPlan, ports_for: Callable[[str], Ports], *, nodes: bool = False, wait_seconds: float = 0.0) -> RebuildReport:
    """Carry a rebuild out; one part that fails does not stop the others. Idempotent: run again, it goes on.

    With `nodes`, labels and taints are put back first, so that pods find their places. Raises what the cluster raises of itself.
    """
    ports = ports_for(decided.parts[0].policy)
    began = ports.clock.monotonic()
    failures = [finding for finding in decided.findings if finding.severity is Severity.ERROR]
    done = 0
    for change in decided.nodes if nodes else ():
        failed = rebuild_nodes.put_back(change, ports)
        failures += [failed] if failed else []
        done += not failed
    reports = [
        _restore(phase, part.policy, asked[phase], ports_for(part.policy))
        for phase in Phase
        for part in decided.parts
        if phase in (asked := requests(part))
    ]
    unready = wait_ready(sorted({name for part in decided.parts for name in part.namespaces}), ports, wait_seconds) if wait_seconds else ()
    return RebuildReport(
        target=decided.target,
        parts=tuple(reports),
        nodes=done,
        unready=unready,
        failures=tuple(failures),
        seconds=ports.clock.monotonic() - began,
    )


def _restore(phase: Phase, policy: str, request: RestoreRequest, ports: Ports) -> PartReport:
    """Restore one policy's part of a phase, and compare; what went wrong is in the report."""
    began = ports.clock.monotonic()
    ports.progress(f"{phase}: {policy}")
    try:
        plan = restore.prepare(request, ports)
        report = restore.execute(plan, request, ports)
        seen = restore.verify(plan, request, ports)
    except BecalmError as error:
        failed = Finding(where=error.where or f"policy {policy}", message=f"{phase}: {error.message}", remedy=error.hint)
        return PartReport(policy=policy, phase=phase, failures=(failed,), seconds=ports.clock.monotonic() - began)
    return PartReport(
        policy=policy,
        phase=phase,
        created=report.created,
        kept=report.kept,
        volumes=seen.volumes,
        bytes=sum(result.bytes_total for result in report.volumes if not result.error),
        seconds=ports.clock.monotonic() - began,
        failures=(*report.failures, *seen.failures),
    )
