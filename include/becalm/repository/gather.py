"""What a batch of a restore needs: whole files, pieces of large ones, and the few long ranges of packs that bring their blobs.

Nothing here fetches, opens or writes.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from becalm.repository.extract_worker import Spot
    from becalm.repository.node import Node
    from becalm.repository.target import Place

SLOT_BYTES = (8 << 20) + (64 << 10)
"""A slot holds the largest blob that is usual. A larger one is opened in the process that restores."""

_FULL_BYTES = 5 << 20
_MOST_FILES = 1024
"""Of one batch: small files lie next to each other in a pack, so a batch of them is one request."""
_MOST_DESCRIPTORS = 200
_UNDER_WAY = 14
"""So many times the descriptors of one batch are open at most: batches that are gathered, fetched, handed over and at work."""
_LONGEST_RANGE = 4 << 20
_WIDEST_GAP = 128 << 10
SMALLEST_HOLE = 4096


@dataclass(slots=True, eq=False)
class File:
    """A large file under way. Its descriptor is open from its first batch to its last."""

    fd: int
    node: Node
    place: Place
    where: str
    sparse: bool
    error: str = ""


def files_at_once(allowed: int) -> int:
    """Return how many directories and large files one batch may hold open, of the `allowed` descriptors of the process. Pure."""
    return _MOST_DESCRIPTORS if allowed < 0 else max(4, min(_MOST_DESCRIPTORS, allowed // (2 * _UNDER_WAY)))  # below zero: no limit


def _files_at_once() -> int:
    return files_at_once(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


@lru_cache(maxsize=64)
def _zero_id(length: int) -> str:
    return sha256(bytes(length)).hexdigest()


def is_hole(blob_id: str, length: int) -> bool:
    """Say whether a blob is nothing but zeros, as far as that shows: pieces of a power of two are recognised."""
    return length >= SMALLEST_HOLE and length & (length - 1) == 0 and length <= SLOT_BYTES and blob_id == _zero_id(length)


@dataclass(slots=True)
class Gathering:
    """A batch that is being put together."""

    most: int = field(default_factory=_files_at_once)
    blobs: dict[str, Spot] = field(default_factory=dict)
    shared: set[str] = field(default_factory=set)
    folders: dict[int, tuple[Place, list[dict[str, Any]]]] = field(default_factory=dict)
    pieces: dict[int, tuple[File, list[tuple[str, int]]]] = field(default_factory=dict)
    then: list[Callable[[], None]] = field(default_factory=list)
    """What follows once this batch and all before it have been carried out."""
    files: int = 0
    bytes: int = 0

    def need(self, blob_id: str, spot: Spot) -> None:
        """Have a blob fetched. One of no length is a hole."""
        if blob_id in self.blobs:
            self.shared.add(blob_id)
        else:
            self.blobs[blob_id] = spot
            self.bytes += spot.length

    def make(self, place: Place, entry: dict[str, Any]) -> None:
        """Have a whole file made. Its blobs are needed, each of them."""
        found = self.folders.get(place.fd)
        if found is None:
            found = self.folders[place.fd] = (place, [])
        found[1].append(entry)
        self.files += 1

    def write(self, file: File, blob_id: str, offset: int) -> None:
        """Have a blob, which is needed, written into a large file."""
        found = self.pieces.get(file.fd)
        if found is None:
            found = self.pieces[file.fd] = (file, [])
        found[1].append((blob_id, offset))

    @property
    def full(self) -> bool:
        """Whether it is time to carry it out."""
        held = max(len(self.folders) + len(self.pieces), len(self.then))
        return self.bytes >= _FULL_BYTES or self.files >= _MOST_FILES or held >= self.most


@dataclass(frozen=True, slots=True)
class Run:
    """Blobs that are close to each other in a pack, and where they come to stand in memory."""

    pack: str
    blobs: Sequence[tuple[str, Spot]]
    place: int

    @property
    def begin(self) -> int:
        """Where it begins in the pack."""
        return self.blobs[0][1].offset

    @property
    def length(self) -> int:
        """How many bytes it has, with the gaps."""
        last = self.blobs[-1][1]
        return last.offset + last.length - self.begin

    def halves(self) -> tuple[Run, Run]:
        """Cut it in two."""
        middle = len(self.blobs) // 2
        second = self.blobs[middle:]
        return Run(self.pack, self.blobs[:middle], self.place), Run(self.pack, second, self.place + second[0][1].offset - self.begin)


def runs_of(blobs: dict[str, Spot], *, widest_gap: int = _WIDEST_GAP) -> list[Run]:
    """Cut what is needed into runs, one behind the other in memory. Pure."""
    ordered = sorted(((blob_id, spot) for blob_id, spot in blobs.items() if spot.length), key=lambda item: item[1][:2])
    runs: list[Run] = []
    held: list[tuple[str, Spot]] = []
    place = 0
    for blob_id, spot in ordered:
        if held:
            first, last = held[0][1], held[-1][1]
            close = spot.pack == last.pack and 0 <= spot.offset - last.offset - last.length <= widest_gap
            if not close or spot.offset + spot.length - first.offset > _LONGEST_RANGE:
                runs.append(Run(first.pack, held, place))
                place += runs[-1].length
                held = []
        held.append((blob_id, spot))
    if held:
        runs.append(Run(held[0][1].pack, held, place))
    return runs
