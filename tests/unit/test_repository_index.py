"""The index: many blobs asked for at once, ids of any bytes, packs in their order, and index objects of any size."""

from __future__ import annotations

import random
from hashlib import sha256

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from becalm.errors import Damaged
from becalm.repository.format import BlobKind, IndexDoc, IndexedBlob
from becalm.repository.index import Index, load

IDS = st.one_of(
    st.binary(min_size=32, max_size=32),
    st.integers(0, 3).map(lambda n: n.to_bytes(32, "little")),  # end in zeros
    st.integers(0, 3).map(lambda n: n.to_bytes(32, "big")),  # begin alike
    st.sampled_from([b"\0" * 32, b"\xff" * 32, b"\x80" + b"\0" * 31]),
)
KINDS = st.sampled_from(list(BlobKind))


def a_blob(raw: bytes, kind: BlobKind = BlobKind.DATA, *, offset: int = 0, length: int = 100, plain: int = 0) -> IndexedBlob:
    return IndexedBlob(id=raw.hex(), kind=kind, offset=offset, length=length, uncompressed_length=plain)


def a_pack(number: int) -> str:
    return sha256(b"pack %d" % number).hexdigest()


def an_index(packs: dict[str, list[IndexedBlob]], *, documents: bool) -> Index:
    index = Index()
    for pack, blobs in packs.items():
        if documents:
            index.add_document(IndexDoc({pack: tuple(blobs)}).encode(), where="index/1")
        else:
            index.add(pack, blobs)
    return index


@given(
    known=st.dictionaries(st.tuples(IDS, KINDS), st.integers(0, 5), max_size=40),
    asked=st.lists(st.tuples(IDS, KINDS), max_size=40),
    documents=st.booleans(),
    joined=st.booleans(),
)
def test_many_are_found_as_one_is(
    known: dict[tuple[bytes, BlobKind], int], asked: list[tuple[bytes, BlobKind]], documents: bool, joined: bool
) -> None:
    """`locate_many` and `has_many` say of each id what a dictionary says: kinds apart, ids that end in zeros or begin alike too."""
    packs: dict[str, list[IndexedBlob]] = {}
    expected: dict[tuple[bytes, BlobKind], tuple[str, int, int, int]] = {}
    for (raw, kind), number in known.items():
        blobs = packs.setdefault(a_pack(number), [])
        blob = a_blob(raw, kind, offset=100 * len(blobs), length=32 + number, plain=number)
        blobs.append(blob)
        expected[raw, kind] = (a_pack(number), blob.offset, blob.length, blob.uncompressed_length)
    index = an_index(packs, documents=documents)
    asked += list(known)[::2]
    for kind in BlobKind:
        raws = [raw for raw, of_kind in asked if of_kind is kind]
        given_ids = b"".join(raws) if joined else raws
        places = index.locate_many(kind, given_ids)
        said = [
            (index.pack_name(pack), offset, length, plain) if found else None
            for found, pack, offset, length, plain in zip(
                *(column.tolist() for column in (places.found, places.pack, places.offset, places.length, places.plain)), strict=True
            )
        ]

        assert said == [expected.get((raw, kind)) for raw in raws]
        assert index.has_many(kind, given_ids) == [(raw, kind) in expected for raw in raws]
        for raw in raws:
            one = index.lookup(kind, raw.hex())
            assert (one is not None) == index.has(kind, raw.hex()) == ((raw, kind) in expected)
            assert one is None or (one.pack, one.blob.offset, one.blob.length, one.blob.uncompressed_length) == expected[raw, kind]


def test_plain_lengths_are_those_of_the_texts_compressed_or_not() -> None:
    """What is not compressed has its length in the pack less what sealing adds; what is not found has none."""
    raws = [bytes([n]) * 32 for n in range(3)]
    index = an_index({a_pack(1): [a_blob(raws[0], length=132), a_blob(raws[1], offset=132, length=132, plain=700)]}, documents=True)

    assert index.locate_many(BlobKind.DATA, raws).plain_lengths().tolist() == [100, 700, 0]


def test_an_id_of_another_length_is_an_error_not_a_miss() -> None:
    """Nobody asks for 31 bytes and is told that the blob is missing."""
    with pytest.raises(Damaged, match="32 bytes"):
        Index().has_many(BlobKind.DATA, [b"\0" * 31])


