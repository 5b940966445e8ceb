"""The worker of a backup: reads files, cuts and hashes them, and builds packs of what the repository does not have yet.

It asks its parent which blobs to bring, and goes on with the next files while it waits; it seals into slots that the parent
sends from. It sees open files, the master key and the slots: no store, no index, no walk. A small backup uses it as an object in
its own process, a large one in a crew.

It is told                                            and answers
  ("files", job, groups, devices), a folder each        ("read", job, entries, ids, size, said, grown)
  ("blobs", job, plain texts)                           ("read", job, ids, ids, size, (), ())
  ("extent", job, begin, end, piece), the file          ("part", job, items, ids, size), as often as there are parts
  ("bring", job, wanted)                                ("done", job, error number)
  ("slot", number)                                      ("pack", slot, id, length, rows)
  ("flush",)                                            ("flushed",)
"""

from __future__ import annotations

import errno
import mmap
import os
from collections import deque
from dataclasses import dataclass
from hashlib import sha256
from stat import S_ISREG
from typing import TYPE_CHECKING, Any, Protocol

from becalm.repository.crypto import MasterKey
from becalm.repository.entry import Entries
from becalm.repository.quoting import quote
from becalm.repository.reading import CANNOT_OPEN, CANNOT_READ, CHANGED, REPLACED, Opener, Said, why_not, xattrs
from becalm.repository.scheme import SMALL
from becalm.repository.slot import SlotPack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from becalm.repository.crypto import Buffer

_PART = 2 << 20
"""So much of a large file is asked about at a time."""

_EXTENTS_AT_ONCE = 2
"""While one waits for an answer, the other is read."""

