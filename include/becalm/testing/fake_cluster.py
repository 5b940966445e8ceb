"""A cluster in memory: the `Cluster` port over dictionaries, with every revision kept, every call recorded, and faults on demand.

It has no controllers of its own. A test adds what it needs as reactions (`on_write`): `testing.fake_storage` brings a snapshot
controller. It never opens a socket; `exec` goes to a function that the test gives.
"""

from __future__ import annotations

import threading
import uuid
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from becalm.errors import AlreadyExists, BecalmError, Conflict, InvalidObject, NotFound, RevisionGone
from becalm.kube.base import Discovery, Event, ExecResult, Kind, Verb
from becalm.testing.fake_faults import Call, Fault
from becalm.testing.fake_kinds import DEFAULT_KINDS
from becalm.testing.fake_selectors import fields_match, labels_match

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from becalm.model import Manifest

Key = tuple[str, str]
"""Namespace (empty for a cluster-scoped object) and name."""
Table = tuple[str, str]
"""Group and resource."""


EXEC_PIECE_BYTES = 32 * 1024
"""In what pieces output is handed on."""


class Executor(Protocol):
    """What a test gives for `exec`: the same signature, called once the container is known to run."""

    def __call__(
        self, namespace: str, pod: str, *, container: str, command: Sequence[str], stdin: bytes = b"", timeout_seconds: float = 30
    ) -> ExecResult:
        """Run the command."""


def run_nothing(
    namespace: str,  # noqa: ARG001  (an executor's signature, here and below)
    pod: str,  # noqa: ARG001
    *,
    container: str,  # noqa: ARG001
    command: Sequence[str],  # noqa: ARG001
    stdin: bytes = b"",  # noqa: ARG001
    timeout_seconds: float = 30,  # noqa: ARG001
) -> ExecResult:
    """Answer each command with success and silence."""
    return ExecResult(stdout=b"", stderr=b"", exit_code=0)


class FakeListing:
    """The objects of one LIST."""

    def __init__(self, items: list[Manifest], revision: str, fault: BecalmError | None) -> None:
        """Take the objects; the fault strikes after the first."""
        self._items = items
        self._fault = fault
        self.revision = revision

    def __iter__(self) -> Iterator[Manifest]:
        """Yield each object."""
        for number, item in enumerate(self._items):
            if number and self._fault:
                raise self._fault
            yield deepcopy(item)
        if self._fault and len(self._items) < 2:
            raise self._fault


