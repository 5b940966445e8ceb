"""Why a point is consistent, or not: freeze, cuts and thaw of each application on one line of time. Pure; drawn without a script."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from becalm.clock import parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WIDTH = 720.0
LEFT = 150.0
ROW = 34.0
MARGIN = 0.06


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A span on the line, in the drawing's units."""

    x: float
    width: float
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A moment on the line."""

    x: float
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One application."""

    name: str
    y: float
    frozen: Bar | None
    cutting: Bar | None
    cuts: tuple[Mark, ...]
    consistent: bool
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The whole drawing."""

    lines: tuple[Line, ...]
    began: datetime
    seconds: float
    height: float
    axis: tuple[Mark, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spans:
    name: str
    began: datetime
    ended: datetime
    cuts: tuple[tuple[str, datetime], ...]
    frozen_seconds: float
    consistent: bool
    said: str


def evidence(description: Mapping[str, Any]) -> Evidence | None:
    """Return the drawing of what a recovery point says of itself; nothing where it says nothing that can be drawn."""
    thaws = {str(one.get("application")): one for one in _list(description, "thaws")}
    spans = [found for cut in _list(description, "applications") if (found := _spans(cut, thaws)) is not None]
    if not spans:
        return None
    first = min(_freeze(one)[0] for one in spans)
    last = max(max(_freeze(one)[1], one.ended, *(moment for _, moment in one.cuts)) for one in spans)
    total = max((last - first).total_seconds(), 0.001)
    begin, whole = first - timedelta(seconds=total * MARGIN), total * (1 + 2 * MARGIN)

    def x(moment: datetime) -> float:
        return round(LEFT + max(0.0, (moment - begin).total_seconds()) / whole * (WIDTH - LEFT), 1)

    lines = tuple(_line(one, place, x) for place, one in enumerate(spans))
    axis = tuple(
        Mark(x=x(first + timedelta(seconds=total * part / 4)), words=f"{total * part / 4:.2f} s" if part else "0 s") for part in range(5)
    )
    return Evidence(lines=lines, began=first, seconds=total, height=ROW * len(lines) + 30, axis=axis)


def _line(one: _Spans, place: int, x: Any) -> Line:
    frozen = None
    if one.frozen_seconds:
        start, end = _freeze(one)
        frozen = Bar(x=x(start), width=max(2.0, x(end) - x(start)), words=f"frozen for {one.frozen_seconds:.2f} s")
    spent = (one.ended - one.began).total_seconds()
    return Line(
        name=one.name,
        y=place * ROW + 6,
        frozen=frozen,
        cutting=Bar(x=x(one.began), width=max(2.0, x(one.ended) - x(one.began)), words=f"cutting took {spent:.2f} s"),
        cuts=tuple(Mark(x=x(moment), words=f"{volume} cut at {moment.isoformat()}") for volume, moment in one.cuts),
        consistent=one.consistent,
        said=one.said,
    )


def _freeze(one: _Spans) -> tuple[datetime, datetime]:
    """Return from when to when it was frozen. The point tells how long; the cuts lie inside, and the thaw follows the last of them."""
    if not one.frozen_seconds:
        return one.began, one.ended
    spare = max(0.0, one.frozen_seconds - (one.ended - one.began).total_seconds())
    return one.began - timedelta(seconds=spare / 2), one.ended + timedelta(seconds=spare / 2)


def _spans(cut: Mapping[str, Any], thaws: Mapping[str, Mapping[str, Any]]) -> _Spans | None:
    try:
        name = str(cut["application"])
        thaw = cut.get("thawed") or thaws.get(name) or {}
        volumes = [one for one in cut.get("volumes") or () if one.get("created")]
        label = str(thaw.get("consistency", "crash-consistent"))
        return _Spans(
            name=name,
            began=parse_time(cut["began"]),
            ended=parse_time(cut["ended"]),
            cuts=tuple((_volume(one), parse_time(one["created"])) for one in volumes),
            frozen_seconds=float(thaw.get("frozen_seconds") or 0.0),
            consistent=label == "application-consistent",
            said="; ".join([label, *map(str, thaw.get("reasons") or ())]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _volume(cut: Mapping[str, Any]) -> str:
    volume = cut["plan"]["volume"]
    return f"{volume['namespace']}/{volume['claim']}"


def _list(description: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    found = description.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
