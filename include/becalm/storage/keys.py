"""What a key may look like, for every store alike: a key that one store takes and another refuses would be found too late."""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.errors import PermanentError

if TYPE_CHECKING:
    from becalm.storage.base import Key

LONGEST_KEY = 1024
"""Bytes of UTF-8: the limit of S3."""

LONGEST_SEGMENT = 255
"""Bytes of UTF-8: the limit of file systems."""

RESERVED = ".becalm~"
"""No segment begins with this: a directory keeps its unfinished files under such names."""


def checked(key: Key) -> Key:
    """Return the key if every store can hold it. Raises PermanentError."""
    reason = problem(key)
    if reason:
        raise PermanentError(f"{key!r} is no key: {reason}", hint="a key is segments between slashes, such as data/ab/abcd")
    return key


def problem(key: Key) -> str:
    """Say why a text is no key; nothing if it is one."""
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        return "it is not text"
    if length > LONGEST_KEY:
        return f"it is longer than {LONGEST_KEY} bytes"
    if "\0" in key:
        return "it holds a NUL"
    for segment in key.split("/"):
        if segment in {"", ".", ".."}:
            return f"a segment is {segment!r}"
        if segment.startswith(RESERVED):
            return f"{RESERVED} is reserved"
        if len(segment.encode()) > LONGEST_SEGMENT:
            return f"a segment is longer than {LONGEST_SEGMENT} bytes"
    return ""
