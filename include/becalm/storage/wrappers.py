"""One concern each around any store, with the same port: a prefix, patience, no writing, counting. They compose."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from becalm.errors import AccessDenied, NotFound, PreconditionFailed, StoreReadOnly, StoreUnavailable, Throttled
from becalm.storage.base import Folders, LockBreaker
from becalm.storage.keys import checked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from becalm.clock import Clock
    from becalm.storage.base import Body, ETag, Key, ObjectInfo, ObjectStore, Span

T = TypeVar("T")

_LONGEST_ASKED_SECONDS = 120.0
"""A server that asks for more patience than this is asked again sooner."""


class Wrapper:
    """A store that hands every call on; the others change what they are about."""

    def __init__(self, store: ObjectStore) -> None:
        """Stand around a store."""
        self._store = store

    @property
    def url(self) -> str:
        """Where the inner store is."""
        return self._store.url

    def get(self, key: Key, span: Span | None = None) -> bytes:
        """Hand on."""
        return self._store.get(key, span)

    def put(
        self, key: Key, body: Body, *, if_absent: bool = False, if_match: ETag | None = None, retain_until: datetime | None = None
    ) -> ETag:
        """Hand on."""
        return self._store.put(key, body, if_absent=if_absent, if_match=if_match, retain_until=retain_until)

    def head(self, key: Key) -> ObjectInfo:
        """Hand on."""
        return self._store.head(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Hand on."""
        return self._store.list(prefix)

    def delete(self, key: Key, *, if_match: ETag | None = None) -> None:
        """Hand on."""
        self._store.delete(key, if_match=if_match)

    def retain(self, key: Key, until: datetime) -> None:
        """Hand on."""
        self._store.retain(key, until)

    def now(self) -> datetime:
        """Hand on."""
        return self._store.now()

    def folders(self) -> Iterator[str]:
        """Hand on. A store that cannot tell them is gone through."""
        if isinstance(self._store, Folders):
            return self._store.folders()
        return iter(dict.fromkeys(info.key.partition("/")[0] for info in self._store.list("") if "/" in info.key))

    def breaks_lock(self, key: Key) -> bool:
        """Hand on. A store that cannot be asked says the same by its refusal to delete."""
        if isinstance(self._store, LockBreaker):
            return self._store.breaks_lock(key)
        try:
            self._store.delete(key)
        except AccessDenied:
            return False
        return True


class Prefixed(Wrapper):
    """The part of a store below a prefix: a policy's part of a target."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        """Name the prefix, without a slash at its end."""
        super().__init__(store)
        self._prefix = f"{checked(prefix)}/"

    @property
    def url(self) -> str:
        """The inner store's place and the prefix."""
        return f"{self._store.url}/{self._prefix.rstrip('/')}"

    def get(self, key: Key, span: Span | None = None) -> bytes:
        """Return an object below the prefix."""
        return self._store.get(self._inner(key), span)

    def put(
        self, key: Key, body: Body, *, if_absent: bool = False, if_match: ETag | None = None, retain_until: datetime | None = None
    ) -> ETag:
        """Write an object below the prefix."""
        return self._store.put(self._inner(key), body, if_absent=if_absent, if_match=if_match, retain_until=retain_until)

    def head(self, key: Key) -> ObjectInfo:
        """Return what is known of an object below the prefix."""
        return self._outer(self._store.head(self._inner(key)))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield what lies below the prefix."""
        return (self._outer(info) for info in self._store.list(self._prefix + prefix))

    def delete(self, key: Key, *, if_match: ETag | None = None) -> None:
        """Remove an object below the prefix."""
        self._store.delete(self._inner(key), if_match=if_match)

    def retain(self, key: Key, until: datetime) -> None:
        """Lock an object below the prefix."""
        self._store.retain(self._inner(key), until)

    def breaks_lock(self, key: Key) -> bool:
        """Try it on an object below the prefix."""
        return super().breaks_lock(self._inner(key))

    def _inner(self, key: Key) -> Key:
        return self._prefix + checked(key)

    def _outer(self, info: ObjectInfo) -> ObjectInfo:
        return replace(info, key=info.key.removeprefix(self._prefix))


class ReadOnly(Wrapper):
    """A store that cannot be changed through this door."""

    def put(
        self, key: Key, body: Body, *, if_absent: bool = False, if_match: ETag | None = None, retain_until: datetime | None = None
    ) -> ETag:
        """Refuse."""
        del body, if_absent, if_match, retain_until
        raise self._refusal(key)

    def delete(self, key: Key, *, if_match: ETag | None = None) -> None:
        """Refuse."""
        del if_match
        raise self._refusal(key)

    def retain(self, key: Key, until: datetime) -> None:
        """Refuse."""
        del until
        raise self._refusal(key)

    def breaks_lock(self, key: Key) -> bool:
        """Refuse."""
        raise self._refusal(key)

    def _refusal(self, key: Key) -> StoreReadOnly:
        return StoreReadOnly("the store was opened for reading", where=f"{self.url}/{key}")


class Counting(Wrapper):
    """A store that counts: `calls` by method, `bytes_read`, `bytes_written`."""

    def __init__(self, store: ObjectStore) -> None:
        """Begin at nothing."""
        super().__init__(store)
        self._lock = threading.Lock()
        self.calls: Counter[str] = Counter()
        self.bytes_read = 0
        self.bytes_written = 0

    def get(self, key: Key, span: Span | None = None) -> bytes:
        """Count the call and what came."""
        body = super().get(key, span)
        self._count("get", read=len(body))
        return body

    def put(
        self, key: Key, body: Body, *, if_absent: bool = False, if_match: ETag | None = None, retain_until: datetime | None = None
    ) -> ETag:
        """Count the call and what was stored."""
        etag = super().put(key, body, if_absent=if_absent, if_match=if_match, retain_until=retain_until)
        self._count("put", written=memoryview(body).nbytes)
        return etag

    def head(self, key: Key) -> ObjectInfo:
        """Count the call."""
        self._count("head")
        return super().head(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Count the call."""
        self._count("list")
        return super().list(prefix)

    def delete(self, key: Key, *, if_match: ETag | None = None) -> None:
        """Count the call."""
        self._count("delete")
        super().delete(key, if_match=if_match)

    def retain(self, key: Key, until: datetime) -> None:
        """Count the call."""
        self._count("retain")
        super().retain(key, until)

    def _count(self, method: str, *, read: int = 0, written: int = 0) -> None:
        with self._lock:
            self.calls[method] += 1
            self.bytes_read += read
            self.bytes_written += written


