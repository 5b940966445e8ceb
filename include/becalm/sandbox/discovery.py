"""What the API server says of itself: groups and resources, in the plain and in the aggregated form. Pure."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from becalm.sandbox.kinds import VERBS, Resource

if TYPE_CHECKING:
    from collections.abc import Iterable

    from becalm.model import Manifest

VERSION: Manifest = {
    "major": "1",
    "minor": "34",
    "gitVersion": "v1.34.0-becalm-sandbox",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "none",
    "platform": "linux/amd64",
}

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def core_versions() -> Manifest:
    """Answer `/api`."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def group_list(resources: Iterable[Resource]) -> Manifest:
    """Answer `/apis`."""
    groups = [group_document(group, members) for group, members in _groups(resources) if group]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group_document(group: str, members: list[Resource]) -> Manifest:
    """Answer `/apis/GROUP`."""
    versions = [{"groupVersion": f"{group}/{version}", "version": version} for version in _versions(members)]
    return {"kind": "APIGroup", "apiVersion": "v1", "name": group, "versions": versions, "preferredVersion": versions[0]}


def resource_list(group: str, version: str, resources: Iterable[Resource]) -> Manifest:
    """Answer `/api/v1` and `/apis/GROUP/VERSION`."""
    rows: list[Manifest] = []
    for resource in resources:
        if (resource.group, resource.version) == (group, version):
            rows.append(_row(resource))
            rows += [_sub_row(resource, name) for name in subresources(resource)]
    group_version = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": rows}


def aggregated(resources: Iterable[Resource], *, core: bool) -> Manifest:
    """Answer `/api` or `/apis` to a client that asks for everything in one document."""
    items = []
    for group, members in _groups(resources):
        if core != (not group):
            continue
        versions = [
            {"version": version, "resources": [_aggregated_row(r) for r in members if r.version == version], "freshness": "Current"}
            for version in _versions(members)
        ]
        items.append(
            {"metadata": {"name": group, "creationTimestamp": None} if group else {"creationTimestamp": None}, "versions": versions}
        )
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def subresources(resource: Resource) -> list[str]:
    """Name the subresources that answer."""
    found = ["status"] if resource.status else []
    found += ["scale"] if resource.scale else []
    found += {"/pods": ["log", "exec"], "/namespaces": ["finalize"]}.get(resource.bucket, [])
    return found


def _groups(resources: Iterable[Resource]) -> list[tuple[str, list[Resource]]]:
    ordered = sorted(resources, key=lambda resource: resource.group)
    return [(group, list(members)) for group, members in groupby(ordered, key=lambda resource: resource.group)]


def _versions(members: list[Resource]) -> list[str]:
    preferred = {resource.version for resource in members if resource.preferred}
    return sorted({resource.version for resource in members}, key=lambda version: (version not in preferred, version))


def _row(resource: Resource) -> Manifest:
    row: Manifest = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(VERBS),
    }
    if resource.short:
        row["shortNames"] = list(resource.short)
    if resource.categories:
        row["categories"] = list(resource.categories)
    return row


_SUB_VERBS = {"log": ["get"], "exec": ["create", "get"], "finalize": ["update"]}


def _sub_row(resource: Resource, name: str) -> Manifest:
    row: Manifest = {"name": f"{resource.plural}/{name}", "singularName": "", "namespaced": resource.namespaced}
    if name == "scale":
        row |= {"group": "autoscaling", "version": "v1"}
    kind = {"scale": "Scale", "exec": "PodExecOptions"}.get(name, resource.kind)
    return row | {"kind": kind, "verbs": _SUB_VERBS.get(name, ["get", "patch", "update"])}


def _aggregated_row(resource: Resource) -> Manifest:
    kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    row: Manifest = {
        "resource": resource.plural,
        "responseKind": kind,
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(VERBS),
    }
    if resource.short:
        row["shortNames"] = list(resource.short)
    if resource.categories:
        row["categories"] = list(resource.categories)
    subs = [
        {"subresource": name, "responseKind": _sub_kind(resource, name), "verbs": _SUB_VERBS.get(name, ["get", "patch", "update"])}
        for name in subresources(resource)
    ]
    if subs:
        row["subresources"] = subs
    return row


def _sub_kind(resource: Resource, name: str) -> Manifest:
    if name == "scale":
        return {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    kind = "PodExecOptions" if name == "exec" else resource.kind
    return {"group": resource.group, "version": resource.version, "kind": kind}
