"""Label and field selectors, read once and then asked of each object. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from becalm.sandbox.answers import bad_request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from becalm.model import Manifest
    from becalm.sandbox.kinds import Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One condition on one label."""

    key: str
    operator: str
    """in, notin, exists, absent, gt or lt"""
    values: frozenset[str] = frozenset()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Say whether labels fulfil it."""
        value = labels.get(self.key)
        match self.operator:
            case "in":
                return value is not None and value in self.values
            case "notin":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "absent":
                return value is None
        if value is None or not value.lstrip("-").isdigit():
            return False
        bound = int(next(iter(self.values)))
        return int(value) > bound if self.operator == "gt" else int(value) < bound


_TOKEN = re.compile(r"\s*(==|!=|=|\(|\)|,|!|<|>|[A-Za-z0-9_./-]+)")


def parse_labels(text: str) -> tuple[Requirement, ...]:
    """Read a label selector. Raises: ApiError (400)."""
    parts = _Tokens(text)
    found: list[Requirement] = []
    while parts.left():
        found.append(_requirement(parts))
        if parts.left():
            parts.expect(",")
    return tuple(found)


class _Tokens:
    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if not match:
                raise bad_request(f"unable to parse requirement: found {text[position:]!r}")
            self.tokens.append(match.group(1))
            position = match.end()

    def left(self) -> bool:
        return bool(self.tokens)

    def peek(self) -> str:
        return self.tokens[0] if self.tokens else ""

    def next(self) -> str:
        return self.tokens.pop(0) if self.tokens else ""

    def expect(self, token: str) -> None:
        found = self.next()
        if found != token:
            raise bad_request(f"unable to parse requirement: found '{found}', expected: '{token}'")

    def word(self) -> str:
        found = self.next()
        if not re.fullmatch(r"[A-Za-z0-9_./-]+", found):
            raise bad_request(f"unable to parse requirement: found '{found}', expected: identifier")
        return found


def _requirement(parts: _Tokens) -> Requirement:
    if parts.peek() == "!":
        parts.next()
        return Requirement(key=parts.word(), operator="absent")
    key = parts.word()
    match parts.peek():
        case "" | ",":
            return Requirement(key=key, operator="exists")
        case "=" | "==" | "!=":
            operator = "notin" if parts.next() == "!=" else "in"
            value = "" if parts.peek() in ("", ",") else parts.word()
            return Requirement(key=key, operator=operator, values=frozenset({value}))
        case "<" | ">":
            operator = "gt" if parts.next() == ">" else "lt"
            return Requirement(key=key, operator=operator, values=frozenset({parts.word()}))
        case "in" | "notin":
            operator = parts.next()
            return Requirement(key=key, operator=operator, values=_values(parts))
    raise bad_request(f"unable to parse requirement: found '{parts.peek()}', expected: in, notin, =, ==, !=, gt, lt")


def _values(parts: _Tokens) -> frozenset[str]:
    parts.expect("(")
    values: set[str] = set()
    while parts.peek() != ")":
        values.add("" if parts.peek() == "," else parts.word())
        if parts.peek() == ",":
            parts.next()
    parts.expect(")")
    return frozenset(values)


def label_selector(selector: Manifest | None) -> tuple[Requirement, ...]:
    """Read the `matchLabels` and `matchExpressions` of a manifest."""
    found = [
        Requirement(key=key, operator="in", values=frozenset({value})) for key, value in ((selector or {}).get("matchLabels") or {}).items()
    ]
    names = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "absent", "Gt": "gt", "Lt": "lt"}
    found += [
        Requirement(key=expression["key"], operator=names[expression["operator"]], values=frozenset(expression.get("values") or ()))
        for expression in (selector or {}).get("matchExpressions") or ()
    ]
    return tuple(found)


def labels_match(requirements: tuple[Requirement, ...], manifest: Manifest) -> bool:
    """Say whether an object's labels fulfil every requirement."""
    labels = manifest["metadata"].get("labels") or {}
    return all(requirement.holds(labels) for requirement in requirements)


_FIELDS: dict[str, tuple[str, ...]] = {
    "/pods": (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
    ),
    "/namespaces": ("status.phase",),
    "/nodes": ("spec.unschedulable",),
    "/secrets": ("type",),
    "/services": ("spec.clusterIP", "spec.type"),
    "/events": (
        *(f"involvedObject.{name}" for name in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")),
        *("reason", "reportingComponent", "source", "type"),
    ),
    "batch/jobs": ("status.successful",),
}

FieldRequirement = tuple[str, str, bool]
"""A path, a value, and whether it must equal that value (or must not)."""


def parse_fields(text: str, resource: Resource) -> tuple[FieldRequirement, ...]:
    """Read a field selector. Raises: ApiError (400) where the resource cannot be selected by that field."""
    known = ("metadata.name", "metadata.namespace", *_FIELDS.get(resource.bucket, ()))
    found: list[FieldRequirement] = []
    for term in filter(None, text.split(",")):
        match = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", term)
        if not match:
            raise bad_request(f'invalid selector: "{text}"; can\'t understand "{term}"')
        if match[1] not in known:
            only = ", ".join(f'"{name}"' for name in known)
            raise bad_request(f'"{match[1]}" is not a known field selector: only {only}')
        found.append((match[1], match[3], match[2] != "!="))
    return tuple(found)


def fields_match(requirements: tuple[FieldRequirement, ...], manifest: Manifest) -> bool:
    """Say whether an object's fields fulfil every requirement; a field that is not set is empty."""
    return all((_field(manifest, path) == value) is equal for path, value, equal in requirements)


def _field(manifest: Manifest, path: str) -> str:
    value: object = manifest
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
