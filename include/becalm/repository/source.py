"""What one entry of a mounted volume is: its node, its attributes and its content, read without changing it.

Entries are named relative to an open directory, and no link is ever followed. Holes of sparse files are not read.
"""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from becalm.model import Finding, Severity
from becalm.repository.chunker import MAXIMUM, MINIMUM
from becalm.repository.format import BlobKind, NodeType
from becalm.repository.node import Node, encode_node, go_mode, type_of
from becalm.repository.quoting import quote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.repository.crypto import Buffer
    from becalm.repository.progress import Progress
    from becalm.repository.writer import Writer

SMALL = MINIMUM
"""A file up to this size is one piece, and is read at once."""

WENT_AWAY = "it went away before it was read"

_MOST_FINDINGS = 1000
_SMALLEST_HOLE = 1 << 20
_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_XATTRS = (errno.ENOTSUP, errno.ENODATA, errno.ENOENT, errno.ELOOP)


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
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def cannot_read(self, where: str, error: OSError, what: str) -> None:
        """Add something that is not in the backup and should be."""
        remedy = "the mover needs DAC_READ_SEARCH" if error.errno in (errno.EACCES, errno.EPERM) else "check the volume"
        self._add(self.unreadable, "unreadable", Finding(where=where, message=f"{what}: {os.strerror(error.errno or 0)}", remedy=remedy))

    def note(self, where: str, message: str, *, severity: Severity = Severity.INFO) -> None:
        """Add something that a person may want to know."""
        self._add(self.notes, "notes", Finding(where=where, message=message, severity=severity))

    def _add(self, findings: list[Finding], kind: str, finding: Finding) -> None:
        with self._lock:
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
    """Reads the entries of one volume into a writer. Safe for several threads."""

    def __init__(self, writer: Writer, findings: Findings, progress: Progress, *, access_times: bool = False) -> None:
        """Begin. Times of last access are recorded only on request: they would give a new tree each time a file is read."""
        self.writer = writer
        self.findings = findings
        self.progress = progress
        self._access_times = access_times
        self._no_atime = os.O_NOATIME
        self._devices: dict[int, int] = {}
        self._zeros: dict[int, str] = {}
        self._lock = threading.Lock()
        self._bytes_read = 0

    @property
    def bytes_read(self) -> int:
        """Bytes of files that were read; holes and unchanged files are not."""
        return self._bytes_read

    def open_folder(self, name: str, parent: Folder | None = None) -> int:
        """Open a directory, by its path or within another one. Raises OSError."""
        return os.open(name, _OPEN_DIR, dir_fd=parent.fd if parent else None)

    def node(self, name: str, stat: os.stat_result, **more: object) -> Node:
        """Return an entry's node from its status; `more` are the fields that a status does not hold."""
        node_type = type_of(stat.st_mode)
        linked = stat.st_nlink > 1 and node_type is not NodeType.DIR
        fields: dict[str, object] = {
            "name": name,
            "type": node_type,
            "mode": go_mode(node_type, stat.st_mode),
            "mtime_ns": stat.st_mtime_ns,
            "atime_ns": stat.st_atime_ns if self._access_times else stat.st_mtime_ns,
            "ctime_ns": stat.st_ctime_ns,
            "uid": stat.st_uid,
            "gid": stat.st_gid,
            "inode": stat.st_ino,
            "device_id": self._device(stat.st_dev) if linked else 0,
            "links": stat.st_nlink if node_type is not NodeType.DIR else 0,
            "device": stat.st_rdev if node_type in (NodeType.DEV, NodeType.CHARDEV) else 0,
        }
        return Node(**(fields | more))  # type: ignore[arg-type]  # the fields above are the node's own

    def _device(self, device: int) -> int:
        """Number the file systems as they come: their own numbers change with every mount, and trees must not."""
        with self._lock:
            return self._devices.setdefault(device, len(self._devices) + 1)

    def xattrs(self, folder: Folder, name: str, fd: int | None = None) -> tuple[tuple[str, bytes], ...]:
        """Return the extended attributes (access control lists are among them) of an entry, open or not."""
        path: int | str = fd if fd is not None else f"/proc/self/fd/{folder.fd}/{name}"
        follow = fd is not None
        try:
            names = os.listxattr(path, follow_symlinks=follow)
        except OSError as error:
            if error.errno not in _NO_XATTRS:
                self.findings.cannot_read(folder.child(name), error, "the extended attributes cannot be listed")
            return ()
        return tuple(self._xattr(folder, name, path, key, follow=follow) for key in sorted(names)) if names else ()

    def _xattr(self, folder: Folder, name: str, path: int | str, key: str, *, follow: bool) -> tuple[str, bytes]:
        try:
            return key, os.getxattr(path, key, follow_symlinks=follow)
        except OSError as error:
            if error.errno not in _NO_XATTRS:
                self.findings.cannot_read(folder.child(name), error, f"the extended attribute {key} cannot be read")
            return key, b""

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

    def unchanged(self, folder: Folder, name: str, stat: os.stat_result, before: Node) -> bytes:
        """Return the entry of a file that has not changed, with its content as it was; it is not opened."""
        node = self.node(name, stat, size=stat.st_size, content=before.content, xattrs=self.xattrs(folder, name))
        self.progress.add(files=1, size=stat.st_size)
        return encode_node(node)

    def file(self, folder: Folder, name: str) -> bytes | None:
        """Read a file. Return its entry, or nothing where it cannot be read or has gone: the findings say so."""
        try:
            fd = self._open_file(folder, name)
        except FileNotFoundError:
            self.findings.note(folder.child(name), WENT_AWAY, severity=Severity.WARNING)
            return None
        except OSError as error:
            self.findings.cannot_read(folder.child(name), error, "the file cannot be opened")
            return None
        try:
            return self._read(folder, name, fd)
        except OSError as error:
            self.findings.cannot_read(folder.child(name), error, "the file cannot be read")
            return None
        finally:
            os.close(fd)

    def _open_file(self, folder: Folder, name: str) -> int:
        try:
            return os.open(name, _OPEN_FILE | self._no_atime, dir_fd=folder.fd)
        except PermissionError:
            if not self._no_atime:
                raise
            fd = os.open(name, _OPEN_FILE, dir_fd=folder.fd)
            self._no_atime = 0  # only the owner of a file may ask for it
            return fd

    def _read(self, folder: Folder, name: str, fd: int) -> bytes | None:
        stat = os.fstat(fd)
        if type_of(stat.st_mode) is not NodeType.FILE:
            self.findings.note(folder.child(name), "it was replaced by something else before it was read", severity=Severity.WARNING)
            return None
        content, size = self._content(fd, stat)
        after = os.fstat(fd)
        if (after.st_size, after.st_mtime_ns) != (size, stat.st_mtime_ns):
            self.findings.note(folder.child(name), "it changed while it was read", severity=Severity.WARNING)
        self.progress.add(files=1)
        return encode_node(self.node(name, stat, size=size, content=content, xattrs=self.xattrs(folder, name, fd)))

    def _content(self, fd: int, stat: os.stat_result) -> tuple[tuple[str, ...], int]:
        if stat.st_size <= SMALL:
            data = os.read(fd, SMALL + 1) if stat.st_size else b""
            if len(data) <= SMALL:
                self.count(len(data))
                return ((self.writer.save_blob(BlobKind.DATA, data),) if data else ()), len(data)
        content: list[str] = []
        total = 0
        for is_data, begin, end in extents(fd, stat):
            if is_data:
                saved = self.writer.save_file(_Reader(self, fd, begin, end).read, size_hint=end - begin)
                content.extend(saved.content)
                total += saved.size
                if saved.size < end - begin:
                    break  # it became shorter
            else:
                content.extend(self.zeros(end - begin))
                total += end - begin
                self.progress.add(size=end - begin)
        return tuple(content), total

    def count(self, size: int) -> None:
        """Note that so many bytes were read."""
        with self._lock:
            self._bytes_read += size
        self.progress.add(size=size)

    def zeros(self, length: int) -> Iterator[str]:
        """Yield the blobs that stand for so many zeros. The first is of the size by which restic knows that a file has holes."""
        largest = MINIMUM
        while length > 0:
            size = min(length, largest)
            largest = MAXIMUM
            blob_id = self._zeros.get(size)
            if blob_id is None:
                blob_id = self._zeros[size] = self.writer.save_blob(BlobKind.DATA, bytes(size))
            yield blob_id
            length -= size


