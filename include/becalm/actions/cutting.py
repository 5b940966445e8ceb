"""The cut itself: every volume of an application asked for side by side, those that belong together as one group, and the revision with them.

A group that fails is no reason to cut nothing: its volumes are then cut one by one, within the same freeze. Nothing is thawed and
nothing is listed here.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from becalm.actions import grouping
from becalm.actions.handover import Cut, VolumeCut
from becalm.errors import BecalmError
from becalm.kube.base import Verb, owned_by
from becalm.kube.kinds import CLAIM, NAMESPACE, SNAPSHOT_CONTENT
from becalm.kube.snapshots import SnapshotFacts, await_cuts, start_cut, start_group

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from becalm.actions.handover import Application, Begun, Ports, VolumeGroup, VolumePlan
    from becalm.model import VolumeRef

CUTS_AT_ONCE = 16
CUT_SECONDS = 300.0
"""How long a storage may take to cut where nobody is frozen meanwhile."""
GROUP_SHARE = 0.5
"""The part of the time that a group may take. What is left is for cutting its volumes one by one."""
ROLE = "cut"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will be cut, under which names, and until when the freeze lasts."""

    cuts: tuple[tuple[VolumePlan, str], ...]
    """Each volume with the name of its VolumeSnapshot, where it is cut by itself."""
    groups: tuple[tuple[VolumeGroup, str], ...] = ()
    """Volumes that are cut together, with the name of their VolumeGroupSnapshot."""
    live: tuple[VolumePlan, ...] = ()
    frozen_until: datetime | None = None
    """None: nothing is frozen."""
    refused: str = ""
    """Why nothing may be cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutting:
    """The cut, and what of it the storage has not reported yet."""

    cut: Cut
    late: tuple[tuple[VolumePlan, SnapshotFacts], ...] = ()
    retained: tuple[str, ...] = ()
    """Contents whose class would keep the cut in the storage for ever."""


def cut(application: Application, decided: Plan, begun: Begun, ports: Ports) -> Cutting:
    """Ask for all cuts and for the revision at the same time, and wait for the cuts as long as the freeze lasts."""
    began = ports.clock.now()
    together = {volume: name for group, name in decided.groups for volume in group.volumes}
    alone = [(item, name) for item, name in decided.cuts if item.volume not in together]
    with ThreadPoolExecutor(max_workers=CUTS_AT_ONCE, thread_name_prefix="cut") as pool:
        revision = pool.submit(lambda: ports.cluster.list(NAMESPACE, page_size=1).revision)
        groups = list(pool.map(lambda pair: _start_group(pair[0], pair[1], decided, begun, ports), decided.groups))
        asked = {facts.volume: facts for facts in pool.map(lambda pair: _start(pair[0], pair[1], begun, ports), alone)}
        at = revision.result()
        known, notes = _groups(groups, decided, ports)
        rest = [(item, name) for item, name in decided.cuts if item.volume in together and item.volume not in known]
        asked |= known | {facts.volume: facts for facts in pool.map(lambda pair: _start(pair[0], pair[1], begun, ports), rest)}
    started = [facts for facts in asked.values() if not facts.error and not facts.created]
    known |= _by_volume(await_cuts(ports.cluster, ports.clock, started, timeout_seconds=_left(decided, ports)))
    ended = ports.clock.now()
    overdue = decided.frozen_until is not None and ended >= decided.frozen_until
    facts_of = {volume: known.get(volume, facts) for volume, facts in asked.items()}
    late = [
        (item, asked[item.volume])
        for item, _ in decided.cuts
        if overdue and not asked[item.volume].error and not facts_of[item.volume].created
    ]
    volumes = [_volume_cut(item, facts_of[item.volume]) for item, _ in decided.cuts] + [VolumeCut(plan=item) for item in decided.live]
    return Cutting(
        cut=Cut(
            application=application.name,
            began=began,
            ended=ended,
            revision=at,
            volumes=tuple(volumes),
            notes=(*application.notes, *notes),
        ),
        late=tuple(late),
        retained=_retained(facts_of.values()),
    )


def wait_on(cutting: Cutting, ports: Ports) -> Cutting:
    """Wait for cuts that did not come within the freeze: the application is thawed, and the data is as good as after a crash."""
    plan_of = {item.volume: item for item, _ in cutting.late}
    later = await_cuts(ports.cluster, ports.clock, [facts for _, facts in cutting.late], timeout_seconds=CUT_SECONDS)
    new = {facts.volume: _volume_cut(plan_of[facts.volume], facts) for facts in later}
    volumes = tuple(new.get(item.plan.volume, item) for item in cutting.cut.volumes)
    return Cutting(cut=replace(cutting.cut, ended=ports.clock.now(), volumes=volumes), retained=(*cutting.retained, *_retained(later)))


def settle(cutting: Cutting, ports: Ports) -> Cutting:
    """Do what can wait until nobody is frozen: cuts that their class retains are told to go with their snapshots, and failures are explained."""
    notes: list[str] = []
    for content in cutting.retained:
        try:
            ports.cluster.apply(SNAPSHOT_CONTENT, {"metadata": {"name": content}, "spec": {"deletionPolicy": "Delete"}}, verb=Verb.MERGE)
        except BecalmError as error:
            notes.append(f"{content} stays in the storage when its snapshot goes, as its class says: {error.message}")
    volumes = tuple(_explained(item, ports) if item.error else item for item in cutting.cut.volumes)
    return Cutting(cut=replace(cutting.cut, volumes=volumes, notes=(*cutting.cut.notes, *notes)))


def _explained(item: VolumeCut, ports: Ports) -> VolumeCut:
    """Say that a claim is gone, where it is: the storage's own words do not."""
    volume = item.plan.volume
    try:
        claims = {claim["metadata"]["name"] for claim in ports.cluster.list(CLAIM, namespace=volume.namespace)}
    except BecalmError:
        return item
    if volume.claim in claims:
        return item
    return replace(item, error=f"the claim was deleted after it was discovered ({item.error})")


