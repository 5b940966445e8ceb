"""Read a whole cluster kind by kind, and keep what state there is: names, times and reasons. Objects stream by and are let go at once.

What may not be read is a finding, never a silence. It judges nothing, writes nothing, and keeps no value of any Secret.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from becalm.actions import inventory, state_marks, state_objects, state_pods
from becalm.actions.lists import NEEDED_VERBS
from becalm.actions.pods import claims_of, is_over
from becalm.actions.state import Census, State, What
from becalm.actions.state_kinds import MIRRORS
from becalm.errors import AccessDenied, NotFound
from becalm.kube.base import LABEL_RUN
from becalm.kube.kinds import CLAIM, CRD, NAMESPACE, POD, VOLUME
from becalm.kube.rules import child
from becalm.kube.snapshots import quantity
from becalm.model import Finding
from becalm.policy.select import labels_of
from becalm.policy.units import format_quantity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from becalm.kube.base import Cluster, Kind
    from becalm.model import Manifest

_FIRST = (VOLUME, POD, CLAIM)
_LOCAL = frozenset({"local", "hostPath"})
_BESIDE = frozenset({"capacity", "claimRef", "nodeAffinity"})
"""What the specification of a volume says beside where it is."""
_TABLES_APART = frozenset({(kind.group, kind.resource) for kind in (*_FIRST, NAMESPACE, CRD)})


def read(cluster: Cluster) -> Census:
    """Read every kind that keeps something. Raises what the cluster raises; a kind that is refused is a finding."""
    served = cluster.discover()
    found = _Finder()
    namespaces = inventory.namespaces(cluster)
    defined = set()
    for item in _each(cluster, CRD, found.findings):
        defined.add(item["metadata"]["name"])
        found.take(CRD, item, custom=False)
    for kind in _FIRST:
        for item in _each(cluster, kind, found.findings):
            found.take(kind, item, custom=False)
    for kind in worth_reading(served.kinds):
        custom = is_custom(kind, defined)
        for item in _each(cluster, kind, found.findings):
            found.take(kind, item, custom=custom)
    found.findings += [
        Finding(where=group, message=f"it does not answer: {reason}", remedy="mend the API service behind it: its objects are not counted")
        for group, reason in sorted(served.failures.items())
    ]
    return replace(found.census(), namespaces=namespaces, cluster_uid=served.uid, server_version=served.server_version)


def worth_reading(kinds: Iterable[Kind]) -> list[Kind]:
    """Return the kinds that may keep something, each once, beside those that are read first. Pure."""
    chosen: dict[tuple[str, str], Kind] = {}
    for kind in kinds:
        table = (kind.group, kind.resource)
        if table in MIRRORS or table in _TABLES_APART or not kind.verbs >= NEEDED_VERBS:
            continue
        if kind.preferred or table not in chosen:
            chosen[table] = kind
    return sorted(chosen.values())


def is_custom(kind: Kind, defined: Iterable[str]) -> bool:
    """Say whether a kind is a custom resource: it has a definition, or a group that is none of Kubernetes' own. Pure."""
    return f"{kind.resource}.{kind.group}" in defined or ("." in kind.group and not kind.group.endswith(".k8s.io"))


