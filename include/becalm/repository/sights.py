"""What of a volume is as its parent snapshot has it: whole directories are looked at by workers, and the walk goes past those.

A directory counts as it was only when each entry in it is, to the byte, and all content is still in the repository; the walk
looks at every other one as if nobody had been there. It writes nothing.
"""

from __future__ import annotations

import contextlib
import os
import queue
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from becalm.errors import BecalmError, Damaged
from becalm.repository.crew import Crew, processors
from becalm.repository.format import BlobKind, IndexedBlob
from becalm.repository.index import Location
from becalm.repository.opening import LARGE
from becalm.repository.scout import UNKNOWN, Asked, Scout, Seen, Setup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from becalm.repository.progress import Progress
    from becalm.repository.reader import Repository

_TASK = "becalm.repository.scout:Scout"
_PAYS_FOLDERS = 400
"""Where there are more directories, a crew looks at them."""
_HOPELESS_FOLDERS = 1000
"""Where not one of so many directories is as it was, no more are looked at: another tool has written the parent, or the inodes are new."""
_MOST_WORKERS = 4
_AHEAD = 2
"""So many messages may wait for one worker."""
_AT_ONCE = 64
_AT_ONCE_BYTES = 512 << 10
_PATIENCE_SECONDS = 0.5

Answer: TypeAlias = "tuple[int, int, list[Seen], bytes]"
"""Which worker, which message, what was seen, and the raw ids of all content."""


@dataclass(slots=True, eq=False)
class Sight:
    """A directory of the parent: what it and those below it were found to be."""

    path: str
    tree: str
    above: Sight | None = None
    name: str = ""
    waiting: int = 1
    """How many of the directories in it are not known yet; one more for itself."""
    same: bool = False
    files: int = 0
    size: int = 0
    past: list[int] = field(default_factory=lambda: [0, 0, 0])
    """Files, bytes and directories of all that the walk goes past below it."""
    odd: dict[str, Sight] | None = field(default_factory=dict)
    """The directories in it that the walk must look at; nothing where that is not known."""
    even: set[str] = field(default_factory=set)
    """The names of those that the walk goes past."""

    @property
    def walks(self) -> bool:
        """Whether the walk must look at it."""
        return not self.same or bool(self.odd)


