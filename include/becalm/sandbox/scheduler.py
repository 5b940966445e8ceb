"""Places pods on the one node: once their claims are there and bound, and if the node is one that they accept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.sandbox import kinds
from becalm.sandbox.claims import NODE, SELECTED_NODE, claim_names
from becalm.sandbox.selectors import Requirement, labels_match
from becalm.sandbox.times import stamp
from becalm.sandbox.work import Worker

if TYPE_CHECKING:
    from becalm.model import Manifest
    from becalm.sandbox.api import Api
    from becalm.sandbox.store import Change, Place

_UNBOUND = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
_OPERATORS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "absent", "Gt": "gt", "Lt": "lt"}


class Scheduler:
    """Looks at pods without a node."""

    def __init__(self, api: Api) -> None:
        """Serve one API; begin with `worker.start`."""
        self._api = api
        self.worker = Worker("scheduler", self._look)

    def see(self, change: Change) -> None:
        """Note a new pod, or a change of what a pod waits for."""
        if change.bucket == kinds.PODS.bucket:
            self.worker.add(change.place)
        elif change.bucket in (kinds.CLAIMS.bucket, kinds.NODES.bucket):
            for pod in self._api.store.all(kinds.PODS.bucket, namespace=change.place[0] or None):
                if not pod["spec"].get("nodeName"):
                    self.worker.add((pod["metadata"]["namespace"], pod["metadata"]["name"]))

    def _look(self, place: Place) -> None:
        pod = self._api.store.get(kinds.PODS.bucket, place)
        if pod is None or pod["spec"].get("nodeName") or pod["metadata"].get("deletionTimestamp"):
            return
        if pod["spec"].get("schedulingGates"):
            return
        problem = self._problem(pod)
        if problem:
            self._api.modify(kinds.PODS.bucket, place, lambda manifest: _unschedulable(manifest, problem))
        elif self._claims_bound(place, pod):
            self._api.modify(kinds.PODS.bucket, place, _placed)

    def _problem(self, pod: Manifest) -> str:
        for name in claim_names(pod):
            claim = self._api.store.get(kinds.CLAIMS.bucket, (pod["metadata"]["namespace"], name))
            if claim is None:
                return f'0/1 nodes are available: persistentvolumeclaim "{name}" not found.'
            if claim["metadata"].get("deletionTimestamp"):
                return f'0/1 nodes are available: persistentvolumeclaim "{name}" is being deleted.'
        node = self._api.store.get(kinds.NODES.bucket, ("", NODE))
        if node is None or node["spec"].get("unschedulable"):
            return "0/1 nodes are available: 1 node(s) were unschedulable."
        return "" if _accepts(pod, node) else "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."

    def _claims_bound(self, place: Place, pod: Manifest) -> bool:
        """Say whether every claim has its volume; those that wait for their first consumer are told the node."""
        bound = True
        for name in claim_names(pod):
            claim = self._api.store.get(kinds.CLAIMS.bucket, (place[0], name))
            if claim is None or claim["status"].get("phase") == "Bound":
                continue
            bound = False
            storage_class = self._api.store.get(kinds.STORAGE_CLASSES.bucket, ("", claim["spec"].get("storageClassName") or ""))
            if storage_class is not None and storage_class["volumeBindingMode"] == "WaitForFirstConsumer":
                self._api.modify(
                    kinds.CLAIMS.bucket,
                    (place[0], name),
                    lambda manifest: manifest["metadata"].setdefault("annotations", {}).update({SELECTED_NODE: NODE}),
                )
            else:
                self._api.modify(kinds.PODS.bucket, place, lambda manifest: _unschedulable(manifest, _UNBOUND))
        return bound


def _accepts(pod: Manifest, node: Manifest) -> bool:
    """Say whether a pod's selector and required affinity take a node."""
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (pod["spec"].get("nodeSelector") or {}).items()):
        return False
    affinity = ((pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    if not affinity:
        return True
    return any(_term(term, node) for term in affinity.get("nodeSelectorTerms") or ())


def _term(term: Manifest, node: Manifest) -> bool:
    by_label = _requirements(term.get("matchExpressions"))
    by_field = _requirements(term.get("matchFields"))
    fields = {"metadata": {"labels": {"metadata.name": node["metadata"]["name"]}}}
    return bool(by_label or by_field) and labels_match(by_label, node) and labels_match(by_field, fields)


def _requirements(expressions: list[Manifest] | None) -> tuple[Requirement, ...]:
    return tuple(
        Requirement(key=found["key"], operator=_OPERATORS[found["operator"]], values=frozenset(found.get("values") or ()))
        for found in expressions or ()
    )


def _unschedulable(pod: Manifest, message: str) -> None:
    standing: list[Manifest] = pod["status"].get("conditions") or []
    old: Manifest = next((found for found in standing if found["type"] == "PodScheduled"), {})
    if old.get("message") == message:
        return
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message, "lastProbeTime": None}
    condition["lastTransitionTime"] = old.get("lastTransitionTime") or stamp()
    pod["status"]["conditions"] = [condition]


def _placed(pod: Manifest) -> None:
    pod["spec"]["nodeName"] = NODE
    pod["status"]["conditions"] = [{"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": stamp()}]
