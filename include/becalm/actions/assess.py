"""What a cluster without any policy would lose, disaster by disaster. Pure: it decides over a census that was read before.

It says what is known from the objects alone. Whether a volume really holds anything, nobody can tell without reading it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from becalm.actions.state import OF_PODS, VOLUMES, Origin, State, What

if TYPE_CHECKING:
    from collections.abc import Mapping

    from becalm.actions.state import Census
    from becalm.model import Finding


class Disaster(StrEnum):
    """What can happen."""

    NAMESPACE = "namespace deleted"
    NODE = "node lost"
    VOLUME = "volume corrupted"
    RANSOM = "ransomware"
    CLUSTER = "cluster lost"


class Loss(StrEnum):
    """What becomes of a piece of state."""

    LOST = "lost"
    BY_FILES = "comes back from files"
    """As far as the files that it says it comes from are whole, and somebody has them."""
    KEPT = "kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Toll:
    """What one disaster takes."""

    disaster: Disaster
    lost: Mapping[What, int]
    by_files: int
    kept: int
    bytes_lost: int
    """Of claims and volumes, by their size: how full they are is not known."""
    examples: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """How many pieces are lost."""
        return sum(self.lost.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """The whole cluster, without any policy."""

    states: tuple[State, ...]
    tolls: tuple[Toll, ...]
    by_namespace: Mapping[str, Mapping[What, int]]
    objects: int
    derived: int
    findings: tuple[Finding, ...] = ()


MOST_EXAMPLES = 5


def assess(seen: Census) -> Assessment:
    """Say what state there is, and what each disaster would take of it."""
    by_namespace: dict[str, Counter[What]] = {}
    for state in seen.states:
        by_namespace.setdefault(state.namespace, Counter())[state.what] += 1
    return Assessment(
        states=seen.states,
        tolls=tuple(_toll(disaster, seen.states) for disaster in Disaster),
        by_namespace={name: dict(counted) for name, counted in sorted(by_namespace.items())},
        objects=seen.objects,
        derived=sum(seen.derived.values()),
        findings=seen.findings,
    )


def loss(state: State, disaster: Disaster) -> Loss:
    """Say what becomes of one piece of state in a disaster that meets it, with no backup at all. Pure."""
    match disaster:
        case Disaster.NAMESPACE:
            return _with_namespace(state)
        case Disaster.NODE:
            return Loss.LOST if state.on_node or state.what is What.SCRATCH else Loss.KEPT
        case Disaster.VOLUME:
            return Loss.LOST if state.what in VOLUMES and state.what is not What.SCRATCH else Loss.KEPT
        case Disaster.CLUSTER if state.what is What.POD_VOLUME and not state.goes:
            return Loss.KEPT
        case Disaster.RANSOM | Disaster.CLUSTER:
            return _everywhere(state)


def _with_namespace(state: State) -> Loss:
    """Objects go; the data of a volume goes where it is made for its claim or its pod; what belongs to no namespace, and paths of nodes, stay."""
    if not state.namespace or state.what is What.NODE_PATH:
        return Loss.KEPT
    if state.what in {What.CLAIM, What.POD_VOLUME}:
        return Loss.LOST if state.goes else Loss.KEPT
    return _everywhere(state)


def _everywhere(state: State) -> Loss:
    """Where everything of a cluster is gone, only files outside of it bring an object back, and never data."""
    data = state.what in VOLUMES or state.what in OF_PODS or state.what in {What.SNAPSHOT, What.DATABASE, What.BARE_POD, What.BY_HAND}
    if data:
        return Loss.LOST
    return Loss.BY_FILES if state.origin in {Origin.DECLARED, Origin.APPLIED} else Loss.LOST


def _toll(disaster: Disaster, states: tuple[State, ...]) -> Toll:
    losses = [(state, loss(state, disaster)) for state in states]
    lost = [state for state, what in losses if what is Loss.LOST]
    counted = Counter(what for _, what in losses)
    first = sorted(lost, key=lambda state: (state.what not in VOLUMES, -state.size_bytes, state.where))
    return Toll(
        disaster=disaster,
        lost=dict(Counter(state.what for state in lost)),
        by_files=counted[Loss.BY_FILES],
        kept=counted[Loss.KEPT],
        bytes_lost=sum(state.size_bytes for state in lost),
        examples=tuple(state.where for state in first[:MOST_EXAMPLES]),
    )
