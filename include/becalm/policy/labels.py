"""Label selectors as Kubernetes writes them: `app=web, tier in (db, cache), !legacy`. A comma means AND.

Pure text and matching; who is asked is said in `select`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from becalm.policy.problems import Problem, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REMEDY = 'write terms such as "app=web", "app!=web", "tier in (db, cache)", "tier notin (db)", "app", "!app", with commas for AND'

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_PREFIX = r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
_KEY = re.compile(rf"(?:{_PREFIX}/)?{_NAME}")
_VALUE = re.compile(rf"(?:{_NAME})?")
_SET = re.compile(r"(?P<key>\S+)\s+(?P<word>in|notin)\s*\((?P<values>[^()]*)\)")
_LONGEST = 4096


class Is(StrEnum):
    """How a term asks for a label."""

    IN = "in"
    NOT_IN = "notin"
    THERE = "exists"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One condition on one label. `notin` and `!=` also hold where the label is absent, as in Kubernetes."""

    key: str
    how: Is
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Say whether these labels answer the term."""
        match self.how:
            case Is.IN:
                return self.key in labels and labels[self.key] in self.values
            case Is.NOT_IN:
                return self.key not in labels or labels[self.key] not in self.values
            case Is.THERE:
                return self.key in labels
            case Is.ABSENT:
                return self.key not in labels

    def __str__(self) -> str:
        """The term as Kubernetes reads it."""
        match self.how:
            case Is.THERE:
                return self.key
            case Is.ABSENT:
                return f"!{self.key}"
            case Is.IN | Is.NOT_IN if len(self.values) == 1:
                return f"{self.key}{'=' if self.how is Is.IN else '!='}{next(iter(self.values))}"
            case _:
                return f"{self.key} {self.how} ({','.join(sorted(self.values))})"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSelector:
    """Terms that must all hold. Without terms, everything answers."""

    terms: tuple[Term, ...] = ()

    @classmethod
    def parse(cls, text: str) -> LabelSelector:
        """Read a selector. Raises Problem; an empty text is a problem too."""
        if len(text) > _LONGEST:
            raise Problem(f"the selector is longer than {_LONGEST} characters", "select by fewer labels, or label the objects together")
        if not text.strip():
            raise Problem("the selector is empty", "leave the key out, or " + REMEDY)
        return cls(terms=tuple(_term(part.strip(), whole=text) for part in _parts(text)))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Say whether these labels answer every term."""
        return all(term.matches(labels) for term in self.terms)

    def __str__(self) -> str:
        """The selector as Kubernetes reads it."""
        return ",".join(str(term) for term in self.terms)


def _parts(text: str) -> Iterator[str]:
    """Split at the commas that stand outside brackets."""
    start, open_brackets = 0, 0
    for place, char in enumerate(text):
        if char == "(":
            open_brackets += 1
        elif char == ")":
            open_brackets -= 1
        elif char == "," and open_brackets <= 0:
            yield text[start:place]
            start = place + 1
    yield text[start:]


def _term(text: str, *, whole: str) -> Term:
    if not text:
        raise Problem(f"{quoted(whole)} has an empty term", REMEDY)
    if found := _SET.fullmatch(text):
        how = Is.IN if found["word"] == "in" else Is.NOT_IN
        return Term(key=_key(found["key"]), how=how, values=frozenset(_value(value.strip()) for value in found["values"].split(",")))
    if "!=" in text:
        key, _, value = text.partition("!=")
        return Term(key=_key(key.strip()), how=Is.NOT_IN, values=frozenset({_value(value.strip())}))
    if "=" in text:
        key, _, value = text.partition("=")
        return Term(key=_key(key.strip()), how=Is.IN, values=frozenset({_value(value.removeprefix("=").strip())}))
    if text.startswith("!"):
        return Term(key=_key(text[1:].strip()), how=Is.ABSENT)
    return Term(key=_key(text), how=Is.THERE)


def _key(text: str) -> str:
    if not _KEY.fullmatch(text):
        raise Problem(f"{quoted(text)} is not the key of a label", REMEDY)
    return text


def _value(text: str) -> str:
    if not _VALUE.fullmatch(text):
        raise Problem(f"{quoted(text)} is not the value of a label", "write at most 63 letters, digits, '-', '_' and '.'; " + REMEDY)
    return text
