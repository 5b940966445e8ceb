"""The log of a container: kept line by line with times in a file, and followed while it grows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from becalm.sandbox.times import micro_stamp, read_stamp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from datetime import datetime
    from pathlib import Path

_CHUNK = 65536


class Logbook:
    """One run of a container: what it wrote, to both of its streams."""

    def __init__(self, path: Path) -> None:
        """Write to a file, which is made anew."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("wb", buffering=0)
        self._grown = asyncio.Event()
        self.ended = False

    def write(self, line: bytes) -> None:
        """Keep one line."""
        self._file.write(f"{micro_stamp()} ".encode() + line + b"\n")
        self._tell()

    async def take(self, reader: asyncio.StreamReader) -> None:
        """Keep what a stream brings, until it ends."""
        rest = b""
        while chunk := await reader.read(_CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self.write(line)
        if rest:
            self.write(rest)

    def end(self) -> None:
        """Close; whoever follows is told."""
        if not self.ended:
            self.ended = True
            self._file.close()
            self._tell()

    def _tell(self) -> None:
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    async def follow(self, position: int) -> AsyncIterator[bytes]:
        """Yield whole lines from a place in the file on, until the log ends."""
        with self.path.open("rb") as file:
            file.seek(position)
            while True:
                grown, ended = self._grown, self.ended
                for line in file:
                    yield line
                if ended:
                    return
                await grown.wait()


def lines_of(path: Path, *, tail: int | None, since: datetime | None) -> tuple[list[bytes], int]:
    """Return the lines that a log holds now, and where it ends."""
    try:
        whole = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    lines: Iterable[bytes] = whole.splitlines(keepends=True)
    if since is not None:
        lines = [line for line in lines if read_stamp(line.split(b" ", 1)[0].decode()) >= since]
    found = list(lines)
    return (found[-tail:] if tail else []) if tail is not None else found, len(whole)


def bare(line: bytes, *, timestamps: bool) -> bytes:
    """Return a line as the client asked for it."""
    return line if timestamps else line.split(b" ", 1)[1]
