"""Packs and the index: what goes in comes out, and whatever was changed is named."""

from __future__ import annotations

import os
import struct
from hashlib import sha256
from random import Random

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from becalm.errors import Damaged, IntegrityError
from becalm.repository.crypto import MasterKey, seal
from becalm.repository.format import BlobKind, IndexDoc, IndexedBlob
from becalm.repository.index import Index
from becalm.repository.pack import (
    BETWEEN,
    Pack,
    PackBuilder,
    compress,
    decode_header,
    decompress,
    encode_blob,
    encode_header,
    read_blob,
    read_header,
    verify,
)

KEY = MasterKey(bytes(range(32)), bytes(range(16)), bytes(range(1, 17)))


def name(data: bytes) -> str:
    return sha256(data).hexdigest()


def a_pack(*blobs: bytes, kind: BlobKind = BlobKind.DATA, version: int = 2) -> Pack:
    builder = PackBuilder(KEY, kind)
    for blob in blobs:
        builder.append(encode_blob(KEY, kind, name(blob), blob, version=version))
    return builder.finish()


@given(st.lists(st.binary(max_size=600), max_size=6), st.sampled_from(BlobKind), st.sampled_from([1, 2]))
def test_a_pack_gives_back_its_blobs(blobs: list[bytes], kind: BlobKind, version: int) -> None:
    """Its header says where each is, and its name is its hash."""
    pack = a_pack(*blobs, kind=kind, version=version)
    found = read_header(KEY, pack.body)

    assert tuple(found) == pack.blobs
    assert [read_blob(KEY, pack.body[blob.offset : blob.offset + blob.length], blob) for blob in found] == blobs
    assert pack.id == name(pack.body)


def test_what_does_not_get_smaller_is_not_compressed() -> None:
    """Random bytes stay as they are, zeros do not."""
    noise = os.urandom(1000)
    pack = a_pack(noise, bytes(1000))

    assert [blob.uncompressed_length for blob in pack.blobs] == [0, 1000]


@given(st.binary(max_size=3000), st.integers(0, 200))
def test_the_level_of_our_own_writes_what_any_zstd_reads(data: bytes, times: int) -> None:
    """A frame that says its length, of data of any size."""
    packed = compress(data * times, level=BETWEEN)

    assert zstandard.frame_content_size(packed) == len(data) * times
    assert zstandard.ZstdDecompressor().decompress(packed) == data * times


def test_the_level_of_our_own_is_smaller_than_the_first() -> None:
    """On text of many words; and not much larger than the third."""
    draw = Random(5)
    words = [draw.randbytes(draw.randrange(2, 6)).hex() for _ in range(3000)]
    text = " ".join(draw.choices(words, weights=range(1, 3001), k=60_000)).encode()
    first, between, third = (len(compress(text, level=level)) for level in (1, BETWEEN, 3))

    assert between < 0.98 * first
    assert between < 1.03 * third


@settings(max_examples=60)
@given(st.integers(0), st.integers(1, 255))
def test_every_changed_byte_of_a_pack_is_found(place: int, change: int) -> None:
    """Wherever it was changed, the pack is damaged before it would be used."""
    pack = a_pack(b"one" * 50, os.urandom(200), b"three" * 30)
    body = bytearray(pack.body)
    body[place % len(body)] ^= change

    with pytest.raises(Damaged):
        verify(KEY, body, pack.blobs)


@settings(max_examples=40)
@given(st.integers(1, 2000))
def test_a_shortened_pack_is_found(cut: int) -> None:
    """A pack that lost its end has no header."""
    pack = a_pack(os.urandom(900), os.urandom(900))

    with pytest.raises(Damaged):
        read_header(KEY, pack.body[:-cut])


def test_a_blob_that_does_not_come_back_does_not_leave() -> None:
    """A pack whose blob is not what its id says is refused before it is sent."""
    builder = PackBuilder(KEY, BlobKind.DATA)
    builder.append(encode_blob(KEY, BlobKind.DATA, name(b"what it should be"), b"what the memory made of it"))

    with pytest.raises(Damaged, match="something else"):
        builder.finish()


def test_trees_and_data_never_share_a_pack() -> None:
    """A blob of the other kind is a fault of the program."""
    with pytest.raises(IntegrityError, match="does not belong"):
        PackBuilder(KEY, BlobKind.DATA).append(encode_blob(KEY, BlobKind.TREE, name(b"x"), b"x"))


def test_a_blob_in_the_place_of_another_is_found() -> None:
    """Both authenticate; the id does not fit."""
    pack = a_pack(b"a" * 64, b"b" * 64, version=1)
    first, second = pack.blobs

    with pytest.raises(Damaged, match=first.id):
        read_blob(KEY, pack.body[second.offset : second.offset + second.length], first)


def test_a_bomb_is_not_inflated() -> None:
    """What says that it has ten bytes gives no more than ten, and too much is not even tried."""
    bomb = compress(bytes(50 << 20))

    with pytest.raises(Damaged, match="says"):
        decompress(bomb, length=10)
    with pytest.raises(Damaged, match="larger"):
        decompress(bomb, length=1 << 40)
    with pytest.raises(Damaged):
        decompress(zstandard.ZstdCompressor(write_content_size=False).compress(bytes(50 << 20)), length=10)


