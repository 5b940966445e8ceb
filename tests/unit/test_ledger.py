"""The ledger: a chain of sealed entries, of which few are read, and none goes or changes without a word."""

from __future__ import annotations

import pytest

from becalm.catalog import ledger
from becalm.catalog.ledger import EntryKind
from becalm.errors import Damaged, StoreUnavailable
from becalm.repository.format import Layout
from becalm.repository.reader import Repository, init_repository, open_repository
from becalm.storage.wrappers import Counting
from becalm.testing.fake_clock import FakeClock
from becalm.testing.faulty_store import Fault, FaultyStore
from becalm.testing.memory_store import MemoryStore
from becalm.testing.saved_points import CHEAP, PASSWORD


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(clock=FakeClock())


@pytest.fixture
def repository(store: MemoryStore) -> Repository:
    return init_repository(store, PASSWORD, kdf=CHEAP)


def fill(repository: Repository, kinds: str) -> list[ledger.Entry]:
    """Append an entry for each letter: v(erified), p(runed), f(orgotten)."""
    kind_of = {"v": EntryKind.VERIFIED, "p": EntryKind.PRUNED, "f": EntryKind.FORGOTTEN}
    return [ledger.append(repository, kind_of[letter], {"place": place}, who="me") for place, letter in enumerate(kinds)]


def test_an_entry_comes_back_as_it_was_written(repository: Repository) -> None:
    """With its number, time, and whose it is; each names the one before."""
    first = ledger.append(repository, "verified", {"a": 1}, who="me", run="r", epoch=3)
    second = ledger.append(repository, EntryKind.PRUNED, {}, who="you")

    assert ledger.entry(repository, 1) == first
    assert (first.content, first.who, first.run, first.epoch, first.previous) == ({"a": 1}, "me", "r", 3, "")
    assert (second.number, second.previous, dict(second.newest)) == (2, first.digest, {"verified": 1})


@pytest.mark.parametrize("call", range(1, 12))
def test_a_reading_damaged_on_its_way_does_not_break_the_chain(store: MemoryStore, repository: Repository, call: int) -> None:
    """Whichever it is: the next entry follows the one that is stored."""
    fill(repository, "vp")
    garbled = Repository(store=FaultyStore(store, {call: Fault.GARBLED}), id=repository.id, version=repository.version, key=repository.key)
    fill(garbled, "f")

    assert ledger.broken(repository) == []
    assert ledger.numbers(repository) == [1, 2, 3]


def test_what_it_says_is_sealed(store: MemoryStore, repository: Repository) -> None:
    """Nobody without the password reads it."""
    ledger.append(repository, EntryKind.VERIFIED, {"secret": "whisper"}, who="me")

    assert b"whisper" not in store.get(Layout.ledger(1))


def test_the_entries_of_a_kind_are_found_without_reading_the_others(repository: Repository) -> None:
    """Newest first."""
    fill(repository, "vpvvfpppv")

    assert [one.number for one in ledger.newest(repository, EntryKind.VERIFIED)] == [9, 4, 3, 1]
    assert [one.number for one in ledger.newest(repository, EntryKind.PRUNED)] == [8, 7, 6, 2]
    assert list(ledger.newest(repository, EntryKind.SALVAGED)) == []


def test_the_newest_of_a_kind_costs_two_objects_in_a_long_ledger(store: MemoryStore, repository: Repository) -> None:
    """However many entries of another kind stand after it."""
    fill(repository, "v" + "p" * 60)
    counting = Counting(store)
    found = next(ledger.newest(open_repository(counting, PASSWORD), EntryKind.VERIFIED))

    assert found.number == 1
    assert counting.calls["get"] <= 4  # the config, the key, the newest entry, and the one that is wanted


@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_missing_entry_is_named(store: MemoryStore, repository: Repository, number: int) -> None:
    """From the list alone, and by the chain. The last one cannot be missed."""
    fill(repository, "vvvvv")
    store.delete(Layout.ledger(number))
    told = [] if number == 5 else [f"memory://store/{Layout.ledger(number)}"]

    assert [error.where for error in ledger.gaps(repository)] == told
    assert [error.where for error in ledger.broken(repository)] == told


def test_a_changed_entry_is_named(store: MemoryStore, repository: Repository) -> None:
    """Changed bytes, another entry in its place, and one that was written anew with the same words."""
    fill(repository, "vvvv")
    whole = store.get(Layout.ledger(2))
    store.tamper(Layout.ledger(2), whole[:-1] + bytes([whole[-1] ^ 1]))
    flipped = [error.where for error in ledger.broken(repository)]
    store.tamper(Layout.ledger(2), store.get(Layout.ledger(3)))
    swapped = [error.where for error in ledger.broken(repository)]
    store.tamper(Layout.ledger(2), repository.seal_document(repository.open_document(whole, where=""))[0])
    sealed_again = [error.where for error in ledger.broken(repository)]
    store.tamper(Layout.ledger(2), whole)

    assert flipped == swapped == [f"memory://store/{Layout.ledger(2)}"]
    assert sealed_again == [f"memory://store/{Layout.ledger(3)}"]  # which follows another one
    assert ledger.broken(repository) == []


def test_behind_a_broken_entry_the_ledger_goes_on(store: MemoryStore, repository: Repository) -> None:
    """The next entry knows the bytes of the broken one, and what the one before it knew."""
    fill(repository, "vpv")
    store.tamper(Layout.ledger(3), b"nothing")
    added = ledger.append(repository, EntryKind.PRUNED, {}, who="me")

    assert (added.number, dict(added.newest)) == (4, {"verified": 1, "pruned": 2})
    assert [error.where for error in ledger.broken(repository)] == [f"memory://store/{Layout.ledger(3)}"]


def test_of_two_writers_one_appends_after_the_other(store: MemoryStore, repository: Repository) -> None:
    """The slower one finds its number taken and takes the next."""
    fill(repository, "v")

    class Late(Counting):
        """Shows a list from before the other writer."""

        def list(self, prefix: str):  # type: ignore[no-untyped-def]
            """Yield what was there."""
            return iter(before if prefix == Layout.LEDGER else list(super().list(prefix)))

    before = list(store.list(Layout.LEDGER))
    fill(repository, "pp")
    added = ledger.append(open_repository(Late(store), PASSWORD), EntryKind.FORGOTTEN, {}, who="late")

    assert added.number == 4
    assert ledger.broken(repository) == []


def test_a_lost_reply_leaves_one_entry_and_no_fork(store: MemoryStore, repository: Repository) -> None:
    """Fail each call of an append: the chain is whole after it, and after the repetition."""
    fill(repository, "vp")
    for fault in (Fault.LOST_BEFORE, Fault.LOST_AFTER):
        for number in range(1, 9):
            try:
                ledger.append(
                    Repository(store=FaultyStore(store, {number: fault}), id=repository.id, version=2, key=repository.key),
                    EntryKind.VERIFIED,
                    {},
                    who="me",
                )
            except StoreUnavailable:
                ledger.append(repository, EntryKind.VERIFIED, {}, who="me")

            assert ledger.broken(repository) == []


def test_a_newer_format_is_not_guessed_at(store: MemoryStore, repository: Repository) -> None:
    """Nor is an entry of another form."""
    fill(repository, "v")
    for document in (b'{"format":2}', b'{"format":1}', b"[]"):
        store.tamper(Layout.ledger(1), repository.seal_document(document)[0])
        with pytest.raises(Damaged):
            ledger.entry(repository, 1)
