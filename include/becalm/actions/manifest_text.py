"""The text of manifests as plain values: YAML in several documents, or JSON, read as kubectl reads it, with its traps disarmed.

A document is refused as a whole where it says a key twice, uses a tag of its own, or comes to more values or levels than any API object
has; aliases are counted as if they were written out. What is refused is told with its line. It knows nothing of Kubernetes.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST_BYTES = 32 << 20
"""Bundles of definitions come to a few MiB."""
DEEPEST = 100
MOST_NODES = 2_000_000
"""How many values one file may come to, once every alias is written out."""

_CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys((form for word in ("true", "yes", "on") for form in (word, word.title(), word.upper())), True),
    **dict.fromkeys((form for word in ("false", "no", "off") for form in (word, word.title(), word.upper())), False),
}
"""As kubectl's YAML has them: version 1.1, where `on` is no text."""
_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9_]{0,24})", re.ASCII)
_OCTAL = re.compile(r"([-+]?)0o?([0-7_]{1,24})", re.ASCII)
_HEXADECIMAL = re.compile(r"([-+]?)0x([0-9a-fA-F_]{1,20})", re.ASCII)
_BROKEN = re.compile(r"[-+]?(?:\.[0-9]{1,30}|[0-9]{1,30}(?:\.[0-9]{0,30})?)(?:[eE][-+]?[0-9]{1,3})?", re.ASCII)
_TEXT = "tag:yaml.org,2002:str"
_PLAIN_TAGS = frozenset({"!", _TEXT, "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Only its parser is used: nothing is composed or constructed by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One document of a file."""

    value: Any
    line: int


class Unreadable(Exception):  # noqa: N818  (becomes a finding in `declared`)
    """Why a text says nothing that can be trusted, and in which line."""

    def __init__(self, problem: str, line: int = 0) -> None:
        """Keep the sentence."""
        super().__init__(f"{problem} (line {line})" if line else problem)


def read(text: bytes) -> list[Written]:
    """Return the documents of a file, without the empty ones. Raises Unreadable."""
    if len(text) > LARGEST_BYTES:
        raise Unreadable(f"is larger than {LARGEST_BYTES >> 20} MiB")
    loader = None
    try:
        loader = _Loader(text.decode("utf-8-sig"))
        return list(_Reader(loader).documents())
    except UnicodeDecodeError as error:
        raise Unreadable(f"is not UTF-8 (byte {error.start + 1})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
        raise Unreadable(f"is not YAML: {problem}", mark.line + 1 if mark else 0) from None
    finally:
        if loader is not None:
            loader.dispose()


class _Reader:
    """Builds values out of the parser's events, in one pass."""

    def __init__(self, loader: Any) -> None:
        self._next = loader.get_event
        self._nodes = 0
        self._anchors: dict[str, tuple[Any, int]] = {}

    def documents(self) -> Iterator[Written]:
        """Yield each document that says something."""
        self._next()  # the start of the stream
        while isinstance(start := self._next(), yaml.DocumentStartEvent):
            self._anchors = {}
            first = self._next()
            value = self._value(first, 0)
            self._next()  # the end of the document
            if value is not None:
                yield Written(value=value, line=_line(first) if start.explicit or first.start_mark.line else 1)

    def _value(self, event: Any, depth: int) -> Any:
        if depth > DEEPEST:
            raise Unreadable(f"is nested deeper than {DEEPEST} levels", _line(event))
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        self._count(event, 1)
        if event.tag is not None and event.tag not in _PLAIN_TAGS:
            raise Unreadable("has a tag, and tags are not read", _line(event))
        before = self._nodes
        value: Any
        if isinstance(event, yaml.MappingStartEvent):
            value = self._mapping(depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = [self._value(item, depth + 1) for item in self._until(yaml.SequenceEndEvent)]
        else:
            value = event.value if event.tag == _TEXT or not event.implicit[0] else scalar(event.value)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, self._nodes - before + 1)
        return value

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self._anchors:
            raise Unreadable("has an alias that refers to nothing above it, or to itself", _line(event))
        value, nodes = self._anchors[event.anchor]
        self._count(event, nodes)
        return value

    def _count(self, event: Any, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MOST_NODES:
            raise Unreadable(f"comes to more than {MOST_NODES} values once its aliases are written out", _line(event))

    def _mapping(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for event in self._until(yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise Unreadable("has a key that is not a text", _line(event))
            key, value = event.value, self._value(self._next(), depth + 1)
            if key == "<<" and event.implicit[0]:
                merged = {**_merged(value, _line(event)), **merged}
                continue
            if key in found:
                raise Unreadable("says one key twice", _line(event))
            found[key] = value
        return {**merged, **found} if merged else found

    def _until(self, end: type) -> Iterator[Any]:
        while not isinstance(event := self._next(), end):
            yield event


def _merged(value: Any, line: int) -> dict[str, Any]:
    """Return what a merge key brings; of several mappings the first that says a key wins."""
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, dict) for part in parts):
        raise Unreadable("merges what is not a mapping", line)
    return {key: item for part in reversed(parts) for key, item in part.items()}


def scalar(text: str) -> Any:
    """Return what a plain word means: a constant, a number, or the text. Times and dates are texts, as in every API object."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    for form, base in ((_OCTAL, 8), (_HEXADECIMAL, 16)):
        if (found := form.fullmatch(text)) and found[2].strip("_"):
            return int(found[1] + found[2].strip("_"), base)
    if _BROKEN.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1
