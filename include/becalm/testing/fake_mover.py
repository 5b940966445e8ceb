"""Movers without pods: the `Mover` port over a dictionary. A mover ends at its second poll and leaves its result in the bucket.

It moves nothing; a test says what the result is, or that there is none.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson

from becalm.kube.base import MoverState, MoverStatus
from becalm.model import MoverResult, MoverSpec, payload
from becalm.repository.format import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from becalm.storage.base import ObjectStore


def as_asked(spec: MoverSpec) -> MoverResult:
    """Answer that everything was restored."""
    return MoverResult(name=spec.name, run=spec.run, volume=spec.volume, tree=spec.tree, files=1, bytes_total=4)


@dataclass(slots=True)
class FakeMover:
    """Movers that do nothing but answer. `answer` gives the result of each; None is a mover that dies without one."""

    store: ObjectStore
    answer: Callable[[MoverSpec], MoverResult | None] = as_asked
    started: list[MoverSpec] = field(default_factory=list)
    """Every mover that was started; one that was adopted is not in it twice."""
    at_work: dict[str, int] = field(default_factory=dict)
    """The polls of each mover that is there."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, spec: MoverSpec) -> str:
        """Start, or adopt."""
        with self._lock:
            if spec.name not in self.at_work:
                self.at_work[spec.name] = 0
                self.started.append(spec)
        return spec.name

    def poll(self, handle: str, *, namespace: str) -> MoverStatus:  # noqa: ARG002  (names are unique here)
        """Run at the first poll, end at the second."""
        with self._lock:
            if handle not in self.at_work:
                return MoverStatus(state=MoverState.GONE)
            self.at_work[handle] += 1
            if self.at_work[handle] < 2:
                return MoverStatus(state=MoverState.RUNNING, progress="half of it")
            result = self.answer(next(spec for spec in self.started if spec.name == handle))
        if result is None:
            return MoverStatus(state=MoverState.FAILED, reason="OOMKilled")
        self.store.put(Layout.run_result(result.run, result.name), orjson.dumps(payload(result)))
        return MoverStatus(state=MoverState.FAILED if result.error else MoverState.SUCCEEDED, reason=result.error)

    def result(self, handle: str, *, namespace: str) -> MoverResult | None:  # noqa: ARG002  (there is no termination message)
        """Return nothing: the result is in the bucket."""
        return None

    def cancel(self, handle: str, *, namespace: str) -> None:  # noqa: ARG002  (names are unique here)
        """Take it away."""
        with self._lock:
            self.at_work.pop(handle, None)
