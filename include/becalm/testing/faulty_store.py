"""A store that fails on demand: at the k-th call, before it takes effect or after, or by killing the caller.

The calls are numbered from 1 as they come in. `list` counts once: *before* fails at its first object, *after* at its end.
A server's 5xx needs no fault of its own: at the port it is an error before the deed or after it. Lists that lie, and bytes
that changed on their way, are what no adapter lets through; they are here to show that nothing is lost should one do so.
"""

from __future__ import annotations

import threading
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from becalm.errors import StoreFull, StoreUnavailable, Throttled
from becalm.storage.wrappers import Wrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
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
    TRUNCATED = "truncated"
    """The connection broke within the body of a `get`: an adapter says so, and hands nothing out."""
    GARBLED = "garbled"
    """One bit of what a `get` returned was changed on its way."""
    FULL = "full"
    """There is no room for a `put`."""
    LIST_EMPTY = "list-empty"
    """A list that says there is nothing."""
    LIST_SHORT = "list-short"
    """A list of which the second half is missing."""
    LIST_DOUBLED = "list-doubled"
    """A list that names everything twice."""
    LIST_STALE = "list-stale"
    """A list as it was some calls ago: without what was written since, and with what was deleted."""


_EVERY = frozenset({Fault.LOST_BEFORE, Fault.LOST_AFTER, Fault.THROTTLED, Fault.CRASH_BEFORE, Fault.CRASH_AFTER})
_LISTS = frozenset({Fault.LIST_EMPTY, Fault.LIST_SHORT, Fault.LIST_DOUBLED, Fault.LIST_STALE})
_OF_METHOD = {"get": frozenset({Fault.TRUNCATED, Fault.GARBLED}), "put": frozenset({Fault.FULL}), "list": _LISTS}
STALE_CALLS = 25
"""So many calls is a stale list behind."""


def faults_of(method: str) -> list[Fault]:
    """Return what can happen to a call of this method."""
    possible = _EVERY | _OF_METHOD.get(method, frozenset())
    return [fault for fault in Fault if fault in possible]


class Crash(BaseException):
    """The death of a process, as far as a test can have it: no `except Exception` sees it."""


class FaultyStore(Wrapper):
    """A store with a plan of faults; `calls` says what was called, in order, as (method, key), and `met` which faults came."""

    def __init__(self, store: ObjectStore, plan: Mapping[int, Fault] | None = None) -> None:
        """Plan the faults by the number of the call."""
        super().__init__(store)
        self._plan = dict(plan or {})
        self._lock = threading.Lock()
        self.calls: list[tuple[str, Key]] = []
        self.met: list[Fault] = []
        self._written: dict[Key, int] = {}
        self._deleted: dict[Key, tuple[int, ObjectInfo]] = {}

    def get(self, key: Key, span: Span | None = None) -> bytes:
        """Read, unless planned otherwise."""
        fault = self._next("get", key)
        _before(fault, "get", key)
        try:
            body = self._store.get(key, span)
        finally:
            _after(fault, "get", key)
        if fault is Fault.TRUNCATED:
            raise StoreUnavailable(f"{len(body) // 2} of {len(body)} bytes arrived", where=key)
        return _garbled(body) if fault is Fault.GARBLED else body

    def put(
        self, key: Key, body: Body, *, if_absent: bool = False, if_match: ETag | None = None, retain_until: datetime | None = None
    ) -> ETag:
        """Write, unless planned otherwise."""

        def call() -> ETag:
            etag = self._store.put(key, body, if_absent=if_absent, if_match=if_match, retain_until=retain_until)
            self._written[key] = len(self.calls)
            return etag

        return self._meet("put", key, call)

    def head(self, key: Key) -> ObjectInfo:
        """Look, unless planned otherwise."""
        return self._meet("head", key, lambda: self._store.head(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List, unless planned otherwise."""
        fault = self._next("list", prefix)
        _before(fault, "list", prefix)
        yield from self._listed(prefix, fault)
        _after(fault, "list", prefix)

    def delete(self, key: Key, *, if_match: ETag | None = None) -> None:
        """Remove, unless planned otherwise."""

        def call() -> None:
            there = next((info for info in self._store.list(key) if info.key == key), None)
            self._store.delete(key, if_match=if_match)
            if there is not None:
                self._deleted[key] = (len(self.calls), there)

        self._meet("delete", key, call)

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
            fault = self._plan.get(len(self.calls))
            if fault is None or fault not in faults_of(method):
                return None
            self.met.append(fault)
            return fault

    def _listed(self, prefix: str, fault: Fault | None) -> Iterator[ObjectInfo]:
        """Yield a list as the fault has it."""
        if fault is Fault.LIST_EMPTY:
            return
        found = self._store.list(prefix)
        if fault is Fault.LIST_SHORT:
            whole = tuple(found)
            yield from islice(whole, len(whole) // 2)
        elif fault is Fault.LIST_DOUBLED:
            for info in found:
                yield from (info, info)
        elif fault is Fault.LIST_STALE:
            yield from self._stale(prefix, tuple(found))
        else:
            yield from found

    def _stale(self, prefix: str, found: Sequence[ObjectInfo]) -> Sequence[ObjectInfo]:
        since = len(self.calls) - STALE_CALLS
        old = [info for info in found if self._written.get(info.key, since) <= since]
        there = {info.key for info in found}
        back = [info for key, (when, info) in self._deleted.items() if when > since and key.startswith(prefix) and key not in there]
        return sorted([*old, *back], key=lambda info: info.key)


def _garbled(body: bytes) -> bytes:
    changed = bytearray(body)
    if changed:
        changed[len(changed) // 2] ^= 0x10
    return bytes(changed)


def _before(fault: Fault | None, method: str, key: Key) -> None:
    if fault is Fault.LOST_BEFORE:
        raise StoreUnavailable(f"{method} was lost before it arrived", where=key)
    if fault is Fault.THROTTLED:
        raise Throttled(f"{method} must wait", where=key)
    if fault is Fault.FULL:
        raise StoreFull("there is no room", where=key)
    if fault is Fault.CRASH_BEFORE:
        raise Crash(f"before {method} {key}")


def _after(fault: Fault | None, method: str, key: Key) -> None:
    if fault is Fault.LOST_AFTER:
        raise StoreUnavailable(f"the reply to {method} was lost", where=key)
    if fault is Fault.CRASH_AFTER:
        raise Crash(f"after {method} {key}")
