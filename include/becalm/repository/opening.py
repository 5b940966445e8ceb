"""What is in a sealed blob, opened as it is read: neither its plain text nor a second copy of it stands in memory.

For blobs that are too large to be held, which only trees of very many entries are. Nothing here reads or writes a store.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import IO, TYPE_CHECKING, cast

import zstandard

from becalm.errors import Damaged
from becalm.repository.crypto import MAC, NONCE, OVERHEAD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.repository.crypto import Buffer, MasterKey

LARGE = 8 << 20
"""A tree of more bytes than these, some twenty thousand entries, is not held as plain text."""

LARGEST_BLOB = 512 << 20
"""A tree of a million and a half entries; what says that it is larger is taken for damaged."""

_BLOCK = 16
"""Bytes of the cipher's block."""
_PART = 1 << 20
"""Bytes that are opened at a time."""


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
        size = _PART if size < 0 else max(_BLOCK, size // _BLOCK * _BLOCK)
        part = self._inner[self._place : self._place + size]
        counter = (int.from_bytes(self._nonce, "big") + self._place // _BLOCK) % (1 << 128)
        self._place += len(part)
        return self._key.cipher(counter.to_bytes(NONCE, "big")).update(part)


def plain_parts(inner: Opening, length: int, *, where: str) -> Iterator[Buffer]:
    """Yield the plain text from its beginning, in parts; `length` is nothing where it is not compressed. Raises Damaged."""
    inner.rewind()
    if not length:
        while part := inner.read(_PART):
            yield part
        return
    if length > LARGEST_BLOB:
        raise Damaged(f"a blob of {length} bytes is larger than any that is written", where=where)
    had = 0
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(cast("IO[bytes]", inner), read_size=_PART) as stream:
            while part := stream.read(_PART):
                had += len(part)
                if had > length:
                    break
                yield part
    except zstandard.ZstdError as error:
        raise Damaged(f"the blob cannot be decompressed: {error}", where=where) from error
    if had != length:
        raise Damaged(f"the blob has another length than the {length} bytes that the index says", where=where)


def check_large(inner: Opening, length: int, blob_id: str, *, where: str = "") -> None:
    """Open all of a blob, and see that it is what its id says. Raises Damaged."""
    digest = sha256()
    for part in plain_parts(inner, length, where=where):
        digest.update(part)
    if digest.hexdigest() != blob_id:
        raise Damaged(f"the blob {blob_id} holds something else", where=where)
