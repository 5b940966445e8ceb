"""What a person changes in objects on their way back: JSON patches with the objects they mean. Read once, at the edge."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from becalm.actions.restore_patterns import kind_matches
from becalm.errors import PolicyError, UsageError
from becalm.kube.patching import PatchFailed, checked
from becalm.policy.select import parse_labels

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from becalm.model import ResourceRef
    from becalm.policy.labels import LabelSelector


class PatchSelect(BaseModel):
    """Which objects a patch means: those that answer everything that is said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kinds: tuple[str, ...] = Field(default=(), description="Kinds, as elsewhere: deployments, apps/v1/Deployment, *.cert-manager.io.")
    namespaces: tuple[str, ...] = Field(default=(), description="Namespaces, as the point names them; globs are allowed.")
    names: tuple[str, ...] = Field(default=(), description="Names; globs are allowed.")
    labels: str = Field(default="", description="A selector of labels: app=web,tier!=test.")

    @field_validator("labels")
    @classmethod
    def _labels_can_be_read(cls, given: str) -> str:
        try:
            if given:
                parse_labels(given)
        except PolicyError as error:
            raise ValueError("; ".join(f"{found.problem}; {found.remedy}" for found in error.findings)) from error
        return given

    @cached_property
    def _selector(self) -> LabelSelector | None:
        return parse_labels(self.labels) if self.labels else None

    def means(self, ref: ResourceRef, kind: str, labels: Mapping[str, str]) -> bool:
        """Say whether an object is meant: by its place in the point, its kind's name, and its labels there."""
        if self.kinds and not any(kind_matches(pattern, ref.group, ref.resource, kind) for pattern in self.kinds):
            return False
        if self.namespaces and not (ref.namespace and any(fnmatchcase(ref.namespace, pattern) for pattern in self.namespaces)):
            return False
        if self.names and not any(fnmatchcase(ref.name, pattern) for pattern in self.names):
            return False
        return self._selector is None or self._selector.matches(labels)


class Patch(BaseModel):
    """A JSON patch (RFC 6902) for some objects. Where one of its tests says no, the object stays as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    select: PatchSelect = Field(default_factory=PatchSelect, description="Which objects it means; all, if left out.")
    patch: tuple[dict[str, Any], ...] = Field(description="The operations, in their order: op, path, and value or from.", min_length=1)

    @field_validator("patch")
    @classmethod
    def _can_be_applied(cls, given: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        try:
            return checked(given)
        except PatchFailed as error:
            raise ValueError(str(error)) from error


def read_patches(path: Path) -> list[dict[str, Any]]:
    """Read a file of patches: YAML or JSON, a list, or a mapping with `patches`. Raises UsageError; what is in it is judged by the request."""
    import yaml  # noqa: PLC0415  (only who has patches reads YAML)

    hint = "write a list of {select: {kinds, namespaces, names, labels}, patch: [{op, path, value}]}"
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the patches cannot be read: {error.strerror}", where=str(path), hint="name a file that is there") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"this is not YAML: {str(error).splitlines()[0]}", where=str(path), hint=hint) from error
    found = document.get("patches") if isinstance(document, dict) else document
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise UsageError("this is no list of patches", where=str(path), hint=hint)
    return found
