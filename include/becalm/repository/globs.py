"""Which entries of a tree a pattern means: segment by segment, so that only the folders on the way are read.

`*`, `?` and `[…]` stand for names within one segment, and never for a slash. A name that holds such characters itself is found by
writing it as it is. Nothing here restores anything.
"""

from __future__ import annotations

import re
from fnmatch import translate
from typing import TYPE_CHECKING

from becalm.repository.format import NodeType

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
    return [path for path, _ in _below(repository, tree_id, parts, "")]


def _below(repository: Repository, tree_id: str, parts: list[str], prefix: str) -> Iterator[tuple[str, Node]]:
    first, *rest = parts
    for node in _named(repository.tree(tree_id), first):
        path = f"{prefix}{node.name}"
        if not rest:
            yield path, node
        elif node.type is NodeType.DIR and node.subtree:
            yield from _below(repository, node.subtree, rest, f"{path}/")


def _named(nodes: list[Node], pattern: str) -> list[Node]:
    """Return the entry of exactly this name; without one, those that the pattern means."""
    exact = [node for node in nodes if node.name == pattern]
    if exact or not _WILD.search(pattern):
        return exact
    fits = re.compile(translate(pattern)).match
    return [node for node in nodes if fits(node.name)]
