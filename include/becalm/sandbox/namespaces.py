"""The life of a namespace: what it is born with, and how everything in it goes before it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.sandbox import kinds
from becalm.sandbox.answers import ApiError
from becalm.sandbox.times import stamp
from becalm.sandbox.work import Worker

if TYPE_CHECKING:
    from becalm.model import Manifest
    from becalm.sandbox.api import Api
    from becalm.sandbox.store import Change

_ROOT_CA = "kube-root-ca.crt"
_ROOT_CA_TEXT = "# The sandbox serves plain HTTP on the loopback address; there is no certificate to trust.\n"


class NamespaceController:
    """Gives each namespace its account and its ConfigMap, and empties those that are going."""

    def __init__(self, api: Api) -> None:
        """Serve one API; begin with `worker.start`."""
        self._api = api
        self.worker = Worker("namespaces", self._look)

    def see(self, change: Change) -> None:
        """Note a change."""
        if change.bucket == kinds.NAMESPACES.bucket:
            if change.after is not None:
                self.worker.add(change.place[1])
        elif change.place[0] and change.after is None:
            self.worker.add(change.place[0])

    def furnish(self, namespace: str) -> None:
        """Give a namespace what every namespace has."""
        for resource, manifest in (
            (kinds.SERVICE_ACCOUNTS, {"metadata": {"name": "default"}}),
            (kinds.CONFIG_MAPS, {"metadata": {"name": _ROOT_CA}, "data": {"ca.crt": _ROOT_CA_TEXT}}),
        ):
            if self._api.store.get(resource.bucket, (namespace, manifest["metadata"]["name"])) is None:
                self._api.create(resource, namespace, manifest)

    def _look(self, name: str) -> None:
        namespace = self._api.store.get(kinds.NAMESPACES.bucket, ("", name))
        if namespace is None:
            return
        if not namespace["metadata"].get("deletionTimestamp"):
            self.furnish(name)
            return
        left = self._empty(name)
        if not left:
            self._api.modify(kinds.NAMESPACES.bucket, ("", name), lambda manifest: manifest["spec"].update(finalizers=[]))
        else:
            self._api.modify(kinds.NAMESPACES.bucket, ("", name), lambda manifest: _say_what_is_left(manifest, left))

    def _empty(self, name: str) -> dict[str, int]:
        """Ask for the deletion of all that a namespace holds; return what is still there, by resource."""
        left: dict[str, int] = {}
        for resource in self._api.registry.buckets():
            if not resource.namespaced:
                continue
            for manifest in self._api.store.all(resource.bucket, namespace=name):
                place = (name, manifest["metadata"]["name"])
                try:
                    if not manifest["metadata"].get("deletionTimestamp"):
                        self._api.delete(resource, place, {"propagationPolicy": "Background"})
                except ApiError as error:
                    if error.code != 404:
                        raise
                if self._api.store.get(resource.bucket, place) is not None:
                    left[resource.group_resource] = left.get(resource.group_resource, 0) + 1
        return left


def _say_what_is_left(manifest: Manifest, left: dict[str, int]) -> None:
    """Write into the status what a namespace waits for."""
    said = ", ".join(f"{name} has {count} resource instances" for name, count in sorted(left.items()))
    condition = {
        "type": "NamespaceContentRemaining",
        "status": "True",
        "reason": "SomeResourcesRemain",
        "message": f"Some resources are remaining: {said}",
    }
    conditions = [old for old in manifest["status"].get("conditions") or () if old["type"] != condition["type"]]
    old = next((old for old in manifest["status"].get("conditions") or () if old["type"] == condition["type"]), None)
    condition["lastTransitionTime"] = old["lastTransitionTime"] if old else stamp()
    manifest["status"]["conditions"] = [*conditions, condition]
