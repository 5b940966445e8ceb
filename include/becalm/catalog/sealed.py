"""One sealed object under a fixed key, read whole and written by compare and swap: what looks have left for the next one.

What stands in it is its owner's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import orjson

from becalm.errors import Conflict, Damaged, NotFound, PermanentError, PreconditionFailed
from becalm.model import from_payload, payload
from becalm.repository.format import read_json

if TYPE_CHECKING:
    from becalm.repository.reader import Repository
    from becalm.storage.base import ETag, Key

T = TypeVar("T")
FORMAT = 1


def load(repository: Repository, key: Key, kind: type[T]) -> tuple[T | None, ETag | None]:
    """Return the record, nothing where none was written, and what `save` needs. Raises Damaged, and what the store raises."""
    where = repository.where(key)
    try:
        etag = repository.store.head(key).etag
        sealed = repository.store.get(key)
    except NotFound:
        return None, None
    said = read_json(repository.open_document(sealed, where=where), where=where)
    if said.get("format") != FORMAT:
        raise Damaged(f"it is of format {said.get('format')!r}, this version reads {FORMAT}", where=where, hint="use a newer Becalm")
    try:
        return from_payload(kind, said), etag
    except PermanentError as error:
        raise Damaged(f"the record cannot be read: {error.message}", where=where) from error


def save(repository: Repository, key: Key, record: object, etag: ETag | None) -> None:
    """Write the record. Raises Conflict (somebody else wrote it meanwhile), and what the store raises."""
    sealed, _ = repository.seal_document(orjson.dumps(payload(record)))
    try:
        repository.store.put(key, sealed, if_absent=etag is None, if_match=etag)
    except PreconditionFailed:
        raise Conflict("somebody else looked meanwhile", where=repository.where(key), hint="look again") from None
