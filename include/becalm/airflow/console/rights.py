"""What a visitor may do. Six rights, each decided by Airflow's own auth manager (docs/console.md has the table).

To see that a point is there, to take its data away, and to see its Secrets are three different things.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastapi import Request


class Right(StrEnum):
    """One thing that a visitor may be allowed to do with a policy."""

    VIEW = "view"
    """See the policy, its points, names of files, and objects with what is secret in them hidden."""
    DOWNLOAD = "download"
    """Take the content of files and objects away."""
    REVEAL = "reveal"
    """See the values of Secrets."""
    TRIGGER = "trigger"
    """Start a run of the policy."""
    PIN = "pin"
    """Keep a recovery point, or leave it to retention again."""
    RESTORE = "restore"
    """Start a restore."""


WORDS = {
    Right.VIEW: "see this policy",
    Right.DOWNLOAD: "download data of this policy",
    Right.REVEAL: "see Secret values of this policy",
    Right.TRIGGER: "start a run of this policy",
    Right.PIN: "pin recovery points of this policy",
    Right.RESTORE: "start a restore",
}


class Visitor(Protocol):
    """Whoever asks: a user of Airflow."""

    @property
    def name(self) -> str:
        """The name that the ledger will hold."""

    @property
    def key(self) -> str:
        """What a form's token is bound to: this user, and nobody else."""

    @property
    def by_token(self) -> bool:
        """Whether a header said who it is. A browser never sends one by itself, as it does a cookie."""

    def may(self, right: Right, policy: str) -> bool:
        """Whether this is allowed."""

    def visible(self, policies: Iterable[str]) -> list[str]:
        """Return those of the policies that may be seen, in their order."""


class Refused(Exception):  # noqa: N818  (what happened)
    """The visitor may not do this."""

    def __init__(self, right: Right, policy: str) -> None:
        super().__init__(f"you may not {WORDS[right]}")
        self.right, self.policy = right, policy


def demand(visitor: Visitor, right: Right, policy: str) -> None:
    """Pass, or raise Refused. What may not be seen may not be done either."""
    for needed in (Right.VIEW, right):
        if not visitor.may(needed, policy):
            raise Refused(needed, policy)


def visitor_of(request: Request) -> Visitor:
    """Return who asks: the application has made sure of it before any route began."""
    return cast("Visitor", request.state.visitor)
