"""A folder as an object store: one file per key, whole or not there, synced before it counts.

A key is a path below the folder, so a repository looks as restic's local one does. The folder itself is never made here: a
backup disk that is not mounted must be an error, not an empty target on the root disk. Hosts that share the folder over a
network must agree on the time: this store's clock is the host's.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from becalm.clock import Clock, SystemClock
from becalm.errors import (
    AccessDenied,
    BecalmError,
    BucketMissing,
    Damaged,
    NotFound,
    PermanentError,
    PreconditionFailed,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
)
from becalm.storage import files
from becalm.storage.base import Body, ETag, Key, ObjectInfo, Span
from becalm.storage.keys import RESERVED, checked, problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

UNFINISHED_SECONDS = 24 * 3600
"""A temporary file older than this belongs to a writer that died."""

_LOCK = f"{RESERVED}lock"
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class DirectoryStore:
    """Objects in a folder. Safe in threads, and between processes that lock files (flock) in the same folder."""

    def __init__(self, path: str | Path, *, clock: Clock | None = None) -> None:
        """Name the folder; nothing is read or made yet."""
        self._base = Path(path).absolute()
        self._clock: Clock = clock or SystemClock()
        self._swept: set[Path] = set()

    @property
    def url(self) -> str:
        """`file:///…`."""
        return f"file://{self._base}"

    def get(self, key: Key, span: Span | None = None) -> bytes:
        """Return a file, or the span of it, from one state of the file even when it is replaced meanwhile."""
        path = self._path(key)
        with self._failures(key), path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            span = span or Span(offset=0, length=size)
            if span.offset < 0 or span.length < 0 or span.offset + span.length > size:
                raise Damaged(f"{size} bytes long, asked for {span.length} bytes from {span.offset}", where=self._place(key))
            body = files.read(file.fileno(), span)
        if len(body) != span.length:
            raise StoreUnavailable(f"read {len(body)} of {span.length} bytes", where=self._place(key))
        return body

    def put(
        self, key: Key, body: Body, *, if_absent: bool = False, if_match: ETag | None = None, retain_until: datetime | None = None
    ) -> ETag:
        """Write beside the place, sync, and move in one step."""
        path = self._path(key)
        if retain_until is not None:
            raise self._no_object_lock(key)
        with self._failures(key, writing=True):
            self._make_folder(key, path.parent)
            temporary = path.parent / f"{RESERVED}{secrets.token_hex(8)}"
            written = files.write_new(temporary, body, stamp=self._stamp())
            try:
                if if_absent:
                    self._link(key, temporary, path)
                else:
                    self._replace(key, temporary, path, if_match)
            finally:
                temporary.unlink(missing_ok=True)
            files.sync_folder(path.parent)
        return files.etag(written)

    def head(self, key: Key) -> ObjectInfo:
        """Return size, time and etag of a file."""
        with self._failures(key):
            found = self._path(key).stat()
            if not stat.S_ISREG(found.st_mode):
                raise FileNotFoundError(errno.ENOENT, "not a file")
        return ObjectInfo(key=key, size=found.st_size, etag=files.etag(found), modified=datetime.fromtimestamp(found.st_mtime, UTC))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Walk the folders that can hold the prefix, in the order of the keys."""
        if not self._base.is_dir():
            raise self._base_missing()
        folder, slash, _ = prefix.rpartition("/")
        if any(segment in {"", ".", ".."} for segment in folder.split("/") if slash):
            return iter(())
        return self._walk(folder + slash, prefix)

    def folders(self) -> Iterator[str]:
        """Read the folder itself."""
        if not self._base.is_dir():
            raise self._base_missing()
        with self._failures(""):
            found = sorted(entry.name for entry in os.scandir(self._base) if entry.is_dir(follow_symlinks=False))
        return iter(name for name in found if not name.startswith(RESERVED))

    def delete(self, key: Key, *, if_match: ETag | None = None) -> None:
        """Remove a file. A full disk is no obstacle."""
        path = self._path(key)
        with self._failures(key, writing=True):
            try:
                if not stat.S_ISREG(path.stat().st_mode):
                    return
                with files.locked(path.parent / _LOCK, must=if_match is not None):
                    self._compare(key, path, if_match, absent_is_fine=True)
                    path.unlink(missing_ok=True)
                files.sync_folder(path.parent)
            except (FileNotFoundError, NotADirectoryError):
                if not self._base.is_dir():
                    raise

    def retain(self, key: Key, until: datetime) -> None:  # noqa: ARG002  (the port's signature)
        """Refuse: a folder locks nothing against its owner."""
        self.head(key)
        raise self._no_object_lock(key)

    def now(self) -> datetime:
        """Return the host's time."""
        return self._clock.now().astimezone(UTC)

    def make_folder(self) -> None:
        """Make the folder of the store itself, for a person who asked for it."""
        with self._failures("", writing=True):
            try:
                files.make_folders(self._base)
            except (FileExistsError, NotADirectoryError) as error:
                raise PermanentError("a file stands where the folder should be", where=self.url) from error

    def _path(self, key: Key) -> Path:
        return self._base / checked(key)

    def _place(self, key: Key) -> str:
        return f"{self.url}/{key}".rstrip("/")

    def _no_object_lock(self, key: Key) -> StoreReadOnly:
        return StoreReadOnly(
            "no object lock here", where=self._place(key), hint="keep the target in a bucket with object lock, or remove target.lock"
        )

    def _base_missing(self) -> BucketMissing:
        return BucketMissing("the folder is not there", where=self.url, hint="make it, or mount the disk it stands on")

    def _clash(self, key: Key) -> PermanentError:
        return PermanentError("a key cannot be a folder of other keys as well", where=self._place(key))

    def _stamp(self) -> int:
        """Return the time with a random last millisecond: file systems count time in milliseconds and use an inode again at once."""
        return int(self.now().timestamp() * 1000) * 1_000_000 + secrets.randbelow(1_000_000)

    def _make_folder(self, key: Key, folder: Path) -> None:
        """Make the folder of a key, and remove, once, what writers that died left in it."""
        if not self._base.is_dir():
            raise self._base_missing()
        try:
            files.make_folders(folder)
        except (FileExistsError, NotADirectoryError) as error:
            raise self._clash(key) from error
        if folder in self._swept:
            return
        self._swept.add(folder)
        oldest = self.now().timestamp() - UNFINISHED_SECONDS
        with os.scandir(folder) as entries:
            unfinished = [Path(entry.path) for entry in entries if entry.name.startswith(RESERVED) and entry.name != _LOCK]
        for path in unfinished:
            with suppress(FileNotFoundError):
                if path.lstat().st_mtime < oldest:
                    path.unlink()

    def _link(self, key: Key, temporary: Path, path: Path) -> None:
        """Give the file its name unless the name is taken: one step of the file system, or a lock where it has no links."""
        try:
            try:
                os.link(temporary, path)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                with files.locked(path.parent / _LOCK):
                    if os.path.lexists(path):
                        raise FileExistsError(errno.EEXIST, "taken") from error
                    temporary.replace(path)
        except FileExistsError as error:
            if path.is_dir():
                raise self._clash(key) from error
            raise PreconditionFailed("the object is there already", where=self._place(key)) from error

    def _replace(self, key: Key, temporary: Path, path: Path, if_match: ETag | None) -> None:
        with files.locked(path.parent / _LOCK):
            self._compare(key, path, if_match)
            try:
                temporary.replace(path)
            except IsADirectoryError as error:
                raise self._clash(key) from error

    def _compare(self, key: Key, path: Path, if_match: ETag | None, *, absent_is_fine: bool = False) -> None:
        if if_match is None:
            return
        try:
            same = files.etag(path.stat()) == if_match
        except FileNotFoundError:
            same = absent_is_fine
        if not same:
            raise PreconditionFailed("the object is not the one that was read", where=self._place(key))

    def _walk(self, folder: str, prefix: str) -> Iterator[ObjectInfo]:
        for name in self._names(folder):
            key = folder + name
            if name.endswith("/"):
                if key.startswith(prefix) or prefix.startswith(key):
                    yield from self._walk(key, prefix)
            elif key.startswith(prefix):
                with suppress(NotFound):
                    yield self.head(key)

    def _names(self, folder: str) -> Sequence[str]:
        """Return what a folder holds in the order of keys: folders with a slash behind their names, as it stands in a key."""
        try:
            with self._failures(folder), os.scandir(self._base / folder) as entries:
                names = [f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries if not problem(entry.name)]
        except NotFound:
            return []
        return sorted(names)

    @contextmanager
    def _failures(self, key: Key, *, writing: bool = False) -> Iterator[None]:
        """Turn the system's errors into Becalm's."""
        try:
            yield
        except BecalmError:
            raise
        except OSError as error:
            raise self._explain(key, error, writing=writing) from error

    def _explain(self, key: Key, error: OSError, *, writing: bool) -> BecalmError:
        where, reason = self._place(key), os.strerror(error.errno) if error.errno else str(error)
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}:
            return NotFound("no such object", where=where) if self._base.is_dir() else self._base_missing()
        if error.errno in files.FULL:
            return StoreFull(f"the disk is full: {reason}", where=where, hint="make room, or raise the quota; deleting still works")
        if error.errno == errno.EROFS:
            return StoreReadOnly("the file system is read-only", where=where, hint="mount it for writing")
        if error.errno in {errno.EACCES, errno.EPERM}:
            kind = StoreReadOnly if writing and os.access(self._base, os.R_OK | os.X_OK) else AccessDenied
            return kind(
                f"this user may not: {reason}", where=where, hint="give the user that runs Becalm read and write rights on the folder"
            )
        return StoreUnavailable(f"the disk did not answer as it should: {reason}", where=where)
