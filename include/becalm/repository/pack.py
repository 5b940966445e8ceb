"""Packs: sealed blobs one after the other, then their sealed header, then its length.

A pack is named by the SHA-256 of its bytes and written once. Before it may leave, every blob in it is decrypted, decompressed
and hashed again from the very buffer that is sent. Nothing here reads or writes a store.
"""

from __future__ import annotations

import struct
import threading
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

import zstandard

from becalm.errors import Damaged, IntegrityError
from becalm.repository.crypto import OVERHEAD, Buffer, MasterKey, seal, unseal
from becalm.repository.format import BlobId, BlobKind, IndexedBlob
from becalm.repository.opening import LARGE, LARGEST_BLOB, Opening, check_large

if TYPE_CHECKING:
    from collections.abc import Iterable

LEVEL_OF_TREES = 3
"""Zstd's level for trees."""

TARGET = 16 << 20
"""A pack that has reached this is finished."""

_LENGTH = struct.Struct("<I")
_PLAIN = struct.Struct("<BI32s")
_PACKED = struct.Struct("<BII32s")
ENTRY_BYTES = (_PACKED.size, _PLAIN.size)
"""Bytes of a header's entry: of a compressed blob, of another."""
LENGTH_BYTES = _LENGTH.size
"""Bytes at the very end of a pack: how long its sealed header is."""
_TYPES = {(BlobKind.DATA, False): 0, (BlobKind.TREE, False): 1, (BlobKind.DATA, True): 2, (BlobKind.TREE, True): 3}
_KINDS = {number: kind for kind, number in _TYPES.items()}
_LARGEST_HEADER = 16 << 20

BETWEEN = 0
"""A level of our own, between zstd's first and its third: as small as the third but for three hundredths, and nearly as fast as the first.

It looks for matches as the first does, but for shorter ones, and in a table that is twice as large.
"""
_TABLE, _SHORTEST_MATCH = 15, 5
_LARGEST_WINDOW = 23
"""The whole of a data blob. A smaller one makes tables and window smaller by itself."""


class _Zstd(threading.local):
    """A compressor and a decompressor for each thread: neither may be shared."""

    def __init__(self) -> None:
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27)

    def compressor(self, level: int) -> zstandard.ZstdCompressor:
        """Return this thread's compressor of a level."""
        found = self.compressors.get(level)
        if found is None:
            found = self.compressors[level] = _compressor(level)
        return found


def _compressor(level: int) -> zstandard.ZstdCompressor:
    if level != BETWEEN:
        return zstandard.ZstdCompressor(level=level, write_content_size=True)
    parameters = zstandard.ZstdCompressionParameters(
        strategy=zstandard.STRATEGY_FAST,
        window_log=_LARGEST_WINDOW,
        hash_log=_TABLE,
        chain_log=_TABLE,
        search_log=1,
        min_match=_SHORTEST_MATCH,
        write_content_size=True,
    )
    return zstandard.ZstdCompressor(compression_params=parameters)


_ZSTD = _Zstd()


def compress(plain: Buffer, *, level: int = BETWEEN) -> bytes:
    """Compress, whether or not it gets smaller."""
    return _ZSTD.compressor(level).compress(plain)


def decompress(packed: Buffer, *, length: int, where: str = "") -> bytes:
    """Decompress what must become exactly `length` bytes. Raises Damaged before any more are written."""
    if length > LARGEST_BLOB:
        raise Damaged(f"a blob of {length} bytes is larger than any that is written", where=where)
    try:
        declared = zstandard.frame_content_size(packed)
        if declared not in (-1, length):
            raise Damaged(f"the blob says it has {declared} bytes, the index says {length}", where=where)
        plain = _ZSTD.decompressor.decompress(packed, max_output_size=length, allow_extra_data=False) if length else b""
    except zstandard.ZstdError as error:
        raise Damaged(f"the blob cannot be decompressed: {error}", where=where) from error
    if len(plain) != length:
        raise Damaged(f"the blob has {len(plain)} bytes, the index says {length}", where=where)
    return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedBlob:
    """A blob as it will lie in a pack."""

    id: BlobId
    kind: BlobKind
    sealed: Buffer = field(repr=False)
    uncompressed_length: int = 0


def encode_blob(key: MasterKey, kind: BlobKind, blob_id: BlobId, plain: Buffer, *, version: int = 2, level: int = BETWEEN) -> EncodedBlob:
    """Compress where that makes it smaller, and seal."""
    if version > 1:
        packed = compress(plain, level=level)
        if len(packed) < len(plain):
            return EncodedBlob(id=blob_id, kind=kind, sealed=seal(key, packed), uncompressed_length=len(plain))
    return EncodedBlob(id=blob_id, kind=kind, sealed=seal(key, plain))


def read_blob(key: MasterKey, sealed: Buffer, blob: IndexedBlob, *, where: str = "") -> bytes | bytearray:
    """Return the plain text of a blob, once its MAC, its length and its id hold. Raises Damaged."""
    if len(sealed) != blob.length:
        raise Damaged(f"the blob {blob.id} has {len(sealed)} bytes, the index says {blob.length}", where=where)
    plain: bytes | bytearray = unseal(key, sealed, where=where)
    if blob.uncompressed_length:
        plain = decompress(plain, length=blob.uncompressed_length, where=where)
    if sha256(plain).hexdigest() != blob.id:
        raise Damaged(f"the blob {blob.id} holds something else", where=where)
    return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """A pack that is ready to leave."""

    id: str
    body: bytearray = field(repr=False)
    blobs: tuple[IndexedBlob, ...]


