"""What an object's metadata tell of it: who keeps it, who changed it and when, and whether something else makes it again. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.actions.state import Origin
from becalm.actions.state_kinds import APPLIERS, BOOTSTRAPPED, CLUSTER_MANAGERS, DECLARING, HANDS, LAST_APPLIED
from becalm.clock import parse_time
from becalm.kube.rules import child, children

if TYPE_CHECKING:
    from datetime import datetime

    from becalm.model import Manifest


def is_owned(manifest: Manifest) -> bool:
    """Say whether another object owns it: it goes with that one, and comes again with it."""
    return bool(children(manifest, "metadata", "ownerReferences"))


def origin(manifest: Manifest) -> Origin:
    """Return where an object says that it comes from. Annotations are looked for by name; their values are not read."""
    if hands(manifest):
        return Origin.BY_HAND
    annotations, labels = child(manifest, "metadata", "annotations"), child(manifest, "metadata", "labels")
    if any(mark in annotations or mark in labels for mark in DECLARING) or labels.get("app.kubernetes.io/managed-by") == "Helm":
        return Origin.DECLARED
    return Origin.APPLIED if LAST_APPLIED in annotations or any(_applied(entry) for entry in _written(manifest)) else Origin.UNKNOWN


def is_the_clusters_own(manifest: Manifest) -> bool:
    """Say whether only Kubernetes itself wrote an object, or it says that a new cluster has it from its beginning."""
    annotations, labels = child(manifest, "metadata", "annotations"), child(manifest, "metadata", "labels")
    writers = {str(entry.get("manager")) for entry in _written(manifest)}
    return any(mark in annotations or mark in labels for mark in BOOTSTRAPPED) or (bool(writers) and writers <= CLUSTER_MANAGERS)


def created(manifest: Manifest) -> datetime | None:
    """Return when the object was made."""
    return moment(child(manifest, "metadata").get("creationTimestamp"))


def changed(manifest: Manifest) -> datetime | None:
    """Return when the object was last written, its status aside; where nobody knows, when it was made."""
    written = [found for entry in _written(manifest) if (found := moment(entry.get("time")))]
    return max(written, default=created(manifest))


def hands(manifest: Manifest) -> tuple[str, ...]:
    """Return the tools in people's hands that hold fields of an object."""
    return tuple(sorted({str(entry.get("manager")) for entry in children(manifest, "metadata", "managedFields") if _is_hand(entry)}))


def changed_by_hand(manifest: Manifest) -> datetime | None:
    """Return when a person last changed an object by such a tool; nothing where none did."""
    times = [moment(entry.get("time")) or created(manifest) for entry in children(manifest, "metadata", "managedFields") if _is_hand(entry)]
    return max((time for time in times if time), default=None)


def moment(value: object) -> datetime | None:
    """Read a time of the server; nothing where it is none."""
    try:
        return parse_time(value) if isinstance(value, str) and value else None
    except ValueError:
        return None


def _written(manifest: Manifest) -> list[Manifest]:
    """Return who wrote what of an object, its status aside."""
    return [entry for entry in children(manifest, "metadata", "managedFields") if not entry.get("subresource")]


def _applied(entry: Manifest) -> bool:
    return entry.get("operation") == "Apply" and str(entry.get("manager", "")).startswith(APPLIERS)


def _is_hand(entry: Manifest) -> bool:
    return str(entry.get("manager", "")).startswith(HANDS)
