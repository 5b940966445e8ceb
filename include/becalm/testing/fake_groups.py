"""Group snapshots for the cluster in memory: it cuts every claim that the selector means, at one instant, and reports them at once.

As the real controller, it makes VolumeSnapshots of its own for the members, which carry no label of ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from becalm.kube.kinds import GROUP_CLASS, GROUP_CONTENT, GROUP_SNAPSHOT
from becalm.testing.objects import DRIVER, an_object

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from becalm.clock import Clock
    from becalm.model import Manifest
    from becalm.testing.fake_cluster import FakeCluster

API = "groupsnapshot.storage.k8s.io/v1"


def a_group_class(name: str = "together", *, driver: str = DRIVER, default: bool = False, policy: str = "Delete") -> Manifest:
    """Return a group snapshot class."""
    made = an_object(API, "VolumeGroupSnapshotClass", name, driver=driver, deletionPolicy=policy)
    made["metadata"]["annotations"] = {"groupsnapshot.storage.kubernetes.io/is-default-class": "true"} if default else {}
    return made


@dataclass(slots=True)
class FakeGroups:
    """Cuts a group when it is written, unless it `fails` or `hangs`."""

    cluster: FakeCluster
    clock: Clock
    fails: str = ""
    """The storage's words."""
    hangs: bool = False
    cut: list[str] = field(default_factory=list)
    """The claims that were cut."""

    def __post_init__(self) -> None:
        """Serve the kinds, and begin to react."""
        self.cluster.kinds += [GROUP_SNAPSHOT, GROUP_CONTENT, GROUP_CLASS]
        self.cluster.on_write(GROUP_SNAPSHOT.resource, self._react)

    def _react(self, group: Manifest) -> None:
        if group["metadata"].get("deletionTimestamp"):
            group["metadata"]["finalizers"] = []
            self.cluster.put(group)
            return
        if self.hangs or group.get("status"):
            return
        if self.fails:
            group["status"] = {"error": {"message": self.fails}, "readyToUse": False}
            self.cluster.put(group)
            return
        metadata, now = group["metadata"], self.clock.now()
        claims = [
            claim
            for claim in self.cluster.all("persistentvolumeclaims")
            if claim["metadata"]["namespace"] == metadata["namespace"]
            and _means(group["spec"]["source"]["selector"], claim["metadata"].get("labels") or {})
        ]
        self.cut += [claim["metadata"]["name"] for claim in claims]
        content = an_object(API, "VolumeGroupSnapshotContent", f"groupcontent-{metadata['uid']}")
        content["spec"] = {"driver": DRIVER, "volumeGroupSnapshotRef": {"name": metadata["name"], "namespace": metadata["namespace"]}}
        content["status"] = {
            "volumeSnapshotInfoList": [
                {
                    "volumeHandle": f"disk-{claim['metadata']['name']}",
                    "snapshotHandle": f"handle-{claim['metadata']['name']}",
                    "creationTime": int(now.timestamp() * 1e9),
                    "readyToUse": True,
                    "restoreSize": 1024,
                }
                for claim in claims
            ]
        }
        self.cluster.put(content)
        for claim in claims:
            self.cluster.put(_member(group, claim["metadata"]["name"]))
        group["status"] = {"boundVolumeGroupSnapshotContentName": content["metadata"]["name"], "readyToUse": True}
        group["metadata"]["finalizers"] = ["groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-bound-protection"]
        self.cluster.put(group)


def _member(group: Manifest, claim: str) -> Manifest:
    owner = {"apiVersion": API, "kind": "VolumeGroupSnapshot", "name": group["metadata"]["name"], "uid": group["metadata"]["uid"]}
    made = an_object("snapshot.storage.k8s.io/v1", "VolumeSnapshot", f"snapshot-of-{claim}", group["metadata"]["namespace"])
    made["metadata"]["ownerReferences"] = [owner]
    return made | {"spec": {"source": {"persistentVolumeClaimName": claim}}, "status": {"readyToUse": True}}


def _means(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Say whether a selector means these labels."""
    return all((labels.get(item["key"]) in item["values"]) is (item["operator"] == "In") for item in selector.get("matchExpressions") or [])
