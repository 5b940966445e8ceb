"""What one entry of a mounted volume is, as the walk sees it: its attributes, what it links to, and what is found wrong with it.

Entries are named relative to an open directory, and no link is ever followed. The content of files is not its business.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from becalm.model import Finding, Severity
from becalm.repository.entry import Entries
from becalm.repository.format import NodeType
from becalm.repository.node import Node, node_of, type_of
from becalm.repository.quoting import quote
from becalm.repository.reading import OPEN_FOLDER, xattrs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from becalm.repository.crypto import Buffer
    from becalm.repository.entry import Xattrs
    from becalm.repository.reading import Said

_MOST_FINDINGS = 1000
_BY_PATH = "/proc/self/fd"


@dataclass(slots=True)
class Folder:
    """An open directory and where it is."""

    fd: int
    path: str

    def child(self, name: str) -> str:
        """Return the path of an entry, for people."""
        return f"{self.path}/{quote(name)}" if self.path else quote(name)


@dataclass(slots=True)
class Findings:
    """What could not be read, and what was left out. Long lists are cut, and say so."""

    unreadable: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    _more: dict[str, int] = field(default_factory=dict)

    def take(self, said: Iterable[Said]) -> None:
        """Add what a worker said."""
        for where, number, what in said:
            if number:
                self.cannot_read(where, OSError(number, ""), what)
            else:
                self.note(where, what, severity=Severity.WARNING)

    def cannot_read(self, where: str, error: OSError, what: str) -> None:
        """Add something that is not in the backup and should be."""
        remedy = "the mover needs DAC_READ_SEARCH" if error.errno in (errno.EACCES, errno.EPERM) else "check the volume"
        self._add(self.unreadable, "unreadable", Finding(where=where, message=f"{what}: {os.strerror(error.errno or 0)}", remedy=remedy))

    def note(self, where: str, message: str, *, severity: Severity = Severity.INFO) -> None:
        """Add something that a person may want to know."""
        self._add(self.notes, "notes", Finding(where=where, message=message, severity=severity))

    def _add(self, findings: list[Finding], kind: str, finding: Finding) -> None:
        if len(findings) < _MOST_FINDINGS:
            findings.append(finding)
        else:
            self._more[kind] = self._more.get(kind, 0) + 1

    def all_unreadable(self) -> tuple[Finding, ...]:
        """Return them, with a last line that counts what was cut."""
        return self._closed(self.unreadable, "unreadable", Severity.ERROR)

    def all_notes(self) -> tuple[Finding, ...]:
        """Return them, with a last line that counts what was cut."""
        return self._closed(self.notes, "notes", Severity.INFO)

    def _closed(self, findings: list[Finding], kind: str, severity: Severity) -> tuple[Finding, ...]:
        more = self._more.get(kind, 0)
        return (*findings, Finding(where="/", message=f"{more} more of these", severity=severity)) if more else tuple(findings)


class Source:
    """Looks at the entries of one volume."""

    def __init__(self, findings: Findings, *, access_times: bool = False) -> None:
        """Begin. Times of last access are recorded only on request: they would give a new tree each time a file is read."""
        self.findings = findings
        self.entries = Entries(access_times=access_times)
        self.devices: dict[int, int] = {}
        """The file systems, numbered as they come: their own numbers change with every mount, and trees must not."""
        self._access_times = access_times

    def open_folder(self, name: str, parent: Folder | None = None) -> int:
        """Open a directory, by its path or within another one. Raises OSError."""
        return os.open(name, OPEN_FOLDER, dir_fd=parent.fd if parent else None)

    def device(self, stat: os.stat_result) -> int:
        """Return the number of the file system that a file with several links is on; nothing for any other file."""
        if stat.st_nlink == 1:
            return 0
        return self.devices.setdefault(stat.st_dev, len(self.devices) + 1)

    def node(self, name: str, stat: os.stat_result, **more: object) -> Node:
        """Return an entry's node from its status; `more` are the fields that a status does not hold."""
        device = 0 if type_of(stat.st_mode) is NodeType.DIR else self.device(stat)
        return node_of(name, stat, access_times=self._access_times, device_id=device, **more)

    def xattrs(self, folder: Folder, name: str, fd: int | None = None) -> Xattrs:
        """Return the extended attributes of an entry, open or not."""
        path: int | str = fd if fd is not None else f"{_BY_PATH}/{folder.fd}/{name}"
        return xattrs(path, lambda number, what: self.findings.cannot_read(folder.child(name), OSError(number, ""), what))

    def special(self, folder: Folder, name: str, stat: os.stat_result) -> Node | None:
        """Return the node of what is neither a file nor a directory, or nothing where it is left out. Raises OSError."""
        node_type = type_of(stat.st_mode)
        if node_type is NodeType.SOCKET:
            self.findings.note(folder.child(name), "a socket: left out, for nobody listens after a restore")
            return None
        if node_type is NodeType.IRREGULAR:
            self.findings.note(folder.child(name), "neither a file nor anything known: left out", severity=Severity.WARNING)
            return None
        target = os.readlink(name, dir_fd=folder.fd) if node_type is NodeType.SYMLINK else ""
        return self.node(name, stat, linktarget=target, xattrs=self.xattrs(folder, name))


def is_zero(data: Buffer) -> bool:
    """Say whether there is nothing but zeros."""
    length = len(data) & ~7
    return not np.frombuffer(data, dtype="<u8", count=length // 8).any() and not any(data[length:])
