"""What stands in a directory, as JSON gives it, a slab at a time: a directory may have a million entries.

The blob is checked whole before the first entry is handed out. Only what is compressed of a large directory stands in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from becalm.errors import Damaged, NotFound
from becalm.repository.crypto import OVERHEAD
from becalm.repository.format import BlobId, BlobKind, Layout
from becalm.repository.opening import LARGE, Opening, check_large, plain_parts
from becalm.repository.scan import TREE, parts_of, slabs
from becalm.storage.base import Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from becalm.repository.crypto import Buffer
    from becalm.repository.index import Location
    from becalm.repository.reader import Repository


def listing(repository: Repository, tree_id: BlobId) -> Iterator[list[dict[str, Any]]]:
    """Yield the entries of a directory, some at a time, in their order. Raises: Damaged."""
    large = large_listing(repository, tree_id)
    return slabs_of(repository.blob(BlobKind.TREE, tree_id), where=_name(repository, tree_id)) if large is None else large


def large_listing(repository: Repository, tree_id: BlobId) -> Iterator[list[dict[str, Any]]] | None:
    """Return the same of a directory that is too large to be held; nothing for any other. Raises: Damaged."""
    place = repository.locate(BlobKind.TREE, tree_id)
    if (place.blob.uncompressed_length or place.blob.length - OVERHEAD) <= LARGE:
        return None
    return _slabs(_large(repository, place), where=_name(repository, tree_id))


def slabs_of(document: Buffer, *, where: str = "") -> Iterator[list[dict[str, Any]]]:
    """Yield the entries of a directory whose JSON is in memory, some at a time. Raises: Damaged."""
    return _slabs(parts_of(document), where=where)


def iter_nodes(document: Buffer, *, where: str = "") -> Iterator[dict[str, Any]]:
    """Yield the entries of a directory whose JSON is in memory, one by one. Raises: Damaged."""
    for entries in slabs_of(document, where=where):
        yield from entries


def _name(repository: Repository, tree_id: BlobId) -> str:
    return f"{repository.store.url}: tree {tree_id}"


def _slabs(parts: Iterable[Buffer], *, where: str) -> Iterator[list[dict[str, Any]]]:
    try:
        yield from slabs(parts, TREE)
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"the tree cannot be read: {error}", where=where, hint="run a check of the repository") from error


def _large(repository: Repository, place: Location) -> Iterator[Buffer]:
    """Yield the plain text of a large tree in parts, once all of it has been checked. Raises: Damaged."""
    blob, where = place.blob, repository.where(Layout.pack(place.pack))
    try:
        sealed = repository.store.get(Layout.pack(place.pack), Span(offset=blob.offset, length=blob.length))
    except NotFound as error:
        raise Damaged(f"the pack of the tree blob {blob.id} is gone", where=where) from error
    if len(sealed) != blob.length:
        raise Damaged(f"the blob {blob.id} has {len(sealed)} bytes, the index says {blob.length}", where=where)
    inner = Opening(repository.key, sealed, where=where)
    check_large(inner, blob.uncompressed_length, blob.id, where=where)
    yield from plain_parts(inner, blob.uncompressed_length, where=where)
