"""`becalm rebuild`: everything that a target protects, into an empty cluster. It needs the bucket, a password and the cluster: no policy, no Airflow."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path  # noqa: TC003  (typer resolves the annotations at run time)
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from becalm.actions import rebuild as action
from becalm.actions.rebuild_outside import runbook as write_runbook
from becalm.cli.console import clean, console, human_bytes, print_json, progress
from becalm.cli.ports import (
    PASSWORD,
    ContextOption,
    JsonOption,
    KubeconfigOption,
    PasswordOption,
    Place,
    build_ports,
    read_password,
    store_credentials,
)
from becalm.clock import format_time
from becalm.errors import PermanentError, UsageError, exit_code
from becalm.model import payload
from becalm.policy.problems import Problem
from becalm.policy.units import format_duration, parse_duration
from becalm.storage import open_store
from becalm.storage.base import Folders

if TYPE_CHECKING:
    from collections.abc import Callable

    from becalm.actions.handover import Ports, Progress
    from becalm.actions.rebuild_steps import RebuildPlan, RebuildReport


def rebuild(
    *,
    target: Annotated[str, typer.Option("--target", help="The target's URL, as in the policies: s3://bucket/prefix or file:///folder.")],
    password: PasswordOption = "",
    kubeconfig: KubeconfigOption = "",
    context: ContextOption = "",
    as_of: Annotated[
        str, typer.Option("--as-of", help="The newest good points at this time: latest, a time, or “2 hours ago”.")
    ] = "latest",
    policies: Annotated[list[str] | None, typer.Option("--policy", help="Only this policy; more than one is fine. Default: all.")] = None,
    first: Annotated[list[str] | None, typer.Option("--first", help="Restore this policy before the others; in the order given.")] = None,
    nodes: Annotated[bool, typer.Option("--nodes", help="Put labels and taints back on nodes of the same names.")] = False,
    wait: Annotated[
        str, typer.Option("--wait", help="Wait so long until all workloads are ready: 15m. Those that are not are failures.")
    ] = "",
    runbook: Annotated[
        Path | None, typer.Option("--runbook", help="Write what no API brings back into this file (Markdown), and change nothing.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Rebuild an empty cluster from a target: what belongs to no namespace first, then policy after policy, what guards the API last."""
    waits = _seconds(wait)
    names = _names(target, policies or [])
    with progress(quiet=json) as report:
        ports_for = _opener(target, password, kubeconfig, context, report)
        plan = action.prepare(names, ports_for, target=target, as_of=as_of, first=first or ())
    if not json:
        _print_plan(plan, nodes=nodes)
    if runbook is not None:
        _write(runbook, write_runbook(plan))
    if dry_run or runbook is not None:
        if json:
            print_json({"ok": True, "plan": payload(plan)})
        return
    _ask(plan, yes=yes, json=json)
    with progress(quiet=json) as report:
        done = action.execute(plan, _opener(target, password, kubeconfig, context, report), nodes=nodes, wait_seconds=waits)
    if json:
        print_json({"ok": done.ok, "plan": payload(plan), "report": payload(done)})
        if not done.ok:
            raise typer.Exit(exit_code(PermanentError("")))
        return
    _print_report(done)
    action.demand(done)


def _names(target: str, wanted: list[str]) -> list[str]:
    """Return the policies under a target, or those that were named. Raises UsageError, and what the store raises."""
    if wanted:
        return sorted(set(wanted))
    store = open_store(target, store_credentials())
    if not isinstance(store, Folders):
        raise UsageError("this target cannot say which policies it holds", where=target, hint="name them with --policy")
    return list(store.folders())


def _opener(target: str, password: str, kubeconfig: str, context: str, report: Progress) -> Callable[[str], Ports]:
    """Return what opens the ports of a policy, once for each."""
    secret = read_password(password or f"env:{PASSWORD}")
    opened: dict[str, Ports] = {}

    def open_policy(policy: str) -> Ports:
        if policy not in opened:
            url = f"{target.rstrip('/')}/{policy}"
            place = Place(policy=policy, url=url, store=open_store(url, store_credentials()), password=secret)
            opened[policy] = build_ports(place, cluster_name="", kubeconfig=kubeconfig, context=context, progress=report)
        return opened[policy]

    return open_policy


def _seconds(text: str) -> float:
    try:
        return parse_duration(text).total_seconds() if text else 0.0
    except Problem as problem:
        raise UsageError(problem.problem, where="--wait", hint=problem.remedy) from None


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"the runbook cannot be written: {error.strerror}", where=f"--runbook {path}", hint="name a file in a folder that is there"
        ) from error


def _ask(plan: RebuildPlan, *, yes: bool, json: bool) -> None:
    """Ask a person; without one, demand --yes. Raises UsageError."""
    if yes:
        return
    if json or not sys.stdin.isatty():
        raise UsageError("nobody is there to say yes to the plan", where="rebuild", hint="look at it with --dry-run, then say --yes")
    if not typer.confirm(f"Rebuild {len(plan.parts)} policies into this cluster?"):
        console.print("nothing was changed")
        raise typer.Exit(0)


def _print_plan(plan: RebuildPlan, *, nodes: bool) -> None:
    table = Table("policy", "point", "cut", "environment", "namespaces", "objects", "volumes", "data", box=None)
    for part in plan.parts:
        row: list[Any] = [part.policy, part.point[:8], format_time(part.cut)[:19] + "Z", part.environment, ", ".join(part.namespaces)]
        table.add_row(*(clean(cell) for cell in row), str(part.objects), str(part.volumes), human_bytes(part.bytes))
    console.print(table)
    for change in plan.nodes:
        console.print(clean(f"{'put back' if nodes else 'with --nodes'}: {change}"))
    for finding in plan.findings:
        console.print(clean("note: ", "yellow").append_text(clean(finding)))


def _print_report(done: RebuildReport) -> None:
    table = Table("phase", "policy", "created", "kept", "volumes", "data", "took", box=None)
    for part in done.parts:
        cells = (str(part.phase), part.policy, str(part.created), str(part.kept), str(part.volumes), human_bytes(part.bytes))
        table.add_row(*(clean(cell) for cell in cells), f"{part.seconds:.1f} s")
    console.print(table)
    for finding in done.wrong:
        console.print(clean("failed: ", "red").append_text(clean(finding)))
    console.print(f"rebuilt in {format_duration(timedelta(seconds=max(1, round(done.seconds))))}" + ("" if done.ok else ", not whole"))
