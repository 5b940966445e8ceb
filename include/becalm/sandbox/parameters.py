"""Query parameters as Go reads them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.sandbox.answers import bad_request

if TYPE_CHECKING:
    from collections.abc import Mapping

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})


def truth(query: Mapping[str, str], name: str) -> bool:
    """Say whether a flag is set; clients write it in several ways."""
    return query.get(name) in _TRUE


def number(query: Mapping[str, str], name: str) -> int | None:
    """Return a whole number, or nothing. Raises: ApiError (400)."""
    text = query.get(name)
    if text is None or text == "":
        return None
    try:
        return int(text)
    except ValueError as exc:
        raise bad_request(f"{name}: {text!r} is no number") from exc
