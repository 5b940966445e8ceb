"""The documents of a repository, and every key in the bucket: nobody else makes one up.

docs/FORMAT.md says the same in prose. Restic's documents are read with their unknown fields ignored, and written as restic
writes them. Nothing here encrypts, compresses or reads a store.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from becalm.clock import parse_time
from becalm.errors import Damaged, UsageError
from becalm.repository.node import Node, NodeType
from becalm.repository.scan import INDEX, parts_of, slabs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from becalm.storage.base import Key

__all__ = [
    "BlobId",
    "BlobKind",
    "Config",
    "IndexDoc",
    "IndexedBlob",
    "Layout",
    "Node",
    "NodeType",
    "SnapshotDoc",
    "SnapshotSummary",
    "is_id",
]

BlobId: TypeAlias = str
"""64 hexadecimal digits: the SHA-256 of what it names."""

_ID = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def is_id(text: str) -> bool:
    """Say whether this is the name of an object or a blob."""
    return _ID.fullmatch(text) is not None


class BlobKind(StrEnum):
    """What a blob holds. The two never share a pack."""

    DATA = "data"
    TREE = "tree"


class Layout:
    """Where everything stands, below the repository's prefix."""

    CONFIG: Key = "config"
    KEYS = "keys/"
    DATA = "data/"
    INDEX = "index/"
    SNAPSHOTS = "snapshots/"
    LOCKS = "locks/"
    LEASE: Key = "becalm/lease"
    RUNS = "becalm/runs/"
    PINS = "becalm/pins/"
    ADOPTED: Key = "becalm/adopted"
    INTENTS = "becalm/intents/"
    TOMBSTONES = "becalm/tombstones/"
    LEDGER = "becalm/ledger/"
    LOOK: Key = "becalm/look"
    RESERVE: Key = "becalm/reserve"
    SUPERSEDED = "becalm/superseded/"
    RETIRED = "becalm/retired/"
    PROBES = "becalm/probes/"
    FREEZES = "becalm/freezes/"
    RESTORES = "becalm/restores/"
    HISTORY = "becalm/history/"
    SCHEDULE: Key = "becalm/schedule"
    ANNOUNCED: Key = "becalm/announced"
    COVERAGE: Key = "becalm/coverage"
    DRIFT: Key = "becalm/drift"
    DRILLS = "becalm/drills/"

    @staticmethod
    def key(key_id: str) -> Key:
        """A password's key."""
        return f"keys/{key_id}"

    @staticmethod
    def pack(pack_id: str) -> Key:
        """A pack, in one of 256 folders."""
        return f"data/{pack_id[:2]}/{pack_id}"

    @staticmethod
    def index(index_id: str) -> Key:
        """An index object."""
        return f"index/{index_id}"

    @staticmethod
    def snapshot(snapshot_id: str) -> Key:
        """A snapshot: a recovery point."""
        return f"snapshots/{snapshot_id}"

    @staticmethod
    def lock(lock_id: str) -> Key:
        """One of restic's own locks."""
        return f"locks/{lock_id}"

    @staticmethod
    def run_result(run: str, name: str) -> Key:
        """What a mover says of its work. Raises UsageError where a name cannot stand in a key."""
        for part in (run, name):
            if not _NAME.fullmatch(part):
                raise UsageError(f"{part!r} cannot be a name in the bucket", hint="letters, digits, dots, dashes")
        return f"becalm/runs/{run}/{name}.json"

    @staticmethod
    def freeze(run: str, name: str) -> Key:
        """The note that a run may have frozen something: it goes with the confirmed thaw. Raises UsageError."""
        return Layout.run_result(run, name).replace(Layout.RUNS, Layout.FREEZES, 1)

    @staticmethod
    def drill(drill_id: str) -> Key:
        """The report of a drill. Raises UsageError where the id cannot stand in a key."""
        if not _NAME.fullmatch(drill_id):
            raise UsageError(f"{drill_id!r} cannot be a name in the bucket", hint="letters, digits, dots, dashes")
        return f"{Layout.DRILLS}{drill_id}.json"

    @staticmethod
    def restore(name: str) -> Key:
        """The report of a restore. Raises UsageError where a name cannot stand in a key."""
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} cannot be a name in the bucket", hint="letters, digits, dots, dashes")
        return f"becalm/restores/{name}"

    @staticmethod
    def pin(snapshot_id: str) -> Key:
        """The note that a recovery point must stay."""
        return f"becalm/pins/{snapshot_id}"

    @staticmethod
    def intent(snapshot_id: str) -> Key:
        """The note that a writer is about to make a snapshot visible."""
        return f"becalm/intents/{snapshot_id}"

    @staticmethod
    def tombstone(pack_id: str) -> Key:
        """The note that nothing referred to a pack when it was last looked at."""
        return f"becalm/tombstones/{pack_id}"

    @staticmethod
    def probe(name: str) -> Key:
        """An object with which a store is tried out; it goes again."""
        return f"becalm/probes/{name}"

    @staticmethod
    def retired(key_id: str) -> Key:
        """The note that a password's key is out of use, and ends with its object lock."""
        return f"becalm/retired/{key_id}"

    @staticmethod
    def superseded(index_id: str) -> Key:
        """The note that an index object cannot be read, and others stand in its place."""
        return f"becalm/superseded/{index_id}"

    @staticmethod
    def history(day: str) -> Key:
        """What the runs that ended on a day came to: `2026-11-23`."""
        return f"becalm/history/{day}"

    @staticmethod
    def ledger(number: int) -> Key:
        """An entry of the ledger."""
        return f"becalm/ledger/{number:010d}"


