"""`becalm run`: make one recovery point now, without Airflow."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path  # noqa: TC003  (typer resolves the annotations at run time)
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer
from rich.table import Table

from becalm.actions import pipeline
from becalm.actions import run as verdicts
from becalm.actions.asked import read as read_asked
from becalm.cli.console import console, human_bytes, print_json, progress
from becalm.cli.ports import ContextOption, JsonOption, KubeconfigOption, build_ports, find_place
from becalm.clock import SystemClock, format_time, parse_time
from becalm.errors import UsageError
from becalm.model import payload

if TYPE_CHECKING:
    from becalm.actions.handover import Committed


def run(  # noqa: PLR0917  (typer reads the options from the signature)
    policy: Annotated[Path, typer.Argument(metavar="POLICY", help="The policy's file.")],
    kubeconfig: KubeconfigOption = "",
    context: ContextOption = "",
    slot: Annotated[str, typer.Option("--slot", help="The slot that this run answers (RFC 3339); default: none.")] = "",
    note: Annotated[str, typer.Option("--note", help="Why this recovery point is made.")] = "",
    label: Annotated[str, typer.Option("--label", help="A word by which the point is found again.")] = "",
    pin_days: Annotated[int, typer.Option("--pin-days", help="Retention leaves the point alone for so many days.")] = 0,
    namespace: Annotated[
        list[str] | None,
        typer.Option(
            "--namespace", help="Only this namespace of the policy's. Such a point is never the last good one, and answers no slot."
        ),
    ] = None,
    no_quiesce: Annotated[bool, typer.Option("--no-quiesce", help="Freeze nothing: the point is crash-consistent.")] = False,  # noqa: FBT002
    run_id: Annotated[str, typer.Option("--run-id", help="A name for this run; the same name again takes it up where it ended.")] = "",
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Make one recovery point now: discover, freeze, cut, thaw, upload, commit, prune, with progress on stderr."""
    place, loaded = find_place(policy)
    if loaded is None:
        raise UsageError("a run needs the policy's file")
    try:
        owed = parse_time(slot).astimezone(UTC) if slot else None
    except ValueError as error:
        raise UsageError(f"{slot!r} is not a time", where="--slot", hint="write it like 2026-11-23T10:00:00Z") from error
    given = {"note": note, "label": label, "pin_days": pin_days, "namespaces": namespace, "quiesce": not no_quiesce}
    asked = read_asked(given, slot=owed)
    name = run_id or f"cli__{format_time(SystemClock().now())}__{uuid4().hex[:6]}"
    with progress(quiet=json) as report:
        ports = build_ports(place, cluster_name=loaded.spec.cluster, kubeconfig=kubeconfig, context=context, progress=report)
        outcome = pipeline.protect(loaded, run_id=name, ports=ports, slot=owed, asked=asked)
    if json:
        print_json(
            {
                "ok": outcome.verdict is None or outcome.verdict.ok,
                "begun": payload(outcome.begun),
                "committed": payload(outcome.committed) if outcome.committed else None,
                "verdict": payload(outcome.verdict) if outcome.verdict else None,
            }
        )
    elif outcome.begun.skipped:
        console.print(f"nothing to do: {outcome.begun.skipped}", markup=False)
    elif outcome.committed:
        _print(outcome)
    if outcome.verdict is not None and not (json and not outcome.verdict.ok):
        verdicts.demand(outcome.verdict)
    elif outcome.verdict is not None:
        raise typer.Exit(5)


def _state(committed: Committed) -> str:
    if not committed.complete:
        return f"partial: {len(committed.missing)} missing"
    return "complete, and no good one: see the anomalies" if committed.anomalies else "complete"


def _print(outcome: pipeline.Outcome) -> None:
    committed = outcome.committed
    if committed is None:
        return
    table = Table(show_header=False, box=None)
    for name, value in (
        ("recovery point", committed.point[:16]),
        ("state", _state(committed)),
        ("consistency", str(committed.consistency)),
        ("objects", str(committed.objects)),
        ("volumes", f"{committed.volumes} ({human_bytes(committed.bytes_total)}, {human_bytes(committed.bytes_added)} new)"),
    ):
        table.add_row(name, value)
    for finding in committed.missing:
        table.add_row("missing", str(finding))
    for finding in committed.anomalies:
        table.add_row("anomaly", str(finding))
    if outcome.pruned:
        table.add_row("retention", f"{outcome.pruned.kept} kept, {len(outcome.pruned.forgotten)} forgotten")
        if outcome.pruned.deleted:
            table.add_row("reclaimed", f"{outcome.pruned.deleted} packs, {human_bytes(outcome.pruned.deleted_bytes)}")
        for finding in outcome.pruned.findings:
            table.add_row("prune", str(finding))
    console.print(table)