@dataclass(slots=True)
class _Finder:
    """What was found so far. Volumes come before pods, pods before claims."""

    findings: list[Finding] = field(default_factory=list)
    _states: list[State] = field(default_factory=list)
    _alike: dict[tuple[str, str, str], State] = field(default_factory=dict)
    _volumes: dict[str, tuple[str, str]] = field(default_factory=dict)
    """The plugin or driver of each, and what becomes of it."""
    _mounted: set[tuple[str, str]] = field(default_factory=set)
    _derived: Counter[str] = field(default_factory=Counter)
    _objects: int = 0

    def census(self) -> Census:
        """Return all of it, in the order of places."""
        states = sorted([*self._states, *self._alike.values()], key=lambda one: (one.namespace, one.what, one.where))
        return Census(states=tuple(states), derived=dict(self._derived), objects=self._objects, findings=tuple(self.findings))

    def take(self, kind: Kind, item: Manifest, *, custom: bool) -> None:
        """Look at one object."""
        self._objects += 1
        if LABEL_RUN in labels_of(item["metadata"]):
            return
        if kind == VOLUME:
            self._volume(item)
        elif kind == POD:
            self._pod(item)
        elif kind == CLAIM:
            self._states.append(self._claim(item))
        else:
            before = len(self._states)
            self._states += state_objects.states(kind, item, custom=custom)
            if len(self._states) == before:
                self._derived[item["metadata"].get("namespace") or ""] += 1

    def _pod(self, item: Manifest) -> None:
        if is_over(item):
            return
        namespace = item["metadata"]["namespace"]
        self._mounted.update((namespace, claim) for claim in claims_of(item).values())
        for state in state_pods.states(item):
            key = (namespace, state.name, state.part)
            known = self._alike.get(key)
            self._alike[key] = replace(known, count=known.count + 1) if known else state

    def _volume(self, item: Manifest) -> None:
        """Note a volume; one whose claim is gone is state that nobody sees."""
        spec, name = child(item, "spec"), item["metadata"]["name"]
        source = _source(spec)
        policy, phase = str(spec.get("persistentVolumeReclaimPolicy") or "Delete"), child(item, "status").get("phase")
        self._volumes[name] = (source, policy)
        if phase in {"Released", "Failed"} or (phase == "Available" and policy == "Retain" and not child(spec, "claimRef")):
            before = child(spec, "claimRef")
            whose = f"it was the claim {before['namespace']}/{before['name']}; " if {"namespace", "name"} <= before.keys() else ""
            self._states.append(
                State(
                    what=What.VOLUME,
                    resource="persistentvolumes",
                    name=name,
                    labels=labels_of(item["metadata"]),
                    detail=f"{whose}it is {phase}, and kept by {source or 'an unknown driver'}",
                    created=state_marks.created(item),
                    changed=state_marks.changed(item),
                    size_bytes=quantity(child(spec, "capacity").get("storage")),
                    on_node=source in _LOCAL,
                )
            )

    def _claim(self, item: Manifest) -> State:
        metadata, spec, status = item["metadata"], child(item, "spec"), child(item, "status")
        source, policy = self._volumes.get(str(spec.get("volumeName")), ("", ""))
        size = quantity(child(status, "capacity").get("storage") or child(spec, "resources", "requests").get("storage"))
        words = [format_quantity(size)] if size else []
        words += [f"{source}, on one node" if source in _LOCAL else source] if source else []
        words += ["raw block"] if spec.get("volumeMode") == "Block" else []
        words += [f"it is {status.get('phase') or 'Pending'}"] if status.get("phase") != "Bound" else []
        words += ["no pod mounts it"] if (metadata["namespace"], metadata["name"]) not in self._mounted else []
        words += ["its data goes with the claim"] if policy == "Delete" else []
        return State(
            what=What.CLAIM,
            resource=CLAIM.resource,
            namespace=metadata["namespace"],
            name=metadata["name"],
            labels=labels_of(metadata),
            detail=", ".join(words),
            origin=state_marks.origin(item),
            created=state_marks.created(item),
            changed=state_marks.changed(item),
            size_bytes=size,
            on_node=source in _LOCAL,
            goes=policy == "Delete",
        )


def _source(spec: Manifest) -> str:
    """Return the driver of a volume, or the plugin that holds it (`nfs`, `local`)."""
    driver = child(spec, "csi").get("driver")
    return str(driver) if driver else next((key for key, value in spec.items() if isinstance(value, dict) and key not in _BESIDE), "")


def _each(cluster: Cluster, kind: Kind, findings: list[Finding]) -> Iterator[Manifest]:
    """Yield the objects of a kind; what we may not read is a finding, and what is not served is nothing."""
    try:
        yield from cluster.list(kind)
    except NotFound:
        return
    except AccessDenied as error:
        remedy = "give the account the right to list them: what is there is not known"
        findings.append(Finding(where=str(kind), message=f"cannot be read: {error.message}", remedy=remedy))
