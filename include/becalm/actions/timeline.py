"""What each object of a policy's recovery points looked like, from point to point: a local index, made again from the bucket whenever it is not there.

It holds names, kinds and labels, and the content of each version sealed with the repository's own key; of Secrets none. An object that did not change between two points
takes no room: a version has the first and the last point that hold it. Trees are known by their content, so a new point costs what differs from
the one before it. Only complete points count: an object that a partial point lacks need not have been gone.

The file is SQLite, readable by its owner alone; one process at a time has it. One that is damaged, of another format or of another repository is
thrown away and made anew: what a crash of the machine does to it does not matter.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from bisect import bisect_left, bisect_right
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003  (pydantic resolves the annotations at run time)
from typing import TYPE_CHECKING, Self

import orjson
import zstandard

from becalm.actions.lanes import side_by_side
from becalm.actions.restore_trust import parse
from becalm.actions.timeline_intake import LARGEST_KEPT, READERS, Intake, transaction
from becalm.catalog import points as catalog
from becalm.clock import parse_time
from becalm.errors import Damaged, PointMissing, UsageError
from becalm.model import RecoveryPoint, ResourceRef
from becalm.repository.crypto import unseal
from becalm.repository.format import BlobKind, NodeType
from becalm.repository.intents import withdrawn
from becalm.repository.snapshots import load_snapshot, snapshot_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from becalm.model import Manifest
    from becalm.repository.reader import Repository

FORMAT = 2
WAIT_SECONDS = 60
MOST_NAMES = 64 << 20
"""So many bytes of names of files are remembered; the directories beyond are read from the bucket each time."""

_SCHEMA = """
CREATE TABLE about (format INTEGER NOT NULL, repository TEXT NOT NULL);
CREATE TABLE point (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, cut TEXT NOT NULL, tree TEXT NOT NULL, gone INTEGER NOT NULL DEFAULT 0);
CREATE TABLE folder (path TEXT PRIMARY KEY, tree TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE object (number INTEGER PRIMARY KEY, grp TEXT, resource TEXT, namespace TEXT, name TEXT, UNIQUE (grp, resource, namespace, name));
CREATE TABLE version (number INTEGER PRIMARY KEY, object INTEGER NOT NULL, content TEXT NOT NULL, kind TEXT NOT NULL, labels TEXT NOT NULL,
                      first INTEGER NOT NULL, last INTEGER, body BLOB);
CREATE TABLE passed (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE INDEX by_name ON object (name);
CREATE INDEX of_object ON version (object);
CREATE TABLE listing (tree TEXT PRIMARY KEY, entries BLOB NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One recovery point, as far as a history needs it."""

    point: str
    cut: datetime
    tree: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One content of one object, and the points from first to last that hold it."""

    ref: ResourceRef
    kind: str
    labels: Mapping[str, str]
    content: tuple[str, ...]
    """The blobs that it is made of."""
    number: int
    """By which the index knows it."""
    first: Moment
    last: Moment
    before: Moment | None
    """The point before the first one, which holds something else, or nothing; None where there is none."""
    after: Moment | None
    """The point after the last one; None where the last one is the newest."""


@dataclass(slots=True)
class Timeline:
    """The index, open. Not for several threads."""

    database: sqlite3.Connection
    lock: int
    """The file that keeps others waiting, open."""
    _points: list[tuple[int, Moment]] = field(default_factory=list)
    _names: int | None = None
    """How many bytes of names of files it holds, once it is known."""

    @classmethod
    def open(cls, path: Path, repository_id: str) -> Self:
        """Open the index of a repository, or begin one. Raises UsageError where the file cannot be used."""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(path, error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            database = _sound(path, repository_id) or _begun(path, repository_id)
            database.execute("PRAGMA synchronous = OFF")  # it is made anew where a crash has harmed it
            return cls(database, lock)
        except (OSError, sqlite3.Error) as error:
            os.close(lock)
            raise _unusable(path, error) from error
        except BaseException:
            os.close(lock)
            raise

    def close(self) -> None:
        """Let it go."""
        self.database.close()
        os.close(self.lock)

    def points(self, repository: Repository, policy: str) -> list[RecoveryPoint]:
        """Return the complete points of a policy. What the index knows of a snapshot is not read again.

        Raises: Damaged, and what the store raises.
        """
        ids = snapshot_ids(repository)
        gone = withdrawn(repository.store)  # after the list: what is in it and was withdrawn meanwhile does not count
        passed = {name for (name,) in self.database.execute("SELECT id FROM passed")}
        rows = self.database.execute("SELECT id, cut, tree FROM point WHERE gone = 0")
        known = {name: RecoveryPoint(id=name, policy=policy, cut=parse_time(cut), tree=tree) for name, cut, tree in rows}
        living = [name for name in ids if name not in gone]
        unknown = [name for name in living if name not in known and name not in passed]
        for name, read in zip(unknown, side_by_side(lambda name: _read(repository, name), unknown, lanes=READERS), strict=True):
            if read is None:
                continue
            (point,) = read
            if point is not None and point.policy == policy and point.complete:
                known[name] = point
            else:
                self.database.execute("INSERT OR IGNORE INTO passed VALUES (?)", (name,))
        return [known[name] for name in living if name in known]

    def refresh(
        self, repository: Repository, points: Iterable[RecoveryPoint], progress: Callable[[str, int, int], None] = lambda *_: None
    ) -> None:
        """Learn of new points, and forget those that are gone. What was learned of a point stays learned if the next one fails.

        Raises: Damaged, and what the store raises.
        """
        wanted = sorted((point for point in points if point.complete), key=lambda point: (point.cut, point.id))
        rows = self.database.execute("SELECT id, cut, gone FROM point").fetchall()
        newest = max(((parse_time(cut), name) for name, cut, _ in rows), default=None)
        known = {name for name, _, gone in rows if not gone}
        new = [point for point in wanted if point.id not in known]
        if newest and any((point.cut, point.id) <= newest for point in new):  # between others, or back again: begin anew
            self._empty()
            known, new = set(), wanted
        living = {point.id for point in wanted}
        self._forget([name for name in known if name not in living])
        if new:
            writer = Intake(self.database, repository)
            for number, point in enumerate(new):
                progress("indexing recovery points", number, len(new))
                writer.add(point)
            progress("indexing recovery points", len(new), len(new))
        found = self.database.execute("SELECT seq, id, cut, tree FROM point WHERE gone = 0 ORDER BY seq")
        self._points = [(seq, Moment(point=name, cut=parse_time(cut), tree=tree)) for seq, name, cut, tree in found]

    @property
    def moments(self) -> list[Moment]:
        """The points that count, oldest first."""
        return [moment for _, moment in self._points]

    def versions(self, *, name: str = "", wants: Callable[[ResourceRef, str], bool]) -> Iterator[Version]:
        """Yield the versions of the objects that are wanted, by their reference and kind: object by object, oldest first.

        `name` is an exact name, where one is known: it spares the search.
        """
        where, given = ("WHERE name = ?", (name,)) if name else ("", ())
        query = (
            "SELECT grp, resource, namespace, name, kind, labels, content, first, last, version.number FROM object JOIN version ON version.object = object.number "  # noqa: S608
            f"{where} ORDER BY grp, resource, namespace, name, first"
        )
        numbers = [seq for seq, _ in self._points]
        for group, resource, namespace, named, kind, labels, content, first, last, number in self.database.execute(query, given):
            ref = ResourceRef(group=group, resource=resource, namespace=namespace or None, name=named)
            if not wants(ref, kind):
                continue
            begin, end = bisect_left(numbers, first), len(numbers) if last is None else bisect_right(numbers, last)
            if begin >= end:
                continue
            yield Version(
                ref=ref,
                kind=kind,
                labels=orjson.loads(labels),
                content=tuple(content.split(",")) if content else (),
                number=number,
                first=self._points[begin][1],
                last=self._points[end - 1][1],
                before=self._points[begin - 1][1] if begin else None,
                after=self._points[end][1] if end < len(numbers) else None,
            )

    def content(self, repository: Repository, version: Version) -> Manifest:
        """Return a version's object, from the index where it is kept there; one that is none is empty. Raises: Damaged, what the store raises."""
        row = self.database.execute("SELECT body FROM version WHERE number = ?", (version.number,)).fetchone()
        try:
            if row and row[0]:
                kept = zstandard.ZstdDecompressor().decompress(bytes(unseal(repository.key, row[0])), max_output_size=LARGEST_KEPT)
                return dict(orjson.loads(kept))
        except (Damaged, zstandard.ZstdError, ValueError):
            pass  # the bucket knows it too
        manifest, _ = parse(repository.blob(BlobKind.DATA, blob) for blob in version.content)
        return manifest if isinstance(manifest, dict) else {}

    def entries(self, repository: Repository, tree: str) -> list[tuple[str, str]]:
        """Return the names in a tree, each with the tree below it where it is a directory; remembered from then on.

        Raises: Damaged, and what the store raises.
        """
        found = self.database.execute("SELECT entries FROM listing WHERE tree = ?", (tree,)).fetchone()
        if found:
            return [(name, below) for name, below in orjson.loads(found[0])]
        entries = [(node.name, node.subtree or "" if node.type is NodeType.DIR else "") for node in repository.tree(tree)]
        if self._names is None:
            self._names = int(self.database.execute("SELECT coalesce(sum(length(entries)), 0) FROM listing").fetchone()[0])
        text = orjson.dumps([(name.encode(errors="replace").decode(), below) for name, below in entries])
        if self._names + len(text) <= MOST_NAMES:
            self._names += len(text)
            self.database.execute("INSERT OR IGNORE INTO listing VALUES (?, ?)", (tree, text))
        return entries

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Write what is remembered meanwhile in one go; nothing of it where the block fails."""
        with transaction(self.database):
            yield

    def _empty(self) -> None:
        with transaction(self.database):
            for table in ("point", "folder", "object", "version"):
                self.database.execute(f"DELETE FROM {table}")  # noqa: S608  (our own names)

    def _forget(self, gone: Sequence[str]) -> None:
        if not gone:
            return
        with transaction(self.database):
            self.database.executemany("UPDATE point SET gone = 1 WHERE id = ?", [(name,) for name in gone])
            if self.database.execute("SELECT coalesce(sum(length(entries)), 0) FROM listing").fetchone()[0] > MOST_NAMES // 2:
                self.database.execute("DELETE FROM listing")  # many of them may be of points that are gone
            self.database.execute(
                "DELETE FROM version WHERE last IS NOT NULL AND NOT EXISTS "
                "(SELECT 1 FROM point WHERE gone = 0 AND seq BETWEEN version.first AND version.last)"
            )


def _unusable(path: Path, error: Exception) -> UsageError:
    return UsageError(f"the index cannot be used: {error}", where=str(path), hint="name another file with --index")


def _read(repository: Repository, snapshot_id: str) -> tuple[RecoveryPoint | None] | None:
    """Read which point a snapshot is, or that it is none; nothing where it went away."""
    try:
        return (catalog.parse(*load_snapshot(repository, snapshot_id)),)
    except PointMissing:
        return None


def _connect(path: Path) -> sqlite3.Connection:
    path.touch(mode=0o600)
    return sqlite3.connect(path, isolation_level=None, timeout=WAIT_SECONDS)


def _sound(path: Path, repository_id: str) -> sqlite3.Connection | None:
    """Open the index as it is; nothing where it is none, is damaged, or is another repository's."""
    if not path.exists():
        return None
    database = _connect(path)
    try:
        checked = database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
        if checked and database.execute("SELECT format, repository FROM about").fetchall() == [(FORMAT, repository_id)]:
            return database
    except sqlite3.DatabaseError:  # the lock is ours: nobody else is at work on it
        database.close()
        return None
    database.close()
    return None


def _begun(path: Path, repository_id: str) -> sqlite3.Connection:
    """Begin an empty index in place of what is there."""
    for name in (path, path.with_name(f"{path.name}-journal")):
        name.unlink(missing_ok=True)
    database = _connect(path)
    database.executescript(_SCHEMA)
    database.execute("INSERT INTO about VALUES (?, ?)", (FORMAT, repository_id))
    return database
