"""Which volumes are cut together, at one instant. Pure.

The API chooses the claims of a group by their labels, and Becalm writes no label on anybody's claim. So volumes are cut together only
where the labels that they have in common mean exactly them; where they mean more, or less, each is cut by itself, side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from becalm.actions.handover import VolumeGroup
from becalm.model import VolumeUse
from becalm.policy.select import OPT_OUT, opted_out

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from becalm.actions.handover import VolumePlan
    from becalm.actions.inventory import ClaimFacts, SnapshotClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """What is cut together, and why other volumes of one driver are not."""

    groups: tuple[VolumeGroup, ...] = ()
    notes: tuple[str, ...] = ()


def group(volumes: Iterable[VolumePlan], claims: Sequence[ClaimFacts], classes: Sequence[SnapshotClass]) -> Grouping:
    """Group the volumes of each namespace and driver, two and more, where a group class serves the driver. `claims` are all there are."""
    groups: list[VolumeGroup] = []
    notes: list[str] = []
    cut = [item for item in volumes if item.use is VolumeUse.SNAPSHOT and item.driver]
    cut.sort(key=_place)
    for (namespace, driver), found in groupby(cut, key=_place):
        members = list(found)
        serving = [item for item in classes if item.driver == driver]
        if len(members) < 2 or not serving:
            continue
        labels = common_labels(members, claims)
        lasting = [item for item in serving if not item.retains]
        why = _why_not(members, claims, labels) or ("" if lasting else f"the group class {serving[0].name} retains what it cuts")
        if why:
            notes.append(f"the {len(members)} volumes of {driver} in {namespace} are cut one by one, side by side: {why}")
            continue
        meant = tuple(item.volume for item in members)
        groups.append(VolumeGroup(namespace=namespace, driver=driver, group_class=lasting[0].name, labels=labels, volumes=meant))
    return Grouping(groups=tuple(groups), notes=tuple(notes))


def common_labels(members: Sequence[VolumePlan], claims: Sequence[ClaimFacts]) -> dict[str, tuple[str, ...]]:
    """Return the labels that every one of these claims has, with all their values: no selector of labels means fewer claims."""
    names = {item.volume for item in members}
    mine = [claim.labels for claim in claims if claim.ref in names]
    keys = set.intersection(*(set(labels) for labels in mine)) if mine else set()
    return {key: tuple(sorted({labels[key] for labels in mine})) for key in sorted(keys)}


def selector(labels: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """Return the label selector of a group, as the API wants it.

    A label with one value is asked for plainly: a controller that reads only plain labels then cuts too much rather than everything.
    """
    plain = {key: values[0] for key, values in labels.items() if len(values) == 1}
    several = [{"key": key, "operator": "In", "values": list(values)} for key, values in labels.items() if len(values) > 1]
    own = {"key": OPT_OUT, "operator": "NotIn", "values": ["no"]}
    return {"matchExpressions": [own, *several]} | ({"matchLabels": plain} if plain else {})


def _why_not(members: Sequence[VolumePlan], claims: Sequence[ClaimFacts], labels: Mapping[str, tuple[str, ...]]) -> str:
    namespace, names = members[0].volume.namespace, {item.volume for item in members}
    if len({item.snapshot_class for item in members}) > 1:
        return "their snapshot classes differ"
    if any(not item.handle for item in members):
        return "the storage's names of the volumes are not known"
    others = [
        claim.name
        for claim in claims
        if claim.namespace == namespace
        and claim.ref not in names
        and not opted_out(claim.labels)
        and all(claim.labels.get(key) in values for key, values in labels.items())
    ]
    return f"their common labels also mean the claim {others[0]}" if others else ""


def _place(item: VolumePlan) -> tuple[str, str]:
    return item.volume.namespace, item.driver
