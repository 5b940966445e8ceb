"""A few blobs, sought in the text of the index objects: for one file nobody takes the whole index apart.

The index objects come while the key is still derived from the password. What is found is what they say; what is not found, or is said in
another way than restic and Becalm write it, is left to the index. It never says that a blob is not there.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import orjson

from becalm.errors import BecalmError, Damaged
from becalm.repository.crypto import OVERHEAD
from becalm.repository.format import BlobKind, IndexedBlob, Layout, is_id
from becalm.repository.location import Location

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from becalm.repository.format import BlobId
    from becalm.storage.base import Key, ObjectStore

_MOST_BYTES = 16 << 20
"""Index objects of more bytes are read as an index: their text would need more memory than it."""
_MOST_SOUGHT = 64
"""So many blobs are sought; whoever needs more needs the index."""
_OPENING = b'{"packs":[{"id":"'
_PACK, _BLOBS, _BLOB = b'{"id":"', b'","blobs":[', b'{"id":"'
_ID = 64


class Ahead:
    """Fetches the index objects, sealed as they are, while something else is done."""

    def __init__(self, store: ObjectStore) -> None:
        """Begin at once, in a thread that nobody has to wait for."""
        self._store = store
        self._found: dict[Key, bytes] | None = None
        self._marked: frozenset[str] = frozenset()
        self._thread = threading.Thread(target=self._fetch, name="ahead", daemon=True)
        self._thread.start()

    def _fetch(self) -> None:
        with suppress(BecalmError):  # whoever needs it then meets it himself
            infos = [info for info in self._store.list(Layout.INDEX) if is_id(info.key.removeprefix(Layout.INDEX))]
            if sum(info.size for info in infos) > _MOST_BYTES:
                return
            self._marked = frozenset(info.key.removeprefix(Layout.TOMBSTONES) for info in self._store.list(Layout.TOMBSTONES))
            self._found = {info.key: self._store.get(info.key) for info in infos}

    def result(self) -> tuple[Mapping[Key, bytes], frozenset[str]] | None:
        """Wait, and return the index objects and the packs that are marked; nothing where they are too many, or could not be had."""
        self._thread.join()
        return None if self._found is None else (self._found, self._marked)


class Sought:
    """Answers for a few blobs. Safe for several threads."""

    def __init__(self, ahead: Ahead, opened: Callable[[Key, bytes], bytes], *, avoid: frozenset[str]) -> None:
        """Begin; `opened` checks and opens a sealed index object. Packs to avoid are never the answer."""
        self._ahead, self._opened, self._avoid = ahead, opened, avoid
        self._lock = threading.Lock()
        self._texts: list[bytes] | None = None
        self._known: dict[tuple[BlobKind, BlobId], Location] = {}
        self.ends: dict[str, int] = {}
        """Where the last blob of a pack ends, for the packs that were found."""

    def lookup(self, kind: BlobKind, blob_id: BlobId) -> Location | None:
        """Say where a blob lies, if that can be told without the index."""
        with self._lock:
            found = self._known.get((kind, blob_id))
            if found is not None or len(self._known) >= _MOST_SOUGHT or not is_id(blob_id):
                return found
            if self._texts is None:
                self._texts = self._load()
            for text in self._texts:
                found = self._in(text, kind, blob_id)
                if found is not None:
                    self._known[kind, blob_id] = found
                    break
            return found

    def _load(self) -> list[bytes]:
        result = self._ahead.result()
        if result is None:
            return []
        sealed, marked = result
        self._avoid |= marked
        try:
            texts = [self._opened(key, body) for key, body in sealed.items()]
        except Damaged:  # the index says which, and what is to be done
            return []
        return texts if all(text.startswith(_OPENING) for text in texts) else []

    def _in(self, text: bytes, kind: BlobKind, blob_id: BlobId) -> Location | None:
        begin = text.find(f'{{"id":"{blob_id}","type":"{kind}"'.encode())
        head = text.rfind(_BLOBS, 0, begin) if begin >= 0 else -1
        if head < _ID + len(_PACK) or text[head - _ID - len(_PACK) : head - _ID] != _PACK:
            return None
        pack, blob = text[head - _ID : head].decode("ascii", "replace"), _blob_at(text, begin)
        if blob is None or not is_id(pack) or pack in self._avoid:
            return None
        close = text.find(b"]", begin)
        last = _blob_at(text, text.rfind(_BLOB, begin, close))
        self.ends[pack] = max(self.ends.get(pack, 0), last.offset + last.length if last else 0)
        return Location(pack, blob)


def _blob_at(text: bytes, begin: int) -> IndexedBlob | None:
    """Return the blob whose entry begins here; nothing where it is no such entry."""
    try:
        entry = orjson.loads(text[begin : text.find(b"}", begin) + 1])
        numbers = (entry["offset"], entry["length"], entry.get("uncompressed_length", 0))
        blob_id, kind = entry["id"], BlobKind(entry["type"])
    except (ValueError, KeyError, TypeError):
        return None
    if any(type(number) is not int or not 0 <= number < 1 << 32 for number in numbers) or numbers[1] < OVERHEAD or not is_id(blob_id):
        return None
    return IndexedBlob(id=blob_id, kind=kind, offset=numbers[0], length=numbers[1], uncompressed_length=numbers[2])
