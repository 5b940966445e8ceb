"""What each object of a policy's recovery points looked like, from point to point: a local index, made again from the bucket whenever it is not there.

It holds names, kinds, labels, and by which blobs an object's content is known; never the content. An object that did not change between two points
takes no room: a version has the first and the last point that hold it. Trees are known by their content, so a new point costs what differs from
the one before it. Only complete points count: an object that a partial point lacks need not have been gone.

The file is SQLite, readable by its owner alone. One that is damaged, of another format or of another repository is thrown away and made anew.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left, bisect_right
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003  (pydantic resolves the annotations at run time)
from typing import TYPE_CHECKING, Any, Self

import orjson

from becalm.actions.lanes import side_by_side
from becalm.actions.restore_trust import parse
from becalm.clock import format_time, parse_time
from becalm.errors import NotFound, UsageError
from becalm.kube.rules import child
from becalm.model import CLUSTER_SCOPE, CORE_GROUP, ResourceRef
from becalm.repository.format import NodeType
from becalm.repository.tree import lookup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from becalm.model import RecoveryPoint
    from becalm.repository.node import Node
    from becalm.repository.reader import Repository

FORMAT = 1
READERS = 16
AT_ONCE = 2000
"""So many objects are read before what was learned of them is written down."""
ROOT = "resources"
LEAF = 3
"""Folders below the root: group, resource, namespace. The last one holds the objects."""
SUFFIX = ".json"

_SCHEMA = """
CREATE TABLE about (format INTEGER NOT NULL, repository TEXT NOT NULL);
CREATE TABLE point (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, cut TEXT NOT NULL, tree TEXT NOT NULL, gone INTEGER NOT NULL DEFAULT 0);
CREATE TABLE folder (path TEXT PRIMARY KEY, tree TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE object (number INTEGER PRIMARY KEY, grp TEXT, resource TEXT, namespace TEXT, name TEXT, UNIQUE (grp, resource, namespace, name));
CREATE TABLE version (number INTEGER PRIMARY KEY, object INTEGER NOT NULL, content TEXT NOT NULL, kind TEXT NOT NULL, labels TEXT NOT NULL,
                      first INTEGER NOT NULL, last INTEGER);
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
    first: Moment
    last: Moment
    before: Moment | None
    """The point before the first one, which holds something else, or nothing; None where there is none."""
    after: Moment | None
    """The point after the last one; None where the last one is the newest."""


@dataclass(slots=True)
class _New:
    """A version that begins with the point at hand."""

    object: int
    node: Node
    kind: str = ""
    labels: str = "{}"


@dataclass(slots=True)
class Timeline:
    """The index, open. Not for several threads."""

    database: sqlite3.Connection
    _points: list[tuple[int, Moment]] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path, repository_id: str) -> Self:
        """Open the index of a repository, or begin one. Raises UsageError where the file cannot be used."""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            for attempt in range(2):
                path.touch(mode=0o600)
                database = sqlite3.connect(path, isolation_level=None)
                try:
                    if _is_sound(database, repository_id):
                        return cls(database)
                except sqlite3.DatabaseError:
                    pass
                database.close()
                path.unlink()
                if attempt == 0:
                    _begin(path, repository_id)
        except (OSError, sqlite3.Error) as error:
            raise UsageError(f"the index cannot be used: {error}", where=str(path), hint="name another file with --index") from error
        raise UsageError("the index cannot be made", where=str(path), hint="name another file with --index")

    def close(self) -> None:
        """Let it go."""
        self.database.close()

    def refresh(
        self, repository: Repository, points: Iterable[RecoveryPoint], progress: Callable[[str, int, int], None] = lambda *_: None
    ) -> None:
        """Learn of new points, and forget those that are gone. What was learned of a point stays learned if the next one fails.

        Raises: Damaged, and what the store raises.
        """
        wanted = sorted((point for point in points if point.complete), key=lambda point: (point.cut, point.id))
        rows = self.database.execute("SELECT id, cut, gone FROM point").fetchall()
        newest = max(((parse_time(cut), name) for name, cut, _ in rows), default=None)
        known = {name for name, _, _ in rows}
        new = [point for point in wanted if point.id not in known]
        if newest and any((point.cut, point.id) < newest for point in new):  # between others: begin again
            self._empty()
            known, new = set(), wanted
        living = {point.id for point in wanted}
        self._forget([name for name in known if name not in living])
        if new:
            writer = _Writer(self.database, repository)
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
            "SELECT grp, resource, namespace, name, kind, labels, content, first, last FROM object JOIN version ON version.object = object.number "  # noqa: S608
            f"{where} ORDER BY grp, resource, namespace, name, first"
        )
        numbers = [seq for seq, _ in self._points]
        for group, resource, namespace, named, kind, labels, content, first, last in self.database.execute(query, given):
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
                first=self._points[begin][1],
                last=self._points[end - 1][1],
                before=self._points[begin - 1][1] if begin else None,
                after=self._points[end][1] if end < len(numbers) else None,
            )

    def entries(self, repository: Repository, tree: str) -> list[tuple[str, str]]:
        """Return the names in a tree, each with the tree below it where it is a directory; remembered from then on.

        Raises: Damaged, and what the store raises.
        """
        found = self.database.execute("SELECT entries FROM listing WHERE tree = ?", (tree,)).fetchone()
        if found:
            return [(name, below) for name, below in orjson.loads(found[0])]
        entries = [(node.name, node.subtree or "" if node.type is NodeType.DIR else "") for node in repository.tree(tree)]
        text = orjson.dumps([(name.encode(errors="replace").decode(), below) for name, below in entries])
        self.database.execute("INSERT OR IGNORE INTO listing VALUES (?, ?)", (tree, text))
        return entries

    def _empty(self) -> None:
        with _transaction(self.database):
            for table in ("point", "folder", "object", "version"):
                self.database.execute(f"DELETE FROM {table}")  # noqa: S608  (our own names)

    def _forget(self, gone: Sequence[str]) -> None:
        if not gone:
            return
        with _transaction(self.database):
            self.database.executemany("UPDATE point SET gone = 1 WHERE id = ?", [(name,) for name in gone])
            self.database.execute(
                "DELETE FROM version WHERE last IS NOT NULL AND NOT EXISTS "
                "(SELECT 1 FROM point WHERE gone = 0 AND seq BETWEEN version.first AND version.last)"
            )


