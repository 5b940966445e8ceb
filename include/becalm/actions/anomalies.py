"""Volumes that were captured whole and hold almost nothing of what they held before: a point that must not stand for a good one.

The measure is the last good recovery point. Nothing is refused and nothing is thrown away here: the point is kept and marked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from becalm.catalog.points import last_good
from becalm.errors import BecalmError
from becalm.model import Finding, VolumeRef
from becalm.policy.spec import WhenAnomalous
from becalm.repository.tree import lookup

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from becalm.model import MoverResult, RecoveryPoint
    from becalm.policy.spec import ProtectionPolicy
    from becalm.repository.reader import Repository

MANY_FILES = 100
"""Only a volume that held more files than this can lose almost all of them."""
LEFT_SHARE = 0.01
"""Fewer than this part of the files is almost none."""


def find(
    results: Sequence[MoverResult], points: Iterable[RecoveryPoint], *, policy: ProtectionPolicy, repository: Repository
) -> tuple[Finding, ...]:
    """Compare what movers captured with the last good point. A point that cannot be read compares with nothing."""
    good = last_good(list(points))
    if good is None or not results or policy.spec.volumes.anomalies is WhenAnomalous.IGNORE:
        return ()
    try:
        before = files_in(repository, good)
    except BecalmError:
        return ()
    return compare(results, before, point=good.id)


def compare(results: Sequence[MoverResult], before: Mapping[VolumeRef, int], *, point: str) -> tuple[Finding, ...]:
    """Say which volumes lost all files, or almost all of many. Pure."""
    found: list[Finding] = []
    for result in results:
        had = before.get(result.volume, 0)
        if result.files == 0 < had:
            what = f"the volume is empty and held {had} files"
        elif had > MANY_FILES and result.files < had * LEFT_SHARE:
            what = f"the volume holds {result.files} files and held {had}"
        else:
            continue
        found.append(
            Finding(
                where=f"volumes/{result.volume}",
                message=f"{what} in the last good recovery point {point[:8]}",
                remedy="find out who removed them and restore them; if it is meant, run the policy once with spec.volumes.anomalies: ignore",
            )
        )
    return tuple(found)


def files_in(repository: Repository, point: RecoveryPoint) -> dict[VolumeRef, int]:
    """Return how many files each volume of a point holds, by its own description. Raises what reading raises."""
    return _told(repository, point, "files")


def sizes_in(repository: Repository, point: RecoveryPoint) -> dict[VolumeRef, int]:
    """Return how many bytes each volume of a point holds, by its own description. Raises what reading raises."""
    return _told(repository, point, "bytes_total")


def _told(repository: Repository, point: RecoveryPoint, key: str) -> dict[VolumeRef, int]:
    """Read a number that a point says of each volume; one whose description nobody can read says nothing."""
    node = lookup(repository, point.tree, "recovery-point.json")
    try:
        volumes = orjson.loads(b"".join(repository.read_file(node)))["volumes"]
        return {
            VolumeRef(namespace=entry["volume"]["namespace"], claim=entry["volume"]["claim"]): int(entry.get(key) or 0)
            for entry in volumes
            if entry.get("tree")
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
