"""Objects on their way into a drill: what stays out, and what loses its way in, its way out, or its start. Pure.

A drill runs beside the live application. Nothing of it may be reached from outside, take over an address, answer in another's
place, start work by itself, or make an operator of the live cluster act.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.kube.rules import child, children, group_kind

if TYPE_CHECKING:
    from becalm.kube.base import Kind
    from becalm.model import Manifest

KEPT_OUT: dict[str, str] = {
    "ingresses.networking.k8s.io": "a drill is not reached from outside",
    "ingresses.extensions": "a drill is not reached from outside",
    "networkpolicies.networking.k8s.io": "a drill has its own: everything is denied but the drill itself",
    "resourcequotas": "it would count against the drill what the movers need",
    "horizontalpodautoscalers.autoscaling": "a drill is as large as it was saved",
    "poddisruptionbudgets.policy": "a drill may be ended at any time",
    "endpoints": "a drill does not point at addresses outside of it",
    "endpointslices.discovery.k8s.io": "a drill does not point at addresses outside of it",
}
"""Kinds of the cluster itself that a drill never restores."""

WAYS_IN = frozenset({"gateway.networking.k8s.io", "route.openshift.io"})
"""Groups of custom resources that only let something in from outside."""
BUILT_IN = frozenset({"", "apps", "batch", "autoscaling", "policy", "extensions"}) | {
    f"{name}.k8s.io"
    for name in (
        "admissionregistration",
        "apiextensions",
        "apiregistration",
        "authentication",
        "authorization",
        "certificates",
        "coordination",
        "discovery",
        "events",
        "flowcontrol.apiserver",
        "internal.apiserver",
        "networking",
        "node",
        "rbac.authorization",
        "resource",
        "scheduling",
        "storage",
        "storagemigration",
    )
}
"""The groups of the API server itself."""


def kept_out(kind: Kind, manifest: Manifest) -> str:
    """Say why a drill does not restore an object of the cluster's own kinds; nothing where it does."""
    reason = KEPT_OUT.get(str(kind), "")
    if not reason and str(kind) == "services" and child(manifest, "spec").get("type") == "ExternalName":
        return "it is a name for something outside of the drill"
    if not reason and kind.group in WAYS_IN:
        return "a drill is not reached from outside"
    if not reason and not kind.namespaced and str(kind) != "namespaces":
        return "a drill makes nothing that belongs to no namespace"
    return reason


def is_custom(kind: Kind) -> bool:
    """Say whether a kind is a custom resource: somebody's operator may act on it."""
    return kind.group not in BUILT_IN


def isolate(manifest: Manifest) -> Manifest:
    """Return the object as it stands in a drill, changed in place: without a way in from outside, and without a start of its own."""
    match group_kind(manifest):
        case "Service":
            _close(child(manifest, "spec"))
        case "CronJob.batch" | "Job.batch":
            child(manifest, "spec")["suspend"] = True
    for template in _pod_specs(manifest):
        _unhost(template)
    return manifest


def _close(spec: Manifest) -> None:
    """Leave a Service reachable from within the cluster only."""
    if spec.get("type") in ("LoadBalancer", "NodePort"):
        spec["type"] = "ClusterIP"
    for field in (
        "externalIPs",
        "externalTrafficPolicy",
        "healthCheckNodePort",
        "loadBalancerClass",
        "loadBalancerIP",
        "loadBalancerSourceRanges",
        "allocateLoadBalancerNodePorts",
    ):
        spec.pop(field, None)
    for port in children({"spec": spec}, "spec", "ports"):
        port.pop("nodePort", None)


def _pod_specs(manifest: Manifest) -> list[Manifest]:
    """Return the specifications of pods in an object."""
    match group_kind(manifest):
        case "Pod":
            return [child(manifest, "spec")]
        case "Deployment.apps" | "StatefulSet.apps" | "DaemonSet.apps" | "ReplicaSet.apps" | "Job.batch" | "ReplicationController":
            return [child(manifest, "spec", "template", "spec")]
        case "CronJob.batch":
            return [child(manifest, "spec", "jobTemplate", "spec", "template", "spec")]
        case _:
            return []


def _unhost(spec: Manifest) -> None:
    """Take a pod off its node's network and ports: there no network policy holds it, and the live pod has the ports."""
    spec.pop("hostNetwork", None)
    for name in ("containers", "initContainers"):
        for container in children({"spec": spec}, "spec", name):
            for port in children(container, "ports"):
                port.pop("hostPort", None)
