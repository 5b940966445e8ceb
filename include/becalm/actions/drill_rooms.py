"""The namespaces of a drill: made new, closed before anything stands in them, and removed with all that is in them.

It touches nothing but namespaces that carry the label of that very drill, and the volumes that were made for their claims. A volume
that shares its storage with another one is told to let its data stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from becalm.clock import Deadline, format_time, parse_time
from becalm.errors import AlreadyExists, BecalmError, Conflict, NotFound
from becalm.kube.base import (
    ANNOTATION_EXPIRES,
    ANNOTATION_RESTORED_FROM,
    LABEL_DRILL,
    LABEL_MANAGED,
    LABEL_POLICY,
    LABEL_PROTECT,
    LABEL_REPOSITORY,
    LABEL_ROLE,
    LABEL_RUN,
    MANAGER,
    ROLE_DRILL,
    Kind,
    Verb,
    repository_mark,
)
from becalm.kube.kinds import NAMESPACE, VOLUME
from becalm.kube.rules import child
from becalm.model import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from becalm.actions.drill_steps import DrillPlan
    from becalm.actions.handover import Ports
    from becalm.model import Manifest

NETWORK_POLICY = Kind(group="networking.k8s.io", version="v1", resource="networkpolicies", kind="NetworkPolicy", namespaced=True)
CLOSED = "becalm-drill"
MOVERS = "becalm-drill-movers"
NAME_LABEL = "kubernetes.io/metadata.name"
SECURITY = "pod-security.kubernetes.io/"
"""The only labels that a drill's namespace takes over: others are what live controllers choose namespaces by."""
MARGIN = timedelta(minutes=30)
"""How long after its time a drill may still be cleaning up."""
KEPT = timedelta(days=1)
"""How long a namespace stays that was left for a person."""
GONE_SECONDS = 300.0
PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadDrill:
    """A drill whose time is over, and that has left namespaces."""

    policy: str
    id: str
    namespaces: tuple[str, ...]


def names(policy: str, drill: str, namespaces: Sequence[str]) -> dict[str, str]:
    """Return the namespace of the drill for each namespace of a point. Pure."""
    base = f"drill-{policy}-{drill}"
    return {name: base if not number else f"{base}-{number + 1}" for number, name in enumerate(sorted(namespaces))}


def namespace(decided: DrillPlan, source: str, saved: Manifest, *, expires: datetime) -> Manifest:
    """Describe the namespace for one of the point's; `saved` is that as it was saved, or nothing. Pure."""
    labels = {key: value for key, value in child(saved, "metadata", "labels").items() if str(key).startswith(SECURITY)}
    return {
        "apiVersion": NAMESPACE.api_version,
        "kind": NAMESPACE.kind,
        "metadata": {
            "name": decided.rooms[source],
            "labels": {**labels, **labels_of(decided), LABEL_PROTECT: "no"},
            "annotations": {ANNOTATION_EXPIRES: format_time(expires), ANNOTATION_RESTORED_FROM: decided.point},
        },
    }


def closed(decided: DrillPlan, room: str) -> Manifest:
    """Describe the policy that denies everything but what stays within the drill, and names. Pure."""
    within = [{"namespaceSelector": {"matchLabels": {LABEL_DRILL: decided.id}}}]
    names_of_services = {
        "to": [{"namespaceSelector": {"matchLabels": {NAME_LABEL: "kube-system"}}}],
        "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
    }
    spec = {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": within}],
        "egress": [{"to": within}, names_of_services],
    }
    return _policy(CLOSED, decided, room, spec)


def movers(decided: DrillPlan, room: str, run: str) -> Manifest:
    """Describe the policy that lets the movers of the restore reach the bucket; nobody can know their label before. Pure."""
    spec = {"podSelector": {"matchLabels": {LABEL_RUN: run}}, "policyTypes": ["Egress"], "egress": [{}]}
    return _policy(MOVERS, decided, room, spec)


def _policy(name: str, decided: DrillPlan, room: str, spec: Manifest) -> Manifest:
    metadata = {"name": name, "namespace": room, "labels": labels_of(decided)}
    return {"apiVersion": NETWORK_POLICY.api_version, "kind": NETWORK_POLICY.kind, "metadata": metadata, "spec": spec}


