"""Rows of a pack: what is written of them is what an index object of nouns says, and the index finds each where it lies."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from becalm.repository.crypto import OVERHEAD
from becalm.repository.format import BlobKind, IndexDoc, IndexedBlob
from becalm.repository.index import Index
from becalm.repository.landed import index_document, index_entry, rows_of

ids = st.binary(min_size=32, max_size=32).map(bytes.hex)


@st.composite
def packs(draw: st.DrawFn) -> dict[str, tuple[IndexedBlob, ...]]:
    """Some packs, each of blobs of one kind, one behind the other; no blob lies in two of them."""
    found: dict[str, tuple[IndexedBlob, ...]] = {}
    unused = iter(draw(st.lists(ids, unique=True, max_size=20)))
    for name in draw(st.lists(ids, unique=True, max_size=4)):
        kind, place, blobs = draw(st.sampled_from(BlobKind)), 0, []
        for blob_id in [one for _, one in zip(range(draw(st.integers(0, 6))), unused, strict=False)]:
            length, plain = draw(st.integers(OVERHEAD, 1 << 24)), draw(st.integers(0, 1 << 24))
            blobs.append(IndexedBlob(id=blob_id, kind=kind, offset=place, length=length, uncompressed_length=plain))
            place += length
        found[name] = tuple(blobs)
    return found


def kind_of(blobs: tuple[IndexedBlob, ...]) -> BlobKind:
    return blobs[0].kind if blobs else BlobKind.DATA


@given(packs())
def test_rows_are_written_as_nouns_are(found: dict[str, tuple[IndexedBlob, ...]]) -> None:
    """An index object is the same, byte for byte, whichever way it is written."""
    entries = [index_entry(pack, kind_of(blobs), rows_of(blobs)) for pack, blobs in found.items()]

    assert IndexDoc(found).encode() == index_document(entries)


@given(packs())
def test_the_index_finds_rows_where_they_lie(found: dict[str, tuple[IndexedBlob, ...]]) -> None:
    """Each blob is found in its pack, under its kind and under no other."""
    index = Index()
    for pack, blobs in found.items():
        index.add_rows(pack, kind_of(blobs), rows_of(blobs))
    other = {BlobKind.DATA: BlobKind.TREE, BlobKind.TREE: BlobKind.DATA}
    places = [(pack, blob, index.lookup(blob.kind, blob.id)) for pack, blobs in found.items() for blob in blobs]

    assert all(place is not None and (place.pack, place.blob) == (pack, blob) for pack, blob, place in places)
    assert not any(index.has(other[blob.kind], blob.id) for _, blob, _ in places)


def test_a_pack_of_many_blobs_is_found_beside_small_ones() -> None:
    """It goes into an array at once; what came before and what comes after is found as well."""

    def rows(first: int, count: int) -> tuple[tuple[bytes, int, int, int], ...]:
        return tuple((number.to_bytes(32, "little"), number * 50, 50, number % 3) for number in range(first, first + count))

    index = Index()
    wanted = {"aa" * 32: rows(0, 3), "bb" * 32: rows(3, 1000), "cc" * 32: rows(1003, 2)}
    for pack, given_rows in wanted.items():
        index.add_rows(pack, BlobKind.DATA, given_rows)
    found = {
        pack: tuple(
            (row[0], place.blob.offset, place.blob.length, place.blob.uncompressed_length)
            for row in given_rows
            if (place := index.lookup(BlobKind.DATA, row[0].hex())) is not None and place.pack == pack
        )
        for pack, given_rows in wanted.items()
    }

    assert wanted == found
    assert len(index) == 1005
