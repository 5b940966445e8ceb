"""Where a hook runs: in the running, ready pods that it means, in the container that holds the data. Looked up when it is needed.

It reads pods and decides nothing about freezing. Pods that have ended are left out, and named with the reason. A pod that is
going and still runs is missed: it may write, and nobody stills it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from becalm.errors import HookMissing, NotFound
from becalm.kube.kinds import POD
from becalm.model import Excluded, VolumeRef
from becalm.quiesce.deadman import FOLDERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from becalm.actions.handover import HookPlan
    from becalm.kube.base import Cluster
    from becalm.model import Manifest

MOST_NAMED = 20
"""How many pods that are left out are named for one hook; of the others the number is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One container in which a hook runs."""

    hook: HookPlan
    pod: str
    uid: str
    container: str
    folders: tuple[str, ...] = FOLDERS
    """Where its dead-man switch may stand: not on a volume that may be frozen."""

    def __str__(self) -> str:
        """`shop/db-0 (main)`."""
        return f"{self.hook.namespace}/{self.pod} ({self.container})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The places of one hook, the pods that it means and cannot run in, and what it does not mean although it looks so."""

    places: tuple[Place, ...] = ()
    missing: tuple[HookMissing, ...] = ()
    left_out: tuple[Excluded, ...] = ()


def places(hook: HookPlan, claims: frozenset[VolumeRef], cluster: Cluster) -> Resolved:
    """Find the containers of a hook. Raises what listing pods raises."""
    return resolve(hook, claims, _pods(hook, cluster))


def resolve(hook: HookPlan, claims: frozenset[VolumeRef], pods: Iterable[Manifest]) -> Resolved:
    """Choose among pods. Pure."""
    found: list[Place] = []
    missing: list[HookMissing] = []
    left_out: list[Excluded] = []
    for pod in pods:
        where = f"{hook.namespace}/{pod['metadata']['name']}"
        container = container_of(hook, claims, pod)
        if has_ended(pod) or (is_over(pod) and not (container and is_running(pod, container))):
            left_out.append(Excluded(what=f"pods/{where}", by=hook.name, because=_why_over(pod)))
            continue
        left_out += _inner(hook, claims, pod, where)
        problem = _problem(hook, pod, container, where)
        if problem:
            missing.append(problem)
        else:
            metadata = pod["metadata"]
            folders = switch_folders(pod, container)
            found.append(Place(hook=hook, pod=metadata["name"], uid=metadata.get("uid", ""), container=container, folders=folders))
    if not found and not missing:
        missing.append(_nobody(hook))
    return Resolved(places=tuple(found), missing=tuple(missing), left_out=_shortened(hook, left_out))


def is_over(pod: Manifest) -> bool:
    """Say whether a pod has ended or is going."""
    return bool(pod["metadata"].get("deletionTimestamp")) or has_ended(pod)


def has_ended(pod: Manifest) -> bool:
    """Say whether a pod has ended by itself."""
    return (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}


def is_ready(pod: Manifest, container: str) -> bool:
    """Say whether a container runs and is ready."""
    return any(
        status["name"] == container and status.get("ready") and "running" in (status.get("state") or {}) for status in _statuses(pod)
    )


def is_running(pod: Manifest, container: str) -> bool:
    """Say whether a container runs, ready or not."""
    return any(status["name"] == container and "running" in (status.get("state") or {}) for status in _statuses(pod))


def containers_of(pod: Manifest) -> list[Manifest]:
    """Return the containers that run as long as the pod does: those of its list, and then its side cars (init containers that stay)."""
    spec = pod["spec"]
    return [*spec["containers"], *(item for item in spec.get("initContainers") or [] if item.get("restartPolicy") == "Always")]


def container_of(hook: HookPlan, claims: frozenset[VolumeRef], pod: Manifest) -> str:
    """Return the named container, or the first that mounts a claim of the application, or the first. Nothing: it is not there."""
    containers = containers_of(pod)
    if hook.container:
        return hook.container if any(item["name"] == hook.container for item in containers) else ""
    mine = {name for name, claim in claims_of(pod).items() if VolumeRef(namespace=hook.namespace, claim=claim) in claims}
    return next((str(item["name"]) for item in containers if _mounts(item) & mine), str(containers[0]["name"]))


def claims_of(pod: Manifest) -> dict[str, str]:
    """Return the claims that a pod mounts: its volume's name to the claim's name."""
    found: dict[str, str] = {}
    for volume in pod["spec"].get("volumes") or []:
        if "persistentVolumeClaim" in volume:
            found[volume["name"]] = volume["persistentVolumeClaim"]["claimName"]
        elif "ephemeral" in volume:
            found[volume["name"]] = f"{pod['metadata']['name']}-{volume['name']}"
    return found


