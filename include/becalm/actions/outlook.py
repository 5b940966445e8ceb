"""What a run of a policy would do, and what it would not: `becalm plan`, and the log of the task `discover`. Nothing is touched.

It asks the cluster and the bucket, and writes to neither. What a hook would do is not tried: only where it would run is looked up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from becalm.actions import anomalies, discover, quiesce
from becalm.catalog.points import last_good, points
from becalm.clock import format_time
from becalm.errors import BecalmError, NoRepository, PolicyFinding
from becalm.kube.kinds import NODE, SERVICE
from becalm.model import Excluded, VolumeUse
from becalm.policy.environments import judge
from becalm.repository.reader import open_repository
from becalm.storage.wrappers import ReadOnly

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from becalm.actions.handover import Application, Discovered, HookPlan, Ports, VolumePlan
    from becalm.model import VolumeRef
    from becalm.policy.environments import Limits
    from becalm.policy.spec import ProtectionPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class HookOutlook:
    """One hook, where it would run now, and where it could not."""

    hook: HookPlan
    places: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """One application: what would be frozen, and how each volume would be cut."""

    application: Application
    hooks: tuple[HookOutlook, ...] = ()
    left_out: tuple[Excluded, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What a run would do."""

    policy: str
    environment: str
    discovered: Discovered
    prospects: tuple[Prospect, ...]
    before: str = ""
    """The last good recovery point, by which sizes are estimated."""
    sizes: Mapping[VolumeRef, int]
    """The bytes of each volume in it."""
    limits: tuple[PolicyFinding, ...] = ()
    """What the policy lacks in its environment."""
    remarks: tuple[str, ...] = ()
    """What could not be looked up."""

    @property
    def partial(self) -> tuple[str, ...]:
        """What would make the recovery point partial, or keep it from being made."""
        return tuple(str(finding) for finding in self.discovered.findings)


def execute(policy: ProtectionPolicy, ports: Ports, *, limits: Limits, discovered: Discovered | None = None) -> Outlook:
    """Look ahead. Raises what `discover` raises; what is only for information and cannot be had is a remark."""
    ports = replace(ports, store=ReadOnly(ports.store))
    found = discovered or discover.execute(policy, ports)
    remarks: list[str] = []
    before, sizes = _before(policy, ports, remarks)
    endpoint = ports.settings.store_environment.get("AWS_ENDPOINT_URL", "")
    return Outlook(
        policy=policy.name,
        environment=policy.spec.environment,
        discovered=found,
        prospects=tuple(_prospect(application, ports, remarks) for application in found.applications),
        before=before,
        sizes=sizes,
        limits=judge(policy, limits, endpoint=endpoint, hosts=_hosts(ports) if endpoint else frozenset()),
        remarks=tuple(remarks),
    )


def _prospect(application: Application, ports: Ports, remarks: list[str]) -> Prospect:
    """Look up where hooks would run now."""
    hooks: list[HookOutlook] = []
    left_out: list[Excluded] = []
    for hook in application.hooks:
        try:
            found = quiesce.plan(replace(application, hooks=(hook,)), ports)
        except BecalmError as error:
            remarks.append(f"where {hook.name} would run could not be looked up: {error}")
            continue
        places = tuple(f"{place.hook.namespace}/{place.pod} ({place.container})" for place in found.places)
        hooks.append(HookOutlook(hook=hook, places=places, missing=tuple(str(miss) for miss in found.missing)))
        left_out += found.left_out
    return Prospect(application=application, hooks=tuple(hooks), left_out=tuple(left_out))


def _before(policy: ProtectionPolicy, ports: Ports, remarks: list[str]) -> tuple[str, dict[VolumeRef, int]]:
    """Read how large volumes were in the last good point."""
    try:
        repository = open_repository(ports.store, ports.password)
        good = last_good(points(repository, policy.name))
        return (f"{good.id[:8]} of {format_time(good.cut)}", anomalies.sizes_in(repository, good)) if good else ("", {})
    except NoRepository:
        remarks.append("there is no repository yet: becalm init makes it")
    except BecalmError as error:
        remarks.append(f"the last recovery point could not be read, so no sizes are known: {error}")
    return "", {}


def _hosts(ports: Ports) -> frozenset[str]:
    """Return the addresses that are the cluster's own: of its nodes and of its Services. Without the right to list them, none."""
    found: set[str] = set()
    for kind in (NODE, SERVICE):
        try:
            for item in ports.cluster.list(kind):
                found.update(str(one.get("address")) for one in (item.get("status") or {}).get("addresses") or ())
                found.update(map(str, (item.get("spec") or {}).get("clusterIPs") or ()))
        except BecalmError:
            continue
    return frozenset(found)


def sentences(outlook: Outlook) -> Iterator[str]:
    """Say it for people, one line for each thing. Pure."""
    yield f"policy {outlook.policy}, environment {outlook.environment}"
    for prospect in outlook.prospects:
        yield from _application(prospect, outlook)
    yield from (f"left out: {item.what}, by {item.by}" + (f": {item.because}" if item.because else "") for item in _left_out(outlook))
    yield from (f"not captured: {finding}" for finding in outlook.discovered.findings)
    yield from (f"{finding.severity}: {finding}" for finding in outlook.discovered.warnings)
    yield from (f"against the limits: {finding}" for finding in outlook.limits)
    yield from (f"remark: {remark}" for remark in outlook.remarks)


def _left_out(outlook: Outlook) -> tuple[Excluded, ...]:
    return (*outlook.discovered.excluded, *(item for prospect in outlook.prospects for item in prospect.left_out))


def _application(prospect: Prospect, outlook: Outlook) -> Iterator[str]:
    application = prospect.application
    yield f"application {application.name}: namespaces {', '.join(application.namespaces)}"
    for item in application.volumes:
        size = outlook.sizes.get(item.volume)
        known = f"{_bytes(item.size_bytes)} claimed" + (f", {_bytes(size)} in {outlook.before}" if size is not None else "")
        yield f"  volume {item.volume}: {how(item, application)}, by {item.by}, {known}"
    yield from (f"  note: {note}" for note in application.notes)
    for hook in prospect.hooks:
        where = ", ".join(hook.places) or "nowhere"
        yield f"  hook {hook.hook.name} ({hook.hook.origin}): would run in {where}, at most {hook.hook.timeout_seconds:g} s"
        yield from (f"  hook {hook.hook.name} is missed: {miss}" for miss in hook.missing)
    if application.volumes and not application.hooks:
        yield "  no hook stills it: its volumes will be as after a crash"


def how(item: VolumePlan, application: Application) -> str:
    """Say how a volume would be cut. Pure."""
    if item.use is VolumeUse.LIVE:
        return "read live, while it changes" + (f", on the node {item.node}" if item.node else "")
    group = next((group for group in application.groups if item.volume in group.volumes), None)
    if group is not None:
        return f"cut together with {len(group.volumes) - 1} more by the group class {group.group_class}"
    return f"cut by itself by the snapshot class {item.snapshot_class}"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
