"""Which state of a cluster which policy covers, and why not: a verdict for each piece, and scores whose arithmetic is shown. Pure.

A policy covers what its next run would capture (`discover.plan` is asked for the volumes), and only as long as it stands: without a good
recovery point, or with one that is too old, what it selects is not covered. What cannot be known counts as not covered.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from becalm.actions import claims as claiming
from becalm.actions import discover
from becalm.actions.state import OF_PODS, What
from becalm.clock import format_time
from becalm.errors import NothingSelected
from becalm.policy.select import Choice, Selector, opted_out
from becalm.policy.spec import ClusterScope

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from becalm.actions.inventory import Inventory, NamespaceFacts
    from becalm.actions.objectives import PolicyStatus
    from becalm.actions.state import Census, State
    from becalm.model import Finding
    from becalm.policy.claims import StatelessClaim
    from becalm.policy.spec import ProtectionPolicy

_DECIDING = ("select", "volumes")
"""The sections of a policy that say what is captured."""
NOBODY = "no policy selects the namespace"
_NO_CLAIM = "only claims are captured: what must not be lost belongs on one"
_BY_REFERENCE = "clusterScoped: auto takes it only where a selected object refers to it"


class Verdict(StrEnum):
    """How one piece of state stands."""

    COVERED = "covered"
    STALE = "not saved lately"
    """A policy selects it, and has no good recovery point that is young enough."""
    LEFT_OUT = "left out"
    """A rule of a policy leaves it out on purpose, and says why."""
    CLAIMED = "claimed"
    """A claim that holds says that it needs no backup."""
    UNCOVERED = "not covered"


MISSING = frozenset({Verdict.STALE, Verdict.UNCOVERED})
"""The verdicts by which something would be lost that nobody decided to lose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """One policy, and how it stands."""

    policy: ProtectionPolicy
    status: PolicyStatus
    changed: bool = False
    """Whether it selects otherwise than when its last good point was made, or nobody knows."""

    @property
    def trouble(self) -> str:
        """Say why what it selects is not safe with it; nothing where it is."""
        name = self.policy.name
        if not self.status.reached:
            return f"the policy {name} selects it, and its repository cannot be read"
        if self.status.last_good is None:
            return f"the policy {name} selects it, and has no good recovery point yet"
        if self.status.met is False:
            return f"the policy {name} selects it, and its last good point ({format_time(self.status.last_good.cut)}) is older than its objective"
        if self.changed:
            when = format_time(self.status.last_good.cut)
            return f"the policy {name} selects it, and selected otherwise when its last good point ({when}) was made: the next run saves it"
        return ""


