"""The passwords of a repository: each has a key object of its own, and each key holds the one master key.

A password counts only after it has opened the repository: so it is with a new one before anybody hears that it was added, and with
another one before a key may go. At every moment, whatever is interrupted, at least one key opens. Nothing here shows a password but
the recovery key, once.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson

from becalm.clock import format_time, parse_time
from becalm.errors import AccessDenied, Conflict, Damaged, NotFound, PermanentError, UsageError, WrongPassword
from becalm.repository import retain
from becalm.repository.crypto import Kdf, add_key, is_sealed_by, open_key, unlock
from becalm.repository.format import Layout, read_json

if TYPE_CHECKING:
    from becalm.repository.reader import Repository
    from becalm.storage.base import ObjectStore

RECOVERY = "becalm-recovery"
"""The username in a recovery key."""

_GROUPS, _GROUP = 6, 5
_SHORTEST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInfo:
    """What a key says of itself, without any password."""

    id: str
    created: datetime | None = None
    hostname: str = ""
    username: str = ""
    locked_until: datetime | None = None
    retired: bool = False
    """It is to go, and only its object lock keeps it."""
    problem: str = ""
    """Why it cannot be read; empty where it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What became of a key that was to go."""

    id: str
    locked_until: datetime | None = None
    """Until when its object lock keeps it; nothing where it is gone."""


def keys(store: ObjectStore) -> list[KeyInfo]:
    """Return the keys, the oldest first. One that cannot be read is told, too."""
    retired = retain.retired(store)
    found = [_read(store, info.key, retired=info.key in retired) for info in store.list(Layout.KEYS)]
    return sorted((info for info in found if info), key=lambda info: (info.created or datetime.max.replace(tzinfo=UTC), info.id))


def _read(store: ObjectStore, key: str, *, retired: bool) -> KeyInfo | None:
    key_id = key.removeprefix(Layout.KEYS)
    try:
        until = store.head(key).retain_until
        document = read_json(store.get(key), where=f"{store.url}/{key}")
        created = parse_time(str(document["created"]))
    except NotFound:
        return None
    except (Damaged, KeyError, ValueError) as error:
        return KeyInfo(id=key_id, retired=retired, problem=f"it cannot be read: {getattr(error, 'message', error)}")
    return KeyInfo(
        id=key_id,
        created=created,
        hostname=str(document.get("hostname", "")),
        username=str(document.get("username", "")),
        locked_until=until if until is not None and until > store.now() else None,
        retired=retired,
    )


def find(store: ObjectStore, prefix: str) -> str:
    """Return the id of the one key that begins like this. Raises: NotFound, UsageError."""
    there = [info.key.removeprefix(Layout.KEYS) for info in store.list(Layout.KEYS)]
    if len(prefix) < _SHORTEST:
        raise UsageError(
            f"{prefix!r} is too short for the id of a key", hint=f"write at least {_SHORTEST} digits; becalm key list shows them"
        )
    found = [key_id for key_id in there if key_id.startswith(prefix)]
    if not found:
        raise NotFound(f"no key begins with {prefix!r}", where=f"{store.url}/{Layout.KEYS}", hint="list them with: becalm key list")
    if len(found) > 1:
        raise UsageError(f"{len(found)} keys begin with {prefix!r}", hint="write more of the id")
    return found[0]


def opened_by(repository: Repository, password: str) -> str:
    """Return the id of the key that a password opens, once it has opened what the repository rests on. Raises: WrongPassword, Damaged."""
    _, key_id = unlock(repository.store, password, opens=repository.store.get(Layout.CONFIG))
    return key_id


def add(repository: Repository, password: str, *, hostname: str = "", username: str = "becalm", kdf: Kdf | None = None) -> str:
    """Add a password and return its key's id, after it has opened the repository. Raises: UsageError, Damaged."""
    if not password:
        raise UsageError("the new password is empty", hint="an empty password protects nothing")
    store = repository.store
    key_id = add_key(store, repository.key, password, created=store.now(), hostname=hostname, username=username, kdf=kdf)
    prove(repository, key_id, password)
    return key_id


def prove(repository: Repository, key_id: str, password: str) -> None:
    """Open the repository with this key, read back from the store. Raises: WrongPassword, Damaged, NotFound."""
    where = repository.where(Layout.key(key_id))
    master = open_key(repository.store, key_id, password)
    if master is None:
        raise WrongPassword("the key does not open with this password", where=where, hint="check what was written down")
    if not is_sealed_by(master, repository.store.get(Layout.CONFIG)):
        raise Damaged("the key opens, but the repository does not open with it", where=where, hint="do not rely on this password")


def remove(repository: Repository, key_id: str, *, proven: str) -> Removed:
    """Take a key out of use: it goes, or it ends with its object lock. `proven` is another key that somebody has just opened.

    Of two who remove each other's key at once, neither does. What was interrupted is completed by doing it again.
    Raises: PermanentError (no other key would be left), Conflict.
    """
    store = repository.store
    if key_id == proven:
        raise PermanentError(
            "this is the key of the password that was given: it would lock you out",
            where=repository.where(Layout.key(key_id)),
            hint="give another password that stays, or use: becalm key rotate",
        )
    store.put(Layout.retired(key_id), orjson.dumps({"format": 1, "since": format_time(store.now())}))
    left = {info.key for info in store.list(Layout.KEYS)} - retain.retired(store)
    if Layout.key(proven) not in left:
        store.delete(Layout.retired(key_id))
        raise Conflict(
            "somebody else is removing the key that should stay",
            where=repository.where(Layout.key(proven)),
            hint="list the keys, and try again",
        )
    try:
        store.delete(Layout.key(key_id))
    except AccessDenied:
        until = _locked_until(store, key_id)
        if until is None:
            store.delete(Layout.retired(key_id))
            raise
        return Removed(id=key_id, locked_until=until)
    store.delete(Layout.retired(key_id))
    return Removed(id=key_id)


def rotate(repository: Repository, *, old: str, new: str, hostname: str = "", kdf: Kdf | None = None) -> tuple[str, Removed]:
    """Put a new password in the place of an old one: add, prove, remove. Other passwords stay. Raises as `add` and `remove` do."""
    if old == new:
        raise UsageError("the new password is the old one", hint="give another one")
    before = opened_by(repository, old)
    after = add(repository, new, hostname=hostname, kdf=kdf)
    return after, remove(repository, before, proven=after)


def recovery_password() -> str:
    """Make a password that can be written on paper: six groups of letters and digits, 150 bits by chance."""
    letters = base64.b32encode(secrets.token_bytes(20)).decode()[: _GROUPS * _GROUP]
    return "-".join(letters[place : place + _GROUP] for place in range(0, len(letters), _GROUP))


def _locked_until(store: ObjectStore, key_id: str) -> datetime | None:
    try:
        until = store.head(Layout.key(key_id)).retain_until
    except NotFound:
        return None
    return until if until is not None and until > store.now() else None
