"""What controllers share: owner references, adoption by selector, pods from templates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.sandbox.selectors import label_selector, labels_match
from becalm.sandbox.store import copied

if TYPE_CHECKING:
    from becalm.model import Manifest
    from becalm.sandbox.api import Api
    from becalm.sandbox.kinds import Resource


def owner_reference(owner: Manifest) -> Manifest:
    """Return the reference that makes an object its controller's."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def controller_of(manifest: Manifest) -> Manifest | None:
    """Return the reference to an object's controller."""
    return next((found for found in manifest["metadata"].get("ownerReferences") or () if found.get("controller")), None)


def adopt(api: Api, resource: Resource, owner: Manifest, selector: Manifest) -> list[Manifest]:
    """Return the objects that a controller owns; those that match and have no controller become its own."""
    namespace, uid = owner["metadata"]["namespace"], owner["metadata"]["uid"]
    requirements = label_selector(selector)
    found = []
    for manifest in api.store.all(resource.bucket, namespace=namespace):
        reference = controller_of(manifest)
        if reference is not None:
            if reference["uid"] == uid:
                found.append(manifest)
        elif labels_match(requirements, manifest) and not manifest["metadata"].get("deletionTimestamp"):
            mine = api.modify(
                resource.bucket,
                (namespace, manifest["metadata"]["name"]),
                lambda child: child["metadata"].setdefault("ownerReferences", []).append(owner_reference(owner)),
            )
            if mine is not None:
                found.append(mine)
    return found


def pod_from(owner: Manifest, template: Manifest, *, name: str = "", generate: str = "") -> Manifest:
    """Return a pod as a template says, with its owner."""
    made = copied(template)
    metadata = {key: value for key, value in (made.get("metadata") or {}).items() if key in ("labels", "annotations", "finalizers")}
    metadata |= {"name": name} if name else {"generateName": generate}
    metadata["ownerReferences"] = [owner_reference(owner)]
    return {"metadata": metadata, "spec": made["spec"]}


def active(pod: Manifest) -> bool:
    """Say whether a pod counts: it has not ended and is not going."""
    return not pod["metadata"].get("deletionTimestamp") and pod["status"].get("phase") not in ("Succeeded", "Failed")


def is_ready(pod: Manifest) -> bool:
    """Say whether a pod serves."""
    if not active(pod):
        return False
    return any(found["type"] == "Ready" and found["status"] == "True" for found in pod["status"].get("conditions") or ())
