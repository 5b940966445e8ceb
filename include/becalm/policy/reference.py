"""The reference page of the policy file, rendered from the models: docs/policy-reference.md.

    python -m becalm.policy.reference > docs/policy-reference.md

It says what the models say, and nothing of its own.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from enum import Enum
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from becalm.policy.blueprints import PARAMETERS
from becalm.policy.fields import Shown
from becalm.policy.findings import sections_in
from becalm.policy.sample import SAMPLE
from becalm.policy.spec import ProtectionPolicy
from becalm.policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

_HEAD = """\
# The policy file

<!-- Made by `python -m becalm.policy.reference` from include/becalm/policy/spec.py. Change it there. -->

A policy is one YAML file: what to protect, when, how, where to, and for how long.
`becalm policy check FILE…` names everything that is wrong with it at once, with the place and what to write instead.
`becalm policy schema` prints its JSON Schema for editors, `becalm policy sample` a file to begin with.

- An unknown key is an error, and so are keys written twice, tags, merge keys, and more than one document in a file.
- Only `true` and `false` are true and false; `yes`, `no`, `on`, `12:30` and `2026-01-01` are texts.
- A **duration** is made of whole numbers with `w`, `d`, `h`, `m`, `s`, the largest first: `30s`, `1h30m`, `14d`.
- An **amount** is a number with `Ki`, `Mi`, `Gi`, `Ti` (powers of 1024) or `k`, `M`, `G`, `T` (powers of 1000): `500Gi`.
- A **schedule** is a cron expression of five fields, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@quarterly`, `@yearly`.
  When day of the month and day of the week are both restricted, a day that answers either is meant.
  A time that the clock skips is meant as long after the jump; a time that it shows twice is meant the second time, and both times if the hour is `*`.
- A **pattern** may hold `*` (any run of characters) and `?` (one character).
- A **selector** is a label selector of Kubernetes: `app=web,tier in (db, cache),!legacy`; a comma means AND.
"""


def render() -> str:
    """Return the page as Markdown."""
    parts = [_HEAD, "## A sample\n\n```yaml\n" + SAMPLE + "```\n", *_sections(ProtectionPolicy, "")]
    return "\n".join(parts)


def _sections(section: type[BaseModel], path: str) -> Iterator[str]:
    """Yield the table of a section, then those of the sections below it."""
    rows = ["| Key | Value | If left out | Meaning |", "|---|---|---|---|"]
    below: list[tuple[type[BaseModel], str]] = []
    for name, field in section.model_fields.items():
        key = field.alias or name
        here = f"{path}.{key}" if path else key
        value = _value(field)
        rows.append(f"| `{key}` | {value} | {_default(field)} | {_meaning(field)} |")
        below += [(inner, f"{here}[]" if value.startswith("list") else here) for inner in sections_in(field.annotation)]
    title = (f"`{path}`" if path else "The file") + _of_blueprints(section)
    intro = (section.__doc__ or "").strip()
    yield f"## {title}\n\n{intro}\n\n" + "\n".join(rows) + "\n"
    for inner, here in below:
        yield from _sections(inner, here)


def _of_blueprints(section: type[BaseModel]) -> str:
    """Say whose parameters a section holds, where it does."""
    names = [f"`{name}`" for name, model in PARAMETERS.items() if model is section]
    return " of " + " and ".join(names) if names else ""


def _value(field: FieldInfo) -> str:
    """Say what may be written."""
    return next((item.text for item in field.metadata if isinstance(item, Shown)), None) or _named(field.annotation)


def _named(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return next((item.text for item in arguments[1:] if isinstance(item, Shown)), None) or _named(arguments[0])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_named(part) for part in arguments if part is not NoneType))
    if origin is tuple:
        return f"list of {_named(arguments[0])}s"
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if issubclass(annotation, Enum):
        return " or ".join(f"`{member.value}`" for member in annotation)
    return "section" if issubclass(annotation, BaseModel) else "text"


def _default(field: FieldInfo) -> str:
    """Say what holds without the key."""
    match field.default:
        case _ if field.is_required():
            return "required"
        case None | ():
            return "none"
        case BaseModel():
            return "its defaults"
        case timedelta() as span:
            return f"`{format_duration(span)}`"
        case Enum() as member:
            return f"`{member.value}`"
        case tuple() as items:
            return "`[" + ", ".join(f'"{item}"' for item in items) + "]`"
        case other:
            return f"`{other}`"


def _meaning(field: FieldInfo) -> str:
    return field.description or ""


if __name__ == "__main__":
    sys.stdout.write(render())
