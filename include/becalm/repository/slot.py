"""A pack that is built where it will be sent from: in a stretch of memory that others see, too.

Blobs are compressed, sealed straight into the buffer, and each is read back from that very buffer before the pack has a name.
Nothing here reads or writes a store.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from becalm.errors import IntegrityError
from becalm.repository.crypto import MAC, NONCE, OVERHEAD, Buffer, MasterKey, seal, unseal
from becalm.repository.format import BlobKind
from becalm.repository.pack import BETWEEN, ENTRY_BYTES, LENGTH_BYTES, TARGET, compress, decompress, header_entry, length_field
from becalm.repository.scheme import MAXIMUM

if TYPE_CHECKING:
    from becalm.repository.landed import Row

_SPARE = 15
"""`update_into` asks for room for one more block, less a byte."""

_MOST_BLOBS = 1 << 16
"""A pack of the smallest blobs ends here, so that its header has a bound."""

_NONCES = 32
"""So many are made at a time."""

SLOT_BYTES = TARGET + MAXIMUM + 2 * OVERHEAD + _SPARE + LENGTH_BYTES + _MOST_BLOBS * max(ENTRY_BYTES)
"""What a slot must hold: a pack that is all but full, one more blob of the largest size, and the header. Only what is written costs memory."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A finished pack: its first `length` bytes of the slot, under this name."""

    id: str
    length: int
    rows: tuple[Row, ...]


class SlotPack:
    """Collects data blobs in a slot until there are enough for a pack."""

    def __init__(self, key: MasterKey, buffer: memoryview, *, version: int = 2, level: int = BETWEEN) -> None:
        """Begin an empty pack at the buffer's begin."""
        self._key, self._buffer, self._version, self._level = key, buffer, version, level
        self._rows: list[Row] = []
        self._header: list[bytes] = []
        self._length = 0
        self._nonces = b""

    @property
    def rows(self) -> tuple[Row, ...]:
        """What is in it by now."""
        return tuple(self._rows)

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it."""
        return not self._rows

    @property
    def full(self) -> bool:
        """Whether it is time to finish. Until then a blob of any size has room."""
        return self._length >= TARGET or len(self._rows) >= _MOST_BLOBS

    def append(self, raw_id: bytes, plain: Buffer) -> None:
        """Compress a blob where that makes it smaller, and seal it into the buffer."""
        body, packed_from = plain, 0
        if self._version > 1:
            packed = compress(plain, level=self._level)
            if len(packed) < len(plain):
                body, packed_from = packed, len(plain)
        key, buffer, place = self._key, self._buffer, self._length
        begin = place + NONCE
        end = begin + len(body)
        nonce = self._nonce()
        buffer[place:begin] = nonce
        key.cipher(nonce).update_into(body, buffer[begin : end + _SPARE])
        buffer[end : end + MAC] = key.mac(nonce, buffer[begin:end])
        self._length = end + MAC
        length = self._length - place
        self._rows.append((raw_id, place, length, packed_from))
        self._header.append(header_entry(BlobKind.DATA, raw_id, length, packed_from))

    def _nonce(self) -> bytes:
        """Return random bytes that nobody had before. The system is asked for many at a time: a blob is sealed in little more than a question takes."""
        if not self._nonces:
            self._nonces = os.urandom(NONCE * _NONCES)
        nonce, self._nonces = self._nonces[:NONCE], self._nonces[NONCE:]
        return nonce

    def finish(self) -> Sealed:
        """Add the header, read every blob back from the buffer, and name the pack.

        Raises: IntegrityError where one does not come back as it was.
        """
        entries = b"".join(self._header)
        header = seal(self._key, entries)
        begin, end = self._length, self._length + len(header)
        self._buffer[begin:end] = header
        self._buffer[end : end + LENGTH_BYTES] = length_field(len(header))
        if unseal(self._key, self._buffer[begin:end]) != entries:
            raise IntegrityError("the header of a pack did not come back as it was sealed", hint=_FAULT)
        for raw_id, offset, length, packed_from in self._rows:
            plain: Buffer = unseal(self._key, self._buffer[offset : offset + length])
            if packed_from:
                plain = decompress(plain, length=packed_from)
            if sha256(plain).digest() != raw_id:
                raise IntegrityError("a blob did not come back as it was sealed", where=raw_id.hex(), hint=_FAULT)
        total = end + LENGTH_BYTES
        return Sealed(sha256(self._buffer[:total]).hexdigest(), total, tuple(self._rows))


_FAULT = "this machine's memory or processor is at fault"
