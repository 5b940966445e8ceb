"""The nouns of Becalm, frozen. They hold identifiers and facts, never data and never secrets.

A noun that crosses a process (Airflow's XCom, a mover's result) does so through `payload` and `from_payload`, with the
number of its format beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypeVar

from becalm.errors import PermanentError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Manifest: TypeAlias = dict[str, Any]
"""A raw Kubernetes object, as JSON gives it."""

Payload: TypeAlias = dict[str, Any]
"""A small JSON document that one task hands to another."""

PAYLOAD_FORMAT = 1

T = TypeVar("T")


def payload(noun: object) -> Payload:
    """Turn a noun of this module (or of an action) into a versioned JSON document."""
    document: Payload = _adapter(type(noun)).dump_python(noun, mode="json")
    return {"format": PAYLOAD_FORMAT, **document}


def from_payload(cls: type[T], document: Payload) -> T:
    """Read a noun back. Raises PermanentError where the document is of another format or form."""
    from pydantic import ValidationError  # noqa: PLC0415  (many use the nouns, few hand them over)

    found = document.get("format") if isinstance(document, dict) else None
    if found != PAYLOAD_FORMAT:
        raise PermanentError(
            f"a {cls.__name__} of format {found!r} was handed over, this version reads {PAYLOAD_FORMAT}",
            hint="clear the whole run, so that every task runs with the same version",
        )
    try:
        found_noun: T = _adapter(cls).validate_python({key: value for key, value in document.items() if key != "format"}, strict=False)
    except ValidationError as error:
        raise PermanentError(
            f"what was handed over is not a {cls.__name__}: {error.errors()[0]['msg']}", where=str(error.errors()[0]["loc"])
        ) from error
    return found_noun


_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def _adapter(cls: type) -> TypeAdapter[Any]:
    """Return what reads and writes a noun; making it takes milliseconds, so it is kept."""
    if cls not in _ADAPTERS:
        from pydantic import TypeAdapter  # noqa: PLC0415  (as above)

        _ADAPTERS[cls] = TypeAdapter(cls)
    return _ADAPTERS[cls]


class Consistency(StrEnum):
    """What a recovery point promises of the data in its volumes."""

    APPLICATION = "application-consistent"
    CRASH = "crash-consistent"


class VolumeUse(StrEnum):
    """How a volume is captured."""

    SNAPSHOT = "snapshot"
    LIVE = "live"
    SKIP = "skip"


class VolumeMode(StrEnum):
    """What a volume holds (Kubernetes: `spec.volumeMode`)."""

    FILESYSTEM = "Filesystem"
    BLOCK = "Block"


class Severity(StrEnum):
    """How much a finding matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a person should know: where, what, and what to do about it."""

    where: str
    message: str
    remedy: str = ""
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        """`where: message (remedy)`."""
        return f"{self.where}: {self.message}" + (f" ({self.remedy})" if self.remedy else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Excluded:
    """Something that was not captured, by which rule, and why."""

    what: str
    by: str
    because: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class VolumeRef:
    """A claim (PersistentVolumeClaim) in a namespace."""

    namespace: str
    claim: str

    def __str__(self) -> str:
        """`namespace/claim`: also its path below `/volumes`."""
        return f"{self.namespace}/{self.claim}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `namespace/claim`. Raises ValueError."""
        namespace, slash, claim = text.partition("/")
        if not (namespace and slash and claim) or "/" in claim:
            raise ValueError(f"{text!r} is not namespace/claim")
        return cls(namespace=namespace, claim=claim)


CORE_GROUP = "core"
"""How the core group, whose name is empty, is called in paths and in what a person types."""

