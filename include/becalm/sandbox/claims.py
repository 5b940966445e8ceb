"""PersistentVolumeClaims and PersistentVolumes: provisioning, binding, protection, reclaiming. The data stands in `disks`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from becalm.sandbox import kinds
from becalm.sandbox.answers import ApiError
from becalm.sandbox.disks import DiskError, Disks, quantity_of, size_of
from becalm.sandbox.work import LOG, Tasks, Worker

if TYPE_CHECKING:
    from becalm.model import Manifest
    from becalm.sandbox.api import Api
    from becalm.sandbox.faults import Faults
    from becalm.sandbox.store import Change, Place

DRIVER = "sandbox.becalm.dev"
NODE = "sandbox"
SELECTED_NODE = "volume.kubernetes.io/selected-node"

_PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
_CLAIM_PROTECTION = "kubernetes.io/pvc-protection"
_RETRY_SECONDS = 1.0
_NOT_READY = Path("not-ready")


class ClaimController:
    """Gives claims their volumes and takes volumes back."""

    def __init__(self, api: Api, disks: Disks, faults: Faults) -> None:
        """Serve one API; begin with `worker.start`."""
        self._api = api
        self._disks = disks
        self._faults = faults
        self._tasks = Tasks()
        self.worker = Worker("claims", self._look)

    async def stop(self) -> None:
        """End."""
        await self.worker.stop()
        await self._tasks.stop()

    def see(self, change: Change) -> None:
        """Note a change that a claim or a volume may wait for."""
        match change.bucket:
            case kinds.CLAIMS.bucket:
                self.worker.add(("claim", change.place))
                if change.after is None and change.last["spec"].get("volumeName"):
                    self.worker.add(("volume", ("", change.last["spec"]["volumeName"])))
            case kinds.VOLUMES.bucket:
                self.worker.add(("volume", change.place))
                reference = change.last["spec"].get("claimRef") or {}
                if reference.get("name"):
                    self.worker.add(("claim", (reference.get("namespace", ""), reference["name"])))
            case kinds.PODS.bucket:
                for name in claim_names(change.last):
                    self.worker.add(("claim", (change.place[0], name)))
            case kinds.SNAPSHOTS | kinds.STORAGE_CLASSES.bucket:
                for claim in self._api.store.all(kinds.CLAIMS.bucket, namespace=change.place[0] or None):
                    if not claim["spec"].get("volumeName"):
                        self.worker.add(("claim", (claim["metadata"]["namespace"], claim["metadata"]["name"])))

    def _look(self, key: tuple[str, Place]) -> None:
        if key[0] == "claim":
            self._look_at_claim(key[1])
        else:
            self._look_at_volume(key[1])

    def _look_at_claim(self, place: Place) -> None:
        claim = self._api.store.get(kinds.CLAIMS.bucket, place)
        if claim is None:
            return
        if claim["metadata"].get("deletionTimestamp"):
            if not self._in_use(place):
                self._api.modify(kinds.CLAIMS.bucket, place, lambda manifest: _drop_finalizer(manifest, _CLAIM_PROTECTION))
            return
        if (claim.get("status") or {}).get("phase") == "Bound":
            self._grow(place, claim)
            return
        volume = self._volume_for(claim)
        if volume is not None:
            self._bind(place, volume)
        elif not claim["spec"].get("volumeName"):
            self._provision(place, claim)

    def _in_use(self, place: Place) -> bool:
        pods = self._api.store.all(kinds.PODS.bucket, namespace=place[0])
        return any(
            place[1] in claim_names(pod) and pod["spec"].get("nodeName") and pod["status"].get("phase") not in ("Succeeded", "Failed")
            for pod in pods
        )

    def _grow(self, place: Place, claim: Manifest) -> None:
        wanted = claim["spec"]["resources"]["requests"]["storage"]
        has = claim["status"]["capacity"]["storage"]
        storage_class = self._api.store.get(kinds.STORAGE_CLASSES.bucket, ("", claim["spec"].get("storageClassName") or ""))
        if size_of(wanted) > size_of(has) and (storage_class or {}).get("allowVolumeExpansion"):
            self._api.modify(kinds.CLAIMS.bucket, place, lambda manifest: manifest["status"]["capacity"].update(storage=wanted))

    def _volume_for(self, claim: Manifest) -> Manifest | None:
        """Return the volume that is made for a claim, named by it, or free and fitting."""
        spec, metadata = claim["spec"], claim["metadata"]
        for volume in self._api.store.all(kinds.VOLUMES.bucket):
            if volume["metadata"].get("deletionTimestamp"):
                continue
            if spec.get("volumeName"):
                if volume["metadata"]["name"] != spec["volumeName"]:
                    continue
            elif not _fits(claim, volume):
                continue
            reference = volume["spec"].get("claimRef")
            if reference is None and (spec.get("volumeName") or not claim["spec"].get("dataSource")):
                return volume
            named = reference and (reference.get("namespace"), reference.get("name")) == (metadata["namespace"], metadata["name"])
            if named and reference.get("uid") in (None, "", metadata["uid"]):
                return volume
        return None

    def _bind(self, place: Place, volume: Manifest) -> None:
        claim = self._api.store.get(kinds.CLAIMS.bucket, place)
        assert claim is not None
        name = volume["metadata"]["name"]
        reference = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": place[0],
            "name": place[1],
            "uid": claim["metadata"]["uid"],
            "resourceVersion": claim["metadata"]["resourceVersion"],
        }

        def bind_volume(manifest: Manifest) -> None:
            if (manifest["spec"].get("claimRef") or {}).get("uid") != reference["uid"]:
                manifest["spec"]["claimRef"] = reference
            manifest["status"] = {"phase": "Bound"}

        def bind_claim(manifest: Manifest) -> None:
            annotations = manifest["metadata"].setdefault("annotations", {})
            annotations["pv.kubernetes.io/bind-completed"] = "yes"
            if not manifest["spec"].get("volumeName"):
                annotations["pv.kubernetes.io/bound-by-controller"] = "yes"
            manifest["spec"]["volumeName"] = name
            manifest["status"] = {
                "phase": "Bound",
                "accessModes": manifest["spec"]["accessModes"],
                "capacity": dict(volume["spec"]["capacity"]),
            }

        self._api.modify(kinds.VOLUMES.bucket, ("", name), bind_volume)
        self._api.modify(kinds.CLAIMS.bucket, place, bind_claim)

    def _provision(self, place: Place, claim: Manifest) -> None:
        storage_class = self._api.store.get(kinds.STORAGE_CLASSES.bucket, ("", claim["spec"].get("storageClassName") or ""))
        if storage_class is None or storage_class["provisioner"] != DRIVER:
            return
        annotations = claim["metadata"].get("annotations") or {}
        if storage_class["volumeBindingMode"] == "WaitForFirstConsumer" and SELECTED_NODE not in annotations:
            return

        def note(manifest: Manifest) -> None:
            marks = manifest["metadata"].setdefault("annotations", {})
            marks |= {"volume.kubernetes.io/storage-provisioner": DRIVER, "volume.beta.kubernetes.io/storage-provisioner": DRIVER}

        self._api.modify(kinds.CLAIMS.bucket, place, note)
        self._tasks.run(claim["metadata"]["uid"], lambda: self._make(place, claim, storage_class))

    async def _make(self, place: Place, claim: Manifest, storage_class: Manifest) -> None:
        uid = claim["metadata"]["uid"]
        handle = f"vol-pvc-{uid}"
        block = claim["spec"].get("volumeMode") == "Block"
        size = size_of(claim["spec"]["resources"]["requests"]["storage"])
        try:
            source = self._source(place, claim)
            if source is _NOT_READY:
                return
            await self._fill(handle, source, block=block, size=size)
        except DiskError as error:
            LOG.warning("volume of claim %s/%s: %s", *place, error)
            self.worker.add_after(("claim", place), _RETRY_SECONDS)
            return
        live = self._api.store.get(kinds.CLAIMS.bucket, place)
        if live is None or live["metadata"]["uid"] != uid:
            await self._disks.forget_volume(handle)
            return
        try:
            self._api.create(kinds.VOLUMES, "", _volume(live, storage_class, handle, size))
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
        self.worker.add(("claim", place))

    async def _fill(self, handle: str, source: Path | None, *, block: bool, size: int) -> None:
        if self._faults.volume_fails():
            raise DiskError("fault asked for: CreateVolume")
        if source is None:
            await self._disks.make(handle, block=block, size_bytes=size)
        else:
            await self._disks.make_from(handle, source, block=block, size_bytes=size)

    def _source(self, place: Place, claim: Manifest) -> Path | None:
        """Return the data that a new volume begins with; `_NOT_READY` while there is none yet. Raises: DiskError."""
        source = claim["spec"].get("dataSource")
        if not source:
            return None
        if source["kind"] == "VolumeSnapshot":
            snapshot = self._api.store.get(kinds.SNAPSHOTS, (place[0], source["name"]))
            status = (snapshot or {}).get("status") or {}
            content = self._api.store.get(kinds.SNAPSHOT_CONTENTS, ("", status.get("boundVolumeSnapshotContentName", "")))
            if not status.get("readyToUse") or content is None:
                return _NOT_READY
            return self._disks.snapshot(content["status"]["snapshotHandle"])
        if source["kind"] == "PersistentVolumeClaim":
            origin = self._api.store.get(kinds.CLAIMS.bucket, (place[0], source["name"]))
            volume = self._api.store.get(kinds.VOLUMES.bucket, ("", ((origin or {}).get("spec") or {}).get("volumeName", "")))
            return self._disks.volume(volume["spec"]["csi"]["volumeHandle"]) if volume else _NOT_READY
        raise DiskError(f"the sandbox does not fill volumes from a {source['kind']}")

    def _look_at_volume(self, place: Place) -> None:
        volume = self._api.store.get(kinds.VOLUMES.bucket, place)
        if volume is None:
            return
        reference = volume["spec"].get("claimRef") or {}
        claim = self._api.store.get(kinds.CLAIMS.bucket, (reference.get("namespace", ""), reference.get("name", "")))
        mine = claim is not None and reference.get("uid") in (None, "", claim["metadata"]["uid"])
        if volume["metadata"].get("deletionTimestamp"):
            if not mine:
                self._tasks.run(volume["metadata"]["uid"], lambda: self._end(place, volume))
        elif reference.get("uid") and not mine:
            self._api.modify(kinds.VOLUMES.bucket, place, lambda manifest: manifest["status"].update(phase="Released"))
            if volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete":
                self._api.delete(kinds.VOLUMES, place)
        elif not reference:
            self._api.modify(kinds.VOLUMES.bucket, place, lambda manifest: manifest["status"].update(phase="Available"))
            for waiting in self._api.store.all(kinds.CLAIMS.bucket):
                if (waiting.get("status") or {}).get("phase") == "Pending":
                    self.worker.add(("claim", (waiting["metadata"]["namespace"], waiting["metadata"]["name"])))

    async def _end(self, place: Place, volume: Manifest) -> None:
        ours = (volume["spec"].get("csi") or {}).get("driver") == DRIVER
        if ours and volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete":
            await self._disks.forget_volume(volume["spec"]["csi"]["volumeHandle"])

        def release(manifest: Manifest) -> None:
            for finalizer in ("external-provisioner.volume.kubernetes.io/finalizer", "kubernetes.io/pv-protection"):
                _drop_finalizer(manifest, finalizer)

        self._api.modify(kinds.VOLUMES.bucket, place, release)


def claim_names(pod: Manifest) -> list[str]:
    """Return the claims that a pod mounts."""
    return [
        volume["persistentVolumeClaim"]["claimName"] for volume in pod["spec"].get("volumes") or () if volume.get("persistentVolumeClaim")
    ]


def _fits(claim: Manifest, volume: Manifest) -> bool:
    spec, offered = claim["spec"], volume["spec"]
    return (
        (spec.get("storageClassName") or "") == (offered.get("storageClassName") or "")
        and spec.get("volumeMode") == offered.get("volumeMode")
        and set(spec["accessModes"]) <= set(offered.get("accessModes") or ())
        and size_of(offered["capacity"]["storage"]) >= size_of(spec["resources"]["requests"]["storage"])
    )


def _volume(claim: Manifest, storage_class: Manifest, handle: str, size: int) -> Manifest:
    metadata = claim["metadata"]
    return {
        "metadata": {
            "name": f"pvc-{metadata['uid']}",
            "annotations": {_PROVISIONED_BY: DRIVER},
            "finalizers": ["external-provisioner.volume.kubernetes.io/finalizer"],
        },
        "spec": {
            "accessModes": claim["spec"]["accessModes"],
            "capacity": {"storage": quantity_of(size)},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
            "csi": {"driver": DRIVER, "volumeHandle": handle},
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}]}]
                }
            },
            "persistentVolumeReclaimPolicy": storage_class["reclaimPolicy"],
            "storageClassName": storage_class["metadata"]["name"],
            "volumeMode": claim["spec"].get("volumeMode", "Filesystem"),
        },
    }


def _drop_finalizer(manifest: Manifest, finalizer: str) -> None:
    manifest["metadata"]["finalizers"] = [kept for kept in manifest["metadata"].get("finalizers") or () if kept != finalizer]
