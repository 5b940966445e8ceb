"""Pins: a person's word that a recovery point stays, whatever retention says. One small object each, beside the repository."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from becalm.clock import format_time, parse_time
from becalm.errors import Damaged, NotFound
from becalm.repository.format import Layout, is_id, read_json

if TYPE_CHECKING:
    from datetime import datetime

    from becalm.storage.base import ObjectStore

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """Who pinned a point, when, for how long and why."""

    since: datetime
    who: str = ""
    note: str = ""
    until: datetime | None = None
    """When it ends; without it, never."""

    def holds(self, now: datetime) -> bool:
        """Whether the point stays now."""
        return self.until is None or now < self.until


def pin(store: ObjectStore, snapshot_id: str, *, now: datetime, note: str = "", who: str = "", until: datetime | None = None) -> None:
    """Pin a point, or change its pin."""
    document = {"format": FORMAT, "who": who, "note": note, "since": format_time(now), "until": format_time(until) if until else ""}
    store.put(Layout.pin(snapshot_id), orjson.dumps(document))


def unpin(store: ObjectStore, snapshot_id: str) -> None:
    """Leave a point to retention again; one that is not pinned is fine."""
    store.delete(Layout.pin(snapshot_id))


def pins(store: ObjectStore) -> dict[str, Pin]:
    """Return the pins by the id of their snapshot. One that cannot be read is an error: retention would take what it protects."""
    found: dict[str, Pin] = {}
    for info in store.list(Layout.PINS):
        snapshot_id = info.key.removeprefix(Layout.PINS)
        if not is_id(snapshot_id):
            continue
        try:
            found[snapshot_id] = _decode(store.get(info.key), where=f"{store.url}/{info.key}")
        except NotFound:  # taken away since it was listed
            continue
    return found


def _decode(document: bytes, *, where: str) -> Pin:
    found = read_json(document, where=where)
    remedy = "pin the point again, or remove this object"
    if found.get("format") != FORMAT:
        raise Damaged(f"the pin is of format {found.get('format')!r}, this version reads {FORMAT}", where=where, hint=remedy)
    try:
        until = found["until"]
        return Pin(
            since=parse_time(found["since"]), who=str(found["who"]), note=str(found["note"]), until=parse_time(until) if until else None
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged(f"the pin cannot be read: {error}", where=where, hint=remedy) from error
