"""Claims that something needs no backup, held against what a cluster shows: they hold, have run out, or are contradicted. Pure.

It changes no claim: confirming one again is a person's act. A claim without `kinds` says that nothing in its namespaces keeps state, so
what does keep some speaks against it; one with `kinds` says that these need no backup, so what came or changed since speaks against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from becalm.actions.state import Origin, State, What
from becalm.clock import format_time
from becalm.model import Finding, Severity
from becalm.policy import globs
from becalm.policy.labels import LabelSelector

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from becalm.actions.state import Census
    from becalm.policy.claims import StatelessClaim

MOST_EVIDENCE = 20
"""So many pieces are named against one claim; the others are counted."""
SOON = timedelta(days=14)
_ALWAYS = frozenset({What.CLAIM, What.NODE_PATH, What.POD_VOLUME, What.STATEFUL_SET, What.DATABASE, What.OUTSIDE, What.SNAPSHOT})
"""What keeps state whoever made it, and whenever."""


class Standing(StrEnum):
    """How a claim stands."""

    HOLDS = "valid"
    EXPIRED = "expired"
    CONTRADICTED = "contradicted"
    EMPTY = "speaks of nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """One claim, and what is known of it."""

    claim: StatelessClaim
    standing: Standing
    findings: tuple[Finding, ...] = ()
    matched: int = 0
    """How many pieces of state it speaks of."""

    @property
    def ok(self) -> bool:
        """Whether it holds."""
        return self.standing is Standing.HOLDS


def audit(claims: Sequence[StatelessClaim], seen: Census, *, now: datetime) -> tuple[Audit, ...]:
    """Hold each claim against the evidence, and against the other claims. Pure."""
    beside = {claim.name: tuple(_against_others(claim, claims)) for claim in claims}
    return tuple(_one(claim, seen, beside[claim.name], now) for claim in claims)


def holding(audits: Sequence[Audit]) -> tuple[StatelessClaim, ...]:
    """Return the claims that hold: only they excuse anything."""
    return tuple(one.claim for one in audits if one.ok)


def speaks_of(claim: StatelessClaim, state: State) -> bool:
    """Say whether a piece of state is in a claim's scope. What belongs to no namespace is in none."""
    scope = claim.spec.scope
    if not state.namespace or not _any_answers(scope.namespaces, state.namespace):
        return False
    if scope.kinds is not None and not any(
        globs.resource_matches(pattern, group=state.group, resource=state.resource) for pattern in scope.kinds
    ):
        return False
    return scope.labels is None or any(LabelSelector.parse(text).matches(state.labels) for text in scope.labels)


@lru_cache(maxsize=65_536)
def _any_answers(patterns: tuple[str, ...], name: str) -> bool:
    """Say whether a name answers one of the patterns. The same few are asked of every object of a namespace."""
    return any(globs.matches(pattern, name) for pattern in patterns)


def _one(claim: StatelessClaim, seen: Census, beside: tuple[Finding, ...], now: datetime) -> Audit:
    matched = [state for state in seen.states if speaks_of(claim, state)]
    findings = [*_empty(claim, seen, matched), *_dates(claim, now)]
    against = list(_evidence(claim, matched))
    findings += against[:MOST_EVIDENCE]
    if len(against) > MOST_EVIDENCE:
        findings.append(Finding(where=claim.name, message=f"{len(against) - MOST_EVIDENCE} more pieces of evidence speak against it"))
    findings += beside
    if against or _future(claim, now) or any(finding.severity is Severity.ERROR for finding in beside):
        standing = Standing.CONTRADICTED
    elif now.date() >= claim.expires:
        standing = Standing.EXPIRED
    else:
        standing = Standing.EMPTY if _empty(claim, seen, matched) else Standing.HOLDS
    return Audit(claim=claim, standing=standing, findings=tuple(findings), matched=len(matched))