def labels_of(decided: DrillPlan) -> dict[str, str]:
    """Return the labels of what a drill makes. Pure."""
    return _labels(decided.policy, decided.id, decided.repository)


def _labels(policy: str, drill: str, repository: str) -> dict[str, str]:
    mark = {LABEL_REPOSITORY: repository_mark(repository)}
    return {LABEL_MANAGED: MANAGER, LABEL_POLICY: policy, LABEL_ROLE: ROLE_DRILL, LABEL_DRILL: drill, **mark}


def make(decided: DrillPlan, saved: Mapping[str, Manifest], ports: Ports) -> None:
    """Make the namespaces, each closed before the next step. Idempotent. Raises: AlreadyExists (one of that name is not of this drill)."""
    expires = ports.store.now() + timedelta(seconds=decided.timeout_seconds) + MARGIN  # by the clock that the reaper goes by
    for source, room in sorted(decided.rooms.items()):
        _create(NAMESPACE, namespace(decided, source, saved.get(source, {}), expires=expires), decided, ports)
        _create(NETWORK_POLICY, closed(decided, room), decided, ports)


def let_movers_out(decided: DrillPlan, run: str, ports: Ports) -> None:
    """Let the movers of this restore reach the bucket. Idempotent."""
    for room in sorted(decided.rooms.values()):
        _create(NETWORK_POLICY, movers(decided, room, run), decided, ports)


def _create(kind: Kind, manifest: Manifest, decided: DrillPlan, ports: Ports) -> None:
    metadata = manifest["metadata"]
    try:
        ports.cluster.apply(kind, manifest, verb=Verb.CREATE)
    except AlreadyExists:
        found = ports.cluster.get(kind, metadata["name"], namespace=metadata.get("namespace"))
        ours = labels_of(decided).items() <= child(found, "metadata", "labels").items()
        if not ours or child(found, "metadata").get("deletionTimestamp"):
            raise AlreadyExists(
                "it is there, and is not of this drill",
                where=f"{kind}/{metadata['name']}",
                hint="a drill uses nothing that it has not made: find out whose it is",
            ) from None


def keep(policy: str, drill: str, ports: Ports) -> tuple[str, ...]:
    """Leave the namespaces of a drill for a day; return their names."""
    until = format_time(ports.store.now() + KEPT)
    kept = []
    for found in _rooms(policy, drill, ports):
        name = str(found["metadata"]["name"])
        mark = {"metadata": {"name": name, "uid": found["metadata"]["uid"], "annotations": {ANNOTATION_EXPIRES: until}}}
        ports.cluster.apply(NAMESPACE, mark, verb=Verb.MERGE)
        kept.append(name)
    return tuple(kept)


def remove(policy: str, drill: str, ports: Ports) -> tuple[Finding, ...]:
    """Remove the namespaces of a drill with all that is in them, and wait until they and their volumes are gone; say what is still there.

    Idempotent. Raises: AccessDenied, and what is transient.
    """
    rooms = {str(found["metadata"]["name"]): found for found in _rooms(policy, drill, ports)}
    if not rooms:
        return ()
    findings = list(_release(frozenset(rooms), ports))
    for name, found in rooms.items():
        try:
            ports.cluster.delete(NAMESPACE, name, uid=found["metadata"]["uid"])
        except Conflict:
            continue  # another namespace of its name, made since
    told = {finding.where for finding in findings}
    deadline = Deadline(ports.clock, GONE_SECONDS)
    while (left := [one for one in _left(policy, drill, rooms, ports) if one not in told]) and not deadline.passed():
        ports.clock.sleep(PAUSE_SECONDS)
    remedy = "see its finalizers; the reaper tries again"
    return (*findings, *(Finding(where=where, message="is still there after the drill", remedy=remedy) for where in left))


def _rooms(policy: str, drill: str, ports: Ports) -> list[Manifest]:
    labels = ",".join(f"{key}={value}" for key, value in _labels(policy, drill, ports.store.url).items())
    return list(ports.cluster.list(NAMESPACE, labels=labels))


