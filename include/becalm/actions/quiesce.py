"""Still an application: every hook of it side by side, each under its dead-man switch; and make sure that it goes on again.

`execute` notes in the bucket what it is about to freeze, and undoes its own part before it raises anything. `thaw` raises only where
it cannot confirm that everything is thawed. Neither ever cuts or lists anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from becalm.actions import freezes, members
from becalm.actions.handover import FreezeOutcome, FreezeRecord, Frozen, Thawed
from becalm.actions.hooks import recipe
from becalm.actions.pods import Place, places
from becalm.actions.release import Attempted, release, side_by_side, target_of
from becalm.clock import seconds
from becalm.errors import BecalmError, HookFailed, HookMissing
from becalm.policy.spec import OnFailure
from becalm.quiesce.base import Freeze, Froze
from becalm.quiesce.command import ANSWER_SECONDS, CommandQuiescer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from becalm.actions.handover import Application, Begun, Cut, Ports
    from becalm.model import Excluded
    from becalm.policy.spec import ProtectionPolicy
    from becalm.quiesce.base import Quiescer

__all__ = ["Plan", "execute", "plan", "release", "thaw"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which containers will be frozen, which hooks find none, and what is not meant although it looks so."""

    places: tuple[Place, ...]
    missing: tuple[HookMissing, ...] = ()
    left_out: tuple[Excluded, ...] = ()


def plan(application: Application, ports: Ports, *, ask: bool = False) -> Plan:
    """Look up, now, where each hook of an application runs. Only with `ask` do members of a replicated database say which of them writes."""
    claims = frozenset(volume.volume for volume in application.volumes)
    found = [places(hook, claims, ports.cluster) for hook in application.hooks if recipe(hook).freezes]
    if ask:
        found = [members.choose(resolved, ports.cluster, ports.clock) for resolved in found]
    return Plan(
        places=tuple(place for resolved in found for place in resolved.places),
        missing=tuple(miss for resolved in found for miss in resolved.missing),
        left_out=tuple(item for resolved in found for item in resolved.left_out),
    )


def execute(application: Application, begun: Begun, policy: ProtectionPolicy, ports: Ports) -> FreezeRecord:
    """Freeze an application, hooks side by side, and record when each container was confirmed frozen.

    Where the policy says `onFailure: fail`, a hook that fails makes all of them thaw again, and nothing is frozen that no switch guards.
    Raises: HookMissing, HookFailed, and what cluster and store raise before anything is frozen.
    """
    began = ports.clock.now()
    resolved = plan(application, ports, ask=True)
    _say(application, resolved, ports)
    strict = policy.spec.quiesce.on_failure is OnFailure.FAIL
    if strict and resolved.missing:
        raise resolved.missing[0]
    driver = CommandQuiescer(ports.cluster, ports.clock, demand_guard=strict)
    limit = seconds(policy.spec.quiesce.timeout)
    attempts = [_attempt(driver, place, begun) for place in resolved.places]
    _note(application, attempts, begun, limit, ports)
    try:
        answers = side_by_side(lambda attempt: _freeze(driver, attempt, limit), attempts)
        bad = [f"{attempt.place}: {_why(answer)}" for attempt, answer in zip(attempts, answers, strict=True) if _is_bad(answer)]
        if strict:
            _demand(bad, application)
    except BaseException as error:
        _undo(driver, attempts, application, begun, ports, error)
        raise
    frozen = tuple(_frozen(attempt, answer) for attempt, answer in zip(attempts, answers, strict=True) if _is_owed(answer))
    if not frozen:
        freezes.forget(begun.run, application.name, ports.store)
    return FreezeRecord(
        application=application.name,
        frozen=frozen,
        timeout_seconds=min([limit, *(attempt.place.hook.timeout_seconds for attempt in attempts)]),
        began=began,
        reasons=(*(str(miss) for miss in resolved.missing), *bad),
        hooks=len(attempts) + len(resolved.missing),
        run=begun.run,
        left_out=resolved.left_out,
    )


