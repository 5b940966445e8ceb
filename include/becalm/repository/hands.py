"""Who does the byte work of a backup: this process while there is little of it, a crew of workers once it pays.

It hands out jobs, answers which blobs are wanted, gives slots and sends the packs that come back. What may be under way is
bounded: whoever hands out more waits. Jobs end in the thread that hands them out, and nowhere else.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import queue
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from becalm.errors import BecalmError
from becalm.repository.backup_worker import BackupWorker, Setup
from becalm.repository.crew import Crew, processors, share_heap
from becalm.repository.format import BlobKind
from becalm.repository.slot import SLOT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from becalm.repository.progress import Progress
    from becalm.repository.reading import Said
    from becalm.repository.writer import Writer

_AT_ONCE = 4
"""So many jobs may be under way for each worker."""
_BYTES_AT_ONCE = 32 << 20
"""Whoever has so much before him gets no more: at the end one would have a queue, and the others nothing."""

_PAYS_FILES = 2000
_PAYS_BYTES = 64 << 20
"""A crew is worth its start once so much is to be read."""
_PAYS_FILES_AT_FIRST = 300
_PAYS_BYTES_AT_FIRST = 12 << 20
"""The same where nothing was read before, so that all of a volume is to be read: more is likely to come."""

_PATIENCE_SECONDS = 0.2
"""How often whoever waits looks whether it must stop."""

_TASK = "becalm.repository.backup_worker:BackupWorker"


@dataclass(frozen=True, slots=True)
class FilesRead:
    """What came of a batch of small files."""

    entries: Sequence[bytes | None]
    size: int
    said: Sequence[Said]
    grown: Sequence[int]


@dataclass(frozen=True, slots=True)
class ExtentRead:
    """What came of a part of a large file: ids of blobs, and lengths of zeros."""

    items: Sequence[bytes | int]
    size: int
    error: int
    """The number of the error that ended it."""


class _Team(Protocol):
    """Workers that take messages."""

    @property
    def slots(self) -> Sequence[Any]:
        """What they share with this process."""

    def send(self, worker: int, message: Any, files: Sequence[int] = ()) -> None:
        """Tell one of them."""

    def close(self) -> None:
        """End them."""


class _Inline:
    """One worker in this very process, as an object. It works whenever it is told something, or pumped."""

    def __init__(self, setup: Setup, receive: Callable[[int, Any], None]) -> None:
        self.slots: Sequence[Any] = tuple(mmap.mmap(-1, SLOT_BYTES) for _ in range(2))
        self._owner = threading.get_ident()
        self._messages: deque[tuple[Any, tuple[int, ...]]] = deque()
        self._busy = False
        self._worker = BackupWorker(setup, _Direct(self.slots, receive))

    def send(self, worker: int, message: Any, files: Sequence[int] = ()) -> None:
        """Tell the worker. From another thread it only hears of it at the next pump."""
        del worker  # there is but one
        self._messages.append((message, tuple(os.dup(fd) for fd in files)))
        if threading.get_ident() == self._owner:
            self.pump()

    def pump(self) -> None:
        """Let the worker do what it was told."""
        if self._busy:
            return
        self._busy = True
        try:
            while self._messages:
                self._worker.handle(*self._messages.popleft())
        finally:
            self._busy = False

    def close(self) -> None:
        """Forget what was not begun, and what is open."""
        self._worker.close()
        for _, files in self._messages:
            for fd in files:
                os.close(fd)
        self._messages.clear()


@dataclass(frozen=True, slots=True)
class _Direct:
    """The way back from the worker in this process."""

    slots: Sequence[Any]
    receive: Callable[[int, Any], None]

    def send(self, message: Any) -> None:
        """Answer."""
        self.receive(0, message)


@dataclass(slots=True)
class _Under:
    """A job under way."""

    team: _Team
    worker: int
    then: Callable[[Any], None]
    is_extent: bool
    length: int
    """How much there was to read, by its length."""
    items: list[bytes | int] = field(default_factory=list)
    size: int = 0


class Hands:
    """The workers of one backup, seen from the walk. Close it, also after a failure."""

    def __init__(
        self, writer: Writer, progress: Progress, *, access_times: bool = False, workers: int | None = None, first: bool = False
    ) -> None:
        """Begin in this process. `workers`: 0 stays there, a number starts so many at once; by default their number follows the processors.

        `first` says that nothing was backed up before, so that all will be read.
        """
        key, repository = writer.repository.key, writer.repository
        self._setup = Setup(
            encrypt=key.encrypt,
            mac_k=key.mac_k,
            mac_r=key.mac_r,
            version=repository.version,
            level=writer.level,
            access_times=access_times,
        )
        self._writer = writer
        self._progress = progress
        self._workers = workers
        self._pays_files, self._pays_bytes = (_PAYS_FILES_AT_FIRST, _PAYS_BYTES_AT_FIRST) if first else (_PAYS_FILES, _PAYS_BYTES)
        self.bytes_read = 0
        """Bytes of files that were read; holes and unchanged files are not."""
        self._answers: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._under: dict[int, _Under] = {}
        self._next = 0
        self._files = self._bytes = 0
        self._slots: list[tuple[_Team, int]] = []
        """Slots that nobody writes to."""
        self._hungry: deque[tuple[_Team, int]] = deque()
        """Workers that wait for a slot."""
        self._inline: _Inline | None = None
        self._crew: Crew | None = None
        self._busy: list[int] = []
        """Bytes that are under way with each worker of the crew; a job is never nothing."""
        self._flushing = 0

    def files(
        self,
        groups: Sequence[tuple[str, Sequence[str]]],
        folders: Sequence[int],
        *,
        size: int,
        devices: Mapping[int, int],
        then: Callable[[FilesRead], None],
    ) -> None:
        """Have small files read: for each open folder its path and names. May wait, and end other jobs meanwhile."""
        self._files += sum(len(names) for _, names in groups)
        self._submit(("files", groups, dict(devices)), folders, size, then)

    def blobs(self, plains: Sequence[bytes], *, then: Callable[[FilesRead], None]) -> None:
        """Have blobs kept whose bytes are here already; the entries of the answer are their ids. May wait as well."""
        self._files += len(plains)
        self._submit(("blobs", plains), (), sum(map(len, plains)), then)

    def extent(self, fd: int, begin: int, end: int, *, piece: int, then: Callable[[ExtentRead], None]) -> None:
        """Have a part of an open file read, in pieces of this size, or cut by its content where it is nothing. May wait as well."""
        self._submit(("extent", begin, end, piece), (fd,), end - begin, then)

    def turn(self, *, wait: bool = False) -> None:
        """End the jobs that are ready; on request wait for one. Raises what went wrong anywhere."""
        while True:
            self._check()
            if self._inline is not None:
                self._inline.pump()
            try:
                answer = self._answers.get(block=wait, timeout=_PATIENCE_SECONDS if wait else None)
            except queue.Empty:
                if wait:
                    continue
                return
            self._end(answer)
            wait = False

    def settle(self) -> None:
        """Wait until every job has ended, and every flush."""
        while self._under or self._flushing:
            self.turn(wait=True)

    def finish(self) -> None:
        """End every job, and send what the workers still hold."""
        self.settle()
        if self._crew is not None:
            self._flush(self._crew, self._crew.size)
        elif self._inline is not None:
            self._flush(self._inline, 1)
        self.settle()

    def close(self) -> None:
        """Let go of the workers."""
        if self._crew is not None:
            self._crew.close()
        if self._inline is not None:
            self._inline.close()

    def _submit(self, message: tuple[Any, ...], files: Sequence[int], size: int, then: Callable[[Any], None]) -> None:
        self._bytes += size
        team = self._team()
        while self._under and (len(self._under) >= _AT_ONCE * max(1, len(self._busy)) or min(self._busy, default=0) >= _BYTES_AT_ONCE):
            self.turn(wait=True)
        worker = self._busy.index(min(self._busy)) if team is self._crew else 0
        job, self._next = self._next, self._next + 1
        size = max(size, 1)
        self._under[job] = _Under(team, worker, then, message[0] == "extent", size)
        if team is self._crew:
            self._busy[worker] += size
        team.send(worker, (message[0], job, *message[1:]), files)

    def _team(self) -> _Team:
        """Return who gets the next job."""
        if self._crew is None and self._pays():
            self._start()
        if self._crew is not None:
            return self._crew
        if self._inline is None:
            inline = self._inline = _Inline(self._setup, lambda worker, message: self._receive(inline, worker, message))
            self._give_slots(inline)
        return self._inline

    def _pays(self) -> bool:
        if self._workers is not None:
            return self._workers > 0
        return self._files > self._pays_files or self._bytes > self._pays_bytes

    def _start(self) -> None:
        """Start a crew; what was begun in this process ends there."""
        if self._inline is not None:
            self._flush(self._inline, 1)
        self.settle()
        self._retire_inline()
        count = self._workers or processors()
        share_heap()
        ready = threading.Event()

        def receive(worker: int, message: Any) -> None:
            ready.wait()
            assert self._crew is not None
            self._receive(self._crew, worker, message)

        self._crew = Crew(
            _TASK,
            self._setup,
            workers=count,
            slots=count + 1,
            slot_bytes=SLOT_BYTES,
            receive=receive,
            failed=lambda error: self._answers.put(("failed", error)),
        )
        self._busy = [0] * count
        ready.set()
        self._give_slots(self._crew)

    def _retire_inline(self) -> None:
        """Let the worker in this process go: it has no more to do, and its slots are large. One that is being sent goes when it is."""
        with self._lock:
            for team, slot in self._slots:
                team.slots[slot].close()
            self._slots.clear()
            self._inline = None

    def _give_slots(self, team: _Team) -> None:
        workers = max(1, len(self._busy)) if team is self._crew else 1
        with self._lock:
            self._slots.extend((team, number) for number in range(workers, len(team.slots)))
        for worker in range(workers):
            team.send(worker, ("slot", worker))

    def _flush(self, team: _Team, count: int) -> None:
        self._flushing += count
        for worker in range(count):
            team.send(worker, ("flush",))

    def _receive(self, team: _Team, worker: int, message: tuple[Any, ...]) -> None:
        """Take an answer: in a thread of the crew's, so that no worker waits for the walk."""
        kind = message[0]
        if kind in ("read", "part"):
            self._ask(team, worker, message[1], message[3])
        elif kind == "pack":
            _, slot, pack_id, length, rows = message
            self._next_slot(team, worker)
            body = memoryview(team.slots[slot])[:length]
            self._writer.send_pack(pack_id, body, rows, lambda: self._free(team, slot))
            return
        self._answers.put(message)

    def _ask(self, team: _Team, worker: int, job: int, ids: Sequence[bytes]) -> None:
        try:
            team.send(worker, ("bring", job, self._writer.claim_many(BlobKind.DATA, ids)))
        except BecalmError as error:
            self._answers.put(("failed", error))

    def _next_slot(self, team: _Team, worker: int) -> None:
        """Give a worker that has filled its slot another one, or let it wait for one."""
        with self._lock:
            other = next((place for place in self._slots if place[0] is team), None)
            if other is None:
                self._hungry.append((team, worker))
            else:
                self._slots.remove(other)
        if other is not None:
            team.send(worker, ("slot", other[1]))

    def _free(self, team: _Team, slot: int) -> None:
        """A pack is sent: its slot is for whoever waits."""
        with self._lock:
            if team is not self._crew and team is not self._inline:
                with contextlib.suppress(BufferError):
                    team.slots[slot].close()
                return
            waiting = next((place for place in self._hungry if place[0] is team), None)
            if waiting is None:
                self._slots.append((team, slot))
            else:
                self._hungry.remove(waiting)
        if waiting is not None:
            team.send(waiting[1], ("slot", slot))
        self._answers.put(("sent",))

    def _end(self, message: tuple[Any, ...]) -> None:
        """End a job, or go on with it, in the thread of the walk."""
        kind = message[0]
        if kind == "failed":
            raise message[1]
        if kind == "flushed":
            self._flushing -= 1
        elif kind == "read":
            _, job, entries, _, size, said, grown = message
            self.bytes_read += size
            self._progress.add(size=size)
            self._under[job].then(FilesRead(entries, size, said, grown))
        elif kind == "part":
            _, job, items, _, size = message
            under = self._under[job]
            under.items.extend(items)
            under.size += size
            self.bytes_read += size
            self._progress.add(size=size)
        elif kind == "done":
            _, job, number = message
            under = self._under.pop(job)
            if under.team is self._crew:
                self._busy[under.worker] -= under.length
            if under.is_extent:
                under.then(ExtentRead(under.items, under.size, number))

    def _check(self) -> None:
        self._progress.check()
        self._writer.check()
