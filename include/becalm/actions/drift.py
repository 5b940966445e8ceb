"""Three corners compared, object by object: what is declared, what was saved, what runs. Pure, but for the sides that it reads.

What runs is measured against the other two: against a declaration by the fields that it says, against a recovery point by all fields.
It never says which corner is right, it never tells the value of a Secret, and what a rule kept out it counts under the rule's name.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping  # noqa: TC003  (pydantic resolves the annotations at run time)
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from becalm.actions.declared import DeclaredObject, Pointer  # noqa: TC001  (pydantic, as above)
from becalm.actions.diff import Change, Ignored, LeftOut, compare_objects
from becalm.actions.drift_fields import meant, undone
from becalm.actions.drift_rules import DriftRules, autoscaled, told
from becalm.actions.drift_weight import Weight, weigh
from becalm.actions.drift_writers import Writer, maker_of, writer_of
from becalm.kube.diffing import masked
from becalm.kube.resources import copied
from becalm.model import Finding, ResourceRef, Severity

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from becalm.actions.diff import Side, Table
    from becalm.kube.diffing import FieldChange
    from becalm.model import Manifest

AUTOSCALERS: Table = ("autoscaling", "horizontalpodautoscalers")


class Corner(StrEnum):
    """One of the three."""

    DECLARED = "declared"
    SAVED = "saved"
    RUNNING = "running"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDrift:
    """One field that does not run as it was declared, or as it was saved. The values of Secrets are hidden."""

    path: str
    running: Any = None
    declared: Any = None
    saved: Any = None
    differs_from: tuple[Corner, ...]
    """Of the corners that are not named here the value is not said: it is the same as what runs, or they do not speak of the field."""
    by: Writer | None = None
    """Who wrote what runs, where it is recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One object that the corners do not hold alike."""

    ref: ResourceRef
    kind: str
    change: Change
    """Added: it runs and is expected by none, or not by all. Removed: it does not run."""
    held: tuple[Corner, ...]
    """The corners that hold it."""
    weight: Weight
    because: str
    declared_at: str = ""
    by: Writer | None = None
    """Of one that was added: who made it, where it is recorded."""
    fields: tuple[FieldDrift, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """All that three corners have not in common."""

    saved: str
    running: str
    declared: int | None = None
    """How many objects are declared; nothing where no declaration was given."""
    compared: int = 0
    drifts: tuple[Drift, ...] = ()
    ignored: tuple[Ignored, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    pointers: tuple[Pointer, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether nothing drifted, and everything could be read."""
        return not self.drifts and all(one.severity is Severity.INFO for one in self.findings)

    def with_finding(self, finding: Finding | None) -> DriftReport:
        """Return the report with one finding more, if there is one."""
        return replace(self, findings=(*self.findings, finding)) if finding else self


class Declared(Protocol):
    """A declaration whose objects are known by what the server calls them."""

    @property
    def by_table(self) -> Mapping[Table, Mapping[ResourceRef, DeclaredObject]]:
        """What is declared of each kind."""

    @property
    def pointers(self) -> Sequence[Pointer]:
        """Where more is declared."""

    @property
    def findings(self) -> Sequence[Finding]:
        """What could not be read, or not be found in the server's kinds."""

    def running(self, table: Table, listed: Mapping[ResourceRef, Manifest]) -> Mapping[ResourceRef, Manifest]:
        """Return the objects of a kind that run, each in the version in which it is declared; `listed` is what was read already."""


def compare(saved: Side, running: Side, *, declared: Declared | None = None, rules: DriftRules | None = None) -> DriftReport:
    """Compare, kind by kind: no more than one kind is in memory at a time, but for the declaration. Raises what the sides raise."""
    by_table = declared.by_table if declared else {}
    scaled = autoscaled(
        [
            *running.read(AUTOSCALERS).objects.values(),
            *(one.manifest for one in by_table.get(AUTOSCALERS, {}).values()),
        ]
    )
    tally = _Tally(rules=(rules or DriftRules()).with_autoscaled(set(scaled)), declaring=declared is not None)
    services = {*saved.services(), *running.services()}
    for table in sorted({*saved.tables(), *running.tables(), *by_table}):
        before = saved.read(table)
        version = next((str(one.get("apiVersion", "")).rpartition("/")[2] for one in before.objects.values()), "")
        after = running.read(table, version=version)
        wanted = by_table.get(table, {})
        standing = declared.running(table, after.objects) if declared and wanted else {}
        tally.findings += [*before.findings, *after.findings]
        for ref in {**before.objects, **after.objects, **wanted}:
            tally.add(
                _Corners(
                    ref=ref,
                    saved=before.objects.get(ref),
                    running=after.objects.get(ref),
                    declared=wanted.get(ref),
                    standing=standing.get(ref),
                ),
                services,
            )
    return DriftReport(
        saved=saved.title,
        running=running.title,
        declared=sum(map(len, by_table.values())) if declared else None,
        compared=tally.compared,
        drifts=tuple(sorted(tally.drifts, key=_order)),
        ignored=tuple(tally.told()),
        left_out=tuple(LeftOut(because=why, before=counts[0], after=counts[1]) for why, counts in sorted(tally.left_out.items())),
        pointers=tuple(declared.pointers) if declared else (),
        findings=(*(declared.findings if declared else ()), *dict.fromkeys(tally.findings)),
    )


