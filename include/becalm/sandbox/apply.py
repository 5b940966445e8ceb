"""Server-side apply: a configuration meets the live object, its owners and their conflicts. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from becalm.sandbox.answers import manager_conflict
from becalm.sandbox.merging import ATOMIC_MAPS, is_set, item_key, list_keys
from becalm.sandbox.owners import Owner, Path, fields_of, read_owners, write_owners
from becalm.sandbox.store import copied
from becalm.sandbox.times import stamp

if TYPE_CHECKING:
    from becalm.model import Manifest


def server_side_apply(live: Manifest | None, config: Manifest, *, manager: str, force: bool, subresource: str, custom: bool) -> Manifest:
    """Return the object that results, with its owners. Raises: ApiError (409) where others own what would change."""
    base = copied(live) if live else {"apiVersion": config["apiVersion"], "kind": config["kind"], "metadata": {}}
    owners = read_owners(base)
    wanted = fields_of(config, custom=custom)
    standing = fields_of(base, custom=custom)
    _settle_conflicts(owners, wanted, standing, manager=manager, force=force, subresource=subresource)
    mine = next((owner for owner in owners if owner.is_(manager, "Apply", subresource)), None)
    dropped = (mine.paths if mine else set()) - wanted.keys()
    if mine is None:
        mine = Owner(manager=manager, operation="Apply", subresource=subresource, api_version=config["apiVersion"], time=stamp())
        owners.insert(0, mine)
    elif mine.paths != set(wanted):
        mine.time = stamp()
    mine.paths = set(wanted)
    merged: Manifest = _merge(base, {key: value for key, value in config.items() if key != "metadata"}, "", custom)
    merged["metadata"] = _merge(
        base["metadata"], {key: value for key, value in config["metadata"].items() if key != "managedFields"}, "", custom
    )
    kept = set().union(*(owner.paths for owner in owners))
    for path in sorted(dropped, key=len, reverse=True):
        if not any(other[: len(path)] == path for other in kept):
            _take_out(merged, path, kept)
    write_owners(merged, owners)
    return merged


def _settle_conflicts(
    owners: list[Owner], wanted: dict[Path, Any], standing: dict[Path, Any], *, manager: str, force: bool, subresource: str
) -> None:
    conflicts: list[tuple[str, str]] = []
    for owner in owners:
        if owner.is_(manager, "Apply", subresource):
            continue
        taken = {path for path in owner.paths if path in wanted and wanted[path] is not None and standing.get(path) != wanted[path]}
        conflicts += [(_named(owner), _dotted(path)) for path in sorted(taken)]
        if force:
            owner.paths -= taken
    if conflicts and not force:
        raise manager_conflict(conflicts)


def _named(owner: Owner) -> str:
    named = f'"{owner.manager}"'
    return named if owner.operation == "Apply" else f"{named} using {owner.api_version} at {owner.time}"


def _dotted(path: Path) -> str:
    text = ""
    for step in path:
        kind, _, rest = step.partition(":")
        if kind == "f":
            text += f".{rest}"
        elif kind == "k":
            text += "[" + ",".join(f"{key}={orjson.dumps(value).decode()}" for key, value in orjson.loads(rest).items()) + "]"
        else:
            text += f"[{rest}]"
    return text


def _merge(target: Any, config: Any, field: str, custom: bool) -> Any:  # noqa: FBT001  (recursive and private)
    if isinstance(config, dict) and isinstance(target, dict) and field not in ATOMIC_MAPS:
        result = dict(target)
        for key, value in config.items():
            result[key] = _merge(target.get(key), value, key, custom)
        return result
    if isinstance(config, list) and isinstance(target, list):
        keys = list_keys(field, config, custom=custom)
        if keys and all(isinstance(item, dict) for item in target):
            result_list = list(target)
            for item in config:
                found = next((index for index, old in enumerate(result_list) if item_key(old, keys) == item_key(item, keys)), None)
                if found is None:
                    result_list.append(item)
                else:
                    result_list[found] = _merge(result_list[found], item, "", custom)
            return result_list
        if is_set(field):
            return [*target, *(item for item in config if item not in target)]
    return config


def _take_out(document: Any, path: Path, kept: set[Path]) -> None:
    """Remove a field, and the maps that it leaves empty and nobody owns."""
    parents: list[tuple[Any, str]] = []
    place = document
    for step in path[:-1]:
        parents.append((place, step))
        place = _step(place, step)
        if place is None:
            return
    _drop(place, path[-1])
    for depth in range(len(parents) - 1, 0, -1):
        parent, step = parents[depth]
        if _step(parent, step) not in ({}, []) or path[: depth + 1] in kept:
            return
        _drop(parent, step)


def _step(place: Any, step: str) -> Any:
    kind, _, rest = step.partition(":")
    if kind == "f":
        return place.get(rest) if isinstance(place, dict) else None
    wanted = orjson.loads(rest)
    if kind == "k" and isinstance(place, list):
        return next((item for item in place if item_key(item, tuple(wanted)) == wanted), None)
    return None


def _drop(place: Any, step: str) -> None:
    kind, _, rest = step.partition(":")
    if kind == "f" and isinstance(place, dict):
        place.pop(rest, None)
    elif isinstance(place, list):
        wanted = orjson.loads(rest)
        place[:] = [item for item in place if (item_key(item, tuple(wanted)) if kind == "k" else item) != wanted]
