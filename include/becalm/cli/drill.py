"""`becalm drill` and `becalm drills`: restore a recovery point into namespaces of its own to prove it, and what earlier drills came to."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer
from rich.table import Table

from becalm.actions import drill as action
from becalm.actions import drill_record
from becalm.cli.console import clean, console, human_bytes, print_json, progress
from becalm.cli.ports import (
    ContextOption,
    JsonOption,
    KubeconfigOption,
    NameOption,
    PasswordOption,
    PolicyFile,
    TargetOption,
    build_ports,
    find_place,
)
from becalm.clock import SystemClock, format_time
from becalm.errors import DrillFailed, UsageError, exit_code
from becalm.model import payload
from becalm.policy.units import format_duration
from becalm.repository.reader import open_repository

if TYPE_CHECKING:
    from becalm.actions.drill_steps import DrillReport


def drill(  # noqa: PLR0917  (typer reads the options from the signature)
    policy: PolicyFile = None,
    kubeconfig: KubeconfigOption = "",
    context: ContextOption = "",
    point: Annotated[str, typer.Option("--point", help="The recovery point: latest, an id, a time, or “2 weeks ago”.")] = "latest",
    keep: Annotated[bool, typer.Option("--keep", help="Leave what was restored for a day, to look at it.")] = False,  # noqa: FBT002
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Prove a recovery point: restore it into closed namespaces of its own, wait until all is ready, run the policy's checks, measure, clean up."""
    place, loaded = find_place(policy)
    if loaded is None:
        raise UsageError("a drill needs the policy's file")
    run_id = f"cli__{format_time(SystemClock().now())}__{uuid4().hex[:6]}"
    with progress(quiet=json) as report:
        ports = build_ports(place, cluster_name=loaded.spec.cluster, kubeconfig=kubeconfig, context=context, progress=report)
        done = action.run(loaded, ports, run_id=run_id, point=point, keep=keep)
    if json:
        print_json({"ok": done.ok, "drill": payload(done)})
        if not done.ok:
            raise typer.Exit(exit_code(DrillFailed("")))
        return
    _print(done)
    action.demand(done)


def drills(
    policy: PolicyFile = None,
    target: TargetOption = "",
    name: NameOption = "",
    password: PasswordOption = "",
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """List the drills of a policy, newest last: what was proven, how long a recovery took, and what failed. Only the bucket is asked."""
    place, _ = find_place(policy, target=target, name=name, password=password)
    found = drill_record.listed(open_repository(place.store, place.password))
    if json:
        print_json({"ok": True, "policy": place.policy, "drills": [payload(one) for one in found]})
        return
    if not found:
        console.print(f"policy {place.policy} has had no drill", markup=False)
        return
    table = Table("drill", "started", "point", "result", "recovery", "objective", "checks", box=None)
    for one in found:
        passed = sum(check.ok for check in one.checks)
        table.add_row(
            one.id,
            format_time(one.started)[:19] + "Z",
            one.point[:8],
            clean("proven", "green") if one.ok else clean(f"failed: {one.failures[0] if one.failures else ''}", "red"),
            _span(one.recovery_seconds),
            _span(one.rto_seconds),
            f"{passed} of {len(one.checks)}" if one.checks else "-",
        )
    console.print(table)


def _span(seconds: float | None) -> str:
    return "-" if seconds is None else format_duration(timedelta(seconds=max(1, round(seconds))))


def _print(done: DrillReport) -> None:
    """Say what a drill came to. What it says may come from a recovery point: no markup and no control character of it gets through."""
    table = Table(show_header=False, box=None)
    rows = [
        ("drill", done.id),
        ("recovery point", f"{done.point[:8]}, cut {format_time(done.cut)}"),
        ("restored", f"{done.objects} objects, {done.volumes} volumes ({human_bytes(done.bytes)}), as they were saved"),
        ("recovery", f"{_span(done.recovery_seconds)}" + (f", the objective is {_span(done.rto_seconds)}" if done.rto_seconds else "")),
        *(("check", f"{check.name} in {check.where}: {'succeeded' if check.ok else check.reason}") for check in done.checks),
        *(("note", str(remark)) for remark in done.remarks),
        *(("failed", str(failure)) for failure in done.failures),
        *(("kept", name) for name in done.kept),
        ("result", "proven" if done.ok else "not proven"),
    ]
    for left, right in rows:
        table.add_row(left, clean(right, "red" if left == "failed" else ""))
    console.print(table)
