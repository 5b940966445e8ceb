"""Directories: built in memory, joined, walked, and looked up by path.

Paths are segments between slashes; the root is the empty path. Trees that come out of a repository are streamed, one directory
at a time. Nothing here touches a file system.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

from becalm.errors import NotFound
from becalm.repository.format import BlobId, NodeType
from becalm.repository.listing import listing
from becalm.repository.node import Node, read_entry
from becalm.repository.quoting import quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from becalm.repository.crypto import Buffer
    from becalm.repository.reader import Repository
    from becalm.repository.writer import Writer

_Folder: TypeAlias = "dict[str, Node | _Folder | _Bytes]"


class _Bytes:
    """A file that is to be written."""

    __slots__ = ("data", "mode", "mtime_ns")

    def __init__(self, data: Buffer, mode: int, mtime_ns: int) -> None:
        self.data, self.mode, self.mtime_ns = data, mode, mtime_ns


class TreeBuilder:
    """A tree that is put together path by path. Folders between come by themselves: root's, 0755, of the builder's time."""

    def __init__(self, *, mtime: datetime | None = None) -> None:
        """Begin an empty tree."""
        self._root: _Folder = {}
        self._mtime_ns = _nanoseconds(mtime)

    def add_bytes(self, path: str, data: Buffer, *, mode: int = 0o644, mtime: datetime | None = None) -> None:
        """Put a file there. The data is held until the tree is written. Raises ValueError where something is there."""
        self._put(path, _Bytes(data, mode, _nanoseconds(mtime) if mtime else self._mtime_ns))

    def add_node(self, path: str, node: Node) -> None:
        """Put an entry there; the path's last segment becomes its name. Raises ValueError where something is there."""
        self._put(path, node.renamed(segments(path)[-1]))

    def add_tree(self, path: str, subtree: BlobId, *, like: Node | None = None) -> None:
        """Put a directory there that is in the repository already, with owner, mode and times as `like` has them."""
        name = segments(path)[-1]
        if like is None:
            node = Node.directory(name, subtree=subtree, mtime_ns=self._mtime_ns)
        else:
            node = with_subtree(like, name=name, subtree=subtree)
        self._put(path, node)

    def write(self, writer: Writer) -> BlobId:
        """Write all of it and return the id of its root. An empty tree is a tree."""
        return self._write(self._root, writer)

    def _put(self, path: str, entry: Node | _Bytes) -> None:
        *folders, name = segments(path)
        place = self._root
        for folder in folders:
            found = place.setdefault(folder, {})
            if not isinstance(found, dict):
                raise ValueError(f"{path!r}: {folder!r} is not a folder that can be added to")  # noqa: TRY004  a wrong path, not a wrong type
            place = found
        if name in place:
            raise ValueError(f"{path!r} is there already")
        place[name] = entry

    def _write(self, folder: _Folder, writer: Writer) -> BlobId:
        nodes: list[Node] = []
        for name, entry in folder.items():
            if isinstance(entry, dict):
                nodes.append(Node.directory(name, subtree=self._write(entry, writer), mtime_ns=self._mtime_ns))
            elif isinstance(entry, _Bytes):
                saved = writer.save_bytes(entry.data)
                nodes.append(Node.file(name, content=saved.content, size=saved.size, mode=entry.mode, mtime_ns=entry.mtime_ns))
            else:
                nodes.append(entry)
        return writer.save_tree(nodes)


def _nanoseconds(moment: datetime | None) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000 if moment else 0


def segments(path: str) -> list[str]:
    """Split a path. Raises ValueError for the root and for segments that no directory can have."""
    parts = path.strip("/").split("/")
    if any(part in {"", ".", ".."} or "\0" in part for part in parts):
        raise ValueError(f"{path!r} is not a path in a tree")
    return parts


def with_subtree(node: Node, *, name: str, subtree: BlobId) -> Node:
    """Return a directory's entry with another name and content."""
    return Node(
        name=name,
        type=NodeType.DIR,
        mode=node.mode,
        mtime_ns=node.mtime_ns,
        atime_ns=node.atime_ns,
        ctime_ns=node.ctime_ns,
        uid=node.uid,
        gid=node.gid,
        user=node.user,
        group=node.group,
        inode=node.inode,
        xattrs=node.xattrs,
        subtree=subtree,
    )


def join(repository: Repository, writer: Writer, trees: Sequence[BlobId]) -> BlobId:
    """Lay trees over one another: folders merge, and of anything else with the same name the later one wins.

    What only one of them has is taken as it is, without being read. The trees must be in the repository: a writer that has just
    written them must have been flushed. Raises: Damaged.
    """
    distinct = list(dict.fromkeys(reversed(trees)))[::-1]
    if not distinct:
        return writer.save_tree(())
    if len(distinct) == 1:
        return distinct[0]
    merged: dict[str, list[Node]] = {}
    for tree in distinct:
        for node in repository.tree(tree):
            rivals = merged.setdefault(node.name, [])
            if rivals and not (node.type is NodeType.DIR and rivals[-1].type is NodeType.DIR):
                rivals.clear()
            rivals.append(node)
    nodes: list[Node] = []
    for name, rivals in merged.items():
        last = rivals[-1]
        if len(rivals) > 1:
            last = with_subtree(last, name=name, subtree=join(repository, writer, [rival.subtree for rival in rivals]))
        nodes.append(last)
    return writer.save_tree(nodes)


def nodes(repository: Repository, tree_id: BlobId) -> Iterator[Node]:
    """Yield the entries of a directory, however many there are. Raises: Damaged."""
    where = f"{repository.store.url}: tree {tree_id}"
    for entries in listing(repository, tree_id):
        for entry in entries:
            yield read_entry(entry, where=where)


def walk(repository: Repository, tree_id: BlobId, *, prefix: str = "") -> Iterator[tuple[str, Node]]:
    """Yield every entry with its path, each directory before what is in it, in the order of the names. Raises: Damaged."""
    stack = [(prefix, nodes(repository, tree_id))]
    while stack:
        base, entries = stack[-1]
        node = next(entries, None)
        if node is None:
            stack.pop()
            continue
        path = f"{base}/{node.name}" if base else node.name
        yield path, node
        if node.type is NodeType.DIR and node.subtree:
            stack.append((path, nodes(repository, node.subtree)))


def lookup(repository: Repository, tree_id: BlobId, path: str) -> Node:
    """Return the entry at a path; the root is a plain directory without a name. Raises: NotFound, Damaged."""
    found: Node | None = Node.directory("", subtree=tree_id)
    for part in path.strip("/").split("/") if path.strip("/") else ():
        found = _child(repository, found.subtree, part) if found and found.subtree else None
    if found is None:
        raise NotFound(f"there is no {path!r} in the tree {tree_id[:12]}", where=repository.store.url)
    return found


def _child(repository: Repository, tree_id: BlobId, name: str) -> Node | None:
    """Return the entry of a name; of the others no noun is made."""
    where = f"{repository.store.url}: tree {tree_id}"
    quoted = quote(name)
    for entries in listing(repository, tree_id):
        for entry in entries:
            said = entry.get("name") if isinstance(entry, dict) else None
            if said == quoted or (isinstance(said, str) and "\\" in said and read_entry(entry, where=where).name == name):
                return read_entry(entry, where=where)
    return None
