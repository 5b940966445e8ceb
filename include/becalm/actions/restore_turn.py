"""One restore at a time into a namespace: a Lease of the cluster in Becalm's own namespace says whose turn it is.

Restores into other namespaces do not meet. A turn ends when it is given back, or when nobody has renewed it for its time.
"""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

from becalm.clock import format_time, parse_time
from becalm.errors import AlreadyExists, Conflict, LeaseHeld, NotFound
from becalm.kube.base import LABEL_MANAGED, LABEL_ROLE, MANAGER, ROLE_RESTORE, Kind, Verb
from becalm.kube.rules import child

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from becalm.actions.handover import Ports
    from becalm.model import Manifest

LEASE = Kind(group="coordination.k8s.io", version="v1", resource="leases", kind="Lease", namespaced=True)
LASTS = timedelta(hours=25)
"""As long as the longest task of a restore: each renews it when it begins."""


def take(namespaces: Iterable[str], run: str, ports: Ports) -> bool:
    """Take the turn of a restore, by its key, in each namespace, or renew it. False: the cluster has no namespace of Becalm's to say it in.

    Raises: LeaseHeld (another restore is at work in one of them; nothing was taken), and what the cluster raises.
    """
    taken: list[str] = []
    try:
        for namespace in sorted(set(namespaces)):
            _take(namespace, run, ports)
            taken.append(namespace)
    except LeaseHeld:
        give(taken, run, ports)
        raise
    except NotFound:
        return False
    return True


def give(namespaces: Iterable[str], run: str, ports: Ports) -> None:
    """Give a turn back, where it is this restore's. Idempotent."""
    for namespace in sorted(set(namespaces)):
        try:
            found = ports.cluster.get(LEASE, name_of(namespace), namespace=ports.settings.namespace)
        except NotFound:
            continue
        if child(found, "spec").get("holderIdentity") == run:
            metadata = found["metadata"]
            try:
                ports.cluster.delete(LEASE, metadata["name"], namespace=metadata["namespace"], uid=metadata["uid"])
            except Conflict:
                continue


def name_of(namespace: str) -> str:
    """Return the name of the Lease for a namespace. Pure."""
    return f"becalm-restore-{sha256(namespace.encode()).hexdigest()[:10]}"


def _take(namespace: str, run: str, ports: Ports) -> None:
    now = ports.store.now()
    wanted = _lease(namespace, run, now, ports)
    try:
        ports.cluster.apply(LEASE, wanted, verb=Verb.CREATE)
    except AlreadyExists:
        found = ports.cluster.get(LEASE, name_of(namespace), namespace=ports.settings.namespace)
        holder = str(child(found, "spec").get("holderIdentity") or "")
        if holder != run and _until(found) > now:
            raise LeaseHeld(
                f"restore {holder} is at work in it",
                where=f"namespaces/{namespace}",
                hint=f"wait for it; if it is dead, delete the Lease {name_of(namespace)} in {ports.settings.namespace}",
            ) from None
        wanted["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
        try:
            ports.cluster.apply(LEASE, wanted, verb=Verb.UPDATE)
        except (Conflict, NotFound) as error:
            raise LeaseHeld("another restore took its turn just now", where=f"namespaces/{namespace}", hint="wait for it") from error


def _lease(namespace: str, run: str, now: datetime, ports: Ports) -> Manifest:
    stamp = format_time(now.replace(microsecond=now.microsecond or 1))  # a MicroTime has its six digits
    spec = {"holderIdentity": run, "leaseDurationSeconds": int(LASTS.total_seconds()), "acquireTime": stamp, "renewTime": stamp}
    labels = {LABEL_MANAGED: MANAGER, LABEL_ROLE: ROLE_RESTORE}
    metadata = {
        "name": name_of(namespace),
        "namespace": ports.settings.namespace,
        "labels": labels,
        "annotations": {"becalm.dev/for": namespace},
    }
    return {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": spec}


def _until(found: Manifest) -> datetime:
    """Return when a turn ends by itself; one that does not say so has ended."""
    spec = child(found, "spec")
    try:
        return parse_time(str(spec.get("renewTime"))) + timedelta(seconds=int(spec.get("leaseDurationSeconds") or 0))
    except ValueError:
        return parse_time("1970-01-01T00:00:00Z")
