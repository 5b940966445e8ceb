"""Large JSON documents, read a slab at a time: an array of a million elements never stands in memory as objects at once.

A slab is cut where an element ends. Whether it does is not guessed: a slab that is cut elsewhere is not JSON, so it is cut again
further on. Documents that are small, or laid out in another way, are read at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SLAB = 1 << 20
"""Bytes of JSON that are read at a time."""

_TRIES = 8
"""So many cuts are tried before the slab is made larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a document is laid out by those who write it: `{"key":[` and then elements."""

    key: str
    opening: bytes
    boundary: re.Pattern[bytes]
    """Where an element ends and another begins: it matches `},` and what the next element begins with, the comma in group 1."""


TREE = Shape(key="nodes", opening=b'{"nodes":[', boundary=re.compile(rb'\}(,)\{"name":"(?:[^"\\]|\\.)*+","type":'))
INDEX = Shape(key="packs", opening=b'{"packs":[', boundary=re.compile(rb'\]\}(,)\{"id":"'))


def parts_of(document: bytes | bytearray | memoryview) -> Iterator[memoryview]:
    """Yield a document that is in memory, a slab at a time."""
    with memoryview(document) as view:
        for begin in range(0, len(view), SLAB):
            yield view[begin : begin + SLAB]


def slabs(
    parts: Iterable[bytes | bytearray | memoryview], shape: Shape, *, optional: bool = False, slab: int = SLAB
) -> Iterator[list[Any]]:
    """Yield the elements of the document's one array, some at a time. The document comes in parts, which are used up.

    `optional`: the array may be missing. Raises ValueError where it is not JSON, KeyError or TypeError where it is laid out otherwise.
    """
    source = iter(parts)
    held = bytearray()
    wanted = slab
    more = True
    inside = False
    while more:
        while len(held) < wanted:
            part = next(source, None)
            if part is None:
                more = False
                break
            held += part
        if not more:
            break
        if not inside:
            if not held.startswith(shape.opening):
                for part in source:
                    held += part
                break
            inside = True
            del held[: len(shape.opening)]
            continue
        taken = _cut(held, shape, slab=slab)
        if taken is None:
            wanted = 2 * max(len(held), wanted)
            continue
        wanted = slab
        elements, end = taken
        del held[:end]
        yield elements
    document = orjson.loads(shape.opening + held if inside else held)
    if not isinstance(document, dict):
        raise TypeError("it is not a JSON object")
    elements = (document.get(shape.key) if optional else document[shape.key]) or []
    if not isinstance(elements, list):
        raise TypeError(f"its {shape.key} are not an array")
    yield elements


def _cut(held: bytearray, shape: Shape, *, slab: int) -> tuple[list[Any], int] | None:
    """Return the elements that end within what is held, and where the next begins. Nothing where no end is found."""
    places = [match.start(1) for match in shape.boundary.finditer(held, max(0, len(held) - slab // 8))][-_TRIES:]
    if not places:
        places = [match.start(1) for match in shape.boundary.finditer(held)][-_TRIES:]
    for place in reversed(places):
        with memoryview(held) as view:
            candidate = b"".join((b"[", view[:place], b"]"))
        try:
            return orjson.loads(candidate), place + 1
        except ValueError:
            continue
    return None