def _left(policy: str, drill: str, rooms: Mapping[str, Manifest], ports: Ports) -> Iterator[str]:
    yield from (f"namespaces/{found['metadata']['name']}" for found in _rooms(policy, drill, ports))
    yield from (f"persistentvolumes/{volume['metadata']['name']}" for volume in _volumes(ports) if _claimant(volume) in rooms)


def _volumes(ports: Ports) -> list[Manifest]:
    """Return all volumes; a cluster that serves none has none."""
    try:
        return list(ports.cluster.list(VOLUME))
    except NotFound:
        return []


def _claimant(volume: Manifest) -> str:
    """Return the namespace of the claim that a volume is bound to."""
    return str(child(volume, "spec", "claimRef").get("namespace", ""))


def handle(volume: Manifest) -> tuple[str, str] | None:
    """Return what the storage calls a volume, with its driver; nothing for a volume that no driver holds."""
    csi = child(volume, "spec", "csi")
    return (str(csi.get("driver")), str(csi["volumeHandle"])) if csi.get("volumeHandle") else None


def shared(rooms: frozenset[str], ports: Ports) -> tuple[Finding, ...]:
    """Name the volumes of a drill that stand on the same storage as a volume outside of it. There must be none."""
    volumes = _volumes(ports)
    outside = {handle(volume): volume["metadata"]["name"] for volume in volumes if _claimant(volume) not in rooms}
    return tuple(
        Finding(
            where=f"persistentvolumes/{volume['metadata']['name']}",
            message=f"shares its storage with {outside[handle(volume)]}, outside of the drill",
            remedy="nothing of it is deleted; find out how its storage class makes volumes",
        )
        for volume in volumes
        if _claimant(volume) in rooms and handle(volume) is not None and handle(volume) in outside
    )


def _release(rooms: frozenset[str], ports: Ports) -> Iterator[Finding]:
    """See to it that the storage of a drill goes with its claims, also where the class retains it; that of others never."""
    found = shared(rooms, ports)
    yield from found
    others = {finding.where for finding in found}
    for volume in _volumes(ports):
        if _claimant(volume) not in rooms:
            continue
        name = str(volume["metadata"]["name"])
        wanted = "Retain" if f"persistentvolumes/{name}" in others else "Delete"
        if child(volume, "spec").get("persistentVolumeReclaimPolicy", "Delete") == wanted:
            continue
        patch = {"metadata": {"name": name, "uid": volume["metadata"]["uid"]}, "spec": {"persistentVolumeReclaimPolicy": wanted}}
        try:
            ports.cluster.apply(VOLUME, patch, verb=Verb.MERGE)
        except (NotFound, Conflict):
            continue
        except BecalmError as error:
            if wanted == "Retain":
                raise  # its claim must not go: the data of another volume would go with it
            severity = Severity.WARNING
            yield Finding(where=f"persistentvolumes/{name}", message=f"its storage stays: {error}", remedy=error.hint, severity=severity)


def dead(policy: str, ports: Ports, *, now: datetime) -> tuple[DeadDrill, ...]:
    """Return the drills of a policy that are over and have left namespaces. Raises: AccessDenied, and what is transient."""
    left: dict[str, list[str]] = {}
    mark = repository_mark(ports.store.url)
    labels = f"{LABEL_MANAGED}={MANAGER},{LABEL_ROLE}={ROLE_DRILL},{LABEL_POLICY}={policy},{LABEL_REPOSITORY}={mark}"
    for found in ports.cluster.list(NAMESPACE, labels=labels):
        if _ends(found) < now:
            left.setdefault(str(child(found, "metadata", "labels").get(LABEL_DRILL, "")), []).append(str(found["metadata"]["name"]))
    return tuple(DeadDrill(policy=policy, id=drill, namespaces=tuple(sorted(rooms))) for drill, rooms in sorted(left.items()) if drill)


def _ends(found: Manifest) -> datetime:
    """Return until when the drill of a namespace surely lives; one that says nothing sensible lives a day from its making."""
    metadata = found["metadata"]
    try:
        return parse_time(str((metadata.get("annotations") or {}).get(ANNOTATION_EXPIRES, "")))
    except ValueError:
        return parse_time(str(metadata["creationTimestamp"])) + KEPT
