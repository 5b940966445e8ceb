"""A body that lies in somebody else's memory, as boto3 wants to read it: without a copy of it."""

from __future__ import annotations

import os


class ViewReader:
    """A file that is open for reading over a view. The view must stay valid until the request has ended."""

    def __init__(self, view: memoryview) -> None:
        """Begin at its begin."""
        self._view = view
        self._place = 0

    def __len__(self) -> int:
        """Return how many bytes there are."""
        return len(self._view)

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes, or all that are left."""
        end = len(self._view) if size is None or size < 0 else min(len(self._view), self._place + size)
        data = bytes(self._view[self._place : end])
        self._place = end
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place in it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: len(self._view)}[whence]
        self._place = max(0, min(len(self._view), base + offset))
        return self._place

    def tell(self) -> int:
        """Return the place."""
        return self._place
