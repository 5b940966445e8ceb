"""Which entries of a tree a pattern means: segment by segment, so that only the folders on the way are read.

`*`, `?` and `[…]` stand for names within one segment, and never for a slash. A name that holds such characters itself is found by
writing it as it is. Nothing here restores anything.
"""

from __future__ import annotations

import re
from fnmatch import translate
from typing import TYPE_CHECKING

from becalm.repository.format import NodeType
from becalm.repository.node import read_entry
from becalm.repository.seek import entry_named
from becalm.repository.tree import nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.repository.node import Node
    from becalm.repository.reader import Repository

_WILD = re.compile(r"[*?\[]")


def match(repository: Repository, tree_id: str, pattern: str) -> list[str]:
    """Return the paths that a pattern means, in the order of the tree; none where nothing fits. Raises: Damaged."""
    parts = [part for part in pattern.split("/") if part]
    if not parts:
        return []
    return list(_below(repository, tree_id, parts, ""))


def _below(repository: Repository, tree_id: str, parts: list[str], prefix: str) -> Iterator[str]:
    first, *rest = parts
    for node in _named(repository, tree_id, first):
        path = f"{prefix}{node.name}"
        if not rest:
            yield path
        elif node.type is NodeType.DIR and node.subtree:
            yield from _below(repository, node.subtree, rest, f"{path}/")


def _named(repository: Repository, tree_id: str, pattern: str) -> list[Node]:
    """Return the entry of exactly this name; without one, those that the pattern means."""
    exact = entry_named(repository, tree_id, pattern)
    if exact is not None:
        return [read_entry(exact, where=f"{repository.store.url}: tree {tree_id}")]
    if not _WILD.search(pattern):
        return []
    fits = re.compile(translate(pattern)).match
    return [node for node in nodes(repository, tree_id) if fits(node.name)]
