"""Moving an object into another namespace, with every reference to a namespace that is known by its place. Pure.

What a program hides in its own configuration (an address in a ConfigMap, an argument of a container) is never touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.kube.resources import copied
from becalm.kube.rules import child, children, group_kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from becalm.model import Manifest

NAME_LABEL = "kubernetes.io/metadata.name"
_BINDINGS = ("RoleBinding.rbac.authorization.k8s.io", "ClusterRoleBinding.rbac.authorization.k8s.io")
_WEBHOOKS = ("ValidatingWebhookConfiguration.admissionregistration.k8s.io", "MutatingWebhookConfiguration.admissionregistration.k8s.io")
_SELECTORS = "NetworkPolicy.networking.k8s.io"


def map_namespace(manifest: Manifest, mapping: Mapping[str, str]) -> Manifest:
    """Return a copy in its new namespace; namespaces that the mapping does not name stay. A reversed mapping undoes it."""
    mapped: Manifest = copied(manifest)
    move(mapped, mapping)
    return mapped


def move(mapped: Manifest, mapping: Mapping[str, str]) -> None:
    """Move an object into its new namespace, in place."""
    if not mapping:
        return
    kind, metadata = group_kind(mapped), child(mapped, "metadata")
    _rename(metadata, "namespace", mapping)
    if kind == "Namespace":
        _rename(metadata, "name", mapping)
        _rename(child(metadata, "labels"), NAME_LABEL, mapping)
    elif kind in _BINDINGS:
        for subject in children(mapped, "subjects"):
            _map_subject(subject, mapping)
    for service in _services(mapped, kind):
        _rename(service, "namespace", mapping)
    if kind in _WEBHOOKS:
        for webhook in children(mapped, "webhooks"):
            _map_selector(child(webhook, "namespaceSelector"), mapping)
    elif kind == _SELECTORS:
        for selector in _peers(mapped):
            _map_selector(selector, mapping)


def _rename(place: Manifest, field: str, mapping: Mapping[str, str]) -> None:
    name = place.get(field)
    if isinstance(name, str) and name in mapping:
        place[field] = mapping[name]


def _map_subject(subject: Manifest, mapping: Mapping[str, str]) -> None:
    """Map a service account, and the user and group names that stand for service accounts."""
    _rename(subject, "namespace", mapping)
    name = subject.get("name")
    if subject.get("kind") not in {"User", "Group"} or not isinstance(name, str):
        return
    words = name.split(":")
    if words[:2] in (["system", "serviceaccount"], ["system", "serviceaccounts"]) and len(words) > 2:
        subject["name"] = ":".join([*words[:2], mapping.get(words[2], words[2]), *words[3:]])


def _services(manifest: Manifest, kind: str) -> Iterator[Manifest]:
    """Yield the references to Services that say their namespace."""
    if kind in _WEBHOOKS:
        for webhook in children(manifest, "webhooks"):
            yield child(webhook, "clientConfig", "service")
    elif kind == "CustomResourceDefinition.apiextensions.k8s.io":
        yield child(manifest, "spec", "conversion", "webhook", "clientConfig", "service")
    elif kind == "APIService.apiregistration.k8s.io":
        yield child(manifest, "spec", "service")


def _peers(manifest: Manifest) -> Iterator[Manifest]:
    for direction, end in (("ingress", "from"), ("egress", "to")):
        for rule in children(manifest, "spec", direction):
            for peer in children(rule, end):
                yield child(peer, "namespaceSelector")


def _map_selector(selector: Manifest, mapping: Mapping[str, str]) -> None:
    """Map the names of namespaces in a selector of namespaces."""
    _rename(child(selector, "matchLabels"), NAME_LABEL, mapping)
    for expression in children(selector, "matchExpressions"):
        if expression.get("key") == NAME_LABEL and isinstance(expression.get("values"), list):
            expression["values"] = [mapping.get(value, value) if isinstance(value, str) else value for value in expression["values"]]
