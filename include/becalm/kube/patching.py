"""JSON patches (RFC 6902) and the pointers in them (RFC 6901). Pure: what is given is never changed.

It knows nothing of Kubernetes. A patch is applied whole or not at all.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from becalm.kube.resources import copied

if TYPE_CHECKING:
    from collections.abc import Sequence

_INDEX = re.compile(r"0|[1-9]\d{0,9}", re.ASCII)
_NEEDS = {"add": "value", "replace": "value", "test": "value", "move": "from", "copy": "from", "remove": ""}

Operation = dict[str, Any]


class PatchFailed(ValueError):  # noqa: N818  (an error is called by what happened, as in becalm.errors)
    """A patch that is none, or that does not fit: its text says which operation, and why."""


class TestFailed(PatchFailed):
    """A test in a patch said no."""

    __test__ = False


def checked(operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """Return the operations of a patch that can be one. Raises PatchFailed."""
    for number, operation in enumerate(operations, 1):
        name = operation.get("op")
        if name not in _NEEDS:
            raise PatchFailed(f"operation {number} is {name!r}; there are {', '.join(_NEEDS)}")
        for field in ("path", _NEEDS[name]):
            if field and field not in operation:
                raise PatchFailed(f"operation {number} ({name}) has no {field}")
        for field in ("path", "from"):
            if field in operation and (field == "path" or _NEEDS[name] == "from"):
                _pointer(operation[field])
    return tuple(operations)


def apply(document: Any, operations: Sequence[Operation]) -> Any:
    """Return the document as a patch makes it. Raises TestFailed where a test says no, PatchFailed where an operation does not fit."""
    patched = copied(document)
    for number, operation in enumerate(operations, 1):
        try:
            patched = _operate(patched, operation)
        except TestFailed:
            raise
        except PatchFailed as error:
            raise PatchFailed(f"operation {number} ({operation['op']} {operation['path'] or 'the whole'}) does not fit: {error}") from error
    return patched


def _operate(document: Any, operation: Operation) -> Any:
    path = _pointer(operation["path"])
    match operation["op"]:
        case "test":
            if not _same(_read(document, path), operation["value"]):
                raise TestFailed(f"{operation['path']} says something else")
            return document
        case "remove":
            return _remove(document, path)
        case "add":
            return _add(document, path, copied(operation["value"]))
        case "replace":
            _read(document, path)
            return _add(_remove(document, path), path, copied(operation["value"])) if path else copied(operation["value"])
        case "move":
            source = _pointer(operation["from"])
            if path[: len(source)] == source and len(path) > len(source):
                raise PatchFailed("a place cannot be moved into itself")
            value = _read(document, source)
            return _add(_remove(document, source), path, value)
        case _:
            return _add(document, path, copied(_read(document, _pointer(operation["from"]))))


def _pointer(text: object) -> list[str]:
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise PatchFailed(f"{text!r} is not a pointer; write it like /spec/replicas")
    if re.search(r"~(?![01])", text):
        raise PatchFailed(f"{text!r} is not a pointer; a tilde is written ~0, a slash in a name ~1")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _read(document: Any, path: list[str]) -> Any:
    for part in path:
        if isinstance(document, dict) and part in document:
            document = document[part]
        elif isinstance(document, list):
            document = document[_index(part, len(document) - 1)]
        else:
            raise PatchFailed(f"there is no {part!r}")
    return document


def _index(part: str, last: int) -> int:
    if not _INDEX.fullmatch(part) or int(part) > last:
        raise PatchFailed(f"there is no item {part!r}")
    return int(part)


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    place = _read(document, path[:-1])
    if isinstance(place, list):
        place.insert(len(place) if path[-1] == "-" else _index(path[-1], len(place)), value)
    elif isinstance(place, dict):
        place[path[-1]] = value
    else:
        raise PatchFailed(f"nothing can stand in {path[-1]!r}")
    return document


def _remove(document: Any, path: list[str]) -> Any:
    _read(document, path)
    if not path:
        return None
    place = _read(document, path[:-1])
    del place[_index(path[-1], len(place) - 1) if isinstance(place, list) else path[-1]]
    return document


def _same(left: Any, right: Any) -> bool:
    """Compare as JSON does: true is not 1, and 1 is 1.0."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right)
