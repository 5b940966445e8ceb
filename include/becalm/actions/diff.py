"""Two sides compared, object by object: what was added, removed or changed, and exactly which differences were ignored, by which rule. Pure.

A side is a recovery point, a live cluster, or whatever else can name its objects. It never says which side is right, it never tells the
value of a Secret, and what it does not compare it counts, with the reason.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping  # noqa: TC003  (pydantic resolves the annotations at run time)
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from becalm.errors import UsageError
from becalm.kube.diffing import FieldChange, diff, masked
from becalm.kube.resources import copied, left_out
from becalm.kube.rules import RULES, Rule, child, group_kind
from becalm.model import Finding, ResourceRef, VolumeRef  # noqa: TC001  (pydantic resolves the annotations at run time)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from becalm.model import Manifest

Table: TypeAlias = tuple[str, str]
"""Group and resource: identity is free of versions."""

SERVICES: Table = ("", "services")
MADE_AGAIN = "made-again"
"""The rule for whole objects, beside the rules for fields."""
MADE_AGAIN_BECAUSE = "controllers and servers make these objects by themselves; a restore leaves them out, and says why of each"
_OPAQUE = ("metadata.managedFields", "status")
"""Places that are told as a whole: what is below them is nobody's word but a server's."""
_PLACE_IN_LIST = re.compile(r'\[(?!")[^\]]*\]')


class Change(StrEnum):
    """What became of an object from the first side to the second."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectDifference:
    """One object that the sides do not hold alike."""

    ref: ResourceRef
    kind: str
    change: Change
    fields: tuple[FieldChange, ...] = ()
    """Of one that changed: before is the first side. The values of a Secret are hidden."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeDifference:
    """One volume whose files are not the same on both sides, by the digest of its tree."""

    volume: VolumeRef
    change: Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """What one rule kept out of the comparison: fields that differed, each with the number of objects in which it did."""

    rule: str
    because: str
    fields: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Objects that were not compared, and why."""

    because: str
    before: int = 0
    after: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All that two sides have not in common."""

    before: str
    after: str
    compared: int
    """How many objects both sides hold."""
    differences: tuple[ObjectDifference, ...] = ()
    volumes: tuple[VolumeDifference, ...] = ()
    ignored: tuple[Ignored, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    findings: tuple[Finding, ...] = ()
    """What could not be read, so that nobody knows whether it is equal."""

    @property
    def equal(self) -> bool:
        """Whether nothing differs but what the rules ignore, and everything could be read."""
        return not (self.differences or self.volumes or self.findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a side holds of one kind."""

    objects: Mapping[ResourceRef, Manifest] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


class Side(Protocol):
    """One side of a comparison. It is asked kind by kind, so that no more than one kind is in memory at a time."""

    @property
    def title(self) -> str:
        """Say what it is, for people."""

    @property
    def volumes(self) -> Mapping[VolumeRef, str] | None:
        """Return the tree of each volume; nothing where this side knows no trees."""

    def tables(self) -> Collection[Table]:
        """Return the kinds that it may hold something of."""

    def read(self, table: Table, *, version: str = "") -> Held:
        """Return the objects of a kind, in that version where it can choose."""

    def services(self) -> Collection[str]:
        """Return the Services with a selector, as `namespace/name`: their endpoints are a controller's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What is ignored: rules for fields, and whether whole objects that are made again are left out."""

    fields: tuple[Rule, ...] = tuple(rule for rule in RULES if rule.comparing)
    objects: bool = True

    @classmethod
    def without(cls, names: Iterable[str]) -> Rules:
        """Return the rules but those that are named. Raises UsageError for a name that no rule has."""
        dropped = set(names)
        known = {rule.name for rule in cls().fields} | {MADE_AGAIN}
        for name in sorted(dropped - known):
            near = get_close_matches(name, sorted(known), n=1)
            meant = f"did you mean {near[0]}? " if near else ""
            raise UsageError(f"no rule is called {name!r}", where="--no-ignore", hint=f"{meant}becalm diff --list-rules names them all")
        return cls(fields=tuple(rule for rule in cls().fields if rule.name not in dropped), objects=MADE_AGAIN not in dropped)


def compare(before: Side, after: Side, rules: Rules | None = None) -> Comparison:
    """Compare two sides, kind by kind."""
    tally = _Tally(rules=rules or Rules(), services=(before.services(), after.services()))
    for table in sorted({*before.tables(), *after.tables()}):
        first = before.read(table)
        version = next((str(one.get("apiVersion", "")).rpartition("/")[2] for one in first.objects.values()), "")
        tally.add(first, after.read(table, version=version))
    return Comparison(
        before=before.title,
        after=after.title,
        compared=tally.compared,
        differences=tuple(sorted(tally.differences, key=lambda one: one.ref.path)),
        volumes=tuple(_volumes(before.volumes, after.volumes)),
        ignored=tuple(tally.told()),
        left_out=tuple(LeftOut(because=why, before=counts[0], after=counts[1]) for why, counts in sorted(tally.left_out.items())),
        findings=tuple(tally.findings),
    )


