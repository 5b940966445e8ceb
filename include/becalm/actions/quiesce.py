"""Still an application, and let it go on again: every hook of it side by side, each under its dead-man switch.

`execute` undoes its own part before it raises anything. `thaw` decides the label from the recorded times, reads back what
each switch met, and raises only where it cannot confirm that everything is thawed. Neither ever cuts or lists anything.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from becalm.actions.handover import FreezeOutcome, FreezeRecord, Frozen, Thawed
from becalm.actions.pods import Place, places
from becalm.clock import seconds
from becalm.errors import BecalmError, HookFailed, HookMissing
from becalm.model import Consistency, VolumeUse
from becalm.policy.spec import OnFailure
from becalm.quiesce.base import Freeze, Froze, Released, Target
from becalm.quiesce.command import CommandQuiescer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from becalm.actions.handover import Application, Begun, Cut, Ports
    from becalm.policy.spec import ProtectionPolicy
    from becalm.quiesce.base import Quiescer

SIDE_BY_SIDE = 16
"""How many containers of one application are frozen or thawed at the same time."""
Item = TypeVar("Item")
Answer = TypeVar("Answer")
TRIES = 3
RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which containers will be frozen, and which hooks find none."""

    places: tuple[Place, ...]
    missing: tuple[HookMissing, ...] = ()


def plan(application: Application, ports: Ports) -> Plan:
    """Look up, now, where each hook of an application runs."""
    found: list[Place] = []
    missing: list[HookMissing] = []
    claims = frozenset(volume.volume for volume in application.volumes)
    for hook in application.hooks:
        resolved = places(hook, claims, ports.cluster)
        found.extend(resolved.places)
        missing.extend(resolved.missing)
    return Plan(places=tuple(found), missing=tuple(missing))


def execute(application: Application, begun: Begun, policy: ProtectionPolicy, ports: Ports) -> FreezeRecord:
    """Freeze an application, hooks side by side, and record when each container was confirmed frozen.

    Where the policy says `onFailure: fail`, a hook that fails makes all of them thaw again. Raises: HookMissing, HookFailed.
    """
    began = ports.clock.now()
    resolved = plan(application, ports)
    strict = policy.spec.quiesce.on_failure is OnFailure.FAIL
    if strict and resolved.missing:
        raise resolved.missing[0]
    driver = CommandQuiescer(ports.cluster, ports.clock)
    limit = seconds(policy.spec.quiesce.timeout)
    attempts = [
        _Attempt(place, target := _target(place, limit), driver.switch(target, run=begun.run, hook=place.hook.name))
        for place in resolved.places
    ]
    try:
        answers = _side_by_side(lambda attempt: _freeze(driver, attempt), attempts)
        bad = [f"{attempt.target}: {answer.message}" for attempt, answer in zip(attempts, answers, strict=True) if _is_bad(answer)]
        if strict:
            _demand(bad, application)
    except BaseException as error:
        _undo(driver, attempts, error)
        raise
    reasons = [*(str(miss) for miss in resolved.missing), *bad]
    return FreezeRecord(
        application=application.name,
        frozen=tuple(_frozen(attempt, answer) for attempt, answer in zip(attempts, answers, strict=True) if _is_owed(answer)),
        timeout_seconds=min([limit, *(attempt.target.timeout_seconds for attempt in attempts)]),
        began=began,
        reasons=tuple(reasons),
        hooks=len(attempts) + len(resolved.missing),
    )


def _demand(bad: Sequence[str], application: Application) -> None:
    if bad:
        raise HookFailed("; ".join(bad), where=application.name, hint="mend the hook, or allow onFailure: crash-consistent")


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


