"""The contract of the object store port, as tests. Every adapter, wrapper and double passes it.

A test module subclasses `StoreContract` and defines the fixture `subject`: the store under test, empty, and what it offers.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from becalm.errors import AccessDenied, Damaged, NotFound, PermanentError, PreconditionFailed, StoreReadOnly
from becalm.storage.base import ETag, Span

if TYPE_CHECKING:
    from collections.abc import Callable

    from becalm.storage.base import ObjectStore

HARD_KEYS = (
    "becalm/lease",
    "data/ab/abcd",
    "a+b c/100%/x=1&y=2/#hash?query",
    "quotes/'\"<>;:@,$!*()[]{}|\\^`~",
    "ü/é/日本/🜁",
    "dots/...hidden/.file",
    "line\nbreak/tab\t",
    "long/" + "n" * 255,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A store under test and what it offers."""

    store: ObjectStore
    object_lock: bool = False
    """Whether it locks objects."""
    races: bool = True
    """Whether its conditions hold when several write at once."""
    unlock: Callable[[], None] = lambda: None
    """Let the time pass after which the locks of `brief_lock_seconds` are over."""
    brief_lock_seconds: float = 2.0
    clashes: bool = True
    """Whether it refuses a key below another key."""


class StoreContract:
    """What a caller may rest on."""

    def test_what_was_put_comes_back(self, subject: Subject) -> None:
        """An object is its bytes, and `head` tells its size and the etag that `put` returned."""
        etag = subject.store.put("data/ab/abcd", b"some bytes")
        info = subject.store.head("data/ab/abcd")

        assert subject.store.get("data/ab/abcd") == b"some bytes"
        assert (info.key, info.size, info.etag) == ("data/ab/abcd", 10, etag)
        assert abs(info.modified - subject.store.now()) < timedelta(seconds=5)

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_every_kind_of_buffer_is_taken(self, subject: Subject, kind: type) -> None:
        """Bytes, a bytearray and a view are the same to a store."""
        subject.store.put("key", kind(b"buffer"))

        assert subject.store.get("key") == b"buffer"

    def test_an_empty_object_is_an_object(self, subject: Subject) -> None:
        """Nothing at all can be stored, read and listed."""
        subject.store.put("empty", b"", if_absent=True)

        assert subject.store.get("empty") == b""
        assert subject.store.get("empty", Span(offset=0, length=0)) == b""
        assert [(info.key, info.size) for info in subject.store.list("")] == [("empty", 0)]

    def test_a_pack_of_twenty_mebibytes_comes_back(self, subject: Subject) -> None:
        """Large objects travel whole."""
        body = hashlib.shake_256(b"pack").digest(20 << 20)
        subject.store.put("data/pack", body, if_absent=True)

        assert hashlib.sha256(subject.store.get("data/pack")).digest() == hashlib.sha256(body).digest()
        assert subject.store.get("data/pack", Span(offset=(20 << 20) - 7, length=7)) == body[-7:]

    @pytest.mark.parametrize(("offset", "length"), [(0, 1), (0, 10), (3, 4), (9, 1), (10, 0), (4, 0)])
    def test_a_span_is_what_was_asked_for(self, subject: Subject, offset: int, length: int) -> None:
        """Spans anywhere in the object, to its last byte, and empty ones."""
        subject.store.put("key", b"0123456789")

        assert subject.store.get("key", Span(offset=offset, length=length)) == b"0123456789"[offset : offset + length]

    @pytest.mark.parametrize(("offset", "length"), [(0, 11), (9, 2), (10, 1), (50, 3), (11, 0)])
    def test_a_span_beyond_the_end_is_damage(self, subject: Subject, offset: int, length: int) -> None:
        """Fewer bytes than asked for are never an answer."""
        subject.store.put("key", b"0123456789")

        with pytest.raises(Damaged, match="key"):
            subject.store.get("key", Span(offset=offset, length=length))

    def test_what_is_not_there_is_not_found(self, subject: Subject) -> None:
        """Reading, looking and locking say so; deleting is content."""
        subject.store.put("there", b"x")
        subject.store.delete("absent")

        for call in (
            lambda: subject.store.get("absent"),
            lambda: subject.store.get("absent", Span(offset=0, length=0)),
            lambda: subject.store.get("absent", Span(offset=0, length=1)),
            lambda: subject.store.head("absent"),
            lambda: subject.store.get("fold/er"),
            lambda: subject.store.get("there/below"),
            lambda: subject.store.retain("absent", subject.store.now() + timedelta(days=1)),
        ):
            with pytest.raises(NotFound):
                call()

    def test_a_folder_of_keys_is_no_object(self, subject: Subject) -> None:
        """The first part of a key names nothing by itself."""
        subject.store.put("folder/key", b"x")
        subject.store.delete("folder")

        with pytest.raises(NotFound):
            subject.store.get("folder")
        with pytest.raises(NotFound):
            subject.store.head("folder")
        assert subject.store.get("folder/key") == b"x"

    def test_a_key_below_a_key_is_refused(self, subject: Subject) -> None:
        """Where keys are paths, a clash is an error that does not go away by itself."""
        if not subject.clashes:
            pytest.skip("keys are not paths here")
        subject.store.put("file", b"x")
        subject.store.put("folder/key", b"x")

        for key in ("file/below", "folder"):
            for if_absent in (False, True):
                with pytest.raises(PermanentError) as caught:
                    subject.store.put(key, b"y", if_absent=if_absent)
                assert caught.type is PermanentError

    def test_a_put_replaces(self, subject: Subject) -> None:
        """Without a condition the last one stays, with another etag."""
        first = subject.store.put("key", b"first")
        second = subject.store.put("key", b"other")

        assert subject.store.get("key") == b"other"
        assert first != second

    def test_if_absent_keeps_what_is_there(self, subject: Subject) -> None:
        """A key is written once."""
        subject.store.put("key", b"first", if_absent=True)

        with pytest.raises(PreconditionFailed):
            subject.store.put("key", b"second", if_absent=True)
        assert subject.store.get("key") == b"first"

    def test_if_match_writes_over_the_named_state_only(self, subject: Subject) -> None:
        """Compare and swap; a state that is gone, or never was, does not match."""
        first = subject.store.put("key", b"first")
        second = subject.store.put("key", b"second", if_match=first)

        for etag in (first, ETag("0" * 32)):
            with pytest.raises(PreconditionFailed):
                subject.store.put("key", b"third", if_match=etag)
        with pytest.raises(PreconditionFailed):
            subject.store.put("absent", b"third", if_match=second)
        assert subject.store.get("key") == b"second"
        assert [info.key for info in subject.store.list("")] == ["key"]

    def test_a_deletion_can_be_conditional(self, subject: Subject) -> None:
        """Only the named state goes; what is gone already is fine."""
        first = subject.store.put("key", b"first")
        second = subject.store.put("key", b"second")

        with pytest.raises(PreconditionFailed):
            subject.store.delete("key", if_match=first)
        assert subject.store.get("key") == b"second"
        subject.store.delete("key", if_match=second)
        subject.store.delete("key", if_match=second)
        with pytest.raises(NotFound):
            subject.store.get("key")

    def test_a_deleted_object_stays_deleted(self, subject: Subject) -> None:
        """No older state comes back from behind it."""
        for body in (b"one", b"two", b"three"):
            subject.store.put("key", body)
        subject.store.delete("key")

        assert list(subject.store.list("")) == []
        with pytest.raises(NotFound):
            subject.store.head("key")

    def test_lists_are_whole_and_in_order(self, subject: Subject) -> None:
        """More keys than a page holds, sorted by key, with sizes and the etags that `head` tells."""
        keys = sorted([f"many/{number:03}" for number in range(23)] + ["many.txt", "many-a", "many/0/deep", "many0"])
        for number, key in enumerate(keys):
            subject.store.put(key, b"x" * number)

        listed = list(subject.store.list(""))
        assert [(info.key, info.size) for info in listed] == [(key, number) for number, key in enumerate(keys)]
        assert listed[5].etag == subject.store.head(listed[5].key).etag

    @pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b", "a/b/", "a/bc", "b", "nothing/", "a/b/c/d"])
    def test_a_prefix_is_of_characters_not_of_segments(self, subject: Subject, prefix: str) -> None:
        """Every key that begins with the prefix is listed, no other."""
        keys = ["a.x", "a/b/c", "a/bc", "a/bd/e", "ab", "b/a"]
        for key in keys:
            subject.store.put(key, b"")

        assert [info.key for info in subject.store.list(prefix)] == [key for key in keys if key.startswith(prefix)]

    def test_hard_keys_travel_unchanged(self, subject: Subject) -> None:
        """Blanks, signs of URLs and of XML, letters beyond ASCII, the longest segment."""
        for key in HARD_KEYS:
            subject.store.put(key, key.encode())

        assert [info.key for info in subject.store.list("")] == sorted(HARD_KEYS)
        for key in HARD_KEYS:
            assert subject.store.get(key) == key.encode()
            subject.store.delete(key)
        assert list(subject.store.list("")) == []

    @pytest.mark.parametrize(
        "key", ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\0b", "n" * 256, "x/" * 600 + "x", ".becalm~x", "\ud800"]
    )
    def test_what_is_no_key_is_refused_by_every_store(self, subject: Subject, key: str) -> None:
        """A key that one store could not hold is refused by all, before anything is asked."""
        for call in (
            lambda: subject.store.put(key, b""),
            lambda: subject.store.get(key),
            lambda: subject.store.head(key),
            lambda: subject.store.delete(key),
        ):
            with pytest.raises(PermanentError, match="no key"):
                call()

    def test_of_eight_racers_for_one_key_exactly_one_wins(self, subject: Subject) -> None:
        """`if_absent` is one step with the write."""
        if not subject.races:
            pytest.skip("this server's conditions do not hold in a race")
        for heat in range(10):

            def write(body: bytes, key: str = f"race/{heat}") -> None:
                subject.store.put(key, body, if_absent=True)

            winners = _race(write, heat=heat)

            assert len(winners) == 1
            assert subject.store.get(f"race/{heat}") == winners[0]

    def test_of_eight_racers_over_one_state_exactly_one_wins(self, subject: Subject) -> None:
        """`if_match` is one step with the write."""
        if not subject.races:
            pytest.skip("this server's conditions do not hold in a race")
        etag = subject.store.put("race", b"start")
        for heat in range(10):

            def write(body: bytes, seen: ETag = etag) -> None:
                subject.store.put("race", body, if_match=seen)

            winners = _race(write, heat=heat)

            assert len(winners) == 1
            assert subject.store.get("race") == winners[0]
            etag = subject.store.head("race").etag

    def test_readers_never_meet_half_an_object(self, subject: Subject) -> None:
        """While an object is replaced over and over, a reader sees one state or another, whole."""
        states = [bytes([number]) * 300_000 for number in range(4)]
        subject.store.put("key", states[0])
        done = threading.Event()

        def write() -> None:
            try:
                for _ in range(5):
                    for state in states:
                        subject.store.put("key", state)
            finally:
                done.set()

        writer = threading.Thread(target=write)
        writer.start()
        seen = set()
        while not done.is_set():
            seen.add(subject.store.get("key"))
        writer.join()

        assert seen <= set(states)

    def test_a_locked_object_cannot_be_deleted(self, subject: Subject) -> None:
        """Not conditionally either; once the lock has ended it can."""
        if not subject.object_lock:
            pytest.skip("no object lock here")
        until = subject.store.now() + timedelta(seconds=subject.brief_lock_seconds)
        etag = subject.store.put("key", b"x", if_absent=True, retain_until=until)

        locked_until = subject.store.head("key").retain_until
        assert locked_until is not None
        assert until <= locked_until < until + timedelta(seconds=2)
        with pytest.raises(AccessDenied, match="locked until"):
            subject.store.delete("key")
        with pytest.raises(AccessDenied, match="locked until"):
            subject.store.delete("key", if_match=etag)
        assert subject.store.get("key") == b"x"
        subject.unlock()
        subject.store.delete("key")
        with pytest.raises(NotFound):
            subject.store.head("key")

    def test_a_lock_grows_and_never_shrinks(self, subject: Subject) -> None:
        """`retain` locks what is not locked, extends what is, and leaves a longer lock alone."""
        if not subject.object_lock:
            pytest.skip("no object lock here")
        now = subject.store.now()
        short, long = now + timedelta(seconds=1), now + timedelta(seconds=subject.brief_lock_seconds)
        subject.store.put("key", b"x")
        for until in (short, long, short):
            subject.store.retain("key", until)

        locked_until = subject.store.head("key").retain_until
        assert locked_until is not None
        assert locked_until >= long
        assert subject.store.get("key") == b"x"

    def test_a_lock_that_ends_in_the_past_is_an_error(self, subject: Subject) -> None:
        """It would protect nothing and look as if it did."""
        if not subject.object_lock:
            pytest.skip("no object lock here")
        past = subject.store.now() - timedelta(days=1)
        subject.store.put("key", b"x")

        with pytest.raises(PermanentError, match="past"):
            subject.store.put("other", b"x", retain_until=past)
        with pytest.raises(PermanentError, match="past"):
            subject.store.retain("key", past)
        assert [info.key for info in subject.store.list("")] == ["key"]

    def test_without_object_lock_a_lock_is_refused(self, subject: Subject) -> None:
        """And nothing is written that was to be locked."""
        if subject.object_lock:
            pytest.skip("this store locks")
        until = subject.store.now() + timedelta(days=1)
        subject.store.put("key", b"x")

        with pytest.raises(StoreReadOnly, match="no object lock"):
            subject.store.retain("key", until)
        with pytest.raises(StoreReadOnly, match="no object lock"):
            subject.store.put("other", b"x", retain_until=until)
        assert [info.key for info in subject.store.list("")] == ["key"]

    def test_the_store_tells_its_time(self, subject: Subject) -> None:
        """With its zone, and never backwards."""
        first = subject.store.now()

        assert first.utcoffset() == timedelta(0)
        assert subject.store.now() >= first

    def test_errors_name_the_place(self, subject: Subject) -> None:
        """An operator reads which object of which store it was."""
        with pytest.raises(NotFound) as caught:
            subject.store.get("some/key")

        assert subject.store.url in caught.value.where
        assert caught.value.where.endswith("some/key")


def _race(write: Callable[[bytes], object], *, heat: int) -> list[bytes]:
    """Let eight threads write at once, each a body that was never written before; return the bodies of those that succeeded."""
    gate = threading.Barrier(8)
    winners: list[bytes] = []

    def run(body: bytes) -> None:
        gate.wait()
        try:
            write(body)
        except PreconditionFailed:
            return
        winners.append(body)

    threads = [threading.Thread(target=run, args=(f"heat {heat}, racer {number}".encode(),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return winners
