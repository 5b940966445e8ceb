"""A directory as it stands now beside its tree in the parent: what of the tree can be kept, to the byte.

Nothing is guessed: an entry counts as it was only where its stem, and behind it nothing but ids, stands in the tree. It is pure:
it sees no volume and no store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import orjson

from becalm.repository.node import encode_name
from becalm.repository.quoting import unquote
from becalm.repository.rows import AFTER, FILE, FOLDER, OTHER, Rows

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

_BEGIN = b'{"nodes":['
_END = b"]}\n"
_EMPTY = _BEGIN + _END
_QUOTED = 67
"""Bytes of an id in a list: its digits, two quotes, and a comma."""
_DIGITS = 64
_XATTRS = b',"extended_attributes":[{'
_AFTER_XATTRS = b"}]"
_TYPE = b',"type":"'
_NEXT = b',{"name":"'
_AFTER_NAME = b'","type":"'
_FOLDER = b'","type":"dir"'
_SUBTREE = b',"subtree":"'


class Stays(NamedTuple):
    """Entries that stay: from where to where they stand in the tree, with the commas between them."""

    begin: int
    end: int


class Below(NamedTuple):
    """A directory that was there before, and where its entry stands."""

    name: str
    begin: int
    end: int
    same: bool
    """Whether its entry stays where its tree does."""


Patch: TypeAlias = "Sequence[Stays | Below | str]"
"""How a tree becomes the new one, in the order of the names. A name is an entry to be looked at; what is not told has gone."""


class Seen(NamedTuple):
    """What was found of a directory."""

    same: bool
    """Whether every entry in it is as it was; of a directory in it, that is said by its own tree alone."""
    files: int = 0
    size: int = 0
    """Of the files that are as they were."""
    folders: Sequence[tuple[str, str]] | None = ()
    """The names of the directories in it that were there before, with their trees; nothing where that is not known."""
    patch: Patch | None = None
    """Where it is not as it was: what of it stays. Nothing where the walk must look at all of it."""

    def doubted(self) -> Seen:
        """Return the same of a directory whose content may have gone: the walk asks about each file."""
        return Seen(same=False, folders=self.folders)


UNKNOWN = Seen(same=False, folders=None)


def compare(rows: Rows, document: bytes, ids: list[bytes]) -> Seen:
    """Hold a directory beside its tree. `ids` gets the lists of content, as they stand there, of the files that are as they were."""
    if not document.startswith(_BEGIN) or not document.endswith(_END):
        return UNKNOWN
    seen = _as_it_was(rows, document, ids)
    if seen is None and _XATTRS not in document:
        seen = _patched(rows, document, ids)
    return seen or Seen(same=False, folders=_folders(rows, document))


def _as_it_was(rows: Rows, document: bytes, ids: list[bytes]) -> Seen | None:
    """Go through both side by side, as long as they agree."""
    text = b"," + document[len(_BEGIN) :]
    place = files = size = 0
    found: list[bytes] = []
    folders: list[tuple[str, str]] = []
    for name, stem, kind, length in zip(rows.names, rows.stems, rows.kinds, rows.sizes, strict=True):
        begin = place + len(stem) if text.startswith(stem, place) else _behind_xattrs(text, place, stem, AFTER[kind])
        if not begin:
            return None
        place = begin
        if kind == FILE:
            place = text.find(b"]}", begin) + 2
            if place > begin + 2:
                found.append(text[begin : place - 2])
                if (place - 1 - begin) % _QUOTED:
                    return None
            elif place < begin:
                return None
            files += 1
            size += length
        elif kind == FOLDER:
            place = begin + _DIGITS + 2
            if text[place - 2 : place] != b'"}':
                return None
            folders.append((name, text[begin : begin + _DIGITS].decode("ascii", "replace")))
    if text[place:] != _END if rows else document != _EMPTY:
        return None
    ids.extend(found)
    return Seen(same=True, files=files, size=size, folders=folders)


def _behind_xattrs(text: bytes, place: int, stem: bytes, after: bytes) -> int:
    """Return the place behind a stem with extended attributes in it, or nothing. A change of those changes the stem."""
    core = stem.removesuffix(after) + _XATTRS
    if not after or not text.startswith(core, place):
        return 0
    end = text.find(_AFTER_XATTRS + after, place + len(core))
    if end < 0 or text.find(_TYPE, place + len(core), end) >= 0:
        return 0  # that is behind another entry
    return end + len(_AFTER_XATTRS) + len(after)


def _patched(rows: Rows, document: bytes, ids: list[bytes]) -> Seen | None:
    """Find the entries by their names, and say which stay. Nothing where most do not: then another tool may have written the tree."""
    before = _by_name(document)
    patch: list[Stays | Below | str] = []
    found: list[bytes] = []
    folders: list[tuple[str, str]] = []
    files = size = kept = other = 0
    for name, stem, kind, length in zip(rows.names, rows.stems, rows.kinds, rows.sizes, strict=True):
        begin, entry = before.get(stem[len(_NEXT) : stem.find(_AFTER_NAME)], (0, b""))
        end = begin + len(entry)
        if kind == FOLDER and (subtree := _subtree(entry)):
            patch.append(Below(name, begin, end, same=entry.startswith(stem[1:])))
            folders.append((name, subtree))
            continue
        if (kind == FILE and _is_file(entry, stem, found)) or (kind == OTHER and entry == stem[1:]):
            kept += 1
            if kind == FILE:
                files += 1
                size += length
            last = patch[-1] if patch else ""
            if isinstance(last, Stays) and last.end + 1 == begin:
                patch[-1] = Stays(last.begin, end)
            else:
                patch.append(Stays(begin, end))
        else:
            other += 1
            patch.append(name)
    if other > kept:
        return None
    ids.extend(found)
    return Seen(same=False, files=files, size=size, folders=folders, patch=patch)


def _by_name(document: bytes) -> dict[bytes, tuple[int, bytes]]:
    """Return where each entry begins, and the entry, by its name as it is written. There are no extended attributes: names are the entries'."""
    text = document[len(_BEGIN) : -len(_END)]
    place = len(_BEGIN)
    before: dict[bytes, tuple[int, bytes]] = {}
    for number, part in enumerate(text.split(_NEXT)):
        entry = _NEXT[1:] + part if number else part
        before[entry[len(_NEXT) - 1 : entry.find(_AFTER_NAME)]] = (place, entry)
        place += len(entry) + 1
    return before


