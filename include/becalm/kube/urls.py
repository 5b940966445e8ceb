"""Where things are in the Kubernetes API, and how a write is asked for: paths, queries and bodies. It sends nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import orjson

from becalm.errors import InvalidObject
from becalm.kube.base import MANAGER, Kind, Verb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from becalm.model import Manifest

Query = list[tuple[str, str]]

JSON = "application/json"
_GROUPS = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"
DISCOVERY = f"{_GROUPS.format('v2')},{_GROUPS.format('v2beta1')},{JSON}"
"""Ask for all groups in one answer; servers before 1.26 send the plain list of groups instead."""

CONTENT_TYPES = {
    Verb.CREATE: JSON,
    Verb.UPDATE: JSON,
    Verb.MERGE: "application/merge-patch+json",
    Verb.APPLY: "application/apply-patch+yaml",
    Verb.FORCE_APPLY: "application/apply-patch+yaml",
}
REVIEWS = "authorization.k8s.io"
"""Questions that are asked by creating them. They are never stored, and the server takes none that has a name."""
METHODS = {Verb.CREATE: "POST", Verb.UPDATE: "PUT", Verb.MERGE: "PATCH", Verb.APPLY: "PATCH", Verb.FORCE_APPLY: "PATCH"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request, before it is sent."""

    method: str = "GET"
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    content_type: str = JSON
    accept: str = JSON
    subject: str = ""
    """What it is about, as a person would name it: for errors."""

    @property
    def target(self) -> str:
        """The path with its query."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path


def subject(kind: Kind, name: str = "", *, namespace: str | None = None) -> str:
    """Name an object or a collection as a person would: `pods/shop/web-0`."""
    return "/".join(part for part in (str(kind), namespace, name) if part)


def path(kind: Kind, name: str = "", *, namespace: str | None = None, subresource: str = "") -> str:
    """Return the path of an object, or of a collection where no name is given."""
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    scope = ["namespaces", namespace] if kind.namespaced and namespace else []
    return "/".join([root, *(quote(part, safe="") for part in (*scope, kind.resource, name, subresource) if part)])


def listing(
    kind: Kind, *, namespace: str | None, labels: str, fields: str, revision: str | None, page_size: int, token: str = ""
) -> Request:
    """Ask for one page. A token carries the revision in itself: a server refuses to be told both."""
    namespace, fields = _narrowed(kind, namespace, fields)
    query: Query = [("limit", str(page_size))]
    query += [(key, value) for key, value in (("labelSelector", labels), ("fieldSelector", fields), ("continue", token)) if value]
    if revision is not None and not token:
        query += [("resourceVersion", revision), ("resourceVersionMatch", "Exact")]
    return Request(path=path(kind, namespace=namespace), query=tuple(query), subject=subject(kind, namespace=namespace))


def _narrowed(kind: Kind, namespace: str | None, fields: str) -> tuple[str | None, str]:
    """Turn `metadata.namespace=NAME` over all namespaces into a list of that namespace.

    The API server does the same inside, but then misreads its own continue token and gives the first page twice (seen in 1.34, kubectl too).
    """
    if namespace or not kind.namespaced:
        return namespace, fields
    terms = fields.split(",")
    chosen = [term for term in terms if re.fullmatch(r"metadata\.namespace==?[a-z0-9-]+", term)]
    if len(chosen) != 1:
        return namespace, fields
    return chosen[0].rpartition("=")[2], ",".join(term for term in terms if term != chosen[0])


def watching(kind: Kind, *, namespace: str | None, labels: str, fields: str, revision: str, seconds: int) -> Request:
    """Ask for events from a revision on, with bookmarks."""
    query: Query = [("watch", "true"), ("allowWatchBookmarks", "true"), ("timeoutSeconds", str(seconds))]
    query += [(key, value) for key, value in (("labelSelector", labels), ("fieldSelector", fields), ("resourceVersion", revision)) if value]
    return Request(path=path(kind, namespace=namespace), query=tuple(query), subject=subject(kind, namespace=namespace))


def writing(kind: Kind, manifest: Manifest, *, verb: Verb, subresource: str, dry_run: bool) -> Request:
    """Ask for a write of the object that the manifest's metadata name. Raises: InvalidObject."""
    metadata = manifest.get("metadata") or {}
    namespace, name = metadata.get("namespace"), metadata.get("name") or ""
    what = subject(kind, name or metadata.get("generateName") or "", namespace=namespace)
    if kind.namespaced and not namespace:
        raise InvalidObject("the manifest names no namespace", where=what)
    if not name and kind.group != REVIEWS and (verb is not Verb.CREATE or not metadata.get("generateName")):
        raise InvalidObject("the manifest has no name", where=what)
    query: Query = [("fieldManager", MANAGER)]
    if verb in {Verb.APPLY, Verb.FORCE_APPLY}:
        query.append(("force", "true" if verb is Verb.FORCE_APPLY else "false"))
    if dry_run:
        query.append(("dryRun", "All"))
    document = {"apiVersion": kind.api_version, "kind": kind.kind, **manifest}
    of_collection = verb is Verb.CREATE and not subresource
    return Request(
        method=METHODS[verb],
        path=path(kind, "" if of_collection else name, namespace=namespace, subresource=subresource),
        query=tuple(query),
        body=orjson.dumps(document),
        content_type=CONTENT_TYPES[verb],
        subject=what,
    )


def deleting(kind: Kind, name: str, *, namespace: str | None, uid: str, propagation: str, grace_seconds: int | None) -> Request:
    """Ask for the deletion of one object."""
    options: Manifest = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
    if uid:
        options["preconditions"] = {"uid": uid}
    if grace_seconds is not None:
        options["gracePeriodSeconds"] = grace_seconds
    return Request(
        method="DELETE",
        path=path(kind, name, namespace=namespace),
        body=orjson.dumps(options),
        subject=subject(kind, name, namespace=namespace),
    )


def executing(namespace: str, pod: str, *, container: str, command: Sequence[str], stdin: bool) -> Request:
    """Ask for a command in a container, over a WebSocket."""
    query: Query = [("command", part) for part in command]
    query += [("container", container), ("stdout", "true"), ("stderr", "true")]
    if stdin:
        query.append(("stdin", "true"))
    return Request(
        path=f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(pod, safe='')}/exec",
        query=tuple(query),
        subject=f"pods/{namespace}/{pod}",
    )


def reading_logs(namespace: str, pod: str, *, container: str, follow: bool) -> Request:
    """Ask for a container's log."""
    query: Query = [("container", container)] if container else []
    if follow:
        query.append(("follow", "true"))
    return Request(
        path=f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(pod, safe='')}/log",
        query=tuple(query),
        accept="*/*",
        subject=f"pods/{namespace}/{pod}",
    )
