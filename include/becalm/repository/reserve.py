"""The reserve: an object that holds nothing and takes some room, so that a full bucket can still be emptied.

Deleting needs to write first: tombstones, index objects, the lease. Where a store is full the reserve goes, and is put back after.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from becalm.errors import NotFound, StoreFull
from becalm.repository.format import Layout

if TYPE_CHECKING:
    from becalm.storage.base import ObjectStore

LARGEST_BYTES = 8 << 20
"""Enough for two index objects and some thousand tombstones: space is freed batch by batch."""
SMALLEST_BYTES = 64 << 10
_SHARE = 128


def wanted_bytes(total_bytes: int) -> int:
    """Return how large the reserve of a repository should be: less than a hundredth of it."""
    return max(SMALLEST_BYTES, min(LARGEST_BYTES, total_bytes // _SHARE))


def keep(store: ObjectStore, *, total_bytes: int) -> bool:
    """See to it that there is a reserve. False where there is no room for it."""
    wanted = wanted_bytes(total_bytes)
    with suppress(NotFound):
        if store.head(Layout.RESERVE).size * 2 >= wanted:
            return True
    try:
        store.put(Layout.RESERVE, os.urandom(wanted))  # random: some stores compress
    except StoreFull:
        return False
    return True


def spend(store: ObjectStore) -> bool:
    """Give the reserve up. False where there is none."""
    try:
        store.head(Layout.RESERVE)
    except NotFound:
        return False
    store.delete(Layout.RESERVE)
    return True
