"""Which namespaces, resources, objects and volumes a policy means, and why. Pure; it asks no cluster.

Every answer carries the rule that gave it. The label `becalm.dev/protect=no` on a namespace, an object or a claim keeps it out, whatever
else the policy says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from becalm.errors import PolicyError, PolicyFinding
from becalm.model import VolumeUse
from becalm.policy import globs
from becalm.policy.labels import LabelSelector
from becalm.policy.problems import Problem
from becalm.policy.units import format_duration, format_quantity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from becalm.policy.spec import ProtectionPolicy, Selection, VolumeMatch, Volumes

OPT_OUT = "becalm.dev/protect"
"""The label that, with the value `no`, keeps what carries it out of every policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Whether something is selected, by which rule, and why."""

    selected: bool
    by: str
    because: str = ""

    def __bool__(self) -> bool:
        """Whether it is selected."""
        return self.selected


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeFacts:
    """What is known of a claim when a rule has to be found for it."""

    namespace: str
    claim: str
    labels: Mapping[str, str] = field(default_factory=dict)
    storage_class: str = ""
    driver: str = ""
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeChoice:
    """How a volume is captured, by which rule, and why."""

    use: VolumeUse
    by: str
    because: str = ""
    snapshot_class: str = ""
    """The class that the rule names."""


def parse_labels(text: str) -> LabelSelector:
    """Read a label selector. Raises PolicyError."""
    try:
        return LabelSelector.parse(text)
    except Problem as found:
        finding = PolicyFinding(path="labels", problem=found.problem, remedy=found.remedy)
        raise PolicyError("the label selector cannot be read", findings=(finding,)) from None


def labels_of(metadata: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the labels of an object's metadata; none where there are none, or where they are not what they should be."""
    found = metadata.get("labels")
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """A selection, ready to be asked."""

    selection: Selection
    selectors: tuple[LabelSelector, ...] = ()

    @classmethod
    def of(cls, selection: Selection) -> Self:
        """Make a selector from a policy's `select`."""
        return cls(selection=selection, selectors=tuple(LabelSelector.parse(text) for text in selection.labels or ()))

    def namespace(self, name: str, labels: Mapping[str, str] | None = None) -> Choice:
        """Say whether a namespace is selected. The policy's label selector is for what is in it, not for itself."""
        if opted_out(labels or {}):
            return _opt_out()
        for pattern in self.selection.namespaces:
            if globs.matches(pattern, name):
                return Choice(selected=True, by="select.namespaces", because=_answers(pattern, name))
        return Choice(selected=False, by="select.namespaces", because="no pattern names it")

    def resource(self, group: str, resource: str) -> Choice:
        """Say whether a kind of object is selected. What is excluded stays out, also if it is included."""
        asked = self.selection.resources
        for pattern in asked.exclude:
            if globs.resource_matches(pattern, group=group, resource=resource):
                return Choice(selected=False, by="select.resources.exclude", because=_answers(pattern, resource))
        for pattern in asked.include:
            if globs.resource_matches(pattern, group=group, resource=resource):
                return Choice(selected=True, by="select.resources.include", because=_answers(pattern, resource))
        return Choice(selected=False, by="select.resources.include", because="no pattern names it")

    def object(self, metadata: Mapping[str, Any]) -> Choice:
        """Say whether an object in a selected namespace, of a selected kind, is selected, by its labels."""
        labels = labels_of(metadata)
        if opted_out(labels):
            return _opt_out()
        if not self.selectors:
            return Choice(selected=True, by="select", because="no label is asked for")
        for selector in self.selectors:
            if selector.matches(labels):
                return Choice(selected=True, by="select.labels", because=str(selector))
        return Choice(selected=False, by="select.labels", because="its labels answer no selector")


def opted_out(labels: Mapping[str, str]) -> bool:
    """Say whether something carries the label that keeps it out."""
    return labels.get(OPT_OUT) == "no"


def volume_rule(volumes: Volumes, facts: VolumeFacts) -> VolumeChoice:
    """Say how a volume is captured: by its own label, by the first rule that means it, or by default."""
    if opted_out(facts.labels):
        return VolumeChoice(use=VolumeUse.SKIP, by=f"label {OPT_OUT}", because=_opt_out().because)
    for number, rule in enumerate(volumes.rules):
        if _means(rule.match, facts):
            return VolumeChoice(
                use=rule.use, by=f"volumes.rules.{number}", because=rule.because or "", snapshot_class=rule.snapshot_class or ""
            )
    return VolumeChoice(use=volumes.default, by="volumes.default")


def _means(match: VolumeMatch, facts: VolumeFacts) -> bool:
    named = (
        (match.storage_class, facts.storage_class),
        (match.driver, facts.driver),
        (match.namespace, facts.namespace),
        (match.claim, facts.claim),
    )
    if not all(pattern is None or globs.matches(pattern, name) for pattern, name in named):
        return False
    if match.labels is not None and not any(LabelSelector.parse(text).matches(facts.labels) for text in match.labels):
        return False
    if match.size_over is not None and facts.size_bytes <= match.size_over:
        return False
    return match.size_under is None or facts.size_bytes < match.size_under


def _answers(pattern: str, name: str) -> str:
    return "named" if pattern == name else f"answers {pattern}"


def _opt_out() -> Choice:
    return Choice(selected=False, by=f"label {OPT_OUT}", because=f"it carries {OPT_OUT}=no")


def explain(policy: ProtectionPolicy) -> tuple[str, ...]:
    """Say in sentences what a policy protects, for people."""
    spec = policy.spec
    when = f"{spec.schedule} ({spec.timezone})" if spec.schedule else "by hand only"
    sentences = [
        f"Namespaces: {', '.join(spec.select.namespaces)}.",
        f"Resources: {', '.join(spec.select.resources.include)}" + _but(spec.select.resources.exclude) + ".",
        f"Objects that belong to no namespace: {spec.select.cluster_scoped}.",
        f"Runs: {when}.",
    ]
    if spec.select.labels:
        sentences.insert(1, "Only what answers " + " or ".join(f"({text})" for text in spec.select.labels) + ".")
    sentences += [f"Volumes: {_volume_sentence(number, policy.spec.volumes)}" for number in range(len(spec.volumes.rules))]
    sentences.append(f"Volumes{' otherwise' if spec.volumes.rules else ''}: {spec.volumes.default}.")
    sentences.append(f"Hooks: {len(spec.quiesce.hooks)}; nobody is frozen longer than {format_duration(spec.quiesce.timeout)}.")
    return tuple(sentences)


def _but(excluded: tuple[str, ...]) -> str:
    return f", but not {', '.join(excluded)}" if excluded else ""


def _volume_sentence(number: int, volumes: Volumes) -> str:
    rule = volumes.rules[number]
    match = rule.match
    parts = [
        f"{key} {value}"
        for key, value in match.model_dump(mode="json", by_alias=True, exclude_none=True).items()
        if not key.startswith("size")
    ]
    parts += [f"over {format_quantity(match.size_over)}"] if match.size_over is not None else []
    parts += [f"under {format_quantity(match.size_under)}"] if match.size_under is not None else []
    by = f" by the class {rule.snapshot_class}" if rule.snapshot_class else ""
    return f"{rule.use}{by} where {', '.join(parts)}" + (f", because {rule.because}" if rule.because else "") + "."
