"""A look at directories beside their trees in the parent: is each entry, to the byte, what would be written of it now?

It runs in a worker of a crew, or in the process itself where there is little to do. A worker lists its share of the directories
before anybody knows the parent's trees, for a repository takes its time to open. It reads no file and knows no store; what it does
not find as it was is the walk's to look at.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from becalm.errors import Damaged
from becalm.repository.beside import UNKNOWN, Seen, compare, raw_ids
from becalm.repository.crypto import MasterKey
from becalm.repository.entry import Entries
from becalm.repository.format import BlobKind, IndexedBlob
from becalm.repository.pack import read_blob
from becalm.repository.reading import OPEN_FOLDER
from becalm.repository.rows import Rows, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_ROWS = 50_000
"""A directory of more entries is the walk's."""
_MOST_AHEAD = 60_000
"""So many entries are held of directories that nobody has asked about yet: some 25 MB."""
_TOLD_AT_ONCE = 256
_FOLDERS_EACH = 64
"""Directories are shared out once there are so many side by side for each worker."""


class Setup(NamedTuple):
    """What is known once the repository is open."""

    keys: tuple[bytes, bytes, bytes]
    url: str

    def __repr__(self) -> str:
        """Leave the keys out."""
        return f"Setup({self.url})"


class Share(NamedTuple):
    """Which part of the volume a worker lists before it is asked: of so many, the one with this number."""

    number: int
    workers: int


class Asked(NamedTuple):
    """A directory to look at: its path below the root, and its tree as it lies in its pack."""

    path: str
    tree: str
    sealed: bytes
    plain: int
    """Bytes of the plain text where it is compressed; nothing where it is not."""


class Look(NamedTuple):
    """Directories to look at, and the number of the message."""

    number: int
    asked: Sequence[Asked]


class Found(NamedTuple):
    """What was seen of the directories of a message, and the raw ids of all content in what is kept of them."""

    number: int
    seen: Sequence[Seen]
    raw: bytes


class Listed(NamedTuple):
    """Directories that a worker has listed: it is the one to be asked about them."""

    paths: Sequence[str]


class Out(Protocol):
    """The way back."""

    def send(self, message: Any) -> None:
        """Send an answer."""


class Scout:
    """Looks at directories of one volume, many for each message."""

    def __init__(self, setup: None, answers: Out) -> None:
        """Begin without a volume and without a key: they come with messages."""
        del setup
        self._key: MasterKey | None = None
        self._where = ""
        self._answers = answers
        self._entries = Entries()
        self._root = -1
        self._device = 0
        self._listed: dict[str, Rows] = {}
        self._held = 0

    def handle(self, message: Setup | Share | Look | None, files: Sequence[int] = ()) -> None:
        """Take the open root of the volume, and list a share of it; take the key; look at some directories and answer."""
        if isinstance(message, Look):
            self._look_at(message)
        elif isinstance(message, Setup):
            self._key, self._where = MasterKey(*message.keys), message.url
        else:
            (self._root,) = files
            self._device = os.fstat(self._root).st_dev
            if message is not None:
                self._ahead(message)

    def _look_at(self, message: Look) -> None:
        ids: list[bytes] = []
        seen = [self._look(one, ids) for one in message.asked]
        raw = raw_ids(ids)
        if raw is None:
            raw, seen = b"", [one.doubted() for one in seen]
        self._answers.send(Found(message.number, seen, raw))

    def _look(self, asked: Asked, ids: list[bytes]) -> Seen:
        assert self._key is not None
        place = IndexedBlob(id=asked.tree, kind=BlobKind.TREE, offset=0, length=len(asked.sealed), uncompressed_length=asked.plain)
        try:
            document = bytes(read_blob(self._key, asked.sealed, place, where=self._where))
            rows = self._rows(asked.path)
        except (OSError, Damaged):
            return UNKNOWN  # the walk meets the same, and says so
        return compare(rows, document, ids) if rows is not None else UNKNOWN

    def _rows(self, path: str) -> Rows | None:
        """Return the entries of a directory, listed before or now. Raises OSError."""
        rows = self._listed.pop(path, None)
        if rows is None:
            return self._list(path)
        self._held -= len(rows)
        return rows

    def _list(self, path: str) -> Rows | None:
        fd = os.open(path or ".", OPEN_FOLDER, dir_fd=self._root)
        try:
            return rows_of(fd, self._entries, device=self._device, most=_MOST_ROWS)
        finally:
            os.close(fd)

    def _ahead(self, share: Share) -> None:
        """List directories level by level until there are enough to share out, and then a share of what is below."""
        told: list[str] = []
        level = [""]
        while level and len(level) < _FOLDERS_EACH * share.workers and self._held < _MOST_AHEAD:
            level = [below for path in level for below in self._list_ahead(path, told)]
        stack = level[share.number :: share.workers][::-1]
        while stack and self._held < _MOST_AHEAD:
            stack += reversed(self._list_ahead(stack.pop(), told))
            if len(told) >= _TOLD_AT_ONCE:
                self._answers.send(Listed(told))
                told = []
        self._answers.send(Listed(told))

    def _list_ahead(self, path: str, told: list[str]) -> list[str]:
        """List a directory and hold its entries; return the paths of those in it."""
        try:
            rows = self._list(path)
        except OSError:
            return []
        if rows is None:
            return []
        self._listed[path] = rows
        self._held += len(rows)
        told.append(path)
        return [f"{path}/{name}" if path else name for name in rows.folders()]
