"""Fetches packs and has them read: by a crew of processes where there is much, else by threads of this one. The code that reads is the same.

It decides nothing: which packs are read, and what follows from what is found, is the check's business.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from becalm.errors import Damaged, MoverFailed, NotFound
from becalm.repository.check_worker import TASK, Keys, Listed, PackFound, PackReader
from becalm.repository.crew import Crew, processors
from becalm.repository.format import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from becalm.errors import BecalmError
    from becalm.repository.index import PackEntries
    from becalm.repository.reader import Repository

WORTH_A_CREW = 64 << 20
"""Fewer bytes than these are read before a crew has started."""

_FETCHERS = 3
_LARGEST_SLOT = 64 << 20
"""A larger pack is read in this process."""
_HUGE = 32 << 20
"""So is one with a tree of more bytes of plain text, and nothing beside it: what such a tree tells is too much to be sent around."""
_ENOUGH = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A pack that is to be read, and what the index says of it."""

    pack: str
    size: int
    """Bytes, as listed in the bucket."""
    listed: Listed


def job_of(entries: PackEntries, size: int) -> Job:
    """Make a job of what the index says."""
    columns = (entries.offset, entries.length, entries.plain)
    offsets, lengths, plains = (np.ascontiguousarray(column, dtype=np.uint32).tobytes() for column in columns)
    listed = Listed(ids=entries.ids, trees=entries.tree.tobytes(), offsets=offsets, lengths=lengths, plains=plains)
    return Job(pack=entries.pack, size=size, listed=listed)


class Readers:
    """Reads packs: by processes where so much is expected that they pay, which start at once. One thread calls it."""

    def __init__(
        self, repository: Repository, *, expected_bytes: int, largest: int, workers: int | None = None, hired: Hired | None = None
    ) -> None:
        """Begin. `workers` says how many processes: with nothing, none. `largest` is the size of the largest pack.

        Processes that were hired before are used where processes pay; whoever hired them ends them.
        """
        self._lock = threading.Lock()
        self._found: Callable[[PackFound], None] = _nobody
        wanted = processors() if workers is None else workers
        crew = wanted if expected_bytes >= WORTH_A_CREW or workers else 0
        self._hands = _hands(repository, self._tell, crew, min(largest, _LARGEST_SLOT), hired)
        self._fetch = _Fetch(repository, self._hands, self._tell)
        self._pool = ThreadPoolExecutor(max_workers=_FETCHERS, thread_name_prefix="check")

    def __enter__(self) -> Self:
        """Nothing to do."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes and threads, whatever is left."""
        self._hands.close()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _tell(self, result: PackFound) -> None:
        with self._lock:
            self._found(result)

    def read(self, jobs: Iterable[Job], found: Callable[[PackFound], None]) -> None:
        """Read packs, and tell of each once. `found` is called in threads, one at a time, in no order that means anything.

        Raises: what the store raises, MoverFailed (a worker died).
        """
        self._found = found
        waiting: deque[Future[None]] = deque()
        for job in jobs:
            alone = job.listed.longest > _HUGE
            while len(waiting) >= (1 if alone else _FETCHERS):
                waiting.popleft().result()
            if alone:
                self._hands.wait()
                self._fetch.one(job)
            else:
                waiting.append(self._pool.submit(self._fetch.one, job))
        for done in waiting:
            done.result()
        self._hands.wait()


def _nobody(result: PackFound) -> None:
    """Whoever reads has said who listens."""


class _Hands(Protocol):
    """Who reads what was fetched."""

    def take(self, job: Job, body: bytes) -> None:
        """Read a pack, now or soon."""

    def wait(self) -> None:
        """Wait until all is read. Raises what went wrong."""

    def close(self) -> None:
        """End, whatever is left."""


def _hands(repository: Repository, found: Callable[[PackFound], None], workers: int, slot_bytes: int, hired: Hired | None) -> _Hands:
    if workers > 0:
        with suppress(OSError):  # no process can be started here: it goes without
            return _Crewed(repository, found, hired or Hired(workers, slot_bytes), keep=hired is not None)
    return _Inline(repository, found)


class _Fetch:
    """Brings packs."""

    def __init__(self, repository: Repository, hands: _Hands, found: Callable[[PackFound], None]) -> None:
        self._repository, self._hands, self._found = repository, hands, found

    def one(self, job: Job) -> None:
        """Fetch a pack and hand it on. One that cannot be had is told of at once."""
        try:
            bodies = [self._repository.store.get(Layout.pack(job.pack))]
        except (NotFound, Damaged) as error:
            message = "the pack is not there" if isinstance(error, NotFound) else error.message
            lost = [(tree, raw) for raw, tree, *_ in job.listed.rows()]
            self._found(PackFound(pack=job.pack, size=0, problems=[message], lost=lost))
            return
        self._hands.take(job, bodies.pop())


