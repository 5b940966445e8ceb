"""LIST in pages at one revision, and WATCH: which objects and events a request sees, and at which revision."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from becalm.sandbox.answers import ApiError, Cause, bad_request, expired, invalid, too_new
from becalm.sandbox.parameters import number
from becalm.sandbox.selectors import FieldRequirement, Requirement, fields_match, labels_match, parse_fields, parse_labels

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from becalm.model import Manifest
    from becalm.sandbox.kinds import Resource
    from becalm.sandbox.store import Change, Place, Store

_EXPIRED_TOKEN = (
    "The provided continue parameter is too old to display a consistent list result. "
    "You must start a new list without the continue parameter."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What a LIST or WATCH asks for."""

    resource: Resource
    namespace: str | None
    labels: tuple[Requirement, ...]
    fields: tuple[FieldRequirement, ...]

    @classmethod
    def read(cls, resource: Resource, namespace: str | None, parameters: Mapping[str, str]) -> Query:
        """Read the selectors. Raises: ApiError (400)."""
        return cls(
            resource=resource,
            namespace=namespace,
            labels=parse_labels(parameters.get("labelSelector", "")),
            fields=parse_fields(parameters.get("fieldSelector", ""), resource),
        )

    def takes(self, manifest: Manifest) -> bool:
        """Say whether an object is meant."""
        if self.namespace is not None and manifest["metadata"].get("namespace") != self.namespace:
            return False
        return labels_match(self.labels, manifest) and fields_match(self.fields, manifest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of a list."""

    items: list[Manifest]
    revision: int
    token: str


def revision_of(text: str) -> int:
    """Read a resourceVersion; nothing is 0. Raises: ApiError (400)."""
    if text and not text.isdigit():
        raise bad_request(f"Invalid value: resourceVersion: {text!r}")
    return int(text or 0)


def page(store: Store, query: Query, parameters: Mapping[str, str]) -> Page:
    """Return one page. Raises: ApiError (400, 410, 422, 504)."""
    limit = number(parameters, "limit") or 0
    token = parameters.get("continue", "")
    if token:
        revision, start = _open_token(token)
        if revision < store.compacted:
            raise expired(_EXPIRED_TOKEN)
    else:
        revision, start = _revision(store, parameters, limit=limit), ("", "")
    items: list[Manifest] = []
    for manifest in store.walk(query.resource.bucket, namespace=query.namespace, revision=revision, start=start):
        if not query.takes(manifest):
            continue
        if limit and len(items) == limit:
            return Page(items=items, revision=revision, token=_token(revision, items[-1]))
        items.append(manifest)
    return Page(items=items, revision=revision, token="")


def _revision(store: Store, parameters: Mapping[str, str], *, limit: int) -> int:
    given = parameters.get("resourceVersion", "")
    match = parameters.get("resourceVersionMatch", "")
    if match and not given:
        text = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
        raise invalid("meta.k8s.io", "ListOptions", "", [Cause(field="resourceVersionMatch", reason="FieldValueForbidden", message=text)])
    revision = revision_of(given)
    if match == "Exact" and revision == 0:
        text = 'Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
        raise invalid("meta.k8s.io", "ListOptions", "", [Cause(field="resourceVersionMatch", reason="FieldValueForbidden", message=text)])
    if revision > store.revision:
        raise too_new(revision, store.revision)
    exact = match == "Exact" or (not match and limit > 0 and revision > 0)
    return revision if exact else store.revision


def _token(revision: int, last: Manifest) -> str:
    metadata = last["metadata"]
    start = f"{metadata.get('namespace', '')}/{metadata['name']}\0"
    return base64.urlsafe_b64encode(orjson.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": start})).decode().rstrip("=")


def _open_token(token: str) -> tuple[int, Place]:
    try:
        document = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        namespace, _, name = document["start"].partition("/")
        return int(document["rv"]), (namespace, name)
    except (binascii.Error, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise bad_request(f"invalid continue token: {exc}") from exc


def events(query: Query, changes: list[Change]) -> Iterator[tuple[str, Manifest]]:
    """Turn changes into what a watcher sees: an object that enters or leaves the selection is added or deleted for it."""
    for change in changes:
        before = change.before is not None and query.takes(change.before)
        after = change.after is not None and query.takes(change.after)
        if after:
            yield "MODIFIED" if before else "ADDED", change.last
        elif before:
            if change.after is None:
                yield "DELETED", change.last
            else:
                assert change.before is not None
                metadata = {**change.before["metadata"], "resourceVersion": str(change.revision)}
                yield "DELETED", {**change.before, "metadata": metadata}


def gone_event(error: ApiError) -> tuple[str, Manifest]:
    """Return the event that tells a watcher to list again."""
    return "ERROR", error.status()
