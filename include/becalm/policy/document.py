"""A policy's text as plain values, with the line of each, and with every trap of YAML disarmed.

Only mappings, lists, texts, whole numbers, true, false and nothing come out. `no`, `on`, `12:30` and `2026-01-01` are texts, as the
author meant them. What could hide or explode is refused: keys written twice, tags, merge keys, several documents, great depth and size.
It knows nothing of policies.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml

from becalm.errors import PolicyFinding
from becalm.policy.problems import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

Value: TypeAlias = "dict[str, Value] | list[Value] | str | int | bool | None"
Path: TypeAlias = "tuple[str | int, ...]"

LARGEST_BYTES = 1 << 20
DEEPEST = 32
MOST_NODES = 20_000
"""How many values a document may come to, once every alias is written out."""

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})", re.ASCII)

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Only its parser is used: nothing is composed or constructed by it."""


class Unreadable(Exception):  # noqa: N818  (never leaves `load`)
    """The text ends here: nothing after this place can be read."""

    def __init__(self, finding: PolicyFinding) -> None:
        """Keep the finding."""
        super().__init__(str(finding))
        self.finding = finding


@dataclass(slots=True, kw_only=True)
class Document:
    """What a text says, where it says it, and what was refused on the way."""

    value: Value = None
    lines: dict[Path, int] = field(default_factory=dict)
    findings: list[PolicyFinding] = field(default_factory=list)

    def line(self, path: Path) -> int | None:
        """Return the line of a value, or of the nearest thing around it that is written down."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path[:-1]
        return None

    def at(self, path: Path) -> Value:
        """Return the value at a path, or nothing."""
        here: Value = self.value
        for part in path:
            if isinstance(here, dict) and isinstance(part, str):
                here = here.get(part)
            elif isinstance(here, list) and isinstance(part, int) and part < len(here):
                here = here[part]
            else:
                return None
        return here


def dotted(path: Path) -> str:
    """Write a path with dots; a key that is not plain is shortened and quoted."""
    return ".".join(str(part) if isinstance(part, int) or re.fullmatch(r"[\w/-]{1,60}", part) else quoted(part) for part in path)


def read(text: str | bytes) -> Document:
    """Read one document whose top is a mapping. Raises Unreadable; what can be passed over is collected in `findings`."""
    plain = _decoded(text)
    loader = None
    try:
        loader = _Loader(plain)
        return _Reader(loader).document()
    except yaml.YAMLError as error:
        raise Unreadable(_syntax(error)) from None
    finally:
        if loader is not None:
            loader.dispose()


def _decoded(text: str | bytes) -> str:
    if len(text) > LARGEST_BYTES:
        raise Unreadable(
            PolicyFinding(
                path="file",
                problem="the file is larger than 1 MiB",
                remedy="a policy is a page of text; look whether this is the right file",
            )
        )
    try:
        plain = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        plain.encode()
    except UnicodeError as error:
        where = f" (byte {error.start + 1})" if isinstance(error, UnicodeDecodeError) else ""
        raise Unreadable(PolicyFinding(path="file", problem=f"the text is not UTF-8{where}", remedy="save the file as UTF-8")) from None
    return plain


def _syntax(error: yaml.YAMLError) -> PolicyFinding:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
    place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
    return PolicyFinding(
        path="file", problem=f"this is not YAML: {problem}{place}", remedy="look at the indentation, quotes and brackets there and above"
    )


class _Reader:
    """Builds values out of the parser's events, in one pass."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._out = Document()
        self._nodes = 0
        self._anchors: dict[str, tuple[Value, int]] = {}

    def document(self) -> Document:
        self._next()  # the start of the stream
        event = self._next()
        if isinstance(event, yaml.StreamEndEvent):
            raise Unreadable(
                PolicyFinding(path="file", problem="the file is empty", remedy="`becalm policy sample` prints a policy to begin with")
            )
        self._out.value = self._value(self._next(), ())
        self._next()  # the end of the document
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            raise Unreadable(
                PolicyFinding(path="file", problem=f"a second document begins (line {_line(event)})", remedy="write one policy per file")
            )
        if not isinstance(self._out.value, dict):
            problem = "the file is empty" if self._out.value is None else "the file does not hold a mapping of keys"
            raise Unreadable(PolicyFinding(path="file", problem=problem, remedy="`becalm policy sample` prints a policy to begin with"))
        return self._out

    def _next(self) -> Any:
        return self._loader.get_event()

    def _count(self, event: Any, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MOST_NODES:
            raise Unreadable(
                PolicyFinding(
                    path="file",
                    problem=f"the file comes to more than {MOST_NODES} values (line {_line(event)})",
                    remedy="write less, and use fewer aliases",
                )
            )

    def _value(self, event: Any, path: Path) -> Value:
        self._out.lines.setdefault(path, _line(event))
        if len(path) > DEEPEST:
            raise Unreadable(
                PolicyFinding(
                    path="file", problem=f"the nesting is deeper than {DEEPEST} levels (line {_line(event)})", remedy="no policy needs that"
                )
            )
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path)
        self._count(event, 1)
        before = self._nodes
        if event.tag is not None:
            self._refuse(path, event, f"the tag {quoted(event.tag)} is not read", "remove the tag; put a text in quotes")
        value: Value
        if isinstance(event, yaml.MappingStartEvent):
            value = self._mapping(path)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = [self._value(item, (*path, number)) for number, item in enumerate(self._until(yaml.SequenceEndEvent))]
        else:
            value = _scalar(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, self._nodes - before + 1)
        return value

    def _alias(self, event: Any, path: Path) -> Value:
        known = self._anchors.get(event.anchor)
        if known is None:
            self._refuse(
                path, event, f"the alias {quoted('*' + event.anchor)} refers to nothing above it, or to itself", "write the value out"
            )
            return None
        value, nodes = known
        self._count(event, nodes)
        return value

    def _mapping(self, path: Path) -> Value:
        found: dict[str, Value] = {}
        for event in self._until(yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self._refuse(path, event, "a key is not a text", "write a plain key")
                self._value(event, (*path, "?"))
                self._value(self._next(), (*path, "?"))
                continue
            key, line = event.value, _line(event)
            here = (*path, key)
            if key in found:
                self._refuse(here, event, f"the key is written twice, first in line {self._out.lines[here]}", "keep one of the two")
                self._value(self._next(), (*here, "?"))
                continue
            if key == "<<" and event.implicit[0]:
                self._refuse(here, event, "merge keys are not read", "write the keys out")
            self._out.lines[here] = line
            found[key] = self._value(self._next(), here)
        found.pop("<<", None)
        return found

    def _until(self, end: type) -> Iterator[Any]:
        while not isinstance(event := self._next(), end):
            yield event

    def _refuse(self, path: Path, event: Any, problem: str, remedy: str) -> None:
        self._out.findings.append(PolicyFinding(path=dotted(path) or "file", problem=f"{problem} (line {_line(event)})", remedy=remedy))


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _scalar(event: Any) -> Value:
    text: str = event.value
    if not event.implicit[0]:
        return text
    if text in _WORDS:
        return _WORDS[text]
    return int(text) if _WHOLE.fullmatch(text) else text
