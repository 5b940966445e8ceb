"""The nodes that recovery points remember, beside those of the cluster: what a person had put on them, and how much they could carry. Pure but for two calls.

A node registers itself; what is put back is what people put on it: its own labels and taints, by its name, and only on request.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from becalm.errors import AccessDenied, BecalmError
from becalm.kube.base import Verb
from becalm.kube.kinds import NODE
from becalm.kube.rules import child, children
from becalm.model import Finding, Severity
from becalm.policy.problems import Problem
from becalm.policy.units import parse_quantity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from becalm.actions.handover import Ports
    from becalm.model import Manifest

OTHERS_LABELS = (
    "kubernetes.io/",
    "beta.kubernetes.io/",
    "node.kubernetes.io/",
    "topology.kubernetes.io/",
    "failure-domain.beta.kubernetes.io/",
    "csi.volume.kubernetes.io/",
    "topology.",
    "feature.node.kubernetes.io/",
)
"""Labels by which a kubelet, a cloud or a driver describes a node: it writes them again."""
OTHERS_TAINTS = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")
"""Taints by which controllers say how a node is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taint:
    """One taint."""

    key: str
    effect: str
    value: str = ""

    def __str__(self) -> str:
        """`dedicated=db:NoSchedule`, as kubectl writes it."""
        return f"{self.key}{'=' + self.value if self.value else ''}:{self.effect}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What a node is, as far as a rebuild is concerned with it."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False
    cpu: str = ""
    memory: str = ""
    kubelet: str = ""
    system: str = ""
    runtime: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeChange:
    """What a node lacks of what was put on it."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    taints: tuple[Taint, ...] = ()

    def __str__(self) -> str:
        """Name what would be put back."""
        parts = [f"label {key}={value}" for key, value in self.labels] + [f"taint {taint}" for taint in self.taints]
        return f"nodes/{self.name}: {', '.join(parts)}"


def facts(node: Manifest) -> NodeFacts:
    """Return what people put on a node, and what it can carry. Pure."""
    info = child(node, "status", "nodeInfo")
    taints = (
        Taint(key=str(one.get("key")), value=str(one.get("value") or ""), effect=str(one.get("effect")))
        for one in children(node, "spec", "taints")
        if not str(one.get("key")).startswith(OTHERS_TAINTS)
    )
    labels = child(node, "metadata", "labels").items()
    return NodeFacts(
        name=str(child(node, "metadata").get("name")),
        labels=tuple(sorted((str(key), str(value)) for key, value in labels if not str(key).startswith(OTHERS_LABELS))),
        taints=tuple(sorted(taints, key=str)),
        unschedulable=bool(child(node, "spec").get("unschedulable")),
        cpu=str(child(node, "status", "capacity").get("cpu") or ""),
        memory=str(child(node, "status", "capacity").get("memory") or ""),
        kubelet=str(info.get("kubeletVersion") or ""),
        system=str(info.get("osImage") or ""),
        runtime=str(info.get("containerRuntimeVersion") or ""),
    )


def live_nodes(ports: Ports) -> tuple[NodeFacts, ...]:
    """Return the nodes of the cluster; none where they may not be read."""
    try:
        return tuple(sorted((facts(node) for node in ports.cluster.list(NODE)), key=lambda node: node.name))
    except AccessDenied:
        return ()


def changes(saved: Iterable[NodeFacts], live: Iterable[NodeFacts]) -> tuple[NodeChange, ...]:
    """Say what the nodes of the same names lack. Pure. A label that says something else now is left as it is."""
    there = {node.name: node for node in live}
    found = []
    for node in saved:
        now = there.get(node.name)
        if now is None:
            continue
        keys = {key for key, _ in now.labels}
        labels = tuple((key, value) for key, value in node.labels if key not in keys)
        taken = {(taint.key, taint.effect) for taint in now.taints}
        taints = tuple(taint for taint in node.taints if (taint.key, taint.effect) not in taken)
        if labels or taints:
            found.append(NodeChange(name=node.name, labels=labels, taints=taints))
    return tuple(found)


def findings(saved: Sequence[NodeFacts], live: Sequence[NodeFacts]) -> Iterator[Finding]:
    """Yield what a person should know of the nodes before a rebuild. Pure."""
    there = {node.name for node in live}
    for node in saved:
        if node.name not in there:
            marks = [f"{key}={value}" for key, value in node.labels] + [str(taint) for taint in node.taints]
            told = f"; it carried {', '.join(marks)}" if marks else ""
            yield _warning(f"nodes/{node.name}", f"is not there{told}", "give another node what workloads choose it by")
    for what, before, now in (("cpu", _sum(saved, "cpu"), _sum(live, "cpu")), ("memory", _sum(saved, "memory"), _sum(live, "memory"))):
        if live and now < before:
            shown = f"{now:f} of {before:f} cores" if what == "cpu" else f"{now / 2**30:.1f} of {before / 2**30:.1f} GiB"
            yield _warning("nodes", f"there is less {what} than before: {shown}", "add nodes, or expect pods that find no place")


def _warning(where: str, message: str, remedy: str) -> Finding:
    return Finding(where=where, message=message, remedy=remedy, severity=Severity.WARNING)


def _sum(nodes: Iterable[NodeFacts], what: str) -> Decimal:
    return sum((_amount(getattr(node, what)) for node in nodes), Decimal(0))


def _amount(text: str) -> Decimal:
    """Read a quantity; what cannot be read counts for nothing."""
    try:
        if text.endswith("m"):
            return Decimal(text[:-1]) / 1000
        return Decimal(text) if text.replace(".", "", 1).isdigit() else Decimal(parse_quantity(text))
    except (InvalidOperation, Problem):
        return Decimal(0)


def put_back(change: NodeChange, ports: Ports) -> Finding | None:
    """Put labels and taints back on one node; say why that failed. What others put on it stays. Idempotent."""
    try:
        node = ports.cluster.get(NODE, change.name)
        taken = {(one.get("key"), one.get("effect")) for one in children(node, "spec", "taints")}
        missing = [
            {"key": taint.key, "effect": taint.effect, **({"value": taint.value} if taint.value else {})}
            for taint in change.taints
            if (taint.key, taint.effect) not in taken
        ]
        patch: Manifest = {
            "metadata": {
                "name": change.name,
                "resourceVersion": child(node, "metadata").get("resourceVersion"),
                "labels": {key: value for key, value in change.labels if key not in child(node, "metadata", "labels")},
            },
            **({"spec": {"taints": [*children(node, "spec", "taints"), *missing]}} if missing else {}),
        }
        ports.cluster.apply(NODE, patch, verb=Verb.MERGE)
    except BecalmError as error:
        return Finding(where=f"nodes/{change.name}", message=f"labels and taints were not put back: {error.message}", remedy=error.hint)
    return None
