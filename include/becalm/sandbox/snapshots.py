"""VolumeSnapshots and their contents: cut, reported as soon as they are cut, ready later, bound by handle, deleted by policy.

As in a real cluster, `creationTime` stands before `readyToUse` is true, and a content with the policy Retain leaves its handle behind.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from becalm.sandbox import kinds
from becalm.sandbox.claims import DRIVER
from becalm.sandbox.disks import Cut, DiskError, Disks, quantity_of, size_of
from becalm.sandbox.times import micro_stamp, stamp
from becalm.sandbox.work import Tasks, Worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from becalm.model import Manifest
    from becalm.sandbox.api import Api
    from becalm.sandbox.faults import Faults
    from becalm.sandbox.store import Change, Place

DEFAULT_CLASS = "snapshot.storage.kubernetes.io/is-default-class"
_BOUND = "snapshot.storage.kubernetes.io/volumesnapshot-bound-protection"
_SOURCE = "snapshot.storage.kubernetes.io/volumesnapshot-as-source-protection"
_CONTENT_BOUND = "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection"
_RETRY_SECONDS = 1.0
_HANG_SECONDS = 0.2


class SnapshotController:
    """Follows snapshots and contents; `still` stops a volume's writers while it is copied."""

    def __init__(self, api: Api, disks: Disks, faults: Faults, still: Callable[[str], AbstractContextManager[None]]) -> None:
        """Serve one API; begin with `worker.start`."""
        self._api = api
        self._disks = disks
        self._faults = faults
        self._still = still
        self._tasks = Tasks()
        self.worker = Worker("snapshots", self._look)

    async def stop(self) -> None:
        """End."""
        await self.worker.stop()
        await self._tasks.stop()

    def see(self, change: Change) -> None:
        """Note a change that a snapshot may wait for."""
        match change.bucket:
            case kinds.SNAPSHOTS:
                self.worker.add(("snapshot", change.place))
                bound = ((change.last.get("status") or {}).get("boundVolumeSnapshotContentName"),)
                for name in (*bound, change.last["spec"]["source"].get("volumeSnapshotContentName")):
                    if name:
                        self.worker.add(("content", ("", name)))
            case kinds.SNAPSHOT_CONTENTS:
                self.worker.add(("content", change.place))
                reference = change.last["spec"]["volumeSnapshotRef"]
                self.worker.add(("snapshot", (reference.get("namespace", ""), reference.get("name", ""))))
            case kinds.CLAIMS.bucket:
                for snapshot in self._api.store.all(kinds.SNAPSHOTS, namespace=change.place[0]):
                    if snapshot["spec"]["source"].get("persistentVolumeClaimName") == change.place[1]:
                        self.worker.add(("snapshot", (change.place[0], snapshot["metadata"]["name"])))

    def _look(self, key: tuple[str, Place]) -> None:
        if key[0] == "snapshot":
            self._look_at_snapshot(key[1])
        else:
            self._look_at_content(key[1])

    def _look_at_snapshot(self, place: Place) -> None:
        snapshot = self._api.store.get(kinds.SNAPSHOTS, place)
        if snapshot is None:
            return
        content = self._content_of(snapshot)
        if snapshot["metadata"].get("deletionTimestamp"):
            self._let_go(place, content)
            return
        self._api.modify(kinds.SNAPSHOTS, place, lambda manifest: _guard(manifest, _SOURCE, _BOUND))
        if content is None:
            problem = self._make_content(place, snapshot)
            if problem:
                self._report_problem(place, problem)
            return
        name, reported = content["metadata"]["name"], content.get("status") or {}

        def mirror(manifest: Manifest) -> None:
            status = manifest.setdefault("status", {})
            status["boundVolumeSnapshotContentName"] = name
            status["readyToUse"] = bool(reported.get("readyToUse"))
            if reported.get("creationTime"):
                status["creationTime"] = micro_stamp(reported["creationTime"])[:19] + "Z"
                status["restoreSize"] = quantity_of(reported.get("restoreSize", 0))
            status.pop("error", None)
            if reported.get("error"):
                status["error"] = reported["error"]

        self._api.modify(kinds.SNAPSHOTS, place, mirror)

    def _content_of(self, snapshot: Manifest) -> Manifest | None:
        metadata = snapshot["metadata"]
        name = snapshot["spec"]["source"].get("volumeSnapshotContentName") or f"snapcontent-{metadata['uid']}"
        content = self._api.store.get(kinds.SNAPSHOT_CONTENTS, ("", name))
        if content is None:
            return None
        reference = content["spec"]["volumeSnapshotRef"]
        if (reference.get("namespace"), reference.get("name")) != (metadata["namespace"], metadata["name"]):
            return None
        return content if reference.get("uid") in (None, "", metadata["uid"]) else None

    def _let_go(self, place: Place, content: Manifest | None) -> None:
        """Let a snapshot go: by the policy Delete its content goes first."""
        if content is not None and content["spec"]["deletionPolicy"] == "Delete":
            resource = self._api.registry.of_bucket(kinds.SNAPSHOT_CONTENTS)
            if resource is not None and not content["metadata"].get("deletionTimestamp"):
                self._api.delete(resource, ("", content["metadata"]["name"]))
            self.worker.add(("content", ("", content["metadata"]["name"])))
            return
        self._api.modify(kinds.SNAPSHOTS, place, lambda manifest: _unguard(manifest, _SOURCE, _BOUND))

    def _make_content(self, place: Place, snapshot: Manifest) -> str:
        """Make the content of a snapshot of a claim; return why that cannot be."""
        claim_name = snapshot["spec"]["source"].get("persistentVolumeClaimName")
        if not claim_name:
            name = snapshot["spec"]["source"].get("volumeSnapshotContentName")
            return f'Failed to get the content "{name}", or it refers to another snapshot'
        claim = self._api.store.get(kinds.CLAIMS.bucket, (place[0], claim_name))
        volume = self._api.store.get(kinds.VOLUMES.bucket, ("", ((claim or {}).get("spec") or {}).get("volumeName") or ""))
        if claim is None or volume is None:
            return f'Failed to create snapshot content: the PVC "{claim_name}" is not there, or not yet bound to a PV'
        snapshot_class = self._class_of(snapshot)
        if snapshot_class is None:
            return "Failed to set default snapshot class: there is none for the driver, or the named one is not there"
        driver = (volume["spec"].get("csi") or {}).get("driver", "")
        if snapshot_class["driver"] != driver:
            return f"the snapshot class is of driver {snapshot_class['driver']}, the volume of {driver or 'no CSI driver'}"
        metadata, class_name = snapshot["metadata"], snapshot_class["metadata"]["name"]
        self._api.modify(kinds.SNAPSHOTS, place, lambda manifest: manifest["spec"].update(volumeSnapshotClassName=class_name))
        content = {
            "metadata": {"name": f"snapcontent-{metadata['uid']}", "finalizers": [_CONTENT_BOUND]},
            "spec": {
                "deletionPolicy": snapshot_class["deletionPolicy"],
                "driver": driver,
                "source": {"volumeHandle": volume["spec"]["csi"]["volumeHandle"]},
                "sourceVolumeMode": volume["spec"].get("volumeMode", "Filesystem"),
                "volumeSnapshotClassName": class_name,
                "volumeSnapshotRef": {
                    "apiVersion": snapshot["apiVersion"],
                    "kind": "VolumeSnapshot",
                    "namespace": place[0],
                    "name": place[1],
                    "uid": metadata["uid"],
                    "resourceVersion": metadata["resourceVersion"],
                },
            },
        }
        resource = self._api.registry.of_bucket(kinds.SNAPSHOT_CONTENTS)
        if resource is not None:
            self._api.create(resource, "", content)
        return ""

    def _class_of(self, snapshot: Manifest) -> Manifest | None:
        name = snapshot["spec"].get("volumeSnapshotClassName")
        if name:
            return self._api.store.get(kinds.SNAPSHOT_CLASSES, ("", name))
        for found in self._api.store.all(kinds.SNAPSHOT_CLASSES):
            if (found["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true" and found["driver"] == DRIVER:
                return found
        return None

    def _report_problem(self, place: Place, problem: str) -> None:
        def report(manifest: Manifest) -> None:
            status = manifest.setdefault("status", {})
            status["readyToUse"] = False
            if (status.get("error") or {}).get("message") != problem:
                status["error"] = {"message": problem, "time": stamp()}

        self._api.modify(kinds.SNAPSHOTS, place, report)

    def _look_at_content(self, place: Place) -> None:
        content = self._api.store.get(kinds.SNAPSHOT_CONTENTS, place)
        if content is None or content["spec"]["driver"] != DRIVER:
            return
        reference = content["spec"]["volumeSnapshotRef"]
        snapshot = self._api.store.get(kinds.SNAPSHOTS, (reference.get("namespace", ""), reference.get("name", "")))
        bound = snapshot is not None and self._content_of(snapshot) is content
        if content["metadata"].get("deletionTimestamp"):
            if not bound or (snapshot is not None and snapshot["metadata"].get("deletionTimestamp")):
                self._tasks.run(("end", place), lambda: self._end(place, content))
            return
        self._api.modify(kinds.SNAPSHOT_CONTENTS, place, lambda manifest: _guard(manifest, _CONTENT_BOUND))
        if bound and snapshot is not None and not reference.get("uid"):
            uid = snapshot["metadata"]["uid"]
            self._api.modify(kinds.SNAPSHOT_CONTENTS, place, lambda manifest: manifest["spec"]["volumeSnapshotRef"].update(uid=uid))
        if not (content.get("status") or {}).get("readyToUse"):
            self._tasks.run(("cut", place), lambda: self._cut(place))

    async def _cut(self, place: Place) -> None:
        """Cut a content's volume, or find the snapshot that it names, and report."""
        content = self._api.store.get(kinds.SNAPSHOT_CONTENTS, place)
        if content is None:
            return
        source = content["spec"]["source"]
        handle = _handle_of(content)
        try:
            cut = self._disks.known(handle) or await self._take(place, source.get("volumeHandle", ""), handle)
        except DiskError as error:
            problem = str(error)
            self._api.modify(kinds.SNAPSHOT_CONTENTS, place, lambda manifest: _failed(manifest, problem))
            self.worker.add_after(("content", place), _RETRY_SECONDS)
            return
        self._api.modify(kinds.SNAPSHOT_CONTENTS, place, lambda manifest: _reported(manifest, handle, cut))
        if not cut.ready():
            self.worker.add_after(("content", place), max((cut.ready_nanoseconds - time.time_ns()) / 1e9, 0) + 0.01)

    async def _take(self, place: Place, volume: str, handle: str) -> Cut:
        if not volume:
            raise DiskError(f"there is no snapshot {handle}")
        while self._faults.hang_snapshots and not self._going(place):  # noqa: ASYNC110  (a fault that a test asked for)
            await asyncio.sleep(_HANG_SECONDS)
        if self._going(place):
            raise DiskError("the content is being deleted")
        ready_seconds = self._faults.ready_seconds
        await asyncio.sleep(self._faults.cut_seconds)
        if self._faults.snapshot_fails():
            raise DiskError("fault asked for: CreateSnapshot")
        size = next(
            (
                size_of(found["spec"]["capacity"]["storage"])
                for found in self._api.store.all(kinds.VOLUMES.bucket)
                if (found["spec"].get("csi") or {}).get("volumeHandle") == volume
            ),
            0,
        )
        with self._still(volume):
            return await self._disks.cut(volume, handle, size_bytes=size, ready_seconds=ready_seconds)

    def _going(self, place: Place) -> bool:
        content = self._api.store.get(kinds.SNAPSHOT_CONTENTS, place)
        return content is None or "deletionTimestamp" in content["metadata"]

    async def _end(self, place: Place, content: Manifest) -> None:
        while ("cut", place) in self._tasks:  # noqa: ASYNC110  (rare, and over in a moment)
            await asyncio.sleep(_HANG_SECONDS)
        handle = _handle_of(content)
        if content["spec"]["deletionPolicy"] == "Delete":
            await self._disks.forget_snapshot(handle)
        self._api.modify(kinds.SNAPSHOT_CONTENTS, place, lambda manifest: _unguard(manifest, _CONTENT_BOUND))


def _handle_of(content: Manifest) -> str:
    """Return the storage's name of a content's snapshot: given, or made from the content's own."""
    given = content["spec"]["source"].get("snapshotHandle")
    return str(given or "snap-" + content["metadata"]["name"].replace("snapcontent-", "snapshot-"))


def _guard(manifest: Manifest, *finalizers: str) -> None:
    standing = manifest["metadata"].setdefault("finalizers", [])
    standing += [finalizer for finalizer in finalizers if finalizer not in standing]


def _unguard(manifest: Manifest, *finalizers: str) -> None:
    manifest["metadata"]["finalizers"] = [kept for kept in manifest["metadata"].get("finalizers") or () if kept not in finalizers]


def _failed(manifest: Manifest, problem: str) -> None:
    status = manifest.setdefault("status", {})
    message = f"Failed to check and update snapshot content: {problem}"
    if (status.get("error") or {}).get("message") != message:
        status |= {"readyToUse": False, "error": {"message": message, "time": stamp()}}


def _reported(manifest: Manifest, handle: str, cut: Cut) -> None:
    manifest["status"] = {
        "creationTime": cut.cut_nanoseconds,
        "readyToUse": cut.ready(),
        "restoreSize": cut.size_bytes,
        "snapshotHandle": handle,
    }
