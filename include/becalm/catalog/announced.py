"""Which troubles of a policy were announced and have not ended, and to whom: one small object in the bucket.

It lets one event be one message, whatever worker looks next. What a trouble is, and when it ends, is not decided here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from becalm.clock import format_time, parse_time
from becalm.errors import Damaged, NotFound, PreconditionFailed
from becalm.repository.format import Layout, read_json

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from becalm.storage.base import ETag, ObjectStore

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """One trouble that lasts."""

    kind: str
    since: datetime
    told: tuple[str, ...] = ()
    """The connections that the message went to."""
    text: str = ""
    """What was said, in one line."""


def load(store: ObjectStore) -> tuple[tuple[Announced, ...], ETag | None]:
    """Return what was announced, and what `save` needs. What cannot be read counts as nothing: rather a message twice than none."""
    try:
        etag = store.head(Layout.ANNOUNCED).etag
        return decode(store.get(Layout.ANNOUNCED), where=f"{store.url}/{Layout.ANNOUNCED}"), etag
    except NotFound:
        return (), None
    except Damaged:
        return (), etag


def save(store: ObjectStore, found: Iterable[Announced], etag: ETag | None) -> bool:
    """Write what was announced; say whether it was written, or somebody else wrote meanwhile."""
    try:
        store.put(Layout.ANNOUNCED, encode(found), if_absent=etag is None, if_match=etag)
    except PreconditionFailed:
        return False
    return True


def encode(found: Iterable[Announced]) -> bytes:
    """Return what was announced as one JSON document."""
    said = [{"kind": one.kind, "since": format_time(one.since), "told": list(one.told), "text": one.text} for one in found]
    return orjson.dumps({"format": FORMAT, "troubles": said})


def decode(document: bytes, *, where: str) -> tuple[Announced, ...]:
    """Read it back. Raises: Damaged."""
    found = read_json(document, where=where)
    if found.get("format") != FORMAT:
        raise Damaged(f"it is of format {found.get('format')!r}, this version reads {FORMAT}", where=where, hint="use a newer Becalm")
    try:
        return tuple(_announced(item) for item in found["troubles"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged(f"what was announced cannot be read: {error}", where=where) from error


def _announced(said: dict[str, Any]) -> Announced:
    return Announced(
        kind=str(said["kind"]), since=parse_time(said["since"]), told=tuple(map(str, said["told"])), text=str(said.get("text", ""))
    )
