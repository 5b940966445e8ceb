"""A look at directories beside their trees in the parent: is each entry, to the byte, what would be written of it now?

Of a directory as it was, nothing is made but the first part of each entry, and that is looked for where it must stand. It runs in
a worker of a crew, or in the process itself where there is little to do. It reads no file and knows no store; what it does not
find as it was is the walk's to look at.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from stat import S_IFREG, S_ISDIR
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import orjson

from becalm.errors import Damaged
from becalm.repository.crypto import MasterKey
from becalm.repository.entry import Entries
from becalm.repository.format import BlobKind, IndexedBlob, NodeType
from becalm.repository.node import encode_node, node_of, type_of
from becalm.repository.pack import read_blob
from becalm.repository.quoting import to_bytes, unquote
from becalm.repository.reading import OPEN_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from becalm.repository.crypto import Buffer

_BEGIN = b'{"nodes":['
_END = b"]}\n"
_COMMA = b","
_EMPTY = _BEGIN + _END
_KIND = 0o170000
_QUOTED = 67
"""Bytes of an id in a list: its digits, two quotes, and a comma."""
_CONTENT = b',"content":['
_SUBTREE = b',"content":null,"subtree":"'
_XATTRS = b',"extended_attributes":[{'
_AFTER_XATTRS = b"}]"
_TYPE = b',"type":"'
_LEFT_OUT = (NodeType.SOCKET, NodeType.IRREGULAR)


class Setup(NamedTuple):
    """What a worker is told at its start."""

    keys: tuple[bytes, bytes, bytes]
    url: str

    def __repr__(self) -> str:
        """Leave the keys out."""
        return f"Setup({self.url})"


class Asked(NamedTuple):
    """A directory to look at: its path below the root, and its tree as it lies in its pack."""

    path: str
    tree: str
    sealed: bytes
    plain: int
    """Bytes of the plain text where it is compressed; nothing where it is not."""


class Seen(NamedTuple):
    """What was found. Of a directory that is not as it was, only the directories in it are told."""

    same: bool
    files: int = 0
    size: int = 0
    folders: Sequence[tuple[str, str]] | None = ()
    """The names of the directories in it that were there before, with their trees; nothing where that is not known."""


UNKNOWN = Seen(same=False, folders=None)


class Out(Protocol):
    """The way back."""

    def send(self, message: Any) -> None:
        """Send an answer."""


class Scout:
    """Looks at directories of one volume, many for each message."""

    def __init__(self, setup: Setup, answers: Out) -> None:
        """Begin without a volume: it comes with the first message."""
        self._key = MasterKey(*setup.keys)
        self._where = setup.url
        self._answers = answers
        self._entries = Entries()
        self._root = -1
        self._device = 0

    def handle(self, message: tuple[int, list[Asked]] | None, files: Sequence[int] = ()) -> None:
        """Take the open root of the volume, or look at some directories and answer: the number, what was seen, and the ids of all content."""
        if message is None:
            (self._root,) = files
            self._device = os.fstat(self._root).st_dev
            return
        number, asked = message
        ids: list[bytes] = []
        seen = [self._look(one, ids) for one in asked]
        raw = raw_ids(ids)
        if raw is None:
            raw, seen = b"", [one._replace(same=False) for one in seen]
        self._answers.send((number, seen, raw))

    def _look(self, asked: Asked, ids: list[bytes]) -> Seen:
        place = IndexedBlob(id=asked.tree, kind=BlobKind.TREE, offset=0, length=len(asked.sealed), uncompressed_length=asked.plain)
        try:
            document = bytes(read_blob(self._key, asked.sealed, place, where=self._where))
            fd = os.open(asked.path or ".", OPEN_FOLDER, dir_fd=self._root)
        except (OSError, Damaged):
            return UNKNOWN  # the walk meets the same, and says so
        try:
            return compare(fd, document, self._entries, ids, device=self._device)
        except OSError:
            return UNKNOWN
        finally:
            os.close(fd)


def raw_ids(lists: Iterable[bytes]) -> bytes | None:
    """Return the raw ids of lists as they stand in JSON, one behind the other; nothing where anything else stands there."""
    digits = b",".join(lists).translate(None, b'",').decode("ascii", "replace")
    try:
        raw = bytes.fromhex(digits)
    except ValueError:
        return None
    return raw if raw.hex() == digits else None


def compare(fd: int, document: bytes, entries: Entries, ids: list[bytes], *, device: int) -> Seen:
    """Look at an open directory beside its tree. Raises OSError.

    `ids` gets the lists of content, as they stand there, of a directory that is as it was. `device` is the file system whose
    number is one in the tree.
    """
    listed = _listed(fd)
    look = _Look(document, entries, device)
    meets, is_file = look.meets, look.is_file
    for entry in listed:
        stat = entry.stat(follow_symlinks=False)
        met = is_file(entry.name, stat) if stat.st_mode & _KIND == S_IFREG else meets(entry.name, stat, fd)
        if not met:
            return Seen(same=False, folders=_folders(document, listed))
    if document[look.place :] != (_END if listed else _EMPTY):
        return Seen(same=False, folders=_folders(document, listed))
    ids.extend(look.ids)
    return Seen(same=True, files=look.files, size=look.size, folders=look.folders)


def _listed(fd: int) -> list[os.DirEntry[str]]:
    with os.scandir(fd) as found:
        by_name = {entry.name: entry for entry in found}
    names = sorted(by_name) if "".join(by_name).isascii() else sorted(by_name, key=to_bytes)
    return [by_name[name] for name in names]


@dataclass(slots=True)
class _Look:
    """The place in a tree up to which all was met as it was: before each entry stands the end of what begins the list, or a comma."""

    document: bytes
    entries: Entries
    device: int
    place: int = 0
    files: int = 0
    size: int = 0
    before: bytes = _BEGIN
    ids: list[bytes] = field(default_factory=list)
    folders: list[tuple[str, str]] = field(default_factory=list)

    def is_file(self, name: str, stat: os.stat_result) -> bool:
        """Say whether the next entry is what would be written of this file, and go on behind it."""
        if stat.st_nlink > 1 and stat.st_dev != self.device:
            return False  # the number of its file system is not known here
        begin = self._behind(self.entries.file_stem(name, stat, size=stat.st_size, device_id=1), _CONTENT)
        end = self.document.find(b"]}", begin) if begin else -1
        if end > begin:
            if (end - begin + 1) % _QUOTED:
                return False
            self.ids.append(self.document[begin:end])
        elif end < 0:
            return False
        self.files += 1
        self.size += stat.st_size
        self.place = end + 2
        return True

    def meets(self, name: str, stat: os.stat_result, fd: int) -> bool:
        """Say the same of anything else."""
        return self._folder(name, stat) if S_ISDIR(stat.st_mode) else self._special(name, stat, fd)

    def _folder(self, name: str, stat: os.stat_result) -> bool:
        begin = self._behind(self.entries.directory_stem(name, stat), _SUBTREE)
        end = begin + 64
        if not begin or self.document[end : end + 2] != b'"}':
            return False
        self.folders.append((name, self.document[begin:end].decode("ascii", "replace")))
        self.place = end + 2
        return True

    def _special(self, name: str, stat: os.stat_result, fd: int) -> bool:
        node_type = type_of(stat.st_mode)
        if node_type in _LEFT_OUT or (stat.st_nlink > 1 and stat.st_dev != self.device):
            return False  # the walk has a note to make
        target = os.readlink(name, dir_fd=fd) if node_type is NodeType.SYMLINK else ""
        written = self.before + encode_node(node_of(name, stat, linktarget=target, device_id=1))
        if not self.document.startswith(written, self.place):
            return False
        self.place += len(written)
        self.before = _COMMA
        return True

    def _behind(self, stem: bytes, then: bytes) -> int:
        """Return the place behind `stem` and `then`, or nothing. Extended attributes are between them: a change of those changes the stem."""
        document = self.document
        whole = self.before + stem + then
        self.before = _COMMA
        if document.startswith(whole, self.place):
            return self.place + len(whole)
        place = self.place + len(whole) - len(then)
        if not document.startswith(whole[: len(whole) - len(then)] + _XATTRS, self.place):
            return 0
        begin, place = place, document.find(_AFTER_XATTRS + then, place)
        if place < 0 or document.find(_TYPE, begin, place) >= 0:
            return 0  # that is behind another entry
        return place + len(_AFTER_XATTRS) + len(then)


def _folders(document: Buffer, listed: Iterable[os.DirEntry[str]]) -> list[tuple[str, str]] | None:
    """Return the directories that are there and were there."""
    try:
        before = {unquote(node["name"]): node.get("subtree") for node in orjson.loads(document)["nodes"] or () if node["type"] == "dir"}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return [(entry.name, before[entry.name]) for entry in listed if before.get(entry.name) and entry.is_dir(follow_symlinks=False)]
