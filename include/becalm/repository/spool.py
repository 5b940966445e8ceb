"""The tree of a large directory while it is written: its entries are hashed, compressed and encrypted as they come.

What stands in memory is the sealed blob alone. It does not know which entries there are to come, and writes nothing.
"""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING

import zstandard

from becalm.errors import PermanentError
from becalm.repository.crypto import NONCE, MasterKey
from becalm.repository.format import BlobKind
from becalm.repository.opening import LARGEST_BLOB
from becalm.repository.pack import LEVEL_OF_TREES, EncodedBlob

if TYPE_CHECKING:
    from collections.abc import Iterable


class Spool:
    """One directory. Not for several threads."""

    def __init__(self, key: MasterKey, *, version: int = 2, where: str = "") -> None:
        """Begin without entries. `version` is the repository's: in the first one nothing is compressed."""
        self._key = MasterKey(key.encrypt, key.mac_k, key.mac_r)  # its own: a key has one cipher, and others seal meanwhile
        self._where = where
        nonce = os.urandom(NONCE)
        self._cipher = self._key.cipher(nonce)
        self._sealed = bytearray(nonce)
        self._packer = zstandard.ZstdCompressor(level=LEVEL_OF_TREES).compressobj() if version > 1 else None
        self._digest = sha256()
        self._length = 0
        self._put(b'{"nodes":[')
        self._empty = True

    def add(self, entries: Iterable[bytes]) -> None:
        """Take in the next entries, written already, in the order of their names. Raises PermanentError."""
        joined = b",".join(entries)
        if not joined:
            return
        if not self._empty:
            self._put(b",")
        self._empty = False
        self._put(joined)

    def finish(self) -> EncodedBlob:
        """Return the blob. The spool is used up."""
        self._put(b"]}\n")
        if self._packer is not None:
            self._sealed += self._cipher.update(self._packer.flush())
        sealed = self._sealed
        with memoryview(sealed) as view:
            mac = self._key.mac(bytes(view[:NONCE]), view[NONCE:])
        sealed += mac
        return EncodedBlob(
            id=self._digest.hexdigest(), kind=BlobKind.TREE, sealed=sealed, uncompressed_length=0 if self._packer is None else self._length
        )

    def _put(self, text: bytes) -> None:
        self._digest.update(text)
        self._length += len(text)
        if self._length > LARGEST_BLOB:
            raise PermanentError(
                f"the directory has so many entries that its tree is larger than {LARGEST_BLOB >> 20} MiB",
                where=self._where,
                hint="divide it into directories, or leave it out of the backup",
            )
        self._sealed += self._cipher.update(text if self._packer is None else self._packer.compress(text))
