"""Who set which field: `metadata.managedFields`, read, kept up to date on every write, and written. Pure.

A field is a path of steps as FieldsV1 writes them: `f:name`, `k:{"name":"web"}`, `v:"value"`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from becalm.sandbox.merging import ATOMIC_MAPS, is_set, item_key, list_keys
from becalm.sandbox.times import stamp

if TYPE_CHECKING:
    from becalm.model import Manifest

Path: TypeAlias = tuple[str, ...]

_NOT_OWNED = frozenset(
    {
        "f:name",
        "f:namespace",
        "f:uid",
        "f:resourceVersion",
        "f:generation",
        "f:creationTimestamp",
        "f:deletionTimestamp",
        "f:deletionGracePeriodSeconds",
        "f:managedFields",
        "f:selfLink",
    }
)


@dataclass(slots=True, kw_only=True)
class Owner:
    """One manager's fields, by one operation, of the object or of its status."""

    manager: str
    operation: str
    subresource: str = ""
    api_version: str
    time: str
    paths: set[Path] = field(default_factory=set)

    def is_(self, manager: str, operation: str, subresource: str) -> bool:
        """Say whether it is this manager's entry."""
        return (self.manager, self.operation, self.subresource) == (manager, operation, subresource)


def fields_of(manifest: Manifest, *, custom: bool) -> dict[Path, Any]:
    """Return every field that somebody can own, with its value; items of keyed lists count as fields too."""
    found: dict[Path, Any] = {}
    for key, value in manifest.items():
        if key not in ("apiVersion", "kind"):
            _collect(found, (f"f:{key}",), key, value, custom)
    return {path: value for path, value in found.items() if not (path[0] == "f:metadata" and len(path) > 1 and path[1] in _NOT_OWNED)}


def _collect(found: dict[Path, Any], path: Path, name: str, value: Any, custom: bool) -> None:  # noqa: FBT001  (recursive and private)
    if isinstance(value, dict) and value and name not in ATOMIC_MAPS:
        for key, inner in value.items():
            _collect(found, (*path, f"f:{key}"), key, inner, custom)
        return
    if isinstance(value, list) and value:
        keys = list_keys(name, value, custom=custom)
        if keys:
            for item in value:
                step = (*path, f"k:{_compact(item_key(item, keys))}")
                found[step] = None
                for key, inner in item.items():
                    _collect(found, (*step, f"f:{key}"), key, inner, custom)
            return
        if is_set(name):
            found.update({(*path, f"v:{_compact(item)}"): item for item in value})
            return
    if path != ("f:metadata",):
        found[path] = value


def _compact(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def read_owners(manifest: Manifest) -> list[Owner]:
    """Read an object's managedFields."""
    found = []
    for entry in manifest["metadata"].get("managedFields") or ():
        paths: set[Path] = set()
        _unfold(entry.get("fieldsV1") or {}, (), paths)
        found.append(
            Owner(
                manager=entry.get("manager", ""),
                operation=entry.get("operation", "Update"),
                subresource=entry.get("subresource", ""),
                api_version=entry.get("apiVersion", ""),
                time=entry.get("time", ""),
                paths=paths,
            )
        )
    return found


def _unfold(tree: Manifest, path: Path, paths: set[Path]) -> None:
    if not tree and path:
        paths.add(path)
    for step, inner in tree.items():
        if step == ".":
            paths.add(path)
        else:
            _unfold(inner, (*path, step), paths)


def write_owners(manifest: Manifest, owners: list[Owner]) -> None:
    """Write an object's managedFields; managers that own nothing go."""
    entries = []
    for owner in owners:
        if not owner.paths:
            continue
        entry: Manifest = {
            "manager": owner.manager,
            "operation": owner.operation,
            "apiVersion": owner.api_version,
            "time": owner.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": _folded(owner.paths),
        }
        if owner.subresource:
            entry["subresource"] = owner.subresource
        entries.append(entry)
    if entries:
        manifest["metadata"]["managedFields"] = entries
    else:
        manifest["metadata"].pop("managedFields", None)


def _folded(paths: set[Path]) -> Manifest:
    tree: Manifest = {}
    for path in sorted(paths):
        place = tree
        for step in path:
            place = place.setdefault(step, {})
    for path in paths:
        place = tree
        for step in path:
            place = place[step]
        if place:
            place["."] = {}
    return tree


def track(before: Manifest | None, after: Manifest, *, manager: str, subresource: str, custom: bool) -> None:
    """Note in the new state who changed what by a plain write: the writer owns what it changed, nobody owns what is gone."""
    old = fields_of(before, custom=custom) if before else {}
    new = fields_of(after, custom=custom)
    changed = {path for path, value in new.items() if path not in old or old[path] != value}
    gone = old.keys() - new.keys()
    owners = read_owners(before) if before else []
    for owner in owners:
        mine = owner.is_(manager, "Update", subresource)
        owner.paths -= gone if mine else gone | {path for path in changed if new[path] is not None}
    mine_now = next((owner for owner in owners if owner.is_(manager, "Update", subresource)), None)
    if changed and mine_now is None:
        mine_now = Owner(manager=manager, operation="Update", subresource=subresource, api_version=after["apiVersion"], time=stamp())
        owners.append(mine_now)
    if mine_now is not None and changed:
        mine_now.paths |= changed
        mine_now.time = stamp()
    write_owners(after, owners)
