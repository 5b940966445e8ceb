"""Blobs whose bytes the parent holds: kept in this process and by a crew alike, each once."""

from __future__ import annotations

from hashlib import sha256
from random import Random

import pytest

from becalm.repository.crypto import Kdf
from becalm.repository.format import BlobKind
from becalm.repository.hands import Hands
from becalm.repository.progress import Progress
from becalm.repository.reader import init_repository, open_repository
from becalm.repository.writer import Writer
from becalm.testing.memory_store import MemoryStore


@pytest.mark.parametrize("workers", [0, 2], ids=["in this process", "by a crew"])
def test_blobs_are_kept_once_and_their_ids_are_answered_in_order(workers: int) -> None:
    """Also those that come twice, in one batch or in two."""
    store = MemoryStore()
    repository = init_repository(store, "password", kdf=Kdf(n=1 << 4, r=8, p=1))
    plains = [Random(number % 90).randbytes(10 + number % 90) for number in range(200)]
    batches = [plains[:120], plains[120:], plains[:5]]
    answered: dict[int, list[bytes | None]] = {}
    with Writer(repository) as writer:
        hands = Hands(writer, Progress(), workers=workers)
        try:
            for number, batch in enumerate(batches):
                hands.blobs(batch, then=lambda read, number=number: answered.update({number: list(read.entries)}))
            hands.finish()
        finally:
            hands.close()
        written = writer.flush()
    again = open_repository(store, "password")

    assert [answered[number] for number in range(3)] == [[sha256(plain).digest() for plain in batch] for batch in batches]
    assert written.blobs == len(set(plains))
    assert all(again.blob(BlobKind.DATA, sha256(plain).hexdigest()) == plain for plain in plains)
