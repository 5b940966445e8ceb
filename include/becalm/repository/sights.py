"""What of a volume is as its parent snapshot has it: whole directories are looked at by workers, and the walk goes past those.

A directory counts as it was only when each entry in it is, to the byte, and all content is still in the repository. Of another one
it is said which entries stay; where that is not known, the walk looks at it as if nobody had been there. It writes nothing.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from becalm.errors import Damaged
from becalm.repository.beside import UNKNOWN, Below, Seen, Stays, patch_below
from becalm.repository.format import BlobKind, IndexedBlob
from becalm.repository.index import Location
from becalm.repository.opening import LARGE
from becalm.repository.pack import read_blob
from becalm.repository.scout import Asked, Look, Setup

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from becalm.repository.beside import Patch
    from becalm.repository.progress import Progress
    from becalm.repository.reader import Repository
    from becalm.repository.scouts import Scouts

_HOPELESS_FOLDERS = 1000
"""Where not one of so many directories is as it was, no more are looked at: another tool has written the parent, or the inodes are new."""
_FETCHED_AT_ONCE = 512
_FETCHED_BYTES = 8 << 20
_FEW_READY = 64
"""When no more are ready, the next trees are fetched."""
_HELD_BYTES = 16 << 20
"""So many bytes of trees are held for the walk; it fetches others again."""
_AHEAD = 2
"""So many messages may wait for one worker."""
_AT_ONCE = 64
_AT_ONCE_BYTES = 512 << 10
_PATIENCE_SECONDS = 0.5


@dataclass(slots=True, eq=False)
class Sight:
    """A directory of the parent: what it and those below it were found to be."""

    path: str
    tree: str
    above: Sight | None = None
    name: str = ""
    waiting: int = 1
    """How many of the directories in it are not known yet; one more for itself."""
    asked: Asked | None = None
    """Its tree as it lies in its pack, as long as it may be needed and there is room."""
    seen: Seen = UNKNOWN
    past: list[int] = field(default_factory=lambda: [0, 0, 0])
    """Files, bytes and directories of all that the walk goes past below it."""
    odd: dict[str, Sight] | None = field(default_factory=dict)
    """The directories in it that the walk must look at; nothing where that is not known."""
    even: set[str] = field(default_factory=set)
    """The names of those that the walk goes past."""

    @property
    def walks(self) -> bool:
        """Whether the walk must look at it."""
        return not self.seen.same or bool(self.odd)

    @property
    def is_in_parts(self) -> bool:
        """Whether it is known of each entry whether it stays."""
        return self.seen.patch is not None or (self.seen.same and bool(self.odd))


class Sights:
    """Looks at a volume, by scouts that somebody else lets go."""

    def __init__(self, repository: Repository, progress: Progress, scouts: Scouts) -> None:
        """Begin: the scouts hear the key."""
        self._repository = repository
        self._progress = progress
        self._scouts = scouts
        self._waiting: list[list[Sight]] = [[] for _ in (*scouts.busy, None)]
        """What is for one worker alone, which has listed it already; the last is for anybody."""
        self._ready = 0
        """How many wait."""
        self._held = 0
        self._under: dict[int, list[Sight]] = {}
        self._next = self._done = self._same = 0
        key = repository.key
        scouts.unlock(Setup((key.encrypt, key.mac_k, key.mac_r), repository.store.url))

    def look(self, tree: str) -> Sight:
        """Look at the root and at all below it that was there before. Nothing of the repository is needed before this."""
        root = Sight("", tree)
        stack = [root]
        while stack or self._under or self._ready:
            if stack and self._ready < _FEW_READY:
                self._bring(stack)
            while self._ask():
                pass
            self._take(stack)
            if self._done > _HOPELESS_FOLDERS and not self._same:
                self._give_up(stack)
        return root

    def _bring(self, stack: list[Sight]) -> None:
        """Fetch the trees of the last ones, many at once; what cannot be found is not as it was."""
        self._progress.check()
        chosen = stack[-_FETCHED_AT_ONCE:]
        del stack[-len(chosen) :]
        places = self._places(chosen)
        cut, room = len(chosen), _FETCHED_BYTES
        while cut and room > 0:
            cut -= 1
            found = places[cut]
            room -= found.blob.length if found is not None else 0
        stack.extend(chosen[:cut])
        chosen = chosen[cut:]
        wanted = [(sight, place) for sight, place in zip(chosen, places[cut:], strict=True) if place is not None]
        sealed = dict(self._sealed(place for _, place in wanted))
        for sight in chosen:
            if sight.tree not in sealed:
                self._end(sight, UNKNOWN, stack)
        for sight, place in reversed(wanted):
            if sight.tree in sealed:
                body = sealed[sight.tree]
                sight.asked = Asked(sight.path, sight.tree, body, place.blob.uncompressed_length)
                owner = self._scouts.owners.pop(sight.path, len(self._scouts.busy))
                self._waiting[owner].append(sight)
                self._ready += 1

    def _ask(self) -> bool:
        """Have a worker look at what is for it, or for anybody. Say whether there may be more to ask."""
        busy, anybody = self._scouts.busy, self._waiting[-1]
        free = [worker for worker in range(len(busy)) if busy[worker] < _AHEAD and (anybody or self._waiting[worker])]
        if not free:
            return False
        worker = min(free, key=busy.__getitem__)
        waiting = self._waiting[worker] or anybody
        most = min(_AT_ONCE, max(1, len(waiting) // (_AHEAD * (len(busy) if waiting is anybody else 1))))
        sights: list[Sight] = []
        asked: list[Asked] = []
        size = 0
        while waiting and len(sights) < most and size < _AT_ONCE_BYTES:
            sight = waiting.pop()
            if sight.asked is not None:
                asked.append(sight.asked)
                size += len(sight.asked.sealed)
                if self._held > _HELD_BYTES:
                    sight.asked = None
                else:
                    self._held += len(sight.asked.sealed)
            sights.append(sight)
        self._ready -= len(sights)
        number, self._next = self._next, self._next + 1
        self._under[number] = sights
        self._scouts.ask(worker, Look(number, asked))
        return True

    def _give_up(self, stack: list[Sight]) -> None:
        """Look at no more of them."""
        for left in (stack, *self._waiting):
            while left:
                self._end(left.pop(), UNKNOWN, stack)
        self._ready = 0

    def _places(self, sights: Sequence[Sight]) -> list[Location | None]:
        """Say where trees lie; nothing of those that are not known, or too large to be looked at in one piece."""
        index = self._repository.index
        try:
            found = index.locate_many(BlobKind.TREE, bytes.fromhex("".join(sight.tree for sight in sights)))
        except (ValueError, Damaged):
            return [None] * len(sights)
        if len(found.found) != len(sights):
            return [None] * len(sights)
        places: list[Location | None] = []
        rows = zip(*(column.tolist() for column in (found.found, found.pack, found.offset, found.length, found.plain)), strict=True)
        for sight, (there, pack, offset, length, plain) in zip(sights, rows, strict=True):
            blob = IndexedBlob(id=sight.tree, kind=BlobKind.TREE, offset=offset, length=length, uncompressed_length=plain)
            places.append(Location(index.pack_name(pack), blob) if there and max(plain, length) <= LARGE else None)
        return places

    def _sealed(self, places: Iterable[Location]) -> Iterator[tuple[str, bytes]]:
        """Yield trees as they lie in their packs, in their order there: neighbours come with one request."""
        for place in sorted(places, key=lambda one: (one.pack, one.blob.offset)):
            with contextlib.suppress(Damaged):
                yield place.blob.id, self._repository.sealed(place)

    def _take(self, stack: list[Sight]) -> None:
        """Take an answer."""
        if not self._under:
            return
        answer = self._scouts.answer(_PATIENCE_SECONDS)
        if answer is None:
            self._progress.check()
            return
        found = answer[1]
        sights = self._under.pop(found.number)
        known = not found.raw or bool(self._repository.index.locate_many(BlobKind.DATA, found.raw).found.all())
        for sight, seen in zip(sights, found.seen, strict=True):
            if sight.asked is not None and seen.same and not seen.folders:
                self._held -= len(sight.asked.sealed)
                sight.asked = None
            self._end(sight, seen if known else seen.doubted(), stack)
            self._same += sight.seen.same
        self._done += len(sights)
        self._progress.path = sights[-1].path

    def _end(self, sight: Sight, seen: Seen, stack: list[Sight]) -> None:
        """Take what was seen of a directory, and put those in it on the stack."""
        sight.seen = seen._replace(folders=()) if seen.folders else seen
        if seen.folders is None:
            sight.odd = None
        elif seen.folders:
            sight.waiting += len(seen.folders)
            path = f"{sight.path}/" if sight.path else ""
            stack.extend([Sight(path + name, tree, sight, name) for name, tree in seen.folders])
        _one_less(sight)


def document_of(sight: Sight, repository: Repository) -> bytes:
    """Return the tree of a directory that was seen. Raises: Damaged."""
    asked = sight.asked
    if asked is None:
        return bytes(repository.blob(BlobKind.TREE, sight.tree))
    place = IndexedBlob(id=asked.tree, kind=BlobKind.TREE, offset=0, length=len(asked.sealed), uncompressed_length=asked.plain)
    return bytes(read_blob(repository.key, asked.sealed, place, where=repository.store.url))


def parts_of(sight: Sight, document: bytes) -> Patch | None:
    """Say which entries of a directory stay, of its tree, and which must be looked at; nothing where all of it must be."""
    patch = patch_below(document, sight.odd) if sight.seen.same and sight.odd else sight.seen.patch
    if patch is None:
        return None
    even = sight.even
    return [Stays(part.begin, part.end) if isinstance(part, Below) and part.same and part.name in even else part for part in patch]


def _one_less(sight: Sight | None) -> None:
    """One more is known. Where that was the last, what is as it was is added to the directory above, and what is not is kept there."""
    while sight is not None:
        sight.waiting -= 1
        if sight.waiting:
            return
        above, past = sight.above, sight.past
        if not sight.walks:
            past[0] += sight.seen.files
            past[1] += sight.seen.size
            past[2] += 1
        if above is not None:
            for number in range(3):
                above.past[number] += past[number]
            if not sight.walks:
                above.even.add(sight.name)
            elif above.odd is not None:
                above.odd[sight.name] = sight
        sight = above
