"""One entry by its name, and an index object as columns: what is read the short way is what JSON says, or the long way is taken."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from becalm.errors import Damaged
from becalm.repository.format import BlobKind, IndexDoc, IndexedBlob
from becalm.repository.index import Index
from becalm.repository.index_columns import columns_of
from becalm.repository.node import Node, encode_tree
from becalm.repository.quoting import quote
from becalm.repository.seek import in_document

NAMES = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=12)


def a_file(name: str) -> Node:
    return Node.file(name, content=("ab" * 32,), size=3, mode=0o644, mtime_ns=0)


@given(names=st.sets(NAMES, min_size=1, max_size=6))
def test_a_name_is_found_as_json_says_it(names: set[str]) -> None:
    """The short way finds the very entry, or says nothing: never another one."""
    document = encode_tree(map(a_file, names))
    by_name = {entry["name"]: entry for entry in orjson.loads(document)["nodes"]}
    found = {name: in_document(document, name) for name in names}

    assert {name: by_name[quote(name)] for name, entry in found.items() if entry is not None} == {
        name: entry for name, entry in found.items() if entry is not None
    }
    assert in_document(document, "nobody-has-this-name") is None


def test_plain_names_are_found_at_the_begin_in_the_middle_and_at_the_end() -> None:
    """Of three entries each is found by the bytes alone."""
    document = encode_tree(map(a_file, ("a", "b", "c.conf")))

    assert [(in_document(document, name) or {})["name"] for name in ("a", "b", "c.conf")] == ["a", "b", "c.conf"]


@pytest.mark.parametrize("document", [b"", b"[]", b'{"nodes": [{"name":"a","type":"file"}]}', b'{"nodes":[{"name":"a","type":fi'])
def test_other_layouts_are_not_guessed_at(document: bytes) -> None:
    """What is not laid out as usual is left to JSON."""
    assert in_document(document, "a") is None


NUMBER = st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([0, 9, 10, 2**32 - 1]))
BLOBS = st.builds(
    IndexedBlob,
    id=st.binary(min_size=32, max_size=32).map(bytes.hex),
    kind=st.sampled_from(list(BlobKind)),
    offset=NUMBER,
    length=st.integers(32, 2**32 - 1),
    uncompressed_length=NUMBER,
)
PACKS = st.dictionaries(st.binary(min_size=32, max_size=32).map(bytes.hex), st.lists(BLOBS, min_size=1, max_size=5), min_size=1, max_size=4)


@given(packs=PACKS)
def test_columns_say_what_the_document_says(packs: dict[str, list[IndexedBlob]]) -> None:
    """Every pack and every blob comes back, in its order."""
    columns = columns_of(IndexDoc({pack: tuple(blobs) for pack, blobs in packs.items()}).encode())

    assert columns is not None
    assert columns.packs == list(packs)
    assert columns.counts.tolist() == [len(blobs) for blobs in packs.values()]
    said = [blob for blobs in packs.values() for blob in blobs]
    assert columns.ids == b"".join(bytes.fromhex(blob.id) for blob in said)
    assert columns.tree.tolist() == [blob.kind is BlobKind.TREE for blob in said]
    assert [columns.offset.tolist(), columns.length.tolist(), columns.plain.tolist()] == [
        [blob.offset for blob in said],
        [blob.length for blob in said],
        [blob.uncompressed_length for blob in said],
    ]


@given(packs=PACKS, data=st.data())
def test_one_changed_byte_is_read_as_json_reads_it(packs: dict[str, list[IndexedBlob]], data: st.DataObject) -> None:
    """Where a byte differs, the columns say what JSON says of the changed document, or nothing."""
    document = bytearray(IndexDoc({pack: tuple(blobs) for pack, blobs in packs.items()}).encode())
    place = data.draw(st.integers(0, len(document) - 1))
    document[place] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from(b'0123456789af{}[],":')))
    columns = columns_of(bytes(document))

    if columns is not None:
        again = orjson.loads(bytes(document))["packs"]
        assert columns.packs == [pack["id"] for pack in again]
        said = [blob for pack in again for blob in pack["blobs"]]
        assert columns.ids.hex() == "".join(blob["id"] for blob in said)
        assert columns.tree.tolist() == [blob["type"] == "tree" for blob in said]
        assert columns.offset.tolist() == [blob["offset"] for blob in said]
        assert columns.length.tolist() == [blob["length"] for blob in said]
        assert columns.plain.tolist() == [blob.get("uncompressed_length", 0) for blob in said]


@pytest.mark.parametrize("length", [31, 2**32])
def test_a_length_that_no_blob_has_is_still_damage(length: int) -> None:
    """The short way leaves it to the long one, which names it."""
    blob = IndexedBlob(id="ab" * 32, kind=BlobKind.DATA, offset=0, length=length, uncompressed_length=0)
    document = IndexDoc({"cd" * 32: (blob,)}).encode()

    assert columns_of(document) is None
    with pytest.raises(Damaged):
        Index().add_document(document, where="index/1")
