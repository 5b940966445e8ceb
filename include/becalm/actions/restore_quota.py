"""Whether the quotas of the target's namespaces have room for what a plan would create. Pure.

It sums what the objects ask for themselves and what the pods of workloads will ask for. What a controller makes beside that it cannot
know, so a quota that seems to suffice may still refuse.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING

from becalm.actions.restore_steps import Action
from becalm.kube.overlay import SCALED, pod_specs
from becalm.kube.patching import PatchFailed
from becalm.kube.quantities import amount, written
from becalm.kube.rules import child, children, group_kind
from becalm.model import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from becalm.actions.restore_live import Live
    from becalm.actions.restore_shape import Shape
    from becalm.actions.restore_source import SavedObject
    from becalm.actions.restore_steps import RestorePlan
    from becalm.model import Manifest


def over_quota(plan: RestorePlan, selected: Sequence[SavedObject], live: Live, shape: Shape) -> Iterator[Finding]:
    """Yield the quotas that would refuse a part of the plan."""
    quotas = [quota for quota in live.quotas if not child(quota, "spec").get("scopes") and not child(quota, "spec").get("scopeSelector")]
    if not quotas:
        return
    needed = _needed(plan, selected, shape, {str(child(quota, "metadata").get("namespace")) for quota in quotas})
    for quota in quotas:
        metadata = child(quota, "metadata")
        asked, used = needed.get(str(metadata.get("namespace")), {}), child(quota, "status", "used")
        for name, hard in child(quota, "spec", "hard").items():
            want, left = asked.get(_canonical(name), Decimal(0)), amount(hard) - amount(used.get(name, 0))
            if want > left:
                yield Finding(
                    where=f"resourcequotas/{metadata.get('namespace')}/{metadata.get('name')}",
                    message=f"leaves {written(max(left, Decimal(0)))} of {name}, and the restore needs {written(want)}",
                    remedy="raise the quota, free some of it, or select less",
                )


def _canonical(name: str) -> str:
    """Return one name for the several that a quota has for the same."""
    if name in {"cpu", "memory", "ephemeral-storage"}:
        return f"requests.{name}"
    return name.removeprefix("count/")


def _needed(plan: RestorePlan, selected: Sequence[SavedObject], shape: Shape, namespaces: set[str]) -> Mapping[str, Mapping[str, Decimal]]:
    """Return what the plan's new objects ask for, by namespace and name."""
    new = {step.source: step for step in plan.steps_to(Action.CREATE) if step.target.namespace in namespaces}
    needed: dict[str, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for saved in selected:
        step = new.get(saved.ref)
        if step is None:
            continue
        try:
            manifest = shape.manifest(saved)
        except PatchFailed:
            continue
        for name, want in _asked(manifest, str(step.api)):
            needed[str(step.target.namespace)][name] += want
    return needed


def _asked(manifest: Manifest, kind: str) -> Iterator[tuple[str, Decimal]]:
    yield kind, Decimal(1)
    spec, what = child(manifest, "spec"), group_kind(manifest)
    if what == "PersistentVolumeClaim":
        size = amount(child(spec, "resources", "requests").get("storage", 0))
        yield "requests.storage", size
        storage_class = spec.get("storageClassName")
        if storage_class:
            yield f"{storage_class}.storageclass.storage.k8s.io/requests.storage", size
            yield f"{storage_class}.storageclass.storage.k8s.io/persistentvolumeclaims", Decimal(1)
    elif what == "Service" and spec.get("type") in {"LoadBalancer", "NodePort"}:
        yield "services.nodeports", Decimal(len(children(manifest, "spec", "ports")))
        if spec["type"] == "LoadBalancer":
            yield "services.loadbalancers", Decimal(1)
    count = _pods(manifest, what)
    if not count:
        return
    if what != "Pod":
        yield "pods", Decimal(count)
    for pod in pod_specs(manifest):
        for name, want in _resources(pod):
            yield name, want * count


def _pods(manifest: Manifest, what: str) -> int:
    """Return how many pods an object makes at once."""
    spec = child(manifest, "spec")
    if what in SCALED:
        count = spec.get("replicas", 1)
        return count if isinstance(count, int) else 1
    if what == "Job.batch" and not spec.get("suspend"):
        count = spec.get("parallelism", 1)
        return count if isinstance(count, int) else 1
    return 1 if what == "Pod" else 0


def _resources(pod: Manifest) -> Iterator[tuple[str, Decimal]]:
    """Yield what the containers of a pod ask for; a limit without a request asks for as much."""
    for container in children({"spec": pod}, "spec", "containers"):
        limits, requests = child(container, "resources", "limits"), child(container, "resources", "requests")
        for name, value in {**limits, **requests}.items():
            yield f"requests.{name}", amount(value)
        for name, value in limits.items():
            yield f"limits.{name}", amount(value)
