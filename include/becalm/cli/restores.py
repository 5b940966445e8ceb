"""`becalm restores` lists what was restored, and `becalm confirm` lets go of the old data that restores in place have kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from becalm.actions import restore_record, restore_safety
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
from becalm.clock import format_time
from becalm.model import payload
from becalm.repository.reader import open_repository

if TYPE_CHECKING:
    from becalm.actions.restore_record import RestoreRecord


def restores(
    *,
    policy: PolicyFile = None,
    target: TargetOption = "",
    name: NameOption = "",
    password: PasswordOption = "",
    json: JsonOption = False,
) -> None:
    """List the restores of a policy's points, oldest first: who asked, what became of it. It needs the bucket and the password, and no cluster."""
    place, _ = find_place(policy, target=target, name=name, password=password)
    found = list(restore_record.listed(open_repository(place.store, place.password)))
    if json:
        print_json({"ok": True, "policy": place.policy, "restores": [payload(one) for one in found]})
        return
    table = Table("when", "point", "result", "objects", "volumes", "by", box=None)
    for one in found:
        table.add_row(*map(clean, _row(one)))
    console.print(table if found else "nothing was restored yet")


def _row(one: RestoreRecord) -> tuple[str, ...]:
    moved = [volume for volume in one.volumes if volume.bytes or volume.error]
    size = human_bytes(sum(volume.bytes for volume in moved))
    approved = f", approved by {one.approved_by}" if one.approved_by else ""
    result = "ok" if one.ok else f"failed: {one.findings[0]}" if one.findings else "failed"
    if one.state is restore_record.RestoreState.RUNNING:
        result = "unfinished: it runs, or was killed; the same restore, run again, goes on from there"
    return format_time(one.started), one.point[:8], result, str(one.objects), f"{len(moved)} ({size})", one.asked_by + approved


def confirm(
    *,
    policy: PolicyFile = None,
    target: TargetOption = "",
    name: NameOption = "",
    password: PasswordOption = "",
    kubeconfig: KubeconfigOption = "",
    context: ContextOption = "",
    namespace: Annotated[str, typer.Option("--namespace", help="Only what was restored in this namespace.")] = "",
    json: JsonOption = False,
) -> None:
    """Accept what was restored in place: the snapshots that keep the old data are deleted."""
    place, loaded = find_place(policy, target=target, name=name, password=password)
    with progress(quiet=json) as report:
        cluster_name = loaded.spec.cluster if loaded else ""
        ports = build_ports(place, cluster_name=cluster_name, kubeconfig=kubeconfig, context=context, progress=report)
        gone = restore_safety.confirm(place.policy, ports, namespace=namespace or None)
    if json:
        print_json({"ok": True, "policy": place.policy, "deleted": [payload(copy) for copy in gone]})
        return
    for copy in gone:
        console.print(clean(f"the old data of {copy.volume}, kept since {format_time(copy.made)}, is let go"))
    console.print(f"{len(gone)} copies were deleted")
