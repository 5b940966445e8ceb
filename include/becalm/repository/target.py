"""The folder that is restored into: entries are made and dressed relative to open directories, and nowhere else.

No link is followed, no name may lead out, and nothing is deleted but an entry that is about to be made again. What could not
be made as it was is reported, never passed over.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat as unix
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from becalm.errors import PermanentError, UsageError
from becalm.repository.format import NodeType
from becalm.repository.node import Node, type_of
from becalm.repository.quoting import quote, to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.model import Finding

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = (errno.ENOSPC, errno.EDQUOT)
_MOST_FINDINGS = 1000
_LONGEST_NAME = 255


class Remark(NamedTuple):
    """What is said of one entry. (Workers load no more than they need: it becomes a `Finding` where the report is handed out.)"""

    where: str
    message: str
    remedy: str = ""


@dataclass(slots=True)
class Report:
    """What was not restored as it was. For one thread; it may go from one process to another."""

    failures: list[Remark] = field(default_factory=list)
    notes: dict[str, Remark] = field(default_factory=dict)
    """By their kind: the first of a kind stands for all."""
    failed: int = 0

    def fail(self, where: str, message: str, remedy: str = "") -> None:
        """Something is missing or not as it was."""
        self.failed += 1
        if len(self.failures) < _MOST_FINDINGS:
            self.failures.append(Remark(where, message, remedy))

    def once(self, kind: str, where: str, message: str, remedy: str = "") -> None:
        """Something holds for many entries: the first stands for all."""
        self.notes.setdefault(kind, Remark(where, message, remedy))

    def take_in(self, other: Report) -> None:
        """Add what another one says."""
        self.failed += other.failed
        self.failures += other.failures[: _MOST_FINDINGS - len(self.failures)]
        self.notes = other.notes | self.notes

    def all_failures(self) -> tuple[Finding, ...]:
        """Return them, with a last line that counts what was cut."""
        from becalm.model import Finding  # noqa: PLC0415  (a worker needs no model, and it is large)

        found = tuple(Finding(**remark._asdict()) for remark in sorted(self.failures))
        more = self.failed - len(found)
        return (*found, Finding(where="/", message=f"{more} more of these")) if more else found

    def all_notes(self) -> tuple[Finding, ...]:
        """Return what holds for many entries."""
        from becalm.model import Finding, Severity  # noqa: PLC0415  (a worker needs no model, and it is large)

        return tuple(Finding(**remark._asdict(), severity=Severity.WARNING) for remark in self.notes.values())


@dataclass(slots=True)
class Place:
    """An open directory of the target and where it is."""

    fd: int
    path: str

    def child(self, name: str) -> str:
        """Return the path of an entry, for people."""
        return f"{self.path}/{quote(name)}" if self.path else quote(name)


def hostile(name: str) -> str:
    """Say why a name may not be used, or nothing."""
    if name in {"", ".", ".."} or "/" in name:
        return "the name would lead to another place"
    if "\0" in name:
        return "the name holds a NUL"
    try:
        raw = to_bytes(name)
    except UnicodeEncodeError:
        return "the name stands for no bytes"
    return "the name is too long" if len(raw) > _LONGEST_NAME else ""


def give_up_when_full(error: OSError, where: str) -> None:
    """Raise where going on makes no sense. Raises PermanentError."""
    if error.errno in _FULL:
        raise PermanentError("the volume is full", where=where, hint="restore into a larger volume; what is there already stays") from error
    if error.errno == errno.EROFS:
        raise PermanentError("the volume is read-only", where=where, hint="mount it for writing") from error


@contextmanager
def opened_below(path: str, inner: str) -> Iterator[str]:
    """Give a path to a folder below another one, which is open meanwhile. No link on the way is followed. Raises: PermanentError, UsageError.

    What wrote the volume may have put links there, in the hope that somebody with more rights follows them.
    """
    parts = [part for part in inner.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise UsageError(f"{inner!r} leads out of the volume", hint="name a folder within it")
    fd = -1
    try:
        where = path
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            for part in parts:
                where = f"{where}/{part}"
                above, fd = fd, os.open(part, _OPEN_DIR, dir_fd=fd)
                os.close(above)
        except OSError as error:
            raise PermanentError(
                f"the target cannot be opened: {os.strerror(error.errno or 0)}", where=where, hint="the folder must exist, and be no link"
            ) from error
        yield f"/proc/self/fd/{fd}" if parts else path
    finally:
        if fd >= 0:
            os.close(fd)


def make_durable(path: str) -> None:
    """Wait until the file system that holds a folder has everything on its disk. Raises PermanentError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd) != 0:
            error = OSError(ctypes.get_errno(), "syncfs")
            give_up_when_full(error, path)
            raise PermanentError(
                f"the volume did not take what was written: {os.strerror(error.errno or 0)}", where=path, hint="check the volume"
            )
    finally:
        os.close(fd)


