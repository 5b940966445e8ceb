"""Damaged index objects in whose place others stand: `repair` writes what they said anew, and a note, and deletes nothing.

A note is trusted only for an object that cannot be read: one that can be read is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from becalm.clock import format_time
from becalm.errors import PreconditionFailed
from becalm.repository.format import Layout, is_id

if TYPE_CHECKING:
    from becalm.storage.base import ObjectStore

FORMAT = 1


def superseded(store: ObjectStore) -> frozenset[str]:
    """Return the ids of the index objects that have a note."""
    names = (info.key.removeprefix(Layout.SUPERSEDED) for info in store.list(Layout.SUPERSEDED))
    return frozenset(name for name in names if is_id(name))


def supersede(store: ObjectStore, index_id: str, *, who: str) -> None:
    """Write the note. The index objects that stand in the place of this one must be there already."""
    document = orjson.dumps({"format": FORMAT, "index": index_id, "who": who, "time": format_time(store.now())})
    try:
        store.put(Layout.superseded(index_id), document, if_absent=True)
    except PreconditionFailed:
        return
