"""A directory as it stands now: each entry as it would be written, up to what only reading it could tell.

It reads no file and knows nothing of any parent. What it cannot write so far is left to the walk.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from stat import S_IFDIR, S_IFREG
from typing import TYPE_CHECKING

from becalm.repository.format import NodeType
from becalm.repository.node import encode_node, node_of, type_of
from becalm.repository.quoting import to_bytes

if TYPE_CHECKING:
    from becalm.repository.entry import Entries

FILE, FOLDER, OTHER, STRANGE = range(4)
"""Kinds of entries. `OTHER` is written to its end; of a `STRANGE` one the walk has something to say."""

CONTENT = b',"content":['
SUBTREE = b',"content":null,"subtree":"'
AFTER = (CONTENT, SUBTREE, b"", b"")
"""What the stems of each kind end with: extended attributes would stand before it."""

_KIND = 0o170000
_NEVER = b"\0"
"""Stands in no tree."""
_LEFT_OUT = (NodeType.SOCKET, NodeType.IRREGULAR)


@dataclass(frozen=True, slots=True)
class Rows:
    """The entries of a directory, in the order of a tree."""

    names: list[str] = field(default_factory=list)
    stems: list[bytes] = field(default_factory=list)
    """Each begins with the comma before the entry."""
    kinds: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.names)

    def folders(self) -> list[str]:
        """Return the names of the directories."""
        return [name for name, kind in zip(self.names, self.kinds, strict=True) if kind == FOLDER]


def rows_of(fd: int, entries: Entries, *, device: int, most: int = 1 << 62) -> Rows | None:
    """Look at all that is in an open directory; nothing where there is more than `most`. Raises OSError.

    `device` is the file system whose number is one in the tree.
    """
    listed = _listed(fd, most)
    if listed is None:
        return None
    rows = Rows()
    names, stems, kinds, sizes = rows.names, rows.stems, rows.kinds, rows.sizes
    for entry in listed:
        name = entry.name
        stat = entry.stat(follow_symlinks=False)
        kind = stat.st_mode & _KIND
        if kind == S_IFDIR:
            stem, row = b",%b%b" % (entries.directory_stem(name, stat), SUBTREE), FOLDER
        elif stat.st_nlink > 1 and stat.st_dev != device:
            stem, row = _NEVER, STRANGE  # the number of its file system is not known here
        elif kind == S_IFREG:
            stem, row = b",%b%b" % (entries.file_stem(name, stat, size=stat.st_size, device_id=1), CONTENT), FILE
        else:
            stem, row = _special(fd, name, stat)
        names.append(name)
        stems.append(stem)
        kinds.append(row)
        sizes.append(stat.st_size)
    return rows


def _special(fd: int, name: str, stat: os.stat_result) -> tuple[bytes, int]:
    node_type = type_of(stat.st_mode)
    if node_type in _LEFT_OUT:
        return _NEVER, STRANGE
    target = os.readlink(name, dir_fd=fd) if node_type is NodeType.SYMLINK else ""
    return b"," + encode_node(node_of(name, stat, linktarget=target, device_id=1)), OTHER


def _listed(fd: int, most: int) -> list[os.DirEntry[str]] | None:
    by_name: dict[str, os.DirEntry[str]] = {}
    with os.scandir(fd) as found:
        for entry in found:
            by_name[entry.name] = entry
            if len(by_name) > most:
                return None
    names = sorted(by_name) if "".join(by_name).isascii() else sorted(by_name, key=to_bytes)
    return [by_name[name] for name in names]
