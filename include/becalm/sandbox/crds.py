"""CustomResourceDefinitions: when one is accepted its resources are served, when it goes its objects go first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.sandbox import kinds
from becalm.sandbox.answers import ApiError
from becalm.sandbox.kinds import Resource
from becalm.sandbox.times import stamp
from becalm.sandbox.work import Worker

if TYPE_CHECKING:
    from becalm.model import Manifest
    from becalm.sandbox.api import Api
    from becalm.sandbox.store import Change

_CLEANUP = "customresourcecleanup.apiextensions.k8s.io"


class CrdController:
    """Keeps the registry in step with the definitions."""

    def __init__(self, api: Api) -> None:
        """Serve one API; begin with `worker.start`."""
        self._api = api
        self.worker = Worker("custom resources", self.look)

    def see(self, change: Change) -> None:
        """Note a change of a definition, or the end of a custom resource."""
        if change.bucket == kinds.CRDS.bucket:
            if change.after is None:
                self._api.registry.drop(_bucket(change.last))
            else:
                self.worker.add(change.place[1])
        elif change.after is None:
            resource = self._api.registry.of_bucket(change.bucket)
            if resource is not None and resource.custom:
                self.worker.add(resource.group_resource)

    def look(self, name: str) -> None:
        """Serve a definition's resources, or clear them away."""
        crd = self._api.store.get(kinds.CRDS.bucket, ("", name))
        if crd is None:
            return
        if crd["metadata"].get("deletionTimestamp"):
            self._clear(name, crd)
            return
        self._api.registry.drop(_bucket(crd))
        for resource in resources(crd):
            self._api.registry.add(resource)
        self._api.modify(kinds.CRDS.bucket, ("", name), _accept)

    def _clear(self, name: str, crd: Manifest) -> None:
        resource = self._api.registry.of_bucket(_bucket(crd))
        if resource is not None:
            for manifest in self._api.store.all(resource.bucket):
                place = (manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"])
                try:
                    self._api.delete(resource, place)
                except ApiError as error:
                    if error.code != 404:
                        raise
            if self._api.store.all(resource.bucket):
                return
        self._api.modify(kinds.CRDS.bucket, ("", name), _let_go)


def _bucket(crd: Manifest) -> str:
    return f"{crd['spec']['group']}/{crd['spec']['names']['plural']}"


def _let_go(crd: Manifest) -> None:
    crd["metadata"]["finalizers"] = [finalizer for finalizer in crd["metadata"].get("finalizers") or () if finalizer != _CLEANUP]


def resources(crd: Manifest) -> list[Resource]:
    """Return what a definition serves, version by version; the newest stable one is preferred."""
    spec, names = crd["spec"], crd["spec"]["names"]
    served = [version for version in spec["versions"] if version.get("served")]
    preferred = max(served, key=lambda version: _priority(version["name"]))["name"] if served else ""
    return [
        Resource(
            group=spec["group"],
            version=version["name"],
            plural=names["plural"],
            kind=names["kind"],
            namespaced=spec["scope"] == "Namespaced",
            singular=names.get("singular") or names["kind"].lower(),
            short=tuple(names.get("shortNames") or ()),
            categories=tuple(names.get("categories") or ()),
            status="status" in (version.get("subresources") or {}),
            generation=True,
            preferred=version["name"] == preferred,
            custom=True,
            schema=version["schema"]["openAPIV3Schema"],
        )
        for version in served
    ]


def _priority(version: str) -> tuple[int, int, int]:
    """Order versions as Kubernetes does: v2 before v1 before v1beta2 before v1alpha1."""
    for rank, mark in ((1, "beta"), (0, "alpha")):
        major, found, minor = version.removeprefix("v").partition(mark)
        if found and major.isdigit():
            return rank, int(major), int(minor or 0)
    major = version.removeprefix("v")
    return (2, int(major), 0) if major.isdigit() else (-1, 0, 0)


def _accept(crd: Manifest) -> None:
    names = crd["spec"]["names"]
    names.setdefault("singular", names["kind"].lower())
    names.setdefault("listKind", f"{names['kind']}List")
    crd["spec"].setdefault("conversion", {"strategy": "None"})
    status = crd.setdefault("status", {})
    if status.get("acceptedNames") != names or not status.get("conditions"):
        now = stamp()
        status["acceptedNames"] = names
        status["conditions"] = [
            {
                "type": "NamesAccepted",
                "status": "True",
                "lastTransitionTime": now,
                "reason": "NoConflicts",
                "message": "no conflicts found",
            },
            {
                "type": "Established",
                "status": "True",
                "lastTransitionTime": now,
                "reason": "InitialNamesAccepted",
                "message": "the initial names have been accepted",
            },
        ]
    storage = next(version["name"] for version in crd["spec"]["versions"] if version.get("storage"))
    if storage not in status.setdefault("storedVersions", []):
        status["storedVersions"].append(storage)