class _transaction:  # noqa: N801  (it reads as a verb)
    """All of a block, or nothing of it."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    def __exit__(self, failed: object, *_: object) -> None:
        self._database.execute("ROLLBACK" if failed else "COMMIT")


def _is_sound(database: sqlite3.Connection, repository_id: str) -> bool:
    if database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        return False
    return database.execute("SELECT format, repository FROM about").fetchall() == [(FORMAT, repository_id)]


def _begin(path: Path, repository_id: str) -> None:
    path.touch(mode=0o600)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.executescript(_SCHEMA)
        database.execute("INSERT INTO about VALUES (?, ?)", (FORMAT, repository_id))


class _Writer:
    """Takes in one point after the other, oldest first; knows the folders of the newest."""

    def __init__(self, database: sqlite3.Connection, repository: Repository) -> None:
        self._database = database
        self._repository = repository
        self._trees: dict[str, str] = {}
        self._below: dict[str, set[str]] = defaultdict(set)
        self._remember()

    def _remember(self) -> None:
        """Know the folders of the newest point, and nothing else."""
        self._trees.clear()
        self._below.clear()
        for path, tree in self._database.execute("SELECT path, tree FROM folder"):
            self._know(path, tree)

    def _know(self, path: str, tree: str) -> None:
        self._trees[path] = tree
        self._below[path.rpartition("/")[0]].add(path)

    def add(self, point: RecoveryPoint) -> None:
        """Take in a point, whole or not at all. Raises: Damaged, and what the store raises."""
        seq = (self._database.execute("SELECT max(seq) FROM point").fetchone()[0] or 0) + 1
        try:
            top = lookup(self._repository, point.tree, ROOT).subtree
        except NotFound:
            top = ""
        try:
            with _transaction(self._database):
                self._folder(ROOT, top, seq)
                self._database.execute(
                    "INSERT INTO point (seq, id, cut, tree) VALUES (?, ?, ?, ?)", (seq, point.id, format_time(point.cut), point.tree)
                )
        except BaseException:
            self._remember()  # what was learned half is not known
            raise

    def _folder(self, path: str, tree: str, seq: int) -> None:
        """Bring a folder to what it is now."""
        if self._trees.get(path, "") == tree:
            return
        depth = path.count("/")
        if depth == LEAF:
            self._objects(path, tree, seq)
        else:
            nodes = self._repository.tree(tree) if tree else []
            now = {f"{path}/{node.name}": node.subtree or "" for node in nodes if node.type is NodeType.DIR}
            for inner in sorted(self._below[path] - now.keys()):
                self._folder(inner, "", seq)
            for inner, below in now.items():
                self._folder(inner, below, seq)
        if tree:
            self._know(path, tree)
            self._database.execute("INSERT OR REPLACE INTO folder VALUES (?, ?)", (path, tree))
        else:
            self._trees.pop(path, None)
            self._below[path.rpartition("/")[0]].discard(path)
            self._database.execute("DELETE FROM folder WHERE path = ?", (path,))

    def _objects(self, path: str, tree: str, seq: int) -> None:
        """Bring the objects of a namespace's folder to what they are now: end versions that are over, begin others."""
        _, group, resource, namespace = path.split("/")
        place = ("" if group == CORE_GROUP else group, resource, "" if namespace == CLUSTER_SCOPE else namespace)
        rows = self._database.execute(
            "SELECT name, version.number, content FROM object JOIN version ON version.object = object.number "
            "WHERE grp = ? AND resource = ? AND namespace = ? AND last IS NULL",
            place,
        )
        held = {name: (number, content) for name, number, content in rows}
        nodes = [
            node for node in (self._repository.tree(tree) if tree else ()) if node.type is NodeType.FILE and node.name.endswith(SUFFIX)
        ]
        now = {node.name.removesuffix(SUFFIX): node for node in nodes}
        over = [number for name, (number, content) in held.items() if name not in now or _content(now[name]) != content]
        self._database.executemany("UPDATE version SET last = ? WHERE number = ?", [(seq - 1, number) for number in over])
        new = [(name, node) for name, node in now.items() if name not in held or held[name][1] != _content(node)]
        for begin in range(0, len(new), AT_ONCE):
            self._begin(place, new[begin : begin + AT_ONCE], seq)

    def _begin(self, place: tuple[str, str, str], new: list[tuple[str, Node]], seq: int) -> None:
        versions = [_New(self._number(place, name), node) for name, node in new]
        side_by_side(self._learn, versions, lanes=READERS)
        self._database.executemany(
            "INSERT INTO version (object, content, kind, labels, first) VALUES (?, ?, ?, ?, ?)",
            [(one.object, _content(one.node), one.kind, one.labels, seq) for one in versions],
        )

    def _number(self, place: tuple[str, str, str], name: str) -> int:
        found = self._database.execute(
            "SELECT number FROM object WHERE grp = ? AND resource = ? AND namespace = ? AND name = ?", (*place, name)
        ).fetchone()
        if found:
            return int(found[0])
        cursor = self._database.execute("INSERT INTO object (grp, resource, namespace, name) VALUES (?, ?, ?, ?)", (*place, name))
        return int(cursor.lastrowid or 0)

    def _learn(self, one: _New) -> None:
        """Read an object for its kind and its labels; one that is none has neither."""
        manifest, wrong = parse(self._repository.read_file(one.node))
        if wrong or not isinstance(manifest, dict):
            return
        kind: Any = manifest.get("kind")
        one.kind = kind if isinstance(kind, str) else ""
        labels = child(manifest, "metadata", "labels")
        one.labels = orjson.dumps({str(key): str(value) for key, value in labels.items()}).decode()


def _content(node: Node) -> str:
    return ",".join(node.content or ())
