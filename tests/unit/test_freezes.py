"""Notes of freezes in the bucket: written before, merged by a second try, gone after the confirmed thaw."""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

import pytest

from becalm.actions import freezes
from becalm.actions.freezes import Held, Note
from becalm.errors import Damaged, StoreUnavailable
from becalm.repository.format import Layout
from becalm.storage.wrappers import Wrapper
from becalm.testing.memory_store import MemoryStore

FIRST = Held(hook="spec.quiesce.hooks.0", namespace="shop", pod="db-0", uid="u1", container="main", switch="becalm.main.r.h.1")
NOTE = Note(run="0a1b2c3d4e", application="shop", seconds=40, held=(FIRST,))


class Mute(Wrapper):
    """A store that takes no write."""

    def put(self, *arguments: object, **more: object) -> NoReturn:
        """Refuse."""
        raise StoreUnavailable("no answer")

    def delete(self, *arguments: object, **more: object) -> NoReturn:
        """Refuse."""
        raise StoreUnavailable("no answer")


def test_a_note_reads_back_and_goes() -> None:
    """It stands under its run and application; nothing is left of it afterwards, however often it is forgotten."""
    store = MemoryStore()
    freezes.write(NOTE, store)
    (found,) = freezes.find(store)
    assert found.note == NOTE
    assert (found.until - found.written).total_seconds() == 40
    assert freezes.find(store, run="ffff") == []
    for _ in range(2):
        freezes.forget(NOTE.run, "shop", store)

    assert list(store.list(Layout.FREEZES)) == []


def test_a_second_try_keeps_what_the_first_one_noted() -> None:
    """The first try may have frozen a pod that is not meant any more: it is thawed all the same."""
    store = MemoryStore()
    second = replace(FIRST, pod="db-1", switch="becalm.main.r.h.2")
    freezes.write(NOTE, store)
    freezes.write(replace(NOTE, held=(second,)), store)
    freezes.write(replace(NOTE, held=(second,)), store)

    assert freezes.find(store)[0].note.held == (FIRST, second)


def test_no_command_is_ever_in_a_note() -> None:
    """Commands of authors may hold passwords, and the bucket's own documents are not encrypted."""
    assert set(Held.__slots__) == {"hook", "namespace", "pod", "uid", "container", "switch"}


def test_a_note_that_cannot_be_read_is_damage() -> None:
    """It is named, not passed over: something may be frozen."""
    store = MemoryStore()
    store.put(Layout.freeze("ab", "shop"), b"not json")
    with pytest.raises(Damaged, match="not JSON"):
        freezes.find(store)


def test_a_store_that_does_not_answer_stops_a_freeze_before_it_begins_and_no_thaw() -> None:
    """Who cannot note a freeze must not freeze; who cannot remove a note has thawed all the same."""
    inner = MemoryStore()
    freezes.write(NOTE, inner)
    store = Mute(inner)
    freezes.forget(NOTE.run, "shop", store)
    with pytest.raises(StoreUnavailable):
        freezes.write(replace(NOTE, run="ff"), store)

    assert len(list(inner.list(Layout.FREEZES))) == 1
