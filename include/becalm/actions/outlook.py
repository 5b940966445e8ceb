"""What a run of a policy would do, and what it would not: `becalm plan`, and the log of the task `discover`. Nothing is touched.

It asks the cluster and the bucket, and writes to neither. What a hook would do is not tried: only where it would run is looked up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from becalm.actions import anomalies, discover, listing, quiesce
from becalm.catalog.points import last_good, points
from becalm.clock import format_time
from becalm.errors import BecalmError, NoRepository, PolicyFinding
from becalm.kube.kinds import NODE, SERVICE
from becalm.model import Excluded, VolumeUse
from becalm.policy.environments import judge
from becalm.quiesce import blueprint
from becalm.repository.reader import open_repository
from becalm.storage.wrappers import ReadOnly

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from becalm.actions.handover import Application, Discovered, HookPlan, Ports, VolumePlan
    from becalm.actions.listing import Surveyed
    from becalm.model import Finding, VolumeRef
    from becalm.policy.environments import Limits
    from becalm.policy.spec import ProtectionPolicy

MOST_CERTIFICATES = 20
"""So many are named to a person, those that end first; of the others the number is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HookOutlook:
    """One hook, where it would run now, and where it could not."""

    hook: HookPlan
    places: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def untested(self) -> bool:
        """Whether its blueprint was never run against the real program."""
        return bool(self.hook.use) and not blueprint.find(self.hook.use).tested


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
    surveyed: Surveyed | None = None
    """How many objects there are of each kind, where they were counted."""
    limits: tuple[PolicyFinding, ...] = ()
    """What the policy lacks in its environment."""
    remarks: tuple[str, ...] = ()
    """What could not be looked up."""

    @property
    def partial(self) -> tuple[str, ...]:
        """What would make the recovery point partial, or keep it from being made."""
        return tuple(str(finding) for finding in self.findings)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What would not be captured although it is selected."""
        return (*self.discovered.findings, *(self.surveyed.findings if self.surveyed else ()))


def execute(
    policy: ProtectionPolicy, ports: Ports, *, limits: Limits, discovered: Discovered | None = None, count: bool = False
) -> Outlook:
    """Look ahead. Raises what `discover` raises; what is only for information and cannot be had is a remark.

    With `count`, all objects are listed as a capture lists them, and counted: that takes the cluster as long as a capture does.
    """
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
        surveyed=_survey(policy, found, ports, remarks) if count else None,
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


def _survey(policy: ProtectionPolicy, found: Discovered, ports: Ports, remarks: list[str]) -> Surveyed | None:
    """Count the objects of all applications at once."""
    namespaces = tuple(dict.fromkeys(name for application in found.applications for name in application.namespaces))
    volumes = [item for application in found.applications for item in application.volumes]
    classes = tuple(sorted({item.snapshot_class for item in volumes if item.snapshot_class}))
    scope = listing.Scope(namespaces=namespaces, selection=policy.spec.select, snapshot_classes=classes)
    try:
        return listing.survey(scope, cluster=ports.cluster, clock=ports.clock)
    except BecalmError as error:
        remarks.append(f"the objects could not be counted: {error}")
        return None


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
    if outlook.surveyed:
        yield from _counted(outlook.surveyed)
    yield from (f"left out: {item.what}, by {item.by}" + (f": {item.because}" if item.because else "") for item in _left_out(outlook))
    yield from (f"not captured: {finding}" for finding in outlook.findings)
    yield from (f"{finding.severity}: {finding}" for finding in outlook.discovered.warnings)
    yield from (f"against the limits: {finding}" for finding in outlook.limits)
    yield from (f"remark: {remark}" for remark in outlook.remarks)


def _counted(surveyed: Surveyed) -> Iterator[str]:
    """Say how many objects of which kinds there are, and until when certificates hold."""
    yield f"objects: {sum(surveyed.objects.values())} of {len(surveyed.objects)} kinds"
    for kind, count in sorted(surveyed.objects.items(), key=lambda item: (-item[1], item[0])):
        yield f"  {count} {kind}"
    yield f"certificates: {len(surveyed.certificates)}"
    for one in surveyed.certificates[:MOST_CERTIFICATES]:
        names = ", ".join(one.names) or one.subject or one.problem
        yield f"  {one.where}: {names}" + (f", until {format_time(one.not_after)[:10]}" if one.not_after else "")
    more = len(surveyed.certificates) - MOST_CERTIFICATES
    if more > 0:
        yield f"  and {more} more, which hold longer"
    yield from (f"note: {note}" for note in surveyed.notes)


def _left_out(outlook: Outlook) -> tuple[Excluded, ...]:
    """Return what is left out by rule, but for what is told beside its application."""
    return tuple(item for item in left_out(outlook) if item.by != discover.NOT_A_CLAIM)


def left_out(outlook: Outlook) -> tuple[Excluded, ...]:
    """Return all that is left out by rule. Pure."""
    counted = outlook.surveyed.excluded if outlook.surveyed else ()
    return (*outlook.discovered.excluded, *(item for prospect in outlook.prospects for item in prospect.left_out), *counted)


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
        if hook.hook.use:
            yield f"    by the blueprint {hook.hook.use}" + (", which is UNTESTED against the real program" if hook.untested else "")
        yield from (f"  hook {hook.hook.name} is missed: {miss}" for miss in hook.missing)
    for kept in outlook.discovered.excluded:
        if kept.by == discover.NOT_A_CLAIM and kept.what.split("/")[1] in application.namespaces:
            yield f"  beside it, not captured: {kept.what}: {kept.because}"
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