class _Reader:
    """Reads one extent of a file into the chunker's buffer."""

    __slots__ = ("_end", "_fd", "_place", "_source")

    def __init__(self, source: Source, fd: int, begin: int, end: int) -> None:
        self._source, self._fd, self._place, self._end = source, fd, begin, end

    def read(self, into: memoryview) -> int:
        """Fill the view as far as the extent goes."""
        want = min(len(into), self._end - self._place, 1 << 20)
        if want <= 0:
            return 0
        got = os.preadv(self._fd, [into[:want]], self._place)
        self._place += got
        self._source.count(got)
        return got


def extents(fd: int, stat: os.stat_result) -> Iterator[tuple[bool, int, int]]:
    """Yield (is it data, begin, end) for a file; holes that are too small to be worth it count as data."""
    size = stat.st_size
    if stat.st_blocks * 512 >= size:
        yield True, 0, size
        return
    begin = 0
    for hole, end in _holes(fd, size):
        if hole > begin:
            yield True, begin, hole
        yield False, hole, end
        begin = end
    if begin < size:
        yield True, begin, size


def _holes(fd: int, size: int) -> Iterator[tuple[int, int]]:
    place = 0
    while place < size:
        try:
            hole = os.lseek(fd, place, os.SEEK_HOLE)
        except OSError:
            return  # this file system cannot tell: all of it is data
        if hole >= size:
            return
        try:
            data = os.lseek(fd, hole, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                return
            data = size
        data = min(data, size)
        if data - hole >= _SMALLEST_HOLE:
            yield hole, data
        place = data


def is_zero(data: Buffer) -> bool:
    """Say whether there is nothing but zeros."""
    length = len(data) & ~7
    return not np.frombuffer(data, dtype="<u8", count=length // 8).any() and not any(data[length:])
