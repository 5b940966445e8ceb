"""What the looks at a policy's drift came to: what is open since when, who was told, and what was acknowledged until when.

One sealed object in the policy's bucket, written by compare and swap. What drifts, and what is to be said, is not decided here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  (pydantic resolves the annotations at run time)
from typing import TYPE_CHECKING

from becalm.catalog import sealed
from becalm.catalog.coverage import Open  # noqa: TC001  (as above)
from becalm.repository.format import Layout

if TYPE_CHECKING:
    from becalm.repository.reader import Repository
    from becalm.storage.base import ETag


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """A drift that somebody knows of, and lets be until a day. It holds for this very difference: another one is open again."""

    where: str
    because: str
    until: datetime
    who: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftLook:
    """One look, in figures."""

    time: datetime
    point: str
    """The recovery point that was compared."""
    compared: int
    high: int
    medium: int
    low: int
    unknown: int
    """So many things could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftRecord:
    """All looks at one policy."""

    policy: str
    open: tuple[Open, ...] = ()
    quiet: tuple[Open, ...] = ()
    """What drifts and was acknowledged."""
    over: tuple[Open, ...] = ()
    """What is over, while somebody who was told that it began has not heard so."""
    acknowledged: tuple[Acknowledged, ...] = ()
    looks: tuple[DriftLook, ...] = ()
    """Oldest first."""
    format: int = sealed.FORMAT


def load(repository: Repository) -> tuple[DriftRecord | None, ETag | None]:
    """Return the record, nothing where none was written, and what `save` needs. Raises Damaged, and what the store raises."""
    return sealed.load(repository, Layout.DRIFT, DriftRecord)


def save(repository: Repository, record: DriftRecord, etag: ETag | None) -> None:
    """Write the record. Raises Conflict (somebody else wrote it meanwhile), and what the store raises."""
    sealed.save(repository, Layout.DRIFT, record, etag)
