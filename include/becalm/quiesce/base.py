"""The port of a driver: how one container is frozen and thawed, and what is known afterwards.

A driver acts on one container. Which containers, in what order, and what follows from their answers is the verbs' business.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  (part of a noun that may be handed on)
from enum import StrEnum
from typing import Protocol

from becalm.quiesce.deadman import FOLDERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One container, with what stills it."""

    namespace: str
    pod: str
    container: str
    freeze: tuple[str, ...]
    thaw: tuple[str, ...]
    user: str = ""
    timeout_seconds: float = 30.0
    folders: tuple[str, ...] = FOLDERS
    """Where the dead-man switch may stand."""

    def __str__(self) -> str:
        """`shop/orders-db-0 (db)`."""
        return f"{self.namespace}/{self.pod} ({self.container})"


class Freeze(StrEnum):
    """What is known of a freeze."""

    FROZEN = "frozen"
    FAILED = "failed"
    """It did not freeze, or was thawed again in the same command."""
    UNKNOWN = "unknown"
    """Counts as frozen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Froze:
    """The answer to a freeze."""

    outcome: Freeze
    guarded: bool = True
    """A dead-man switch was armed, or may have been."""
    message: str = ""
    """Why it is not simply frozen under a switch."""
    asked: datetime
    answered: datetime
    thaw_owed: bool = True
    """Whether it must be thawed: not where it is certain that nothing was frozen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """The answer to a thaw."""

    confirmed: bool
    """It is thawed now, for certain."""
    held: bool
    """The switch had been armed, untouched, until this very thaw: so the freeze held."""
    fired: bool = False
    missing: bool = False
    """The container is not there, so nothing was asked of it."""
    gone: bool = False
    """The container in which it was frozen is not there any more; another may stand in its place."""
    message: str = ""
    """Why it is not confirmed, or did not hold."""
    answered: datetime


class Quiescer(Protocol):
    """Freezes and thaws containers of one kind of application. Both are safe to repeat; a thaw needs no freeze before it."""

    def switch(self, target: Target, *, run: str, hook: str) -> str:
        """Name a new dead-man switch. It is known before the freeze, so that a thaw never depends on the freeze's answer."""

    def freeze(self, target: Target, *, switch: str) -> Froze:
        """Arm the switch of that name, then freeze. Raises: HookMissing (no such container), AccessDenied."""

    def thaw(self, target: Target, *, switch: str) -> Released:
        """Disarm the switch of that name, and thaw; without a name, only thaw. Never raises for what the container answers."""
