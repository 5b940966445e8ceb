"""The label: what a recovery point may promise of an application, and why not more. Pure.

It decides from recorded times and from what each thaw told. It asks nobody anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from becalm.actions.handover import FreezeOutcome
from becalm.actions.hooks import recipe
from becalm.model import Consistency, VolumeUse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from becalm.actions.handover import Cut, FreezeRecord, Frozen


@dataclass(frozen=True, slots=True, kw_only=True)
class ThawState:
    """What the thaw of one container told."""

    place: str
    confirmed: bool
    held: bool
    fired: bool = False
    message: str = ""


def label(record: FreezeRecord, cut: Cut | None, states: Sequence[ThawState]) -> tuple[Consistency, tuple[str, ...]]:
    """Decide what the recovery point may promise of this application, and why not more. Pure.

    Application-consistent only if every hook confirmed its freeze before the first cut was asked for, and each switch was still
    armed and untouched at the thaw, which came after the last cut was reported.
    """
    reasons = list(record.reasons)
    if record.hooks == 0:
        reasons.append("no hook stills it")
    elif len(record.frozen) < record.hooks and not reasons:
        reasons.append(f"only {len(record.frozen)} of {record.hooks} hooks froze")
    for frozen in record.frozen:
        reasons += _weakness(frozen, cut)
    if cut is None:
        reasons.append("it was not cut")
    else:
        reasons += [f"{volume.plan.volume} is read while it changes" for volume in cut.volumes if volume.plan.use is VolumeUse.LIVE]
    reasons += [f"{state.place}: {state.message or 'the freeze did not hold'}" for state in states if not (state.held and state.confirmed)]
    if len(states) < len(record.frozen):
        reasons.append("not every container was asked to thaw")
    distinct = tuple(dict.fromkeys(reasons))
    return (Consistency.CRASH, distinct) if distinct else (Consistency.APPLICATION, ())


def _weakness(frozen: Frozen, cut: Cut | None) -> list[str]:
    """Say why one freeze promises nothing."""
    place = f"{frozen.hook.namespace}/{frozen.pod}"
    if frozen.outcome is not FreezeOutcome.FROZEN:
        return [] if frozen.message else [f"{place}: the freeze is {frozen.outcome}"]
    if not frozen.switch:
        return [] if frozen.message else [f"{place}: no dead-man switch guards the freeze"]
    if cut and (frozen.confirmed is None or frozen.confirmed > cut.began):
        return [f"{place}: the freeze was confirmed only after the cut began"]
    if frozen.hook.use and recipe(frozen.hook).best is not Consistency.APPLICATION:
        return [f"{place}: the blueprint {frozen.hook.use} promises no more"]
    return []
