"""Deployments, ReplicaSets, StatefulSets and DaemonSets: they make pods, count them and replace them. Jobs are in `jobs`."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import orjson

from becalm.sandbox import kinds
from becalm.sandbox.answers import ApiError
from becalm.sandbox.ownership import active, adopt, is_ready, owner_reference, pod_from
from becalm.sandbox.store import copied
from becalm.sandbox.times import stamp
from becalm.sandbox.work import Worker

if TYPE_CHECKING:
    from becalm.model import Manifest
    from becalm.sandbox.api import Api
    from becalm.sandbox.kinds import Resource
    from becalm.sandbox.store import Change, Place

_KINDS: dict[str, Resource] = {
    found.kind: found for found in (kinds.DEPLOYMENTS, kinds.REPLICA_SETS, kinds.STATEFUL_SETS, kinds.DAEMON_SETS)
}
_HASH = "pod-template-hash"
_REVISION = "controller-revision-hash"
_RETRY_SECONDS = 1.0


class WorkloadController:
    """Keeps what is there in step with what is asked for."""

    def __init__(self, api: Api) -> None:
        """Serve one API; begin with `worker.start`."""
        self._api = api
        self.worker = Worker("workloads", self._look)

    def see(self, change: Change) -> None:
        """Note a change of a workload, or of something that one owns."""
        for resource in _KINDS.values():
            if change.bucket == resource.bucket:
                self.worker.add((resource.kind, change.place))
        for reference in change.last["metadata"].get("ownerReferences") or ():
            if reference["kind"] in _KINDS:
                self.worker.add((reference["kind"], (change.place[0], reference["name"])))

    def _look(self, key: tuple[str, Place]) -> None:
        kind, place = key
        workload = self._api.store.get(_KINDS[kind].bucket, place)
        if workload is None or workload["metadata"].get("deletionTimestamp"):
            return
        look = {
            "Deployment": self._deployment,
            "ReplicaSet": self._replica_set,
            "StatefulSet": self._stateful_set,
            "DaemonSet": self._daemon_set,
        }
        try:
            look[kind](place, workload)
        except ApiError as error:
            if error.code not in (403, 404, 409):
                raise
            self.worker.add_after(key, _RETRY_SECONDS)

    def _report(self, resource: Resource, place: Place, status: Manifest) -> None:
        def report(manifest: Manifest) -> None:
            manifest["status"] = {**status, "observedGeneration": manifest["metadata"]["generation"]}

        self._api.modify(resource.bucket, place, report)

    def _deployment(self, place: Place, deployment: Manifest) -> None:
        spec = deployment["spec"]
        mark = template_hash(spec["template"])
        sets = adopt(self._api, kinds.REPLICA_SETS, deployment, spec["selector"])
        newest = next((found for found in sets if found["metadata"]["labels"].get(_HASH) == mark), None)
        if newest is None:
            newest = self._api.create(kinds.REPLICA_SETS, place[0], _set_of(deployment, mark, revision=len(sets) + 1))
            sets.append(newest)
        wanted = 0 if spec.get("paused") and newest["spec"]["replicas"] == 0 else spec["replicas"]
        self._scale(newest, wanted)
        new_ready = int((newest.get("status") or {}).get("readyReplicas", 0))
        for old in sets:
            if old is not newest and (new_ready >= wanted or spec["strategy"]["type"] == "Recreate"):
                self._scale(old, 0)
        revision = newest["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
        self._api.modify(
            kinds.DEPLOYMENTS.bucket,
            place,
            lambda manifest: manifest["metadata"].setdefault("annotations", {}).update({"deployment.kubernetes.io/revision": revision}),
        )
        counts = {name: sum(int((found.get("status") or {}).get(name, 0)) for found in sets) for name in ("replicas", "readyReplicas")}
        updated = int((newest.get("status") or {}).get("replicas", 0))
        status: Manifest = {name: value for name, value in counts.items() if value}
        status |= {"updatedReplicas": updated} if updated else {}
        status |= {"availableReplicas": counts["readyReplicas"]} if counts["readyReplicas"] else {}
        if counts["readyReplicas"] < wanted:
            status["unavailableReplicas"] = wanted - counts["readyReplicas"]
        live = self._api.store.get(kinds.DEPLOYMENTS.bucket, place)
        status["conditions"] = _conditions(live or deployment, available=counts["readyReplicas"] >= wanted, complete=new_ready >= wanted)
        self._report(kinds.DEPLOYMENTS, place, status)

    def _scale(self, found: Manifest, replicas: int) -> None:
        place = (found["metadata"]["namespace"], found["metadata"]["name"])
        self._api.modify(kinds.REPLICA_SETS.bucket, place, lambda manifest: manifest["spec"].update(replicas=replicas))

    def _replica_set(self, place: Place, owner: Manifest) -> None:
        pods = [pod for pod in adopt(self._api, kinds.PODS, owner, owner["spec"]["selector"]) if active(pod)]
        wanted = owner["spec"]["replicas"]
        template = owner["spec"]["template"]
        missing = wanted - len(pods)
        pods += [self._api.create(kinds.PODS, place[0], pod_from(owner, template, generate=f"{place[1]}-")) for _ in range(missing)]
        for pod in sorted(pods, key=is_ready)[: max(len(pods) - wanted, 0)]:
            self._api.delete(kinds.PODS, (place[0], pod["metadata"]["name"]))
            pods.remove(pod)
        ready = sum(map(is_ready, pods))
        status: Manifest = {"replicas": len(pods)}
        if pods:
            status["fullyLabeledReplicas"] = len(pods)
        if ready:
            status |= {"readyReplicas": ready, "availableReplicas": ready}
        self._report(kinds.REPLICA_SETS, place, status)

    def _stateful_set(self, place: Place, owner: Manifest) -> None:
        spec, name = owner["spec"], place[1]
        mark = f"{name}-{template_hash(spec['template'])}"
        pods = {pod["metadata"]["name"]: pod for pod in adopt(self._api, kinds.PODS, owner, spec["selector"])}
        in_turn = spec["podManagementPolicy"] == "OrderedReady"
        all_ready = True
        for number in range(spec["replicas"]):
            pod = pods.get(f"{name}-{number}")
            if pod is None:
                self._stateful_pod(place, owner, number, mark)
            elif not active(pod) and not pod["metadata"].get("deletionTimestamp"):
                self._api.delete(kinds.PODS, (place[0], pod["metadata"]["name"]))
            if pod is None or not is_ready(pod):
                all_ready = False
                if in_turn:
                    break
        self._shrink_or_renew(place, owner, pods, mark, all_ready=all_ready)
        current = [pod for pod in pods.values() if active(pod)]
        ready = sum(map(is_ready, current))
        updated = sum(pod["metadata"]["labels"].get(_REVISION) == mark for pod in current)
        status: Manifest = {"replicas": len(current), "collisionCount": 0, "currentRevision": mark, "updateRevision": mark}
        status |= {"availableReplicas": ready, "currentReplicas": updated, "updatedReplicas": updated}
        status |= {"readyReplicas": ready} if ready else {}
        self._report(kinds.STATEFUL_SETS, place, status)

    def _stateful_pod(self, place: Place, owner: Manifest, number: int, mark: str) -> None:
        name = f"{place[1]}-{number}"
        volumes = []
        for template in owner["spec"].get("volumeClaimTemplates") or ():
            claim_name = f"{template['metadata']['name']}-{name}"
            volumes.append({"name": template["metadata"]["name"], "persistentVolumeClaim": {"claimName": claim_name}})
            if self._api.store.get(kinds.CLAIMS.bucket, (place[0], claim_name)) is None:
                labels = {**(template["metadata"].get("labels") or {}), **(owner["spec"]["selector"].get("matchLabels") or {})}
                claim = {"metadata": {"name": claim_name, "labels": labels}, "spec": copied(template["spec"])}
                if template["metadata"].get("annotations"):
                    claim["metadata"]["annotations"] = template["metadata"]["annotations"]
                self._api.create(kinds.CLAIMS, place[0], claim)
        pod = pod_from(owner, owner["spec"]["template"], name=name)
        marks = {"apps.kubernetes.io/pod-index": str(number), _REVISION: mark, "statefulset.kubernetes.io/pod-name": name}
        pod["metadata"]["labels"] = {**pod["metadata"].get("labels", {}), **marks}
        pod["spec"] |= {"hostname": name, "subdomain": owner["spec"].get("serviceName", "")}
        mine = {volume["name"] for volume in volumes}
        pod["spec"]["volumes"] = [*volumes, *(found for found in pod["spec"].get("volumes") or () if found["name"] not in mine)]
        self._api.create(kinds.PODS, place[0], pod)

    def _shrink_or_renew(self, place: Place, owner: Manifest, pods: dict[str, Manifest], mark: str, *, all_ready: bool) -> None:
        replicas = owner["spec"]["replicas"]
        for name, pod in sorted(pods.items(), key=lambda item: -_ordinal(item[0])):
            if pod["metadata"].get("deletionTimestamp"):
                return
            outdated = pod["metadata"]["labels"].get(_REVISION) not in (mark, None)
            rolling = owner["spec"]["updateStrategy"].get("type") == "RollingUpdate"
            if _ordinal(name) >= replicas or (outdated and rolling and (all_ready or not is_ready(pod))):
                self._api.delete(kinds.PODS, (place[0], name))
                return

    def _daemon_set(self, place: Place, owner: Manifest) -> None:
        pods = [pod for pod in adopt(self._api, kinds.PODS, owner, owner["spec"]["selector"]) if active(pod)]
        if not pods:
            pods = [self._api.create(kinds.PODS, place[0], pod_from(owner, owner["spec"]["template"], generate=f"{place[1]}-"))]
        ready = sum(map(is_ready, pods))
        status = {"currentNumberScheduled": 1, "desiredNumberScheduled": 1, "numberMisscheduled": 0, "numberReady": ready}
        status |= {"updatedNumberScheduled": 1, "numberAvailable": ready} if ready else {"numberUnavailable": 1}
        self._report(kinds.DAEMON_SETS, place, status)


def template_hash(template: Manifest) -> str:
    """Return what stands for a pod template in names and labels."""
    digest = hashlib.sha256(orjson.dumps(template, option=orjson.OPT_SORT_KEYS)).digest()
    return "".join("bcdfghjklmnpqrstvwxz2456789"[byte % 27] for byte in digest[:10])


def _ordinal(name: str) -> int:
    tail = name.rpartition("-")[2]
    return int(tail) if tail.isdigit() else 0


def _set_of(deployment: Manifest, mark: str, *, revision: int) -> Manifest:
    spec = deployment["spec"]
    template = copied(spec["template"])
    template.setdefault("metadata", {}).setdefault("labels", {})[_HASH] = mark
    return {
        "metadata": {
            "name": f"{deployment['metadata']['name']}-{mark}",
            "labels": dict(template["metadata"]["labels"]),
            "annotations": {"deployment.kubernetes.io/revision": str(revision)},
            "ownerReferences": [owner_reference(deployment)],
        },
        "spec": {
            "replicas": 0,
            "selector": {**spec["selector"], "matchLabels": {**(spec["selector"].get("matchLabels") or {}), _HASH: mark}},
            "template": template,
        },
    }


def _conditions(deployment: Manifest, *, available: bool, complete: bool) -> list[Manifest]:
    before = {found["type"]: found for found in (deployment.get("status") or {}).get("conditions") or ()}
    wanted = {
        "Available": (available, "MinimumReplicasAvailable" if available else "MinimumReplicasUnavailable"),
        "Progressing": (True, "NewReplicaSetAvailable" if complete else "ReplicaSetUpdated"),
    }
    conditions = []
    for kind, (true, reason) in wanted.items():
        status, old = "True" if true else "False", before.get(kind, {})
        same = (old.get("status"), old.get("reason")) == (status, reason)
        now = stamp()
        conditions.append(
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "lastTransitionTime": old["lastTransitionTime"] if old.get("status") == status else now,
                "lastUpdateTime": old["lastUpdateTime"] if same else now,
            }
        )
    return conditions