@given(st.binary(max_size=200))
def test_any_header_is_read_or_damaged(entries: bytes) -> None:
    """Rubbish in a header's place gives no other error."""
    try:
        blobs = decode_header(entries)
    except Damaged:
        return

    assert encode_header(blobs) == entries


def test_a_header_may_not_lie_about_its_length() -> None:
    """Neither past the beginning of the pack nor past the bound."""
    for length in (0, 31, 1 << 31, 10_000):
        with pytest.raises(Damaged):
            read_header(KEY, os.urandom(500) + struct.pack("<I", length))


def test_a_header_that_skips_bytes_is_damaged() -> None:
    """Blobs fill the pack from its beginning to its header."""
    pack = a_pack(b"x" * 10)
    header = seal(KEY, encode_header(pack.blobs))

    with pytest.raises(Damaged, match="end at"):
        read_header(KEY, b"gap" + bytes(pack.body[: pack.blobs[0].length]) + bytes(header) + struct.pack("<I", len(header)))


def indexed(number: int, kind: BlobKind = BlobKind.DATA) -> IndexedBlob:
    return IndexedBlob(id=name(b"%d" % number), kind=kind, offset=number * 40, length=40, uncompressed_length=number % 2 * 99)


def test_the_index_knows_what_it_was_given_whatever_the_order() -> None:
    """Blobs of many packs, from writers and from documents, are found; others are not."""
    index = Index()
    packs = {name(b"pack %d" % pack): tuple(indexed(pack * 500 + number) for number in range(500)) for pack in range(200)}
    for number, (pack, blobs) in enumerate(packs.items()):
        if number % 3:
            index.add(pack, blobs)
        else:
            index.add_document(IndexDoc({pack: blobs}).encode(), where="here")
    random = Random(1)
    samples = [(pack, blob) for pack, blobs in packs.items() for blob in random.sample(blobs, 5)]

    assert len(index) == 100_000
    assert all(index.lookup(BlobKind.DATA, blob.id) is not None for _, blob in samples)
    assert all((place := index.lookup(BlobKind.DATA, blob.id)) and (place.pack, place.blob) == (pack, blob) for pack, blob in samples)
    assert not index.has(BlobKind.TREE, samples[0][1].id)
    assert index.lookup(BlobKind.DATA, name(b"no such blob")) is None
    assert index.packs() == frozenset(packs)
    assert sum(1 for _ in index.entries()) == 100_000


@pytest.mark.parametrize("raw", [bytes(32), b"\1" + bytes(31), bytes(31) + b"\1", b"\xff" * 32])
def test_ids_that_end_in_zeros_are_ids(raw: bytes) -> None:
    """Numpy drops zeros at the end of a string; the index does not."""
    index = Index()
    blobs = (IndexedBlob(id=raw.hex(), kind=BlobKind.TREE, offset=0, length=40), indexed(1))
    index.add_document(IndexDoc({name(b"p"): blobs}).encode(), where="here")

    assert index.has(BlobKind.TREE, raw.hex())
    assert {place.blob.id for place in index.entries()} == {raw.hex(), indexed(1).id}


def test_a_tree_and_a_file_may_have_the_same_bytes() -> None:
    """The kind is a part of the name."""
    index = Index()
    same = indexed(5)
    index.add_document(
        IndexDoc({name(b"data"): (same,), name(b"tree"): (IndexedBlob(id=same.id, kind=BlobKind.TREE, offset=7, length=50),)}).encode(),
        where="x",
    )
    data, tree = index.lookup(BlobKind.DATA, same.id), index.lookup(BlobKind.TREE, same.id)

    assert data and tree
    assert (data.pack, tree.pack) == (name(b"data"), name(b"tree"))


def test_the_size_of_a_pack_follows_from_its_blobs() -> None:
    """Also where two index objects name the same pack."""
    pack = a_pack(b"zeros" * 100, os.urandom(77))
    index = Index()
    for _ in range(2):
        index.add_document(IndexDoc({pack.id: pack.blobs}).encode(), where="x")

    assert index.pack_sizes() == {pack.id: len(pack.body)}


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b'{"packs":[7]}',
        b'{"packs":[{"id":"../../etc","blobs":[]}]}',
        b'{"packs":[{"id":"' + b"0" * 64 + b'","blobs":[7]}]}',
        b'{"packs":[{"id":"' + b"0" * 64 + b'","blobs":[{"id":"00","type":"data","offset":0,"length":40}]}]}',
        b'{"packs":[{"id":"' + b"0" * 64 + b'","blobs":[{"id":"' + b"0" * 64 + b'","type":"what","offset":0,"length":40}]}]}',
        b'{"packs":[{"id":"' + b"0" * 64 + b'","blobs":[{"id":"' + b"0" * 64 + b'","type":"data","offset":-1,"length":40}]}]}',
        b'{"packs":[{"id":"' + b"0" * 64 + b'","blobs":[{"id":"' + b"0" * 64 + b'","type":"data","offset":0,"length":5}]}]}',
        b'{"packs":[{"id":"' + b"0" * 64 + b'","blobs":[{"id":"' + b"0" * 64 + b'","type":"data","offset":0,"length":99999999999}]}]}',
    ],
)
def test_an_index_that_is_none_is_damaged(document: bytes) -> None:
    """And the error names the object."""
    with pytest.raises(Damaged, match="index/x"):
        Index().add_document(document, where="index/x")
