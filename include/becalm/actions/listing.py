"""Every selected object of some namespaces, listed at exactly one revision, and streamed into the repository as the server gave it.

One LIST per kind and namespace, several at a time. What is left out by rule is counted, with the rule; a kind that cannot be listed
is a finding. Nothing is changed in the cluster, and no object is kept in memory.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson

from becalm.actions.references import ROUNDS, SNAPSHOT_CLASSES, References
from becalm.errors import AccessDenied, BecalmError, ClusterUnavailable, NotFound, RevisionGone, Throttled
from becalm.kube.base import LABEL_RUN
from becalm.kube.kinds import NAMESPACE, SNAPSHOT_CONTENT
from becalm.model import Excluded, Finding, ResourceRef
from becalm.policy.select import Choice, Selector, opted_out
from becalm.policy.spec import ClusterScope
from becalm.repository.node import Node
from becalm.repository.tree import TreeBuilder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from becalm.clock import Clock
    from becalm.kube.base import Cluster, Kind
    from becalm.model import Manifest
    from becalm.policy.spec import Selection
    from becalm.repository.writer import Writer

LISTS_AT_ONCE = 8
TRIES = 3
RETRY_SECONDS = 1.0
NEEDED_VERBS = frozenset({"list", "get", "create"})
"""What can be listed and not created is a view of something else (metrics), and cannot be restored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What was listed."""

    revision: str
    tree: str
    objects: int
    listed_again: str = ""
    excluded: tuple[Excluded, ...] = ()
    findings: tuple[Finding, ...] = ()


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

    nodes: dict[str, Node] = field(default_factory=dict)
    left_out: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    finding: Finding | None = None
    gone: str = ""
    """Why the revision is not there any more."""


def jobs(kinds: Iterable[Kind], scope: Scope) -> tuple[tuple[Job, ...], tuple[Excluded, ...]]:
    """Say which lists there are to make in the namespaces, and which kinds stay out by rule. Pure."""
    selector = Selector.of(scope.selection)
    found: list[Job] = []
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
            found += [Job(kind=kind, namespace=namespace) for namespace in scope.namespaces]
    found += [Job(kind=NAMESPACE, name=namespace) for namespace in scope.namespaces]
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


def execute(scope: Scope, *, revision: str, cluster: Cluster, writer: Writer, clock: Clock) -> Listed:
    """List and write all of it. If the revision has been compacted away, everything is listed again at one later revision."""
    served = cluster.discover()
    findings = [
        Finding(where=name, message=f"the API group does not answer, its objects are missing: {reason}", remedy="look at its APIService")
        for name, reason in sorted(served.failures.items())
    ]
    first = _Pass(scope, cluster, writer, clock, served.kinds, revision)
    first.run()
    again = ""
    if first.gone:
        later = cluster.list(NAMESPACE, page_size=1).revision
        again = f"the revision {revision} was gone ({first.gone}); all objects were listed again at {later}"
        first = _Pass(scope, cluster, writer, clock, served.kinds, later, last=True)
        first.run()
        revision = later
        if first.gone:
            again += f"; what has no such revision was listed as it is ({first.gone})"
    builder = TreeBuilder(mtime=clock.now())
    for path, node in first.nodes.items():
        builder.add_node(path, node)
    return Listed(
        revision=revision,
        tree=builder.write(writer),
        objects=len(first.nodes),
        listed_again=again,
        excluded=(*first.excluded, *first.counted()),
        findings=(*findings, *first.findings),
    )


class _Pass:
    """One go through all lists at one revision."""

    def __init__(  # noqa: PLR0917  (one caller, and each word says what it is)
        self, scope: Scope, cluster: Cluster, writer: Writer, clock: Clock, kinds: Sequence[Kind], revision: str, *, last: bool = False
    ) -> None:
        """With `last`, a list that cannot be had at the revision is taken as it is now."""
        self.scope, self.cluster, self.writer, self.clock = scope, cluster, writer, clock
        self.kinds, self.revision, self.last = kinds, revision, last
        self.selector = Selector.of(scope.selection)
        self.references = References(namespaces=frozenset(scope.namespaces))
        self.references.add(SNAPSHOT_CLASSES, scope.snapshot_classes)
        self.nodes: dict[str, Node] = {}
        self.excluded: tuple[Excluded, ...] = ()
        self.findings: list[Finding] = []
        self.left_out: Counter[tuple[str, str, str]] = Counter()
        self.gone = ""

    def run(self) -> None:
        """List what stands in the namespaces, then what it refers to."""
        wanted, self.excluded = jobs(self.kinds, self.scope)
        with ThreadPoolExecutor(max_workers=LISTS_AT_ONCE, thread_name_prefix="list") as pool:
            self._take(pool.map(self._list, wanted))
            for more in self._rounds():
                self._take(pool.map(self._list, more))

    def counted(self) -> tuple[Excluded, ...]:
        """Say how many objects each rule left out."""
        return tuple(
            Excluded(what=f"{count} {kind}", by=by, because=because) for (kind, by, because), count in sorted(self.left_out.items())
        )

    def _rounds(self) -> Iterator[list[Job]]:
        """Yield what is to be listed of the cluster's own objects; each round is decided when the one before is over."""
        scoped = self.scope.selection.cluster_scoped
        outside = [
            kind
            for kind in _usable(self.kinds)
            if not kind.namespaced and kind.verbs >= NEEDED_VERBS and kind.resource != NAMESPACE.resource
        ]
        if scoped is ClusterScope.ALL:
            yield [Job(kind=kind) for kind in outside if self.selector.resource(kind.group, kind.resource)]
        elif scoped is ClusterScope.AUTO:
            for tables in ROUNDS:
                yield [Job(kind=kind) for kind in outside if _table(kind) in tables and self._is_referred_to(kind)]

    def _is_referred_to(self, kind: Kind) -> bool:
        """Say whether a kind is worth reading: what is referred to comes along without being included, unless it is excluded by name."""
        choice = self.selector.resource(kind.group, kind.resource)
        return self.references.wants(_table(kind)) and choice.by != "select.resources.exclude"

    def _take(self, answers: Iterable[_Answer]) -> None:
        for answer in answers:
            self.nodes |= answer.nodes
            self.left_out += answer.left_out
            self.gone = self.gone or answer.gone
            if answer.finding:
                self.findings.append(answer.finding)

    def _list(self, job: Job) -> _Answer:
        """Make one LIST, and say what cannot be had."""
        if self.gone and not self.last:
            return _Answer(gone=self.gone)
        try:
            return self._insist(job, self.revision)
        except RevisionGone as error:
            gone = str(error)
        except BecalmError as error:
            return _missing(job, error)
        if not self.last:
            return _Answer(gone=gone)
        try:
            answer = self._insist(job, None)
        except BecalmError as error:
            return _missing(job, error)
        answer.gone = gone
        return answer

    def _insist(self, job: Job, revision: str | None) -> _Answer:
        """Make one LIST, and again where the failure may pass."""
        for _ in range(TRIES - 1):
            try:
                return self._read(job, revision)
            except (ClusterUnavailable, Throttled) as error:
                self.clock.sleep(error.delay_seconds or RETRY_SECONDS)
        return self._read(job, revision)

    def _read(self, job: Job, revision: str | None) -> _Answer:
        """Stream one list into the repository."""
        answer = _Answer()
        fields = f"metadata.name={job.name}" if job.name else ""
        for manifest in self.cluster.list(job.kind, namespace=job.namespace, fields=fields, revision=revision):
            choice = self._chooses(job, manifest)
            if not choice:
                if choice.by:
                    answer.left_out[str(job.kind), choice.by, choice.because] += 1
                continue
            self.references.meet(job.kind, manifest)
            metadata = manifest["metadata"]
            ref = ResourceRef(group=job.kind.group, resource=job.kind.resource, namespace=metadata.get("namespace"), name=metadata["name"])
            content = orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS)
            saved = self.writer.save_bytes(content)
            answer.nodes[ref.path] = Node.file(f"{ref.name}.json", content=saved.content, size=saved.size)
        return answer

    def _chooses(self, job: Job, manifest: Manifest) -> Choice:
        """Say whether one object is captured, and by which rule not."""
        metadata = manifest["metadata"]
        labels: Mapping[str, str] = metadata.get("labels") or {}
        if job.name:
            return Choice(selected=True, by="select.namespaces")
        if LABEL_RUN in labels or self._is_of_a_cut(job, manifest):
            return Choice(selected=False, by="temporary", because="it belongs to a run of Becalm")
        if metadata.get("deletionTimestamp"):
            return Choice(selected=False, by="terminating", because="it is being deleted")
        if job.kind.namespaced or self.scope.selection.cluster_scoped is ClusterScope.ALL:
            return self.selector.object(metadata)
        if not self.references.means(job.kind, manifest):
            return Choice(selected=False, by="")
        if opted_out(labels):
            return self.selector.object(metadata)
        return Choice(selected=True, by="select.clusterScoped", because="the selection refers to it")

    def _is_of_a_cut(self, job: Job, manifest: Manifest) -> bool:
        if job.kind.resource != SNAPSHOT_CONTENT.resource:
            return False
        return ((manifest.get("spec") or {}).get("volumeSnapshotRef") or {}).get("name") in self.scope.cuts


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
