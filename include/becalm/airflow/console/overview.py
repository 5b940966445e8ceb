"""The first page: every policy, those in trouble first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response  # noqa: TC002  (FastAPI reads it from the signature)

from becalm.actions.objectives import Level, PolicyStatus, SlotState, told
from becalm.airflow.console.cache import StillReading
from becalm.airflow.console.rights import visitor_of
from becalm.errors import BecalmError

if TYPE_CHECKING:
    from becalm.actions.objectives import SlotStatus
    from becalm.airflow.console.desk import Desk
    from becalm.airflow.console.library import Library

STRIP = 168
"""So many slots are drawn: a week of hours."""
STRIP_WIDTH = 320.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One slot of the strip."""

    x: float
    width: float
    state: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One policy."""

    name: str
    level: str
    """trouble, warning, fine, or reading."""
    said: str
    status: PolicyStatus | None = None
    ticks: tuple[Tick, ...] = ()
    counts: tuple[tuple[str, int], ...] = ()
    unknown: tuple[str, ...] = ()
    share: float = 0.0
    """The age as a part of the objective, at most 1."""


def card(name: str, status: PolicyStatus) -> Card:
    """Return how a policy is shown. Pure."""
    slots = status.slots[-STRIP:]
    share = min(1.0, status.age / status.rpo) if status.age is not None and status.rpo else 0.0
    return Card(
        name=name,
        level=status.level.value,
        said=told(status),
        status=status,
        ticks=tuple(_ticks(slots)),
        counts=tuple((state.value, count) for state in SlotState if (count := status.count(state))),
        unknown=tuple(map(str, status.unknown)),
        share=share,
    )


def _ticks(slots: tuple[SlotStatus, ...]) -> list[Tick]:
    width = STRIP_WIDTH / max(len(slots), 24)
    first = STRIP_WIDTH - width * len(slots)
    return [
        Tick(
            x=round(first + place * width, 2),
            width=round(max(1.0, width - 1), 2),
            state=slot.state.value,
            words=f"{slot.slot:%Y-%m-%d %H:%M}: {slot.state.value}" + (f", {slot.reason}" if slot.reason else ""),
        )
        for place, slot in enumerate(slots)
    ]


def cards(library: Library, names: list[str]) -> list[Card]:
    """Return the policies as they are known now, trouble first; what has not been read yet is said to be read."""
    policies = library.policies()
    made = [_one(library, name, policies[name]) for name in names]
    order = {Level.TROUBLE.value: 0, Level.WARNING.value: 1, "reading": 2, Level.FINE.value: 3}
    return sorted(made, key=lambda one: (order[one.level], one.name))


def _one(library: Library, name: str, policy: Any) -> Card:
    if isinstance(policy, BecalmError):
        return Card(name=name, level=Level.TROUBLE.value, said=f"the policy's file is broken: {policy}")
    try:
        answer = library.status(name)
    except StillReading:
        answer = None
    except BecalmError as error:
        return Card(name=name, level=Level.TROUBLE.value, said=f"nothing is known: {error}")
    return Card(name=name, level="reading", said="being read for the first time") if answer is None else card(name, answer.value)


def routes(desk: Desk) -> APIRouter:
    """Return the routes of this page."""
    router = APIRouter()

    @router.get("/")
    def overview(request: Request) -> Response:
        visitor = visitor_of(request)
        shown = cards(desk.library, visitor.visible(desk.library.policies()))
        levels = {level: sum(one.level == level for one in shown) for level in ("trouble", "warning", "reading", "fine")}
        return desk.page("overview.html", visitor, request, cards=shown, levels=levels, reading=bool(levels["reading"]))

    return router
