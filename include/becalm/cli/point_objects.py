"""What `becalm show` prints of the objects in a recovery point: their places, or one of them whole. Values of Secrets are never printed."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import yaml

from becalm.actions.restore_patterns import ObjectPattern
from becalm.actions.restore_source import SavedObject, Source
from becalm.cli.console import clean, console, print_json
from becalm.clock import format_time
from becalm.errors import NotFound, UsageError
from becalm.kube.rules import LAST_APPLIED, child, group_kind
from becalm.model import CLUSTER_SCOPE, payload
from becalm.policy import globs
from becalm.repository.format import NodeType
from becalm.repository.tree import lookup, walk

if TYPE_CHECKING:
    from becalm.model import Manifest, RecoveryPoint, ResourceRef
    from becalm.repository.reader import Repository

HIDDEN = "(hidden)"
_NAMESPACE_OBJECT = ["core", "namespaces", CLUSTER_SCOPE]


def listed(repository: Repository, point: RecoveryPoint, namespace: str) -> list[str]:
    """Return the paths of the objects in a point, below its `resources`; where a namespace is named, of that one and of what is in it."""
    top = lookup(repository, point.tree, "resources").subtree
    found = [path for path, child_ in walk(repository, top) if child_.type == NodeType.FILE]
    return [path for path in found if _is_of(path.split("/"), namespace)] if namespace else found


def _is_of(parts: list[str], namespace: str) -> bool:
    place = parts[-1].removesuffix(".json") if parts[:3] == _NAMESPACE_OBJECT else parts[2]
    return globs.matches(namespace, place)


def show_objects(repository: Repository, point: RecoveryPoint, wanted: str, *, json: bool) -> None:
    """Print the objects that are meant, whole. Raises: UsageError, NotFound, Damaged."""
    try:
        pattern = ObjectPattern.parse(wanted)
    except ValueError as error:
        raise UsageError(str(error), where="--object") from error
    objects = [hidden(one) for one in _read(repository, point, pattern)]
    told = f"recovery point {point.id[:8]} of {format_time(point.cut)}"
    if not objects:
        raise NotFound(
            f"{told} holds no such object", where=wanted, hint="becalm log tells which points hold it; becalm find looks for names"
        )
    if json:
        print_json({"ok": True, "point": payload(point), "objects": objects})
        return
    console.print(clean(f"# {told}"))
    for one in objects:
        for line in yaml.safe_dump(one, sort_keys=False, allow_unicode=True).splitlines():
            console.print(clean(line))
        console.print("---")


def _read(repository: Repository, point: RecoveryPoint, pattern: ObjectPattern) -> list[Manifest]:
    """Read what may be meant; only the object itself says its kind."""
    source = Source.open(repository, point.tree, lambda ref: _may_be(ref, pattern))
    read = [one for one in source.read_each(list(source.places)) if isinstance(one, SavedObject)]
    return [one.manifest for one in read if pattern.matches(one.ref, one.kind.kind)]


def _may_be(ref: ResourceRef, pattern: ObjectPattern) -> bool:
    return fnmatchcase(ref.name, pattern.name) and fnmatchcase(ref.namespace or "", pattern.namespace or "")


def hidden(manifest: Manifest) -> Manifest:
    """Return an object without the values of a Secret; of any other object all."""
    if group_kind(manifest) != "Secret":
        return manifest
    without = dict(manifest)
    for key in ("data", "stringData"):
        if key in manifest:
            without[key] = dict.fromkeys(child(manifest, key), HIDDEN)
    notes = child(manifest, "metadata", "annotations")
    if LAST_APPLIED in notes:
        without["metadata"] = {**manifest["metadata"], "annotations": {**notes, LAST_APPLIED: HIDDEN}}
    return without
