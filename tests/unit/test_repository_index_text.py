"""A few blobs without the whole index: the same answers, or none."""

from __future__ import annotations

from hashlib import sha256

import pytest

from becalm.errors import Damaged
from becalm.repository import tombstones
from becalm.repository.crypto import Kdf
from becalm.repository.format import BlobKind, Layout
from becalm.repository.index_text import Ahead
from becalm.repository.reader import Repository, init_repository, open_repository
from becalm.repository.writer import Writer
from becalm.testing.memory_store import MemoryStore

PASSWORD = "secret"
FAST = Kdf(n=2, r=1, p=1)


def _repository(*contents: bytes) -> tuple[MemoryStore, list[str]]:
    """Return a store with one index object for each content."""
    store = MemoryStore()
    repository = init_repository(store, PASSWORD, kdf=FAST)
    ids = []
    for content in contents:
        with Writer(repository, workers=1) as writer:
            writer.save_bytes(content)
        ids.append(sha256(content).hexdigest())
    return store, ids


def _few(store: MemoryStore) -> Repository:
    return open_repository(store, PASSWORD, few=True)


def test_what_is_found_in_the_text_is_what_the_index_says() -> None:
    """Pack, offset, lengths: all of it; and the blob is read without the index."""
    store, ids = _repository(b"one" * 100, b"two" * 2000)
    few, whole = _few(store), open_repository(store, PASSWORD)
    for blob_id in ids:
        assert few.sought(BlobKind.DATA, blob_id) == whole.index.lookup(BlobKind.DATA, blob_id)
        assert few.blob(BlobKind.DATA, blob_id) == whole.blob(BlobKind.DATA, blob_id)

    assert few._index is None


def test_what_is_not_found_is_left_to_the_index() -> None:
    """A tree is not a data blob, and an unknown id is the index's to refuse."""
    store, (one,) = _repository(b"one" * 100)
    few = _few(store)

    assert few.sought(BlobKind.TREE, one) is None
    assert few.sought(BlobKind.DATA, "no id") is None
    with pytest.raises(Damaged, match="no index knows"):
        few.blob(BlobKind.DATA, "0" * 64)


def test_a_marked_pack_is_never_the_answer() -> None:
    """It may be about to go: the index looks for another place first."""
    store, (one,) = _repository(b"one" * 100)
    pack = open_repository(store, PASSWORD).locate(BlobKind.DATA, one).pack
    tombstones.mark(store, pack, reason="a test", who="test")

    assert _few(store).sought(BlobKind.DATA, one) is None
    assert _few(store).blob(BlobKind.DATA, one) == b"one" * 100


@pytest.mark.parametrize("document", [b'{"packs": []}', b'{"supersedes":[],"packs":[]}', b"[]"], ids=["spaces", "more keys", "no object"])
def test_an_index_object_of_another_layout_is_left_to_the_index(document: bytes) -> None:
    """Nothing is guessed, for none of them."""
    store, (one,) = _repository(b"one" * 100)
    open_repository(store, PASSWORD).save_document(Layout.INDEX, document)

    assert _few(store).sought(BlobKind.DATA, one) is None


def test_a_damaged_index_object_is_named_as_ever() -> None:
    """The text is not read around the damage."""
    store, (one,) = _repository(b"one" * 100)
    (key,) = (info.key for info in store.list(Layout.INDEX))
    body = bytearray(store.get(key))
    body[40] ^= 1
    store.delete(key)
    store.put(key, bytes(body))

    with pytest.raises(Damaged, match="not what its name says"):
        _few(store).blob(BlobKind.DATA, one)


def test_once_the_index_is_read_it_alone_answers() -> None:
    """It knows what has come since."""
    store, (one,) = _repository(b"one" * 100)
    few = _few(store)
    assert few.sought(BlobKind.DATA, one) is not None

    assert len(few.index) == 1
    assert few.sought(BlobKind.DATA, one) is None
    assert few.blob(BlobKind.DATA, one) == b"one" * 100


def test_what_cannot_be_fetched_ahead_is_no_answer() -> None:
    """Whoever needs it meets the failure himself, by the usual way."""
    store = MemoryStore()
    store.put(f"{Layout.INDEX}{'0' * 64}", bytes(17 << 20))

    assert Ahead(store).result() is None
