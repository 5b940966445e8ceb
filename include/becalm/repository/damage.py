"""What a check finds: damages, and the recovery points that they harm. Nouns only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003  (the fields of a dataclass)

_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Harm:
    """What a damage takes from one recovery point."""

    point: str
    """The id of the snapshot."""
    time: datetime
    paths: tuple[str, ...] = ()
    """The first few of what cannot be read; a folder means all that is in it."""
    more: bool = False
    """There are more paths than these."""

    def __str__(self) -> str:
        """`1a2b3c4d of 2026-03-14: /a, /b and more`."""
        shown = ", ".join(self.paths[:_SHOWN])
        rest = " and more" if self.more or len(self.paths) > _SHOWN else ""
        return f"{self.point[:8]} of {self.time:%Y-%m-%d %H:%M}: {shown}{rest}"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Damage:
    """One thing that is wrong."""

    where: str
    """The object, or the blob or tree that cannot be found."""
    problem: str
    harms: tuple[Harm, ...] = field(default=(), compare=False)
    """The recovery points that it harms, newest first; nothing where it harms none, or none that can still be read."""

    def __str__(self) -> str:
        """`where: problem; harms …`."""
        said = f"; harms {'; '.join(map(str, self.harms))}" if self.harms else ""
        return f"{self.where}: {self.problem}{said}"
