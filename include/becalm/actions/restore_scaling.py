"""Stopping what mounts a claim, and starting it again as it was: how it was stands on the workload itself, written by the same call that stops it.

Only the field that says how much runs is touched. What nobody can stop by such a field (a DaemonSet, a pod without a controller, a pod of
a kind that is not known here) is named, and nothing is done to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from becalm.actions.pods import claims_of, has_ended
from becalm.errors import Conflict, NotFound, PermanentError
from becalm.kube.base import ANNOTATION_BEFORE, LABEL_MANAGED, LABEL_ROLE, MANAGER, ROLE_RESTORE, Kind, Verb
from becalm.kube.kinds import POD
from becalm.kube.rules import child, children
from becalm.model import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from becalm.kube.base import Cluster
    from becalm.model import Manifest

TRIES = 5
"""How often a workload is read and written again that changes at the same moment."""


def _kind(group: str, resource: str, kind: str) -> Kind:
    return Kind(group=group, version="v1", resource=resource, kind=kind, namespaced=True)


DEPLOYMENT = _kind("apps", "deployments", "Deployment")
STATEFUL_SET = _kind("apps", "statefulsets", "StatefulSet")
REPLICA_SET = _kind("apps", "replicasets", "ReplicaSet")
CONTROLLER = _kind("", "replicationcontrollers", "ReplicationController")
CRON_JOB = _kind("batch", "cronjobs", "CronJob")
JOB = _kind("batch", "jobs", "Job")
STOPPED_BY: dict[Kind, tuple[str, Any]] = {
    DEPLOYMENT: ("replicas", 0),
    STATEFUL_SET: ("replicas", 0),
    REPLICA_SET: ("replicas", 0),
    CONTROLLER: ("replicas", 0),
    CRON_JOB: ("suspend", True),
    JOB: ("suspend", True),
}
"""The field of each kind's spec that stops it, and its value. A CronJob comes before its Jobs: it would make new ones."""
USUAL = {"replicas": 1, "suspend": False}
"""What a field means where it is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Something that makes pods, and can be stopped."""

    kind: Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        """`deployments.apps/shop/web`."""
        return f"{self.kind}/{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Users:
    """Who mounts some claims."""

    pods: tuple[Manifest, ...] = ()
    workloads: tuple[Workload, ...] = ()
    """What makes these pods, as far up as it can be stopped."""
    unstoppable: tuple[Finding, ...] = ()


def mounting(cluster: Cluster, namespace: str, claims: frozenset[str]) -> list[Manifest]:
    """Return the pods that mount one of these claims and have not ended; the movers of restores are none of them."""
    ours = f"{LABEL_MANAGED}={MANAGER},{LABEL_ROLE}={ROLE_RESTORE}"
    movers = {pod["metadata"]["uid"] for pod in cluster.list(POD, namespace=namespace, labels=ours)}
    return [
        pod
        for pod in cluster.list(POD, namespace=namespace)
        if not has_ended(pod) and pod["metadata"]["uid"] not in movers and claims & set(claims_of(pod).values())
    ]


def users(cluster: Cluster, namespace: str, claims: frozenset[str]) -> Users:
    """Find the pods that mount these claims, and follow their owners up to what can be stopped. Raises what the cluster raises."""
    pods = mounting(cluster, namespace, claims)
    workloads: dict[Workload, None] = {}
    unstoppable: list[Finding] = []
    for pod in pods:
        found, problem = _above(cluster, pod)
        workloads.update(dict.fromkeys(found))
        if problem:
            remedy = "stop it yourself, then make the plan again"
            unstoppable.append(Finding(where=f"pods/{namespace}/{pod['metadata']['name']}", message=problem, remedy=remedy))
    order = list(STOPPED_BY)
    return Users(
        pods=tuple(pods),
        workloads=tuple(sorted(workloads, key=lambda one: (order.index(one.kind), one.name))),
        unstoppable=tuple(unstoppable),
    )


def _above(cluster: Cluster, pod: Manifest) -> tuple[list[Workload], str]:
    """Return what must be stopped for a pod to go, and why that is not enough."""
    namespace, below, chain = pod["metadata"]["namespace"], pod, list[Workload]()
    while True:
        owner = next((one for one in children(below, "metadata", "ownerReferences") if one.get("controller")), None)
        kind = _stoppable(owner) if owner else None
        if owner is None or kind is None:
            break
        chain.append(Workload(kind=kind, namespace=namespace, name=str(owner["name"])))
        try:
            below = cluster.get(kind, chain[-1].name, namespace=namespace)
        except NotFound:
            break
    if not chain:
        maker = f"a {owner.get('kind')} ({owner.get('name')}) made it" if owner else "no controller made it"
        return [], f"mounts the claim, and cannot be stopped: {maker}"
    jobs = [one for one in chain if one.kind in (CRON_JOB, JOB)]
    return jobs or chain[-1:], ""


