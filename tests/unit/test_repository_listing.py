"""Directories of any size: read a slab at a time, with the same entries as if they were read at once."""

from __future__ import annotations

import os
import tracemalloc
from hashlib import sha256

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from becalm.errors import Damaged, NotFound
from becalm.repository.check_packs import job_of
from becalm.repository.check_worker import PackFound, PackReader
from becalm.repository.crypto import Kdf
from becalm.repository.format import BlobKind, IndexedBlob, Layout
from becalm.repository.listing import iter_nodes, listing
from becalm.repository.node import Node, NodeType, decode_tree, encode_tree
from becalm.repository.opening import LARGE
from becalm.repository.pack import PackBuilder, encode_blob
from becalm.repository.reader import Repository, init_repository
from becalm.repository.scan import INDEX, TREE, Shape, slabs
from becalm.repository.tree import lookup, nodes, walk
from becalm.repository.tree_facts import TreeFacts
from becalm.testing.memory_store import MemoryStore

HOSTILE = st.sampled_from(
    [
        '},{"name":"x","type":"file"',
        '"},{"name":"',
        "},{",
        ']},{"id":"',
        '\\"},{"name":"a","type":',
        "\\",
        '"',
        "\N{SNOWMAN}",
        "\udcff",
        "[[{{",
    ]
)
NAMES = st.one_of(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12), HOSTILE)


@st.composite
def trees(draw: st.DrawFn) -> list[Node]:
    names = draw(st.lists(NAMES, max_size=30, unique=True))
    attributes = st.lists(st.tuples(st.one_of(HOSTILE.filter(str.isprintable), st.just("user.a")), st.binary(max_size=9)), max_size=4)
    return [Node(name=name, type=NodeType.FILE, content=(), xattrs=tuple(draw(attributes))) for name in names]


@given(trees(), st.integers(1, 400), st.integers(1, 97))
def test_a_tree_in_slabs_has_the_entries_of_the_tree_at_once(entries: list[Node], slab: int, part: int) -> None:
    """Whatever stands in the names, a slab never ends within an entry, however the document comes in parts."""
    document = encode_tree(entries)
    parts = [document[begin : begin + part] for begin in range(0, len(document), part)]

    assert [entry for piece in slabs(parts, TREE, slab=slab) for entry in piece] == orjson.loads(document)["nodes"]


@given(st.lists(st.tuples(st.text(max_size=5), st.lists(st.integers(0, 9), max_size=3)), max_size=20), st.integers(1, 60))
def test_a_document_that_is_laid_out_otherwise_is_read_at_once(elements: list[tuple[str, list[int]]], slab: int) -> None:
    """Spaces, other keys first, an element that looks like a boundary: the same elements."""
    array = [{"id": name, "x": [{"y": []}, {"id": "z", "y": numbers}]} for name, numbers in elements]
    for document in (
        orjson.dumps({"packs": array}),
        orjson.dumps({"a": 1, "packs": array}),
        orjson.dumps({"packs": array}, option=orjson.OPT_INDENT_2),
    ):
        assert [element for piece in slabs([document], INDEX, slab=slab) for element in piece] == array


@pytest.mark.parametrize("document", [b"", b"[]", b'{"nodes":7}', b'{"nodes":[{]}', b'{"nodes":[', b'{"other":[]}', b"\xff"])
def test_what_is_not_a_tree_is_damaged(document: bytes) -> None:
    """No other error comes out."""
    with pytest.raises(Damaged):
        list(iter_nodes(document))


def test_only_a_slab_stands_in_memory_as_objects() -> None:
    """A directory of some megabytes is read in a fraction of what its entries need at once."""
    document = (
        b'{"nodes":['
        + b",".join(
            b'{"name":"file %06d","type":"file","mtime":"2026-01-01T00:00:00Z","content":["%064x"]}' % (n, n) for n in range(12_000)
        )
        + b"]}\n"
    )
    tracemalloc.start()
    try:
        parts = (document[begin : begin + 65_536] for begin in range(0, len(document), 65_536))
        count = sum(len(entries) for entries in slabs(parts, TREE, slab=1 << 17))
        _, streamed = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        whole = orjson.loads(document)
        _, at_once = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert count == len(whole["nodes"]) == 12_000
    assert streamed * 3 < at_once


def _with_tree(document: bytes) -> tuple[Repository, str, str, IndexedBlob]:
    """Return a repository with this one tree, the ids of tree and pack, and where it lies."""
    store = MemoryStore()
    repository = init_repository(store, "secret", kdf=Kdf(n=2, r=8, p=1))
    builder = PackBuilder(repository.key, BlobKind.TREE)
    tree = sha256(document).hexdigest()
    builder.append(encode_blob(repository.key, BlobKind.TREE, tree, document, level=3))
    pack = builder.finish()
    store.put(Layout.pack(pack.id), bytes(pack.body))
    repository.index.add(pack.id, pack.blobs)
    return repository, tree, pack.id, pack.blobs[0]


LINES = b",".join(
    b'{"name":"file %06d","type":"file","mode":420,"mtime":"2026-01-01T00:00:00Z","uid":0,"gid":0,"user":"%s","group":"everybody","inode":%d,"content":[]}'
    % (n, b"somebody" * 40, n)
    for n in range(20_000)
)
BIG = b'{"nodes":[' + LINES + b"]}\n"


