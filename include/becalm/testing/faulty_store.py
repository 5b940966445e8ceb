"""A store that fails on demand: at the k-th call, before it takes effect or after, or by killing the caller.

The calls are numbered from 1 as they come in. `list` counts once: *before* fails at its first object, *after* at its end.
"""

from __future__ import annotations

import threading
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from becalm.errors import StoreUnavailable, Throttled
from becalm.storage.wrappers import Wrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from becalm.storage.base import Body, ETag, Key, ObjectInfo, ObjectStore, Span

T = TypeVar("T")


class Fault(StrEnum):
    """What happens to one call."""

    LOST_BEFORE = "lost-before"
    """The request never reached the store."""
    LOST_AFTER = "lost-after"
    """The store did it, and the reply was lost."""
    THROTTLED = "throttled"
    """The store refused it for now."""
    CRASH_BEFORE = "crash-before"
    """The caller dies before the request is sent."""
    CRASH_AFTER = "crash-after"
    """The caller dies when the store has done it."""


class Crash(BaseException):
    """The death of a process, as far as a test can have it: no `except Exception` sees it."""


class FaultyStore(Wrapper):
    """A store with a plan of faults; `calls` says what was called, in order, as (method, key)."""

    def __init__(self, store: ObjectStore, plan: Mapping[int, Fault] | None = None) -> None:
        """Plan the faults by the number of the call."""
        super().__init__(store)
        self._plan = dict(plan or {})
        self._lock = threading.Lock()
        self.calls: list[tuple[str, Key]] = []

    def get(self, key: Key, span: Span | None = None) -> bytes:
        """Read, unless planned otherwise."""
        return self._meet("get", key, lambda: self._store.get(key, span))

    def put(
        self, key: Key, body: Body, *, if_absent: bool = False, if_match: ETag | None = None, retain_until: datetime | None = None
    ) -> ETag:
        """Write, unless planned otherwise."""
        return self._meet("put", key, lambda: self._store.put(key, body, if_absent=if_absent, if_match=if_match, retain_until=retain_until))

    def head(self, key: Key) -> ObjectInfo:
        """Look, unless planned otherwise."""
        return self._meet("head", key, lambda: self._store.head(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List, unless planned otherwise."""
        fault = self._next("list", prefix)
        _before(fault, "list", prefix)
        yield from self._store.list(prefix)
        _after(fault, "list", prefix)

    def delete(self, key: Key, *, if_match: ETag | None = None) -> None:
        """Remove, unless planned otherwise."""
        self._meet("delete", key, lambda: self._store.delete(key, if_match=if_match))

    def retain(self, key: Key, until: datetime) -> None:
        """Lock, unless planned otherwise."""
        self._meet("retain", key, lambda: self._store.retain(key, until))

    def now(self) -> datetime:
        """Tell the time, unless planned otherwise."""
        return self._meet("now", "", self._store.now)

    def _meet(self, method: str, key: Key, call: Callable[[], T]) -> T:
        fault = self._next(method, key)
        _before(fault, method, key)
        try:
            return call()
        finally:
            _after(fault, method, key)  # a refusal is a reply as well, and can be lost

    def _next(self, method: str, key: Key) -> Fault | None:
        with self._lock:
            self.calls.append((method, key))
            return self._plan.get(len(self.calls))


def _before(fault: Fault | None, method: str, key: Key) -> None:
    if fault is Fault.LOST_BEFORE:
        raise StoreUnavailable(f"{method} was lost before it arrived", where=key)
    if fault is Fault.THROTTLED:
        raise Throttled(f"{method} must wait", where=key)
    if fault is Fault.CRASH_BEFORE:
        raise Crash(f"before {method} {key}")


def _after(fault: Fault | None, method: str, key: Key) -> None:
    if fault is Fault.LOST_AFTER:
        raise StoreUnavailable(f"the reply to {method} was lost", where=key)
    if fault is Fault.CRASH_AFTER:
        raise Crash(f"after {method} {key}")