def _stoppable(owner: Manifest) -> Kind | None:
    group = str(owner.get("apiVersion", "")).rpartition("/")[0]
    return next((kind for kind in STOPPED_BY if (kind.group, kind.kind) == (group, owner.get("kind"))), None)


def remembered(manifest: Manifest) -> dict[str, Any]:
    """Return what stands on a workload that was stopped: `run`, and the field as it was; nothing where it was not stopped. Pure."""
    text = child(manifest, "metadata", "annotations").get(ANNOTATION_BEFORE)
    try:
        found = orjson.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def as_before(manifest: Manifest) -> Manifest:
    """Return a workload as it was before it was stopped; anything else as it is. Pure."""
    before = remembered(manifest)
    fields = {field: before[field] for field in USUAL if field in before}
    return {**manifest, "spec": {**child(manifest, "spec"), **fields}} if fields else manifest


def stop(cluster: Cluster, workload: Workload, run: str, *, may_take_over: bool = False) -> None:
    """Stop a workload, and write onto it how it was. One that this restore stopped before keeps what stands there.

    Raises: Conflict (another restore has stopped it, and may be at work), NotFound, AccessDenied, and what is transient.
    """
    field, value = STOPPED_BY[workload.kind]

    def stopped(found: Manifest) -> Manifest | None:
        before = remembered(found)
        if before and before.get("run") != run and not may_take_over:
            raise Conflict(
                f"restore {before.get('run')} has stopped it",
                where=str(workload),
                hint="wait for that restore, or end it; then restore again",
            )
        now = child(found, "spec").get(field, USUAL[field])
        if before and before.get("run") == run and now == value:
            return None
        mark = {**({field: now} | before), "run": run}
        return {"metadata": {"annotations": {ANNOTATION_BEFORE: orjson.dumps(mark).decode()}}, "spec": {field: value}}

    _change(cluster, workload, stopped)


def start(cluster: Cluster, workload: Workload) -> None:
    """Start a workload as it was, and take the mark away. One without a mark is left as it is."""
    field, _ = STOPPED_BY[workload.kind]

    def started(found: Manifest) -> Manifest | None:
        before = remembered(found)
        if not before:
            return None
        return {"metadata": {"annotations": {ANNOTATION_BEFORE: None}}, "spec": {field: before.get(field, USUAL[field])}}

    _change(cluster, workload, started)


def stopped_by(cluster: Cluster, namespace: str, run: str) -> Iterator[Workload]:
    """Yield the workloads of a namespace that a restore has stopped. Raises what the cluster raises."""
    for kind in STOPPED_BY:
        for found in _all(cluster, kind, namespace):
            if remembered(found).get("run") == run:
                yield Workload(kind=kind, namespace=namespace, name=found["metadata"]["name"])


def _all(cluster: Cluster, kind: Kind, namespace: str) -> Iterator[Manifest]:
    try:
        yield from cluster.list(kind, namespace=namespace)
    except NotFound:
        return


def _change(cluster: Cluster, workload: Workload, patch: Any) -> None:
    """Read a workload, and write what follows from it; again where somebody else wrote in between. One that is gone needs nothing."""
    for attempt in range(TRIES):
        try:
            found = cluster.get(workload.kind, workload.name, namespace=workload.namespace)
        except NotFound:
            return
        wanted = patch(found)
        if wanted is None:
            return
        metadata = {key: found["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
        document = {
            "apiVersion": workload.kind.api_version,
            "kind": workload.kind.kind,
            **wanted,
            "metadata": {**metadata, **wanted["metadata"]},
        }
        try:
            cluster.apply(workload.kind, document, verb=Verb.MERGE)
        except Conflict:
            if attempt == TRIES - 1:
                raise
        else:
            return


def unexpected(found: Users, allowed: Iterable[str]) -> Sequence[str]:
    """Return the workloads that mount the claims now and that a plan does not name. Pure."""
    known = set(allowed)
    return [str(workload) for workload in found.workloads if str(workload) not in known]


def demand_stoppable(found: Users) -> None:
    """Raise PermanentError where a pod mounts a claim and cannot be stopped."""
    if found.unstoppable:
        first = found.unstoppable[0]
        raise PermanentError(first.message, where=first.where, hint=first.remedy)
