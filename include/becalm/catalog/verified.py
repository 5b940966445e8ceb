"""What is known of the packs: when each was last read wholly, which damages are open, and which points were there.

It is read from the newest entries of the ledger: now and then an entry holds the whole, and only those after it are read too. An
id is kept by its first half, which is enough to tell packs apart. Nothing here reads a pack.
"""

from __future__ import annotations

import binascii
from array import array
from base64 import b64decode, b64encode
from collections.abc import Mapping  # noqa: TC003  (the fields of a dataclass)
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from becalm.catalog import ledger
from becalm.clock import format_time, parse_time
from becalm.errors import Damaged

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from becalm.repository.damage import Damage
    from becalm.repository.reader import Repository

FORMAT = 1
SUMMARY_EVERY = 16
"""After so many entries one holds the whole again."""

_HALF = 16
_MOST_DAMAGES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDamage:
    """A damage that a run found and no later one found mended."""

    where: str
    problem: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the ledger says."""

    read: Mapping[bytes, int] = field(default_factory=dict)
    """When each pack was last read wholly: seconds since 1970, by the first half of its id."""
    damages: tuple[OpenDamage, ...] = ()
    points: frozenset[str] = frozenset()
    """The snapshots that the last whole run followed."""
    last: datetime | None = None
    """When the last run began."""
    entry: int = 0
    """The number of that run's entry."""
    since_summary: int = SUMMARY_EVERY
    """So many entries are told one by one."""

    def when(self, pack: str) -> datetime | None:
        """Say when a pack was last read wholly."""
        seconds = self.read.get(_half(pack))
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def load(repository: Repository) -> Known:
    """Read what is known; without any entry, nothing is. Raises: Damaged."""
    entries: list[ledger.Entry] = []
    for entry in ledger.newest(repository, ledger.EntryKind.VERIFIED):
        entries.append(entry)
        if "summary" in entry.content:
            break
    if not entries:
        return Known()
    read: dict[bytes, int] = {}
    try:
        for entry in reversed(entries):
            _apply(entry.content, read)
        newest = entries[0]
        return Known(
            read=read,
            damages=tuple(_open_damage(one) for one in newest.content["damages"]),
            points=frozenset(map(str, newest.content["points"])),
            last=parse_time(newest.content["began"]),
            entry=newest.number,
            since_summary=len(entries) - 1 if "summary" in entries[-1].content else SUMMARY_EVERY,
        )
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
        raise Damaged(f"what it says cannot be read: {error}", where=repository.where(f"the ledger's entry {entries[0].number}")) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What one run did."""

    began: datetime
    seconds: float
    whole: bool
    """Every point was followed."""
    verified: Sequence[str]
    """Packs that were read, and are what was written."""
    bytes_read: int
    damages: Sequence[Damage]
    points: Sequence[str]
    present: Collection[str]
    """All packs that are in the bucket."""


def record(
    repository: Repository, known: Known, finished: Finished, *, who: str, run: str = "", retain_until: datetime | None = None
) -> ledger.Entry:
    """Write down what a run did. Raises what the store raises."""
    began = int(finished.began.timestamp())
    content: ledger.Content = {
        "format": FORMAT,
        "began": format_time(finished.began),
        "seconds": round(finished.seconds, 3),
        "whole": finished.whole,
        "packs": _joined(map(_half, finished.verified)),
        "bytes": finished.bytes_read,
        "damages": [_told(one) for one in still_open(known, finished)[:_MOST_DAMAGES]],
        "points": sorted(finished.points if finished.whole else known.points),
    }
    if known.since_summary + 1 >= SUMMARY_EVERY:
        present = {_half(pack) for pack in finished.present}
        read = {**known.read, **dict.fromkeys(map(_half, finished.verified), began)}
        kept = sorted((pack, seconds) for pack, seconds in read.items() if pack in present)
        times = array("I", [seconds for _, seconds in kept])
        content["summary"] = {"packs": _joined(pack for pack, _ in kept), "times": b64encode(times.tobytes()).decode()}
    return ledger.append(repository, ledger.EntryKind.VERIFIED, content, who=who, run=run, retain_until=retain_until)


def still_open(known: Known, finished: Finished) -> list[OpenDamage]:
    """Say which damages are open after a run: what it found, and what was known before and it did not look at again. Pure."""
    before = {(one.where, one.problem): one.since for one in known.damages}
    found = {(one.where, one.problem) for one in finished.damages}
    verified, present = set(finished.verified), set(finished.present)
    for where, problem in before:
        pack = where.rpartition("/")[2]
        looked_at = pack in verified or (finished.whole and pack not in present) if "/data/" in where else finished.whole
        if not looked_at:
            found.add((where, problem))
    return [
        OpenDamage(where=where, problem=problem, since=before.get((where, problem), finished.began)) for where, problem in sorted(found)
    ]


def _apply(content: ledger.Content, read: dict[bytes, int]) -> None:
    if content["format"] != FORMAT:
        raise ValueError(f"it is of format {content['format']!r}, this version reads {FORMAT}")
    summary = content.get("summary")
    if summary is None:
        read.update(dict.fromkeys(_split(content["packs"]), int(parse_time(content["began"]).timestamp())))
        return
    read.clear()
    times = array("I", b64decode(summary["times"]))
    read.update(zip(_split(summary["packs"]), times, strict=True))


def _open_damage(said: dict[str, Any]) -> OpenDamage:
    return OpenDamage(where=str(said["where"]), problem=str(said["problem"]), since=parse_time(said["since"]))


def _told(damage: OpenDamage) -> dict[str, str]:
    return {"where": damage.where, "problem": damage.problem, "since": format_time(damage.since)}


def _half(pack: str) -> bytes:
    return bytes.fromhex(pack)[:_HALF]


def _joined(halves: Iterable[bytes]) -> str:
    return b64encode(b"".join(halves)).decode()


def _split(text: str) -> list[bytes]:
    raw = b64decode(text, validate=True)
    return [raw[place : place + _HALF] for place in range(0, len(raw), _HALF)]