CLUSTER_SCOPE = "_cluster"
"""The folder of objects that belong to no namespace. No namespace can have this name."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ResourceRef:
    """One API object by group, resource (plural), namespace and name; version-free, as identity is."""

    group: str
    resource: str
    namespace: str | None
    name: str

    @property
    def path(self) -> str:
        """Its path in a recovery point (docs/FORMAT.md): `resources/apps/deployments/shop/web.json`."""
        return f"resources/{self.group or CORE_GROUP}/{self.resource}/{self.namespace or CLUSTER_SCOPE}/{self.name}.json"

    def __str__(self) -> str:
        """`deployments.apps/shop/web`."""
        kind = f"{self.resource}.{self.group}" if self.group else self.resource
        return "/".join(part for part in (kind, self.namespace, self.name) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPoint:
    """One restic snapshot of a policy, as its tags tell it."""

    id: str
    """The snapshot's id: 64 hexadecimal digits."""
    policy: str
    cut: datetime
    """The instant of the (first) cut."""
    tree: str
    cluster: str = ""
    revision: str = ""
    run: str = ""
    slot: datetime | None = None
    """The obligation it answers; a run by hand answers none."""
    late: timedelta = timedelta(0)
    consistency: Consistency = Consistency.CRASH
    complete: bool = True
    """False: something that was selected is missing, and the point says what."""
    pinned: bool = False
    locked_until: datetime | None = None
    size_bytes: int | None = None
    anomalous: bool = False
    """A volume that was full before is empty, or almost: whole, but nothing to stand for a good one."""
    salvaged: str = ""
    """The id of the harmed point of which this one holds what could be saved."""
    label: str = ""
    """A person's word for it."""
    narrowed: bool = False
    """Only some namespaces of the policy were asked for: whole as far as it goes, and no good one of the policy."""

    @property
    def good(self) -> bool:
        """Whether it counts as a success for the objectives and for retention."""
        return self.complete and not self.anomalous and not self.narrowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether a recovery point stays, and every reason for it."""

    point: RecoveryPoint
    keep: bool
    reasons: tuple[str, ...]


class Direction(StrEnum):
    """Which way a mover moves."""

    BACK_UP = "back-up"
    RESTORE = "restore"


@dataclass(frozen=True, slots=True, kw_only=True)
class MoverSpec:
    """What one mover has to do: one claim, in or out. It holds names of secrets, never secrets."""

    name: str
    """The mover's name; derives from the run, so that a second start finds the first."""
    run: str
    """The run's key."""
    direction: Direction
    volume: VolumeRef
    """The volume that the recovery point speaks of."""
    namespace: str
    """Where the mover runs, and where `claim` stands."""
    claim: str
    """The claim to mount: the export of a cut, a live claim, or the new claim to fill."""
    mode: VolumeMode = VolumeMode.FILESYSTEM
    node: str = ""
    """The node to run on, where the volume decides it."""
    repository: str
    """The repository's URL: the target's, with the policy's name."""
    secret: str
    """The Secret in `namespace` with the repository's password and the store's credentials."""
    epoch: int = 0
    """The lease's epoch: a mover whose lease was lost stops."""
    parent: str = ""
    """Backing up: the tree of the same volume in the parent recovery point, or nothing."""
    stable_inodes: bool = False
    """Backing up: whether inode and ctime survive the export, so that they tell of changes."""
    tree: str = ""
    """Restoring: the tree to write into the claim."""
    root: str = ""
    """Restoring: the entry of the volume's own directory (restic's JSON of a node), for its owner, mode and times."""
    exact: bool = False
    """Restoring: what is there and not in the tree goes, and a file that is there is read before it is believed to be the same."""
    compare: bool = False
    """Restoring: write nothing; read what is there, and say how it differs from the tree."""
    include: tuple[str, ...] = ()
    """Restoring: only these files or folders of the tree, each under its own name."""
    into: str = ""
    """Restoring: the folder of the volume to write into; empty is its root."""
    lock_days: int = 0
    """Backing up: how long each object written is locked; nothing is no lock."""
    lock_mode: Literal["", "compliance", "governance"] = ""
    """Backing up: how strictly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoverResult:
    """What a mover did. It stands in the bucket under the run's key, so that nothing rests on a pod's life."""

    name: str
    run: str
    volume: VolumeRef
    tree: str = ""
    """The tree of the volume's root: written, or restored."""
    root: str = ""
    """Backing up: the entry of the volume's own directory (restic's JSON of a node): its owner, mode and times."""
    files: int = 0
    bytes_read: int = 0
    bytes_added: int = 0
    bytes_total: int = 0
    unreadable: tuple[Finding, ...] = ()
    """What could not be read, or not be restored as it was."""
    notes: tuple[Finding, ...] = ()
    """What was left out by rule (sockets)."""
    seconds: float = 0.0
    peak_memory_bytes: int = 0
    error: str = ""
    """Why nothing was moved: code and message of the error; a result without a tree has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """One certificate: the object it stands in, whom it is for, and until when it holds."""

    where: str
    """`secrets/shop/tls`."""
    subject: str = ""
    names: tuple[str, ...] = ()
    not_after: datetime | None = None
    problem: str = ""
    """Why nothing is known of it."""


def run_key(policy: str, run_id: str, *, repository: str = "") -> str:
    """Return ten hexadecimal digits that stand for a run in the names of all that it makes.

    With the URL of the repository: two conductors that do not know of each other may give their runs the same name.
    """
    return sha256("\0".join([policy, run_id, *([repository] if repository else [])]).encode()).hexdigest()[:10]
