"""The selection becomes applications with their volumes and hooks, by name. `plan` is pure: it decides over an inventory that was read before.

Nothing here freezes, cuts or reads data. Whatever is selected and cannot be captured is named in a finding; whatever is left out
is named with the rule that left it out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.actions import grouping, inventory
from becalm.actions.handover import Application, Discovered, VolumePlan
from becalm.actions.hooks import brought_hooks, policy_hooks
from becalm.errors import NothingSelected
from becalm.model import Excluded, Finding, VolumeUse
from becalm.policy import globs
from becalm.policy.select import Selector, VolumeFacts, volume_rule
from becalm.policy.spec import QuiesceScope

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from becalm.actions.handover import HookPlan, Ports
    from becalm.actions.inventory import ClaimFacts, Inventory, NamespaceFacts, PodFacts
    from becalm.policy.spec import ProtectionPolicy

ENVIRONMENT = "becalm.dev/environment"
"""The label by which a namespace says which environment it belongs to."""
ONE_POD = "ReadWriteOncePod"
NOT_A_CLAIM = "not a claim"
"""The rule by which a pod's own volumes are not captured."""
WHOLE_POLICY = "policy"
"""The name of the one application of a policy that freezes all at once."""


def execute(policy: ProtectionPolicy, ports: Ports) -> Discovered:
    """Read the cluster once and resolve the selection. Raises: NothingSelected, and what the cluster raises."""
    found = inventory.namespaces(ports.cluster)
    selected = frozenset(selected_namespaces(policy, found, own=ports.settings.namespace))
    return plan(policy, inventory.read(ports.cluster, found, selected), own=ports.settings.namespace)


def plan(policy: ProtectionPolicy, seen: Inventory, *, own: str = "becalm") -> Discovered:
    """Decide what will be captured, and how. Pure. `own` is Becalm's own namespace. Raises: NothingSelected."""
    names = selected_namespaces(policy, seen.namespaces, own=own)
    if not names:
        raise NothingSelected(
            f"the policy selects no namespace that exists: {', '.join(policy.spec.select.namespaces)}",
            where="spec.select.namespaces",
            hint="name a namespace that exists, or mend the pattern",
        )
    excluded, findings = _namespaces_left(policy, seen.namespaces, own)
    brought = brought_hooks(policy.spec.quiesce, seen.pods)
    excluded += brought.excluded
    hooks = (*policy_hooks(policy.spec.quiesce, names, seen.pods), *brought.hooks)
    volumes: list[VolumePlan] = []
    for claim in sorted(seen.claims, key=lambda claim: (claim.namespace, claim.name)):
        left_out = _claim_left(policy, claim, names)
        if left_out:
            excluded += [left_out] if left_out.by else []
            continue
        planned = _volume(policy, claim, seen)
        hindered = _hindered(planned, claim, seen)
        if planned.use is VolumeUse.SKIP:
            excluded.append(Excluded(what=f"volumes/{planned.volume}", by=planned.by, because=planned.because))
        elif hindered:
            findings.append(hindered)
        else:
            volumes.append(planned)
    excluded += _beside(names, seen.pods)
    return Discovered(
        applications=_applications(policy, names, volumes, hooks, seen),
        excluded=tuple(excluded),
        findings=(*seen.findings, *findings, *brought.findings),
        warnings=_other_environment(policy, names, seen.namespaces),
        cluster_uid=seen.cluster_uid,
        server_version=seen.server_version,
    )


def selected_namespaces(policy: ProtectionPolicy, found: Iterable[NamespaceFacts], *, own: str) -> list[str]:
    """Return the names of the selected namespaces that live, in their order. Becalm's own is meant only where it is named outright."""
    selector = Selector.of(policy.spec.select)
    named = set(policy.spec.select.namespaces)
    return sorted(
        item.name
        for item in found
        if selector.namespace(item.name, item.labels) and not item.terminating and (item.name != own or own in named)
    )


