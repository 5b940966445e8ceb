"""A crew: processes of this program that do the work on bytes, for one interpreter runs on one processor.

The parent sends messages and open files to its workers, and each worker answers with messages of its own. Large bytes do not
travel: they stand in slots, stretches of memory that the parent and all workers see. A worker has no store and no clock; it
ends when its parent does. What a worker raises is raised in the parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import mmap
import os
import pickle
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from becalm.errors import BecalmError, MoverFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_HEADER = struct.Struct("<IH")
_MOST_FILES = 250
"""So many open files may go with one message (Linux: SCM_MAX_FD is 253)."""
_READ = 1 << 18
_MOST_WORKERS = 8
_MOST_NEW = 50_000
"""So many new objects before a look for dead cycles: a worker makes next to none, and a thousand rows a second."""

_M_ARENA_MAX = -8
"""As malloc.h of glibc has it."""


def processors() -> int:
    """Return how many processors this process may use: by its affinity, and by the share that its control group has."""
    count = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        count = min(count, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass  # no such file, or no limit
    return min(count, _MOST_WORKERS)


def share_heap() -> None:
    """Have the threads that come from now on take their memory from the heap that is there, where the C library knows how.

    By itself glibc gives each thread a heap of its own, and what one of them has let go of is of no use to the others.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


class Worker(Protocol):
    """What runs in a worker: made once from the setup, then given each message. It answers through `Answers`."""

    def handle(self, message: Any, files: Sequence[int]) -> None:
        """Do what the message says. The files are the worker's own: it closes them."""


class Answers:
    """The way back to the parent, and the shared slots, as a worker sees them."""

    def __init__(self, channel: socket.socket, slots: Sequence[mmap.mmap]) -> None:
        """Speak over an open channel."""
        self._channel = channel
        self.slots = tuple(slots)

    def send(self, message: Any) -> None:
        """Send a message. Anything that can be pickled."""
        _send(self._channel, message, ())


