"""The ports to a cluster and to movers, and the owner of every label, annotation and name that Becalm writes there."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from becalm.model import Manifest, MoverResult, MoverSpec

MANAGER = "becalm"
"""Our name as a field manager."""

LABEL_MANAGED = "app.kubernetes.io/managed-by"
LABEL_POLICY = "becalm.dev/policy"
LABEL_RUN = "becalm.dev/run"
"""The run's key: whatever carries it belongs to that run and goes with it."""
LABEL_REPOSITORY = "becalm.dev/repository"
"""The mark of the run's repository: two installations may have policies of one name on one cluster."""
LABEL_ROLE = "becalm.dev/role"
ROLE_RESTORE = "restore"
"""What a restore makes. It holds no lease, so what clears up after dead runs must not take it for one of theirs."""
LABEL_DRILL = "becalm.dev/drill"
"""The drill whose namespace this is: whatever stands in it goes with the drill."""
ROLE_DRILL = "drill"
LABEL_PROTECT = "becalm.dev/protect"
"""With the value `no` it keeps what carries it out of every policy."""
ANNOTATION_VOLUME = "becalm.dev/volume"
ANNOTATION_RESTORED_FROM = "becalm.dev/restored-from"
ANNOTATION_EXPIRES = "becalm.dev/expires"
"""Until when the restore that made an object surely lives; it renews that while it is at work."""
ANNOTATION_BEFORE = "becalm.dev/before-restore"
"""On a workload that a restore in place stopped: how it was, and which restore it was."""
ANNOTATION_IN_PLACE = "becalm.dev/in-place"
"""On a claim whose data a restore replaces: from which point, how far it is, and where the old data is kept."""
LABEL_COPY = "becalm.dev/copy-of"
"""On a snapshot of the data that a restore replaced: the uid of the claim."""
HOOK_ANNOTATION = "quiesce.becalm.dev/"


def owned_by(policy: str, run: str, role: str, *, repository: str = "") -> dict[str, str]:
    """Return the labels of a temporary object: whose it is, of which run, and what for; `repository` is the URL of that run's repository."""
    mark = {LABEL_REPOSITORY: repository_mark(repository)} if repository else {}
    return {LABEL_MANAGED: MANAGER, LABEL_POLICY: policy, LABEL_RUN: run, LABEL_ROLE: role, **mark}


def repository_mark(url: str) -> str:
    """Return ten hexadecimal digits that stand for a repository in labels: a URL is too long for one."""
    plain = "/".join(part for part in url.split("/") if part)
    return sha256(plain.encode()).hexdigest()[:10]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Kind:
    """One resource that the API server serves, in one version."""

    group: str
    version: str
    resource: str
    """The plural, in lower case: it stands in URLs."""
    kind: str
    namespaced: bool
    verbs: frozenset[str] = frozenset({"get", "list", "create", "update", "patch", "delete", "watch"})
    preferred: bool = True
    """Whether this is the version that the server prefers for its group."""

    @property
    def api_version(self) -> str:
        """`apps/v1`, or `v1` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def __str__(self) -> str:
        """`deployments.apps`, as a person types it."""
        return f"{self.resource}.{self.group}" if self.group else self.resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """What the API server serves, and which groups did not answer (an aggregated API that is down)."""

    kinds: tuple[Kind, ...]
    failures: dict[str, str]
    """`group/version` to the reason."""
    server_version: str
    uid: str
    """The uid of the namespace kube-system: the nearest thing to the identity of a cluster."""


class Verb(StrEnum):
    """How `Cluster.apply` writes."""

    CREATE = "create"
    UPDATE = "update"
    """PUT: the whole object; with a resourceVersion in it a conflict is noticed."""
    MERGE = "merge"
    """JSON merge patch (RFC 7386)."""
    APPLY = "apply"
    """Server-side apply with our field manager, without force."""
    FORCE_APPLY = "force-apply"
    """Server-side apply that takes over fields of other managers."""


class Listing(Protocol):
    """The objects of one LIST, page by page, and the revision they were listed at."""

    def __iter__(self) -> Iterator[Manifest]:
        """Yield each object, with apiVersion and kind filled in."""

    @property
    def revision(self) -> str:
        """The collection's resourceVersion; known as soon as the listing was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of a WATCH."""

    type: str
    """ADDED, MODIFIED, DELETED or BOOKMARK."""
    object: Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    """What became of a command in a container."""

    stdout: bytes
    stderr: bytes
    exit_code: int | None
    """None: unknown. The stream ended, or the time was over, before the server told; the command may still run."""