def _namespaces_left(policy: ProtectionPolicy, found: Sequence[NamespaceFacts], own: str) -> tuple[list[Excluded], list[Finding]]:
    """Name the namespaces that a pattern means and that stay out, and those named outright that are not there."""
    selector = Selector.of(policy.spec.select)
    named = {pattern for pattern in policy.spec.select.namespaces if not globs.is_glob(pattern)}
    excluded: list[Excluded] = []
    findings = [
        Finding(
            where=f"namespaces/{name}", message="the namespace does not exist", remedy="mend spec.select.namespaces, or make the namespace"
        )
        for name in sorted(named - {item.name for item in found})
    ]
    for item in found:
        what = f"namespaces/{item.name}"
        meant = any(globs.matches(pattern, item.name) for pattern in policy.spec.select.namespaces)
        choice = selector.namespace(item.name, item.labels)
        if not meant:
            continue
        if not choice:
            excluded.append(Excluded(what=what, by=choice.by, because=choice.because))
        elif item.terminating:
            excluded.append(Excluded(what=what, by="terminating", because="the namespace is being deleted"))
        elif item.name == own and own not in named:
            excluded.append(
                Excluded(what=what, by="own namespace", because="Becalm's own namespace is captured only where it is named outright")
            )
    return excluded, findings


def _claim_left(policy: ProtectionPolicy, claim: ClaimFacts, names: Sequence[str]) -> Excluded | None:
    """Say why a claim has no volume to capture; without a rule where it was never meant."""
    what = f"volumes/{claim.namespace}/{claim.name}"
    if claim.namespace not in names:
        return Excluded(what=what, by="")
    choice = Selector.of(policy.spec.select).object({"labels": dict(claim.labels)})
    if not choice:
        return Excluded(what=what, by=choice.by, because=choice.because)
    if claim.terminating:
        return Excluded(what=what, by="terminating", because="the claim is being deleted")
    if not claim.bound and not claim.lost:
        return Excluded(what=what, by="unbound", because="the claim has no volume yet, so it has no data")
    return None


def _beside(names: Sequence[str], pods: Iterable[PodFacts]) -> list[Excluded]:
    """Name what pods keep outside claims, each thing once for the pods of a namespace that are alike in it."""
    keeping: dict[tuple[str, str], list[str]] = {}
    for pod in pods:
        if pod.namespace in names:
            for kept in dict.fromkeys(pod.beside):
                keeping.setdefault((pod.namespace, kept), []).append(pod.name)
    return [
        Excluded(
            what=f"pods/{namespace}/{min(of)}: {kept}" + (f", and {len(of) - 1} pods more" if len(of) > 1 else ""),
            by=NOT_A_CLAIM,
            because="only claims are captured: what must not be lost belongs on one",
        )
        for (namespace, kept), of in sorted(keeping.items())
    ]


def _volume(policy: ProtectionPolicy, claim: ClaimFacts, seen: Inventory) -> VolumePlan:
    """Say how one claim is captured."""
    driver = seen.driver_of.get(claim.volume) or seen.provisioner_of.get(claim.storage_class, "")
    facts = VolumeFacts(
        namespace=claim.namespace,
        claim=claim.name,
        labels=claim.labels,
        storage_class=claim.storage_class,
        driver=driver,
        size_bytes=claim.size_bytes,
    )
    choice = volume_rule(policy.spec.volumes, facts)
    return VolumePlan(
        volume=claim.ref,
        use=choice.use,
        by=choice.by,
        because=choice.because,
        storage_class=claim.storage_class,
        driver=driver,
        snapshot_class=choice.snapshot_class or _snapshot_class(driver, seen),
        mode=claim.mode,
        size_bytes=claim.size_bytes,
        node=_node_of(claim, seen.pods),
        handle=seen.handle_of.get(claim.volume, ""),
    )


def _snapshot_class(driver: str, seen: Inventory) -> str:
    """Return the snapshot class of a driver: the default one first, then by name."""
    return next((item.name for item in seen.snapshot_classes if driver and item.driver == driver), "")