class Retrying(Wrapper):
    """A store that tries again what may go better: StoreUnavailable and Throttled, nothing else.

    The waits double, each with a random part, so that many movers do not come back at once; where the server said how long to
    wait, that is waited at least, within reason. A server that throttles is alive: it is borne with for a time of its own.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        clock: Clock,
        attempts: int = 5,
        first_delay_seconds: float = 0.25,
        longest_delay_seconds: float = 15.0,
        throttled_seconds: float = 0.0,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Say how often and how long; `jitter` gives a number from 0 to 1. Throttling is borne with for so long, however often it comes."""
        super().__init__(store)
        self._clock = clock
        self._attempts = attempts
        self._first_delay_seconds = first_delay_seconds
        self._longest_delay_seconds = longest_delay_seconds
        self._throttled_seconds = throttled_seconds
        self._jitter = jitter

    def get(self, key: Key, span: Span | None = None) -> bytes:
        """Try again."""
        return self._try(lambda _: self._store.get(key, span))

    def put(
        self, key: Key, body: Body, *, if_absent: bool = False, if_match: ETag | None = None, retain_until: datetime | None = None
    ) -> ETag:
        """Try again. A repeated conditional put may meet its own object, whose reply was lost: then it has succeeded."""

        def attempt(number: int) -> ETag:
            try:
                return self._store.put(key, body, if_absent=if_absent, if_match=if_match, retain_until=retain_until)
            except PreconditionFailed:
                own = self._own(key, body) if number > 1 else None
                if own is None:
                    raise
                return own

        return self._try(attempt)

    def head(self, key: Key) -> ObjectInfo:
        """Try again."""
        return self._try(lambda _: self._store.head(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Try again from the start and pass over what was yielded already: the order of the keys makes that safe."""
        last = ""
        failures = 0
        began = 0.0
        while True:
            try:
                for info in self._store.list(prefix):
                    if info.key > last:
                        failures = 0
                        last = info.key
                        yield info
            except (StoreUnavailable, Throttled) as error:
                failures += 1
                began = began if failures > 1 else self._clock.monotonic()
                self._wait(failures, error, began)
            else:
                return

    def folders(self) -> Iterator[str]:
        """Try again from the start."""
        return iter(self._try(lambda _: list(super(Retrying, self).folders())))

    def delete(self, key: Key, *, if_match: ETag | None = None) -> None:
        """Try again; what is gone by then is fine."""
        self._try(lambda _: self._store.delete(key, if_match=if_match))

    def retain(self, key: Key, until: datetime) -> None:
        """Try again; a lock of that length is fine."""
        self._try(lambda _: self._store.retain(key, until))

    def now(self) -> datetime:
        """Try again."""
        return self._try(lambda _: self._store.now())

    def _try(self, attempt: Callable[[int], T]) -> T:
        number = 0
        began = 0.0
        while True:
            number += 1
            try:
                return attempt(number)
            except (StoreUnavailable, Throttled) as error:
                began = began if number > 1 else self._clock.monotonic()
                self._wait(number, error, began)

    def _wait(self, failures: int, error: StoreUnavailable | Throttled, began: float) -> None:
        """Wait before the next attempt, or raise the error when there is none left."""
        since = self._clock.monotonic() - began
        patient = isinstance(error, Throttled) and since < self._throttled_seconds
        if failures >= self._attempts and not patient:
            if isinstance(error, Throttled) and self._throttled_seconds:
                raise Throttled(
                    f"{error.message}, and has done so for {since:.0f} s",
                    where=error.where,
                    hint="let fewer movers work at once, or ask the owner of the bucket for a higher rate; then try again",
                    delay_seconds=error.delay_seconds,
                ) from error
            raise error
        longest = min(self._longest_delay_seconds, self._first_delay_seconds * 2 ** min(failures - 1, 30))
        asked = min(error.delay_seconds or 0.0, _LONGEST_ASKED_SECONDS)
        self._clock.sleep(max(asked, longest * (0.5 + 0.5 * self._jitter())))

    def _own(self, key: Key, body: Body) -> ETag | None:
        """Return the etag of the object under the key if it holds these bytes."""
        try:
            found = self._store.head(key)
            if found.size != memoryview(body).nbytes or self._store.get(key) != body:
                return None
        except NotFound:
            return None
        return found.etag
