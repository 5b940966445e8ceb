"""A directory as the parent snapshot has it, read beside the walk: its entries stay as JSON gives them, for there may be millions.

It only says what was. Whether that still holds is the walk's to decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from becalm.errors import Damaged
from becalm.repository.quoting import to_bytes, unquote
from becalm.repository.scan import TREE, parts_of, slabs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.repository.crypto import Buffer

RawEntry: TypeAlias = dict[str, Any]

_AT_ONCE = 1 << 20
"""A directory of so many bytes is read at once; a larger one some entries at a time."""


class Before:
    """The entries of one directory. They are asked for in the order of their names."""

    __slots__ = ("_entries", "_rest", "count", "id")

    def __init__(self, tree_id: str, document: Buffer = b"", *, entries: Iterator[list[RawEntry]] | None = None) -> None:
        """Read it from its document, or take its entries some at a time. Raises Damaged."""
        self.id = tree_id
        self._entries: dict[str, RawEntry] = {}
        self._rest = entries
        try:
            if entries is not None:
                pass
            elif len(document) > _AT_ONCE:
                self._rest = slabs(parts_of(document), TREE, optional=True)
            else:
                self._entries = _by_name(orjson.loads(document)["nodes"] or ())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(error) from error
        self.count = len(self._entries) if self._rest is None else -1
        """How many entries there are; less than nothing where that is not known."""

    @classmethod
    def of(cls, tree_id: str, entries: dict[str, RawEntry]) -> Before:
        """Know these entries, and no others."""
        before = cls(tree_id, entries=iter(()))
        before._entries, before._rest = entries, None
        return before

    def find(self, name: str) -> RawEntry | None:
        """Return an entry. Names must come in the order in which a tree has them."""
        found = self._entries.get(name)
        if found is None and self._rest is not None:
            return self._find_further(name)
        return found

    def _find_further(self, name: str) -> RawEntry | None:
        wanted = to_bytes(name)
        try:
            while self._rest is not None:
                last = next(reversed(self._entries), None)
                if last is not None and to_bytes(last) >= wanted:
                    break
                slab = next(self._rest, None)
                if slab is None:
                    self._rest = None
                else:
                    self._entries = _by_name(slab)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(error) from error
        return self._entries.get(name)

    def _damaged(self, error: Exception) -> Damaged:
        return Damaged(f"the tree cannot be read: {error}", where=f"tree {self.id}", hint="run a check of the repository")


def _by_name(nodes: list[RawEntry] | tuple[()]) -> dict[str, RawEntry]:
    return {unquote(name) if "\\" in (name := node["name"]) or '"' in name else name: node for node in nodes}
