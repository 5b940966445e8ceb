"""Which claim a path in a container lies on, and where in it. Pure."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from becalm.actions.pods import claims_of
from becalm.errors import HookFailed
from becalm.model import VolumeRef

if TYPE_CHECKING:
    from becalm.model import Manifest


def locate(pod: Manifest, container: str, path: str) -> tuple[VolumeRef, str]:
    """Return the claim that a path of a container lies on, and the path within it. Raises HookFailed where it lies on none."""
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    where, absolute = f"{namespace}/{name} ({container})", PurePosixPath("/", path)
    if ".." in absolute.parts:
        raise HookFailed(f"{path!r} is no plain path", where=where, hint="look at what the command writes")
    items = [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or [])]
    mounts = next((item.get("volumeMounts") or [] for item in items if item["name"] == container), [])
    under = [mount for mount in mounts if absolute.is_relative_to(mount["mountPath"])]
    mount = max(under, key=lambda one: len(PurePosixPath(one["mountPath"]).parts), default=None)
    claim = claims_of(pod).get(mount["name"]) if mount else None
    if mount is None or claim is None:
        raise HookFailed(f"{absolute} lies on no claim of the pod", where=where, hint="the data must be on a volume that is protected")
    if mount.get("subPathExpr"):
        raise HookFailed(f"{absolute} lies in a part of a volume whose name is not known before", where=where, hint="use subPath")
    inside = PurePosixPath("/", mount.get("subPath") or "", absolute.relative_to(mount["mountPath"]))
    return VolumeRef(namespace=namespace, claim=claim), str(inside).lstrip("/")