class Crew:
    """Processes at work. Messages to one worker arrive in their order; `receive` is called in a thread of the crew's own."""

    def __init__(
        self,
        task: str,
        setup: Any,
        *,
        workers: int,
        slots: int = 0,
        slot_bytes: int = 0,
        receive: Callable[[int, Any], None],
        failed: Callable[[BecalmError], None],
    ) -> None:
        """Start the processes. `task` is `module:Class`, made in each as `Class(setup, answers)`.

        `receive(worker, message)` gets each answer, `failed(error)` the first failure; both must be quick, and neither may wait
        for the crew. Raises OSError where no process can be started.
        """
        self._receive = receive
        self._failed = failed
        self._lock = threading.Lock()
        self._out: list[deque[tuple[memoryview, tuple[int, ...]]]] = [deque() for _ in range(workers)]
        self._in = [bytearray() for _ in range(workers)]
        self._channels: list[socket.socket] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._closing = False
        shared = [os.memfd_create("becalm-slot", os.MFD_CLOEXEC) for _ in range(slots)]
        try:
            for fd in shared:
                os.ftruncate(fd, slot_bytes)
            self.slots = tuple(mmap.mmap(fd, slot_bytes) for fd in shared)
            for _ in range(workers):
                self._start(task, setup, shared, slot_bytes)
        except BaseException:
            self._end()
            raise
        finally:
            for fd in shared:
                os.close(fd)
        self._thread = threading.Thread(target=self._run, name="crew", daemon=True)
        self._thread.start()

    @property
    def size(self) -> int:
        """How many workers there are."""
        return len(self._processes)

    def _start(self, task: str, setup: Any, shared: Sequence[int], slot_bytes: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._channels.append(ours)
            command = [sys.executable, "-m", "becalm.repository.crew", str(theirs.fileno()), str(slot_bytes), *map(str, shared)]
            self._processes.append(subprocess.Popen(command, pass_fds=(theirs.fileno(), *shared), stdin=subprocess.DEVNULL))
        _send(ours, (task, setup), ())
        ours.setblocking(False)  # noqa: FBT003  (the socket's own signature)

    def send(self, worker: int, message: Any, files: Sequence[int] = ()) -> None:
        """Send a message, and copies of open files with it. Returns at once; the caller may close its files."""
        if len(files) > _MOST_FILES:
            raise ValueError(f"{len(files)} files are too many for one message")
        body = pickle.dumps(message, protocol=5)
        frame = memoryview(_HEADER.pack(len(body), len(files)) + body)
        copies = tuple(os.dup(fd) for fd in files)
        with self._lock:
            self._out[worker].append((frame, copies))
        with contextlib.suppress(OSError):
            os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """End the workers and wait for them. What they had not begun is not done."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        os.eventfd_write(self._wake, 1)
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self._end()

    def _end(self) -> None:
        self._closing = True
        for channel in self._channels:
            channel.close()
        for process in self._processes:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for queue in self._out:
            for _, copies in queue:
                for fd in copies:
                    os.close(fd)
            queue.clear()
        os.close(self._wake)
        for slot in getattr(self, "slots", ()):
            with contextlib.suppress(BufferError):  # somebody still looks at it: it goes with the last view
                slot.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake, selectors.EVENT_READ, None)
            for number, channel in enumerate(self._channels):
                selector.register(channel, selectors.EVENT_READ, number)
            try:
                while not self._closing:
                    self._turn(selector)
            except BecalmError as error:
                self._failed(error)
            except Exception as error:  # noqa: BLE001  (a thread has nobody above it: whoever waits for the crew must hear of it)
                self._failed(MoverFailed(f"{type(error).__name__}: {error}"))

    def _turn(self, selector: selectors.BaseSelector) -> None:
        for number, channel in enumerate(self._channels):
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._out[number] else 0)
            if selector.get_key(channel).events != wanted:
                selector.modify(channel, wanted, number)
        for key, events in selector.select():
            if key.data is None:
                os.eventfd_read(self._wake)
                continue
            if events & selectors.EVENT_WRITE:
                self._push(key.data)
            if events & selectors.EVENT_READ:
                self._pull(key.data)

    def _push(self, number: int) -> None:
        channel, queue = self._channels[number], self._out[number]
        while queue:
            frame, copies = queue[0]
            try:
                sent = socket.send_fds(channel, [frame], copies) if copies else channel.send(frame)
            except BlockingIOError:
                return
            except OSError as error:
                raise self._dead(number) from error
            for fd in copies:
                os.close(fd)
            with self._lock:
                if sent < len(frame):
                    queue[0] = (frame[sent:], ())
                else:
                    queue.popleft()

    def _pull(self, number: int) -> None:
        try:
            data = self._channels[number].recv(_READ)
        except BlockingIOError:
            return
        except OSError as error:
            raise self._dead(number) from error
        if not data:
            raise self._dead(number)
        held = self._in[number]
        held += data
        place = 0
        while len(held) - place >= _HEADER.size:
            length, _ = _HEADER.unpack_from(held, place)
            end = place + _HEADER.size + length
            if end > len(held):
                break
            with memoryview(held) as view:
                message = pickle.loads(view[place + _HEADER.size : end])  # noqa: S301  (our own process wrote it)
            if isinstance(message, BaseException):
                raise message if isinstance(message, BecalmError) else MoverFailed(f"{type(message).__name__}: {message}")
            self._receive(number, message)
            place = end
        del held[:place]

    def _dead(self, number: int) -> MoverFailed:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._processes[number].wait(timeout=1)
        code = self._processes[number].returncode
        reason = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with {code}"
        return MoverFailed(f"a worker process {reason}", hint="it may have had too little memory; try again")


def _send(channel: socket.socket, message: Any, files: Sequence[int]) -> None:
    body = pickle.dumps(message, protocol=5)
    header = _HEADER.pack(len(body), len(files))
    if files:
        socket.send_fds(channel, [header], list(files))
        channel.sendall(body)
    else:
        channel.sendall(header + body)


def _exactly(channel: socket.socket, length: int) -> bytearray | None:
    data = bytearray(length)
    view = memoryview(data)
    while view:
        got = channel.recv_into(view)
        if not got:
            return None
        view = view[got:]
    return data


def _next(channel: socket.socket) -> tuple[Any, list[int]] | None:
    """Return the next message and its files, or nothing when the parent is gone."""
    header, files, _, _ = socket.recv_fds(channel, _HEADER.size, _MOST_FILES + 3)
    if not header:
        return None
    if len(header) < _HEADER.size:
        rest = _exactly(channel, _HEADER.size - len(header))
        if rest is None:
            return None
        header += rest
    body = _exactly(channel, _HEADER.unpack(header)[0])
    return None if body is None else (pickle.loads(body), files)  # noqa: S301  (our own parent wrote it)


def main(arguments: Sequence[str]) -> int:
    """Be a worker: take messages until the parent is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the parent decides; without it the channel ends
    channel = socket.socket(fileno=int(arguments[0]))
    slots = [mmap.mmap(int(fd), int(arguments[1])) for fd in arguments[2:]]
    for fd in arguments[2:]:
        os.close(int(fd))
    answers = Answers(channel, slots)
    try:
        first = _next(channel)
        if first is None:
            return 0
        (task, setup), _ = first
        module, _, name = task.partition(":")
        worker: Worker = getattr(importlib.import_module(module), name)(setup, answers)
        gc.freeze()  # what was imported stays: nobody need look through it for dead objects
        gc.set_threshold(_MOST_NEW)
        while (received := _next(channel)) is not None:
            worker.handle(*received)
    except (BrokenPipeError, ConnectionResetError):
        return 0
    except Exception as error:  # noqa: BLE001  (it is raised in the parent)
        with contextlib.suppress(OSError):  # the parent is gone: nobody wants to know
            try:
                answers.send(error)
            except OSError:
                raise
            except Exception:  # noqa: BLE001  (it cannot be pickled: its text can)
                answers.send(MoverFailed(f"{type(error).__name__}: {error}"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