def switch_folders(pod: Manifest, container: str) -> tuple[str, ...]:
    """Return where a dead-man switch may stand in a container. A folder on a claim is none: once frozen, it takes no write. Pure."""
    spec = next(item for item in containers_of(pod) if item["name"] == container)
    claims = claims_of(pod)
    volume_at = {_folder(mount["mountPath"]): mount["name"] for mount in spec.get("volumeMounts") or []}
    named = next((str(item.get("value") or "") for item in spec.get("env") or [] if item["name"] == "TMPDIR"), "")
    paths = {folder: (named or "/tmp") if folder == "TMPDIR" else folder for folder in FOLDERS}  # noqa: S108  (a path in the container)
    return tuple(folder for folder, path in paths.items() if _volume_under(path, volume_at) not in claims)


def _volume_under(path: str, volume_at: dict[str, str]) -> str:
    """Return the volume on which a path stands: that of the innermost mount. Nothing: the image's own file system."""
    above = [mount for mount in volume_at if _folder(path).startswith(mount)]
    return volume_at[max(above, key=len)] if above else ""


def _folder(path: str) -> str:
    return path.rstrip("/") + "/"


def _mounts(container: Manifest) -> set[str]:
    return {mount["name"] for mount in [*(container.get("volumeMounts") or []), *(container.get("volumeDevices") or [])]}


def _statuses(pod: Manifest) -> Iterator[Manifest]:
    """Yield what is known of containers. Those of init containers count only where they stay."""
    status = pod.get("status") or {}
    staying = {item["name"] for item in containers_of(pod)}
    for key in ("containerStatuses", "initContainerStatuses"):
        yield from (item for item in status.get(key) or [] if item["name"] in staying)


def _problem(hook: HookPlan, pod: Manifest, container: str, where: str) -> HookMissing | None:
    """Say why a hook cannot run in a pod that it means."""
    if not container:
        return HookMissing(_no_container(hook.container, pod), where=where, hint=f"mend the container of {hook.name}")
    if is_over(pod):
        return HookMissing(
            "the pod is being deleted and still runs, so what it writes is not stilled", where=where, hint="run the policy once it is gone"
        )
    if not is_ready(pod, container):
        return HookMissing(f"the container {container} is not running and ready", where=where, hint="look at the pod")
    return None


def _no_container(name: str, pod: Manifest) -> str:
    spec = pod["spec"]
    if any(item["name"] == name for item in spec.get("initContainers") or []):
        return f"the container {name!r} is an init container, which has ended when the pod is ready"
    if any(item["name"] == name for item in spec.get("ephemeralContainers") or []):
        return f"the container {name!r} is an ephemeral one, which a hook cannot rely on"
    return f"the pod has no container {name!r}"


def _nobody(hook: HookPlan) -> HookMissing:
    return HookMissing(
        f"there is no running {f'pod {hook.pod}' if hook.pod else f'pod with {hook.labels}'}",
        where=f"{hook.name} in {hook.namespace}",
        hint="start the pod, mend what the hook selects, or allow onFailure: crash-consistent",
    )


def _why_over(pod: Manifest) -> str:
    return f"the pod has ended ({pod['status']['phase']})" if has_ended(pod) else "the pod is being deleted, and its container has ended"


def _inner(hook: HookPlan, claims: frozenset[VolumeRef], pod: Manifest, where: str) -> list[Excluded]:
    """Name the containers that mount the data and are not meant: those that run before the pod does, and those of a person who looks."""
    mine = {name for name, claim in claims_of(pod).items() if VolumeRef(namespace=hook.namespace, claim=claim) in claims}
    before = [item for item in pod["spec"].get("initContainers") or [] if item.get("restartPolicy") != "Always"]
    kinds = (
        (before, "an init container has ended when the pod is ready"),
        (pod["spec"].get("ephemeralContainers") or [], "an ephemeral container is no part of the application"),
    )
    return [
        Excluded(what=f"pods/{where} ({item['name']})", by=hook.name, because=because)
        for items, because in kinds
        for item in items
        if _mounts(item) & mine
    ]


def _shortened(hook: HookPlan, left_out: list[Excluded]) -> tuple[Excluded, ...]:
    more = len(left_out) - MOST_NAMED
    if more <= 0:
        return tuple(left_out)
    return (*left_out[:MOST_NAMED], Excluded(what=f"{more} pods more", by=hook.name, because="they are left out for reasons like these"))


def _pods(hook: HookPlan, cluster: Cluster) -> list[Manifest]:
    if not hook.pod:
        return list(cluster.list(POD, namespace=hook.namespace, labels=hook.labels))
    try:
        return [cluster.get(POD, hook.pod, namespace=hook.namespace)]
    except NotFound:
        return []