@pytest.mark.parametrize("documents", [True, False])
def test_entries_come_pack_by_pack_in_the_order_of_the_offsets_each_once(documents: bool) -> None:
    """Two index objects may name one pack; its blobs come once, and packs that nobody wants do not come."""
    draw = random.Random(1)
    packs = {
        a_pack(number): [
            a_blob(draw.randbytes(32), draw.choice(list(BlobKind)), offset=100 * place, plain=place % 3)
            for place in range(draw.randint(1, 60))
        ]
        for number in range(50)
    }
    shuffled = {pack: draw.sample(blobs, len(blobs)) for pack, blobs in packs.items()}
    index = an_index(shuffled, documents=documents)
    index.add_document(IndexDoc({a_pack(7): tuple(packs[a_pack(7)])}).encode(), where="index/2")
    wanted = index.locate_many(BlobKind.DATA, []).found  # an empty column of the right kind
    wanted.resize(index.pack_count)
    wanted[::2] = True

    assert {entries.pack: list(entries.blobs()) for entries in index.entries_of_packs()} == packs
    assert [entries.number for entries in index.entries_of_packs(wanted)] == list(range(0, 50, 2))
    assert {place.pack for place in index.entries()} == set(packs)
    assert index.pack_ends() == {pack: 100 * len(blobs) for pack, blobs in packs.items()}
    assert [index.pack_number(index.pack_name(number)) for number in range(index.pack_count)] == list(range(50))


def test_a_pack_without_blobs_is_named_and_has_the_size_of_an_empty_header() -> None:
    """Restic never writes one; what an index object says is not dropped."""
    index = an_index({a_pack(1): [], a_pack(2): [a_blob(b"\1" * 32)]}, documents=True)

    assert index.packs() == {a_pack(1), a_pack(2)}
    assert index.pack_sizes() == {a_pack(1): 36, a_pack(2): 100 + 36 + 37}


def test_a_large_index_object_is_read_in_slabs_and_nothing_is_lost() -> None:
    """Some megabytes of JSON give the same entries as the nouns do."""
    draw = random.Random(2)
    packs = {
        a_pack(number): tuple(a_blob(draw.randbytes(32), offset=200 * place, length=200, plain=450) for place in range(700))
        for number in range(70)
    }
    document = IndexDoc(packs).encode()
    index = Index()
    index.add_document(document, where="index/1")

    assert len(document) > 6 << 20
    assert len(index) == 49_000
    assert {entries.pack: tuple(entries.blobs()) for entries in index.entries_of_packs()} == packs


@pytest.mark.parametrize(
    "document",
    [
        b"[]",
        b'{"packs":[{"id":"zz","blobs":[]}]}',
        b'{"packs":[{"id":"' + b"a" * 64 + b'"}]}',
        b'{"packs":{"id":1}}',
        orjson.dumps({"packs": [{"id": "a" * 64, "blobs": [{"id": "b" * 63, "type": "data", "offset": 0, "length": 40}]}]}),
        orjson.dumps({"packs": [{"id": "a" * 64, "blobs": [{"id": "b" * 64, "type": "tree", "offset": -1, "length": 40}]}]}),
        orjson.dumps({"packs": [{"id": "a" * 64, "blobs": [{"id": "b" * 64, "type": "tree", "offset": 1 << 32, "length": 40}]}]}),
        orjson.dumps({"packs": [{"id": "a" * 64, "blobs": [{"id": "b" * 64, "type": "tree", "offset": 0, "length": 31}]}]}),
        orjson.dumps({"packs": [{"id": "a" * 64, "blobs": [{"id": "b" * 64, "type": "fork", "offset": 0, "length": 40}]}]}),
    ],
)
def test_a_wrong_index_object_is_damaged_and_named(document: bytes) -> None:
    """Whatever is wrong in it, the error says which object."""
    with pytest.raises(Damaged) as caught:
        Index().add_document(document, where="index/abc")

    assert caught.value.where == "index/abc"


def test_loading_raises_what_reading_one_raises() -> None:
    """An index object that cannot be read ends the loading."""

    def read(name: str) -> bytes:
        if name == "2":
            raise Damaged("no", where=name)
        return b'{"packs":[]}'

    with pytest.raises(Damaged, match="no"):
        load(["1", "2", "3"], read, into=Index())
