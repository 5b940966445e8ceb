"""One go through the lists of a selection at one revision: which LISTs there are to make, made several at a time, and their answers.

What is left out by rule is counted, with the rule; a kind that cannot be listed is a finding. Where the objects go is the shelf's business,
and no object is kept in memory. It changes nothing in the cluster.
"""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

import orjson

from becalm.actions import certificates
from becalm.actions.choosing import Chooser
from becalm.actions.references import CLUSTER_ROLES, MOST_AGGREGATIONS, ROUNDS, SNAPSHOT_CLASSES, References, finder_of
from becalm.actions.shelf import Sheaf, Shelved, folder_of
from becalm.errors import AccessDenied, BecalmError, ClusterUnavailable, NotFound, RevisionGone, Throttled
from becalm.kube.kinds import NAMESPACE
from becalm.model import Excluded, Finding
from becalm.policy.select import Selector
from becalm.policy.spec import ClusterScope

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from becalm.clock import Clock
    from becalm.kube.base import Cluster, Kind
    from becalm.model import Certificate, Manifest
    from becalm.policy.spec import Selection

LISTS_AT_ONCE = 8
SHEAVES_AT_ONCE = 16
"""So many may wait to be written; then the lists wait."""
TRIES = 3
RETRY_SECONDS = 1.0
NEEDED_VERBS = frozenset({"list", "get", "create"})
"""What can be listed and not created is a view of something else (metrics), and cannot be restored."""
_PATIENCE_SECONDS = 0.2


class Keeper(Protocol):
    """Takes what is listed."""

    def keep(self, sheaf: Sheaf) -> None:
        """Take some objects; their entries come into `sheaf.into` now or later. May wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What to list."""

    namespaces: tuple[str, ...]
    selection: Selection
    snapshot_classes: tuple[str, ...] = ()
    """Those by which the volumes were cut."""
    cuts: frozenset[str] = frozenset()
    """The names of this run's VolumeSnapshots: the contents that the storage made of them carry no label of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One LIST."""

    kind: Kind
    namespace: str | None = None
    name: str = ""
    """Only the object of this name."""

    def __str__(self) -> str:
        """`configmaps in shop`."""
        return f"{self.kind} in {self.namespace}" if self.namespace else str(self.kind)


@dataclass(slots=True)
class _Answer:
    """What one LIST brought."""

    shelved: Shelved = field(default_factory=dict)
    size: int = 0
    left_out: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    certificates: list[Certificate] = field(default_factory=list)
    finding: Finding | None = None
    gone: str = ""
    """Why the revision is not there any more."""
    instead: tuple[Job, ...] = ()
    """The lists to make in place of this one, which is refused."""
    note: str = ""
    """That another version was listed, and why."""


def jobs(kinds: Iterable[Kind], scope: Scope, *, wide: bool = False) -> tuple[tuple[Job, ...], tuple[Excluded, ...]]:
    """Say which lists there are to make, and which kinds stay out by rule. `wide`: of all namespaces at once. Pure."""
    selector = Selector.of(scope.selection)
    places = (None,) if wide else scope.namespaces
    found: list[Job] = [Job(kind=NAMESPACE)] if wide else [Job(kind=NAMESPACE, name=namespace) for namespace in scope.namespaces]
    excluded: list[Excluded] = []
    for kind in _usable(kinds):
        if not kind.namespaced:
            continue
        choice = selector.resource(kind.group, kind.resource)
        if not choice:
            excluded.append(Excluded(what=str(kind), by=choice.by, because=choice.because))
        elif not kind.verbs >= NEEDED_VERBS:
            excluded.append(Excluded(what=str(kind), by="not stored", because="objects of this kind cannot be created"))
        else:
            found += [Job(kind=kind, namespace=place) for place in places]
    return tuple(found), tuple(excluded)


def _table(kind: Kind) -> tuple[str, str]:
    return kind.group, kind.resource


def _usable(kinds: Iterable[Kind]) -> list[Kind]:
    """Return each resource once, in the version that the server prefers."""
    by_resource: dict[tuple[str, str], Kind] = {}
    for kind in kinds:
        if "list" in kind.verbs and (kind.preferred or (kind.group, kind.resource) not in by_resource):
            by_resource[kind.group, kind.resource] = kind
    return sorted(by_resource.values())


def _other_versions(kinds: Iterable[Kind]) -> dict[tuple[str, str], list[Kind]]:
    """Return the versions of each resource that the server serves beside the one it prefers."""
    kinds = list(kinds)
    usual = set(_usable(kinds))
    found: dict[tuple[str, str], list[Kind]] = {}
    for kind in sorted(kinds):
        if "list" in kind.verbs and kind not in usual:
            found.setdefault(_table(kind), []).append(kind)
    return found


class _StoppedError(Exception):
    """Another list has failed, and nobody waits for this one any more."""


