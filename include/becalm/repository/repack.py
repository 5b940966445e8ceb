"""Repacking: what is needed of packs that are mostly waste is written anew, so that the packs become waste altogether.

No pack is changed. The chosen ones are marked first, then it is looked again at what is needed, and that is copied: a writer who still
relies on one of them has either published by then, and is seen, or is refused. A later prune deletes them as it deletes all others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from becalm.errors import Damaged, UsageError
from becalm.repository import census, references, tombstones
from becalm.repository.format import IndexedBlob, Layout
from becalm.repository.pack import read_blob
from becalm.repository.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from becalm.repository.census import Say
    from becalm.repository.reader import Repository
    from becalm.repository.references import Needed

BELOW = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Repacked:
    """What was written anew."""

    packs: int
    """Packs that were mostly waste, and are marked now."""
    packs_bytes: int
    blobs: int
    bytes_written: int


def choose(needed: Needed, marked: Iterable[str], *, below: float) -> tuple[str, ...]:
    """Say which packs are mostly waste. Pure."""
    stones = frozenset(marked)
    return tuple(sorted(pack for pack, share in needed.live.items() if share < below and pack not in stones))


def repack(
    repository: Repository,
    *,
    who: str,
    alive: Callable[[], object],
    below: float = BELOW,
    known: Iterable[str] = (),
    retain_until: datetime | None = None,
    progress: Say,
) -> Repacked:
    """Write anew what is needed of packs of which less than `below` is needed. Under the lease and the exclusive lock, as prune is.

    Raises: PruneRefused, LeaseLost, Damaged, and what the store raises. Whatever ends it leaves marked packs, which a prune takes or rescues.
    """
    if not 0 < below < 1:
        raise UsageError(f"{below} is no share of a pack", hint="say a number between 0 and 1, or a percentage")
    known = tuple(known)
    seen = census.look(repository, alive=alive, known=known)
    chosen = choose(references.needed(repository, seen, alive=alive, progress=progress, measure=True), seen.stones, below=below)
    for pack in chosen:
        alive()
        tombstones.mark(repository.store, pack, reason="most of it is waste: what is needed is written anew", who=who)
    if not chosen:
        return Repacked(packs=0, packs_bytes=0, blobs=0, bytes_written=0)
    again = census.look(repository, alive=alive, known=(*known, *seen.snapshots))
    found = references.needed(repository, again, alive=alive, progress=progress, collect=frozenset(chosen))
    view = repository.avoiding(frozenset(again.stones))
    with Writer(view, retain_until=retain_until) as writer:
        for number, (pack, blobs) in enumerate(sorted(found.collected.items()), start=1):
            alive()
            progress("packs are written anew", done=number, total=len(found.collected))
            _copy(repository, writer, pack, blobs)
        written = writer.flush()
    sizes = [again.packs[pack].size for pack in chosen if pack in again.packs]
    return Repacked(packs=len(chosen), packs_bytes=sum(sizes), blobs=written.blobs, bytes_written=written.bytes_added)


def _copy(repository: Repository, writer: Writer, pack: str, blobs: Mapping[str, IndexedBlob]) -> None:
    """Bring some blobs of a pack to a writer. Raises Damaged."""
    key = Layout.pack(pack)
    where = repository.where(key)
    ordered: Sequence[IndexedBlob] = sorted(blobs.values(), key=lambda blob: blob.offset)
    with memoryview(repository.store.get(key)) as body:
        for blob in ordered:
            plain = read_blob(repository.key, body[blob.offset : blob.offset + blob.length], blob, where=where)
            if writer.save_blob(blob.kind, plain) != blob.id:
                raise Damaged(f"the blob {blob.id} became another on its way", where=where)
