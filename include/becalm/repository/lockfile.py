"""The document of a lock as restic writes it, and the locks that stand in a repository. Nothing here takes or removes one."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import orjson

from becalm.clock import format_time, parse_time
from becalm.errors import Damaged, NotFound
from becalm.repository.format import Layout, is_id, read_json

if TYPE_CHECKING:
    from becalm.repository.reader import Repository
    from becalm.storage.base import Key

RUNS = "becalm"
"""The hostname in a lock of a run: the lease says whether the run lives."""

READERS = "becalm-reader"
"""The hostname in a lock of Becalm that rests on no lease."""

STALE = timedelta(minutes=30)
"""A lock that was not refreshed for so long counts as dead: restic's own limit."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LARGEST = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class LockDoc:
    """What a lock says of its owner."""

    time: datetime
    exclusive: bool
    hostname: str
    username: str
    pid: int
    uid: int = 0
    gid: int = 0

    @classmethod
    def ours(cls, who: str, *, exclusive: bool, leased: bool = True) -> LockDoc:
        """Make the lock of this process."""
        return cls(
            time=_EPOCH,
            exclusive=exclusive,
            hostname=RUNS if leased else READERS,
            username=who,
            pid=os.getpid(),
            uid=os.getuid(),
            gid=os.getgid(),
        )

    @property
    def leased(self) -> bool:
        """Whether it is the lock of a run that holds, or held, the lease."""
        return self.hostname == RUNS

    def at(self, moment: datetime) -> LockDoc:
        """Return it as of a moment."""
        return replace(self, time=moment)

    def encode(self) -> bytes:
        """Write it as restic does: ids of zero left out."""
        document: dict[str, object] = {
            "time": format_time(self.time),
            "exclusive": self.exclusive,
            "hostname": self.hostname,
            "username": self.username,
            "pid": self.pid,
        }
        document |= {name: value for name, value in (("uid", self.uid), ("gid", self.gid)) if value}
        return orjson.dumps(document)

    @classmethod
    def decode(cls, document: bytes, *, where: str) -> LockDoc:
        """Read it. Raises Damaged."""
        found = read_json(document, where=where)
        try:
            return cls(
                time=parse_time(found["time"]),
                exclusive=found["exclusive"] is True,
                hostname=str(found.get("hostname", "")),
                username=str(found.get("username", "")),
                pid=int(found.get("pid", 0)),
                uid=int(found.get("uid", 0)),
                gid=int(found.get("gid", 0)),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise Damaged(f"the lock cannot be read: {error}", where=where) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A lock that stands in the repository. One that cannot be read has no document, and counts as exclusive."""

    id: str
    written: datetime
    """When it was last refreshed, by the store's clock."""
    doc: LockDoc | None

    @property
    def key(self) -> Key:
        """Its object."""
        return Layout.lock(self.id)

    @property
    def exclusive(self) -> bool:
        """Whether nothing may be written beside it."""
        return self.doc is None or self.doc.exclusive

    @property
    def becalm(self) -> bool:
        """Whether Becalm wrote it."""
        return self.doc is not None and self.doc.hostname in {RUNS, READERS}

    @property
    def leased(self) -> bool:
        """Whether the lease says if its owner lives."""
        return self.doc is not None and self.doc.leased

    def of_run(self, run: str) -> bool:
        """Say whether it is a lock of this run."""
        return self.doc is not None and self.doc.leased and self.doc.username == run

    def age(self, now: datetime) -> timedelta:
        """Return the time since its last refresh. Both times are the store's."""
        return now - self.written

    def live(self, now: datetime) -> bool:
        """Say whether its owner may be at work. A lock from far in the future tells of a clock that has jumped, not of an owner."""
        return abs(self.age(now)) <= STALE

    def describe(self, now: datetime) -> str:
        """Say whose it is, and since when, for an error."""
        minutes = max(0.0, self.age(now).total_seconds() / 60)
        if self.doc is None:
            return f"there is a lock that cannot be read, written {minutes:.0f} minutes ago"
        kind = "exclusively " if self.doc.exclusive else ""
        return (
            f"the repository is locked {kind}by {self.doc.username or 'somebody'} on {self.doc.hostname or 'an unnamed host'} "
            f"(process {self.doc.pid}), refreshed {minutes:.0f} minutes ago"
        )


def standing(repository: Repository) -> list[Standing]:
    """Return the locks that stand. What goes meanwhile is left out, and empty objects, as restic does."""
    found = []
    for info in repository.store.list(Layout.LOCKS):
        lock_id = info.key.removeprefix(Layout.LOCKS)
        if not is_id(lock_id) or info.size == 0:
            continue
        doc: LockDoc | None
        try:
            doc = LockDoc.decode(repository.load_document(info.key), where=repository.where(info.key)) if info.size <= _LARGEST else None
        except NotFound:
            continue
        except Damaged:
            doc = None
        found.append(Standing(id=lock_id, written=info.modified, doc=doc))
    return found
