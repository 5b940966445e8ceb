"""What must be read of a volume: small files in batches, large ones part by part. The answers find their places by themselves.

It opens large files and hands out the others with their directories; the bytes are the workers' business.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from stat import S_ISREG
from typing import TYPE_CHECKING

from becalm.model import Severity
from becalm.repository.content import Contents
from becalm.repository.reading import CANNOT_OPEN, CANNOT_READ, CHANGED, REPLACED, Opener, extents, why_not
from becalm.repository.scheme import HEAD, SMALL, piece_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from becalm.repository.frame import Folders, Frame
    from becalm.repository.hands import FilesRead, Hands
    from becalm.repository.progress import Progress
    from becalm.repository.source import Source
    from becalm.repository.writer import Writer

_BATCH_FILES = 256
_BATCH_BYTES = 2 << 20
_BATCH_FOLDERS = 48


@dataclass(slots=True)
class _Batch:
    """Small files that will be read together."""

    folders: list[Frame] = field(default_factory=list)
    names: list[list[str]] = field(default_factory=list)
    places: list[tuple[Frame, int]] = field(default_factory=list)
    size: int = 0


@dataclass(frozen=True, slots=True)
class _Large:
    """A file that is read part by part."""

    frame: Frame
    place: int
    name: str
    fd: int
    stat: os.stat_result


class Reads:
    """The files of one walk that must be read."""

    def __init__(
        self, writer: Writer, source: Source, hands: Hands, progress: Progress, *, folders: Folders, ready: Callable[[Frame], None]
    ) -> None:
        """Begin with nothing to read. `ready` is told of each entry that has become ready, or that is left out."""
        self._source = source
        self._findings = source.findings
        self._hands = hands
        self._progress = progress
        self._folders = folders
        self._ready = ready
        self._contents = Contents(hands, writer)
        self._opener = Opener()
        self._batch = _Batch()
        self._again: list[tuple[Frame, int, str]] = []
        """Files that were not small any more when they were to be read."""

    def finish(self) -> None:
        """Have all read that waits for company, and wait for it."""
        while True:
            self.send()
            self._hands.settle()
            again, self._again = self._again, []
            if not again:
                return
            for frame, place, name in again:
                self._folders.open_again(frame)
                self._large(frame, place, name)
                self._folders.release(frame)

    def read(self, frame: Frame, place: int, name: str, stat: os.stat_result) -> None:
        """Have a file read: with others, where it is small."""
        if stat.st_size > SMALL:
            self._large(frame, place, name)
            return
        batch = self._batch
        if not batch.folders or batch.folders[-1] is not frame:
            batch.folders.append(frame)
            batch.names.append([])
            frame.users += 1
        batch.names[-1].append(name)
        batch.places.append((frame, place))
        batch.size += stat.st_size
        self._source.device(stat)
        if len(batch.places) >= _BATCH_FILES or batch.size >= _BATCH_BYTES or len(batch.folders) >= _BATCH_FOLDERS:
            self.send()

    def send(self) -> None:
        """Have the small files read that were gathered."""
        batch, self._batch = self._batch, _Batch()
        if not batch.places:
            return
        groups = [(frame.folder.path, names) for frame, names in zip(batch.folders, batch.names, strict=True)]
        folders = [frame.folder.fd for frame in batch.folders]
        self._hands.files(groups, folders, size=batch.size, devices=self._source.devices, then=partial(self._have_read, batch))
        for frame in batch.folders:
            self._folders.release(frame)

    def _have_read(self, batch: _Batch, read: FilesRead) -> None:
        self._findings.take(read.said)
        names = [name for group in batch.names for name in group]
        grown = set(read.grown)
        for number, ((frame, place), entry) in enumerate(zip(batch.places, read.entries, strict=True)):
            if number in grown:
                self._again.append((frame, place, names[number]))
                continue
            frame.entries[place] = entry
            self._ready(frame)
        self._progress.add(files=sum(entry is not None for entry in read.entries))

    def _large(self, frame: Frame, place: int, name: str) -> None:
        """Have a large file read, part by part."""
        try:
            fd = self._opener.open(name, frame.folder.fd)
        except OSError as error:
            self._findings.take([(frame.folder.child(name), *why_not(error, CANNOT_OPEN))])
            self._ready(frame)
            return
        self._folders.hold(fd)
        stat = os.fstat(fd)
        if not S_ISREG(stat.st_mode):
            self._findings.note(frame.folder.child(name), REPLACED, severity=Severity.WARNING)
            self._folders.shut(fd)
            self._ready(frame)
            return
        try:
            piece = piece_size(stat.st_size, os.pread(fd, HEAD, 0))
            parts = list(extents(fd, stat)) if stat.st_size else []
        except OSError as error:
            self._have_read_large(_Large(frame, place, name, fd, stat), (), 0, error.errno or 5)
            return
        self._progress.add(size=sum(end - begin for is_data, begin, end in parts if not is_data))
        self._contents.read(fd, parts, piece=piece, then=partial(self._have_read_large, _Large(frame, place, name, fd, stat)))

    def _have_read_large(self, file: _Large, content: tuple[str, ...], size: int, error: int) -> None:
        frame, name, stat = file.frame, file.name, file.stat
        if error:
            self._findings.cannot_read(frame.folder.child(name), OSError(error, ""), CANNOT_READ)
        else:
            after = os.fstat(file.fd)
            if (after.st_size, after.st_mtime_ns) != (size, stat.st_mtime_ns):
                self._findings.note(frame.folder.child(name), CHANGED, severity=Severity.WARNING)
            attributes = self._source.xattrs(frame.folder, name, file.fd)
            frame.entries[file.place] = self._source.entries.file(
                name, stat, content, size=size, device_id=self._source.device(stat), xattrs=attributes
            )
            self._progress.add(files=1)
        self._folders.shut(file.fd)
        self._ready(frame)
