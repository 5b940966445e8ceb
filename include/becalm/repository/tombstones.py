"""Tombstones: notes beside the packs that nothing referred to when they were last looked at.

A pack with a tombstone is never written into a new recovery point: a writer brings its blobs anew, and a commit that needs one is
refused. Whoever is about to delete a pack first replaces the very tombstone that it has read: if that succeeds, the pack stood
under its tombstone all the time, and nothing that was published meanwhile can refer to it. Nothing here decides or deletes a pack.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import orjson

from becalm.clock import format_time
from becalm.errors import PreconditionFailed
from becalm.repository.format import Layout, is_id

if TYPE_CHECKING:
    from datetime import datetime

    from becalm.storage.base import ETag, ObjectStore

FORMAT = 1


class State(StrEnum):
    """How far it has come with a pack."""

    MARKED = "marked"
    CONDEMNED = "condemned"
    """It is being deleted."""
    RESCUED = "rescued"
    """Something refers to it after all; the tombstone is about to go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """A tombstone as a list shows it."""

    pack: str
    etag: ETag
    since: datetime
    """When it was written or condemned, by the store's clock."""


def marked(store: ObjectStore) -> frozenset[str]:
    """Return the ids of all packs that have a tombstone: no writer may rely on one of them."""
    return frozenset(stone.pack for stone in listed(store))


def listed(store: ObjectStore) -> tuple[Tombstone, ...]:
    """Return all tombstones, in the order of their packs."""
    return tuple(
        Tombstone(pack=pack, etag=info.etag, since=info.modified)
        for info in store.list(Layout.TOMBSTONES)
        if is_id(pack := info.key.removeprefix(Layout.TOMBSTONES))
    )


def mark(store: ObjectStore, pack: str, *, reason: str, who: str) -> bool:
    """Write a tombstone where there is none; say whether there was none."""
    try:
        store.put(Layout.tombstone(pack), _document(store, pack, State.MARKED, reason=reason, who=who), if_absent=True)
    except PreconditionFailed:
        return False
    return True


def condemn(store: ObjectStore, stone: Tombstone, *, who: str) -> ETag | None:
    """Replace the tombstone that was read by the last word on its pack. Nothing where it is another one by now, or gone."""
    return _replace(store, stone, State.CONDEMNED, reason="it is being deleted", who=who)


def rescue(store: ObjectStore, stone: Tombstone, *, who: str) -> bool:
    """Take away the tombstone that was read: something refers to its pack. False where it is another one by now, or gone."""
    etag = _replace(store, stone, State.RESCUED, reason="something refers to it", who=who)
    return etag is not None and remove(store, stone.pack, etag)


def _replace(store: ObjectStore, stone: Tombstone, state: State, *, reason: str, who: str) -> ETag | None:
    """Write over the tombstone that was read: a conditional write decides between two; a conditional deletion does not everywhere."""
    try:
        return store.put(Layout.tombstone(stone.pack), _document(store, stone.pack, state, reason=reason, who=who), if_match=stone.etag)
    except PreconditionFailed:
        return None


def remove(store: ObjectStore, pack: str, etag: ETag) -> bool:
    """Take away the tombstone that was read. False where it is another one by now."""
    try:
        store.delete(Layout.tombstone(pack), if_match=etag)
    except PreconditionFailed:
        return False
    return True


def _document(store: ObjectStore, pack: str, state: State, *, reason: str, who: str) -> bytes:
    return orjson.dumps(
        {
            "format": FORMAT,
            "pack": pack,
            "state": state.value,
            "reason": reason,
            "who": who,
            "time": format_time(store.now()),
            "nonce": os.urandom(8).hex(),  # no two tombstones are alike: a condition tells one from the next
        }
    )
