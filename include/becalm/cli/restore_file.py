"""`becalm restore --file … --into …`: single files or folders of a recovery point into a claim, while its pod runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from becalm.actions import restore_files
from becalm.cli.console import clean, console, human_bytes, print_json
from becalm.clock import format_time
from becalm.errors import UsageError
from becalm.model import payload

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from becalm.actions.handover import Ports

FileOption = Annotated[
    list[str] | None,
    typer.Option("--file", help="Only this file or folder, into a claim that exists (--into): volumes/shop/data/orders.db."),
]
IntoOption = Annotated[str, typer.Option("--into", help="With --file: the claim, and a folder in it: shop/data or shop/data:inner/folder.")]


def put(
    files: Sequence[str],
    into: str,
    ports: Ports,
    *,
    policy: str,
    point: str,
    dry_run: bool,
    agreed: Callable[[str], bool],
    json: bool,
) -> None:
    """Say what would be written, ask, and write it. Raises: UsageError, and as `restore_files`."""
    if not into:
        raise UsageError("it is not said where the files go", where="--file", hint="add --into shop/data, or --into shop/data:folder")
    plan = restore_files.prepare(policy, point, files, into, ports)
    place = f"{plan.target}:/{plan.into}"
    said = f"{', '.join(plan.paths)} of {plan.point[:8]} ({format_time(plan.cut)}) into {place}; what has the same name there is replaced"
    if not json:
        console.print(clean(said))
    if dry_run:
        if json:
            print_json({"ok": True, "plan": payload(plan)})
        return
    if not agreed(said):
        return
    done = restore_files.execute(plan, ports)
    if json:
        print_json({"ok": True, "plan": payload(plan), "result": payload(done)})
        return
    console.print(clean(f"{done.files} files, {human_bytes(done.bytes_total)} are in {place}"))
