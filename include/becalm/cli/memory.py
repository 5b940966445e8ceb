"""How the C library keeps memory, for verbs that read a large repository with several threads."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3
"""Of glibc's mallopt(3)."""
_LARGE = 4 << 20


def one_heap() -> bool:
    """Let all threads share one heap: what one has freed another uses. Say whether that was done; only glibc knows how.

    With a heap for each, a check of four million blobs held some ninety MiB more, and was no faster: one interpreter runs at a time.
    What is large goes back to the system as soon as it is let go of; by itself glibc keeps ever larger pieces in the heap.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return bool(library.mallopt(_M_ARENA_MAX, 1)) and bool(library.mallopt(_M_MMAP_THRESHOLD, _LARGE))
