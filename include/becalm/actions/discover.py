"""The selection becomes applications with their volumes and hooks, by name. `plan` is pure: it decides over an inventory that was read before.

Nothing here freezes, cuts or reads data. Whatever is selected and cannot be captured is named in a finding; whatever is left out
is named with the rule that left it out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.actions import inventory
from becalm.actions.handover import Application, Discovered, VolumePlan
from becalm.actions.hooks import brought_hooks, policy_hooks
from becalm.errors import NothingSelected
from becalm.model import Excluded, Finding, VolumeRef, VolumeUse
from becalm.policy import globs
from becalm.policy.select import Selector, VolumeFacts, volume_rule
from becalm.policy.spec import QuiesceScope

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from becalm.actions.handover import HookPlan, Ports
    from becalm.actions.inventory import ClaimFacts, Inventory, NamespaceFacts, PodFacts
    from becalm.policy.spec import ProtectionPolicy

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
        if planned.use is VolumeUse.SKIP:
            excluded.append(Excluded(what=f"volumes/{planned.volume}", by=planned.by, because=planned.because))
        elif planned.use is VolumeUse.SNAPSHOT and not planned.snapshot_class:
            findings.append(_no_class(planned))
        else:
            volumes.append(planned)
    return Discovered(
        applications=_applications(policy, names, volumes, hooks),
        excluded=tuple(excluded),
        findings=(*seen.findings, *findings, *brought.findings),
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
    if not claim.bound:
        return Excluded(what=what, by="unbound", because="the claim has no volume yet, so it has no data")
    return None


def _volume(policy: ProtectionPolicy, claim: ClaimFacts, seen: Inventory) -> VolumePlan:
    """Say how one bound claim is captured."""
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
        volume=VolumeRef(namespace=claim.namespace, claim=claim.name),
        use=choice.use,
        by=choice.by,
        because=choice.because,
        storage_class=claim.storage_class,
        driver=driver,
        snapshot_class=_snapshot_class(driver, seen),
        mode=claim.mode,
        size_bytes=claim.size_bytes,
        node=_node_of(claim, seen.pods),
    )


def _snapshot_class(driver: str, seen: Inventory) -> str:
    """Return the snapshot class of a driver: the default one first, then by name."""
    return next((item.name for item in seen.snapshot_classes if driver and item.driver == driver), "")


def _node_of(claim: ClaimFacts, pods: Iterable[PodFacts]) -> str:
    users = [pod for pod in pods if pod.namespace == claim.namespace and claim.name in pod.claims and pod.node]
    return min(users, key=lambda pod: (not pod.running, pod.name)).node if users else ""


def _no_class(planned: VolumePlan) -> Finding:
    storage = f"the driver {planned.driver}" if planned.driver else f"the storage class {planned.storage_class or '(none)'}"
    return Finding(
        where=f"volumes/{planned.volume}",
        message=f"no-snapshot-class: no VolumeSnapshotClass serves {storage}",
        remedy="make one for this driver, or write a rule under spec.volumes.rules with use: live, or use: skip and because",
    )


def _applications(
    policy: ProtectionPolicy, names: Sequence[str], volumes: Sequence[VolumePlan], hooks: Sequence[HookPlan]
) -> tuple[Application, ...]:
    if policy.spec.quiesce.scope is QuiesceScope.POLICY:
        return (Application(name=WHOLE_POLICY, namespaces=tuple(names), volumes=tuple(volumes), hooks=tuple(hooks)),)
    return tuple(
        Application(
            name=name,
            namespaces=(name,),
            volumes=tuple(item for item in volumes if item.volume.namespace == name),
            hooks=tuple(hook for hook in hooks if hook.namespace == name),
        )
        for name in names
    )
