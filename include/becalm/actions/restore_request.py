"""What a person asks of a restore: the point, the selection, the mapping, and what to do where something exists already.

It is read once, at the edge; after that nobody checks it again. It holds no secret and knows no cluster.
"""

from __future__ import annotations

import re
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from becalm.actions.restore_changes import Patch
from becalm.actions.restore_patterns import ObjectPattern, kind_matches
from becalm.errors import PolicyError, UsageError
from becalm.model import VolumeRef
from becalm.policy.select import parse_labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from becalm.kube.base import Kind
    from becalm.policy.labels import LabelSelector

__all__ = ["ClusterScoped", "Conflict", "ObjectPattern", "Patch", "RestoreRequest", "kind_matches"]

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_IMAGE_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


class Conflict(StrEnum):
    """What to do where an object exists already and says something else."""

    FAIL = "fail"
    """Refuse the whole restore."""
    SKIP = "skip"
    """Keep what is there."""
    MERGE = "merge"
    """Set the fields that the point holds; what only the cluster has stays."""
    REPLACE = "replace"
    """Make it say what the point says, and nothing else; it stays the same object."""
    RECREATE = "delete-and-restore"
    """Delete it and make it again."""


class ClusterScoped(StrEnum):
    """Which objects that belong to no namespace come along."""

    AUTO = "auto"
    """Those that the selected objects refer to; all that the point holds, where the whole point is asked for."""
    NONE = "none"
    """None but the namespaces themselves, and kinds that are named."""
    ALL = "all"
    """All that the point holds."""


