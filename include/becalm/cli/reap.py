"""`becalm reap`: thaw what dead runs may have left frozen, and remove what they and dead restores left in the cluster."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer resolves the annotations at run time)
from typing import Annotated

import typer
from rich.table import Table

from becalm.actions import reap as action
from becalm.cli.console import console, print_json, progress
from becalm.cli.ports import ContextOption, JsonOption, KubeconfigOption, build_ports, find_place
from becalm.errors import PartialCapture, UsageError
from becalm.model import payload


def reap(
    policies: Annotated[list[Path], typer.Argument(metavar="POLICY...", help="The policies' files.")],
    kubeconfig: KubeconfigOption = "",
    context: ContextOption = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")] = False,  # noqa: FBT002
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Thaw what dead runs may have left frozen, and remove what they left. What a living run or restore made is never touched."""
    plans: list[action.Plan] = []
    done: list[action.Reaped] = []
    with progress(quiet=json) as report:
        for path in policies:
            place, policy = find_place(path)
            if policy is None:
                raise UsageError("a reaper needs the policy's file")
            ports = build_ports(place, cluster_name=policy.spec.cluster, kubeconfig=kubeconfig, context=context, progress=report)
            plans.append(action.plan(policy, ports))
            if not dry_run:
                done.append(action.execute(plans[-1], policy, ports))
    findings = [finding for item in done for finding in item.findings]
    ok = not findings and not any(item.frozen for item in done)
    if json:
        print_json({"ok": ok, "dry_run": dry_run, "plans": [payload(item) for item in plans], "done": [payload(item) for item in done]})
        if not ok:
            raise typer.Exit(5)
        return
    _print(plans, done)
    action.demand(done)
    if findings:
        raise PartialCapture("; ".join(str(finding) for finding in findings), where="reap", hint="mend what is named and reap again")


def _print(plans: list[action.Plan], done: list[action.Reaped]) -> None:
    """Say what would be done, or what was."""
    table = Table(show_header=False, box=None)
    for plan in plans:
        for line in action.told(plan) or ["there is nothing to do"]:
            table.add_row(plan.policy, line)
    for item in done:
        rows = (
            *(f"thawed {place}" for place in item.thawed),
            *(f"{hook} waits: its frozen container is gone, and nobody stands in its place yet" for hook in item.waiting),
            *(f"nothing is left of run {run}" for run in item.runs),
            *(f"nothing is left of restore {run}" for run in item.restores),
            *(f"nothing is left of drill {drill}" for drill in item.drills),
        )
        for row in rows:
            table.add_row(item.policy, row)
    console.print(table)
