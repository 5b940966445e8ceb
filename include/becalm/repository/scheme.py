"""Into which pieces a file is cut: by its content, or at fixed places where it changes in place.

The rule looks at what stays the same from one backup to the next, so that a file is cut the same way each time:

- A file up to 512 KiB is one piece.
- A file changes in place when it begins as an SQLite database does; or when it has 1 MiB or more, its size is a multiple of
  4096, and it is no tar archive. So do block devices. It is cut into pieces of 128 KiB at multiples of that; the size of a
  piece doubles as long as there would be more than 2^20 of them.
- Any other file is cut by its content, anew in each segment of 64 MiB, so that several workers share a file.

Numbers and decisions only: nothing here reads a file.
"""

from __future__ import annotations

import itertools

MINIMUM = 512 << 10
NORMAL = 1 << 20
MAXIMUM = 8 << 20

SMALL = MINIMUM
"""A file up to this size is one piece, and is read at once."""

SEGMENT = 64 << 20
"""A worker takes so much of a large file at a time. Segments begin at multiples of this."""

PIECE = 128 << 10
"""What changes in place is cut at multiples of this, or of this doubled some times."""

HEAD = 512
"""So many first bytes decide."""

_IN_PLACE_FROM = 1 << 20
_BLOCK = 4096
_MOST_PIECES = 1 << 20
_SQLITE = b"SQLite format 3\0"
_TAR, _TAR_AT = b"ustar", 257


def piece_size(size: int, head: bytes) -> int:
    """Return the size of a file's fixed pieces, or nothing (0) where its content decides. `head` is how it begins."""
    if size > SMALL and head.startswith(_SQLITE):
        return fixed_piece(size)
    if size < _IN_PLACE_FROM or size % _BLOCK or head[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        return 0
    return fixed_piece(size)


def fixed_piece(size: int) -> int:
    """Return how large the pieces are of something of this size that changes in place."""
    piece = PIECE
    while size > piece * _MOST_PIECES:
        piece *= 2
    return piece


def segments(begin: int, end: int) -> list[tuple[int, int]]:
    """Cut an extent at the multiples of a segment."""
    places = [begin, *range((begin // SEGMENT + 1) * SEGMENT, end, SEGMENT), end]
    return list(itertools.pairwise(places)) if end > begin else []
