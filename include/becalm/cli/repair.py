"""`becalm repair`: what a damaged repository has lost, and what can be saved. It adds, and never deletes."""

from __future__ import annotations

import getpass
import platform
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from becalm.actions import repair as action
from becalm.cli.console import console, notes, print_json, progress
from becalm.cli.ports import JsonOption, NameOption, PasswordOption, PolicyFile, TargetOption, find_place
from becalm.cli.rate import rated
from becalm.cli.verify import damage_document, print_damages
from becalm.clock import SystemClock, format_time
from becalm.errors import UsageError

if TYPE_CHECKING:
    from becalm.actions.repair import Repaired
    from becalm.repository.repair import RepairPlan

_SHOWN = 20


def repair(  # noqa: PLR0917  (typer reads the options from the signature)
    policy: PolicyFile = None,
    target: TargetOption = "",
    name: NameOption = "",
    password: PasswordOption = "",
    read_data: Annotated[bool, typer.Option("--read-data", help="Read every byte first: finds what only the bytes show.")] = False,  # noqa: FBT002
    yes: Annotated[bool, typer.Option("--yes", help="Write the salvaged points and index objects.")] = False,  # noqa: FBT002
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what is lost and what would be written. The default.")] = False,  # noqa: FBT002
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Show what a damaged repository has lost; with --yes, write salvaged points beside harmed ones, and lost index objects anew."""
    if yes and dry_run:
        raise UsageError("--yes and --dry-run exclude each other")
    place, loaded = find_place(policy, target=target, name=name, password=password)
    clock = SystemClock()
    with progress(quiet=json) as report:
        found = action.plan(place.store, place.password, read_data=read_data, progress=rated(report, clock, lively=notes.is_terminal))
    if not json:
        _print_plan(found)
    lock = loaded.spec.target.lock if loaded else None
    done = None
    if yes and not found.nothing:
        until = place.store.now() + timedelta(days=lock.days) if lock else None
        who = f"becalm repair, {getpass.getuser()}@{platform.node()}"
        done = action.execute(place.store, place.password, found, policy=place.policy, who=who, clock=clock, retain_until=until)
    if json:
        print_json(_document(found, done))
    elif done is not None:
        _print_done(done)
    elif not found.nothing:
        console.print("nothing was written; --yes writes it")
    else:
        console.print("there is nothing to write")


def _document(found: RepairPlan, done: Repaired | None) -> dict[str, Any]:
    return {
        "ok": not found.damages or done is not None,
        "damages": [damage_document(damage) for damage in found.damages],
        "harmed": [
            {"point": one.point.id, "time": format_time(one.point.time), "lost": list(one.lost), "hopeless": one.hopeless}
            for one in found.salvages
        ],
        "packs_without_index": sorted(found.packs),
        "index_objects_replaced": list(found.superseded),
        "written": None
        if done is None
        else {
            "index_objects": done.index_objects,
            "salvaged": [{"from": one.old, "to": one.new, "lost": one.lost} for one in done.salvaged],
            "salvaged_before": list(done.done_before),
        },
    }


def _print_plan(found: RepairPlan) -> None:
    print_damages(found.damages)
    if found.packs:
        console.print(f"{len(found.packs)} packs stand in no index, and can get one")
    for name in found.superseded:
        console.print(f"index object {name[:8]} cannot be read; what its packs hold gets a new one")
    for one in found.salvages:
        console.print(f"recovery point {one.point.id[:8]} of {format_time(one.point.time)} has lost {len(one.lost)} paths", markup=False)
        for path in one.lost[:_SHOWN]:
            console.print(f"  {path}", markup=False)
        if len(one.lost) > _SHOWN:
            console.print(f"  and {len(one.lost) - _SHOWN} more; --json names them all")
        if one.hopeless:
            console.print("  nothing of it can be saved")


def _print_done(done: Repaired) -> None:
    if done.index_objects:
        console.print(f"{done.index_objects} index objects were written")
    for one in done.salvaged:
        console.print(f"recovery point {one.new[:8]} holds what is left of {one.old[:8]}, without {one.lost} paths")
    for point in done.done_before:
        console.print(f"what is left of {point[:8]} was saved before")