def read_json(document: bytes | bytearray | memoryview, *, where: str) -> dict[str, Any]:
    """Read a JSON object. Raises Damaged."""
    try:
        found = orjson.loads(document)
    except ValueError as error:
        raise Damaged(f"this is not JSON: {error}", where=where) from error
    if not isinstance(found, dict):
        raise Damaged("this is not a JSON object", where=where)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The repository's own facts: written once, at its making."""

    version: int
    id: str
    chunker_polynomial: str

    def encode(self) -> bytes:
        """Write it as restic does."""
        return orjson.dumps({"version": self.version, "id": self.id, "chunker_polynomial": self.chunker_polynomial})

    @classmethod
    def decode(cls, document: bytes, *, where: str) -> Config:
        """Read it. Raises Damaged, also for a version that is not known here."""
        found = read_json(document, where=where)
        version, own_id = found.get("version"), found.get("id")
        if version not in (1, 2) or not isinstance(version, int):
            raise Damaged(f"the repository is of version {version!r}; 1 and 2 can be read", where=where, hint="use a newer Becalm")
        if not isinstance(own_id, str) or not own_id:
            raise Damaged("the repository has no id", where=where)
        return cls(version=version, id=own_id, chunker_polynomial=str(found.get("chunker_polynomial", "")))


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotSummary:
    """Counts that `restic snapshots` and `restic stats` show."""

    backup_start: datetime
    backup_end: datetime
    files_new: int = 0
    files_changed: int = 0
    files_unmodified: int = 0
    dirs_new: int = 0
    dirs_changed: int = 0
    dirs_unmodified: int = 0
    data_blobs: int = 0
    tree_blobs: int = 0
    data_added: int = 0
    data_added_packed: int = 0
    total_files_processed: int = 0
    total_bytes_processed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotDoc:
    """One snapshot: a tree and what is said of it."""

    time: datetime
    tree: BlobId
    paths: tuple[str, ...] = ("/",)
    parent: BlobId = ""
    hostname: str = ""
    username: str = ""
    uid: int = 0
    gid: int = 0
    excludes: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    original: BlobId = ""
    program_version: str = ""
    summary: SnapshotSummary | None = None

    def encode(self) -> bytes:
        """Write it as restic does: empty fields left out."""
        document: dict[str, Any] = {"time": _time(self.time)}
        if self.parent:
            document["parent"] = self.parent
        document["tree"] = self.tree
        document["paths"] = list(self.paths)
        for key in ("hostname", "username", "uid", "gid", "excludes", "tags", "original", "program_version"):
            value = getattr(self, key)
            if value:
                document[key] = value
        if self.summary is not None:
            document["summary"] = self.summary
        return orjson.dumps(document, option=orjson.OPT_UTC_Z)

    @classmethod
    def decode(cls, document: bytes, *, where: str) -> SnapshotDoc:
        """Read it. Raises Damaged."""
        found = read_json(document, where=where)
        try:
            tree = found["tree"]
            if not is_id(tree):
                raise ValueError(f"{tree!r} is not the id of a tree")  # noqa: TRY301  one handler names the object
            return cls(
                time=parse_time(found["time"]),
                tree=tree,
                paths=tuple(map(str, found.get("paths") or ())),
                parent=found.get("parent") or "",
                hostname=str(found.get("hostname", "")),
                username=str(found.get("username", "")),
                uid=int(found.get("uid", 0)),
                gid=int(found.get("gid", 0)),
                excludes=tuple(map(str, found.get("excludes") or ())),
                tags=tuple(map(str, found.get("tags") or ())),
                original=found.get("original") or "",
                program_version=str(found.get("program_version", "")),
                summary=_summary(found.get("summary")),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise Damaged(f"the snapshot cannot be read: {error}", where=where) from error


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


_COUNTS = frozenset(SnapshotSummary.__dataclass_fields__) - {"backup_start", "backup_end"}


def _summary(found: Any) -> SnapshotSummary | None:
    if not isinstance(found, dict) or "backup_start" not in found or "backup_end" not in found:
        return None
    counts = {key: int(value) for key, value in found.items() if key in _COUNTS}
    return SnapshotSummary(backup_start=parse_time(found["backup_start"]), backup_end=parse_time(found["backup_end"]), **counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedBlob:
    """Where one blob lies in its pack."""

    id: BlobId
    kind: BlobKind
    offset: int
    length: int
    """Bytes in the pack: nonce, cipher text and MAC."""
    uncompressed_length: int = 0
    """Bytes of the plain text where it is compressed; nothing where it is not."""


_INDEX_SLAB = 4 << 20
"""Bytes of an index object that are turned into objects of Python's at a time."""


@dataclass(frozen=True, slots=True)
class IndexDoc:
    """Packs and the blobs in them."""

    packs: Mapping[str, tuple[IndexedBlob, ...]] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Write it as restic does."""
        return orjson.dumps({"packs": [{"id": pack, "blobs": [_blob(blob) for blob in blobs]} for pack, blobs in self.packs.items()]})

    @staticmethod
    def raw_packs(document: bytes, *, where: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Yield each pack with its blobs as JSON gives them: the index reads hundreds of thousands. Raises Damaged."""
        for packs in IndexDoc.pack_slabs(document, where=where):
            yield from packs

    @staticmethod
    def pack_slabs(document: bytes, *, where: str) -> Iterator[list[tuple[str, list[dict[str, Any]]]]]:
        """Yield the packs with their blobs as JSON gives them, some packs at a time. Raises Damaged."""
        try:
            for packs in slabs(parts_of(document), INDEX, optional=True, slab=_INDEX_SLAB):
                yield [_raw_pack(pack, where=where) for pack in packs]
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(f"the index cannot be read: {error}", where=where) from error

    @classmethod
    def decode(cls, document: bytes, *, where: str) -> IndexDoc:
        """Read it into nouns. Raises Damaged."""
        try:
            return cls({pack: tuple(_indexed(blobs)) for pack, blobs in cls.raw_packs(document, where=where)})
        except (KeyError, TypeError, ValueError) as error:
            raise Damaged(f"the index cannot be read: {error}", where=where) from error


def _raw_pack(pack: Any, *, where: str) -> tuple[str, list[dict[str, Any]]]:
    if (
        not isinstance(pack, dict)
        or not isinstance(pack.get("id"), str)
        or not is_id(pack["id"])
        or not isinstance(pack.get("blobs"), list)
    ):
        raise Damaged("the index names a pack that has no id or no blobs", where=where)
    return pack["id"], pack["blobs"]


def _blob(blob: IndexedBlob) -> dict[str, Any]:
    entry = {"id": blob.id, "type": blob.kind.value, "offset": blob.offset, "length": blob.length}
    if blob.uncompressed_length:
        entry["uncompressed_length"] = blob.uncompressed_length
    return entry


def _indexed(blobs: Iterable[dict[str, Any]]) -> Iterator[IndexedBlob]:
    for blob in blobs:
        yield IndexedBlob(
            id=blob["id"],
            kind=BlobKind(blob["type"]),
            offset=blob["offset"],
            length=blob["length"],
            uncompressed_length=blob.get("uncompressed_length", 0),
        )
