"""Where a hook runs: in the running, ready pods that it means, in the container that holds the data. Looked up when it is needed.

It reads pods and decides nothing about freezing. Pods that have ended, or are going, are not meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from becalm.errors import HookMissing, NotFound
from becalm.kube.kinds import POD
from becalm.model import VolumeRef

if TYPE_CHECKING:
    from collections.abc import Iterable

    from becalm.actions.handover import HookPlan
    from becalm.kube.base import Cluster
    from becalm.model import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One container in which a hook runs."""

    hook: HookPlan
    pod: str
    uid: str
    container: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The places of one hook, and the pods that it means and cannot run in."""

    places: tuple[Place, ...] = ()
    missing: tuple[HookMissing, ...] = ()


def places(hook: HookPlan, claims: frozenset[VolumeRef], cluster: Cluster) -> Resolved:
    """Find the containers of a hook. Raises what listing pods raises."""
    return resolve(hook, claims, _pods(hook, cluster))


def resolve(hook: HookPlan, claims: frozenset[VolumeRef], pods: Iterable[Manifest]) -> Resolved:
    """Choose among pods. Pure."""
    found: list[Place] = []
    missing: list[HookMissing] = []
    for pod in pods:
        if is_over(pod):
            continue
        container = container_of(hook, claims, pod)
        where = f"{hook.namespace}/{pod['metadata']['name']}"
        if not container:
            missing.append(
                HookMissing(f"the pod has no container {hook.container!r}", where=where, hint=f"mend the container of {hook.name}")
            )
        elif not is_ready(pod, container):
            missing.append(HookMissing(f"the container {container} is not running and ready", where=where, hint="look at the pod"))
        else:
            found.append(Place(hook=hook, pod=pod["metadata"]["name"], uid=pod["metadata"].get("uid", ""), container=container))
    if not found and not missing:
        meant = f"the pod {hook.pod}" if hook.pod else f"a pod with {hook.labels}"
        missing.append(
            HookMissing(
                f"there is no running {meant.removeprefix('a ').removeprefix('the ')}",
                where=f"{hook.name} in {hook.namespace}",
                hint="start the pod, mend what the hook selects, or allow onFailure: crash-consistent",
            )
        )
    return Resolved(places=tuple(found), missing=tuple(missing))


def is_over(pod: Manifest) -> bool:
    """Say whether a pod has ended or is going."""
    return bool(pod["metadata"].get("deletionTimestamp")) or (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}


def is_ready(pod: Manifest, container: str) -> bool:
    """Say whether a container runs and is ready."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return any(status["name"] == container and status.get("ready") and "running" in (status.get("state") or {}) for status in statuses)


def container_of(hook: HookPlan, claims: frozenset[VolumeRef], pod: Manifest) -> str:
    """Return the named container, or the first that mounts a claim of the application, or the first. Nothing: it is not there."""
    containers = pod["spec"]["containers"]
    if hook.container:
        return hook.container if any(item["name"] == hook.container for item in containers) else ""
    mine = {name for name, claim in claims_of(pod).items() if VolumeRef(namespace=hook.namespace, claim=claim) in claims}
    for item in containers:
        mounts = [*(item.get("volumeMounts") or []), *(item.get("volumeDevices") or [])]
        if any(mount["name"] in mine for mount in mounts):
            return str(item["name"])
    return str(containers[0]["name"])


def claims_of(pod: Manifest) -> dict[str, str]:
    """Return the claims that a pod mounts: its volume's name to the claim's name."""
    found: dict[str, str] = {}
    for volume in pod["spec"].get("volumes") or []:
        if "persistentVolumeClaim" in volume:
            found[volume["name"]] = volume["persistentVolumeClaim"]["claimName"]
        elif "ephemeral" in volume:
            found[volume["name"]] = f"{pod['metadata']['name']}-{volume['name']}"
    return found


def _pods(hook: HookPlan, cluster: Cluster) -> list[Manifest]:
    if not hook.pod:
        return list(cluster.list(POD, namespace=hook.namespace, labels=hook.labels))
    try:
        return [cluster.get(POD, hook.pod, namespace=hook.namespace)]
    except NotFound:
        return []
