"""Keeping restored webhooks from locking the cluster out: one whose server does not answer refuses every write that it guards.

A webhook comes when the Service it calls has endpoints that are ready. One that lets requests pass where its server fails may come at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.errors import NotFound
from becalm.kube.base import Kind
from becalm.kube.rules import child, children, group_kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.actions.handover import Ports
    from becalm.clock import Deadline
    from becalm.model import Manifest

READY_SECONDS = 60.0
POLL_SECONDS = 1.0
GUARDS = frozenset(
    {"ValidatingWebhookConfiguration.admissionregistration.k8s.io", "MutatingWebhookConfiguration.admissionregistration.k8s.io"}
)
SLICES = Kind(group="discovery.k8s.io", version="v1", resource="endpointslices", kind="EndpointSlice", namespaced=True)


def why_withheld(manifest: Manifest, ports: Ports, deadline: Deadline) -> str:
    """Wait until every server that a webhook needs is ready, or until the deadline. Return why it must not come, or nothing."""
    if group_kind(manifest) not in GUARDS:
        return ""
    while waiting := [place for place in sorted(set(_needed(manifest))) if not _is_ready(*place, ports)]:
        if deadline.passed():
            namespace, name = waiting[0]
            return f"its Service {namespace}/{name} has no endpoint that is ready: it would refuse what it guards"
        ports.progress(f"waiting until the Service {'/'.join(waiting[0])} of a webhook is ready")
        ports.clock.sleep(POLL_SECONDS)
    return ""


def _needed(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield the Services without which a request is refused."""
    for webhook in children(manifest, "webhooks"):
        service = child(webhook, "clientConfig", "service")
        if service and webhook.get("failurePolicy", "Fail") != "Ignore":
            yield str(service.get("namespace", "")), str(service.get("name", ""))


def _is_ready(namespace: str, name: str, ports: Ports) -> bool:
    try:
        slices = list(ports.cluster.list(SLICES, namespace=namespace, labels=f"kubernetes.io/service-name={name}"))
    except NotFound:
        return False
    return any(
        endpoint.get("addresses") and child(endpoint, "conditions").get("ready") is not False
        for found in slices
        for endpoint in children(found, "endpoints")
    )
