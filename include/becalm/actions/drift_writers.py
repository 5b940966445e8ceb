"""Who wrote a field, as the server's own record tells it (`metadata.managedFields`). Pure.

The record knows who owns what is there. Who took a field away it does not know, and nobody is named then.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from json import loads
from typing import TYPE_CHECKING, Any

from becalm.kube.rules import children

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.model import Manifest

_STEP = re.compile(r'\["(?P<odd>[^"]*)"\]|\[(?P<item>[^\]]*)\]|\.?(?P<key>[^.\[\]]+)')


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """A field manager, and when it wrote last."""

    manager: str
    time: str = ""

    def __str__(self) -> str:
        """`kubectl-edit, 2026-03-14T11:00:00Z`."""
        return f"{self.manager}, {self.time}" if self.time else self.manager


def writer_of(manifest: Manifest, path: str) -> Writer | None:
    """Return who owns the field at a place, as `kube.diffing` writes places; of several the last. Nothing where it is not recorded."""
    steps = [(bool(step["item"]), step["odd"] or step["item"] or step["key"] or "") for step in _STEP.finditer(path)]
    owners = [
        _writer(entry)
        for entry in _entries(manifest)
        if isinstance(entry.get("fieldsV1"), dict) and _owns(entry["fieldsV1"], manifest, steps)
    ]
    return max(owners, key=lambda one: one.time, default=None)


def maker_of(manifest: Manifest) -> Writer | None:
    """Return who wrote an object first, as far as it is recorded."""
    return min(map(_writer, _entries(manifest)), key=lambda one: one.time, default=None)


def _entries(manifest: Manifest) -> Iterator[Manifest]:
    """Yield the records of the object itself, not those of its status."""
    yield from (entry for entry in children(manifest, "metadata", "managedFields") if not entry.get("subresource"))


def _writer(entry: Manifest) -> Writer:
    return Writer(manager=str(entry.get("manager") or "unknown"), time=str(entry.get("time") or ""))


def _owns(fields: Manifest, value: Any, steps: list[tuple[bool, str]]) -> bool:
    """Walk down the record and the object side by side. A record that ends on the way owns all that is below."""
    for number, (in_list, step) in enumerate(steps):
        if not {key for key in fields if key != "."}:
            return number > 0
        value = _item(value, step) if in_list else value.get(step) if isinstance(value, dict) else None
        found = _element(fields, value) if in_list else fields.get(f"f:{step}")
        if not isinstance(found, dict):
            return False
        fields = found
    return True


def _item(items: Any, step: str) -> Any:
    if not isinstance(items, list):
        return None
    named = next((one for one in items if isinstance(one, dict) and one.get("name") == step), None)
    return named or (items[int(step)] if step.isdecimal() and int(step) < len(items) else None)


def _element(fields: Manifest, item: Any) -> Any:
    """Return the record of one item of a list, which is named by the fields that tell it from the others."""
    for key in fields:
        kind, _, said = key.partition(":")
        try:
            names = loads(said) if kind in {"k", "v"} else None
        except ValueError:
            continue
        if kind == "v" and names == item:
            return fields[key]
        if kind == "k" and isinstance(names, dict) and isinstance(item, dict) and names.items() <= ({"protocol": "TCP"} | item).items():
            return fields[key]
    return None
