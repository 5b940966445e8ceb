"""Several passwords: what is added opens, what is removed is gone, and at every moment some key opens."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from hashlib import sha256

import pytest

from becalm.errors import BecalmError, Conflict, Damaged, NotFound, PermanentError, UsageError, WrongPassword
from becalm.repository import keys
from becalm.repository.crypto import Kdf
from becalm.repository.format import Layout
from becalm.repository.reader import Repository, init_repository, open_repository
from becalm.storage.wrappers import Wrapper
from becalm.testing.fake_clock import NOON, FakeClock
from becalm.testing.faulty_store import Crash, Fault, FaultyStore
from becalm.testing.memory_store import MemoryStore

CHEAP = Kdf(n=16)


class Scene:
    """A repository with one password."""

    def __init__(self, *, locked_days: int = 0) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(clock=self.clock)
        until = NOON + timedelta(days=locked_days) if locked_days else None
        self.repository: Repository = init_repository(self.store, "first", kdf=CHEAP, retain_until=until)
        self.first = keys.opened_by(self.repository, "first")

    def add(self, password: str) -> str:
        """Add a password."""
        return keys.add(self.repository, password, kdf=CHEAP)

    def opens(self, *passwords: str) -> list[str]:
        """Return those of the passwords that open the repository."""
        found = []
        for password in passwords:
            try:
                open_repository(self.store, password)
            except WrongPassword:
                continue
            found.append(password)
        return found

    def behind(self, store: object) -> Repository:
        """Return the same repository through another door."""
        return Repository(store=store, id=self.repository.id, version=2, key=self.repository.key)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_password_that_was_added_opens_and_the_others_still_do(scene: Scene) -> None:
    """The list says who made each, the oldest first, and no password."""
    scene.clock.advance(60)
    added = keys.add(scene.repository, "second", hostname="laptop", kdf=CHEAP)

    assert scene.opens("first", "second", "third") == ["first", "second"]
    listed = keys.keys(scene.store)
    assert [(info.id, info.hostname, info.username, info.created) for info in listed] == [
        (scene.first, "", "becalm", NOON),
        (added, "laptop", "becalm", NOON + timedelta(seconds=60)),
    ]
    assert "second" not in str(listed)


def test_an_empty_password_is_refused(scene: Scene) -> None:
    """Before anything is written."""
    before = scene.store.keys()
    with pytest.raises(UsageError, match="empty"):
        scene.add("")

    assert scene.store.keys() == before


def test_a_key_that_was_stored_wrong_is_noticed_before_anybody_relies_on_it(scene: Scene) -> None:
    """The round trip reads what lies in the store."""

    class Garbles(Wrapper):
        def put(self, key, body, **rest):
            etag = super().put(key, body, **rest)
            if key.startswith(Layout.KEYS):
                scene.store.tamper(key, bytes(body)[:-3] + b"!!}")
            return etag

    with pytest.raises(Damaged, match="not what its name says"):
        keys.add(scene.behind(Garbles(scene.store)), "second", kdf=CHEAP)


def test_a_removed_password_opens_nothing_any_more(scene: Scene) -> None:
    """And no note of it is left."""
    added = scene.add("second")
    removed = keys.remove(scene.repository, scene.first, proven=added)

    assert removed == keys.Removed(id=scene.first)
    assert scene.opens("first", "second") == ["second"]
    assert list(scene.store.list(Layout.RETIRED)) == []


def test_the_key_that_was_opened_with_is_not_removed(scene: Scene) -> None:
    """Nor, so, the last one."""
    scene.add("second")
    with pytest.raises(PermanentError, match="would lock you out"):
        keys.remove(scene.repository, scene.first, proven=scene.first)

    assert scene.opens("first", "second") == ["first", "second"]


def test_of_two_that_remove_each_others_key_at_once_one_key_stays(scene: Scene) -> None:
    """Whichever of them comes in between, at whichever call."""
    for turn in range(1, 9):
        scene = Scene()
        second = scene.add("second")
        between = iter(range(turn))

        class Between(Wrapper):
            def _step(self, between=between, scene=scene, second=second, turn=turn) -> None:
                if next(between, None) == turn - 1:
                    with suppress(Conflict):
                        keys.remove(scene.repository, second, proven=scene.first)

            def put(self, key, body, **rest):
                self._step()
                return super().put(key, body, **rest)

            def list(self, prefix):
                self._step()
                return super().list(prefix)

            def delete(self, key, **rest):
                self._step()
                super().delete(key, **rest)

        with suppress(Conflict):
            keys.remove(scene.behind(Between(scene.store)), scene.first, proven=second)

        assert scene.opens("first", "second"), f"both are gone at call {turn}"


def test_rotation_puts_the_new_password_in_the_place_of_the_old(scene: Scene) -> None:
    """Other passwords stay."""
    scene.add("recovery")
    added, removed = keys.rotate(scene.repository, old="first", new="second", kdf=CHEAP)

    assert removed.id == scene.first
    assert scene.opens("first", "second", "recovery") == ["second", "recovery"]
    assert keys.opened_by(scene.repository, "second") == added
    with pytest.raises(UsageError, match="the new password is the old one"):
        keys.rotate(scene.repository, old="second", new="second", kdf=CHEAP)


def test_a_locked_key_stays_until_its_time_and_is_then_removed() -> None:
    """The answer says until when; doing it again completes it."""
    scene = Scene(locked_days=14)
    added = scene.add("second")
    removed = keys.remove(scene.repository, scene.first, proven=added)
    (old,) = [info for info in keys.keys(scene.store) if info.id == scene.first]

    assert removed.locked_until == NOON + timedelta(days=14)
    assert (old.retired, old.locked_until) == (True, removed.locked_until)
    scene.clock.advance(14 * 86400 + 1)
    assert keys.remove(scene.repository, scene.first, proven=added).locked_until is None
    assert scene.opens("first", "second") == ["second"]


ACTS: dict[str, Callable[[Scene, Repository], object]] = {
    "add": lambda scene, repository: keys.add(repository, "second", kdf=CHEAP),
    "remove": lambda scene, repository: keys.remove(repository, scene.first, proven=keys.opened_by(scene.repository, "other")),
    "rotate": lambda scene, repository: keys.rotate(repository, old="first", new="second", kdf=CHEAP),
}


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize("name", sorted(ACTS))
def test_at_whichever_call_it_is_interrupted_some_key_opens_and_doing_it_again_completes_it(name: str, fault: Fault) -> None:
    """Each call of it in turn, with each fault."""
    number = 0
    while True:
        number += 1
        scene = Scene()
        if name == "remove":
            scene.add("other")
        faulty = FaultyStore(scene.store, {number: fault})
        with suppress(BecalmError, Crash):
            ACTS[name](scene, scene.behind(faulty))
        opening = scene.opens("first", "second", "other")
        assert opening, f"call {number}: nothing opens any more"
        if "first" in opening:
            ACTS[name](scene, scene.repository)
        finally_open = scene.opens("first", "second", "other")

        assert finally_open == {"add": ["first", "second"], "remove": ["other"], "rotate": ["second"]}[name]
        if len(faulty.calls) < number:  # it was not reached: these were all
            break
    assert number >= 4


def test_a_recovery_key_can_be_written_on_paper() -> None:
    """Six groups, no two alike, nothing but letters and digits that base32 knows."""
    made = {keys.recovery_password() for _ in range(200)}

    assert len(made) == 200
    assert all(re.fullmatch(r"[A-Z2-7]{5}(-[A-Z2-7]{5}){5}", one) for one in made)


def test_a_recovery_key_is_proven_by_what_was_written_down(scene: Scene) -> None:
    """One letter that was copied wrong opens nothing."""
    written = keys.recovery_password()
    key_id = keys.add(scene.repository, written, username=keys.RECOVERY, kdf=CHEAP)
    keys.prove(scene.repository, key_id, written)
    with pytest.raises(WrongPassword, match="does not open with this password"):
        keys.prove(scene.repository, key_id, written[:-1] + ("A" if written[-1] != "A" else "B"))


def test_a_key_is_named_by_the_beginning_of_its_id(scene: Scene) -> None:
    """Too short, unknown and ambiguous beginnings are told apart."""
    assert keys.find(scene.store, scene.first[:8]) == scene.first
    with pytest.raises(UsageError, match="too short"):
        keys.find(scene.store, scene.first[:3])
    with pytest.raises(NotFound, match="no key begins with"):
        keys.find(scene.store, "zzzzzzzz")
    scene.store.put(Layout.key(scene.first[:10] + "0" * 54), b"{}")
    with pytest.raises(UsageError, match="2 keys begin"):
        keys.find(scene.store, scene.first[:8])


# Bad keys: each is named, none stops another from opening, and none is paid for.


def bad_key(**changes: object) -> tuple[str, bytes]:
    """Return a key that is no good, under its right name."""
    document = {
        "created": "2026-01-01T00:00:00Z",
        "username": "jo",
        "hostname": "laptop",
        "kdf": "scrypt",
        "N": 16,
        "r": 8,
        "p": 1,
        "salt": b64encode(bytes(64)).decode(),
        "data": b64encode(bytes(200)).decode(),
    } | changes
    body = json.dumps(document).encode()
    return sha256(body).hexdigest(), body


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (bad_key(N=1 << 40)[1], "out of bounds"),
        (bad_key(r=1 << 30)[1], "out of bounds"),
        (bad_key(p=1 << 20)[1], "out of bounds"),
        (bad_key(N=15)[1], "out of bounds"),
        (bad_key(kdf="argon2")[1], "only scrypt is known"),
        (bad_key(salt=None)[1], "cannot be read"),
        (b"not json", "not JSON"),
        (b'"a string"', "not a JSON object"),
        (b"{" + b" " * (70 << 10) + b"}", "bytes is none"),
    ],
)
def test_a_bad_key_is_named_and_costs_nothing_and_another_key_still_opens(body: bytes, says: str) -> None:
    """An absurd scrypt is refused before it is paid for."""
    scene = Scene()
    scene.store.put(Layout.key(sha256(body).hexdigest()), body)
    assert scene.opens("first") == ["first"]
    alone = MemoryStore()
    alone.put(Layout.CONFIG, scene.store.get(Layout.CONFIG))
    alone.put(Layout.key(sha256(body).hexdigest()), body)

    with pytest.raises(Damaged, match=says) as caught:
        open_repository(alone, "first")
    assert sha256(body).hexdigest() in caught.value.where
    assert len(keys.keys(scene.store)) == 2


def test_a_config_of_another_repository_is_told_from_a_wrong_password(scene: Scene) -> None:
    """The password is right; what it opens does not belong here."""
    other = Scene()
    scene.store.tamper(Layout.CONFIG, other.store.get(Layout.CONFIG))
    with pytest.raises(Damaged, match="the config does not open with the key"):
        open_repository(scene.store, "first")
    with pytest.raises(WrongPassword, match="none of the 1 keys"):
        open_repository(scene.store, "another")
