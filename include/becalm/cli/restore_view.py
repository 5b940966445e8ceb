"""A restore for people's eyes: the plan with its reasons and differences, the report, and what was verified.

What is printed comes from a recovery point that may be hostile: no markup and no control character of it reaches the terminal.
"""

from __future__ import annotations

import math
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.table import Table

from becalm.actions.restore import Action, VolumeAction
from becalm.cli.console import clean, console, human_bytes
from becalm.clock import format_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console
    from rich.text import Text

    from becalm.actions.restore import RestorePlan, RestoreReport, Step, Verification, VolumeStep
    from becalm.model import Finding

STYLES = {
    Action.CREATE: "green",
    Action.LINK: "cyan",
    Action.KEEP: "yellow",
    Action.MERGE: "magenta",
    Action.REPLACE: "magenta",
    Action.RECREATE: "red",
    Action.SKIP: "dim",
    VolumeAction.FILL: "green",
    VolumeAction.EMPTY: "yellow",
}
SHOWN_CHANGES = 8
"""So many differences of one object are printed; --json has all."""


def print_plan(plan: RestorePlan, screen: Console = console) -> None:
    """Print what a restore would do, and what forbids it."""
    state = "complete" if plan.complete else "partial"
    screen.print(
        clean(f"recovery point {plan.point[:8]} of policy {plan.policy}, cut {format_time(plan.cut)}, {plan.consistency}, {state}")
    )
    table = Table("action", "object", "why", box=None)
    for step in plan.steps:
        table.add_row(clean(step.action, STYLES[step.action]), clean(step.target), _why(step))
    for volume in plan.volumes:
        table.add_row(
            clean(volume.action, STYLES.get(volume.action, "yellow")), clean(f"data of {volume.target}"), clean(_of_volume(volume))
        )
    screen.print(table)
    _print_findings(screen, plan.findings, "note", "yellow")
    _print_findings(screen, plan.blocking, "forbidden", "red")
    counted = Counter(str(step.action) for step in plan.steps)
    summary = ", ".join(f"{counted[action]} to {action}" for action in Action if counted[action])
    filled = plan.volumes_to(VolumeAction.FILL, VolumeAction.REPLACE)
    size = human_bytes(sum(volume.size_bytes for volume in filled))
    screen.print(clean(f"{summary}; {len(filled)} volumes to fill ({size}){_time(plan, filled)}"))


def _time(plan: RestorePlan, filled: tuple[VolumeStep, ...]) -> str:
    """Say how long the longest volume takes, and what that rests on."""
    longest = max((volume.estimated_seconds for volume in filled), default=0.0)
    if not longest:
        return ""
    basis = "as earlier restores took" if plan.rate_measured else "which is an assumption"
    return f", the longest in about {timedelta(seconds=math.ceil(longest))} at {human_bytes(plan.rate_bytes)}/s, {basis}"


def _why(step: Step) -> Text:
    text = clean(step.reason)
    for change in step.changes[:SHOWN_CHANGES]:
        text.append("\n  ").append_text(clean(change, "yellow"))
    if len(step.changes) > SHOWN_CHANGES:
        text.append(f"\n  and {len(step.changes) - SHOWN_CHANGES} more", style="dim")
    return text


def _of_volume(volume: VolumeStep) -> str:
    if volume.action not in (VolumeAction.FILL, VolumeAction.REPLACE):
        return volume.reason
    size = human_bytes(volume.size_bytes) if volume.size_bytes else "unknown size"
    time = f", about {timedelta(seconds=math.ceil(volume.estimated_seconds))}" if volume.estimated_seconds else ""
    return f"{volume.reason}: {size} into class {volume.storage_class or '(default)'}{time}"


def _print_findings(screen: Console, findings: Iterable[Finding], word: str, style: str) -> None:
    for finding in findings:
        screen.print(clean(f"{word}: ", style).append_text(clean(finding)))


def print_report(report: RestoreReport, verification: Verification, screen: Console = console) -> None:
    """Print what was done, and what the cluster shows now."""
    table = Table(show_header=False, box=None)
    filled = [result for result in report.volumes if not result.error]
    rows = [
        ("created", f"{report.created} objects, {report.linked} linked to their owners later"),
        *(
            (name, f"{count} objects")
            for name, count in (("merged", report.merged), ("replaced", report.replaced), ("made anew", report.recreated))
            if count
        ),
        ("kept", f"{report.kept} objects that were there"),
        ("left out", f"{report.skipped} objects"),
        ("filled", f"{len(filled)} volumes, {human_bytes(sum(result.bytes_total for result in filled))}"),
        ("verified", f"{verification.objects} objects say the same, {verification.volumes} volumes hold their data"),
        ("took", f"{report.seconds:.1f} s"),
    ]
    for name, value in rows:
        table.add_row(name, clean(value))
    screen.print(table)
    _print_findings(screen, (*report.remarks, *verification.remarks), "note", "yellow")
    _print_findings(screen, (*report.failures, *verification.failures), "failed", "red")