def _left(decided: Plan, ports: Ports) -> float:
    """Return how long may be waited: as long as the freeze lasts."""
    if decided.frozen_until is None:
        return CUT_SECONDS
    return min(CUT_SECONDS, max(0.1, (decided.frozen_until - ports.clock.now()).total_seconds()))


def _groups(
    groups: Iterable[tuple[SnapshotFacts, ...]], decided: Plan, ports: Ports
) -> tuple[dict[VolumeRef, SnapshotFacts], tuple[str, ...]]:
    """Wait for groups; return the volumes that they cut, and why others are to be cut one by one."""
    asked = [facts for group in groups for facts in group]
    started = [facts for facts in asked if not facts.error]
    waited = _by_volume(await_cuts(ports.cluster, ports.clock, started, timeout_seconds=_left(decided, ports) * GROUP_SHARE))
    facts_of = {facts.volume: waited.get(facts.volume, facts) for facts in asked}
    failed = {facts.group: facts.error for facts in facts_of.values() if not facts.created}
    notes = tuple(f"{name} failed, and its volumes were cut one by one: {error}" for name, error in failed.items())
    return {volume: facts for volume, facts in facts_of.items() if facts.created}, notes


def _start(item: VolumePlan, name: str, begun: Begun, ports: Ports) -> SnapshotFacts:
    """Ask for one cut; that it is refused is an answer."""
    labels = owned_by(begun.policy, begun.run, ROLE, repository=ports.store.url)
    try:
        return start_cut(ports.cluster, ports.clock, volume=item.volume, snapshot_class=item.snapshot_class, name=name, labels=labels)
    except BecalmError as error:
        return SnapshotFacts(volume=item.volume, name=name, error=str(error))


def _start_group(group: VolumeGroup, name: str, decided: Plan, begun: Begun, ports: Ports) -> tuple[SnapshotFacts, ...]:
    """Ask for one cut of several volumes; that it is refused is an answer."""
    handles = {item.volume: item.handle for item, _ in decided.cuts}
    try:
        return start_group(
            ports.cluster,
            volumes={volume: handles[volume] for volume in group.volumes},
            selector=grouping.selector(group.labels),
            group_class=group.group_class,
            name=name,
            labels=owned_by(begun.policy, begun.run, ROLE, repository=ports.store.url),
        )
    except BecalmError as error:
        return tuple(SnapshotFacts(volume=volume, name="", group=name, error=str(error)) for volume in group.volumes)


def _volume_cut(item: VolumePlan, facts: SnapshotFacts) -> VolumeCut:
    return VolumeCut(
        plan=item,
        snapshot=facts.name,
        content=facts.content,
        handle=facts.handle,
        created=facts.created,
        group=facts.group,
        error=facts.error,
    )


def _by_volume(facts: Iterable[SnapshotFacts]) -> dict[VolumeRef, SnapshotFacts]:
    return {item.volume: item for item in facts}


def _retained(facts: Iterable[SnapshotFacts]) -> tuple[str, ...]:
    return tuple(item.content for item in facts if item.retained and item.content)
