"""Whether the account of the connection may do what a plan says, asked of the cluster before anything starts.

It asks for everything at once first, then kind by kind for the whole cluster, and only then namespace by namespace. What the cluster
cannot say is told as such: admission may still refuse what the rights allow.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from becalm.actions.restore_steps import ACTING, Action, VolumeAction
from becalm.errors import AccessDenied, InvalidObject, NotFound
from becalm.kube.base import Kind, Verb
from becalm.kube.kinds import CLAIM, POD, SECRET
from becalm.kube.rules import child
from becalm.model import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from becalm.actions.handover import Ports
    from becalm.actions.restore_steps import RestorePlan

ASKERS = 16
REVIEW = Kind(
    group="authorization.k8s.io", version="v1", resource="selfsubjectaccessreviews", kind="SelfSubjectAccessReview", namespaced=False
)
VERBS: dict[Action, tuple[str, ...]] = {
    Action.CREATE: ("create",),
    Action.LINK: ("patch",),
    Action.MERGE: ("patch",),
    Action.REPLACE: ("update",),
    Action.RECREATE: ("delete", "create"),
}
FILLING = ((POD, ("create", "get", "delete")), (SECRET, ("create", "delete")), (CLAIM, ("get", "patch")))
"""What movers need in the namespace of the claim that they fill."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Right:
    """One thing that the account must be allowed to do; without a namespace, in the whole cluster."""

    verb: str
    group: str
    resource: str
    namespace: str = ""

    def __str__(self) -> str:
        """`create deployments.apps in shop`."""
        kind = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {kind}" + (f" in {self.namespace}" if self.namespace else "")


def examine(plan: RestorePlan, ports: Ports) -> RestorePlan:
    """Complete a plan with the rights that are missing for it. Nothing is written."""
    needed = set(_needed(plan))
    if not needed:
        return plan
    try:
        if _may(Right(verb="*", group="*", resource="*"), ports):
            return plan
        everywhere = {replace(right, namespace="") for right in needed}
        granted = everywhere - set(_refused(everywhere, ports))
        open_still = {right for right in needed if right.namespace and replace(right, namespace="") not in granted}
        refused = [*_refused(open_still, ports), *sorted(right for right in needed if not right.namespace and right not in granted)]
    except (NotFound, AccessDenied, InvalidObject) as error:
        message = f"the cluster does not say what the account may do: {error.message}"
        unknown = Finding(where="rights", message=message, remedy="what it may not is refused half way", severity=Severity.WARNING)
        return replace(plan, findings=(*plan.findings, unknown))
    missing = (
        Finding(where="rights", message=f"the account may not {right}", remedy="grant it to the account of the connection")
        for right in refused
    )
    return replace(plan, blocking=(*plan.blocking, *missing))


def _needed(plan: RestorePlan) -> Iterator[Right]:
    for step in plan.steps_to(*ACTING):
        for verb in VERBS[step.action]:
            yield Right(verb=verb, group=step.source.group, resource=step.source.resource, namespace=step.target.namespace or "")
    for volume in plan.volumes_to(VolumeAction.FILL, VolumeAction.REPLACE):
        for kind, verbs in FILLING:
            for verb in verbs:
                yield Right(verb=verb, group=kind.group, resource=kind.resource, namespace=volume.target.namespace)


def _refused(rights: Iterable[Right], ports: Ports) -> list[Right]:
    """Return the rights that the account does not have."""
    asked = sorted(rights)
    with ThreadPoolExecutor(max_workers=ASKERS) as pool:
        return [right for right, granted in zip(asked, pool.map(lambda right: _may(right, ports), asked), strict=True) if not granted]


def _may(right: Right, ports: Ports) -> bool:
    attributes = {"verb": right.verb, "group": right.group, "resource": right.resource, "namespace": right.namespace}
    document = {"apiVersion": REVIEW.api_version, "kind": REVIEW.kind, "metadata": {}, "spec": {"resourceAttributes": attributes}}
    return bool(child(ports.cluster.apply(REVIEW, document, verb=Verb.CREATE), "status").get("allowed"))
