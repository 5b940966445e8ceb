"""Objects and kinds as a person names them: `v1/Secret/shop/tls`, `secrets`, `*.cert-manager.io`. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Self

from becalm.model import CORE_GROUP

if TYPE_CHECKING:
    from becalm.model import ResourceRef

_VERSION = re.compile(r"v\d+((alpha|beta)\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectPattern:
    """One object as a person names it; globs are allowed in its namespace and its name."""

    kind: str
    group: str | None
    """None: of any group."""
    namespace: str | None
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `v1/Secret/shop/tls`, `apps/v1/Deployment/shop/web`, or `secrets/shop/tls`. Raises ValueError."""
        head, parts = _head(text.split("/"))
        kind, *place = parts or [""]
        if not kind or len(place) not in (1, 2) or not all(place):
            raise ValueError(f"{text!r} names no object; write v1/Secret/shop/tls, apps/v1/Deployment/shop/web or secrets/shop/tls")
        return cls(kind=kind, group=head, namespace=place[0] if len(place) == 2 else None, name=place[-1])

    def matches(self, ref: ResourceRef, kind: str) -> bool:
        """Say whether an object (its reference, and its kind's name) is meant."""
        if self.group is not None and self.group != ref.group:
            return False
        if (self.namespace is None) != (ref.namespace is None) or not kind_matches(self.kind, ref.group, ref.resource, kind):
            return False
        return fnmatchcase(ref.name, self.name) and (self.namespace is None or fnmatchcase(ref.namespace or "", self.namespace))


def _head(parts: list[str]) -> tuple[str | None, list[str]]:
    """Split `v1`, or `apps/v1`, from what follows; the group is None where the text says none."""
    if len(parts) > 2 and _VERSION.fullmatch(parts[0]):
        return "", parts[1:]
    if len(parts) > 3 and _VERSION.fullmatch(parts[1]):
        return parts[0], parts[2:]
    return None, parts


def kind_matches(pattern: str, group: str, resource: str, kind: str) -> bool:
    """Say whether `secrets`, `Secret`, `deployments.apps`, `apps/v1/Deployment` or `*.cert-manager.io` means this kind."""
    said, rest = _head([*pattern.split("/"), ""])
    word = rest[0].lower()
    if said is not None and said != group:
        return False
    names = [name.lower() for name in (resource, kind)]
    full = [f"{name}.{group or CORE_GROUP}" for name in names]
    return any(fnmatchcase(name, word) for name in [*names, *full])
