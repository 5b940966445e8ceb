"""Policies for a cluster that has none, as files to begin with: one for each namespace with state. Pure; nobody has to take them as they are.

What they cannot know they leave for a person, in a comment: where the bucket is. They load, and keep to their environment's own limits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import yaml

from becalm.actions.discover import ENVIRONMENT
from becalm.actions.state import OF_PODS, What
from becalm.policy.select import opted_out
from becalm.policy.spec import Environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from becalm.actions.inventory import Inventory
    from becalm.actions.state import Census, State

TARGET = "s3://name-of-your-bucket/becalm"
CONNECTION = "becalm_s3"
PASSWORD = "becalm_repository"  # noqa: S105  (the name of a connection)
LONGEST_NAME = 40
_HINTS = {
    Environment.TEST: re.compile(r"(?:^|-)(?:test|tests|dev|ci|sandbox|demo)(?:-|$)"),
    Environment.STAGING: re.compile(r"(?:^|-)(?:staging|stage|preprod|qa)(?:-|$)"),
}
_OFTEN = frozenset({What.CLAIM, What.DATABASE, What.STATEFUL_SET})
"""What changes all the time: an hour of it is missed."""
_NOT_CAPTURED = OF_PODS | {What.VOLUME}


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One policy that a person may take."""

    name: str
    namespace: str
    document: Mapping[str, Any]
    remarks: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """The name for its file."""
        return f"{self.name}.yaml"

    @property
    def text(self) -> str:
        """The file, with its remarks as comments."""
        remarks = "".join(f"# {_on_one_line(remark)}\n" for remark in self.remarks)
        return remarks + yaml.safe_dump(dict(self.document), sort_keys=False, allow_unicode=True, width=120)


def propose(seen: Census, inventory: Inventory, *, own: str = "becalm") -> tuple[Proposal, ...]:
    """Return a policy for each namespace that keeps something a policy can capture. Pure."""
    by_place: dict[str, list[State]] = {}
    for state in seen.states:
        by_place.setdefault(state.namespace, []).append(state)
    found = []
    for facts in seen.namespaces:
        states = by_place.get(facts.name, [])
        worth = [state for state in states if state.what not in _NOT_CAPTURED]
        if worth and not facts.terminating and not opted_out(facts.labels) and facts.name != own:
            environment = _environment(facts.name, facts.labels)
            found.append(_proposal(facts.name, states, environment, _without_snapshots(facts.name, inventory)))
    return tuple(found)


def _proposal(namespace: str, states: list[State], environment: Environment, live: list[str]) -> Proposal:
    often = any(state.what in _OFTEN for state in states)
    production = environment is Environment.PRODUCTION
    spec: dict[str, Any] = {
        "schedule": "H * * * *" if often else "H H * * *",
        "environment": environment.value,
        "objectives": {"rpo": "2h" if often else "24h"},
        "select": {"namespaces": [namespace]},
    }
    if live:
        spec["volumes"] = {"rules": [{"match": {"claim": claim}, "use": "live"} for claim in live]}
    spec["target"] = {"url": TARGET, "connection": CONNECTION, "password": PASSWORD, **({"lock": {"days": 14}} if production else {})}
    spec["retention"] = {"last": 3, **({"hourly": 24} if often else {}), "daily": 14, "weekly": 8, "monthly": 12}
    name = policy_name(namespace)
    document = {"apiVersion": "becalm.dev/v1", "kind": "ProtectionPolicy", "metadata": {"name": name}, "spec": spec}
    return Proposal(name=name, namespace=namespace, document=document, remarks=tuple(_remarks(states, live)))


def _remarks(states: list[State], live: list[str]) -> Iterable[str]:
    """Yield what a reader of the file should know."""
    yield f"Proposed from what stands in the namespace: {_counted(states)}."
    yield "Write the bucket and the connections of your own; then `becalm policy check` and `becalm plan` say what it would do."
    if live:
        yield "No snapshot class serves the volumes under `use: live`: they are read while they change, so a database in them needs a hook."
    for state in states:
        if state.what is What.DATABASE:
            yield f"A hook under spec.quiesce would still {state.where} for the cut: see docs/hooks.md."
    beside = [state for state in states if state.what in _NOT_CAPTURED]
    if beside:
        yield f"Not captured, for it stands in no claim: {', '.join(state.where for state in beside[:5])}" + (
            f", and {len(beside) - 5} more." if len(beside) > 5 else "."
        )


def _counted(states: list[State]) -> str:
    counts: dict[str, int] = {}
    for state in states:
        counts[state.what.value] = counts.get(state.what.value, 0) + 1
    return ", ".join(f"{count} x {what}" for what, count in sorted(counts.items()))


def _environment(namespace: str, labels: Mapping[str, str]) -> Environment:
    """Return the environment that a namespace says it belongs to, or that its name hints at; else production, which demands most."""
    said = labels.get(ENVIRONMENT)
    if said in set(Environment):
        return Environment(said)
    return next((environment for environment, hint in _HINTS.items() if hint.search(namespace)), Environment.PRODUCTION)


def _without_snapshots(namespace: str, inventory: Inventory) -> list[str]:
    """Return the claims of a namespace that no snapshot class serves."""
    drivers = {item.driver for item in inventory.snapshot_classes}
    return sorted(
        claim.name
        for claim in inventory.claims
        if claim.namespace == namespace and claim.bound and inventory.driver_of.get(claim.volume, "") not in drivers
    )


def _on_one_line(remark: str) -> str:
    """Return a remark that stays a comment, whatever the paths in it are made of."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in remark)


def policy_name(namespace: str) -> str:
    """Return the name of a namespace's policy: its own, or where that is too long, as much of it as fits and a digest. Pure."""
    if len(namespace) <= LONGEST_NAME:
        return namespace
    digest = sha256(namespace.encode()).hexdigest()[:6]
    return f"{namespace[: LONGEST_NAME - len(digest) - 1].rstrip('-')}-{digest}"
