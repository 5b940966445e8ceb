"""What differs between two objects, field by field, and what is left out of the comparison, rule by rule. Pure.

It never says which of the two is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from becalm.kube.resources import copied
from becalm.kube.rules import LAST_APPLIED, RULES, Rule, group_kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.model import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldChange:
    """One field that differs. None stands for a field that is not there."""

    path: str
    before: Any = None
    after: Any = None

    @property
    def added(self) -> bool:
        """Whether only the second object has the field."""
        return self.before is None

    def __str__(self) -> str:
        """`spec.replicas: 2 → 3`."""
        return f"{self.path}: {_word(self.before)} → {_word(self.after)}"


def _word(value: object) -> str:
    text = "nothing" if value is None else repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 120 else f"{text[:117]}…"


def diff(before: Any, after: Any, *, path: str = "") -> list[FieldChange]:
    """Return the fields in which two JSON values differ. Lists of named things are matched by name, other lists by place."""
    return list(_diff(before, after, path))


def _diff(before: Any, after: Any, path: str) -> Iterator[FieldChange]:
    if type(before) is type(after) and before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            yield from _diff(before.get(key), after.get(key), _join(path, key))
    elif isinstance(before, list) and isinstance(after, list):
        yield from _diff_lists(before, after, path)
    elif before is not None or after is not None:
        yield FieldChange(path=path, before=before, after=after)


def _diff_lists(before: list[Any], after: list[Any], path: str) -> Iterator[FieldChange]:
    first, second = _by_name(before), _by_name(after)
    if first is None or second is None:
        for place in range(max(len(before), len(after))):
            left, right = (items[place] if place < len(items) else None for items in (before, after))
            yield from _diff(left, right, f"{path}[{place}]")
        return
    for name in [*first, *(name for name in second if name not in first)]:
        yield from _diff(first.get(name), second.get(name), f"{path}[{name}]")
    left, right = ([name for name in names if name in others] for names, others in ((first, second), (second, first)))
    if left != right:
        yield FieldChange(path=f"{path}[order]", before=left, after=right)


def _by_name(items: list[Any]) -> dict[str, Any] | None:
    """Return the items by their names, or nothing where not every item has one of its own."""
    named = {item["name"]: item for item in items if isinstance(item, dict) and isinstance(item.get("name"), str)}
    return named if len(named) == len(items) else None


def _join(path: str, key: str) -> str:
    if key and all(letter.isalnum() or letter in "_-" for letter in key):
        return f"{path}.{key}" if path else key
    return f'{path}["{key}"]'


def comparable(manifest: Manifest) -> Manifest:
    """Return a copy without what servers assign: two objects that say the same are then equal."""
    reduced: Manifest = copied(manifest)
    for rule in RULES:
        if rule.comparing and rule.meets(reduced):
            rule.remove(reduced)
    return reduced


def ignored(*manifests: Manifest) -> tuple[Rule, ...]:
    """Return the rules that took something out of any of these objects, in the order of the table."""
    met = {name for manifest in manifests for name in _met(manifest)}
    return tuple(rule for rule in RULES if rule.name in met)


def _met(manifest: Manifest) -> Iterator[str]:
    reduced: Manifest = copied(manifest)
    for rule in RULES:
        if rule.comparing and rule.meets(reduced):
            before = copied(reduced)
            rule.remove(reduced)
            if before != reduced:
                yield rule.name


def compare(saved: Manifest, live: Manifest) -> list[FieldChange]:
    """Return what differs between two objects but for what servers assign. Values of Secrets never leave: their change is told, not shown."""
    return masked(diff(comparable(saved), comparable(live)), saved, live)


def masked(changes: list[FieldChange], *manifests: Manifest) -> list[FieldChange]:
    """Return the changes of objects without the values of a Secret, where one of them is a Secret."""
    if "Secret" not in map(group_kind, manifests):
        return changes
    return [_masked(change) for change in changes]


def _masked(change: FieldChange) -> FieldChange:
    if not change.path.startswith(("data", "stringData")) and LAST_APPLIED not in change.path and change.path != "metadata.annotations":
        return change
    hidden = [None if value is None else "(hidden)" for value in (change.before, change.after)]
    return FieldChange(path=change.path, before=hidden[0], after=hidden[1])
