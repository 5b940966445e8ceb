"""Who looks at the directories of a volume: a crew of scouts where there are many, this process where there are few.

They can be sent out before the repository is open: each lists its share meanwhile. Whoever sends them out lets them go.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from becalm.errors import BecalmError
from becalm.repository.crew import Crew, processors
from becalm.repository.reading import OPEN_FOLDER
from becalm.repository.scout import Found, Listed, Look, Scout, Setup, Share

if TYPE_CHECKING:
    from collections.abc import Iterator

_TASK = "becalm.repository.scout:Scout"
_PAYS_FOLDERS = 400
"""Where there are more directories, a crew looks at them."""
_MOST_WORKERS = 4

Answer: TypeAlias = "tuple[int, Found]"
"""Which worker, and what it has seen."""


class Scouts:
    """Scouts of one volume. Use it as a context manager."""

    def __init__(self, fd: int, *, workers: int | None = None, ahead: bool = False) -> None:
        """Begin below an open root. `workers`: 0 stays in this process; by default a crew comes when there is much to look at.

        `ahead` has the crew list directories before it is asked.
        """
        self._answers: queue.SimpleQueue[tuple[int, Found | Listed] | BecalmError] = queue.SimpleQueue()
        self._crew: Crew | None = None
        self._inline: Scout | None = None
        self.owners: dict[str, int] = {}
        """Which worker has listed a directory, as far as it has been told."""
        self.busy: list[int] = [0]
        """How many messages each of them has before it."""
        self._where = os.fstat(fd)
        self._leaving: threading.Thread | None = None
        count = _crew_for(fd) if workers is None else workers
        if count:
            self._start(fd, count, ahead=ahead)
        else:
            self._inline = Scout(None, _Inline(self._answers))
            self._inline.handle(None, [fd])

    def __enter__(self) -> Self:
        """Nothing to do."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let the crew go, and wait for it."""
        self.let_go()
        if self._leaving is not None:
            self._leaving.join()

    def are_below(self, fd: int) -> bool:
        """Say whether this open directory is the root that they were sent to."""
        return os.path.samestat(self._where, os.fstat(fd))

    def let_go(self) -> None:
        """Let the crew go: there is no more to ask. Returns at once."""
        if self._crew is not None and self._leaving is None:
            self._leaving = threading.Thread(target=self._crew.close, name="scouts", daemon=True)
            self._leaving.start()

    def _start(self, fd: int, count: int, *, ahead: bool) -> None:
        self.busy = [0] * count
        self._crew = Crew(
            _TASK,
            None,
            workers=count,
            receive=lambda worker, message: self._answers.put((worker, message)),
            failed=self._answers.put,
        )
        for worker in range(count):
            self._crew.send(worker, Share(worker, count) if ahead else None, [fd])

    def unlock(self, setup: Setup) -> None:
        """Give them the key."""
        for worker in range(len(self.busy)):
            self._send(worker, setup)

    def ask(self, worker: int, look: Look) -> None:
        """Have a worker look."""
        self.busy[worker] += 1
        self._send(worker, look)

    def answer(self, timeout: float) -> Answer | None:
        """Return what somebody has seen; nothing where nobody has for so long. Raises what went wrong with the crew."""
        with contextlib.suppress(queue.Empty):
            while True:
                answer = self._answers.get(timeout=timeout)
                if isinstance(answer, BecalmError):
                    raise answer
                worker, message = answer
                if isinstance(message, Found):
                    self.busy[worker] -= 1
                    return worker, message
                self.owners.update(dict.fromkeys(message.paths, worker))
        return None

    def _send(self, worker: int, message: Setup | Look) -> None:
        if self._crew is not None:
            self._crew.send(worker, message)
        elif self._inline is not None:
            self._inline.handle(message)


@contextlib.contextmanager
def sent_out(path: str) -> Iterator[Scouts | None]:
    """Send scouts ahead into a directory; nobody goes where there is none, or little in it."""
    try:
        fd = os.open(path, OPEN_FOLDER)
    except OSError:
        yield None  # the walk meets the same, and says so
        return
    try:
        count = _crew_for(fd)
        scouts = Scouts(fd, workers=count, ahead=True) if count else None
    finally:
        os.close(fd)
    if scouts is None:
        yield None
        return
    with scouts:
        yield scouts


def _crew_for(fd: int) -> int:
    """Say how many workers there should be: none where there are few directories. Only as many are counted as make a crew pay."""
    folders = [f"/proc/self/fd/{fd}"]
    for folder in folders:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            folders += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        if len(folders) > _PAYS_FOLDERS:
            return min(processors(), _MOST_WORKERS)
    return 0


class _Inline:
    """The way back within this process."""

    def __init__(self, answers: queue.SimpleQueue[tuple[int, Found | Listed] | BecalmError]) -> None:
        self._answers = answers

    def send(self, message: Any) -> None:
        """Put an answer where those of a crew are."""
        self._answers.put((0, message))
