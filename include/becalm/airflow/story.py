"""The sentences of a task's log: what, where, how much, how fast, and what comes next. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from becalm.clock import format_time
from becalm.policy.units import span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.actions.handover import Begun
    from becalm.model import MoverResult


def begins(begun: Begun) -> Iterator[str]:
    """Say what a run is about to do."""
    yield f"run {begun.run} of policy {begun.policy}, started by {begun.trigger}; it holds the lease as epoch {begun.epoch}"
    if begun.slot is None:
        yield "it answers no slot: it makes a recovery point of its own"
    else:
        late = f", {span(timedelta(seconds=begun.late_seconds))} late" if begun.late_seconds >= 1 else ""
        yield f"it answers the slot {format_time(begun.slot)}{late}"
    yield (
        f"unchanged files are recognised by recovery point {begun.parent[:8]}" if begun.parent else "there is no point before: all is read"
    )
    if begun.namespaces:
        yield f"only {', '.join(begun.namespaces)} was asked for: the point is no good one of the policy"
    if not begun.quiesce:
        yield "nothing is frozen, as was asked: the point is crash-consistent"
    if begun.pin_days:
        yield f"the point will be pinned for {begun.pin_days} days"
    yield "next: discover resolves the selection"


def moved(result: MoverResult) -> str:
    """Say what a mover did."""
    rate = f", {size(result.bytes_read / result.seconds)}/s" if result.seconds > 0 else ""
    return (
        f"{result.volume}: {result.files} files, {size(result.bytes_total)} in all, {size(result.bytes_read)} read, "
        f"{size(result.bytes_added)} new, in {result.seconds:.0f} s{rate}"
    )


def size(count: float) -> str:
    """Write a number of bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