_ZEROS = bytes(64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a worker must know. It goes through a pipe that only parent and worker hold: the key is in it."""

    encrypt: bytes
    mac_k: bytes
    mac_r: bytes
    version: int
    level: int
    access_times: bool = False


class Channel(Protocol):
    """The way back, and the slots."""

    @property
    def slots(self) -> Sequence[Any]:
        """Stretches of memory that the parent sees, too."""

    def send(self, message: Any) -> None:
        """Answer."""


@dataclass(slots=True)
class _Job:
    """Blobs of which the parent has not said yet whether it wants them, or that wait for a slot."""

    blobs: deque[tuple[bytes, Buffer]]
    parts: Iterator[tuple[list[bytes | int], list[tuple[bytes, Buffer]], int]] | None = None
    """What is still to be read of a large file."""
    fd: int = -1


class BackupWorker:
    """One worker. Everything happens in `handle`, in the order of the messages."""

    def __init__(self, setup: Setup, answers: Channel) -> None:
        """Begin without a slot."""
        self._key = MasterKey(setup.encrypt, setup.mac_k, setup.mac_r)
        self._setup = setup
        self._answers = answers
        self._entries = Entries(access_times=setup.access_times)
        self._opener = Opener()
        self._asked: dict[int, _Job] = {}
        self._ready: deque[tuple[int, _Job]] = deque()
        self._slots: deque[int] = deque()
        self._pack: SlotPack | None = None
        self._flushing = False
        self._extents: deque[tuple[tuple[int, int, int, int], int]] = deque()
        """Those that nothing was read of yet, with their open files."""
        self._reading = 0
        self._rooms: list[memoryview] = []
        """Memory to cut in, for the next: the system clears new memory before it gives it."""

    def handle(self, message: Any, files: Sequence[int]) -> None:
        """Do what the message says, and then what has become possible by it."""
        kind = message[0]
        if kind == "files":
            try:
                _, job, groups, devices = message
                self._files(job, groups, devices, files)
            finally:
                for fd in files:
                    os.close(fd)
        elif kind == "blobs":
            self._plain(*message[1:])
        elif kind == "extent":
            self._extents.append((message[1:], files[0]))
            self._next_extent()
        elif kind == "bring":
            self._bring(*message[1:])
        elif kind == "slot":
            self._slots.append(message[1])
        else:
            self._flushing = True
        self._seal()

    def close(self) -> None:
        """Let go of the files that were not read to their end."""
        for work in (*self._asked.values(), *(work for _, work in self._ready)):
            if work.fd >= 0:
                os.close(work.fd)
        for _, fd in self._extents:
            os.close(fd)
        self._asked.clear()
        self._ready.clear()
        self._extents.clear()

    def _files(self, job: int, groups: Sequence[tuple[str, Sequence[str]]], devices: Mapping[int, int], folders: Sequence[int]) -> None:
        """Read small files, and tell what they are."""
        reader = _SmallFiles(self._entries, self._opener, devices)
        for (path, names), folder in zip(groups, folders, strict=True):
            for name in names:
                reader.read(path, name, folder)
        ids = [raw for raw, _ in reader.blobs]
        self._asked[job] = _Job(deque(reader.blobs))
        self._answers.send(("read", job, reader.entries, ids, reader.size, reader.said, reader.grown))

    def _plain(self, job: int, plains: Sequence[bytes]) -> None:
        """Take in blobs that the parent has read."""
        blobs = [(sha256(plain).digest(), plain) for plain in plains]
        ids = [raw for raw, _ in blobs]
        self._asked[job] = _Job(deque(blobs))
        self._answers.send(("read", job, ids, ids, sum(map(len, plains)), (), ()))

    def _next_extent(self) -> None:
        """Begin with the next extents, as long as there are not too many under way: each needs memory of its own."""
        while self._extents and self._reading < _EXTENTS_AT_ONCE:
            (job, begin, end, piece), fd = self._extents.popleft()
            self._reading += 1
            parts = _fixed_parts(fd, begin, end, piece) if piece else _free_parts(fd, begin, end, self._rooms)
            self._next_part(job, _Job(deque(), parts, fd))

    def _next_part(self, job: int, work: _Job) -> None:
        """Read on, and ask about what was read; or say that all is done."""
        number = 0
        try:
            part = next(work.parts, None) if work.parts is not None else None
        except OSError as error:
            part, number = None, error.errno or 5
        if part is None:
            if work.fd >= 0:
                os.close(work.fd)
                self._reading -= 1
            self._answers.send(("done", job, number))
            self._next_extent()
            return
        items, blobs, size = part
        work.blobs.extend(blobs)
        self._asked[job] = work
        self._answers.send(("part", job, items, [raw for raw, _ in blobs], size))

    def _bring(self, job: int, wanted: Sequence[bool]) -> None:
        work = self._asked.pop(job)
        work.blobs = deque([blob for blob, bring in zip(work.blobs, wanted, strict=True) if bring])
        self._ready.append((job, work))

    def _seal(self) -> None:
        """Put what is wanted into packs, as long as there is a slot for it."""
        while self._ready:
            job, work = self._ready[0]
            while work.blobs:
                if not self._open_pack():
                    return
                assert self._pack is not None
                self._pack.append(*work.blobs.popleft())
                if self._pack.full:
                    self._finish_pack()
            self._ready.popleft()
            self._next_part(job, work)
        if self._flushing and not self._asked:
            if self._pack is not None:
                self._finish_pack()
            self._flushing = False
            self._answers.send(("flushed",))

    def _open_pack(self) -> bool:
        """See to it that there is a pack to write to. Says so where there is no slot for one."""
        if self._pack is None and self._slots:
            slot = memoryview(self._answers.slots[self._slots[0]])
            self._pack = SlotPack(self._key, slot, version=self._setup.version, level=self._setup.level)
        return self._pack is not None

    def _finish_pack(self) -> None:
        assert self._pack is not None
        done = self._pack.finish()
        self._pack = None
        self._answers.send(("pack", self._slots.popleft(), done.id, done.length, done.rows))


class _SmallFiles:
    """Reads small files one after the other."""

    def __init__(self, entries: Entries, opener: Opener, devices: Mapping[int, int]) -> None:
        self._write, self._opener, self._devices = entries, opener, devices
        self.entries: list[bytes | None] = []
        """One for each file; nothing where it is left out."""
        self.blobs: list[tuple[bytes, Buffer]] = []
        self.said: list[Said] = []
        self.grown: list[int] = []
        """Which of them are not small any more: nothing was read of those."""
        self.size = 0

    def read(self, path: str, name: str, folder: int) -> None:
        """Read one file."""
        try:
            fd = self._opener.open(name, folder)
        except OSError as error:
            self.entries.append(None)
            self._say(path, name, *why_not(error, CANNOT_OPEN))
            return
        try:
            self.entries.append(self._entry(path, name, fd))
        except OSError as error:
            self.entries.append(None)
            self._say(path, name, error.errno or 5, CANNOT_READ)
        finally:
            os.close(fd)

    def _entry(self, path: str, name: str, fd: int) -> bytes | None:
        stat = os.fstat(fd)
        if not S_ISREG(stat.st_mode):
            self._say(path, name, 0, REPLACED)
            return None
        size = stat.st_size
        if size > SMALL:
            self.grown.append(len(self.entries))
            return None
        data = _whole(fd, size) if size else _without_size(fd)
        after = os.fstat(fd)
        if after.st_size != (len(data) if size else 0) or after.st_mtime_ns != stat.st_mtime_ns:
            self._say(path, name, 0, CHANGED)
        content: tuple[str, ...] = ()
        if data:
            digest = sha256(data)
            self.blobs.append((digest.digest(), data))
            content = (digest.hexdigest(),)
            self.size += len(data)
        attributes = xattrs(fd, lambda number, what: self._say(path, name, number, what))
        device = self._devices.get(stat.st_dev, 0) if stat.st_nlink > 1 else 0
        return self._write.file(name, stat, content, size=len(data), device_id=device, xattrs=attributes)

    def _say(self, path: str, name: str, number: int, what: str) -> None:
        self.said.append((f"{path}/{quote(name)}" if path else quote(name), number, what))


def _whole(fd: int, size: int) -> bytes:
    """Read the first `size` bytes, or as many as there are."""
    data = os.read(fd, size)
    while len(data) < size:  # a signal, or it became shorter
        more = os.read(fd, size - len(data))
        if not more:
            break
        data += more
    return data


def _without_size(fd: int) -> bytes:
    """Read a file that says it is empty to its end: some file systems know no sizes. Raises OSError where that is more than small."""
    data = bytearray()
    while more := os.read(fd, SMALL + 1 - len(data)):
        data += more
        if len(data) > SMALL:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return bytes(data)


def _fixed_parts(fd: int, begin: int, end: int, piece: int) -> Iterator[tuple[list[bytes | int], list[tuple[bytes, Buffer]], int]]:
    """Cut an extent at the multiples of `piece`. Pieces of zeros are not blobs but lengths."""
    zeros = bytes(piece)
    at_once = max(piece, _PART // piece * piece)
    while begin < end:
        want = min(at_once - begin % piece, end - begin)
        data = os.pread(fd, want, begin)
        while 0 < len(data) < want and (more := os.pread(fd, want - len(data), begin + len(data))):
            data += more
        items: list[bytes | int] = []
        blobs: list[tuple[bytes, Buffer]] = []
        view = memoryview(data)
        place = 0
        while place < len(data):
            length = min(piece - (begin + place) % piece, len(data) - place)
            plain = view[place : place + length]
            if plain[:64] == _ZEROS[: min(64, length)] and bytes(plain) == zeros[:length]:
                items.append(length)
            else:
                raw = sha256(plain).digest()
                items.append(raw)
                blobs.append((raw, plain))
            place += length
        yield items, blobs, len(data)
        if len(data) < want:
            return  # it became shorter
        begin += want


def _free_parts(
    fd: int, begin: int, end: int, rooms: list[memoryview]
) -> Iterator[tuple[list[bytes | int], list[tuple[bytes, Buffer]], int]]:
    """Cut an extent by its content."""
    from becalm.repository.chunker import ROOM, chunks  # noqa: PLC0415  (it needs numpy, which most workers never do)

    place = begin
    room = rooms.pop() if rooms else memoryview(mmap.mmap(-1, ROOM, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))

    def read(into: memoryview) -> int:
        nonlocal place
        got = os.preadv(fd, [into[: end - place]], place) if place < end else 0
        place += got
        return got

    items: list[bytes | int] = []
    blobs: list[tuple[bytes, Buffer]] = []
    size = 0
    for view in chunks(read, room=room):
        plain = bytes(view)
        raw = sha256(plain).digest()
        items.append(raw)
        blobs.append((raw, plain))
        size += len(plain)
        if size >= _PART:
            yield items, blobs, size
            items, blobs, size = [], [], 0
    rooms.append(room)
    if items:
        yield items, blobs, size
