"""The ledger: what was verified, forgotten, pruned and salvaged, and when. Entries are sealed, numbered and chained; none is changed.

Each entry holds the SHA-256 of the stored bytes of the one before it, so a missing or changed entry shows. The chain alone cannot
show that its newest entries were taken away: nothing that stands in a bucket can tell of what the bucket has lost at its end.
Each entry also names the newest entry of every kind before it, so that a reader goes from one to the next of its kind, and not
through all. What an entry means is its kind's own business.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from becalm.clock import format_time, parse_time
from becalm.errors import Conflict, Damaged, NotFound, PreconditionFailed
from becalm.repository.format import Layout, read_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from becalm.repository.reader import Repository

FORMAT = 1
FIRST = 1
_ATTEMPTS = 50
_READINGS = 3
_FAR_BACK = 64
"""So many entries are tried for one that can be read, before an entry is appended that names no others."""

Content: TypeAlias = dict[str, Any]
"""What an entry says: JSON, in a form that its kind defines."""


class EntryKind(StrEnum):
    """What an entry tells of."""

    VERIFIED = "verified"
    FORGOTTEN = "forgotten"
    PRUNED = "pruned"
    SALVAGED = "salvaged"
    RESTORED = "restored"
    DRILLED = "drilled"
    REVEALED = "revealed"
    DOWNLOADED = "downloaded"
    PINNED = "pinned"
    UNPINNED = "unpinned"
    ACKNOWLEDGED = "acknowledged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry, as it was read or written."""

    number: int
    kind: EntryKind
    time: datetime
    """By the store's clock."""
    who: str
    run: str
    epoch: int
    previous: str
    """The SHA-256 of the stored bytes of the entry before it; nothing for the first."""
    newest: Mapping[str, int]
    """Of each kind, the number of its newest entry before this one."""
    content: Content
    digest: str
    """The SHA-256 of its own stored bytes."""


def append(
    repository: Repository,
    kind: EntryKind | str,
    content: Content,
    *,
    who: str,
    run: str = "",
    epoch: int = 0,
    retain_until: datetime | None = None,
) -> Entry:
    """Write the next entry. Of two writers at once, one appends after the other.

    Raises: Conflict (others were faster again and again), and what the store raises.
    """
    store = repository.store
    kind = EntryKind(kind)
    tried: tuple[int, bytes] | None = None
    before = max(numbers(repository), default=FIRST - 1)
    for _ in range(_ATTEMPTS):
        number = before + 1
        previous, newest = _before(repository, before)
        document = {
            "format": FORMAT,
            "number": number,
            "kind": kind.value,
            "time": format_time(store.now()),
            "who": who,
            "run": run,
            "epoch": epoch,
            "previous": previous,
            "newest": newest,
            "content": content,
        }
        sealed, digest = repository.seal_document(orjson.dumps(document))
        try:
            store.put(Layout.ledger(number), sealed, if_absent=True, retain_until=retain_until)
        except PreconditionFailed:
            tried = (number, sealed)
            if store.get(Layout.ledger(number)) != sealed:  # after a lost reply it is our own
                before = number
                continue
        return _decode(orjson.dumps(document), number, digest, where=repository.where(Layout.ledger(number)))
    raise Conflict(
        f"others wrote to the ledger {_ATTEMPTS} times while one entry was to be written",
        where=repository.where(Layout.ledger(tried[0] if tried else before)),
        hint="try again",
    )


def numbers(repository: Repository) -> list[int]:
    """Return the numbers of the entries that are there, from the list alone. What has no number for a name is passed over."""
    names = (info.key.removeprefix(Layout.LEDGER) for info in repository.store.list(Layout.LEDGER))
    return sorted(int(name) for name in names if name.isascii() and name.isdigit() and len(name) == len(f"{0:010d}"))


def entry(repository: Repository, number: int) -> Entry:
    """Return one entry. Raises: NotFound, Damaged."""
    key = Layout.ledger(number)
    sealed = repository.store.get(key)
    where = repository.where(key)
    return _decode(repository.open_document(sealed, where=where), number, sha256(sealed).hexdigest(), where=where)


