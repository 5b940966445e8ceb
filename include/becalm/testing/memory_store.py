"""An object store in memory that keeps the port's contract: conditions, spans, order, retention, a clock and a size of its own.

It holds one version per key and nothing of what only a real bucket has: versions, delete markers, users.
"""

from __future__ import annotations

import hashlib
import threading
from bisect import bisect_left
from dataclasses import dataclass, replace
from datetime import UTC
from typing import TYPE_CHECKING

from becalm.clock import Clock, SystemClock, format_time
from becalm.errors import AccessDenied, Damaged, NotFound, PermanentError, PreconditionFailed, StoreFull, StoreReadOnly
from becalm.storage.base import Body, ETag, Key, ObjectInfo, Span
from becalm.storage.keys import checked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

URL = "memory://store"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    body: bytes
    info: ObjectInfo


class MemoryStore:
    """Objects in a dict behind one lock. Whoever shares the bucket shares the instance."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        url: str = URL,
        object_lock: bool = True,
        capacity_bytes: int | None = None,
        page_size: int = 1000,
    ) -> None:
        """Begin empty; `capacity_bytes` makes a store that can be full."""
        self._clock: Clock = clock or SystemClock()
        self._url = url
        self._object_lock = object_lock
        self._page_size = page_size
        self._lock = threading.Lock()
        self._held: dict[Key, _Held] = {}
        self.capacity_bytes = capacity_bytes

    @property
    def url(self) -> str:
        """Where this store is."""
        return self._url

    def get(self, key: Key, span: Span | None = None) -> bytes:
        """Return an object or a span of it."""
        body = self._find(key).body
        if span is None:
            return body
        if span.offset < 0 or span.length < 0 or span.offset + span.length > len(body):
            raise Damaged(f"{len(body)} bytes long, asked for {span.length} bytes from {span.offset}", where=self._place(key))
        return body[span.offset : span.offset + span.length]

    def put(
        self, key: Key, body: Body, *, if_absent: bool = False, if_match: ETag | None = None, retain_until: datetime | None = None
    ) -> ETag:
        """Write one object under its conditions."""
        content = bytes(body)
        if retain_until is not None:
            self._lockable(key, retain_until)
        with self._lock:
            before = self._held.get(checked(key))
            if if_absent and before:
                raise PreconditionFailed("the object is there already", where=self._place(key))
            if if_match is not None and (before is None or before.info.etag != if_match):
                raise PreconditionFailed("the object is not the one that was read", where=self._place(key))
            self._make_room(key, len(content) - (len(before.body) if before else 0))
            etag = ETag(hashlib.sha256(content).hexdigest()[:32])
            info = ObjectInfo(key=key, size=len(content), etag=etag, modified=self.now(), retain_until=retain_until)
            self._held[key] = _Held(body=content, info=info)
            return etag

    def head(self, key: Key) -> ObjectInfo:
        """Return what is known of an object."""
        return self._find(key).info

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield what begins with the prefix, page by page: what changes meanwhile may be seen or not."""
        after = ""
        while page := self._page(prefix, after):
            yield from page
            after = page[-1].key

    def delete(self, key: Key, *, if_match: ETag | None = None) -> None:
        """Remove an object unless it is locked or another one."""
        with self._lock:
            held = self._held.get(checked(key))
            if held is None:
                return
            if if_match is not None and held.info.etag != if_match:
                raise PreconditionFailed("the object is not the one that was read", where=self._place(key))
            until = held.info.retain_until
            if until is not None and until > self.now():
                raise AccessDenied(f"the object is locked until {format_time(until)}", where=self._place(key))
            del self._held[key]

    def retain(self, key: Key, until: datetime) -> None:
        """Lock an object, or lock it longer."""
        with self._lock:
            held = self._held.get(checked(key))
            if held is None:
                raise NotFound("no such object", where=self._place(key))
            if held.info.retain_until is not None and held.info.retain_until >= until:
                return
            self._lockable(key, until)
            self._held[key] = replace(held, info=replace(held.info, retain_until=until))

    def now(self) -> datetime:
        """Return the time by the clock this store was given."""
        return self._clock.now().astimezone(UTC)

    def keys(self) -> tuple[Key, ...]:
        """Return every key, for a test that looks."""
        with self._lock:
            return tuple(sorted(self._held))

    def copy(self, clock: Clock | None = None) -> MemoryStore:
        """Return a store of its own that holds the same, for a test that goes on in several ways from one state."""
        twin = MemoryStore(
            clock=clock or self._clock,
            url=self._url,
            object_lock=self._object_lock,
            capacity_bytes=self.capacity_bytes,
            page_size=self._page_size,
        )
        with self._lock:
            twin._held = dict(self._held)  # what is held is never changed, only replaced
        return twin

    def lose(self, key: Key) -> None:
        """Take an object away behind the port's back, locked or not."""
        with self._lock:
            self._held.pop(key, None)

    def tamper(self, key: Key, body: bytes) -> None:
        """Change stored bytes behind the port's back, as a failing disk or an intruder does; the etag stays."""
        with self._lock:
            self._held[key] = replace(self._held[key], body=body)

    def _page(self, prefix: str, after: Key) -> Sequence[ObjectInfo]:
        with self._lock:
            keys = sorted(key for key in self._held if key.startswith(prefix))
            begin = bisect_left(keys, after + "\0") if after else 0
            return [replace(self._held[key].info, retain_until=None) for key in keys[begin : begin + self._page_size]]

    def _find(self, key: Key) -> _Held:
        with self._lock:
            held = self._held.get(checked(key))
        if held is None:
            raise NotFound("no such object", where=self._place(key))
        return held

    def _lockable(self, key: Key, until: datetime) -> None:
        if not self._object_lock:
            raise StoreReadOnly(
                "no object lock here", where=self._place(key), hint="make the bucket with object lock, or remove target.lock"
            )
        if until <= self.now():
            raise PermanentError(f"a lock until {format_time(until)} ends in the past", where=self._place(key))

    def _make_room(self, key: Key, growth: int) -> None:
        if self.capacity_bytes is not None and sum(len(held.body) for held in self._held.values()) + growth > self.capacity_bytes:
            raise StoreFull("the store is full", where=self._place(key), hint="make room, or raise its quota")

    def _place(self, key: Key) -> str:
        return f"{self._url}/{key}"
