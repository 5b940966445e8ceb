"""The port to a bucket. It knows nothing of packs, points or policies.

A key is a relative path of segments between slashes: no empty segment, no `.` or `..`, no leading slash. No key is at the
same time a prefix of another (`a` and `a/b`): some stores are folders.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NewType, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

Key: TypeAlias = str
ETag = NewType("ETag", str)
"""What a store says of one version of an object; only good for comparing."""

Body: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """What a store knows of one object."""

    key: Key
    size: int
    etag: ETag
    modified: datetime
    retain_until: datetime | None = None
    """Until when the store refuses its deletion. `head` says it; `list` does not know it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A range of bytes: `length` bytes from `offset`."""

    offset: int
    length: int


class ObjectStore(Protocol):
    """Objects under keys: the only way to the bucket. Safe to call from several threads.

    Every method may raise StoreUnavailable or Throttled (transient), AccessDenied, BucketMissing. `testing.contracts.store`
    holds the suite that every store passes.
    """

    @property
    def url(self) -> str:
        """Where this store is, without credentials, for people and for errors."""

    def get(self, key: Key, span: Span | None = None) -> bytes:
        """Return an object, or the span of it; fewer bytes than asked for is an error, never an answer. Raises: NotFound."""

    def put(
        self, key: Key, body: Body, *, if_absent: bool = False, if_match: ETag | None = None, retain_until: datetime | None = None
    ) -> ETag:
        """Write one object, whole or not at all; the store has checked the bytes against a checksum.

        A caller that repeats a put after a lost reply may meet its own object, and compares digests.
        Raises: PreconditionFailed (it is there; it is not the one named), StoreFull, StoreReadOnly.
        """

    def head(self, key: Key) -> ObjectInfo:
        """Return what the store knows of an object. Raises: NotFound."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object whose key begins with the prefix, in the order of the keys, page by page.

        A page that cannot be read raises: the end of the iteration means that this was all.
        """

    def delete(self, key: Key, *, if_match: ETag | None = None) -> None:
        """Remove an object; one that is not there is fine. Raises: PreconditionFailed, AccessDenied (it is locked)."""

    def retain(self, key: Key, until: datetime) -> None:
        """Refuse deletion until then, or longer where it is locked longer already. Raises: NotFound, StoreReadOnly (no object lock here)."""

    def now(self) -> datetime:
        """Return the time by the store's own clock."""


@runtime_checkable
class Folders(Protocol):
    """A store that tells its first segments without going through all that is below them."""

    def folders(self) -> Iterator[str]:
        """Yield the first segment of every key that has more than one, in order, once each. Raises what `list` raises."""


@runtime_checkable
class LockBreaker(Protocol):
    """A store that can be asked whether its object lock holds."""

    def breaks_lock(self, key: Key) -> bool:
        """Try to delete a locked object by the server's word alone, and say whether it went. Only for an object that may go."""
