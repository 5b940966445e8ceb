"""What a recovery point tells of the world outside of the cluster, and the runbook for what no API brings back: nodes, drivers, addresses, clouds.

It reads objects and writes sentences. What it says comes from a recovery point, so that no markup of it gets through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.clock import format_time
from becalm.kube.rules import child, children

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.actions.rebuild_steps import RebuildPlan
    from becalm.actions.restore_source import Source
    from becalm.model import Manifest

MOST_TOLD = 500
TELLING = frozenset({"services", "ingresses.networking.k8s.io", "storageclasses.storage.k8s.io", "ingressclasses.networking.k8s.io"})


def outside(source: Source) -> tuple[str, ...]:
    """Return one sentence for each thing that stood outside of the cluster, or that something outside made."""
    refs = [ref for ref in source.places if (f"{ref.resource}.{ref.group}" if ref.group else ref.resource) in TELLING]
    told = dict.fromkeys(
        sentence for saved in source.read(sorted(refs)) for sentence in _told(f"{saved.ref.resource}", str(saved.ref), saved.manifest)
    )
    return tuple(told)[:MOST_TOLD]


def _told(resource: str, ref: str, manifest: Manifest) -> Iterator[str]:
    spec = child(manifest, "spec")
    match resource:
        case "storageclasses":
            yield f"driver: {ref} needs the storage driver {manifest.get('provisioner')}"
        case "ingressclasses":
            yield f"controller: {ref} needs the controller {spec.get('controller')}"
        case "services" if spec.get("type") == "LoadBalancer":
            points = children(manifest, "status", "loadBalancer", "ingress")
            addresses = ", ".join(str(one.get("ip") or one.get("hostname")) for one in points) or "no address"
            yield f"address: {ref} was a load balancer with {addresses}; it gets a new one, and names must point there"
        case "services" if spec.get("externalIPs"):
            yield f"address: {ref} was reached at {', '.join(map(str, spec['externalIPs']))}"
        case "ingresses":
            hosts = ", ".join(str(one["host"]) for one in children(manifest, "spec", "rules") if one.get("host"))
            if hosts:
                yield f"name: {ref} answers {hosts}; names must point to the new way in"


def runbook(plan: RebuildPlan) -> str:
    """Return what a person does before and after, with the facts of these recovery points, in Markdown. Pure."""
    lines = [
        f"# Rebuild from {_plain(plan.target)}",
        "",
        "What no API brings back, in its order. Tick each line.",
        "",
        "## 1. The cluster itself",
        "",
        *(f"- [ ] {line}" for line in _cluster(plan)),
        "",
        "## 2. Nodes",
        "",
        "| node | kubelet | system | runtime | cores | memory | labels | taints |",
        "|---|---|---|---|---|---|---|---|",
        *_node_rows(plan),
        "",
        "## 3. Drivers and controllers, before the rebuild",
        "",
        *(_ticked(plan, ("driver", "controller")) or ["- nothing is known"]),
        "",
        "## 4. The rebuild",
        "",
        f"- [ ] `becalm rebuild --target {_plain(plan.target)} --password env:BECALM_PASSWORD --nodes --wait 15m`",
        *(f"- [ ] {_plain(part.policy)}: recovery point {part.point[:8]}, cut {format_time(part.cut)}" for part in plan.parts),
        "",
        "## 5. Addresses and names, after the rebuild",
        "",
        *(_ticked(plan, ("address", "name")) or ["- nothing is known"]),
        "",
        "## 6. What to know",
        "",
        *([f"- {_plain(str(finding))}" for finding in plan.findings] or ["- nothing more"]),
        "",
    ]
    return "\n".join(lines)


def _cluster(plan: RebuildPlan) -> Iterator[str]:
    for version in dict.fromkeys(part.version for part in plan.parts if part.version):
        yield f"an API server that serves what {_plain(version)} served"
    yield "a container network on every node; one that enforces network policies, where there are any"
    yield "the kubelet's own configuration, its certificates and the registry's credentials of each node"
    yield "roles and keys in the cloud that workloads use: they are not in the cluster"


def _node_rows(plan: RebuildPlan) -> Iterator[str]:
    known = {node.name: node for part in sorted(plan.parts, key=lambda part: part.cut) for node in part.nodes}
    for node in known.values():
        labels = "<br>".join(_plain(f"{key}={value}") for key, value in node.labels) or "-"
        taints = "<br>".join(_plain(str(taint)) for taint in node.taints) or "-"
        cells = (node.name, node.kubelet, node.system, node.runtime, node.cpu, node.memory)
        yield "| " + " | ".join((*(_plain(cell) or "-" for cell in cells), labels, taints)) + " |"


def _ticked(plan: RebuildPlan, kinds: tuple[str, ...]) -> list[str]:
    told = dict.fromkeys(sentence for part in plan.parts for sentence in part.outside if sentence.partition(":")[0] in kinds)
    return [f"- [ ] {_plain(sentence.partition(': ')[2])}" for sentence in told]


def _plain(text: str) -> str:
    """Return text that is no markup and breaks no line or table."""
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return "".join(f"\\{letter}" if letter in "|`*_<>[]#" else letter for letter in shown)
