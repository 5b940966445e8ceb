"""`becalm gaps`, `becalm rpo`: which slots nothing answers, and how old the last good point is. Only the bucket is asked."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from becalm.actions.objectives import PolicyStatus, SlotState, told
from becalm.actions.observe import observe
from becalm.cli.console import clean, console, print_json
from becalm.cli.ports import JsonOption, find_place
from becalm.clock import SystemClock, format_time
from becalm.errors import PartialCapture, PolicyError, UsageError, exit_code
from becalm.policy.load import load_file, load_folder
from becalm.policy.problems import Problem
from becalm.policy.units import parse_duration, span

if TYPE_CHECKING:
    from becalm.policy.spec import ProtectionPolicy
    from becalm.storage.base import ObjectStore

Policies = Annotated[list[Path], typer.Argument(metavar="POLICY...", help="The policies' files, or folders with them.")]
_MISSED = exit_code(PartialCapture(""))


def gaps(
    policies: Policies,
    since: Annotated[str, typer.Option("--since", help="How far back: 7d, 12h.")] = "7d",
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """List the slots that nothing answers, and how to make up for them. Ends with 5 where there are any."""
    found = [stand(policy, path, window=read_span(since)) for path, policy in sound(policies)]
    ok = all(one.reached and not one.gaps for one in found)
    if json:
        print_json({"ok": ok, "policies": [_document(one) for one in found]})
    else:
        for one in found:
            _print(one)
    if not ok:
        raise typer.Exit(_MISSED)


def rpo(policies: Policies, json: JsonOption = False) -> None:  # noqa: FBT002
    """Say how old the last good point of each policy is. Ends with 5 where an objective is missed, or nothing is known."""
    found = sorted((stand(policy, path) for path, policy in sound(policies)), key=lambda one: (one.level.rank, one.policy))
    ok = all(one.reached and one.met is not False for one in found)
    if json:
        print_json({"ok": ok, "policies": [_document(one) for one in found]})
    else:
        table = Table("policy", "level", "how it stands", "next slot", box=None)
        for one in found:
            table.add_row(one.policy, one.level.value, clean(told(one)), format_time(one.next_slot) if one.next_slot else "-")
        console.print(table)
    if not ok:
        raise typer.Exit(_MISSED)


def sound(paths: list[Path]) -> list[tuple[Path, ProtectionPolicy]]:
    """Return the policies of these files and folders. Raises PolicyError for the first that cannot be followed."""
    found: list[tuple[Path, ProtectionPolicy]] = []
    for path in paths:
        if not path.is_dir():
            found.append((path, load_file(path)))
            continue
        for file, policy in load_folder(path).items():
            if isinstance(policy, PolicyError):
                raise policy
            found.append((file, policy))
    return found


def stand(policy: ProtectionPolicy, path: Path, *, window: timedelta = timedelta(days=7), count_bytes: bool = False) -> PolicyStatus:
    """Return how a policy stands. What keeps it from being known is in the answer, and no error."""

    def reach() -> tuple[ObjectStore, str]:
        place, _ = find_place(path)
        return place.store, place.password

    return observe(policy, reach, clock=SystemClock(), window=window, count_bytes=count_bytes)


def read_span(text: str) -> timedelta:
    """Read `--since`. Raises UsageError."""
    try:
        return parse_duration(text)
    except Problem as error:
        raise UsageError(f"--since {text!r} is no length of time: {error}", hint="write 12h, 7d") from error


def _document(found: PolicyStatus) -> dict[str, Any]:
    return {
        "policy": found.policy,
        "level": found.level.value,
        "reached": found.reached,
        "last_good": {"id": found.last_good.id, "cut": format_time(found.last_good.cut)} if found.last_good else None,
        "age_seconds": found.age.total_seconds() if found.age is not None else None,
        "rpo_seconds": found.rpo.total_seconds() if found.rpo else None,
        "met": found.met,
        "at_risk_since": format_time(found.at_risk_since) if found.at_risk_since else None,
        "next_slot": format_time(found.next_slot) if found.next_slot else None,
        "slots": {state.value: found.count(state) for state in SlotState},
        "gaps": [{"slot": format_time(one.slot), "state": one.state.value, "reason": one.reason, "run": one.run} for one in found.gaps],
        "unknown": [str(finding) for finding in found.unknown],
    }


def _print(found: PolicyStatus) -> None:
    console.print(clean(f"{found.policy}: {told(found)}"))
    if not found.gaps:
        return
    table = Table("slot", "state", "why", box=None)
    for one in found.gaps:
        table.add_row(format_time(one.slot), one.state.value, clean(one.reason))
    console.print(table)
    first, last = format_time(found.gaps[0].slot), format_time(found.gaps[-1].slot)
    oldest = f"late by {span(found.now - found.gaps[0].slot)} already"
    console.print(f"the oldest is {oldest}; to make up for them:")
    console.print(
        f"  airflow backfill create --dag-id becalm_policy_{found.policy} --from-date {first} --to-date {last} "
        "--max-active-runs 1 --reprocess-behavior failed",
        markup=False,
    )
