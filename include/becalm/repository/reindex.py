"""Index objects without the packs that go: the new ones are written first, and only then are the old ones deleted.

Between the two a blob is named twice, which harms nobody; never is one named nowhere. Nothing here decides which packs go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from becalm.errors import AccessDenied, Conflict, NotFound, PreconditionFailed
from becalm.repository.format import IndexDoc, Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from datetime import datetime

    from becalm.repository.reader import Repository
    from becalm.storage.base import ETag, Key

_BLOBS_PER_INDEX = 40_000


def locked(repository: Repository, key: Key) -> datetime | None:
    """Return until when the store refuses to delete an object; nothing where it does not, or where the object is gone."""
    store = repository.store
    try:
        until = store.head(key).retain_until
    except NotFound:
        return None
    return until if until is not None and until > store.now() else None


def replace(
    repository: Repository,
    keys: Collection[Key],
    etags: Mapping[Key, ETag],
    *,
    without: Collection[str],
    alive: Callable[[], object],
    alone: Callable[[], object],
) -> tuple[list[Key], list[Key]]:
    """Write what these index objects say of all other packs, then delete them.

    Return those that were written, and those that stay: locked since they were looked at, or not the ones that were read.
    `alive` is asked right before each write and each deletion, `alone` once in between: where it raises, what was written is taken back. Raises what it raises, what the store raises, Damaged, and Conflict: one of
    them is gone, so somebody else is at work.
    """
    written: list[Key] = []
    stay: list[Key] = []
    for packs in _bundles(_kept(repository, keys, frozenset(without))):
        alive()
        written.append(f"{Layout.INDEX}{repository.save_document(Layout.INDEX, orjson.dumps({'packs': packs}))}")
    try:
        alone()
    except Conflict:
        for key in written:
            repository.store.delete(key)
        raise
    for key in keys:
        alive()
        try:
            repository.store.delete(key, if_match=etags[key])
        except (AccessDenied, PreconditionFailed):
            stay.append(key)
    return written, stay


def _kept(repository: Repository, keys: Iterable[Key], without: frozenset[str]) -> Iterator[dict[str, Any]]:
    """Yield what is said of each pack that stays, once where two say the same."""
    counts: dict[str, int] = {}
    for key in keys:
        try:
            document = repository.load_index(key)
        except NotFound as error:  # its successor may name what this prune is about to delete
            raise Conflict(
                "an index object went while it was being replaced: somebody else prunes", where=repository.where(key), hint="prune again"
            ) from error
        for slab in IndexDoc.pack_slabs(document, where=repository.where(key)):
            for pack, blobs in slab:
                if pack not in without and counts.get(pack) != len(blobs):
                    counts[pack] = len(blobs)
                    yield {"id": pack, "blobs": blobs}


def _bundles(packs: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    bundle: list[dict[str, Any]] = []
    blobs = 0
    for pack in packs:
        bundle.append(pack)
        blobs += len(pack["blobs"])
        if blobs >= _BLOBS_PER_INDEX:
            yield bundle
            bundle, blobs = [], 0
    if bundle:
        yield bundle
