"""The notes of freezes: what a run may have frozen, written into the bucket before it freezes, and removed by the confirmed thaw.

So a freeze is known even where everything that knew of it has died. A note names places and dead-man switches, never a command:
how to thaw is what the policy and the pods say. It does not thaw.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import orjson

from becalm.errors import BecalmError, NotFound, PermanentError, PreconditionFailed
from becalm.model import from_payload, payload
from becalm.repository.format import Layout, read_json
from becalm.storage.base import Key  # noqa: TC001  (pydantic resolves the annotations at run time)

if TYPE_CHECKING:
    from becalm.storage.base import ObjectStore

ATTEMPTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One container that may be frozen."""

    hook: str
    """The hook's name."""
    namespace: str
    pod: str
    uid: str
    container: str
    switch: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What one run may have frozen of one application."""

    run: str
    application: str
    seconds: float
    """How long after it was written a freeze may be at work."""
    held: tuple[Held, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A note as it stands in the bucket."""

    key: Key
    written: datetime
    """By the store's clock."""
    note: Note

    @property
    def until(self) -> datetime:
        """When the last of its freezes is over, unless something has failed."""
        return self.written + timedelta(seconds=self.note.seconds)


def write(note: Note, store: ObjectStore) -> None:
    """Note what is about to be frozen. What an earlier try of the same run noted stays noted. Raises what the store raises."""
    key = Layout.freeze(note.run, note.application)
    for _ in range(ATTEMPTS):
        try:
            store.put(key, _encode(note), if_absent=True)
        except PreconditionFailed:
            with suppress(NotFound, PreconditionFailed):
                etag = store.head(key).etag
                earlier = [item for item in read(key, store).held if item not in note.held]
                store.put(key, _encode(replace(note, held=(*earlier, *note.held))), if_match=etag)
                return
        else:
            return
    raise PermanentError("the note of a freeze changes faster than it can be written", where=f"{store.url}/{key}")


def read(key: Key, store: ObjectStore) -> Note:
    """Read a note. Raises: NotFound, Damaged, PermanentError (of another version)."""
    where = f"{store.url}/{key}"
    return from_payload(Note, read_json(store.get(key), where=where))


def find(store: ObjectStore, *, run: str = "") -> list[Found]:
    """Return the notes of one run, or of all. Raises: Damaged, and what the store raises."""
    found: list[Found] = []
    for item in store.list(f"{Layout.FREEZES}{run}/" if run else Layout.FREEZES):
        with suppress(NotFound):
            found.append(Found(key=item.key, written=item.modified, note=read(item.key, store)))
    return found


def forget(run: str, application: str, store: ObjectStore) -> None:
    """Remove a note: all of it is thawed. A store that does not let it go keeps it, and a later thaw does no harm."""
    if run:
        with suppress(BecalmError):
            store.delete(Layout.freeze(run, application))


def _encode(note: Note) -> bytes:
    return orjson.dumps(payload(note))
