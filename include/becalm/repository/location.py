"""Where a blob lies: the noun that every kind of index answers with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from becalm.repository.format import IndexedBlob


@dataclass(frozen=True, slots=True)
class Location:
    """A blob and the pack it lies in."""

    pack: str
    blob: IndexedBlob