@dataclass(slots=True, kw_only=True)
class _Tally:
    """A comparison under way."""

    rules: Rules
    services: tuple[Collection[str], Collection[str]]
    compared: int = 0
    differences: list[ObjectDifference] = field(default_factory=list)
    ignored: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    left_out: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    findings: list[Finding] = field(default_factory=list)

    def add(self, before: Held, after: Held) -> None:
        """Compare what both sides hold of one kind."""
        self.findings += [*before.findings, *after.findings]
        first, second = (dict(self._comparable(held.objects, number)) for number, held in enumerate((before, after)))
        for ref in [*first, *(ref for ref in second if ref not in first)]:
            old, new = first.get(ref), second.get(ref)
            if old is not None and new is not None:
                self._pair(ref, old, new)
            else:
                change = Change.REMOVED if new is None else Change.ADDED
                self.differences.append(ObjectDifference(ref=ref, kind=_kind(old or new), change=change))

    def _comparable(self, objects: Mapping[ResourceRef, Manifest], number: int) -> Iterator[tuple[ResourceRef, Manifest]]:
        for ref, manifest in objects.items():
            why = left_out(manifest, services=self.services[number]) if self.rules.objects else None
            if why is None:
                yield ref, manifest
            else:
                self.left_out[why][number] += 1

    def _pair(self, ref: ResourceRef, old: Manifest, new: Manifest) -> None:
        self.compared += 1
        changes, ignored = compare_objects(old, new, self.rules.fields)
        for name, places in ignored.items():
            self.ignored[name].update(places)
        if changes:
            self.differences.append(ObjectDifference(ref=ref, kind=_kind(old), change=Change.CHANGED, fields=tuple(changes)))

    def told(self) -> Iterator[Ignored]:
        """Yield the rules that were needed, in the order of the table."""
        for rule in self.rules.fields:
            if rule.name in self.ignored:
                yield Ignored(rule=rule.name, because=rule.because, fields=dict(sorted(self.ignored[rule.name].items())))


def compare_objects(before: Manifest, after: Manifest, rules: Iterable[Rule]) -> tuple[list[FieldChange], dict[str, set[str]]]:
    """Return what differs between two objects, and which differences each rule kept out, by their places."""
    left, right = copied(before), copied(after)
    different, ignored = _places(left, right), {}
    at_first = different
    for rule in rules:
        if not different:
            break
        meant = [one for one in (left, right) if rule.meets(one)]
        for one in meant:
            rule.remove(one)
        if meant:
            remaining = _places(left, right)
            if taken := (different - remaining) & at_first:
                ignored[rule.name] = {_plain(place) for place in taken}
            different = remaining
    return masked(diff(left, right), before, after), ignored


def _places(before: Any, after: Any) -> set[str]:
    """Return every leaf that differs, also below what only one side has."""
    return {place for change in diff(before, after) for place in _leaves(change)}


def _leaves(change: FieldChange) -> Iterator[str]:
    only = change.after if change.before is None else change.before if change.after is None else None
    if not only or not isinstance(only, dict | list) or change.path.startswith(_OPAQUE):
        yield change.path
        return
    for inner in diff(type(only)(), only, path=change.path):
        yield from _leaves(inner)


def _plain(place: str) -> str:
    """Name a place without saying which item of a list, or what of a server's own record."""
    opaque = next((name for name in _OPAQUE if place.startswith(name)), "")
    return opaque or _PLACE_IN_LIST.sub("[]", place)


def _kind(manifest: Manifest | None) -> str:
    return str((manifest or {}).get("kind", ""))


def _volumes(before: Mapping[VolumeRef, str] | None, after: Mapping[VolumeRef, str] | None) -> Iterator[VolumeDifference]:
    if before is None or after is None:
        return
    for volume in sorted({*before, *after}):
        old, new = before.get(volume), after.get(volume)
        if old != new:
            change = Change.ADDED if old is None else Change.REMOVED if new is None else Change.CHANGED
            yield VolumeDifference(volume=volume, change=change)


def selecting(services: Iterable[Manifest]) -> set[str]:
    """Return the Services that have a selector, as `namespace/name`."""
    found = (one for one in services if group_kind(one) == "Service" and child(one, "spec").get("selector"))
    return {f"{child(one, 'metadata').get('namespace')}/{child(one, 'metadata').get('name')}" for one in found}
