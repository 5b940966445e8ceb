"""Whether an object is ready, as its status tells: a workload with all its pods, a pod, a claim. Pure.

Kinds that have no readiness of their own are ready as soon as they are there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.kube.base import Kind
from becalm.kube.kinds import POD
from becalm.kube.rules import child, children, group_kind

if TYPE_CHECKING:
    from becalm.model import Manifest


def _apps(resource: str, kind: str) -> Kind:
    return Kind(group="apps", version="v1", resource=resource, kind=kind, namespaced=True)


WORKLOADS: tuple[Kind, ...] = (_apps("deployments", "Deployment"), _apps("statefulsets", "StatefulSet"), _apps("daemonsets", "DaemonSet"))
WATCHED: tuple[Kind, ...] = (*WORKLOADS, POD)
"""The kinds that an application is ready by."""


def not_ready(manifest: Manifest) -> str:
    """Say what an object waits for; nothing where it is ready."""
    match group_kind(manifest):
        case "Deployment.apps":
            return _replicas(manifest, "availableReplicas") or _behind(manifest, "updatedReplicas")
        case "StatefulSet.apps":
            return _replicas(manifest, "readyReplicas")
        case "DaemonSet.apps":
            status = child(manifest, "status")
            return _observed(manifest) or _counted(status.get("numberReady"), status.get("desiredNumberScheduled") or 0)
        case "Pod":
            return _pod(manifest)
        case "PersistentVolumeClaim":
            phase = child(manifest, "status").get("phase") or "Pending"
            return "" if phase == "Bound" else f"it is {phase}"
        case _:
            return ""


def _observed(manifest: Manifest) -> str:
    """Say that a status is older than the object: it tells of another one."""
    generation, seen = child(manifest, "metadata").get("generation"), child(manifest, "status").get("observedGeneration")
    return "its controller has not looked at it yet" if generation and (seen or 0) < generation else ""


def _replicas(manifest: Manifest, field: str) -> str:
    wanted = child(manifest, "spec").get("replicas")
    return _observed(manifest) or _counted(child(manifest, "status").get(field), 1 if wanted is None else wanted)


def _behind(manifest: Manifest, field: str) -> str:
    wanted = child(manifest, "spec").get("replicas")
    return _counted(child(manifest, "status").get(field), 1 if wanted is None else wanted, "as they should be")


def _counted(found: object, wanted: int, word: str = "ready") -> str:
    count = found if isinstance(found, int) else 0
    return "" if count >= wanted else f"{count} of {wanted} pods are {word}"


def _pod(manifest: Manifest) -> str:
    """Say why a pod is not ready; one that has ended well is done."""
    status = child(manifest, "status")
    if status.get("phase") == "Succeeded":
        return ""
    if any(one.get("type") == "Ready" and one.get("status") == "True" for one in children(status, "conditions")):
        return ""
    return _waiting(status) or f"it is {status.get('phase') or 'Pending'}"


def _waiting(status: Manifest) -> str:
    """Say what a container waits for, or why the scheduler found no node."""
    for name in ("initContainerStatuses", "containerStatuses"):
        for container in children(status, name):
            state = child(container, "state", "waiting")
            if state.get("reason"):
                return f"container {container.get('name')}: {state['reason']}" + (f": {state['message']}" if state.get("message") else "")
    for condition in children(status, "conditions"):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return str(condition.get("message") or condition.get("reason") or "no node takes it")
    return ""
