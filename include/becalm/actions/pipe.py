"""A pipe from a command in a container to whoever stores its output: bounded, so that neither side runs ahead of memory.

The side that puts may be a thread that nobody waits for any more; once the pipe is closed to it, it is told so by an error.
"""

from __future__ import annotations

import queue

from becalm.errors import HookFailed

PIECES = 64
"""How many pieces wait; a piece is at most some tens of kilobytes."""
_LOOK_SECONDS = 1.0


class Pipe:
    """One stream of bytes, from one thread to another."""

    def __init__(self, *, most_bytes: int) -> None:
        """Open it for so many bytes at most."""
        self._pieces: queue.Queue[bytes] = queue.Queue(maxsize=PIECES)
        self._rest = memoryview(b"")
        self._most_bytes = most_bytes
        self._ended = False
        self._closed = False
        self.taken_bytes = 0

    def put(self, piece: bytes) -> None:
        """Hand on one piece, and wait where too many wait already. Raises BrokenPipeError once nobody reads."""
        if piece:  # nothing is no end: a stream may begin with it
            self._put(piece)

    def _put(self, piece: bytes) -> None:
        while not self._closed:
            try:
                self._pieces.put(bytes(piece), timeout=_LOOK_SECONDS)
            except queue.Full:
                continue
            return
        raise BrokenPipeError

    def end(self) -> None:
        """Say that nothing more comes."""
        try:
            self._put(b"")
        except BrokenPipeError:
            return

    def close(self) -> None:
        """Read no more."""
        self._closed = True

    def readinto(self, view: memoryview) -> int:
        """Fill a view as far as there is something; nothing is the end. Raises HookFailed where there is too much."""
        while not self._rest and not self._ended:
            self._rest = memoryview(self._pieces.get())
            self._ended = not self._rest
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        self.taken_bytes += count
        if self.taken_bytes > self._most_bytes:
            raise HookFailed(f"there are more than {self._most_bytes} bytes of output", hint="find out what the command says")
        return count

    def read(self, size: int) -> bytes:
        """Return that many bytes, or fewer at the end."""
        data = bytearray(size)
        filled = 0
        with memoryview(data) as view:
            while filled < size and (got := self.readinto(view[filled:])):
                filled += got
        return bytes(data[:filled])

    def drain(self) -> None:
        """Read to the end, for nothing."""
        while self.read(1 << 20):
            pass
