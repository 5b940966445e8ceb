"""Batches of blobs from the bucket to those who make files of them: by few long ranges, pack by pack, side by side.

The sealed bytes of a batch come to stand in a slot, memory that a worker sees, and the worker does the rest. As long as there is
little to do, this process is the worker itself. It knows files only as descriptors, and opens nothing.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from os import dup
from typing import TYPE_CHECKING, TypeAlias

import orjson

from becalm.errors import BecalmError, Damaged, MoverFailed, NotFound
from becalm.repository.crew import Crew, processors
from becalm.repository.extract_worker import Batch, Done, Extractor, Pieces, Setup, Spot
from becalm.repository.format import Layout
from becalm.repository.gather import SLOT_BYTES, Gathering, Run, runs_of
from becalm.storage.base import Span

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable

    from becalm.repository.gather import File
    from becalm.repository.progress import Progress
    from becalm.repository.reader import Repository

_FETCHERS = 4
_SPARE_SLOTS = 3
_LARGE_FILES = 2000
_LARGE_BYTES = 64 << 20
_LOOK_SECONDS = 0.5


@dataclass(slots=True, eq=False)
class _Job:
    """A batch under way. It holds what the worker is told, and no entries as objects: several wait at once."""

    number: int
    slot: int
    memory: bytearray | None
    runs: list[Run]
    holes: dict[str, Spot]
    shared: frozenset[str]
    folders: list[tuple[str, bytes]]
    pieces: list[tuple[File, list[tuple[str, int]]]]
    descriptors: list[int]
    left: int
    lost: dict[str, str] = field(default_factory=dict)
    worker: int = -1

    @classmethod
    def of(cls, gathered: Gathering, number: int, runs: list[Run], room: tuple[int, bytearray | None]) -> _Job:
        return cls(
            number=number,
            slot=room[0],
            memory=room[1],
            runs=runs,
            holes={blob_id: spot for blob_id, spot in gathered.blobs.items() if not spot.length},
            shared=frozenset(gathered.shared),
            folders=[(place.path, orjson.dumps({"nodes": entries})) for place, entries in gathered.folders.values()],
            pieces=list(gathered.pieces.values()),
            descriptors=[*gathered.folders, *gathered.pieces],
            left=len(runs),
        )

    def batch(self) -> Batch:
        """Return what the worker is told: now each blob's offset is its place in memory."""
        spots = dict(self.holes)
        for run in self.runs:
            shift = run.place - run.begin
            spots.update((blob_id, spot._replace(offset=spot.offset + shift)) for blob_id, spot in run.blobs)
        return Batch(
            number=self.number,
            slot=self.slot,
            memory=self.memory,
            blobs=spots,
            shared=self.shared,
            lost=self.lost,
            folders=self.folders,
            pieces=[Pieces(where=file.where, sparse=file.sparse, content=content) for file, content in self.pieces],
        )


_Word: TypeAlias = "Done | _Job | BaseException"


class _Inline:
    """Stands in for a crew's answers while this process is the worker."""

    slots: tuple[mmap.mmap, ...] = ()

    def __init__(self, inbox: queue.SimpleQueue[_Word]) -> None:
        self._inbox = inbox

    def send(self, message: Done) -> None:
        self._inbox.put(message)