def _is_file(entry: bytes, stem: bytes, found: list[bytes]) -> bool:
    if not entry.startswith(stem[1:]) or not entry.endswith(b"]}"):
        return False
    content = entry[len(stem) - 1 : -2]
    if content:
        if (len(content) + 1) % _QUOTED:
            return False
        found.append(content)
    return True


def _subtree(entry: bytes) -> str:
    """Return the tree of a directory's entry; nothing of any other, or where that is not its last field."""
    begin = len(entry) - 2 - _DIGITS
    if _FOLDER not in entry or not entry.endswith(b'"}') or not entry.endswith(_SUBTREE, 0, max(begin, 0)):
        return ""
    return entry[begin:-2].decode("ascii", "replace")


def _folders(rows: Rows, document: bytes) -> list[tuple[str, str]] | None:
    """Return the directories that are there and were there."""
    try:
        before = {unquote(node["name"]): node.get("subtree") for node in orjson.loads(document)["nodes"] or () if node["type"] == "dir"}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return [(name, before[name]) for name in rows.folders() if before.get(name)]


def patch_below(document: bytes, names: Collection[str]) -> Patch | None:
    """Say how a tree in which all is as it was becomes another one where only the trees of these directories are others.

    Nothing where one of them is not found.
    """
    places: list[Below] = []
    for name in names:
        begin = document.find(b'{"name":' + encode_name(name) + _FOLDER[1:])
        end = document.find(_SUBTREE, begin) + len(_SUBTREE) + _DIGITS + 2 if begin >= len(_BEGIN) else 0
        if not end or document[end - 2 : end] != b'"}':
            return None
        places.append(Below(name, begin, end, same=True))
    patch: list[Stays | Below | str] = []
    place = len(_BEGIN)
    for below in sorted(places, key=lambda one: one.begin):
        if below.begin > place:
            patch.append(Stays(place, below.begin - 1))
        patch.append(below)
        place = below.end + 1
    if place < len(document) - len(_END):
        patch.append(Stays(place, len(document) - len(_END)))
    return patch


def raw_ids(lists: Iterable[bytes]) -> bytes | None:
    """Return the raw ids of lists as they stand in JSON, one behind the other; nothing where anything else stands there."""
    digits = b",".join(lists).translate(None, b'",').decode("ascii", "replace")
    try:
        raw = bytes.fromhex(digits)
    except ValueError:
        return None
    return raw if raw.hex() == digits else None
