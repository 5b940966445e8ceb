"""The structural schema of a custom resource: unknown fields go, defaults come, wrong values are named. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from becalm.sandbox.answers import Cause, required, wrong
from becalm.sandbox.store import copied

if TYPE_CHECKING:
    from becalm.model import Manifest

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


def fit(manifest: Manifest, schema: Manifest) -> list[Cause]:
    """Prune and default an object in place by its schema; return what is wrong with it."""
    causes: list[Cause] = []
    properties = schema.get("properties") or {}
    keep_all = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    for key in list(manifest):
        if key in ("apiVersion", "kind", "metadata"):
            continue
        if key not in properties:
            if not keep_all:
                del manifest[key]
            continue
        _fit(manifest[key], properties[key], key, causes)
    _defaults(manifest, properties)
    causes += [required(name) for name in schema.get("required") or () if name not in manifest]
    return causes


def _fit(value: Any, schema: Manifest, path: str, causes: list[Cause]) -> None:
    if value is None and schema.get("nullable"):
        return
    if not _right_type(value, schema):
        found = "null" if value is None else type(value).__name__
        causes.append(wrong(path, found, f'{path} in body must be of type {schema.get("type")}: "{found}"'))
        return
    if isinstance(value, dict):
        _fit_map(value, schema, path, causes)
    elif isinstance(value, list):
        items = schema.get("items") or {}
        for index, item in enumerate(value):
            _fit(item, items, f"{path}[{index}]", causes)
    else:
        _check_scalar(value, schema, path, causes)


def _right_type(value: Any, schema: Manifest) -> bool:
    if schema.get("x-kubernetes-int-or-string"):
        return isinstance(value, (int, str)) and not isinstance(value, bool)
    kinds = _TYPES.get(schema.get("type", ""))
    if kinds is None:
        return True
    return isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds)


def _fit_map(value: Manifest, schema: Manifest, path: str, causes: list[Cause]) -> None:
    properties = schema.get("properties") or {}
    additional = schema.get("additionalProperties")
    keep_all = bool(schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("x-kubernetes-embedded-resource"))
    for key in list(value):
        if key in properties:
            _fit(value[key], properties[key], f"{path}.{key}", causes)
        elif isinstance(additional, dict):
            _fit(value[key], additional, f"{path}.{key}", causes)
        elif not (keep_all or additional):
            del value[key]
    _defaults(value, properties)
    causes += [required(f"{path}.{name}") for name in schema.get("required") or () if name not in value]


def _defaults(value: Manifest, properties: Manifest) -> None:
    for name, inner in properties.items():
        if name not in value and "default" in inner:
            value[name] = copied({"default": inner["default"]})["default"]


def _check_scalar(value: Any, schema: Manifest, path: str, causes: list[Cause]) -> None:
    if schema.get("enum") and value not in schema["enum"]:
        shown = ", ".join(f'"{choice}"' for choice in schema["enum"])
        causes.append(
            Cause(field=path, reason="FieldValueNotSupported", message=f'Unsupported value: "{value}": supported values: {shown}')
        )
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            causes.append(wrong(path, value, f"{path} in body should match '{schema['pattern']}'"))
        if len(value) < schema.get("minLength", 0):
            causes.append(wrong(path, value, f"{path} in body should be at least {schema['minLength']} chars long"))
    elif isinstance(value, (int, float)):
        if value < schema.get("minimum", value):
            causes.append(wrong(path, value, f"{path} in body should be greater than or equal to {schema['minimum']}"))
        if value > schema.get("maximum", value):
            causes.append(wrong(path, value, f"{path} in body should be less than or equal to {schema['maximum']}"))
