"""Waiting until what stands in some namespaces is ready, within a time, and saying what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.clock import Deadline
from becalm.errors import NotFound
from becalm.kube.kinds import POD
from becalm.kube.readiness import WATCHED, not_ready
from becalm.kube.rules import child
from becalm.model import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from becalm.actions.handover import Ports
    from becalm.kube.base import Kind
    from becalm.model import Manifest

LOOK_SECONDS = 1.0


def wait_ready(namespaces: Iterable[str], ports: Ports, seconds: float) -> tuple[Finding, ...]:
    """Wait until every workload and pod of these namespaces is ready; return what is not when the time is over. At least one look is taken.

    A workload that is there and whose pods are not is waited for; what a person scaled down to nothing is ready. Raises what the cluster raises.
    """
    places = tuple(namespaces)
    deadline = Deadline(ports.clock, seconds)
    while True:
        left = tuple(unready(places, ports))
        if not left or deadline.passed():
            return left
        ports.progress(f"waiting until {len(left)} are ready, such as {left[0].where}: {left[0].message}")
        ports.clock.sleep(min(LOOK_SECONDS, max(deadline.left(), 0.01)))


def unready(namespaces: Iterable[str], ports: Ports) -> Iterator[Finding]:
    """Yield what is not ready now."""
    for namespace in namespaces:
        for kind in WATCHED:
            for found in _there(kind, namespace, ports):
                metadata = child(found, "metadata")
                reason = "" if metadata.get("deletionTimestamp") else not_ready(found)
                if reason and not (kind is POD and _is_waiting_for_job(found)):
                    yield Finding(
                        where=f"{kind}/{namespace}/{metadata.get('name')}",
                        message=f"is not ready: {reason}",
                        remedy=f"kubectl -n {namespace} describe {kind.resource} {metadata.get('name')}",
                    )


def _is_waiting_for_job(pod: Manifest) -> bool:
    """Say whether a pod belongs to a Job: that runs to an end of its own, and nobody waits for it."""
    owners = child(pod, "metadata").get("ownerReferences")
    return any(isinstance(one, dict) and one.get("kind") == "Job" for one in owners) if isinstance(owners, list) else False


def _there(kind: Kind, namespace: str, ports: Ports) -> Iterator[Manifest]:
    """Yield the objects of a kind; a cluster that does not serve it has none."""
    try:
        yield from ports.cluster.list(kind, namespace=namespace)
    except NotFound:
        return