def _node_of(claim: ClaimFacts, pods: Iterable[PodFacts]) -> str:
    """Return where the claim is mounted: the node of a running pod first. Nothing: no pod that mounts it has a node yet."""
    users = [pod for pod in _users(claim, pods) if pod.node]
    return min(users, key=lambda pod: (not pod.running, pod.name)).node if users else ""


def _users(claim: ClaimFacts, pods: Iterable[PodFacts]) -> list[PodFacts]:
    return [pod for pod in pods if pod.namespace == claim.namespace and claim.name in pod.claims]


def _hindered(planned: VolumePlan, claim: ClaimFacts, seen: Inventory) -> Finding | None:
    """Say why a volume cannot be captured as the policy asks."""
    where = f"volumes/{planned.volume}"
    if claim.lost:
        return Finding(
            where=where, message=f"its volume {claim.volume} is gone (the claim is Lost)", remedy="restore the volume, or delete the claim"
        )
    if planned.use is VolumeUse.LIVE and ONE_POD in claim.access and (users := _users(claim, seen.pods)):
        return Finding(
            where=where,
            message=f"it cannot be read live: it is {ONE_POD}, and the pod {users[0].name} has it",
            remedy="write a rule with use: snapshot, or use: skip and because",
        )
    return _no_class(planned, seen) if planned.use is VolumeUse.SNAPSHOT else None


def _no_class(planned: VolumePlan, seen: Inventory) -> Finding | None:
    """Say that no snapshot class serves the volume, or that the one that a rule names does not."""
    where = f"volumes/{planned.volume}"
    by_name = {item.name: item for item in seen.snapshot_classes}
    found = by_name.get(planned.snapshot_class)
    if found and found.driver == planned.driver:
        return None
    if planned.snapshot_class:
        return Finding(
            where=where,
            message=f"the snapshot class {planned.snapshot_class} of {planned.by} "
            + (f"is of the driver {found.driver}, the volume of {planned.driver or 'none'}" if found else "does not exist"),
            remedy="mend spec." + planned.by + ".snapshotClass",
        )
    storage = f"the driver {planned.driver}" if planned.driver else f"the storage class {planned.storage_class or '(none)'}"
    others = ", ".join(f"{item.name} ({item.driver})" for item in seen.snapshot_classes[:3])
    return Finding(
        where=where,
        message=f"no-snapshot-class: no VolumeSnapshotClass serves {storage}" + (f"; there are {others}" if others else ""),
        remedy="make one for this driver, or write a rule under spec.volumes.rules with use: live, or use: skip and because",
    )


def _other_environment(policy: ProtectionPolicy, names: Sequence[str], found: Sequence[NamespaceFacts]) -> tuple[Finding, ...]:
    """Name the selected namespaces that say they belong to another environment than the policy's."""
    mine = policy.spec.environment
    return tuple(
        Finding(
            where=f"namespaces/{item.name}",
            message=f"it is labelled {ENVIRONMENT}={item.labels[ENVIRONMENT]}, and the policy is for {mine}",
            remedy="select it in a policy of its own environment, or mend the label",
        )
        for item in found
        if item.name in names and item.labels.get(ENVIRONMENT, mine) != mine
    )


def _applications(
    policy: ProtectionPolicy, names: Sequence[str], volumes: Sequence[VolumePlan], hooks: Sequence[HookPlan], seen: Inventory
) -> tuple[Application, ...]:
    """Put together what is frozen and cut together."""
    if policy.spec.quiesce.scope is QuiesceScope.POLICY:
        return (_application(WHOLE_POLICY, names, volumes, hooks, seen),)
    return tuple(_application(name, (name,), volumes, hooks, seen) for name in names)


def _application(
    name: str, namespaces: Sequence[str], volumes: Sequence[VolumePlan], hooks: Sequence[HookPlan], seen: Inventory
) -> Application:
    mine = tuple(item for item in volumes if item.volume.namespace in namespaces)
    together = grouping.group(mine, seen.claims, seen.group_classes)
    return Application(
        name=name,
        namespaces=tuple(namespaces),
        volumes=mine,
        hooks=tuple(hook for hook in hooks if hook.namespace in namespaces),
        groups=together.groups,
        notes=together.notes,
    )