def _order(one: Drift) -> tuple[int, str]:
    return list(Weight).index(one.weight), one.ref.path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Corners:
    """One object in each corner that holds it."""

    ref: ResourceRef
    saved: Manifest | None
    running: Manifest | None
    declared: DeclaredObject | None
    standing: Manifest | None
    """What runs, in the version of the declaration; also where the policy does not select it."""

    @property
    def alive(self) -> Manifest | None:
        """What runs, in any version."""
        return self.running or self.standing

    @property
    def some(self) -> Manifest:
        """The object, from the nearest corner."""
        return self.alive or self.saved or (self.declared.manifest if self.declared else {})

    @property
    def held(self) -> tuple[Corner, ...]:
        """Who holds it."""
        held = {Corner.DECLARED: self.declared, Corner.SAVED: self.saved, Corner.RUNNING: self.alive}
        return tuple(corner for corner, there in held.items() if there is not None)


@dataclass(slots=True, kw_only=True)
class _Tally:
    """A comparison under way."""

    rules: DriftRules
    declaring: bool
    compared: int = 0
    drifts: list[Drift] = field(default_factory=list)
    ignored: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    own: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    left_out: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    findings: list[Finding] = field(default_factory=list)

    def add(self, one: _Corners, services: Collection[str]) -> None:
        """Judge one object."""
        if one.declared is None and (why := self._why_not(one, services)):
            self.left_out[why][0] += one.saved is not None
            self.left_out[why][1] += one.running is not None
            return
        alive = one.alive
        if alive is None:
            self._tell(
                one, Change.REMOVED, (), (Weight.LOW, "nobody declares it, and it does not run any more") if self._done(one) else None
            )
            return
        self.compared += len(one.held) > 1
        fields = tuple(self._fields(one, alive))
        if one.declared is None and (self.declaring or one.saved is None):
            self._tell(one, Change.ADDED, fields, None)
        elif one.saved is None and one.running is not None and not fields:
            self._tell(one, Change.ADDED, (), (Weight.LOW, "it runs as declared, and this recovery point does not hold it"))
        elif fields:
            self._tell(one, Change.CHANGED, fields, None)

    def _done(self, one: _Corners) -> bool:
        return self.declaring and one.declared is None

    def _why_not(self, one: _Corners, services: Collection[str]) -> str:
        found = (self.rules.left_out(manifest, services) for manifest in (one.running, one.saved) if manifest is not None)
        return next((why for why in found if why), "")

    def _tell(self, one: _Corners, change: Change, fields: tuple[FieldDrift, ...], weight: tuple[Weight, str] | None) -> None:
        kind = str(one.some.get("kind", ""))
        if not fields and (rule := next((rule for rule in self.rules.own if not rule.fields and rule.means(one.ref, kind)), None)):
            self.own[rule.because][f"{change} objects"] += 1
            return
        level, because = weight or weigh(one.some, [each.path for each in fields] if change is Change.CHANGED else [])
        self.drifts.append(
            Drift(
                ref=one.ref,
                kind=kind,
                change=change,
                held=one.held,
                weight=level,
                because=because,
                declared_at=one.declared.where if one.declared else "",
                by=maker_of(one.some) if change is Change.ADDED else None,
                fields=fields,
            )
        )

    def _fields(self, one: _Corners, alive: Manifest) -> Iterator[FieldDrift]:
        """Yield the fields in which what runs is not as declared, or not as saved, under one path."""
        declared = {change.path: change for change in self._from_declared(one)}
        saved = {change.path: change for change in self._from_saved(one)}
        for path in {**declared, **saved}:
            change = declared.get(path) or saved[path]
            corners = [corner for corner, found in ((Corner.DECLARED, declared), (Corner.SAVED, saved)) if path in found]
            if self._is_ignored(one, path):
                continue
            yield FieldDrift(
                path=path,
                running=change.after,
                declared=declared[path].before if path in declared else None,
                saved=saved[path].before if path in saved else None,
                differs_from=tuple(corners),
                by=writer_of(alive, path) if change.after is not None else None,
            )

    def _is_ignored(self, one: _Corners, path: str) -> bool:
        kind = str(one.some.get("kind", ""))
        for rule in self.rules.own:
            if rule.means(one.ref, kind) and rule.ignores(path):
                self.own[rule.because][path] += 1
                return True
        return False

    def _from_saved(self, one: _Corners) -> list[FieldChange]:
        if one.saved is None or one.running is None:
            return []
        changes, ignored = compare_objects(one.saved, one.running, self.rules.fields)
        for name, places in ignored.items():
            self.ignored[name].update(places)
        return changes

    def _from_declared(self, one: _Corners) -> list[FieldChange]:
        if one.declared is None or one.standing is None:
            return []
        wanted = one.declared.manifest
        if not self.rules.undeclared:
            changes, _ = compare_objects(meant(wanted), one.standing, self.rules.fields)
            return [change for change in changes if change.path not in {"apiVersion", "kind"}]
        different = undone(wanted, one.standing)
        return masked(self._without_noise(different, wanted, one.standing), wanted, one.standing) if different else []

    def _without_noise(self, different: list[FieldChange], wanted: Manifest, standing: Manifest) -> list[FieldChange]:
        """Take out what the rules speak of, one rule after the other, and count it."""
        left, right = copied(wanted), copied(standing)
        for rule in self.rules.fields:
            meant_ones = [one for one in (left, right) if rule.meets(one)]
            for one in meant_ones:
                rule.remove(one)
            if not meant_ones:
                continue
            paths = {change.path for change in undone(left, right)}
            taken = [change for change in different if change.path not in paths]
            self.ignored[rule.name].update(change.path for change in taken)
            different = [change for change in different if change.path in paths]
            if not different:
                break
        return different

    def told(self) -> Iterator[Ignored]:
        """Yield the rules that were needed: the named ones in their order, then the author's own."""
        for name, _, because in told():
            if self.ignored.get(name):
                yield Ignored(rule=name, because=because, fields=dict(sorted(self.ignored[name].items())))
        for because, fields in self.own.items():
            yield Ignored(rule="own", because=because, fields=dict(sorted(fields.items())))