def _future(claim: StatelessClaim, now: datetime) -> bool:
    """Say whether it was confirmed on a day that has begun nowhere on earth."""
    return claim.spec.confirmed > (now + timedelta(hours=14)).date()


def _dates(claim: StatelessClaim, now: datetime) -> Iterator[Finding]:
    today, confirm = now.date(), "look again, and run `becalm claims confirm` if it is still true"
    if _future(claim, now):
        yield Finding(
            where=claim.name, message=f"it is confirmed on {claim.spec.confirmed}, which has not come yet", remedy="mend the date"
        )
    elif today >= claim.expires:
        days = (today - claim.expires).days
        yield Finding(where=claim.name, message=f"it ran out on {claim.expires}, {days} days ago", remedy=confirm)
    elif claim.expires - today <= SOON:
        message = f"it runs out on {claim.expires}, in {(claim.expires - today).days} days"
        yield Finding(where=claim.name, message=message, remedy=confirm, severity=Severity.WARNING)


def _empty(claim: StatelessClaim, seen: Census, matched: Sequence[State]) -> list[Finding]:
    """Say what of the scope matches nothing. Without kinds, a namespace without state is what the claim says."""
    scope = claim.spec.scope
    nothing = [
        Finding(where=claim.name, message=f"no namespace answers {pattern}", remedy="mend spec.scope.namespaces, or remove the claim")
        for pattern in scope.namespaces
        if not any(globs.matches(pattern, item.name) for item in seen.namespaces)
    ]
    if not nothing and not matched and (scope.kinds is not None or scope.labels is not None):
        nothing = [Finding(where=claim.name, message="nothing answers its scope", remedy="mend spec.scope, or remove the claim")]
    return nothing


def _evidence(claim: StatelessClaim, matched: Sequence[State]) -> Iterator[Finding]:
    """Yield what speaks against a claim."""
    for state in matched:
        message = _since(claim, state) if claim.spec.scope.kinds is not None else _stateful(claim, state)
        if message:
            yield Finding(
                where=f"{claim.name}: {state.where}",
                message=message,
                remedy="protect it by a policy, or narrow the claim and confirm it again",
            )


def _stateful(claim: StatelessClaim, state: State) -> str:
    """Say why a piece contradicts that there is no state; nothing where it does not."""
    if state.what in _ALWAYS:
        return f"there is a {state.what}" + (f": {state.detail}" if state.detail else "")
    if state.resource == "secrets" and state.origin not in {Origin.DECLARED, Origin.APPLIED}:
        return f"a {state.what} that no file explains"
    if state.what in {What.SCRATCH, What.BARE_POD, What.SECRET, What.CERTIFICATE}:
        return ""
    return _since(claim, state)


def _since(claim: StatelessClaim, state: State) -> str:
    """Say that a piece came, or was changed, after the day on which the claim was confirmed."""
    after = datetime.combine(claim.spec.confirmed + timedelta(days=1), time(), tzinfo=UTC)
    if state.created and state.created >= after:
        return f"this {state.what} came after it was confirmed, {format_time(state.created)}"
    if state.changed_by_hand and state.changed_by_hand >= after:
        return f"it was changed by hand after it was confirmed ({', '.join(state.hands)}, {format_time(state.changed_by_hand)})"
    if state.changed and state.changed >= after:
        return f"this {state.what} was written after it was confirmed, {format_time(state.changed)}"
    return ""


def _against_others(claim: StatelessClaim, claims: Sequence[StatelessClaim]) -> Iterator[Finding]:
    """Name the claims that speak of the very same, and name another owner: one of them is not true."""
    for other in claims:
        if other.name != claim.name and other.spec.scope == claim.spec.scope and other.spec.owner != claim.spec.owner:
            yield Finding(
                where=claim.name,
                message=f"the claim {other.name} speaks of the same, and names {other.spec.owner} as its owner, not {claim.spec.owner}",
                remedy="keep one of the two",
            )