class Cluster(Protocol):
    """One API server. Safe to call from several threads.

    Every method may raise ClusterUnavailable or Throttled (transient) and AccessDenied. `testing.contracts.cluster` holds
    the suite that the sandbox and a real cluster pass.
    """

    def discover(self) -> Discovery:
        """Ask what the server serves: every group, every version, with the preferred one marked."""

    def list(
        self,
        kind: Kind,
        *,
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
        revision: str | None = None,
        page_size: int = 500,
    ) -> Listing:
        """List objects in pages, streamed. With a revision: exactly the state at it (resourceVersionMatch=Exact).

        The first page is fetched at once. Raises: RevisionGone (also in the middle of the iteration), NotFound (the kind is not served).
        """

    def get(self, kind: Kind, name: str, *, namespace: str | None = None) -> Manifest:
        """Return one object. Raises: NotFound."""

    def apply(self, kind: Kind, manifest: Manifest, *, verb: Verb, subresource: str = "", dry_run: bool = False) -> Manifest:
        """Write one object, whose metadata name it, and return what the server made of it.

        Raises: AlreadyExists (create), NotFound, Conflict, InvalidObject.
        """

    def delete(
        self,
        kind: Kind,
        name: str,
        *,
        namespace: str | None = None,
        uid: str = "",
        propagation: str = "Background",
        grace_seconds: int | None = None,
    ) -> bool:
        """Ask for the deletion of one object, of that uid only if one is given. False: it was not there. Raises: Conflict (another uid)."""

    def watch(
        self,
        kind: Kind,
        *,
        namespace: str | None = None,
        fields: str = "",
        labels: str = "",
        revision: str = "",
        timeout_seconds: float = 60,
    ) -> Iterator[Event]:
        """Yield events from a revision on, until the time is over. Raises: RevisionGone."""

    def exec(
        self,
        namespace: str,
        pod: str,
        *,
        container: str,
        command: Sequence[str],
        stdin: bytes = b"",
        timeout_seconds: float = 30,
        out: Callable[[bytes], object] | None = None,
    ) -> ExecResult:
        """Run a command in a running container; no shell is added. Raises: NotFound (no such pod or container, or not running).

        With `out`, standard output goes there in pieces, as it comes, and none of it is kept: it may be larger than memory. The command waits
        while `out` does; where `out` raises, the exit code is unknown. Without it a few megabytes are kept, and what was dropped is said.
        """

    def logs(self, namespace: str, pod: str, *, container: str = "", follow: bool = False) -> Iterator[bytes]:
        """Yield the lines of a container's log, without their ends."""


class MoverState(StrEnum):
    """Where a mover is."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class MoverStatus:
    """A mover's state, what it said last of its progress, and why it waits or failed."""

    state: MoverState
    progress: str = ""
    reason: str = ""


class Mover(Protocol):
    """How movers are run. A handle is the mover's name: it outlives the process that started it."""

    def start(self, spec: MoverSpec) -> str:
        """Start a mover, or adopt the one of the same name; return its handle."""

    def poll(self, handle: str, *, namespace: str) -> MoverStatus:
        """Say where it is."""

    def result(self, handle: str, *, namespace: str) -> MoverResult | None:
        """Return what it left as its last word (the termination message), or nothing."""

    def cancel(self, handle: str, *, namespace: str) -> None:
        """End it and remove it; one that is gone is fine."""
