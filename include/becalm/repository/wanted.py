"""What is to be restored: entries of a tree as JSON gives them, and where the blobs of files lie.

There are too many files to make a noun of each on the way: what is not needed to find its bytes is read where it is made.
Nothing here touches a file system.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from becalm.errors import Damaged, NotFound, UsageError
from becalm.repository.crypto import OVERHEAD
from becalm.repository.extract_worker import Spot
from becalm.repository.format import BlobKind
from becalm.repository.gather import SMALLEST_HOLE, is_hole
from becalm.repository.listing import large_listing
from becalm.repository.node import decode_node
from becalm.repository.seek import entry_named
from becalm.repository.target import Place
from becalm.repository.tree import segments

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from becalm.repository.index import Index
    from becalm.repository.reader import Repository

Entry: TypeAlias = dict[str, Any]
"""An entry of a directory, as it stands in the tree."""

_FEW = 16
"""Of so few blobs the repository is asked one by one."""

is_plain = re.compile(r'(?!\.\.?\Z)[^\0-\x1f/\\"\x7f]{1,63}').fullmatch
"""Most names: they fit whatever their bytes are, lead nowhere, and stand in a tree as they are."""


def included(repository: Repository, tree_id: str, paths: Sequence[str]) -> list[Entry]:
    """Return the entries at these paths. Raises: NotFound, Damaged, UsageError."""
    found: dict[str, Entry] = {}
    for path in dict.fromkeys(paths):
        entry = _find(repository, tree_id, path)
        if found.setdefault(entry["name"], entry) is not entry:
            raise UsageError(f"{path!r} has the name of another one that is to be restored", hint="restore them one after the other")
    return list(found.values())


def _find(repository: Repository, tree_id: str, path: str) -> Entry:
    subtree = tree_id
    entry: Entry | None = None
    for part in _parts(path):
        entry = entry_named(repository, subtree, part) if subtree else None
        if entry is None:
            break
        subtree = decode_node(orjson.dumps(entry)).subtree
    if entry is None:
        raise NotFound(f"there is no {path!r} in the tree {tree_id[:12]}", where=repository.store.url)
    return entry


def _parts(path: str) -> list[str]:
    try:
        return segments(path)
    except ValueError as error:
        raise UsageError(f"{path!r} names nothing in a tree", hint="name a file or a directory, such as etc/app.conf") from error


def read_tree(repository: Repository, tree_id: str) -> Iterator[Entry]:
    """Return the raw entries of a directory, which is checked whole before. A large one is read some entries at a time. Raises Damaged."""
    where = f"{repository.store.url}: tree {tree_id}"
    slabs = large_listing(repository, tree_id)
    if slabs is not None:
        first = next(slabs)
        return chain.from_iterable(_entries(slab, where) for slab in chain((first,), slabs))
    document = repository.blob(BlobKind.TREE, tree_id)
    try:
        entries = orjson.loads(document)["nodes"] or []
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"the tree cannot be read: {error}", where=where, hint="run a check of the repository") from error
    return iter(_entries(entries, where))


def _entries(entries: Any, where: str) -> list[Entry]:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise Damaged("the tree is no list of entries", where=where, hint="run a check of the repository")
    return entries


@dataclass(slots=True)
class Wanted:
    """A file that is to be made."""

    place: Place
    entry: Entry
    content: Sequence[str] = ()
    spots: list[Spot] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    """Bytes of the plain text of each blob."""
    length: int = 0
    """How many sealed bytes it needs."""
    problem: str = ""

    @property
    def where(self) -> str:
        """The path, for people. (Names in a tree are quoted already.)"""
        return f"{self.place.path}/{self.entry['name']}" if self.place.path else str(self.entry["name"])

    def placed(self) -> Iterator[tuple[str, Spot, int]]:
        """Yield each blob that is no hole, with its place in the file."""
        offset = 0
        for blob_id, spot, length in zip(self.content, self.spots, self.lengths, strict=True):
            if spot.length:
                yield blob_id, spot, offset
            offset += length


def locate_blobs(index: Index, content: Sequence[str], *, sparse: bool) -> list[tuple[str, Spot, int]]:
    """Find blobs: each with where it lies and the length of its plain text; holes as such. Raises Damaged."""
    found = Wanted(Place(-1, ""), {"content": content})
    places = _spots(index, _raw_content(found))
    for blob_id, (spot, _) in zip(content, places, strict=False):
        if not spot.length:
            raise Damaged(f"the blob {blob_id} is in no index", hint="run a check of the repository")
    if found.problem:
        raise Damaged(found.problem)
    return [
        (blob_id, Spot("", 0, 0, length) if sparse and is_hole(blob_id, length) else spot, length)
        for blob_id, (spot, length) in zip(content, places, strict=True)
    ]


def locate(repository: Repository, files: Sequence[tuple[Place, Entry]], *, sparse: bool) -> list[Wanted]:
    """Find the blobs of files. Of a file that cannot be made, the problem says why."""
    wanted = [Wanted(place, entry) for place, entry in files]
    raw = b"".join([_raw_content(one) for one in wanted])
    found = _few(repository, raw)
    if found is None:
        found = _spots(repository.index, raw)
    begin = 0
    for one in wanted:
        end = begin + len(one.content)
        total = 0
        for blob_id, (spot, length) in zip(one.content, found[begin:end], strict=True):
            if not spot.length:
                one.problem = f"its blob {blob_id[:12]} is not in the repository"
                break
            if sparse and length >= SMALLEST_HOLE and is_hole(blob_id, length):
                spot = Spot("", 0, 0, length)  # noqa: PLW2901  (a hole is not fetched)
            one.spots.append(spot)
            one.lengths.append(length)
            one.length += spot.length
            total += length
        begin = end
        if not one.problem and total != one.entry.get("size", 0):
            one.problem = f"it should have {one.entry.get('size', 0)} bytes, and its blobs have {total}"
    return wanted


def _few(repository: Repository, raw: bytes) -> list[tuple[Spot, int]] | None:
    """Return the same as `_spots` where it can be told without the index."""
    if len(raw) > 32 * _FEW:
        return None
    found: list[tuple[Spot, int]] = []
    for begin in range(0, len(raw), 32):
        place = repository.sought(BlobKind.DATA, raw[begin : begin + 32].hex())
        if place is None:
            return None
        blob = place.blob
        spot = Spot(place.pack, blob.offset, blob.length, blob.uncompressed_length)
        found.append((spot, blob.uncompressed_length or blob.length - OVERHEAD))
    return found


def _spots(index: Index, raw: bytes) -> list[tuple[Spot, int]]:
    """Return where each blob lies, and how long its plain text is. What is not found has no length."""
    if not raw:
        return []
    places = index.locate_many(BlobKind.DATA, raw)
    packs = places.pack.tolist()
    names = {number: index.pack_name(number) for number in set(packs) if number < index.pack_count}
    columns = (packs, places.offset.tolist(), places.length.tolist(), places.plain.tolist(), places.plain_lengths().tolist())
    return [(Spot(names.get(pack, ""), offset, length, plain), full) for pack, offset, length, plain, full in zip(*columns, strict=True)]


def _raw_content(one: Wanted) -> bytes:
    try:
        content = one.entry.get("content") or ()
        raw = bytes.fromhex("".join(content))
        if len(raw) == 32 * len(content):
            one.content = content
            return raw
    except (TypeError, ValueError):
        pass
    one.problem = "what the tree says of its content cannot be read"
    return b""
