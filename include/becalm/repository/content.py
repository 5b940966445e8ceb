"""The content of large files and of devices: parts of them are read side by side, and put together in their order here.

Runs of zeros, whether holes or not, become the few blobs that stand for zeros. It opens and closes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from becalm.repository.format import BlobKind
from becalm.repository.scheme import MAXIMUM, MINIMUM, segments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from becalm.repository.format import BlobId
    from becalm.repository.hands import ExtentRead, Hands
    from becalm.repository.writer import Writer

Then: TypeAlias = "Callable[[tuple[BlobId, ...], int, int], None]"
"""Gets the blobs, how many bytes they are, and the number of the error where there was one."""


@dataclass(slots=True)
class _Part:
    """A stretch of a file: what is in it, once it is read."""

    expected: int
    items: Sequence[bytes | int] = ()
    size: int = 0


@dataclass(slots=True)
class _File:
    """A file whose parts are being read."""

    then: Then
    parts: list[_Part] = field(default_factory=list)
    left: int = 1
    """Parts that are not read yet; one more as long as there may be further ones."""
    error: int = 0


class Contents:
    """Has large files read, and puts their content together."""

    def __init__(self, hands: Hands, writer: Writer) -> None:
        """Begin with nothing under way."""
        self._hands = hands
        self._writer = writer
        self._zeros: dict[int, BlobId] = {}

    def read(self, fd: int, extents: Iterable[tuple[bool, int, int]], *, piece: int, then: Then) -> None:
        """Have the extents of an open file read: (is it data, begin, end), without a gap. The file stays open until `then` is called."""
        file = _File(then)
        for is_data, begin, end in extents:
            if is_data:
                for first, last in segments(begin, end):
                    part = _Part(last - first)
                    file.parts.append(part)
                    file.left += 1
                    self._hands.extent(fd, first, last, piece=piece, then=partial(self._got, file, part))
            else:
                file.parts.append(_Part(end - begin, (end - begin,), end - begin))
        self._one_less(file)

    def _got(self, file: _File, part: _Part, read: ExtentRead) -> None:
        part.items, part.size = read.items, read.size
        file.error = file.error or read.error
        self._one_less(file)

    def _one_less(self, file: _File) -> None:
        file.left -= 1
        if not file.left:
            content, size = ((), 0) if file.error else self._joined(file.parts)
            file.then(content, size, file.error)

    def _joined(self, parts: Iterable[_Part]) -> tuple[tuple[BlobId, ...], int]:
        """Put parts together, up to the first that is shorter than it should be: there the file ended."""
        content: list[BlobId] = []
        size = zeros = 0
        for part in parts:
            for item in part.items:
                if isinstance(item, int):
                    zeros += item
                    continue
                if zeros:
                    content.extend(self._stands_for(zeros))
                    zeros = 0
                content.append(item.hex())
            size += part.size
            if part.size < part.expected:
                break
        content.extend(self._stands_for(zeros))
        return tuple(content), size

    def _stands_for(self, length: int) -> Iterator[BlobId]:
        """Yield the blobs of so many zeros. The first is of the size by which restic knows that a file has holes."""
        largest = MINIMUM
        while length > 0:
            size = min(length, largest)
            largest = MAXIMUM
            blob_id = self._zeros.get(size)
            if blob_id is None:
                blob_id = self._zeros[size] = self._writer.save_blob(BlobKind.DATA, bytes(size))
            yield blob_id
            length -= size
