"""Patterns for names: `*` stands for any run of characters, `?` for one. Nothing else is special."""

from __future__ import annotations

import re

from becalm.model import CORE_GROUP
from becalm.policy.problems import Problem, quoted

_NAMESPACE = re.compile(r"[a-z0-9*?](?:[a-z0-9*?-]{0,61}[a-z0-9*?])?")
_CLAIM = re.compile(r"[a-z0-9*?](?:[a-z0-9.*?-]{0,251}[a-z0-9*?])?")
_KIND = re.compile(r"[a-z0-9*?](?:[a-z0-9.*?-]{0,251}[a-z0-9*?])?")


def matches(pattern: str, name: str) -> bool:
    """Say whether a whole name answers a pattern. No pattern is slow: only the last star is ever tried again."""
    at, place, star, mark = 0, 0, -1, 0
    while place < len(name):
        if at < len(pattern) and pattern[at] == "*":
            star, mark = at, place
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", name[place]):
            at, place = at + 1, place + 1
        elif star >= 0:
            mark += 1
            at, place = star + 1, mark
        else:
            return False
    return not pattern[at:].strip("*")


def is_glob(pattern: str) -> bool:
    """Say whether a pattern can mean more than one name."""
    return "*" in pattern or "?" in pattern


def resource_matches(pattern: str, *, group: str, resource: str) -> bool:
    """Say whether a pattern means a resource.

    Without a dot it asks for the plural alone, in any group (`events`); with one, for the plural and the group
    (`leases.coordination.k8s.io`, `*.cert-manager.io`, `secrets.core`). A star crosses dots.
    """
    if "." in pattern:
        return matches(pattern, f"{resource}.{group or CORE_GROUP}")
    return matches(pattern, resource)


def check_namespace(text: str) -> str:
    """Return a pattern for namespaces. Raises Problem."""
    if not _NAMESPACE.fullmatch(text):
        raise Problem(
            f"{quoted(text)} cannot be the name of a namespace", 'write a name in lower case, or a pattern with * and ?, such as "shop-*"'
        )
    return text


def check_claim(text: str) -> str:
    """Return a pattern for claims. Raises Problem."""
    if not _CLAIM.fullmatch(text):
        raise Problem(
            f"{quoted(text)} cannot be the name of a claim", 'write a name in lower case, or a pattern with * and ?, such as "cache-*"'
        )
    return text


def check_kind(text: str) -> str:
    """Return a pattern for resources. Raises Problem."""
    remedy = 'write the plural in lower case, with its group after a dot: "secrets", "leases.coordination.k8s.io", "*.cert-manager.io"'
    if not _KIND.fullmatch(text):
        raise Problem(f"{quoted(text)} cannot be the name of a resource", remedy)
    return text