def thaw(  # noqa: PLR0917  (one call for every conductor: the same five nouns as every verb, and the cut)
    application: Application, record: FreezeRecord, cut: Cut | None, begun: Begun, policy: ProtectionPolicy, ports: Ports
) -> Thawed:
    """Make sure that an application is thawed, and decide its label. Idempotent: what the cut's own thaw confirmed is not asked again.

    Raises: HookFailed where a thaw cannot be confirmed; never for a worse label.
    """
    del begun, policy  # the record holds all that a thaw needs
    thawed = cut.thawed if cut and cut.thawed and cut.thawed.confirmed else release(application, record, cut, ports)
    if not thawed.confirmed:
        raise HookFailed(
            "it is not confirmed thawed: " + "; ".join(thawed.reasons),
            where=application.name,
            hint="look at the application now, and thaw it by hand",
        )
    return thawed


def _say(application: Application, resolved: Plan, ports: Ports) -> None:
    """Tell a person who is frozen, who is not, and why."""
    for place in resolved.places:
        ports.progress(f"quiesce: {application.name}: {place.hook.name} runs in {place}")
    for item in resolved.left_out:
        ports.progress(f"quiesce: {application.name}: {item.what} is left out: {item.because}")
    for miss in resolved.missing:
        ports.progress(f"quiesce: {application.name}: {miss}")


def _attempt(driver: Quiescer, place: Place, begun: Begun) -> Attempted:
    return Attempted(place=place, switch=driver.switch(target_of(place), run=begun.run, hook=place.hook.name))


def _note(application: Application, attempts: Sequence[Attempted], begun: Begun, limit_seconds: float, ports: Ports) -> None:
    """Write down what is about to be frozen, so that it is thawed even where nobody of this run is left."""
    if not attempts:
        return
    held = tuple(
        freezes.Held(
            hook=item.place.hook.name,
            namespace=item.place.hook.namespace,
            pod=item.place.pod,
            uid=item.place.uid,
            container=item.place.container,
            switch=item.switch,
        )
        for item in attempts
    )
    freezes.write(freezes.Note(run=begun.run, application=application.name, seconds=limit_seconds + ANSWER_SECONDS, held=held), ports.store)


def _demand(bad: Sequence[str], application: Application) -> None:
    if bad:
        raise HookFailed("; ".join(bad), where=application.name, hint="mend the hook, or allow onFailure: crash-consistent")


def _freeze(driver: Quiescer, attempt: Attempted, limit_seconds: float) -> Froze | BecalmError:
    """Freeze one container; that it is gone, or closed to us, is an answer."""
    try:
        return driver.freeze(target_of(attempt.place, limit_seconds), switch=attempt.switch)
    except BecalmError as error:
        return error


def _is_bad(answer: Froze | BecalmError) -> bool:
    return isinstance(answer, BecalmError) or answer.outcome is not Freeze.FROZEN or not answer.guarded


def _why(answer: Froze | BecalmError) -> str:
    return answer.message if isinstance(answer, Froze) else str(answer)


def _is_owed(answer: Froze | BecalmError) -> bool:
    """Say whether a thaw is owed. An error came before anything was started."""
    return not isinstance(answer, BecalmError) and answer.thaw_owed


def _frozen(attempt: Attempted, answer: Froze | BecalmError) -> Frozen:
    if isinstance(answer, BecalmError):
        raise TypeError("nothing was frozen there") from answer
    return Frozen(
        hook=attempt.place.hook,
        pod=attempt.place.pod,
        uid=attempt.place.uid,
        container=attempt.place.container,
        switch=attempt.switch if answer.guarded else "",
        outcome=FreezeOutcome(answer.outcome),
        asked=answer.asked,
        confirmed=answer.answered if answer.outcome is Freeze.FROZEN else None,
        message=answer.message,
    )


def _undo(  # noqa: PLR0917  (all that an attempt knows)
    driver: Quiescer, attempts: Sequence[Attempted], application: Application, begun: Begun, ports: Ports, error: BaseException
) -> None:
    """Thaw whatever this attempt may have frozen, also freezes still on their way; the error says what is not confirmed."""
    answers = side_by_side(lambda attempt: driver.thaw(target_of(attempt.place), switch=attempt.switch), attempts)
    for attempt, answer in zip(attempts, answers, strict=True):
        if not answer.confirmed:
            error.add_note(f"{attempt.place} is not confirmed thawed: {answer.message}")
    if all(answer.confirmed for answer in answers):
        freezes.forget(begun.run, application.name, ports.store)