def selects_otherwise(policy: ProtectionPolicy, saved: Mapping[str, Any]) -> bool:
    """Say whether a policy captures by other rules than those that a recovery point holds of it (`policy.document` of recovery-point.json).

    What the point does not tell counts as otherwise. Pure.
    """
    now, then = policy.model_dump(mode="json", by_alias=True, exclude_none=True)["spec"], saved.get("spec")
    return not isinstance(then, dict) or any(now.get(section) != then.get(section) for section in _DECIDING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """One piece of state with its verdict."""

    state: State
    verdict: Verdict
    policies: tuple[str, ...] = ()
    """That cover it, or that select it and do not."""
    because: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How many pieces stand how. What was left out on purpose or claimed counts neither way."""

    counts: Mapping[Verdict, int] = field(default_factory=dict)

    @property
    def asked(self) -> int:
        """How many pieces count: those that nobody decided to leave."""
        return self.counts.get(Verdict.COVERED, 0) + sum(self.counts.get(verdict, 0) for verdict in MISSING)

    @property
    def percent(self) -> int | None:
        """How many of a hundred are covered, rounded down; nothing where there is nothing to cover."""
        return self.counts.get(Verdict.COVERED, 0) * 100 // self.asked if self.asked else None

    def __str__(self) -> str:
        """`7 of 10 = 70 %; 2 left out`."""
        beside = [f"{self.counts[verdict]} {verdict}" for verdict in (Verdict.LEFT_OUT, Verdict.CLAIMED) if self.counts.get(verdict)]
        sum_ = f"{self.counts.get(Verdict.COVERED, 0)} of {self.asked} = {self.percent} %" if self.asked else "nothing to cover"
        return "; ".join([sum_, *beside])


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One namespace; the one without a name holds what belongs to none."""

    namespace: str
    policies: tuple[str, ...] = ()
    """That select it."""
    why_not: str = ""
    score: Score = field(default_factory=Score)
    derived: int = 0
    """Objects that something else makes again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The whole cluster."""

    items: tuple[Covered, ...] = ()
    places: tuple[Place, ...] = ()
    score: Score = field(default_factory=Score)
    findings: tuple[Finding, ...] = ()
    """What could not be read: it may hide state."""

    @property
    def whole(self) -> bool:
        """Whether nothing is missing, and nothing unknown."""
        return not self.findings and all(item.verdict not in MISSING for item in self.items)


def judge(
    seen: Census, inventory: Inventory, protections: Sequence[Protection], valid: Sequence[StatelessClaim] = (), *, own: str = "becalm"
) -> Coverage:
    """Give each piece of state its verdict. `valid`: the claims that hold. `own`: Becalm's own namespace. Pure."""
    asked = [_Asked.of(one, inventory, own) for one in protections]
    labels = {item.name: item.labels for item in seen.namespaces}
    by_place = {item.name: [one for one in asked if item.name in one.names] for item in seen.namespaces}
    items = tuple(_verdict(state, by_place.get(state.namespace, []), asked, valid, labels) for state in seen.states)
    counts: dict[str, Counter[Verdict]] = {item.name: Counter() for item in seen.namespaces}
    for item in items:
        counts.setdefault(item.state.namespace, Counter())[item.verdict] += 1
    facts = {item.name: item for item in seen.namespaces}
    places = tuple(
        Place(
            namespace=name,
            policies=tuple(one.name for one in by_place.get(name, [])),
            why_not=_why_not(facts[name], asked) if name in facts and not by_place.get(name) else "",
            score=Score(counts=dict(counted)),
            derived=seen.derived.get(name, 0),
        )
        for name, counted in sorted(counts.items())
    )
    total: Counter[Verdict] = Counter(item.verdict for item in items)
    findings = dict.fromkeys((*seen.findings, *inventory.findings))
    return Coverage(items=items, places=places, score=Score(counts=dict(total)), findings=tuple(findings))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """One policy, ready to be asked about many pieces."""

    protection: Protection
    selector: Selector
    names: frozenset[str]
    volumes: Mapping[str, Choice]
    """Of each claim that it means, whether it would be captured, and why not."""

    @property
    def name(self) -> str:
        return self.protection.policy.name

    @classmethod
    def of(cls, protection: Protection, inventory: Inventory, own: str) -> _Asked:
        policy = protection.policy
        volumes: dict[str, Choice] = {}
        try:
            found = discover.plan(policy, inventory, own=own)
        except NothingSelected:
            found = None
        if found:
            volumes.update({item.what: Choice(selected=False, by=item.by, because=item.because) for item in found.excluded})
            volumes.update({item.where: Choice(selected=False, by="", because=item.message) for item in found.findings})
            planned = [volume for application in found.applications for volume in application.volumes]
            volumes.update({f"volumes/{item.volume}": Choice(selected=True, by=item.by) for item in planned})
        names = frozenset(discover.selected_namespaces(policy, inventory.namespaces, own=own))
        return cls(protection=protection, selector=Selector.of(policy.spec.select), names=names, volumes=volumes)

    def choose(self, state: State) -> Choice:
        """Say whether a run of this policy would capture a piece of state. A rule without a name is no decision of anybody."""
        if state.what in OF_PODS:
            return Choice(selected=False, by="", because=_NO_CLAIM)
        if state.what is What.CLAIM:
            return self.volumes.get(f"volumes/{state.namespace}/{state.name}", Choice(selected=False, by="", because="it is not selected"))
        if state.what is What.VOLUME:
            return Choice(selected=False, by="", because="no claim leads to it")
        kept = None if state.namespace else _cluster_scoped(self.protection.policy.spec.select.cluster_scoped)
        if kept is not None:
            return kept
        choice = self.selector.resource(state.group, state.resource)
        return self.selector.object({"labels": dict(state.labels)}) if choice else choice


def _cluster_scoped(scope: ClusterScope) -> Choice | None:
    """Say why a policy leaves out what belongs to no namespace; nothing where it takes all."""
    if scope is ClusterScope.ALL:
        return None
    if scope is ClusterScope.NONE:
        return Choice(selected=False, by="", because="clusterScoped: none leaves it out")
    return Choice(selected=False, by="", because=_BY_REFERENCE)


def _verdict(
    state: State,
    selecting: Sequence[_Asked],
    everyone: Sequence[_Asked],
    valid: Sequence[StatelessClaim],
    labels: Mapping[str, Mapping[str, str]],
) -> Covered:
    """Return the verdict of one piece: what covers it comes before what excuses it."""
    answers = [(one, one.choose(state)) for one in (selecting if state.namespace else everyone)]
    taken = [one for one, choice in answers if choice]
    safe = [one for one in taken if not one.protection.trouble]
    if safe:
        newest = max(one.protection.status.last_good.cut for one in safe if one.protection.status.last_good)
        younger = state.created is not None and state.created > newest
        because = "it is younger than the last good point: the next run saves it" if younger else f"last good point {format_time(newest)}"
        return Covered(state=state, verdict=Verdict.COVERED, policies=_names(safe), because=because)
    if taken:
        return Covered(state=state, verdict=Verdict.STALE, policies=_names(taken), because=taken[0].protection.trouble)
    if excuse := next((claim for claim in valid if claiming.speaks_of(claim, state)), None):
        because = f"the claim {excuse.name} of {excuse.spec.owner} holds until {excuse.expires}: {excuse.spec.reason}"
        return Covered(state=state, verdict=Verdict.CLAIMED, because=because)
    if opted_out(state.labels) or opted_out(labels.get(state.namespace, {})):
        return Covered(state=state, verdict=Verdict.LEFT_OUT, because="it carries becalm.dev/protect=no")
    decided = next(((one, choice) for one, choice in answers if _is_decision(state, choice)), None)
    if decided:
        one, choice = decided
        words = f"{choice.by} of {one.name}: {choice.because}"
        return Covered(state=state, verdict=Verdict.LEFT_OUT, policies=(one.name,), because=words)
    because = answers[0][1].because if answers else (NOBODY if state.namespace else "no policy is there")
    return Covered(state=state, verdict=Verdict.UNCOVERED, policies=_names([one for one, _ in answers]), because=because)


def _is_decision(state: State, choice: Choice) -> bool:
    """Say whether a rule leaves something out on purpose: a volume rule with its reason, or a kind that is named as excluded."""
    if state.what is What.CLAIM:
        return choice.by.startswith("volumes.rules.") and bool(choice.because)
    return choice.by == "select.resources.exclude"


def _why_not(facts: NamespaceFacts, asked: Sequence[_Asked]) -> str:
    """Say why no policy selects a namespace: the nearest miss first."""
    if opted_out(facts.labels):
        return "it carries becalm.dev/protect=no"
    if facts.terminating:
        return "it is being deleted"
    meant = [one.name for one in asked if one.selector.namespace(facts.name, facts.labels)]
    return f"it is Becalm's own, and {meant[0]} does not name it outright" if meant else "no policy names it"


def _names(asked: Sequence[_Asked]) -> tuple[str, ...]:
    return tuple(sorted({one.name for one in asked}))
