"""The scale subresource: how many replicas a workload wants and has. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.sandbox.answers import bad_request
from becalm.sandbox.store import copied

if TYPE_CHECKING:
    from becalm.model import Manifest


def scale_document(workload: Manifest) -> Manifest:
    """Return a workload's Scale."""
    metadata = {key: workload["metadata"].get(key) for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")}
    labels = (workload["spec"].get("selector") or {}).get("matchLabels") or {}
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": workload["spec"].get("replicas", 0)},
        "status": {
            "replicas": (workload.get("status") or {}).get("replicas", 0),
            "selector": ",".join(f"{key}={value}" for key, value in labels.items()),
        },
    }


def scaled(workload: Manifest, scale: Manifest) -> Manifest:
    """Return a workload with the replicas that a Scale asks for. Raises: ApiError (400)."""
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if not isinstance(replicas, int):
        raise bad_request("spec.replicas is no number")
    changed = copied(workload)
    changed["spec"]["replicas"] = replicas
    if (scale.get("metadata") or {}).get("resourceVersion"):
        changed["metadata"]["resourceVersion"] = scale["metadata"]["resourceVersion"]
    return changed
