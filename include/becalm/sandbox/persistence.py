"""The objects on disk, so that a sandbox that starts again finds them. Each write stands there before its answer leaves."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from pathlib import Path

    from becalm.sandbox.store import Change, Store


class Journal:
    """One SQLite file: the present objects and the revision. The history before it is compacted by a restart."""

    def __init__(self, path: Path) -> None:
        """Open or make the file."""
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=OFF")  # it survives the end of the process; a crash of the machine ends the demo
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS objects (bucket TEXT, namespace TEXT, name TEXT, body BLOB, PRIMARY KEY (bucket, namespace, name))"
        )
        self._database.execute("CREATE TABLE IF NOT EXISTS revision (only INTEGER PRIMARY KEY CHECK (only = 0), value INTEGER)")

    def revision(self) -> int:
        """Return the last revision, or 0 in a new file."""
        row = self._database.execute("SELECT value FROM revision").fetchone()
        return int(row[0]) if row else 0

    def load(self, store: Store) -> None:
        """Fill a store with what is kept."""
        for bucket, namespace, name, body in self._database.execute("SELECT bucket, namespace, name, body FROM objects"):
            store.load(bucket, (namespace, name), orjson.loads(body))

    def keep(self, change: Change) -> None:
        """Keep one change."""
        self._database.execute("BEGIN")
        if change.after is None:
            self._database.execute("DELETE FROM objects WHERE bucket = ? AND namespace = ? AND name = ?", (change.bucket, *change.place))
        else:
            self._database.execute(
                "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", (change.bucket, *change.place, orjson.dumps(change.after))
            )
        self._database.execute("INSERT OR REPLACE INTO revision VALUES (0, ?)", (change.revision,))
        self._database.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._database.close()