class PackBuilder:
    """Collects blobs of one kind until there are enough for a pack. Not for several threads."""

    def __init__(self, key: MasterKey, kind: BlobKind) -> None:
        """Begin an empty pack."""
        self.key = key
        self.kind = kind
        self.body = bytearray()
        self.blobs: list[IndexedBlob] = []

    @property
    def full(self) -> bool:
        """Whether it is time to finish."""
        return len(self.body) >= TARGET

    def append(self, blob: EncodedBlob) -> None:
        """Put one more blob at the end."""
        if blob.kind is not self.kind:
            raise IntegrityError(f"a {blob.kind} blob does not belong into a pack of {self.kind} blobs", where=blob.id)
        self.blobs.append(
            IndexedBlob(
                id=blob.id, kind=blob.kind, offset=len(self.body), length=len(blob.sealed), uncompressed_length=blob.uncompressed_length
            )
        )
        self.body += blob.sealed

    def finish(self) -> Pack:
        """Add the header and check every blob from the buffer. Raises IntegrityError where one does not come back as it was."""
        header = seal(self.key, encode_header(self.blobs))
        body = self.body
        body += header
        body += _LENGTH.pack(len(header))
        verify(self.key, body, self.blobs)
        return Pack(id=sha256(body).hexdigest(), body=body, blobs=tuple(self.blobs))


def verify(key: MasterKey, body: Buffer, blobs: Iterable[IndexedBlob]) -> None:
    """Read every blob and the header of a pack from its bytes. Raises Damaged."""
    view = memoryview(body)
    expected = list(blobs)
    if read_header(key, body) != expected:
        raise Damaged("the header does not say what the pack holds")
    for blob in expected:
        sealed = view[blob.offset : blob.offset + blob.length]
        if (blob.uncompressed_length or blob.length) > LARGE:
            check_large(Opening(key, sealed), blob.uncompressed_length, blob.id)
        else:
            read_blob(key, sealed, blob)


def encode_header(blobs: Iterable[IndexedBlob]) -> bytes:
    """Write the entries of a header."""
    return b"".join([header_entry(blob.kind, bytes.fromhex(blob.id), blob.length, blob.uncompressed_length) for blob in blobs])


def header_entry(kind: BlobKind, raw_id: bytes, length: int, uncompressed_length: int) -> bytes:
    """Write the entry of one blob in a header."""
    if uncompressed_length:
        return _PACKED.pack(_TYPES[kind, True], length, uncompressed_length, raw_id)
    return _PLAIN.pack(_TYPES[kind, False], length, raw_id)


def length_field(length: int) -> bytes:
    """Write the end of a pack: how long its sealed header is."""
    return _LENGTH.pack(length)


def decode_header(entries: Buffer, *, where: str = "") -> list[IndexedBlob]:
    """Read the entries of a header. Raises Damaged."""
    blobs: list[IndexedBlob] = []
    place = offset = 0
    while place < len(entries):
        kind, packed = _KINDS.get(entries[place], (None, False))
        form = _PACKED if packed else _PLAIN
        if kind is None or place + form.size > len(entries):
            raise Damaged("the header of the pack cannot be read", where=where)
        fields = form.unpack_from(entries, place)
        length, plain = fields[1], fields[2] if packed else 0
        if length < OVERHEAD or (packed and not plain):
            raise Damaged("the header of the pack names a blob that cannot be", where=where)
        blobs.append(IndexedBlob(id=fields[-1].hex(), kind=kind, offset=offset, length=length, uncompressed_length=plain))
        place += form.size
        offset += length
    return blobs


def header_bytes(blobs: Iterable[IndexedBlob]) -> int:
    """Return how many bytes of a pack come after its blobs."""
    return OVERHEAD + _LENGTH.size + sum(_PACKED.size if blob.uncompressed_length else _PLAIN.size for blob in blobs)


def read_header(key: MasterKey, body: Buffer, *, where: str = "") -> list[IndexedBlob]:
    """Read what a whole pack holds, from its own header. Raises Damaged."""
    if len(body) < _LENGTH.size + OVERHEAD:
        raise Damaged("the pack is too short", where=where)
    (length,) = _LENGTH.unpack_from(body, len(body) - _LENGTH.size)
    if not OVERHEAD <= length <= min(_LARGEST_HEADER, len(body) - _LENGTH.size):
        raise Damaged(f"the pack says that its header has {length} bytes", where=where)
    begin = len(body) - _LENGTH.size - length
    blobs = decode_header(unseal(key, memoryview(body)[begin : -_LENGTH.size], where=where), where=where)
    end = blobs[-1].offset + blobs[-1].length if blobs else 0
    if end != begin:
        raise Damaged(f"the blobs of the pack end at {end}, its header begins at {begin}", where=where)
    return blobs
