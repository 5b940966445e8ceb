"""Reads a repository back and names what is damaged: each with the object and what hangs on it. It changes nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from becalm.errors import Damaged, NotFound
from becalm.repository.crypto import OVERHEAD
from becalm.repository.format import BlobKind, IndexedBlob, Layout, NodeType, SnapshotDoc
from becalm.repository.pack import read_blob, read_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from becalm.repository.node import Node
    from becalm.repository.reader import Repository
    from becalm.storage.base import Key

_READERS = 3


class Report(Protocol):
    """Where a check says how far it is."""

    def __call__(self, message: str, *, done: int | None = None, total: int | None = None) -> None:
        """Say one thing."""


def silent(message: str, *, done: int | None = None, total: int | None = None) -> None:
    """Say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Damage:
    """One thing that is wrong."""

    where: str
    """The object, or the blob and the path that needs it."""
    problem: str

    def __str__(self) -> str:
        """`where: problem`."""
        return f"{self.where}: {self.problem}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a tree needs, and what of it is not whole."""

    damages: tuple[Damage, ...]
    keys: tuple[Key, ...]
    """Every object without which the tree cannot be read: packs, index objects, the config and the keys."""


def check(
    repository: Repository, *, snapshots: Sequence[str] | None = None, read_data: bool = False, progress: Report = silent
) -> list[Damage]:
    """Check what the snapshots (all of them, unless told which) need; with `read_data` every byte of those packs.

    Each tree is read; each blob must be in the index, each pack in the bucket with the size that its blobs and its header make.
    """
    work = _Check(repository, progress)
    for snapshot_id in snapshots if snapshots is not None else _all(repository):
        work.snapshot(snapshot_id)
    work.packs()
    if read_data:
        work.read()
    return sorted(set(work.damages))


def check_tree(repository: Repository, tree_id: str, *, read_data: bool = False, progress: Report = silent) -> Checked:
    """Check one tree, whether or not a snapshot speaks of it, and name the objects that it needs."""
    work = _Check(repository, progress)
    work.tree(tree_id, "/")
    work.packs()
    if read_data:
        work.read()
    store = repository.store
    others = [Layout.CONFIG, *(info.key for prefix in (Layout.KEYS, Layout.INDEX) for info in store.list(prefix))]
    keys = (*others, *(Layout.pack(pack) for pack in work.needed()))
    return Checked(damages=tuple(sorted(set(work.damages))), keys=keys)


def _all(repository: Repository) -> list[str]:
    return [info.key.removeprefix(Layout.SNAPSHOTS) for info in repository.store.list(Layout.SNAPSHOTS)]


class _Check:
    """One check."""

    def __init__(self, repository: Repository, progress: Report) -> None:
        self.repository = repository
        self._progress = progress
        self.damages: list[Damage] = []
        self._trees: set[bytes] = set()
        self._packs: set[str] = set()
        self._whole: set[str] = set()

    def _damaged(self, where: str, problem: str) -> None:
        self.damages.append(Damage(where=where, problem=problem))

    def snapshot(self, snapshot_id: str) -> None:
        """Follow one snapshot through its trees."""
        key = Layout.snapshot(snapshot_id)
        where = self.repository.where(key)
        try:
            tree = SnapshotDoc.decode(self.repository.load_document(key), where=where).tree
        except Damaged as error:
            self._damaged(error.where or where, error.message)
            return
        except NotFound:
            self._damaged(where, "the snapshot is not there")
            return
        self.tree(tree, f"{snapshot_id[:12]}:/")

    def needed(self) -> list[str]:
        """Return the packs of what was followed."""
        return sorted(self._packs)

    def tree(self, root: str, path: str) -> None:
        """Follow a tree to its files."""
        stack = [(root, path)]
        while stack:
            tree, path = stack.pop()
            if bytes.fromhex(tree) in self._trees:
                continue
            self._trees.add(bytes.fromhex(tree))
            if len(self._trees) % 100 == 0:
                self._progress(f"{len(self._trees)} directories")
            try:
                self._needs(BlobKind.TREE, tree, path)
                nodes = self.repository.tree(tree)
            except Damaged as error:
                self._damaged(f"tree {tree}, which is {path}", str(error))
                continue
            for node in nodes:
                below = f"{path}{node.name}"
                if node.type is NodeType.DIR:
                    if node.subtree:
                        stack.append((node.subtree, f"{below}/"))
                    else:
                        self._damaged(below, "the directory has no tree")
                elif node.type is NodeType.FILE:
                    self._file(node, below)

    def _file(self, node: Node, path: str) -> None:
        size = 0
        for blob in node.content or ():
            try:
                size += self._needs(BlobKind.DATA, blob, path)
            except Damaged as error:
                self._damaged(f"blob {blob}, which {path} needs", error.message)
                return
        if size != node.size:
            self._damaged(path, f"the file should have {node.size} bytes, its blobs have {size}")

    def _needs(self, kind: BlobKind, blob_id: str, path: str) -> int:
        """Note the pack of a blob and return the blob's length. Raises Damaged."""
        place = self.repository.index.lookup(kind, blob_id)
        if place is None:
            raise Damaged("no index knows it", where=path)
        self._packs.add(place.pack)
        return place.blob.uncompressed_length or place.blob.length - OVERHEAD

    def packs(self) -> None:
        """Compare the packs that are needed with what is in the bucket."""
        sizes = self.repository.index.pack_sizes()
        found = {info.key.rpartition("/")[2]: info.size for info in self.repository.store.list(Layout.DATA)}
        for pack in self.needed():
            where = self.repository.where(Layout.pack(pack))
            if pack not in found:
                self._damaged(where, "the pack is not there")
            elif found[pack] < sizes[pack]:
                self._damaged(where, f"the pack has {found[pack]} bytes, its blobs need {sizes[pack]}")
            else:
                self._whole.add(pack)

    def read(self) -> None:
        """Read every byte of the packs that are there, a few at a time."""
        listed: dict[str, list[IndexedBlob]] = {pack: [] for pack in self._whole}
        for place in self.repository.index.entries():
            if place.pack in listed:
                listed[place.pack].append(place.blob)
        with ThreadPoolExecutor(max_workers=_READERS, thread_name_prefix="check") as pool:
            for done, _ in enumerate(pool.map(self._read, listed.items()), 1):
                self._progress("packs read", done=done, total=len(listed))

    def _read(self, item: tuple[str, Iterable[IndexedBlob]]) -> None:
        pack, blobs = item
        where = self.repository.where(Layout.pack(pack))
        try:
            body = self.repository.store.get(Layout.pack(pack))
        except (NotFound, Damaged) as error:
            self._damaged(where, error.message)
            return
        if sha256(body).hexdigest() != pack:
            self._damaged(where, "the pack is not what its name says")
        view = memoryview(body)
        try:
            header = set(read_header(self.repository.key, body, where=where))
        except Damaged as error:
            self._damaged(where, error.message)
            header = None
        for blob in sorted(set(blobs), key=lambda blob: blob.offset):
            if header is not None and blob not in header:
                self._damaged(where, f"the index says that the blob {blob.id} lies in it, its header does not")
            try:
                read_blob(self.repository.key, view[blob.offset : blob.offset + blob.length], blob, where=where)
            except Damaged as error:
                self._damaged(where, f"blob {blob.id}: {error.message}")