def release(application: Application, record: FreezeRecord, cut: Cut | None, ports: Ports) -> Thawed:
    """Thaw everything that was attempted, and say what is known; raises nothing for what containers answer."""
    driver = CommandQuiescer(ports.cluster, ports.clock)
    answers = _side_by_side(lambda frozen: _thaw_one(driver, frozen, ports), record.frozen)
    states = tuple(_state(frozen, answer) for frozen, answer in zip(record.frozen, answers, strict=True))
    consistency, reasons = label(record, cut, states)
    began = min((frozen.asked for frozen in record.frozen), default=record.began)
    ended = max((answer.answered for answer in answers), default=began)
    return Thawed(
        application=application.name,
        consistency=consistency,
        reasons=reasons,
        confirmed=all(state.confirmed for state in states),
        switch_fired=any(state.fired for state in states),
        frozen_seconds=max(0.0, (ended - began).total_seconds()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ThawState:
    """What the thaw of one container told."""

    place: str
    confirmed: bool
    held: bool
    fired: bool = False
    message: str = ""


def label(record: FreezeRecord, cut: Cut | None, states: Sequence[ThawState]) -> tuple[Consistency, tuple[str, ...]]:
    """Decide what the recovery point may promise of this application, and why not more. Pure.

    Application-consistent only if every hook confirmed its freeze before the first cut was asked for, and each switch was still
    armed and untouched at the thaw, which came after the last cut was reported.
    """
    reasons = list(record.reasons)
    if record.hooks == 0:
        reasons.append("no hook stills it")
    elif len(record.frozen) < record.hooks and not reasons:
        reasons.append(f"only {len(record.frozen)} of {record.hooks} hooks froze")
    for frozen in record.frozen:
        reasons += _weakness(frozen, cut)
    if cut is None:
        reasons.append("it was not cut")
    else:
        reasons += [f"{volume.plan.volume} is read while it changes" for volume in cut.volumes if volume.plan.use is VolumeUse.LIVE]
    reasons += [f"{state.place}: {state.message or 'the freeze did not hold'}" for state in states if not (state.held and state.confirmed)]
    if len(states) < len(record.frozen):
        reasons.append("not every container was asked to thaw")
    distinct = tuple(dict.fromkeys(reasons))
    return (Consistency.CRASH, distinct) if distinct else (Consistency.APPLICATION, ())


def _weakness(frozen: Frozen, cut: Cut | None) -> list[str]:
    """Say why one freeze promises nothing."""
    place = f"{frozen.hook.namespace}/{frozen.pod}"
    if frozen.outcome is not FreezeOutcome.FROZEN:
        return [] if frozen.message else [f"{place}: the freeze is {frozen.outcome}"]
    if not frozen.switch:
        return [] if frozen.message else [f"{place}: no dead-man switch guards the freeze"]
    if cut and (frozen.confirmed is None or frozen.confirmed > cut.began):
        return [f"{place}: the freeze was confirmed only after the cut began"]
    return []


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One freeze, named before it is tried."""

    place: Place
    target: Target
    switch: str


def _target(place: Place, limit_seconds: float) -> Target:
    hook = place.hook
    return Target(
        namespace=hook.namespace,
        pod=place.pod,
        container=place.container,
        freeze=hook.freeze,
        thaw=hook.thaw,
        user=hook.user,
        timeout_seconds=min(hook.timeout_seconds, limit_seconds),
    )


def _freeze(driver: Quiescer, attempt: _Attempt) -> Froze | BecalmError:
    """Freeze one container; that it is gone, or closed to us, is an answer."""
    try:
        return driver.freeze(attempt.target, switch=attempt.switch)
    except BecalmError as error:
        return error


def _is_bad(answer: Froze | BecalmError) -> bool:
    return isinstance(answer, BecalmError) or answer.outcome is not Freeze.FROZEN or not answer.guarded


def _is_owed(answer: Froze | BecalmError) -> bool:
    """Say whether a thaw is owed. An error came before anything was started."""
    return not isinstance(answer, BecalmError) and answer.thaw_owed


def _frozen(attempt: _Attempt, answer: Froze | BecalmError) -> Frozen:
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


def _undo(driver: Quiescer, attempts: Sequence[_Attempt], error: BaseException) -> None:
    """Thaw whatever this attempt may have frozen, also freezes still on their way; the error says what is not confirmed."""
    answers = _side_by_side(lambda attempt: driver.thaw(attempt.target, switch=attempt.switch), attempts)
    for attempt, answer in zip(attempts, answers, strict=True):
        if not answer.confirmed:
            error.add_note(f"{attempt.target} is not confirmed thawed: {answer.message}")


def _thaw_one(driver: Quiescer, frozen: Frozen, ports: Ports) -> Released:
    """Thaw one container, and ask again a few times where it is not confirmed."""
    target = _target(Place(hook=frozen.hook, pod=frozen.pod, uid=frozen.uid, container=frozen.container), frozen.hook.timeout_seconds)
    answer = driver.thaw(target, switch=frozen.switch)
    for _ in range(TRIES - 1):
        if answer.confirmed:
            break
        ports.clock.sleep(RETRY_SECONDS)
        answer = driver.thaw(target, switch=frozen.switch)
    return answer


def _state(frozen: Frozen, answer: Released) -> ThawState:
    place = f"{frozen.hook.namespace}/{frozen.pod}"
    return ThawState(place=place, confirmed=answer.confirmed, held=answer.held, fired=answer.fired, message=answer.message)


def _side_by_side(act: Callable[[Item], Answer], items: Sequence[Item]) -> list[Answer]:
    """Do one thing for each item at the same time; what is interrupted is not waited for."""
    if not items:
        return []
    pool = ThreadPoolExecutor(max_workers=min(SIDE_BY_SIDE, len(items)), thread_name_prefix="quiesce")
    try:
        return list(pool.map(act, items))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
