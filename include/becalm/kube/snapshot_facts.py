"""What is known of the snapshot of one volume, and how it is read from what the storage reports. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from becalm.clock import parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from becalm.model import Manifest, VolumeRef

PASSING_ERRORS = ("the object has been modified", "please apply your changes to the latest version")
"""The snapshot controller meets its own updates and reports that; it tries again by itself."""
UNITS = {
    **{f"{letter}i": 2 ** (10 * power) for power, letter in enumerate("KMGTPE", start=1)},
    **{letter: 10 ** (3 * power) for power, letter in enumerate("kMGTPE", start=1)},
    "m": 1e-3,
}
"""The suffixes of a quantity; those of two letters first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotFacts:
    """What is known of the snapshot of one volume. An error is a fact too: one volume that fails does not stop the others."""

    volume: VolumeRef
    name: str
    uid: str = ""
    run: str = ""
    """The key of the run that asked for it, as its label says."""
    snapshot_class: str = ""
    content: str = ""
    handle: str = ""
    """The storage's own name for it."""
    driver: str = ""
    created: datetime | None = None
    """The instant of the cut, by the storage's clock."""
    ready: bool = False
    restore_bytes: int = 0
    """The size that a volume made from it needs at least; nothing where it is not known yet."""
    adopted: bool = False
    """It stood there before this try: its cut may be older than the present freeze."""
    retained: bool = False
    """Its class would keep it in the storage when the snapshot goes."""
    group: str = ""
    """The VolumeGroupSnapshot that cuts it together with others; nothing where it is cut by itself."""
    volume_handle: str = ""
    """The storage's own name for the volume: a group's content tells the cuts apart by it."""
    error: str = ""


def read(snapshot: Manifest, content: Manifest | None, facts: SnapshotFacts) -> SnapshotFacts:
    """Read the status of a snapshot and of its content. Pure. The content knows first, and to the nanosecond."""
    status, inner = snapshot.get("status") or {}, (content or {}).get("status") or {}
    spec = (content or {}).get("spec") or {}
    moment = inner.get("creationTime")
    created = from_nanoseconds(moment) if isinstance(moment, int) else time_of(status.get("creationTime"))
    error = complaint(status) or complaint(inner)
    return replace(
        facts,
        content=status.get("boundVolumeSnapshotContentName") or "",
        handle=inner.get("snapshotHandle") or "",
        driver=spec.get("driver") or "",
        retained=spec.get("deletionPolicy") == "Retain",
        created=created,
        ready=bool(status.get("readyToUse")),
        restore_bytes=int(inner.get("restoreSize") or 0) or quantity(status.get("restoreSize")),
        error="" if created else error,
    )


def quantity(text: object) -> int:
    """Read a Kubernetes quantity of bytes: `10Gi`, `5G`, `1e9`, `1024`. Nothing, or what is none, is zero."""
    word = str(text or "0")
    unit = next((unit for unit in UNITS if word.endswith(unit)), "")
    try:
        return int(float(word.removesuffix(unit)) * UNITS.get(unit, 1))
    except (ValueError, OverflowError):
        return 0


def complaint(status: Mapping[str, Any]) -> str:
    """Return the storage's complaint, unless it is one of those that pass by themselves."""
    error = status.get("error")
    if not error:
        return ""
    message = str(error.get("message") or "the storage gives no reason")
    return "" if any(passing in message for passing in PASSING_ERRORS) else message


def time_of(text: str | None) -> datetime | None:
    """Read a time of the API."""
    return parse_time(text) if text else None


def from_nanoseconds(moment: int) -> datetime:
    """Read an instant as the storage's content tells it."""
    whole, rest = divmod(moment, 10**9)
    return datetime.fromtimestamp(whole, UTC).replace(microsecond=rest // 1000)
