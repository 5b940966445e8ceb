"""State: one thing in a cluster that would be missed if it were gone, by kind, place and origin. Names only, never a value of a Secret."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from becalm.actions.inventory import NamespaceFacts
    from becalm.model import Finding


class What(StrEnum):
    """What sort of state it is."""

    CLAIM = "claim"
    VOLUME = "volume without a claim"
    SNAPSHOT = "volume snapshot"
    NODE_PATH = "path of a node"
    SCRATCH = "emptyDir"
    POD_VOLUME = "volume of a pod"
    BARE_POD = "pod without a controller"
    STATEFUL_SET = "stateful set"
    DATABASE = "database of an operator"
    CUSTOM = "custom resource"
    OUTSIDE = "state outside the cluster"
    CRON_JOB = "cron job"
    SECRET = "secret"  # noqa: S105  (a kind, not a secret)
    CONFIG_MAP = "config map"
    CERTIFICATE = "certificate"
    BY_HAND = "changed by hand"
    OBJECT = "object that no file explains"
    """Of any other kind, and nothing makes it again."""


VOLUMES = frozenset({What.CLAIM, What.VOLUME, What.NODE_PATH, What.SCRATCH, What.POD_VOLUME})
"""Where files are kept."""
OF_PODS = frozenset({What.NODE_PATH, What.SCRATCH, What.POD_VOLUME})
"""What a pod keeps outside claims: no policy can capture it."""


class Origin(StrEnum):
    """Where an object says that it comes from."""

    DECLARED = "declared"
    """A tool that renders files keeps it: Helm, Argo CD, Flux, an inventory."""
    APPLIED = "applied from a file"
    BY_HAND = "made or changed by hand"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One piece of state."""

    what: What
    group: str = ""
    resource: str
    """The plural of the object that it is, or whose it is."""
    namespace: str = ""
    """Empty: it belongs to none."""
    name: str
    part: str = ""
    """What of the object: `emptyDir cache`."""
    detail: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    origin: Origin = Origin.UNKNOWN
    created: datetime | None = None
    changed: datetime | None = None
    """When its content was last written, by the server's record; not its status."""
    hands: tuple[str, ...] = ()
    """The tools by which people changed it."""
    changed_by_hand: datetime | None = None
    expires: datetime | None = None
    size_bytes: int = 0
    on_node: bool = False
    """It is kept on one node."""
    goes: bool = False
    """The storage deletes its data when the claim is deleted."""
    count: int = 1
    """So many pods are alike in it."""

    @property
    def where(self) -> str:
        """`secrets/shop/tls`, `pods/shop/web: emptyDir cache`."""
        table = f"{self.resource}.{self.group}" if self.group else self.resource
        path = "/".join(part for part in (table, self.namespace, self.name) if part)
        return f"{path}: {self.part}" if self.part else path


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """All state of a cluster that was found."""

    states: tuple[State, ...] = ()
    namespaces: tuple[NamespaceFacts, ...] = ()
    derived: Mapping[str, int] = field(default_factory=dict)
    """By namespace, how many objects are no state of their own: something else makes them again."""
    objects: int = 0
    """How many were looked at."""
    findings: tuple[Finding, ...] = ()
    """What could not be read."""
    cluster_uid: str = ""
    server_version: str = ""
