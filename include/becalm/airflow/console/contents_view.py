"""What stands in a recovery point, folder by folder. Pure, but for the tree that it reads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

from becalm.errors import NotFound, UsageError
from becalm.repository.node import NodeType
from becalm.repository.tree import lookup, nodes, segments

if TYPE_CHECKING:
    from becalm.model import RecoveryPoint
    from becalm.repository.node import Node
    from becalm.repository.reader import Repository

PAGE = 500
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One entry of a folder."""

    name: str
    path: str
    kind: str
    """dir, file, symlink …"""
    size: int
    mode: str
    owner: str
    modified: datetime | None
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Crumb:
    """A folder on the way."""

    name: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """One page of a folder."""

    path: str
    crumbs: tuple[Crumb, ...]
    items: tuple[Item, ...]
    page: int
    more: bool


def checked(path: str, root: str) -> str:
    """Return a path below `root`, as it stands in the tree. Raises UsageError for one that leads elsewhere."""
    try:
        parts = segments(path) if path.strip("/") else [root]
    except ValueError as error:
        raise UsageError("the path leads out of the recovery point", hint="go back to the recovery point") from error
    if parts[0] != root:
        raise UsageError(f"the path does not begin with {root}", hint="go back to the recovery point")
    return "/".join(parts)


def folder(repository: Repository, point: RecoveryPoint, path: str, *, page: int) -> Folder:
    """Return one page of a folder. Raises: NotFound, Damaged."""
    node = lookup(repository, point.tree, path)
    if node.type is not NodeType.DIR:
        raise NotFound(f"{path!r} is a {node.type}, not a folder", hint="go back to its folder")
    entries = nodes(repository, node.subtree) if node.subtree else iter(())
    shown = list(islice(entries, (page - 1) * PAGE, page * PAGE + 1))
    parts = path.split("/")
    return Folder(
        path=path,
        crumbs=tuple(Crumb(name=part, path="/".join(parts[: place + 1])) for place, part in enumerate(parts)),
        items=tuple(_item(one, f"{path}/{one.name}") for one in shown[:PAGE]),
        page=page,
        more=len(shown) > PAGE,
    )


def _item(node: Node, path: str) -> Item:
    return Item(
        name=node.name,
        path=path,
        kind=str(node.type),
        size=node.size,
        mode=f"{node.mode & 0o7777:04o}",
        owner=f"{node.user or node.uid}:{node.group or node.gid}",
        modified=_EPOCH + timedelta(microseconds=node.mtime_ns // 1000) if node.mtime_ns > 0 else None,
        target=node.linktarget,
    )


def page_asked(text: str) -> int:
    """Read the number of a page. Raises UsageError."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= 10**6):
        raise UsageError(f"{text[:20]!r} is no page", hint="go back to the first page")
    return int(text)
