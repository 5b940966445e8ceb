"""A directory under way: what is known of its entries, and whether it is still open.

Directories are open only as long as something in them must be opened; one that is needed again is found from its parent.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from becalm.repository.before import Before, RawEntry
    from becalm.repository.entry import Xattrs
    from becalm.repository.sights import Sight
    from becalm.repository.source import Folder, Source
    from becalm.repository.spool import Spool

Kept: TypeAlias = "tuple[str, os.stat_result, Sequence[str] | str, Xattrs]"
"""An entry that is written only if its directory is: name, status, content or subtree, and extended attributes."""


@dataclass(slots=True, eq=False)
class Frame:
    """A directory under way."""

    folder: Folder
    name: str
    stat: os.stat_result
    parent: Frame | None
    place: int
    """Where its entry belongs among the parent's."""
    before: Before | None
    names: Iterator[str]
    xattrs: Xattrs = ()
    sight: Sight | None = None
    """What was seen of it before the walk; nothing where nobody has looked."""
    was: RawEntry | None = None
    """Its own entry in the parent."""
    entries: list[bytes | Kept | None] = field(default_factory=list)
    """In order; nothing for what is not ready, or left out."""
    spool: Spool | None = None
    """What is written already of the tree of a large directory."""
    spooled: int = 0
    """How many entries are: their places are empty."""
    same: int = 0
    """How many of them are what they were, to the byte."""
    waiting: int = 1
    """How many entries are not ready; one more until the walk has left it."""
    users: int = 1
    """Who needs it open."""


class Folders:
    """Everything that a walk has open. Close it, also after a failure."""

    def __init__(self, source: Source) -> None:
        """Begin with nothing open."""
        self._source = source
        self._open: set[int] = set()

    def close(self) -> None:
        """Let go of what is open."""
        for fd in self._open:
            os.close(fd)
        self._open.clear()

    def hold(self, fd: int) -> int:
        """Take care of something that was opened, and return it."""
        self._open.add(fd)
        return fd

    def shut(self, fd: int) -> None:
        """Close something."""
        self._open.discard(fd)
        os.close(fd)

    def release(self, frame: Frame) -> None:
        """Somebody does not need a directory any more: it is closed after the last."""
        frame.users -= 1
        if not frame.users and frame.folder.fd >= 0:
            self.shut(frame.folder.fd)
            frame.folder.fd = -1

    def open_again(self, frame: Frame) -> None:
        """Open a directory that was closed before, from its parent, which may be closed as well."""
        if frame.users == 0 and frame.parent is not None:
            self.open_again(frame.parent)
            try:
                frame.folder.fd = self._source.open_folder(frame.name, frame.parent.folder)
                self.hold(frame.folder.fd)
            except OSError:
                frame.folder.fd = -1  # what is in it has gone: whoever opens it will say so
            self.release(frame.parent)
        frame.users += 1
