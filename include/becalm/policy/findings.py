"""Pydantic's errors as findings: where, what is wrong, and what to write instead, in our own words.

No text of pydantic's and no URL gets out, and what the author wrote is quoted only where it cannot be a secret.
"""

from __future__ import annotations

from difflib import get_close_matches
from enum import Enum
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from becalm.errors import PolicyFinding
from becalm.policy.document import Document, Path, dotted
from becalm.policy.fields import PROBLEM
from becalm.policy.problems import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

MOST_FINDINGS = 100
"""More are counted, not listed."""


def findings(errors: Sequence[ErrorDetails], document: Document, model: type[BaseModel]) -> list[PolicyFinding]:
    """Turn all errors into findings, each with the line it is about."""
    return [_finding(error, document, model) for error in errors]


def readable(found: Sequence[PolicyFinding]) -> tuple[PolicyFinding, ...]:
    """Return findings without doubles, and not more than a person reads."""
    unique = list(dict.fromkeys(found))
    if len(unique) > MOST_FINDINGS:
        rest = PolicyFinding(path="file", problem=f"and {len(unique) - MOST_FINDINGS} more findings", remedy="mend these first")
        unique = [*unique[:MOST_FINDINGS], rest]
    return tuple(unique)


def at_line(problem: str, line: int | None) -> str:
    """Add the line to a problem, where there is one."""
    return f"{problem} (line {line})" if line else problem


def _finding(error: ErrorDetails, document: Document, model: type[BaseModel]) -> PolicyFinding:
    path: Path = tuple(error["loc"])
    if isinstance(document.at(path[:-1]), str):  # one text where a list may stand
        path = path[:-1]
    field = field_at(model, path)
    problem, remedy = _words(error, path, field, model)
    return PolicyFinding(path=dotted(path) or "file", problem=at_line(problem, document.line(path)), remedy=remedy)


def _words(error: ErrorDetails, path: Path, field: FieldInfo | None, model: type[BaseModel]) -> tuple[str, str]:
    context: Mapping[str, Any] = error.get("ctx", {})
    described = (field.description or "") if field else ""
    match error["type"]:
        case t if t == PROBLEM:
            return context["problem"], context["remedy"]
        case "extra_forbidden":
            return "no such key is known here", _known(model, path)
        case "missing":
            return "this is missing", f"add {path[-1]}: {described}"
        case "string_type":
            return f"a text is wanted, and this is {_kind(error['input'])}", _as_text(error["input"], described)
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"a mapping of keys is wanted, and this is {_kind(error['input'])}", _keys(model, path)
        case "tuple_type" | "list_type":
            return (
                f"a list is wanted, and this is {_kind(error['input'])}",
                f"write [a, b], or one item per line after a dash. {described}".strip(),
            )
        case "enum" | "literal_error":
            shown = quoted(error["input"]) if isinstance(error["input"], str) else _kind(error["input"])
            return f"{shown} is not one of the values that are known here", "write " + " or ".join(allowed(field))
        case "too_short":
            return (
                "the list is empty",
                f"write at least {context['min_length']}, or leave the key out where it is optional. {described}".strip(),
            )
        case "too_long":
            return f"the list has more than {context['max_length']} items", "write fewer"
        case "string_too_long":
            return f"the text is longer than {context['max_length']} characters", "write less"
        case "greater_than_equal":
            return f"the number is less than {context['ge']}", f"write {context['ge']} or more, or leave the key out"
        case "less_than_equal":
            return f"the number is more than {context['le']}", f"write {context['le']} or less"
        case _:
            return "this is not what is expected here", described


def _kind(value: object) -> str:
    match value:
        case None:
            return "empty"
        case bool():
            return "true or false"
        case int():
            return "a number"
        case str():
            return "a text"
        case list() | tuple():
            return "a list"
        case dict():
            return "a mapping of keys"
        case _:
            return "something else"


def _as_text(value: object, described: str) -> str:
    return "put it in quotes" if isinstance(value, bool | int) else (f"write a text. {described}".strip())


def _known(model: type[BaseModel], path: Path) -> str:
    """Name the key that was probably meant, or the keys that there are."""
    section = section_at(model, path[:-1])
    if section is None:
        return "remove it"
    keys = keys_of(section)
    key = str(path[-1])
    folded = {known.lower(): known for known in keys}
    near = folded.get(key.replace("_", "").replace("-", "").lower())
    close = [near] if near else get_close_matches(key, keys, n=1, cutoff=0.6)
    return f"write {close[0]}" if close else "remove it, or write one of: " + ", ".join(keys)


def _keys(model: type[BaseModel], path: Path) -> str:
    section = section_at(model, path)
    return "write keys below it: " + ", ".join(keys_of(section)) if section else "write keys below it"


def keys_of(section: type[BaseModel]) -> list[str]:
    """Return the keys of a section as the file spells them."""
    return [field.alias or name for name, field in section.model_fields.items()]


def field_at(model: type[BaseModel], path: Path) -> FieldInfo | None:
    """Return the definition of the key at a path; of the list's key, for an item of a list."""
    section: type[BaseModel] | None = model
    field: FieldInfo | None = None
    for part in path:
        if isinstance(part, int):
            continue
        if section is None:
            return field
        field = next((known for name, known in section.model_fields.items() if (known.alias or name) == part), None)
        if field is None:
            return None
        section = section_in(field.annotation)
    return field


def section_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """Return the section at a path, or nothing where there is none."""
    if not path:
        return model
    field = field_at(model, path)
    return section_in(field.annotation) if field else None


def _inside(annotation: Any) -> list[Any]:
    """Return the plain types that an annotation is made of."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _inside(get_args(annotation)[0])
    if origin in (Union, UnionType, tuple):
        return [plain for part in get_args(annotation) if part is not Ellipsis for plain in _inside(part)]
    return [annotation]


def section_in(annotation: Any) -> type[BaseModel] | None:
    """Return the section that a value, or an item of a list, is; the first, where it may be one of several."""
    return next(iter(sections_in(annotation)), None)


def sections_in(annotation: Any) -> list[type[BaseModel]]:
    """Return all sections that a value, or an item of a list, may be."""
    return [plain for plain in _inside(annotation) if isinstance(plain, type) and issubclass(plain, BaseModel)]


def allowed(field: FieldInfo | None) -> list[str]:
    """Return the values of a closed set."""
    for plain in _inside(field.annotation) if field else []:
        if get_origin(plain) is Literal:
            return [str(value) for value in get_args(plain)]
        if isinstance(plain, type) and issubclass(plain, Enum):
            return [str(member.value) for member in plain]
    return []
