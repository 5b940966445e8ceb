"""A snapshot controller for the cluster in memory: it cuts when it is told to, and says what it did as a real one does.

It reacts to VolumeSnapshots that are written through the port. `cuts` remembers which volume was cut when.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from becalm.clock import Clock, format_time
from becalm.errors import NotFound
from becalm.testing.objects import DRIVER, an_object

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from becalm.model import Manifest
    from becalm.testing.fake_cluster import FakeCluster

API = "snapshot.storage.k8s.io/v1"


@dataclass(slots=True)
class FakeStorage:
    """Cuts at once, unless a claim is named in `fails`, `hangs` or `slow`."""

    cluster: FakeCluster
    clock: Clock
    fails: dict[str, str] = field(default_factory=dict)
    """Claims whose snapshot fails, with the storage's words."""
    hangs: set[str] = field(default_factory=set)
    """Claims whose snapshot is never reported."""
    at_cut: Callable[[str], None] = lambda _: None
    """Called with the claim at the instant of the cut."""
    cuts: dict[str, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin to react."""
        self.cluster.on_write("volumesnapshots", self._react)

    def finish(self, claim: str) -> None:
        """Cut what hangs."""
        self.hangs.discard(claim)
        for snapshot in self.cluster.all("volumesnapshots"):
            if snapshot["spec"]["source"].get("persistentVolumeClaimName") == claim:
                self._react(snapshot)

    def _react(self, snapshot: Manifest) -> None:
        if (snapshot.get("status") or {}).get("readyToUse"):
            return
        source = snapshot["spec"]["source"]
        if "volumeSnapshotContentName" in source:
            self._bind(snapshot, source["volumeSnapshotContentName"])
            return
        claim = source["persistentVolumeClaimName"]
        if claim in self.hangs:
            return
        if claim in self.fails:
            snapshot["status"] = {"error": {"message": self.fails[claim]}, "readyToUse": False}
        else:
            self._cut(snapshot, claim)
        self.cluster.put(snapshot)

    def _cut(self, snapshot: Manifest, claim: str) -> None:
        self.at_cut(claim)
        now = self.clock.now()
        self.cuts[claim] = now
        metadata = snapshot["metadata"]
        content = an_object(API, "VolumeSnapshotContent", f"snapcontent-{metadata['uid']}")
        reference = {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]}
        content["spec"] = {"driver": DRIVER, "deletionPolicy": "Delete", "volumeSnapshotRef": reference}
        content["status"] = {"snapshotHandle": f"handle-{claim}", "creationTime": int(now.timestamp() * 1e9), "restoreSize": 1024}
        self.cluster.put(content)
        snapshot["status"] = {
            "boundVolumeSnapshotContentName": content["metadata"]["name"],
            "creationTime": format_time(now),
            "readyToUse": True,
        }

    def _bind(self, snapshot: Manifest, content: str) -> None:
        found = [item for item in self.cluster.all("volumesnapshotcontents") if item["metadata"]["name"] == content]
        if not found:
            raise NotFound(f"there is no content {content}")
        snapshot["status"] = {"boundVolumeSnapshotContentName": content, "readyToUse": True, "restoreSize": "1Ki"}
        self.cluster.put(snapshot)