class Sights:
    """Looks at a volume. Use it as a context manager: it may have a crew."""

    def __init__(self, repository: Repository, progress: Progress, *, workers: int | None = None) -> None:
        """Begin without a crew. `workers`: 0 stays in this process; by default a crew comes when there is much to look at."""
        self._repository = repository
        self._progress = progress
        self._workers = workers
        key = repository.key
        self._setup = Setup((key.encrypt, key.mac_k, key.mac_r), repository.store.url)
        self._answers: queue.SimpleQueue[Answer | BecalmError] = queue.SimpleQueue()
        self._crew: Crew | None = None
        self._under: dict[int, list[Sight]] = {}
        self._busy: list[int] = [0]
        self._next = self._done = self._same = 0
        self._inline = Scout(self._setup, _Inline(self._answers))

    def __enter__(self) -> Self:
        """Nothing to do."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let the crew go."""
        if self._crew is not None:
            self._crew.close()

    def begin(self, fd: int) -> None:
        """Have the crew start meanwhile, where there are many directories below the open root. Knows nothing of the repository yet."""
        if self._workers or (self._workers is None and _has_many(fd)):
            self._start(fd)

    def look(self, fd: int, tree: str) -> Sight:
        """Look at the open root and at all below it that was there before: by the crew where one was begun, else in this process."""
        root = Sight("", tree)
        stack = [root]
        self._inline.handle(None, [fd])
        while stack or self._under:
            while stack and min(self._busy) < _AHEAD:
                self._ask(stack)
            self._take(stack)
            if self._done > _HOPELESS_FOLDERS and not self._same:
                while stack:
                    self._end(stack.pop(), UNKNOWN, stack)
        return root

    def _start(self, fd: int) -> None:
        count = self._workers or min(processors(), _MOST_WORKERS)
        self._crew = Crew(
            _TASK,
            self._setup,
            workers=count,
            receive=lambda worker, message: self._answers.put((worker, *message)),
            failed=self._answers.put,
        )
        self._busy = [0] * count
        for worker in range(count):
            self._crew.send(worker, None, [fd])

    def _ask(self, stack: list[Sight]) -> None:
        """Have the last ones looked at; what cannot be found is not as it was."""
        self._progress.check()
        count = min(_AT_ONCE, max(1, len(stack) // (_AHEAD * len(self._busy))))
        chosen = stack[-count:]
        del stack[-count:]
        chosen.reverse()
        asked, sights, size = [], [], 0
        for sight, place in zip(chosen, self._places(chosen), strict=True):
            if size > _AT_ONCE_BYTES:
                stack.append(sight)
                continue
            sealed = self._sealed(place) if place is not None else None
            if place is None or sealed is None:
                self._end(sight, UNKNOWN, stack)
                continue
            asked.append(Asked(sight.path, sight.tree, sealed, place.blob.uncompressed_length))
            sights.append(sight)
            size += len(sealed)
        if not asked:
            return
        number, self._next = self._next, self._next + 1
        self._under[number] = sights
        worker = self._busy.index(min(self._busy))
        self._busy[worker] += 1
        if self._crew is not None:
            self._crew.send(worker, (number, asked))
        else:
            self._inline.handle((number, asked))

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

    def _sealed(self, place: Location) -> bytes | None:
        with contextlib.suppress(Damaged):
            return self._repository.sealed(place)
        return None

    def _take(self, stack: list[Sight]) -> None:
        """Take an answer."""
        if not self._under:
            return
        try:
            answer = self._answers.get(timeout=_PATIENCE_SECONDS)
        except queue.Empty:
            self._progress.check()
            return
        if isinstance(answer, BecalmError):
            raise answer
        worker, number, seen, raw = answer
        self._busy[worker] -= 1
        sights = self._under.pop(number)
        known = not raw or bool(self._repository.index.locate_many(BlobKind.DATA, raw).found.all())
        for sight, one in zip(sights, seen, strict=True):
            self._end(sight, one if known else one._replace(same=False), stack)
            self._same += sight.same
        self._done += len(sights)
        self._progress.path = sights[-1].path

    def _end(self, sight: Sight, seen: Seen, stack: list[Sight]) -> None:
        """Take what was seen of a directory, and put those in it on the stack."""
        sight.same, sight.files, sight.size = seen.same, seen.files, seen.size
        if seen.folders is None:
            sight.odd = None
        else:
            sight.waiting += len(seen.folders)
            path = f"{sight.path}/" if sight.path else ""
            stack.extend([Sight(path + name, tree, sight, name) for name, tree in seen.folders])
        _one_less(sight)


def _one_less(sight: Sight | None) -> None:
    """One more is known. Where that was the last, what is as it was is added to the directory above, and what is not is kept there."""
    while sight is not None:
        sight.waiting -= 1
        if sight.waiting:
            return
        above, past = sight.above, sight.past
        if not sight.walks:
            past[0] += sight.files
            past[1] += sight.size
            past[2] += 1
        if above is not None:
            for number in range(3):
                above.past[number] += past[number]
            if not sight.walks:
                above.even.add(sight.name)
            elif above.odd is not None:
                above.odd[sight.name] = sight
        sight = above


def _has_many(fd: int) -> bool:
    """Say whether there are so many directories that a crew pays; only as many are counted."""
    folders = [f"/proc/self/fd/{fd}"]
    for folder in folders:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            folders += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        if len(folders) > _PAYS_FOLDERS:
            return True
    return False


class _Inline:
    """The way back within this process."""

    def __init__(self, answers: queue.SimpleQueue[Answer | BecalmError]) -> None:
        self._answers = answers

    def send(self, message: Any) -> None:
        """Put an answer where those of a crew are."""
        self._answers.put((0, *message))
