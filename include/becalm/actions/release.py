"""Let an application go on: thaw every container that was attempted, and those that came in their place, and say what is known.

It raises nothing for what containers answer, and decides nothing but what `label` decides.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from becalm.actions import freezes
from becalm.actions.handover import Thawed
from becalm.actions.hooks import recipe
from becalm.actions.label import ThawState, label
from becalm.actions.pods import Place, places
from becalm.errors import BecalmError
from becalm.quiesce.base import Target
from becalm.quiesce.command import CommandQuiescer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from becalm.actions.handover import Application, Cut, FreezeRecord, HookPlan, Ports
    from becalm.model import VolumeRef
    from becalm.quiesce.base import Quiescer, Released

SIDE_BY_SIDE = 16
"""How many containers of one application are frozen or thawed at the same time."""
TRIES = 3
RETRY_SECONDS = 1.0
Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempted:
    """One container that may be frozen, with the switch that was named for it; without a name nothing guards it."""

    place: Place
    switch: str

    @property
    def key(self) -> tuple[str, str, str]:
        """Where it is."""
        return (self.place.hook.namespace, self.place.pod, self.place.container)


@dataclass(frozen=True, slots=True, kw_only=True)
class Let:
    """What became of containers that were to go on."""

    answers: tuple[Released, ...] = ()
    """In the order of what was attempted."""
    moved: tuple[tuple[Place, Released], ...] = ()
    """Containers that stand where attempted ones are gone, and what their thaw told."""
    orphaned: tuple[str, ...] = ()
    """Hooks whose container is gone, and nobody stands in its place yet."""

    @property
    def confirmed(self) -> bool:
        """Whether all is thawed."""
        return all(answer.confirmed for answer in (*self.answers, *(answer for _, answer in self.moved)))


def release(application: Application, record: FreezeRecord, cut: Cut | None, ports: Ports) -> Thawed:
    """Thaw everything that was attempted, and say what is known; raises nothing for what containers answer."""
    attempted = [
        Attempted(place=Place(hook=item.hook, pod=item.pod, uid=item.uid, container=item.container), switch=item.switch)
        for item in record.frozen
    ]
    claims = frozenset(volume.volume for volume in application.volumes)
    let = let_go(attempted, claims, run=record.run, ports=ports)
    states = [_state(item.place, answer) for item, answer in zip(attempted, let.answers, strict=True)]
    consistency, reasons = label(record, cut, states)
    elsewhere = tuple(f"{place}: {answer.message}" for place, answer in let.moved if not answer.confirmed)
    if let.confirmed and not let.orphaned:
        freezes.forget(record.run, record.application, ports.store)
    began = min((item.asked for item in record.frozen), default=record.began)
    ended = max((answer.answered for answer in let.answers), default=began)
    return Thawed(
        application=application.name,
        consistency=consistency,
        reasons=(*reasons, *elsewhere),
        confirmed=let.confirmed,
        switch_fired=any(answer.fired for answer in let.answers),
        frozen_seconds=max(0.0, (ended - began).total_seconds()),
        broken=tuple(
            f"{item.place.hook.namespace}/{item.place.pod}"
            for item, answer in zip(attempted, let.answers, strict=True)
            if not (answer.held and answer.confirmed)
        ),
    )


def let_go(attempted: Sequence[Attempted], claims: frozenset[VolumeRef], *, run: str, ports: Ports) -> Let:
    """Thaw containers side by side. Where one is gone, whoever stands in its place is thawed as well: what it froze may outlive it."""
    driver = CommandQuiescer(ports.cluster, ports.clock)
    answers = side_by_side(lambda item: _insist(driver, target_of(item.place), item.switch, ports), attempted)
    gone = {item.place.hook: None for item, answer in zip(attempted, answers, strict=True) if answer.gone}
    known = {item.key for item, answer in zip(attempted, answers, strict=True) if not answer.missing}
    moved: list[tuple[Place, Released]] = []
    orphaned: list[str] = []
    for hook in gone:
        here = _standing(hook, claims, ports)
        orphaned += [] if here else [hook.name]
        new = [place for place in here if (hook.namespace, place.pod, place.container) not in known]
        moved += zip(new, side_by_side(lambda place: _thaw_new(driver, place, run, ports), new), strict=True)
    return Let(answers=tuple(answers), moved=tuple(moved), orphaned=tuple(orphaned))


def target_of(place: Place, limit_seconds: float | None = None) -> Target:
    """Return a place with what stills it there, within its time and the limit."""
    hook, by = place.hook, recipe(place.hook)
    return Target(
        namespace=hook.namespace,
        pod=place.pod,
        container=place.container,
        freeze=by.freeze,
        thaw=by.thaw,
        user=hook.user,
        timeout_seconds=hook.timeout_seconds if limit_seconds is None else min(hook.timeout_seconds, limit_seconds),
        folders=place.folders,
    )


def side_by_side(act: Callable[[Item], Answer], items: Sequence[Item]) -> list[Answer]:
    """Do one thing for each item at the same time; what is interrupted is not waited for."""
    if not items:
        return []
    pool = ThreadPoolExecutor(max_workers=min(SIDE_BY_SIDE, len(items)), thread_name_prefix="quiesce")
    try:
        return list(pool.map(act, items))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _insist(driver: Quiescer, target: Target, switch: str, ports: Ports) -> Released:
    """Thaw one container, and ask again a few times where it is not confirmed."""
    answer = driver.thaw(target, switch=switch)
    for _ in range(TRIES - 1):
        if answer.confirmed:
            break
        ports.clock.sleep(RETRY_SECONDS)
        answer = driver.thaw(target, switch=switch)
    return answer


def _thaw_new(driver: Quiescer, place: Place, run: str, ports: Ports) -> Released:
    """Thaw a container in which this run froze nothing; a switch of another run there is told."""
    target = target_of(place)
    return _insist(driver, target, driver.switch(target, run=run or "0", hook=place.hook.name), ports)


def _standing(hook: HookPlan, claims: frozenset[VolumeRef], ports: Ports) -> tuple[Place, ...]:
    """Return where a hook would run now. A cluster that does not answer knows nobody."""
    try:
        return places(hook, claims, ports.cluster).places
    except BecalmError:
        return ()


def _state(place: Place, answer: Released) -> ThawState:
    name = f"{place.hook.namespace}/{place.pod}"
    return ThawState(place=name, confirmed=answer.confirmed, held=answer.held, fired=answer.fired, message=answer.message)
