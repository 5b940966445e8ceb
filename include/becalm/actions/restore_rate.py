"""How long the volumes of a plan will take: at the rate of earlier restores where the catalog has some, else at one that is only assumed."""

from __future__ import annotations

from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

from becalm.actions.restore_record import listed
from becalm.actions.restore_steps import VolumeAction
from becalm.errors import BecalmError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from becalm.actions.handover import Ports
    from becalm.actions.restore_record import VolumeRecord
    from becalm.actions.restore_steps import RestorePlan
    from becalm.repository.reader import Repository

ASSUMED_BYTES = 50 << 20
"""A second, for one volume."""
TELLING_BYTES = 16 << 20
"""A smaller volume tells of the start of a pod, not of the rate."""
LAST = 20
"""So many measured volumes, the newest, are asked."""


def with_estimates(plan: RestorePlan, repository: Repository, ports: Ports) -> RestorePlan:
    """Complete a plan with the time that each volume will take."""
    if not plan.volumes_to(VolumeAction.FILL, VolumeAction.REPLACE):
        return plan
    measured = rate(_measured(repository, ports))
    per_second = measured or ASSUMED_BYTES
    volumes = tuple(
        replace(volume, estimated_seconds=round(volume.size_bytes / per_second, 1))
        if volume.action in (VolumeAction.FILL, VolumeAction.REPLACE)
        else volume
        for volume in plan.volumes
    )
    return replace(plan, volumes=volumes, rate_bytes=per_second, rate_measured=bool(measured))


def rate(volumes: Iterable[VolumeRecord]) -> int:
    """Return the bytes a second that volumes took, or nothing where none of them tells. Pure."""
    rates = [one.bytes / one.seconds for one in volumes if not one.error and one.seconds > 0 and one.bytes >= TELLING_BYTES]
    return int(median(rates[-LAST:])) if rates else 0


def _measured(repository: Repository, ports: Ports) -> list[VolumeRecord]:
    try:
        return [volume for record in sorted(listed(repository), key=lambda one: one.ended)[-LAST:] for volume in record.volumes]
    except BecalmError as error:
        ports.progress(f"earlier restores cannot be read, so times are assumed: {error.message}")
        return []
