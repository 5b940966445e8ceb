"""Tokens in forms: whoever posts must have seen the form. A page of somebody else's cannot read it, and so cannot post in a user's name."""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from becalm.airflow.console.rights import Visitor
    from becalm.clock import Clock

SECONDS = 3600
"""A token is good for this long, and at most twice."""


class Tokens:
    """Makes and checks them. It remembers none: any API server that has the same secret knows a token of another."""

    def __init__(self, secret: str, clock: Clock) -> None:
        self._secret, self._clock = secret.encode(), clock

    def make(self, visitor: Visitor, deed: str) -> str:
        """Return the token of a visitor for one deed, such as the path that the form is posted to."""
        return self._sign(visitor, deed, self._hour())

    def good(self, visitor: Visitor, deed: str, token: str) -> bool:
        """Say whether this is one of the visitor's own for this deed, and not old."""
        return any(
            hmac.compare_digest(self._sign(visitor, deed, hour).encode(), token.encode()) for hour in (self._hour(), self._hour() - 1)
        )

    def _hour(self) -> int:
        return int(self._clock.now().timestamp()) // SECONDS

    def _sign(self, visitor: Visitor, deed: str, hour: int) -> str:
        return hmac.new(self._secret, f"becalm console\0{visitor.key}\0{deed}\0{hour}".encode(), sha256).hexdigest()


def same_origin(headers: Mapping[str, str]) -> bool:
    """Say whether a browser says that the request comes from a page of this very address. One that says nothing is refused."""
    if headers.get("sec-fetch-site"):
        return headers["sec-fetch-site"] == "same-origin"
    origin = urlsplit(headers.get("origin", ""))
    return bool(origin.netloc) and origin.netloc == headers.get("host", "")
