"""What the looks at a cluster's coverage came to: what is open, since when, and who was told. One sealed object in one policy's bucket.

It is written by compare and swap, and read by whoever shows it. What counts as covered, and what is to be said, is not decided here.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  (pydantic resolves the annotations at run time)
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003  (as above)
from typing import TYPE_CHECKING

from becalm.catalog import sealed
from becalm.repository.format import Layout

if TYPE_CHECKING:
    from becalm.repository.reader import Repository
    from becalm.storage.base import ETag


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """One piece of state that nothing covers, or one claim that does not hold."""

    where: str
    what: str
    because: str
    since: datetime
    told: tuple[str, ...] = ()
    """The connections that the message went to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look, in figures."""

    time: datetime
    percent: int | None
    """Nothing where there was nothing to cover."""
    arithmetic: str
    missing: int
    unknown: int
    """So many things could not be read."""
    claims: Mapping[str, str] = field(default_factory=dict)
    """The standing of each claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageRecord:
    """All looks at one cluster."""

    cluster: str
    open: tuple[Open, ...] = ()
    over: tuple[Open, ...] = ()
    """What is over, while somebody who was told that it began has not heard so."""
    looks: tuple[Look, ...] = ()
    """Oldest first."""
    format: int = sealed.FORMAT


def load(repository: Repository) -> tuple[CoverageRecord | None, ETag | None]:
    """Return the record, nothing where none was written, and what `save` needs. Raises Damaged, and what the store raises."""
    return sealed.load(repository, Layout.COVERAGE, CoverageRecord)


def save(repository: Repository, record: CoverageRecord, etag: ETag | None) -> None:
    """Write the record. Raises Conflict (somebody else wrote it meanwhile), and what the store raises."""
    sealed.save(repository, Layout.COVERAGE, record, etag)
