"""Taking recovery points into the index of `timeline`, one after the other: what differs from the point before, and nothing else.

A tree that is the same is not looked into. Objects that are new are read once, for their kind, their labels and what is kept of them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import zstandard

from becalm.actions.lanes import side_by_side
from becalm.actions.restore_trust import parse
from becalm.clock import format_time
from becalm.errors import NotFound
from becalm.kube.rules import child, group_kind
from becalm.model import CLUSTER_SCOPE, CORE_GROUP
from becalm.repository.crypto import seal
from becalm.repository.format import NodeType
from becalm.repository.tree import lookup

if TYPE_CHECKING:
    import sqlite3

    from becalm.model import RecoveryPoint
    from becalm.repository.node import Node
    from becalm.repository.reader import Repository

READERS = 16
AT_ONCE = 2000
"""So many objects are read before what was learned of them is written down."""
SERIAL_BYTES = 8 << 20
"""Objects that are smaller together lie in a few blocks: one reader fetches each once."""
LARGEST_KEPT = 256 << 10
"""The content of a larger object is read from the bucket when it is asked for."""
ROOT = "resources"
LEAF = 3
"""Folders below the root: group, resource, namespace. The last one holds the objects."""
SUFFIX = ".json"


@dataclass(slots=True)
class _New:
    """A version that begins with the point at hand."""

    object: int
    node: Node
    kind: str = ""
    labels: str = "{}"
    body: bytes | None = None


class transaction:  # noqa: N801  (it reads as a verb)
    """All of a block, or nothing of it."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    def __exit__(self, failed: object, *_: object) -> None:
        self._database.execute("ROLLBACK" if failed else "COMMIT")


class Intake:
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
            with transaction(self._database):
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
        small = sum(node.size for _, node in new) <= SERIAL_BYTES
        if small:
            for one in versions:
                self._learn(one)
        else:
            side_by_side(self._learn, versions, lanes=READERS)
        self._database.executemany(
            "INSERT INTO version (object, content, kind, labels, first, body) VALUES (?, ?, ?, ?, ?, ?)",
            [(one.object, _content(one.node), one.kind, one.labels, seq, one.body) for one in versions],
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
        if group_kind(manifest) != "Secret" and one.node.size <= LARGEST_KEPT:
            packed = zstandard.ZstdCompressor().compress(orjson.dumps(manifest))
            one.body = bytes(seal(self._repository.key, packed))


def _content(node: Node) -> str:
    return ",".join(node.content or ())
