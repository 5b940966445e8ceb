"""Since when a policy owes what: the schedules that it has had, each with its beginning, in one small object of the bucket.

A slot is owed by the schedule that held at its time. Before the first epoch nothing is owed: a policy created today owes nothing
for yesterday. Who first sees a new schedule (a run, or the watch over the objectives) writes it down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from becalm.clock import format_time, parse_time
from becalm.errors import Conflict, Damaged, NotFound, PreconditionFailed
from becalm.repository.format import Layout, read_json

if TYPE_CHECKING:
    from datetime import datetime

    from becalm.storage.base import ETag, ObjectStore

FORMAT = 1
MOST_EPOCHS = 200
"""The oldest go: nobody asks for slots of so long ago."""
_ATTEMPTS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """A time in which a policy had one schedule."""

    since: datetime
    schedule: str | None
    """None: by hand only."""
    timezone: str = "UTC"


def epochs(store: ObjectStore) -> tuple[Epoch, ...]:
    """Return the epochs, oldest first; none where nobody has written any. Raises: Damaged."""
    return _read(store)[0]


def note(store: ObjectStore, *, schedule: str | None, timezone: str, now: datetime) -> tuple[Epoch, ...]:
    """Write down that the policy has this schedule now, if it is another one than before; return all epochs.

    Raises: Conflict, Damaged, and what the store raises.
    """
    for _ in range(_ATTEMPTS):
        found, etag = _read(store)
        if found and (found[-1].schedule, found[-1].timezone) == (schedule, timezone):
            return found
        since = max(now, found[-1].since) if found else now
        new = (*found, Epoch(since=since, schedule=schedule, timezone=timezone))[-MOST_EPOCHS:]
        try:
            store.put(Layout.SCHEDULE, _encode(new), if_absent=etag is None, if_match=etag)
        except PreconditionFailed:
            continue
        return new
    raise Conflict("others wrote down the schedule again and again", where=f"{store.url}/{Layout.SCHEDULE}", hint="try again")


def _read(store: ObjectStore) -> tuple[tuple[Epoch, ...], ETag | None]:
    where = f"{store.url}/{Layout.SCHEDULE}"
    try:
        etag = store.head(Layout.SCHEDULE).etag
        document = read_json(store.get(Layout.SCHEDULE), where=where)
    except NotFound:
        return (), None
    if document.get("format") != FORMAT:
        raise Damaged(f"it is of format {document.get('format')!r}, this version reads {FORMAT}", where=where, hint="use a newer Becalm")
    try:
        found = tuple(
            Epoch(
                since=parse_time(item["since"]),
                schedule=str(item["schedule"]) if item["schedule"] is not None else None,
                timezone=str(item["timezone"]),
            )
            for item in document["epochs"]
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged(
            f"the schedules cannot be read: {error}", where=where, hint="remove the object: what is owed then begins with the oldest point"
        ) from error
    return found, etag


def _encode(found: tuple[Epoch, ...]) -> bytes:
    said = [{"since": format_time(one.since), "schedule": one.schedule, "timezone": one.timezone} for one in found]
    return orjson.dumps({"format": FORMAT, "epochs": said})