def _parts(repository: Repository) -> Keys:
    key = repository.key
    return Keys(key.encrypt, key.mac_k, key.mac_r)


class _Inline:
    """Reads in the thread that fetched."""

    def __init__(self, repository: Repository, found: Callable[[PackFound], None]) -> None:
        self._parts = _parts(repository)
        self._found = found
        self._local = threading.local()

    def take(self, job: Job, body: bytes) -> None:
        """Read it now."""
        reader = getattr(self._local, "reader", None)
        if reader is None:
            reader = self._local.reader = PackReader(self._parts)
        result = reader.read(job.pack, memoryview(body), job.listed)
        del body  # whoever listens works with what was found, and may need room for it
        self._found(result)

    def wait(self) -> None:
        """Nothing is left to do."""

    def close(self) -> None:
        """Nothing is left to do."""


def hire() -> Hired | None:
    """Start processes before it is known what they will read: they are ready when it is. Nothing where none can be started."""
    with suppress(OSError):
        return Hired(processors(), _LARGEST_SLOT)
    return None


def _unasked(worker: int, message: tuple[int, PackFound]) -> None:
    """Nothing has been asked, so nothing is answered."""


def _unheard(error: BecalmError) -> None:
    """Whoever comes to listen is told."""


class Hired:
    """Processes that begin at once, and wait for a key and for packs."""

    def __init__(self, workers: int, slot_bytes: int) -> None:
        """Start them. Raises OSError where none can be started."""
        self.slot_bytes = max(1, slot_bytes)
        self._lock = threading.Lock()
        self._received: Callable[[int, tuple[int, PackFound]], None] = _unasked
        self._failed: Callable[[BecalmError], None] = _unheard
        self._failure: BecalmError | None = None
        self.crew = Crew(
            TASK,
            None,
            workers=workers,
            slots=workers + 1,
            slot_bytes=self.slot_bytes,
            receive=lambda worker, message: self._received(worker, message),  # noqa: PLW0108  (who listens is said later)
            failed=self._fail,
        )

    def listen(self, received: Callable[[int, tuple[int, PackFound]], None], failed: Callable[[BecalmError], None]) -> None:
        """Say who hears the answers, and the first failure: one that has been is told at once."""
        with self._lock:
            self._received, self._failed = received, failed
            failure = self._failure
        if failure is not None:
            failed(failure)

    def _fail(self, error: BecalmError) -> None:
        with self._lock:
            self._failure = error
            failed = self._failed
        failed(error)

    def __enter__(self) -> Self:
        """Nothing to do."""
        return self

    def __exit__(self, *_: object) -> None:
        """End them."""
        self.crew.close()


class _Crewed:
    """Has it read by processes, each pack in a slot that both sides see."""

    def __init__(self, repository: Repository, found: Callable[[PackFound], None], hired: Hired, *, keep: bool) -> None:
        self._found = found
        self._inline = _Inline(repository, found)
        self._slot_bytes = hired.slot_bytes
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._busy = [0] * hired.crew.size
        self._failure: BecalmError | None = None
        self._keep = keep
        self._crew = hired.crew
        hired.listen(self._received, self._fail)
        for worker in range(self._crew.size):
            self._crew.send(worker, _parts(repository))
        for slot in range(len(self._crew.slots)):
            self._free.put(slot)

    def take(self, job: Job, body: bytes) -> None:
        """Put it into a slot and send it to the worker that has the least to do. Waits for a slot."""
        if len(body) > self._slot_bytes or job.listed.longest > _HUGE:
            self._inline.take(job, body)
            return
        slot = self._free.get()
        self._check()
        self._crew.slots[slot][: len(body)] = body
        with self._changed:
            worker = min(range(len(self._busy)), key=self._busy.__getitem__)
            self._busy[worker] += 1
        self._crew.send(worker, (slot, len(body), job.pack, job.listed))

    def _received(self, worker: int, message: tuple[int, PackFound]) -> None:
        slot, result = message
        self._found(result)
        self._free.put(slot)
        with self._changed:
            self._busy[worker] -= 1
            self._changed.notify_all()

    def _fail(self, error: BecalmError) -> None:
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()
        for _ in range(_FETCHERS):
            self._free.put(_ENOUGH)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def wait(self) -> None:
        """Wait until every worker has answered."""
        with self._changed:
            while any(self._busy) and self._failure is None:
                self._changed.wait()
        self._check()

    def close(self) -> None:
        """End the processes, unless somebody else does."""
        self._fail(MoverFailed("the check was given up"))
        if not self._keep:
            self._crew.close()