def newest(repository: Repository, kind: EntryKind) -> Iterator[Entry]:
    """Yield the entries of a kind, newest first: one object is read for each, and one to begin with. Raises: Damaged.

    An entry on the way that cannot be read ends it with an error: what lies behind it is not reached by this way.
    """
    number = max(numbers(repository), default=0)
    if not number:
        return
    last = entry(repository, number)
    if last.kind is not kind:
        number = last.newest.get(kind, 0)
        last = _linked(repository, number, last) if number else last
    while last.kind is kind:
        yield last
        number = last.newest.get(kind, 0)
        if not number:
            return
        last = _linked(repository, number, last)


def gaps(repository: Repository) -> list[Damaged]:
    """Name the entries that are missing between the first and the newest, from the list alone."""
    there = numbers(repository)
    known = set(there)
    return [_missing(repository, number) for number in range(FIRST, max(there, default=0)) if number not in known]


def broken(repository: Repository, *, since: int = FIRST) -> list[Damaged]:
    """Read the chain from an entry on, and name every entry that is missing, cannot be read, or is not the one that was written.

    Entries taken away at the end do not show: see above.
    """
    found: list[Damaged] = []
    digest: str | None = None
    for number in range(max(FIRST, since), max(numbers(repository), default=0) + 1):
        try:
            one = entry(repository, number)
        except NotFound:
            found.append(_missing(repository, number))
            digest = None
            continue
        except Damaged as error:
            found.append(error)
            digest = None
            continue
        if (digest is not None and one.previous != digest) or (number == FIRST and one.previous):
            found.append(
                Damaged(
                    f"the entry follows another one than {Layout.ledger(number - 1)}: one of the two was exchanged",
                    where=repository.where(Layout.ledger(number)),
                )
            )
        digest = one.digest
    return found


def _linked(repository: Repository, number: int, by: Entry) -> Entry:
    """Return an entry that another one speaks of. Raises: Damaged."""
    if not FIRST <= number < by.number:
        raise Damaged(f"the entry names {number} as one before it", where=repository.where(Layout.ledger(by.number)))
    try:
        return entry(repository, number)
    except NotFound as error:
        raise _missing(repository, number) from error


def _missing(repository: Repository, number: int) -> Damaged:
    return Damaged(
        "an entry of the ledger is missing",
        where=repository.where(Layout.ledger(number)),
        hint="put it back from a copy of the bucket, or find out who removed it",
    )


def _before(repository: Repository, number: int) -> tuple[str, dict[str, int]]:
    """Return what the next entry says of those before it: the digest of the last, and the newest of each kind.

    Where the last cannot be opened its digest is still told; the newest of each kind are those that the next older readable one knows.
    """
    if number < FIRST:
        return "", {}
    try:
        digest = _digest(repository, number)
    except NotFound:  # somebody takes entries away: the gap shows
        digest = ""
    for candidate in range(number, max(FIRST, number - _FAR_BACK) - 1, -1):
        try:
            last = entry(repository, candidate)
        except (NotFound, Damaged):
            continue
        return digest, {**last.newest, last.kind.value: last.number}
    return digest, {}


def _digest(repository: Repository, number: int) -> str:
    """Return the digest of an entry's stored bytes. One that cannot be opened is read again: it may have been damaged on its way only."""
    body = repository.store.get(Layout.ledger(number))
    where = repository.where(Layout.ledger(number))
    for _ in range(_READINGS):
        try:
            repository.open_document(body, where=where)
        except Damaged:
            before, body = body, repository.store.get(Layout.ledger(number))
            if body == before:
                break
        else:
            break
    return sha256(body).hexdigest()


def _decode(document: bytes, number: int, digest: str, *, where: str) -> Entry:
    found = read_json(document, where=where)
    if found.get("format") != FORMAT:
        raise Damaged(
            f"the entry is of format {found.get('format')!r}, this version reads {FORMAT}", where=where, hint="use a newer Becalm"
        )
    try:
        made = Entry(
            number=int(found["number"]),
            kind=EntryKind(found["kind"]),
            time=parse_time(found["time"]),
            who=str(found["who"]),
            run=str(found["run"]),
            epoch=int(found["epoch"]),
            previous=str(found["previous"]),
            newest={str(kind): int(last) for kind, last in found["newest"].items()},
            content=dict(found["content"]),
            digest=digest,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged(f"the entry cannot be read: {error}", where=where) from error
    if made.number != number:
        raise Damaged(f"this is entry {made.number}, stored in the place of another", where=where)
    return made
