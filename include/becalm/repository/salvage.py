"""What of a harmed snapshot can still be read, as a new one beside it: it names what is lost, and is never complete.

The harmed one stays as it is. Nothing here decides what is lost: that is the check's finding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson

from becalm.clock import format_time
from becalm.errors import Damaged
from becalm.repository.format import BlobKind, Layout, NodeType, SnapshotDoc, is_id
from becalm.repository.harm import HarmWalk
from becalm.repository.node import Node, encode_node
from becalm.repository.quoting import quote
from becalm.repository.spool import Spool
from becalm.repository.tree import nodes, with_subtree
from becalm.repository.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from datetime import datetime

    from becalm.repository.harm import Point
    from becalm.repository.pack import EncodedBlob
    from becalm.repository.reader import Repository

DESCRIPTION = "recovery-point.json"
NOTE = "becalm-salvaged.json"
"""Names what was lost, in a snapshot that has no description of its own."""

SALVAGED = "salvaged"
NOTE_FORMAT = 1

_AT_ONCE = 10_000
"""So many entries of a directory are written at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Salvage:
    """What would become of one harmed recovery point."""

    point: Point
    lost: tuple[str, ...]
    """Every path that cannot be read; a folder, with a slash, means all that is in it. The root means that nothing can be saved."""

    @property
    def hopeless(self) -> bool:
        """Whether nothing is left to save."""
        return self.lost == ("/",)


def name_lost(repository: Repository, walk: HarmWalk, point: Point, lost: Collection[tuple[bool, bytes]]) -> Salvage:
    """Name everything that a point has lost."""
    root = bytes.fromhex(point.tree)
    if (True, root) in lost:
        return Salvage(point=point, lost=("/",))
    walk.look(root)
    harmed = set(walk.order())
    paths: list[str] = []
    waiting = [("/", root)] if root in harmed else []
    while waiting:
        base, tree = waiting.pop()
        for node in nodes(repository, tree.hex()):
            path = base + quote(node.name)
            if _is_lost(node, lost):
                paths.append(f"{path}/" if node.type is NodeType.DIR else path)
            elif node.subtree and bytes.fromhex(node.subtree) in harmed:
                waiting.append((f"{path}/", bytes.fromhex(node.subtree)))
    return Salvage(point=point, lost=tuple(sorted(paths)))


def _is_lost(node: Node, lost: Collection[tuple[bool, bytes]]) -> bool:
    if node.type is NodeType.DIR:
        return bool(node.subtree) and (True, bytes.fromhex(node.subtree)) in lost
    return any((False, bytes.fromhex(blob)) in lost for blob in node.content or ())


def rebuild(
    repository: Repository,
    salvage: Salvage,
    lost: Collection[tuple[bool, bytes]],
    *,
    now: datetime,
    retain_until: datetime | None = None,
) -> SnapshotDoc:
    """Write the trees of a salvaged point and return its snapshot, which is not written yet: publishing is the caller's.

    Raises: Damaged (nothing can be saved, or it fell to damage since the plan).
    """
    if salvage.hopeless:
        raise Damaged(
            "nothing of the recovery point can be read: its root is lost", where=repository.where(Layout.snapshot(salvage.point.id))
        )
    key = Layout.snapshot(salvage.point.id)
    old = SnapshotDoc.decode(repository.load_document(key), where=repository.where(key))
    walk = HarmWalk(repository, dict.fromkeys(lost, 0))
    root = bytes.fromhex(old.tree)
    walk.look(root)
    made: dict[bytes, str] = {}
    with Writer(repository, retain_until=retain_until) as writer:
        for tree in walk.order():
            left = (_mended(node, made) for node in nodes(repository, tree.hex()) if not _is_lost(node, lost))
            if tree == root:
                kept = list(left)
                document = _document(repository, kept, salvage, made, now)
                made[tree] = writer.save_tree(_with_file(writer, kept, *document, now=now))
            else:
                made[tree] = writer.save_encoded(_spooled(writer, left))
        writer.flush()
    if any((True, bytes.fromhex(tree)) in lost for tree in made.values()):
        raise Damaged("what would be written is among what is lost", where=repository.store.url, hint="make a new recovery point")
    return replace(old, tree=made[root], tags=_tags(old.tags, salvage.point.id), original=salvage.point.id, parent="")


def _spooled(writer: Writer, left: Iterator[Node]) -> EncodedBlob:
    """Write a directory whose entries stand in their order already, a part at a time."""
    spool = Spool(writer.repository.key, version=writer.repository.version)
    while part := [encode_node(node) for node in islice(left, _AT_ONCE)]:
        spool.add(part)
    return spool.finish()


def _mended(node: Node, made: Mapping[bytes, str]) -> Node:
    new = made.get(bytes.fromhex(node.subtree)) if node.subtree else None
    return with_subtree(node, name=node.name, subtree=new) if new else node


def _document(
    repository: Repository, nodes: Sequence[Node], salvage: Salvage, made: Mapping[bytes, str], now: datetime
) -> tuple[str, dict[str, Any]]:
    """Return the description of the point with what is lost, or a note where it has none, and its name."""
    about = {"from": salvage.point.id, "at": format_time(now)}
    missing = [_finding(path) for path in salvage.lost]
    found = next((node for node in nodes if node.name == DESCRIPTION), None)
    try:
        blobs = found.content or () if found else ()
        document = orjson.loads(b"".join(repository.blob(BlobKind.DATA, blob) for blob in blobs))
    except ValueError:
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("missing"), list):
        return NOTE, {"format": NOTE_FORMAT, SALVAGED: about, "missing": missing}
    document["complete"] = False
    document["missing"] += missing
    document[SALVAGED] = about
    for volume in document.get("volumes") or ():
        if isinstance(volume, dict) and is_id(str(volume.get("tree"))):
            volume["tree"] = made.get(bytes.fromhex(volume["tree"]), volume["tree"])
    return DESCRIPTION, document


def _with_file(writer: Writer, nodes: Sequence[Node], name: str, document: dict[str, Any], *, now: datetime) -> list[Node]:
    """Return the entries with this file in the place of one of its name."""
    saved = writer.save_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
    mtime = int(now.timestamp()) * 1_000_000_000
    return [*(node for node in nodes if node.name != name), Node.file(name, content=saved.content, size=saved.size, mtime_ns=mtime)]


def _finding(path: str) -> dict[str, str]:
    return {"where": path, "message": "its data is lost: the repository was damaged", "remedy": "", "severity": "error"}


def _tags(tags: Sequence[str], old: str) -> tuple[str, ...]:
    """Return the tags of the salvaged point: never complete, and salvaged from the old one."""
    kept = ["verdict=partial" if tag.startswith("verdict=") else tag for tag in tags if not tag.startswith(f"{SALVAGED}=")]
    return (*kept, f"{SALVAGED}={old}")
