"""What a person asks of a restore: the point, the selection, the mapping, and what to do where something exists already.

It is read once, at the edge; after that nobody checks it again. It holds no secret and knows no cluster.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from becalm.errors import UsageError
from becalm.model import CORE_GROUP, VolumeRef

if TYPE_CHECKING:
    from becalm.kube.base import Kind
    from becalm.model import ResourceRef

_VERSION = re.compile(r"v\d+((alpha|beta)\d+)?")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class Conflict(StrEnum):
    """What to do where an object exists already and says something else."""

    FAIL = "fail"
    """Refuse the whole restore."""
    SKIP = "skip"
    """Keep what is there."""


class ClusterScoped(StrEnum):
    """Which objects that belong to no namespace come along."""

    AUTO = "auto"
    """Those that the selected objects refer to; all that the point holds, where the whole point is asked for."""
    NONE = "none"
    """None but the namespaces themselves."""


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


class RestoreRequest(BaseModel):
    """What is to be restored, from which recovery point, and to where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: str = Field(description="The policy whose recovery point it is.", min_length=1)
    point: str = Field(
        "latest", description="The point: latest, an id or its beginning, a time, or words like “2 weeks ago”.", min_length=1
    )
    namespaces: tuple[str, ...] = Field((), description="Only these namespaces, as the point names them; globs are allowed. None: all.")
    kinds: tuple[str, ...] = Field((), description="Only these kinds: secrets, Deployment, deployments.apps, *.cert-manager.io. None: all.")
    objects: tuple[str, ...] = Field(
        (), description="These objects too: v1/Secret/shop/tls, apps/v1/Deployment/shop/web, secrets/shop/tls."
    )
    volumes: tuple[str, ...] = Field((), description="These volumes too, as namespace/claim.")
    namespace_mapping: dict[str, str] = Field(
        default_factory=dict, description="Restore a namespace under another name: from the point's name to the new one."
    )
    conflict: Conflict = Field(Conflict.SKIP, description="Where an object exists and differs: skip keeps it, fail refuses the restore.")
    objects_only: bool = Field(default=False, description="Restore no data: new claims stay empty.")
    volumes_only: bool = Field(default=False, description="Restore only claims and their data.")
    include_cluster_scoped: ClusterScoped = Field(
        ClusterScoped.AUTO, description="What belongs to no namespace: auto (what the selection refers to) or none."
    )
    suspend_cronjobs: bool = Field(default=False, description="Restore CronJobs suspended.")
    allow_protected: bool = Field(default=False, description="Allow writing into the namespaces of the cluster itself and of Becalm.")

    @classmethod
    def read(cls, document: dict[str, Any]) -> Self:
        """Read a request from a form or a command line. Raises UsageError with everything that is wrong with it."""
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, one['loc'])) or 'request'}: {_plain(one['msg'])}" for one in error.errors()]
            raise UsageError("; ".join(problems), where="restore", hint="correct what is named") from error

    @field_validator("objects")
    @classmethod
    def _objects_can_be_read(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for text in given:
            ObjectPattern.parse(text)
        return given

    @field_validator("volumes")
    @classmethod
    def _volumes_can_be_read(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for text in given:
            VolumeRef.parse(text)
        return given

    @field_validator("namespace_mapping")
    @classmethod
    def _mapping_is_one_to_one(cls, given: dict[str, str]) -> dict[str, str]:
        for source, target in given.items():
            if not _LABEL.fullmatch(source) or not _LABEL.fullmatch(target):
                raise ValueError(f"{source}={target} does not name two namespaces")
        if len(set(given.values())) < len(given):
            raise ValueError("two namespaces are mapped to the same one")
        return given

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.objects_only and self.volumes_only:
            raise ValueError("objects_only and volumes_only leave nothing")
        if self.objects_only and self.volumes:
            raise ValueError("objects_only restores no volume, and volumes names some")
        if self.volumes_only and (self.objects or self.kinds):
            raise ValueError("volumes_only restores nothing but volumes, and objects or kinds are named")
        return self

    @property
    def patterns(self) -> tuple[ObjectPattern, ...]:
        """The objects that are named one by one."""
        return tuple(ObjectPattern.parse(text) for text in self.objects)

    @property
    def whole(self) -> bool:
        """Whether the whole point is asked for."""
        return not (self.namespaces or self.kinds or self.objects or self.volumes or self.volumes_only)

    @property
    def only_named(self) -> bool:
        """Whether nothing is asked for but what is named one by one."""
        return bool(self.objects or self.volumes) and not (self.namespaces or self.kinds)

    def selects_namespace(self, namespace: str) -> bool:
        """Say whether a namespace of the point is among those asked for."""
        return not self.namespaces or any(fnmatchcase(namespace, pattern) for pattern in self.namespaces)

    def selects_kind(self, kind: Kind) -> bool:
        """Say whether a kind is among those asked for."""
        return not self.kinds or any(kind_matches(pattern, kind.group, kind.resource, kind.kind) for pattern in self.kinds)


def _plain(message: str) -> str:
    """Drop pydantic's own beginning."""
    text = message.removeprefix("Value error, ")
    return "there is no such field" if text.startswith("Extra inputs") else text