@dataclass(slots=True)
class FakeCluster:
    """The port over dictionaries. `put` and `remove` are the test's own hand and are not recorded."""

    kinds: list[Kind] = field(default_factory=lambda: list(DEFAULT_KINDS))
    failures: dict[str, str] = field(default_factory=dict)
    """Groups whose discovery fails."""
    server_version: str = "v1.34.0-fake"
    calls: list[Call] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    run_command: Executor = run_nothing
    log_lines: dict[tuple[str, str], list[bytes]] = field(default_factory=dict)
    denied: set[tuple[str, str]] = field(default_factory=set)
    """What the account may not do: verb and plural. With anything in here it may not do everything."""
    _history: dict[Table, dict[Key, list[tuple[int, Manifest | None]]]] = field(default_factory=dict)
    _reactions: list[tuple[str, Callable[[Manifest], None]]] = field(default_factory=list)
    _revision: int = 1000
    _compacted: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    # The test's own hand.

    def kind(self, resource: str, group: str | None = None) -> Kind:
        """Return a kind by its plural."""
        found = [kind for kind in self.kinds if kind.resource == resource and (group is None or kind.group == group)]
        if not found:
            raise NotFound(f"the server does not serve {resource}", where=group or "")
        return found[0]

    def put(self, *manifests: Manifest) -> Manifest:
        """Write objects as they are, whatever was there; return the last."""
        for manifest in manifests:
            kind = self._kind_of(manifest)
            with self._changed:
                stored = self._write(kind, deepcopy(manifest))
        return deepcopy(stored)

    def remove(self, resource: str, name: str, namespace: str = "") -> None:
        """Take an object away at once, finalizers or not."""
        with self._changed:
            self._append(self.kind(resource), (namespace, name), None)

    def all(self, resource: str, group: str | None = None) -> Sequence[Manifest]:
        """Return what stands there now."""
        with self._changed:
            return [deepcopy(item) for _, item in self._state(self.kind(resource, group), None)]

    def on_write(self, resource: str, react: Callable[[Manifest], None]) -> None:
        """Call `react` with each object of a resource after it was written through the port."""
        self._reactions.append((resource, react))

    def fail(
        self,
        error: BecalmError,
        *,
        verb: str = "",
        kind: str = "",
        namespace: str = "",
        name: str = "",
        times: int = -1,
        after: int = 0,
        in_the_middle: bool = False,
    ) -> None:
        """Raise this error for matching calls from now on."""
        self.faults.append(
            Fault(error=error, verb=verb, kind=kind, namespace=namespace, name=name, times=times, after=after, in_the_middle=in_the_middle)
        )

    def compact(self) -> None:
        """Forget every revision before the present one."""
        self._compacted = self._revision

    def recorded(self, verb: str, kind: str = "") -> Sequence[Call]:
        """Return the calls of one verb, of one kind if given."""
        return [call for call in self.calls if call.verb == verb and (not kind or call.kind == kind)]

    # The port.

    def discover(self) -> Discovery:
        """Say which kinds there are."""
        self._enter(Call(verb="discover"))
        home = [item for item in self.all("namespaces") if item["metadata"]["name"] == "kube-system"]
        uid = home[0]["metadata"]["uid"] if home else "fake-cluster"
        return Discovery(kinds=tuple(self.kinds), failures=dict(self.failures), server_version=self.server_version, uid=uid)

    def list(
        self,
        kind: Kind,
        *,
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
        revision: str | None = None,
        page_size: int = 500,  # noqa: ARG002  (there is one page)
    ) -> FakeListing:
        """List objects now, or exactly as they were."""
        call = Call(verb="list", kind=str(kind), namespace=namespace or "", revision=revision or "")
        fault = self._enter(call)
        with self._changed:
            if revision is not None and int(revision) < self._compacted:
                raise RevisionGone(f"the revision {revision} has been compacted away", where=str(kind))
            at = int(revision) if revision is not None else None
            found = [
                item
                for (place, _), item in self._state(kind, at)
                if (not namespace or place == namespace)
                and labels_match(labels, item["metadata"].get("labels", {}))
                and fields_match(fields, item)
            ]
            return FakeListing([deepcopy(item) for item in found], revision or str(self._revision), fault)

    def get(self, kind: Kind, name: str, *, namespace: str | None = None) -> Manifest:
        """Return one object."""
        self._enter(Call(verb="get", kind=str(kind), namespace=namespace or "", name=name))
        with self._changed:
            return deepcopy(self._present(kind, (namespace or "", name)))

    def apply(self, kind: Kind, manifest: Manifest, *, verb: Verb, subresource: str = "", dry_run: bool = False) -> Manifest:
        """Write one object."""
        manifest = deepcopy(manifest)
        if kind.group == "authorization.k8s.io":
            return self._review(manifest)
        metadata = manifest["metadata"]
        if "name" not in metadata and verb is Verb.CREATE:
            metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
        place = metadata.get("namespace", "") if kind.namespaced else ""
        self._enter(Call(verb=str(verb), kind=str(kind), namespace=place, name=metadata["name"]))
        with self._changed:
            self._check_namespace(kind, place)
            made = self._changed_object(kind, manifest, verb, subresource)
            if dry_run:
                return made
            made = deepcopy(self._write(kind, made))
        self._react(kind, made)
        return made

    def delete(
        self,
        kind: Kind,
        name: str,
        *,
        namespace: str | None = None,
        uid: str = "",
        propagation: str = "Background",  # noqa: ARG002  (nothing collects garbage here)
        grace_seconds: int | None = None,  # noqa: ARG002  (there is no grace either)
    ) -> bool:
        """Delete one object; with finalizers it is only marked, and whoever reacts is told."""
        key = (namespace or "", name)
        self._enter(Call(verb="delete", kind=str(kind), namespace=key[0], name=name))
        with self._changed:
            try:
                item = deepcopy(self._present(kind, key))
            except NotFound:
                return False
            if uid and uid != item["metadata"]["uid"]:
                raise Conflict(f"{name} has another uid", where=str(kind))
            held = bool(item["metadata"].get("finalizers"))
            if held:
                item["metadata"].setdefault("deletionTimestamp", "2026-01-01T00:00:00Z")
                self._write(kind, item)
            else:
                self._append(kind, key, None)
                if kind.resource == "namespaces":
                    self._empty(name)
        if held:
            self._react(kind, item)
        return True

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
        """Yield what was written since a revision, and what is written within the time (at most a second of it)."""
        self._enter(Call(verb="watch", kind=str(kind), namespace=namespace or "", revision=revision))
        seen = int(revision or 0)
        if revision and seen < self._compacted:
            raise RevisionGone(f"the revision {revision} has been compacted away", where=str(kind))
        while True:
            with self._changed:
                events = self._since(kind, seen)
                if not events and not self._changed.wait(min(timeout_seconds, 1.0)):
                    return
            for at, event in events:
                seen = max(seen, at)
                item = event.object
                inside = not namespace or item["metadata"].get("namespace") == namespace
                if inside and fields_match(fields, item) and labels_match(labels, item["metadata"].get("labels", {})):
                    yield event

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
        """Hand a command to the test's executor, if the container is there and runs."""
        self._enter(Call(verb="exec", kind="pods", namespace=namespace, name=pod, command=tuple(command)))
        with self._changed:
            item = self._present(self.kind("pods"), (namespace, pod))
        names = [one["name"] for one in (*item["spec"]["containers"], *item["spec"].get("initContainers", []))]
        if container not in names:
            raise NotFound(f"the pod has no container {container}", where=f"{namespace}/{pod}")
        if item.get("status", {}).get("phase") != "Running":
            raise NotFound("the pod does not run", where=f"{namespace}/{pod}")
        result = self.run_command(namespace, pod, container=container, command=command, stdin=stdin, timeout_seconds=timeout_seconds)
        if out is None:
            return result
        for start in range(0, len(result.stdout), EXEC_PIECE_BYTES):
            out(result.stdout[start : start + EXEC_PIECE_BYTES])
        return replace(result, stdout=b"")

    def logs(self, namespace: str, pod: str, *, container: str = "", follow: bool = False) -> Iterator[bytes]:  # noqa: ARG002  (one log, already whole)
        """Yield what the test put into `log_lines`."""
        self._enter(Call(verb="logs", kind="pods", namespace=namespace, name=pod))
        yield from self.log_lines.get((namespace, pod), [])

    # Inside.

    def _enter(self, call: Call) -> BecalmError | None:
        """Record a call and raise the fault that meets it; return one that strikes in the middle."""
        with self._changed:
            self.calls.append(call)
            met = next((fault for fault in self.faults if fault.meets(call)), None)
        if met and not met.in_the_middle:
            raise met.error
        return met.error if met else None

    def _review(self, manifest: Manifest) -> Manifest:
        """Say whether the account may do what a review asks. It is a question, and changes nothing."""
        asked = manifest["spec"]["resourceAttributes"]
        self._enter(Call(verb="review", kind=asked["resource"], namespace=asked["namespace"]))
        refused = (asked["verb"], asked["resource"]) in self.denied or (asked["resource"] == "*" and bool(self.denied))
        return manifest | {"status": {"allowed": not refused}}

    def _kind_of(self, manifest: Manifest) -> Kind:
        for kind in self.kinds:
            if (kind.api_version, kind.kind) == (manifest["apiVersion"], manifest["kind"]):
                return kind
        raise NotFound(f"the server does not serve {manifest['apiVersion']} {manifest['kind']}")

    def _check_namespace(self, kind: Kind, place: str) -> None:
        if kind.namespaced and not place:
            raise InvalidObject("the object names no namespace", where=str(kind))
        if place:
            self._present(self.kind("namespaces"), ("", place))

    def _changed_object(self, kind: Kind, manifest: Manifest, verb: Verb, subresource: str) -> Manifest:
        """Return what a write makes of the object that is there."""
        name = manifest["metadata"]["name"]
        key = (manifest["metadata"].get("namespace", "") if kind.namespaced else "", name)
        try:
            old: Manifest | None = self._present(kind, key)
        except NotFound:
            old = None
        if verb is Verb.CREATE and old:
            raise AlreadyExists(f"{name} is there already", where=str(kind))
        if old is None:
            if verb in {Verb.UPDATE, Verb.MERGE}:
                raise NotFound(f"{name} is not there", where=str(kind))
            return manifest
        wanted = manifest["metadata"].get("resourceVersion")
        if wanted and wanted != old["metadata"]["resourceVersion"]:
            raise Conflict(f"{name} changed meanwhile", where=str(kind))
        if verb is Verb.UPDATE:
            return manifest | {"status": old["status"]} if "status" in old and not subresource else manifest
        made: Manifest = _merged(old, manifest)
        return made

    def _write(self, kind: Kind, item: Manifest) -> Manifest:
        metadata = item["metadata"]
        key = (metadata.get("namespace", "") if kind.namespaced else "", metadata["name"])
        item.setdefault("apiVersion", kind.api_version)
        item.setdefault("kind", kind.kind)
        metadata.setdefault("uid", str(uuid.uuid4()))
        if metadata.get("deletionTimestamp") and metadata.get("finalizers") == []:
            self._append(kind, key, None)
            return item
        metadata["resourceVersion"] = str(self._revision + 1)
        self._append(kind, key, item)
        return item

    def _append(self, kind: Kind, key: Key, item: Manifest | None) -> None:
        self._revision += 1
        self._history.setdefault((kind.group, kind.resource), {}).setdefault(key, []).append((self._revision, item))
        self._changed.notify_all()

    def _react(self, kind: Kind, item: Manifest) -> None:
        for resource, reaction in list(self._reactions):
            if resource == kind.resource:
                reaction(deepcopy(item))

    def _present(self, kind: Kind, key: Key) -> Manifest:
        versions = self._history.get((kind.group, kind.resource), {}).get(key, [])
        if not versions or versions[-1][1] is None:
            raise NotFound(f"{kind.kind} {'/'.join(part for part in key if part)} is not there", where=str(kind))
        return versions[-1][1]

    def _state(self, kind: Kind, at: int | None) -> Sequence[tuple[Key, Manifest]]:
        """Return the objects as they were at a revision, or as they are."""
        found = []
        for key, versions in sorted(self._history.get((kind.group, kind.resource), {}).items()):
            then = [item for revision, item in versions if at is None or revision <= at]
            if then and then[-1] is not None:
                found.append((key, then[-1]))
        return found

    def _since(self, kind: Kind, revision: int) -> Sequence[tuple[int, Event]]:
        """Return the events after a revision, in their order."""
        found = []
        for versions in self._history.get((kind.group, kind.resource), {}).values():
            before: Manifest | None = None
            for at, item in versions:
                if at > revision and (item or before):
                    word = "DELETED" if item is None else "MODIFIED" if before else "ADDED"
                    found.append((at, Event(type=word, object=deepcopy(item or before or {}))))
                before = item
        return sorted(found, key=lambda pair: pair[0])

    def _empty(self, namespace: str) -> None:
        """Take all that stands in a namespace."""
        for kind in self.kinds:
            for key, _ in self._state(kind, None):
                if kind.namespaced and key[0] == namespace:
                    self._append(kind, key, None)


def _merged(old: Any, new: Any) -> Any:
    """Merge as RFC 7386 says."""
    if not isinstance(new, dict):
        return deepcopy(new)
    result = deepcopy(old) if isinstance(old, dict) else {}
    for key, value in new.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


__all__ = ["DEFAULT_KINDS", "Call", "Executor", "FakeCluster", "FakeListing", "Fault", "run_nothing"]