class RestoreRequest(BaseModel):
    """What is to be restored, from which recovery point, and to where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: str = Field(description="The policy whose recovery point it is.", min_length=1)
    point: str = Field(
        default="latest", description="The point: latest, an id or its beginning, a time, or words like “2 weeks ago”.", min_length=1
    )
    namespaces: tuple[str, ...] = Field(
        default=(), description="Only these namespaces, as the point names them; globs are allowed. None: all."
    )
    kinds: tuple[str, ...] = Field(
        default=(), description="Only these kinds: secrets, Deployment, deployments.apps, *.cert-manager.io. None: all."
    )
    objects: tuple[str, ...] = Field(
        default=(), description="These objects too: v1/Secret/shop/tls, apps/v1/Deployment/shop/web, secrets/shop/tls."
    )
    volumes: tuple[str, ...] = Field(default=(), description="These volumes too, as namespace/claim.")
    labels: tuple[str, ...] = Field(
        default=(), description="Only objects with these labels: app=web,tier!=test. Of several selectors, one is enough. None: all."
    )
    exclude_namespaces: tuple[str, ...] = Field(default=(), description="Not these namespaces, as the point names them; globs are allowed.")
    exclude_kinds: tuple[str, ...] = Field(default=(), description="Not these kinds.")
    drop_secrets: bool = Field(default=False, description="Restore no Secrets: the target has its own.")
    include_cluster_scoped: ClusterScoped = Field(
        default=ClusterScoped.AUTO,
        description="What belongs to no namespace: auto (what the selection refers to), none, or all that the point holds.",
    )
    cluster_kinds: tuple[str, ...] = Field(
        default=(), description="These kinds that belong to no namespace come along whatever else is said: clusterroles, *.cert-manager.io."
    )
    objects_only: bool = Field(default=False, description="Restore no data: new claims stay empty.")
    volumes_only: bool = Field(default=False, description="Restore only claims and their data.")
    conflict: Conflict = Field(
        default=Conflict.SKIP,
        description="Where an object exists and differs: skip keeps it, fail refuses the restore, merge sets what the point says, "
        "replace makes it say only that, delete-and-restore makes it anew.",
    )
    conflict_by_kind: dict[str, Conflict] = Field(
        default_factory=dict,
        description="The same for single kinds: secrets to merge. What belongs to no namespace is changed only if named here.",
    )
    namespace_mapping: dict[str, str] = Field(
        default_factory=dict, description="Restore a namespace under another name: from the point's name to the new one."
    )
    storage_class_mapping: dict[str, str] = Field(
        default_factory=dict,
        description="Other storage classes, in claims and in the templates of claims: from the point's name to the new one.",
    )
    registry_mapping: dict[str, str] = Field(
        default_factory=dict, description="Images from elsewhere: from a registry, with or without a path, to the new one."
    )
    host_mapping: dict[str, str] = Field(
        default_factory=dict,
        description="Other host names in Ingresses and routes: from a name, or the domain it ends with, to the new one.",
    )
    patches: tuple[Patch, ...] = Field(default=(), description="JSON patches for chosen objects, each with its selection.")
    suspend_cronjobs: bool = Field(default=False, description="Restore CronJobs suspended.")
    replicas: dict[str, int] = Field(
        default_factory=dict, description="How many replicas workloads come with, by kind: * to 0, or deployments to 1."
    )
    keep_node_ports: bool = Field(default=False, description="Restore the node ports that the old cluster chose for Services.")
    status_kinds: tuple[str, ...] = Field(default=(), description="Restore the status of these kinds too.")
    allow_protected: bool = Field(default=False, description="Allow writing into the namespaces of the cluster itself and of Becalm.")
    dry_run_objects: bool = Field(
        default=False,
        description="Ask the server to try each new object while the plan is made: slower, and it finds what it would refuse.",
    )
    in_place: bool = Field(default=False, description="Write the data into claims that exist: what mounts them is stopped meanwhile.")
    without_safety_copy: bool = Field(default=False, description="With in_place: keep no copy of the old data.")
    verify_data: bool = Field(default=False, description="Read every restored volume again and compare it with the point.")
    wait_seconds: float = Field(
        default=0, description="Wait so long until the restored workloads are ready; those that are not are failures.", ge=0
    )
    parallel: int = Field(default=4, description="How many volumes are filled side by side.", ge=1, le=64)
    hook_namespaces: tuple[str, ...] = Field(
        default=(), description="Namespaces, as the point names them, whose pods may bring restore hooks by annotation; globs are allowed."
    )
    isolated: bool = Field(
        default=False,
        description="As a drill restores: nothing that is reached from outside, nothing outside of namespaces, CronJobs and Jobs suspended.",
    )
    isolated_custom: tuple[str, ...] = Field(
        default=(),
        description="With isolated: custom resources of these kinds come along, as *.example.org. None: none, for live operators would act on them.",
    )

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

    @field_validator("labels")
    @classmethod
    def _labels_can_be_read(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for text in given:
            try:
                parse_labels(text)
            except PolicyError as error:
                raise ValueError("; ".join(f"{found.problem}; {found.remedy}" for found in error.findings)) from error
        return given

    @field_validator("registry_mapping", "host_mapping", "storage_class_mapping")
    @classmethod
    def _names_can_be_read(cls, given: dict[str, str]) -> dict[str, str]:
        for source, target in given.items():
            if not _IMAGE_PREFIX.fullmatch(source) or not _IMAGE_PREFIX.fullmatch(target):
                raise ValueError(f"{source}={target} does not name two of them")
        return given

    @field_validator("replicas")
    @classmethod
    def _replicas_can_be(cls, given: dict[str, int]) -> dict[str, int]:
        for kind, count in given.items():
            if count < 0:
                raise ValueError(f"{kind}={count}: there are no fewer replicas than none")
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
        if self.objects_only and self.in_place:
            raise ValueError("objects_only restores no data, and in_place replaces some")
        if self.volumes_only and (self.objects or self.kinds):
            raise ValueError("volumes_only restores nothing but volumes, and objects or kinds are named")
        return self

    @cached_property
    def _selectors(self) -> tuple[LabelSelector, ...]:
        return tuple(parse_labels(text) for text in self.labels)

    @property
    def patterns(self) -> tuple[ObjectPattern, ...]:
        """The objects that are named one by one."""
        return tuple(ObjectPattern.parse(text) for text in self.objects)

    @property
    def whole(self) -> bool:
        """Whether the whole point is asked for."""
        return not (self.namespaces or self.kinds or self.objects or self.volumes or self.volumes_only or self.labels)

    @property
    def only_named(self) -> bool:
        """Whether nothing is asked for but what is named one by one."""
        return bool(self.objects or self.volumes) and not (self.namespaces or self.kinds or self.labels)

    def selects_namespace(self, namespace: str) -> bool:
        """Say whether a namespace of the point is among those asked for."""
        if any(fnmatchcase(namespace, pattern) for pattern in self.exclude_namespaces):
            return False
        return not self.namespaces or any(fnmatchcase(namespace, pattern) for pattern in self.namespaces)

    def excludes_kind(self, kind: Kind) -> bool:
        """Say whether a kind stays out, whatever else is asked for."""
        return (self.drop_secrets and str(kind) == "secrets") or means(self.exclude_kinds, kind)

    def selects_labels(self, labels: Mapping[str, str]) -> bool:
        """Say whether labels answer one of the selectors."""
        return not self.labels or any(selector.matches(labels) for selector in self._selectors)

    def isolates(self, kind: Kind) -> bool:
        """Say whether a kind of custom resources comes along in an isolated restore."""
        return means(self.isolated_custom, kind)

    def selects_kind(self, kind: Kind) -> bool:
        """Say whether a kind is among those asked for."""
        return not self.kinds or means(self.kinds, kind)

    def names_cluster_kind(self, kind: Kind) -> bool:
        """Say whether a kind that belongs to no namespace is named by the request."""
        return means(self.cluster_kinds, kind)

    def conflict_of(self, kind: Kind) -> Conflict:
        """Say what to do with an object of a kind that exists and differs. What belongs to no namespace is changed only if its kind is named."""
        for pattern, conflict in self.conflict_by_kind.items():
            if means((pattern,), kind):
                return conflict
        named = kind.namespaced or str(kind) == "namespaces" or self.conflict is Conflict.FAIL or self.names_cluster_kind(kind)
        return self.conflict if named else Conflict.SKIP

    def replicas_of(self, kind: Kind) -> int | None:
        """Say how many replicas a workload comes with, or nothing where it keeps its own; a kind that is named goes before the star."""
        named = [count for pattern, count in self.replicas.items() if pattern != "*" and means((pattern,), kind)]
        return named[0] if named else self.replicas.get("*")

    def asks_status(self, kind: Kind) -> bool:
        """Say whether the status of a kind is restored."""
        return means(self.status_kinds, kind)


def means(patterns: Iterable[str], kind: Kind) -> bool:
    """Say whether one of these patterns means a kind."""
    return any(kind_matches(pattern, kind.group, kind.resource, kind.kind) for pattern in patterns)


def _plain(message: str) -> str:
    """Drop pydantic's own beginning."""
    text = message.removeprefix("Value error, ")
    return "there is no such field" if text.startswith("Extra inputs") else text
