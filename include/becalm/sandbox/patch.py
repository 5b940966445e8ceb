"""The three patches that name no owner: JSON merge patch, JSON patch, strategic merge patch. Pure: the target is copied by the caller.

Server-side apply is in `apply`.
"""

from __future__ import annotations

from typing import Any

from becalm.sandbox.answers import ApiError, bad_request
from becalm.sandbox.merging import item_key, list_keys


def merge_patch(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def strategic_patch(target: Any, patch: Any, *, field: str = "") -> Any:
    """Apply a strategic merge patch: lists with a merge key are merged item by item, `$patch` deletes or replaces."""
    if isinstance(patch, list):
        return _strategic_list(target if isinstance(target, list) else [], patch, field=field)
    if not isinstance(patch, dict):
        return patch
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            result[name] = [item for item in result.get(name) or [] if item not in value]
        elif key.startswith("$"):
            continue
        elif value is None or (isinstance(value, dict) and value.get("$patch") == "delete"):
            result.pop(key, None)
        else:
            result[key] = strategic_patch(result.get(key), value, field=key)
    return result


def _strategic_list(target: list[Any], patch: list[Any], *, field: str) -> list[Any]:
    directives = [item for item in patch if isinstance(item, dict) and item.get("$patch") == "replace" and len(item) == 1]
    plain = [item for item in patch if item not in directives]
    if field == "finalizers":
        return [*target, *(item for item in plain if item not in target)]
    keys = list_keys(field, plain, custom=False) or list_keys(field, [item for item in target if isinstance(item, dict)], custom=False)
    if directives or not keys:
        return plain
    result = list(target)
    for item in plain:
        found = next((index for index, old in enumerate(result) if item_key(old, keys) == item_key(item, keys)), None)
        if item.get("$patch") == "delete":
            if found is not None:
                del result[found]
        elif found is None:
            result.append(strategic_patch({}, item))
        else:
            result[found] = strategic_patch(result[found], item)
    return result


def json_patch(document: Any, operations: Any) -> Any:
    """Apply a JSON patch (RFC 6902) to a document that may be changed. Raises: ApiError (400: not a patch; 422: it does not apply)."""
    if not isinstance(operations, list):
        raise bad_request("a JSON patch is a list of operations")
    for operation in operations:
        try:
            document = _operate(document, operation)
        except (KeyError, IndexError, ValueError, TypeError, AttributeError) as exc:
            raise _rejected() from exc
    return document


def _rejected() -> ApiError:
    return ApiError(422, "Invalid", "the server rejected our request due to an error in our request", details={})


def _operate(document: Any, operation: dict[str, Any]) -> Any:
    path = _pointer(operation["path"])
    match operation["op"]:
        case "test":
            if _read(document, path) != operation["value"]:
                raise ValueError("the test failed")
        case "remove":
            _remove(document, path)
        case "add":
            return _add(document, path, operation["value"])
        case "replace":
            _read(document, path)
            if not path:
                return operation["value"]
            parent = _read(document, path[:-1])
            parent[_index(parent, path[-1])] = operation["value"]
        case "move":
            source = _pointer(operation["from"])
            value = _read(document, source)
            _remove(document, source)
            return _add(document, path, value)
        case "copy":
            return _add(document, path, _read(document, _pointer(operation["from"])))
        case other:
            raise ValueError(other)
    return document


def _pointer(text: str) -> list[str]:
    if text and not text.startswith("/"):
        raise ValueError(text)
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _index(parent: Any, part: str) -> Any:
    return int(part) if isinstance(parent, list) else part


def _read(document: Any, path: list[str]) -> Any:
    for part in path:
        document = document[_index(document, part)]
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = _read(document, path[:-1])
    if isinstance(parent, list):
        place = len(parent) if path[-1] == "-" else int(path[-1])
        if place > len(parent):
            raise IndexError(place)
        parent.insert(place, value)
    else:
        parent[path[-1]] = value
    return document


def _remove(document: Any, path: list[str]) -> None:
    parent = _read(document, path[:-1])
    del parent[_index(parent, path[-1])]
