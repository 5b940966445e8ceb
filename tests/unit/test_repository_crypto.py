"""Sealing: what was sealed opens, and nothing else does."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from becalm.errors import Damaged, NoRepository, WrongPassword
from becalm.repository.crypto import OVERHEAD, Kdf, MasterKey, add_key, seal, unlock, unseal
from becalm.testing.memory_store import MemoryStore

CHEAP = Kdf(n=1 << 4, r=8, p=1)
KEY = MasterKey(bytes(range(32)), bytes(range(16)), bytes(range(1, 17)))


@given(st.binary(max_size=5000))
def test_what_was_sealed_opens(plain: bytes) -> None:
    """Opening is the inverse of sealing, for every length."""
    sealed = seal(KEY, plain)

    assert unseal(KEY, sealed) == plain
    assert len(sealed) == len(plain) + OVERHEAD


@given(st.binary(max_size=300), st.integers(0), st.integers(1, 255))
def test_no_changed_byte_is_accepted(plain: bytes, place: int, change: int) -> None:
    """Nonce, cipher text and MAC: whichever byte was changed, nothing is decrypted."""
    sealed = seal(KEY, plain)
    sealed[place % len(sealed)] ^= change

    with pytest.raises(Damaged):
        unseal(KEY, sealed)


@given(st.binary(max_size=100), st.integers(1, 200))
def test_nothing_that_was_cut_is_accepted(plain: bytes, cut: int) -> None:
    """A sealed object that lost its end is damaged, also where nothing is left."""
    with pytest.raises(Damaged):
        unseal(KEY, seal(KEY, plain)[:-cut])


def test_another_key_opens_nothing() -> None:
    """The error names the object."""
    with pytest.raises(Damaged, match="some/object"):
        unseal(MasterKey.random(), seal(KEY, b"secret"), where="some/object")


def test_the_same_text_is_never_sealed_the_same_way() -> None:
    """Each sealing has a nonce of its own."""
    assert seal(KEY, b"x") != seal(KEY, b"x")


def test_keys_do_not_show_in_their_text() -> None:
    """A key that is logged by mistake says nothing."""
    assert "\\x00" not in repr(KEY)


def a_store_with_keys(*passwords: str) -> MemoryStore:
    store = MemoryStore()
    for password in passwords:
        add_key(store, KEY, password, created=store.now(), kdf=CHEAP)
    return store


def test_each_password_opens_the_same_key() -> None:
    """A repository may have several."""
    store = a_store_with_keys("one", "two", "three ü")

    assert all(unlock(store, password)[0] == KEY for password in ("one", "two", "three ü"))


def test_a_wrong_password_says_so() -> None:
    """With the place and what to do."""
    with pytest.raises(WrongPassword, match="memory://"):
        unlock(a_store_with_keys("right"), "wrong")


def test_without_keys_there_is_no_repository() -> None:
    """Not a wrong password: there is none to be wrong."""
    with pytest.raises(NoRepository):
        unlock(MemoryStore(), "any")


def put_key(store: MemoryStore, **changes: object) -> None:
    """Put the first key of the store a second time, changed and with a name that fits."""
    original = json.loads(store.get(next(iter(store.list("keys/"))).key))
    body = json.dumps({**original, **changes}).encode()
    for info in list(store.list("keys/")):
        store.delete(info.key)
    store.put(f"keys/{sha256(body).hexdigest()}", body)


@pytest.mark.parametrize(
    "changes",
    [
        {"N": 1 << 40},
        {"N": 12345},
        {"N": 0},
        {"r": 1 << 20},
        {"p": 1 << 20},
        {"p": 0},
        {"kdf": "argon2"},
        {"salt": 7},
        {"data": ""},
        {"N": "many"},
    ],
)
def test_a_key_that_asks_too_much_is_damaged(changes: dict[str, object]) -> None:
    """Costs are bounded before they are paid, and nonsense is named."""
    store = a_store_with_keys("right")
    put_key(store, **changes)

    with pytest.raises(Damaged, match="keys/"):
        unlock(store, "right")


def test_a_key_that_is_not_what_its_name_says_is_damaged() -> None:
    """Its name is the hash of its bytes."""
    store = a_store_with_keys("right")
    info = next(iter(store.list("keys/")))
    store.put(info.key, store.get(info.key) + b" ")

    with pytest.raises(Damaged, match="name"):
        unlock(store, "right")


def test_a_damaged_key_does_not_hide_a_good_one() -> None:
    """The others are tried as well."""
    store = a_store_with_keys("right")
    store.put("keys/" + "0" * 64, b"rubbish")

    assert unlock(store, "right")[0] == KEY
