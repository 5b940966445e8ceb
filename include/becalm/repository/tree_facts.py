"""What a check must know of trees, in columns: which trees and blobs they need, and how long their files are.

Names and times stay behind: a tree of millions of files becomes a few arrays. Which recovery point a tree belongs to is not known here.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from becalm.repository.scan import SLAB, TREE, parts_of, slabs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from becalm.repository.crypto import Buffer

_TYPES = frozenset(("file", "dir", "symlink", "dev", "chardev", "fifo", "socket", "irregular"))
_ID_DIGITS = 64
_MOST_PROBLEMS = 20
"""Of one tree: who lost more knows enough."""


@dataclass(slots=True)
class TreeFacts:
    """Some trees. Ids are raw, one behind the other; counts say how many belong to each tree, or to each file."""

    trees: bytearray = field(default_factory=bytearray)
    subtree_counts: array[int] = field(default_factory=lambda: array("I"))
    subtrees: bytearray = field(default_factory=bytearray)
    file_counts: array[int] = field(default_factory=lambda: array("I"))
    """Files with any content; the others need nothing."""
    blob_counts: array[int] = field(default_factory=lambda: array("I"))
    sizes: array[int] = field(default_factory=lambda: array("Q"))
    blobs: bytearray = field(default_factory=bytearray)
    problems: list[tuple[bytes, str]] = field(default_factory=list)
    """A tree that is not as trees are, and why."""

    def add(self, tree: bytes, document: Buffer) -> list[bytes]:
        """Take in one tree and return the raw ids of the trees below it. What is wrong with it becomes a problem."""
        return self.add_slabs(tree, nodes_of(document))

    def add_slabs(self, tree: bytes, slabs_of_nodes: Iterable[list[dict[str, Any]]]) -> list[bytes]:
        """The same for a tree whose entries come some at a time. Nothing is taken in before the last has come."""
        reader = _Reader()
        try:
            for nodes in slabs_of_nodes:
                reader.take(nodes)
            subtrees, blobs = bytes(reader.subtrees), reader.blobs
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.problems.append((tree, f"the tree cannot be read: {error}"))
            return []
        self.problems += [(tree, problem) for problem in reader.problems[:_MOST_PROBLEMS]]
        self.trees += tree
        self.subtree_counts.append(len(subtrees) // 32)
        self.subtrees += subtrees
        self.file_counts.append(len(reader.sizes))
        if self.blobs or self.sizes:
            self.blob_counts.extend(reader.counts)
            self.sizes.extend(reader.sizes)
            self.blobs += blobs
        else:
            self.blob_counts, self.sizes, self.blobs = reader.counts, reader.sizes, blobs
        return [subtrees[place : place + 32] for place in range(0, len(subtrees), 32)]

    def take(self, more: TreeFacts) -> None:
        """Take in the facts of other trees, which are used up; their problems are not taken."""
        if not self.trees:  # a directory may be so large that it is not copied
            self.trees, self.subtree_counts, self.subtrees = more.trees, more.subtree_counts, more.subtrees
            self.file_counts, self.blob_counts, self.sizes, self.blobs = more.file_counts, more.blob_counts, more.sizes, more.blobs
            return
        self.trees += more.trees
        self.subtree_counts.extend(more.subtree_counts)
        self.subtrees += more.subtrees
        self.file_counts.extend(more.file_counts)
        self.blob_counts.extend(more.blob_counts)
        self.sizes.extend(more.sizes)
        self.blobs += more.blobs


class _Reader:
    """Gathers from the entries of one tree."""

    def __init__(self) -> None:
        self.subtrees = bytearray()
        self.blobs = bytearray()
        self.counts = array("I")
        self.sizes = array("Q")
        self._subtrees: list[str] = []
        self._blobs: list[str] = []
        self.problems: list[str] = []

    def take(self, nodes: list[dict[str, Any]]) -> None:
        """Take in some entries."""
        for node in nodes:
            kind = node["type"]
            if kind == "file":
                content = node.get("content")
                size = node.get("size", 0)
                if content or size:
                    self._file(node, content or (), size)
            elif kind == "dir":
                if node.get("subtree"):
                    self._subtrees.append(node["subtree"])
                else:
                    self.problems.append(f"the directory {node['name']!r} has no tree")
            elif kind not in _TYPES:
                self.problems.append(f"{node['name']!r} is of the unknown type {kind!r}")
        self.subtrees += _raw(self._subtrees)
        self.blobs += _raw(self._blobs)
        self._subtrees, self._blobs = [], []

    def _file(self, node: dict[str, Any], content: Sequence[str], size: object) -> None:
        if type(size) is not int or not 0 <= size < 1 << 63:
            self.problems.append(f"the file {node['name']!r} says that it has {size!r} bytes")
            return
        self._blobs += content
        self.counts.append(len(content))
        self.sizes.append(size)


def nodes_of(document: Buffer) -> Iterator[list[dict[str, Any]]]:
    """Yield the entries of a tree as JSON gives them, some at a time. Raises ValueError, KeyError, TypeError."""
    if len(document) > SLAB:
        yield from slabs(parts_of(document), TREE)
    else:
        yield orjson.loads(document)["nodes"] or []


def _raw(ids: list[str]) -> bytes:
    """Return ids as bytes. Raises ValueError, TypeError."""
    raw = bytes.fromhex("".join(ids))
    if len(raw) * 2 != _ID_DIGITS * len(ids):
        raise ValueError("an id does not have 64 digits")
    return raw
