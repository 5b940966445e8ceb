"""What stands in a directory, as JSON gives it, a slab at a time: a directory may have a million entries.

The blob is checked whole before the first entry is handed out. Only what is compressed of a large directory stands in memory.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import IO, TYPE_CHECKING, Any, cast

import zstandard

from becalm.errors import Damaged, NotFound
from becalm.repository.crypto import MAC, NONCE, OVERHEAD
from becalm.repository.format import BlobId, BlobKind, Layout
from becalm.repository.pack import LARGEST_BLOB
from becalm.repository.scan import SLAB, TREE, parts_of, slabs
from becalm.storage.base import Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from becalm.repository.crypto import Buffer, MasterKey
    from becalm.repository.index import Location
    from becalm.repository.reader import Repository

_BLOCK = 16
"""Bytes of the cipher's block."""

LARGE = 8 << 20
"""A tree of more bytes than these, some twenty thousand entries, is not held as plain text."""


def listing(repository: Repository, tree_id: BlobId) -> Iterator[list[dict[str, Any]]]:
    """Yield the entries of a directory, some at a time, in their order. Raises: Damaged."""
    place = repository.locate(BlobKind.TREE, tree_id)
    if (place.blob.uncompressed_length or place.blob.length - OVERHEAD) <= LARGE:
        return slabs_of(repository.blob(BlobKind.TREE, tree_id), where=_name(repository, tree_id))
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
    digest = sha256()
    for part in plain_parts(inner, blob.uncompressed_length, where=where):
        digest.update(part)
    if digest.hexdigest() != blob.id:
        raise Damaged(f"the blob {blob.id} holds something else", where=where)
    yield from plain_parts(inner, blob.uncompressed_length, where=where)


class Opening:
    """What is in a sealed blob, decrypted as it is read: there is no second copy of it. Read it from the beginning by `rewind`."""

    def __init__(self, key: MasterKey, sealed: Buffer, *, where: str = "") -> None:
        """Check its authentication code. Raises Damaged."""
        view = memoryview(sealed)
        self._key, self._nonce, self._inner = key, bytes(view[:NONCE]), view[NONCE:-MAC]
        self._place = 0
        if len(view) < OVERHEAD or not hmac.compare_digest(key.mac(self._nonce, self._inner), view[-MAC:]):
            raise Damaged("the authentication code does not fit: the object was changed, or is of another repository", where=where)

    def rewind(self) -> None:
        """Begin again."""
        self._place = 0

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes: a whole number of the cipher's blocks, but at the end."""
        size = SLAB if size < 0 else max(_BLOCK, size // _BLOCK * _BLOCK)
        part = self._inner[self._place : self._place + size]
        counter = (int.from_bytes(self._nonce, "big") + self._place // _BLOCK) % (1 << 128)
        self._place += len(part)
        return self._key.cipher(counter.to_bytes(NONCE, "big")).update(part)


def plain_parts(inner: Opening, length: int, *, where: str) -> Iterator[Buffer]:
    """Yield the plain text from its beginning, in parts; `length` is nothing where it is not compressed. Raises Damaged."""
    inner.rewind()
    if not length:
        while part := inner.read(SLAB):
            yield part
        return
    if length > LARGEST_BLOB:
        raise Damaged(f"a blob of {length} bytes is larger than any that is written", where=where)
    had = 0
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(cast("IO[bytes]", inner), read_size=SLAB) as stream:
            while part := stream.read(SLAB):
                had += len(part)
                if had > length:
                    break
                yield part
    except zstandard.ZstdError as error:
        raise Damaged(f"the blob cannot be decompressed: {error}", where=where) from error
    if had != length:
        raise Damaged(f"the blob has another length than the {length} bytes that the index says", where=where)
