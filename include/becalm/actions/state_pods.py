"""What pods keep outside claims: paths of their node, scratch space, volumes named in the pod itself, and pods that nothing makes again. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from becalm.actions import state_marks
from becalm.actions.state import State, What
from becalm.actions.state_kinds import SYSTEM_PATHS
from becalm.kube.rules import child, children
from becalm.policy.select import labels_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.model import Manifest

_ELSEWHERE = frozenset({"name", "persistentVolumeClaim", "configMap", "secret", "projected", "downwardAPI", "image"})
"""Volumes whose content stands in a claim, in another object, or in an image."""
_STATIC = "kubernetes.io/config.mirror"
"""The annotation of a pod whose file stands on its node."""
_DEVICES = frozenset({"Socket", "CharDevice", "BlockDevice"})
_HASH = "pod-template-hash"


def states(pod: Manifest) -> Iterator[State]:
    """Yield what one running pod keeps."""
    metadata, spec = pod["metadata"], child(pod, "spec")
    name, node = _group_name(pod), str(spec.get("nodeName") or "")
    base = State(
        what=What.BARE_POD,
        resource="pods",
        namespace=metadata["namespace"],
        name=name,
        labels=labels_of(metadata),
        origin=state_marks.origin(pod),
        created=state_marks.created(pod),
        changed=state_marks.created(pod),
        on_node=True,
    )
    if not state_marks.is_owned(pod) and _STATIC not in child(pod, "metadata", "annotations"):
        yield replace(base, detail="nothing makes it again, and what it wrote beside its volumes goes with it")
    for volume in children(pod, "spec", "volumes"):
        if found := _volume(volume, pod, base, node):
            yield found


def _volume(volume: Manifest, pod: Manifest, base: State, node: str) -> State | None:
    """Return what one volume of a pod keeps; nothing where it keeps nothing of its own."""
    kind = next((key for key in volume if key not in _ELSEWHERE), "")
    said = child(volume, kind) if kind else {}
    name = str(volume.get("name", ""))
    if not kind or (kind == "emptyDir" and said.get("medium") == "Memory"):
        return None
    if kind == "hostPath":
        path = str(said.get("path", ""))
        if said.get("type") in _DEVICES or _is_system(path) or not _writes(pod, name):
            return None
        where = f"on the node {node}" if node else "on whatever node it runs"
        return replace(base, what=What.NODE_PATH, part=f"hostPath {path}", detail=f"{where}, in no volume")
    if kind == "emptyDir":
        return replace(base, what=What.SCRATCH, part=f"emptyDir {name}", detail="it goes with the pod")
    if kind == "ephemeral":
        return replace(base, what=What.POD_VOLUME, part=f"ephemeral {name}", detail="its claim goes with the pod", goes=True, on_node=False)
    goes = kind == "csi"  # what a driver makes for one pod (KEP-596); all others name something that stands outside
    detail = "it is named in the pod itself, and has no claim" + ("; it goes with the pod" if goes else "")
    return replace(base, what=What.POD_VOLUME, part=f"{kind} {name}", detail=detail, goes=goes, on_node=goes)


def _is_system(path: str) -> bool:
    return any(path == known or path.startswith(f"{known}/") for known in SYSTEM_PATHS)


def _writes(pod: Manifest, volume: str) -> bool:
    """Say whether some container mounts a volume so that it may write there."""
    containers = [item for key in ("containers", "initContainers") for item in children(pod, "spec", key)]
    mounts = [mount for item in containers for mount in children(item, "volumeMounts") if mount.get("name") == volume]
    return any(mount.get("readOnly") is not True for mount in mounts)


def _group_name(pod: Manifest) -> str:
    """Return the name under which alike pods are told once: their controller's, without a ReplicaSet's hash."""
    metadata = pod["metadata"]
    owner = next((one for one in children(pod, "metadata", "ownerReferences") if one.get("controller")), None)
    if owner is None:
        return str(metadata["name"])
    name = str(owner.get("name", metadata["name"]))
    hashed = labels_of(metadata).get(_HASH)
    return name.removesuffix(f"-{hashed}") if hashed and owner.get("kind") == "ReplicaSet" else name