class Fetcher:
    """Carries batches out, a few at once. For one thread; what follows a batch is done in it, in the order of the calls."""

    def __init__(
        self, repository: Repository, progress: Progress, *, sparse: bool = True, setuid: bool = True, workers: int | None = None
    ) -> None:
        """Begin. `workers` is how many processes there are from the first batch on: without it they come once there is much to do."""
        self.repository = repository
        self.progress = progress
        self.written = self.files = 0
        key = repository.key
        self._setup = Setup((key.encrypt, key.mac_k, key.mac_r), repository.store.url, sparse, setuid)
        self._workers = workers
        self._inbox: queue.SimpleQueue[_Word] = queue.SimpleQueue()
        self._inline = Extractor(self._setup, _Inline(self._inbox))
        self._pool = ThreadPoolExecutor(max_workers=_FETCHERS, thread_name_prefix="fetch")
        self._lock = threading.Lock()
        self._crew: Crew | None = None
        self._burden: list[int] = []
        self._slots: list[int] = []
        self._jobs: dict[int, _Job] = {}
        self._next = 0
        self._steps: deque[tuple[int, Callable[[], None]]] = deque()
        self._handed = [0, 0]
        self.heard: Callable[[Done], None] = lambda _: None

    def submit(self, gathered: Gathering) -> None:
        """Carry a batch out. Waits while too many are under way. Raises what went wrong with an earlier one."""
        self.progress.check()
        if gathered.files or gathered.pieces:
            self._start(gathered)
        self._steps.extend((self._next, step) for step in gathered.then)
        while not self._inbox.empty():
            self._take(self._inbox.get())
        self._proceed()

    def wait(self) -> None:
        """Wait for the batches that are under way and do what follows them. Raises what went wrong."""
        while self._jobs:
            self._hear()
        self._proceed()
        self.progress.check()

    def close(self) -> None:
        """Let threads and processes go."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._crew is not None:
            self._crew.close()

    def _start(self, gathered: Gathering) -> None:
        runs = runs_of(gathered.blobs)
        length = sum(run.length for run in runs)
        if length > SLOT_BYTES:
            runs = runs_of(gathered.blobs, widest_gap=0)
            length = sum(run.length for run in runs)
        job = _Job.of(gathered, self._next, runs, self._room(length))
        self._next += 1
        self._jobs[job.number] = job
        self._handed[0] += gathered.files
        self._handed[1] += length
        if not runs:
            self._hand_over(job)
        for run in runs:
            self._pool.submit(self._bring, job, run)

    def _room(self, length: int) -> tuple[int, bytearray | None]:
        """Return a free slot, or memory of this process where there is no crew or the slot is too small."""
        if self._crew is None and self._is_much():
            self._begin_crew()
        inline = self._crew is None or length > SLOT_BYTES
        if inline:
            while sum(job.memory is not None for job in self._jobs.values()) >= _SPARE_SLOTS:
                self._hear()
            return -1, bytearray(length)
        while not self._slots:
            self._hear()
        return self._slots.pop(), None

    def _is_much(self) -> bool:
        if self._workers is not None:
            return self._workers > 0
        return self._handed[0] > _LARGE_FILES or self._handed[1] > _LARGE_BYTES

    def _begin_crew(self) -> None:
        workers = self._workers if self._workers is not None else _processors()
        if workers < 1:
            return
        try:
            self._crew = Crew(
                "becalm.repository.extract_worker:Extractor",
                tuple(self._setup),
                workers=workers,
                slots=workers + _SPARE_SLOTS,
                slot_bytes=SLOT_BYTES,
                receive=lambda _, done: self._inbox.put(done),
                failed=self._inbox.put,
            )
        except OSError:
            self._workers = 0  # no process can be started: this one does it alone
            return
        self._burden = [0] * workers
        self._slots = list(range(workers + _SPARE_SLOTS))

    def _bring(self, job: _Job, run: Run) -> None:
        """Fetch one run into the memory of its batch. The last one sends the batch on. In a thread of the pool."""
        try:
            self._read(job, run)
            with self._lock:
                job.left -= 1
                last = job.left == 0
            if last:
                self._hand_over(job)
        except BaseException as error:  # noqa: BLE001  (a thread has nobody above it: it is raised where the batches are submitted)
            self._inbox.put(error)

    def _read(self, job: _Job, run: Run) -> None:
        """A range that cannot be read whole is read in halves: what is damaged spoils its files and nothing else."""
        self.progress.check()
        key = Layout.pack(run.pack)
        try:
            raw = self.repository.store.get(key, Span(offset=run.begin, length=run.length))
        except Damaged as error:
            if len(run.blobs) > 1:
                for half in run.halves():
                    self._read(job, half)
            else:
                self._lose(job, run, error)
        except NotFound as error:
            self._lose(job, run, error)
        else:
            memory = job.memory if job.memory is not None else self._crew_slot(job.slot)
            memory[run.place : run.place + run.length] = raw

    def _crew_slot(self, slot: int) -> mmap.mmap:
        assert self._crew is not None
        return self._crew.slots[slot]

    def _lose(self, job: _Job, run: Run, error: BecalmError) -> None:
        message = f"its pack {run.pack[:12]} cannot be read: {error.message}"
        with self._lock:
            job.lost.update((blob_id, message) for blob_id, _ in run.blobs)

    def _hand_over(self, job: _Job) -> None:
        if job.memory is not None or self._crew is None:
            self._inbox.put(job)
            return
        with self._lock:
            job.worker = min(range(len(self._burden)), key=self._burden.__getitem__)
            self._burden[job.worker] += 1
        self._crew.send(job.worker, job.batch(), job.descriptors)

    def _hear(self) -> None:
        """Wait for one word, and see now and then whether to stop."""
        while True:
            self.progress.check()
            try:
                return self._take(self._inbox.get(timeout=_LOOK_SECONDS))
            except queue.Empty:
                continue

    def _take(self, word: _Word) -> None:
        if isinstance(word, BaseException):
            raise word if isinstance(word, BecalmError | OSError | MemoryError) else MoverFailed(f"{type(word).__name__}: {word}")
        if isinstance(word, _Job):
            self._inline.handle(word.batch(), [dup(fd) for fd in word.descriptors])
            return
        job = self._jobs.pop(word.number)
        if job.slot >= 0:
            self._slots.append(job.slot)
            with self._lock:
                self._burden[job.worker] -= 1
        for number, (file, _) in enumerate(job.pieces):
            file.error = file.error or word.broken.get(number, "")
        self.written += word.bytes
        self.files += word.files
        self.heard(word)
        self._proceed()
        self.progress.path = word.path or self.progress.path
        self.progress.add(files=word.files, size=word.bytes)

    def _proceed(self) -> None:
        """Do what follows the batches that are carried out."""
        first = min(self._jobs, default=self._next)
        while self._steps and self._steps[0][0] <= first:
            self._steps.popleft()[1]()


def _processors() -> int:
    """Return how many workers pay: with one processor none does."""
    found = processors()
    return found if found > 1 else 0