def test_a_large_directory_is_walked_looked_up_and_checked() -> None:
    """It is larger than what is held as plain text; the entries are the same, and the path is found."""
    repository, tree, _, _ = _with_tree(BIG)

    assert len(BIG) > LARGE
    assert sum(map(len, listing(repository, tree))) == 20_000
    assert lookup(repository, tree, "file 019999").inode == 19_999
    assert [path for path, _ in walk(repository, tree)][-1] == "file 019999"
    assert next(nodes(repository, tree)).name == "file 000000"
    with pytest.raises(NotFound):
        lookup(repository, tree, "file 000000/below")


def test_of_a_damaged_large_directory_no_entry_is_seen() -> None:
    """A flipped byte, a missing pack, a wrong length, another tree in its place: an error before the first entry."""
    repository, tree, pack, blob = _with_tree(BIG)
    key = Layout.pack(pack)
    body = repository.store.get(key)
    index = repository.index

    flipped = bytearray(body)
    flipped[blob.length // 2] ^= 1
    repository.store.put(key, bytes(flipped))
    with pytest.raises(Damaged, match="authentication"):
        next(listing(repository, tree))
    repository.store.delete(key)
    with pytest.raises(Damaged, match="gone"):
        next(listing(repository, tree))
    repository.store.put(key, body)
    other = os.urandom(32).hex()
    index.add(
        pack,
        [IndexedBlob(id=other, kind=BlobKind.TREE, offset=blob.offset, length=blob.length, uncompressed_length=blob.uncompressed_length)],
    )
    with pytest.raises(Damaged, match="something else"):
        next(listing(repository, other))
    for wrong in (blob.uncompressed_length - 1, blob.uncompressed_length + 1, 1 << 31):
        index.add(pack, [IndexedBlob(id=other, kind=BlobKind.TREE, offset=blob.offset, length=blob.length, uncompressed_length=wrong)])
        with pytest.raises(Damaged):
            next(listing(repository, other))
    with pytest.raises(Damaged, match="index"):
        listing(repository, "0" * 64)

    assert sum(map(len, listing(repository, tree))) == 20_000


def test_a_name_that_another_writer_quoted_otherwise_is_found() -> None:
    """Go quotes what it cannot print; older writers quoted more."""
    document = rb'{"nodes":[{"name":"\\x61b","type":"file","mtime":"2026-01-01T00:00:00Z","content":[]}]}' + b"\n"
    repository, tree, _, _ = _with_tree(document)

    assert decode_tree(document)[0].name == "ab"
    assert lookup(repository, tree, "ab").name == "ab"


def test_the_shapes_are_those_that_are_written() -> None:
    """A directory that is written here is one that can be cut."""
    document = encode_tree([Node(name="a", type=NodeType.FILE), Node(name="b", type=NodeType.FIFO)])

    assert isinstance(TREE, Shape)
    assert document.startswith(TREE.opening)
    assert len(TREE.boundary.findall(document)) == 1


def _read_by_check(repository: Repository, pack: str, body: bytes) -> PackFound:
    index = repository.index
    entries = next(entries for entries in index.entries_of_packs() if entries.pack == pack)
    key = repository.key
    return PackReader((key.encrypt, key.mac_k, key.mac_r)).read(pack, memoryview(body), job_of(entries, len(body)).listed)


def test_a_check_takes_the_same_facts_from_a_large_directory_as_from_its_text_at_once() -> None:
    """It is parsed while it is decrypted and decompressed; its ids, counts and sizes are those of the text."""
    files = b",".join(
        b'{"name":"f%06d","type":"file","size":%d,"user":"%s","content":["%064x"]}' % (n, n + 1, b"u" * 400, n) for n in range(20_000)
    )
    document = b'{"nodes":[' + files + b',{"name":"z","type":"dir","subtree":"' + b"ab" * 32 + b'"}]}\n'
    repository, tree, pack, _ = _with_tree(document)
    found = _read_by_check(repository, pack, repository.store.get(Layout.pack(pack)))
    at_once = TreeFacts()
    below = at_once.add(bytes.fromhex(tree), document)

    assert len(document) > LARGE
    assert not found.problems
    assert below == [bytes.fromhex("ab" * 32)]
    assert found.facts == at_once


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(BIG[:-3] + b"}]}\n", id="not JSON at its end"),
        pytest.param(BIG.replace(b'"content":[]', b'"content":["zz"]', 1), id="an id that is none"),
    ],
)
def test_a_check_names_a_large_directory_that_cannot_be_read_and_takes_nothing_from_it(document: bytes) -> None:
    """The blob is what its id says: not the pack is at fault, the tree is."""
    repository, tree, pack, _ = _with_tree(document)
    found = _read_by_check(repository, pack, repository.store.get(Layout.pack(pack)))

    assert not found.problems
    assert found.facts is not None
    assert [raw.hex() for raw, _ in found.facts.problems] == [tree]
    assert not found.facts.trees


def test_a_check_finds_what_was_flipped_in_a_large_directory() -> None:
    """Its authentication code tells, before anything is decrypted."""
    repository, tree, pack, blob = _with_tree(BIG)
    body = bytearray(repository.store.get(Layout.pack(pack)))
    body[blob.length // 3] ^= 4
    found = _read_by_check(repository, pack, bytes(body))

    assert found.lost == [(True, bytes.fromhex(tree))]
    assert "authentication" in found.problems[0]