class Pass:
    """One go through all lists at one revision."""

    def __init__(  # noqa: PLR0917  (one caller, and each word says what it is)
        self,
        scope: Scope,
        cluster: Cluster,
        shelf: Keeper,
        clock: Clock,
        kinds: Sequence[Kind],
        revision: str,
        *,
        wide: bool,
        last: bool = False,
    ) -> None:
        """With `last`, a list that cannot be had at the revision is taken as it is now."""
        self.scope, self.cluster, self.shelf, self.clock = scope, cluster, shelf, clock
        self.kinds, self.revision, self.wide, self.last = kinds, revision, wide, last
        self.references = References(namespaces=frozenset(scope.namespaces))
        self.references.add(SNAPSHOT_CLASSES, scope.snapshot_classes)
        self.chooser = Chooser.of(scope.selection, scope.namespaces, self.references, _usable(kinds), scope.cuts)
        self.other_versions = _other_versions(kinds)
        self.answers: list[_Answer] = []
        self.excluded: tuple[Excluded, ...] = ()
        self.findings: list[Finding] = []
        self.gone = ""
        self._sheaves: SimpleQueue[Sheaf | None] = SimpleQueue()
        self._room = threading.Semaphore(SHEAVES_AT_ONCE)
        self._stopped = False

    def run(self) -> None:
        """List what stands in the namespaces, then what it refers to."""
        wanted, self.excluded = jobs(self.kinds, self.scope, wide=self.wide)
        with ThreadPoolExecutor(max_workers=LISTS_AT_ONCE, thread_name_prefix="list") as pool:
            self._list_all(pool, wanted)
            for more in self._rounds():
                self._list_all(pool, more)

    def counted(self) -> tuple[Excluded, ...]:
        """Say how many objects each rule left out."""
        left_out: Counter[tuple[str, str, str]] = Counter()
        for answer in self.answers:
            left_out.update(answer.left_out)
        return tuple(Excluded(what=f"{count} {kind}", by=by, because=because) for (kind, by, because), count in sorted(left_out.items()))

    def notes(self) -> tuple[str, ...]:
        """Say what was listed in another version."""
        return tuple(dict.fromkeys(answer.note for answer in self.answers if answer.note))

    def shelved(self) -> Shelved:
        """Return the entries of all lists, once they are settled."""
        found: Shelved = {}
        for answer in self.answers:
            for folder, entries in answer.shelved.items():
                found.setdefault(folder, entries).update(entries)
        return found

    def _rounds(self) -> Iterator[list[Job]]:
        """Yield what is to be listed of the cluster's own objects; each round is decided when the one before is over."""
        scoped = self.scope.selection.cluster_scoped
        outside = [
            kind
            for kind in _usable(self.kinds)
            if not kind.namespaced and kind.verbs >= NEEDED_VERBS and kind.resource != NAMESPACE.resource
        ]
        if scoped is ClusterScope.ALL:
            yield [Job(kind=kind) for kind in outside if self.chooser.selector.resource(kind.group, kind.resource)]
        elif scoped is ClusterScope.AUTO:
            for tables in ROUNDS:
                yield [Job(kind=kind) for kind in outside if _table(kind) in tables and self._is_referred_to(kind)]
            known = 0
            for _ in range(MOST_AGGREGATIONS):
                if self.references.aggregations == known:
                    return
                known = self.references.aggregations
                yield [Job(kind=kind) for kind in outside if _table(kind) == CLUSTER_ROLES and self._is_referred_to(kind)]

    def _is_referred_to(self, kind: Kind) -> bool:
        """Say whether a kind is worth reading: what is referred to comes along without being included, unless it is excluded by name."""
        choice = self.chooser.selector.resource(kind.group, kind.resource)
        return self.references.wants(_table(kind)) and choice.by != "select.resources.exclude"

    def _list_all(self, pool: ThreadPoolExecutor, wanted: Iterable[Job]) -> None:
        """Make lists side by side, and write what they bring while they go on."""
        futures = [pool.submit(self._list, job) for job in wanted]
        for future in futures:
            future.add_done_callback(lambda _: self._sheaves.put(None))
        try:
            for _ in futures:
                while (sheaf := self._sheaves.get()) is not None:
                    self.shelf.keep(sheaf)
                    self._room.release()
            instead = self._take(futures)
        except BaseException:
            self._stopped = True
            for future in futures:
                future.cancel()
            raise
        if instead:
            self._list_all(pool, instead)

    def _take(self, futures: Iterable[Future[_Answer]]) -> list[Job]:
        """Take the answers of lists that are over; return the lists to make instead of those that were refused."""
        instead: list[Job] = []
        for future in futures:
            answer = future.result()
            self.answers.append(answer)
            self.gone = self.gone or answer.gone
            instead += answer.instead
            if answer.finding:
                self.findings.append(answer.finding)
        return instead

    def _list(self, job: Job) -> _Answer:
        """Make one LIST, and say what cannot be had."""
        if self.gone and not self.last:
            return _Answer(gone=self.gone)
        try:
            return self._of_any_version(job, self.revision)
        except RevisionGone as error:
            self.gone = gone = str(error)
        except AccessDenied as error:
            return self._refused(job, error)
        except BecalmError as error:
            return self._missing(job, error)
        if not self.last:
            return _Answer(gone=gone)
        try:
            answer = self._of_any_version(job, None)
        except BecalmError as error:
            return self._missing(job, error)
        answer.gone = gone
        return answer

    def _refused(self, job: Job, error: AccessDenied) -> _Answer:
        """Who may not list all namespaces at once may be allowed to list those that are meant."""
        if self.wide and job.namespace is None and (job.kind.namespaced or job.kind == NAMESPACE) and not job.name:
            each = {"name": "name"} if job.kind == NAMESPACE else {"name": "namespace"}
            return _Answer(instead=tuple(Job(kind=job.kind, **{each["name"]: namespace}) for namespace in self.scope.namespaces))
        return self._missing(job, error)

    def _missing(self, job: Job, error: BecalmError) -> _Answer:
        """Name what could not be listed. The definition of its kind comes along: there may be objects, and it says what they would be."""
        answer = _missing(job, error)
        if not isinstance(error, NotFound):
            self.references.meet_kind(job.kind)
        return answer

    def _of_any_version(self, job: Job, revision: str | None) -> _Answer:
        """Make one LIST. Where the preferred version fails, another that is served may do: what is stored in it needs no conversion."""
        try:
            return self._insist(job, revision)
        except ClusterUnavailable as error:
            for kind in self.other_versions.get(_table(job.kind), ()):
                with suppress(ClusterUnavailable, NotFound):
                    answer = self._insist(replace(job, kind=kind), revision)
                    answer.note = f"{job.kind} were listed as {kind.version}, since {job.kind.version} failed: {error.message}"
                    return answer
            raise

    def _insist(self, job: Job, revision: str | None) -> _Answer:
        """Make one LIST, and again where the failure may pass."""
        for _ in range(TRIES - 1):
            try:
                return self._read(job, revision)
            except (ClusterUnavailable, Throttled) as error:
                self.clock.sleep(error.delay_seconds or RETRY_SECONDS)
        return self._read(job, revision)

    def _read(self, job: Job, revision: str | None) -> _Answer:
        """Stream one list towards the repository."""
        answer, kind = _Answer(), job.kind
        finds = finder_of(kind) is not None
        certified = _table(kind) in certificates.TABLES
        sheaf = Sheaf(answer.shelved)
        for manifest in self._objects(job, revision):
            metadata = manifest["metadata"]
            choice = self.chooser.choose(kind, manifest)
            if not choice:
                if choice.by:
                    answer.left_out[str(kind), choice.by, choice.because] += 1
                continue
            if finds:
                self.references.meet_object(kind, manifest)
            if certified and (certificate := certificates.found_in(kind, manifest)):
                answer.certificates.append(certificate)
            body = orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS)
            answer.size += len(body)
            sheaf.add(folder_of(kind, metadata.get("namespace")), metadata["name"], body)
            if sheaf.full:
                self._hand_over(kind, sheaf)
                sheaf = Sheaf(answer.shelved)
        self._hand_over(kind, sheaf)
        return answer

    def _objects(self, job: Job, revision: str | None) -> Iterable[Manifest]:
        fields = f"metadata.name={job.name}" if job.name else ""
        return self.cluster.list(job.kind, namespace=job.namespace, fields=fields, revision=revision)

    def _hand_over(self, kind: Kind, sheaf: Sheaf) -> None:
        """Give objects to the thread that writes them. Waits while it has enough before it."""
        if not sheaf.bodies:
            return
        self.references.meet_kind(kind)
        while not self._room.acquire(timeout=_PATIENCE_SECONDS):
            if self._stopped:
                raise _StoppedError
        self._sheaves.put(sheaf)


def _missing(job: Job, error: BecalmError) -> _Answer:
    """Name what could not be listed, and what to do. Raises the error itself where it has nothing to do with the cluster."""
    match error:
        case AccessDenied():
            remedy = f"give Becalm's account the right to list {job.kind}, or exclude them under spec.select.resources"
        case NotFound():
            remedy = "the kind is no longer served; run the policy again"
        case ClusterUnavailable() | Throttled():
            remedy = "look at the API server, or at the server behind this API group"
        case RevisionGone():
            remedy = "run the policy again"
        case _:
            raise error
    return _Answer(finding=Finding(where=str(job), message=f"not listed: {error.message}", remedy=remedy))
