"""Freezes that nobody of their run will thaw any more: found by their notes in the bucket, and let go.

How to thaw is what the policy and the pods say now. A hook that is gone is named: then a person has to look. It decides no label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from becalm.actions import freezes
from becalm.actions.pods import Place
from becalm.actions.release import Attempted, let_go

if TYPE_CHECKING:
    from collections.abc import Iterable

    from becalm.actions.freezes import Found, Held
    from becalm.actions.handover import Application, HookPlan, Ports
    from becalm.model import VolumeRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphans:
    """What became of freezes that were noted."""

    thawed: tuple[str, ...] = ()
    """Containers that are thawed for certain."""
    waiting: tuple[str, ...] = ()
    """Hooks whose container is gone, and nobody stands in its place yet: their note stays."""
    problems: tuple[str, ...] = ()
    """What may be frozen still, and why it is not known better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """How the policy thaws, now."""

    hooks: dict[tuple[str, str], HookPlan]
    """By their name and namespace."""
    claims: frozenset[VolumeRef]

    @classmethod
    def of(cls, applications: Iterable[Application]) -> Known:
        """Read applications as they were discovered."""
        listed = list(applications)
        return cls(
            hooks={(hook.name, hook.namespace): hook for application in listed for hook in application.hooks},
            claims=frozenset(volume.volume for application in listed for volume in application.volumes),
        )


def thaw_noted(found: Iterable[Found], applications: Iterable[Application], ports: Ports) -> Orphans:
    """Thaw what notes name. A note goes once all of it is thawed for certain; what is not is tried again by whoever comes next."""
    known = Known.of(applications)
    told = [_thaw_one(item, known, ports) for item in found]
    return Orphans(
        thawed=tuple(name for one in told for name in one.thawed),
        waiting=tuple(name for one in told for name in one.waiting),
        problems=tuple(name for one in told for name in one.problems),
    )


def _thaw_one(found: Found, known: Known, ports: Ports) -> Orphans:
    note = found.note
    attempted = [_attempted(held, hook) for held in note.held if (hook := known.hooks.get((held.hook, held.namespace)))]
    let = let_go(attempted, known.claims, run=note.run, ports=ports)
    problems = [
        f"{_place(held)} was frozen by run {note.run} and its hook {held.hook} is gone: look at it, and thaw it by hand"
        for held in note.held
        if (held.hook, held.namespace) not in known.hooks
    ]
    thawed: list[str] = []
    for place, answer in [*zip((item.place for item in attempted), let.answers, strict=True), *let.moved]:
        if answer.confirmed and not answer.missing:
            thawed.append(str(place))
        elif not answer.confirmed:
            problems.append(f"{place} is not confirmed thawed: {answer.message}")
    if not problems and not let.orphaned:
        freezes.forget(note.run, note.application, ports.store)
    return Orphans(thawed=tuple(thawed), waiting=let.orphaned, problems=tuple(problems))


def _attempted(held: Held, hook: HookPlan) -> Attempted:
    return Attempted(place=Place(hook=hook, pod=held.pod, uid=held.uid, container=held.container), switch=held.switch)


def _place(held: Held) -> str:
    return f"{held.namespace}/{held.pod} ({held.container})"