class Target:
    """Makes entries. For one thread, beside others that work on other names."""

    def __init__(self, report: Report, *, devices: bool = True, setuid: bool = True) -> None:
        """Begin; whether owners can be given is a question of who runs this.

        Without `devices` no device is made, without `setuid` no program gets the rights of its owner, its group or a capability.
        """
        self.report = report
        self._devices = devices
        self._setuid = setuid
        self._root = os.geteuid() == 0

    def status(self, place: Place, name: str) -> os.stat_result | None:
        """Return what is there, without following it."""
        try:
            return os.stat(name, dir_fd=place.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open_root(self, path: str) -> Place:
        """Open the target itself. Raises PermanentError."""
        try:
            return Place(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), "")
        except OSError as error:
            raise PermanentError(
                f"the target cannot be opened: {os.strerror(error.errno or 0)}", where=path, hint="the folder must exist"
            ) from error

    def folder(self, place: Place, name: str) -> tuple[Place, bool]:
        """Open a directory, making it where it is not there, and say whether it is new. Raises OSError, also where something else has the name."""
        try:
            os.mkdir(name, 0o700, dir_fd=place.fd)
            new = True
        except FileExistsError:
            new = False
        return self.within(place, name), new

    def within(self, place: Place, name: str) -> Place:
        """Open a directory that is there. Raises OSError."""
        return Place(os.open(name, _OPEN_DIR, dir_fd=place.fd), place.child(name))

    def make_way(self, place: Place, name: str) -> None:
        """Remove what has the name. Raises OSError where it is a directory."""
        try:
            os.unlink(name, dir_fd=place.fd)
        except FileNotFoundError:
            return

    @staticmethod
    def clear(place: Place, name: str) -> None:
        """Remove what has the name, with all that is in it; no link is followed. Raises OSError."""
        try:
            os.unlink(name, dir_fd=place.fd)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError):
            shutil.rmtree(name, dir_fd=place.fd)

    def clear_other(self, place: Place, node: Node) -> None:
        """Remove what has the name of an entry and is of another type. Raises OSError."""
        found = self.status(place, node.name)
        if found is not None and type_of(found.st_mode) is not node.type:
            self.clear(place, node.name)

    def create(self, place: Place, name: str) -> int:
        """Make an empty file of its own and return it open. Raises OSError."""
        try:
            return os.open(name, _CREATE, 0o600, dir_fd=place.fd)
        except FileExistsError:
            self.make_way(place, name)
            return os.open(name, _CREATE, 0o600, dir_fd=place.fd)

    def special(self, place: Place, node: Node) -> None:
        """Make a link, a pipe or a device, with owner, times and attributes. Raises OSError."""
        name = node.name
        if node.type in (NodeType.DEV, NodeType.CHARDEV) and not self._devices:
            self.report.once("devices", place.child(name), "devices are not restored, as was asked for")
            return
        found = self.status(place, name)
        if found is None or not self._is_same(place, node, found):
            self.make_way(place, name)
            if node.type is NodeType.SYMLINK:
                os.symlink(node.linktarget, name, dir_fd=place.fd)
            elif node.type is NodeType.FIFO:
                os.mkfifo(name, 0o600, dir_fd=place.fd)
            else:
                kind = unix.S_IFCHR if node.type is NodeType.CHARDEV else unix.S_IFBLK
                os.mknod(name, kind | 0o600, node.device, dir_fd=place.fd)
        self.dress_by_name(place, node)

    @staticmethod
    def _is_same(place: Place, node: Node, found: os.stat_result) -> bool:
        if type_of(found.st_mode) is not node.type:
            return False
        if node.type is NodeType.SYMLINK:
            return os.readlink(node.name, dir_fd=place.fd) == node.linktarget
        return node.type is NodeType.FIFO or found.st_rdev == node.device

    def link(self, source: Place, name: str, place: Place, node: Node) -> None:
        """Give a restored file one more name. Raises OSError."""
        found = self.status(place, node.name)
        original = os.stat(name, dir_fd=source.fd, follow_symlinks=False)
        if found is not None:
            if (found.st_dev, found.st_ino) == (original.st_dev, original.st_ino):
                return
            self.make_way(place, node.name)
        os.link(name, node.name, src_dir_fd=source.fd, dst_dir_fd=place.fd, follow_symlinks=False)

    def dress(self, fd: int, node: Node, where: str) -> None:
        """Give an open file or directory its owner, attributes, mode and times, in the order that keeps them."""
        self._own(fd, node, where)
        self._attributes(fd, node, where, follow=True)
        os.fchmod(fd, self._permissions(node))
        os.utime(fd, ns=(node.atime_ns, node.mtime_ns))

    def dress_by_name(self, place: Place, node: Node) -> None:
        """The same for what is not opened."""
        where = place.child(node.name)
        try:
            os.chown(node.name, node.uid, node.gid, dir_fd=place.fd, follow_symlinks=False)
        except OSError as error:
            self._not_owner(error, os.stat(node.name, dir_fd=place.fd, follow_symlinks=False), node, where)
        self._attributes(f"/proc/self/fd/{place.fd}/{node.name}", node, where, follow=False)
        if node.type is not NodeType.SYMLINK:
            os.chmod(node.name, self._permissions(node), dir_fd=place.fd)
        os.utime(node.name, ns=(node.atime_ns, node.mtime_ns), dir_fd=place.fd, follow_symlinks=False)

    def is_dressed(self, place: Place, node: Node, found: os.stat_result) -> bool:
        """Say whether an entry has its owner, its mode and its attributes."""
        if (found.st_uid, found.st_gid, unix.S_IMODE(found.st_mode)) != (node.uid, node.gid, self._permissions(node)):
            return False
        path = f"/proc/self/fd/{place.fd}/{node.name}"
        try:
            present = {key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)}
        except OSError:
            return not node.xattrs
        wanted = self._wanted(node)
        return wanted.items() <= present.items() and all(key in wanted or key.startswith("security.") for key in present)

    def _permissions(self, node: Node) -> int:
        allowed = node.permissions
        return allowed if self._setuid or node.type is NodeType.DIR else allowed & ~(unix.S_ISUID | unix.S_ISGID)

    def _wanted(self, node: Node) -> dict[str, bytes]:
        wanted = dict(node.xattrs)
        if not self._setuid:
            wanted.pop("security.capability", None)
        return wanted

    def _own(self, fd: int, node: Node, where: str) -> None:
        try:
            os.fchown(fd, node.uid, node.gid)
        except OSError as error:
            self._not_owner(error, os.fstat(fd), node, where)

    def _not_owner(self, error: OSError, found: os.stat_result, node: Node, where: str) -> None:
        if error.errno not in (errno.EPERM, errno.EINVAL):  # the second: a user that this namespace does not have
            raise error
        if (found.st_uid, found.st_gid) == (node.uid, node.gid):
            return
        if self._root:
            self.report.fail(where, f"it cannot belong to {node.uid}:{node.gid}", "the mover needs CHOWN")
        else:
            self.report.once("owner", where, "owners are not restored, as this is not run by root", "run it as root")

    def _attributes(self, path: int | str, node: Node, where: str, *, follow: bool) -> None:
        wanted = self._wanted(node)
        try:
            present = os.listxattr(path, follow_symlinks=follow)
        except OSError:
            present = []
        for key in present:
            if key not in wanted and not key.startswith("security."):
                os.removexattr(path, key, follow_symlinks=follow)
        for key, value in wanted.items():
            try:
                os.setxattr(path, key, value, follow_symlinks=follow)
            except OSError as error:
                self._not_set(key, error, where)

    def _not_set(self, key: str, error: OSError, where: str) -> None:
        space = key.partition(".")[0]
        if error.errno == errno.ENOTSUP or (error.errno in (errno.EPERM, errno.EACCES) and not self._root):
            self.report.once(f"xattr {space}", where, f"extended attributes such as {key} are not restored: {os.strerror(error.errno)}")
        else:
            self.report.fail(where, f"the extended attribute {key} cannot be set: {os.strerror(error.errno or 0)}")
