"""The blobs of one pack as plain rows, and what an index object says of them: a first backup has too many blobs for objects. Pure.

What comes out is the same, byte for byte, as `IndexDoc` writes of the same blobs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from becalm.repository.format import BlobKind, IndexedBlob

Row: TypeAlias = "tuple[bytes, int, int, int]"
"""A blob in a pack: its raw id, offset, length, and the bytes of its plain text where it is compressed."""


def rows_of(blobs: Iterable[IndexedBlob]) -> tuple[Row, ...]:
    """Return blobs as rows."""
    return tuple([(bytes.fromhex(blob.id), blob.offset, blob.length, blob.uncompressed_length) for blob in blobs])


def index_entry(pack: str, kind: BlobKind, rows: Sequence[Row]) -> bytes:
    """Write what an index object says of a pack that holds blobs of one kind."""
    name = kind.value
    blobs = ",".join(
        [
            f'{{"id":"{raw.hex()}","type":"{name}","offset":{offset},"length":{length},"uncompressed_length":{plain}}}'
            if plain
            else f'{{"id":"{raw.hex()}","type":"{name}","offset":{offset},"length":{length}}}'
            for raw, offset, length, plain in rows
        ]
    )
    return f'{{"id":"{pack}","blobs":[{blobs}]}}'.encode()


def index_document(entries: Iterable[bytes]) -> bytes:
    """Write an index object out of what it says of each pack."""
    return b'{"packs":[' + b",".join(entries) + b"]}"
