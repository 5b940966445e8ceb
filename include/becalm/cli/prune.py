"""`becalm prune`, `becalm forget`: let points go, and get the space back. Only the bucket is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from becalm.actions import prune as action
from becalm.catalog import points as catalog
from becalm.cli.console import console, human_bytes, print_json, progress
from becalm.cli.ports import JsonOption, NameOption, PasswordOption, Place, PolicyFile, TargetOption, find_place
from becalm.clock import SystemClock
from becalm.errors import UsageError
from becalm.model import payload
from becalm.policy.problems import Problem
from becalm.policy.units import format_duration, parse_duration
from becalm.repository.prune import GRACE, MOST_SHARE, Rules
from becalm.repository.reader import open_repository
from becalm.repository.repack import BELOW

if TYPE_CHECKING:
    from datetime import timedelta

    from becalm.actions.handover import Progress

DEFAULT_GRACE, DEFAULT_SHARE, DEFAULT_BELOW = format_duration(GRACE), f"{MOST_SHARE:.0%}", f"{BELOW:.0%}"

GraceOption = Annotated[str, typer.Option("--grace", help="How long a marked pack waits before it may go: 7d, 36h; not below 25h.")]
ShareOption = Annotated[str, typer.Option("--max-share", help="How much of all bytes may go in one go without --yes-really: 50%, 0.5.")]
YesOption = Annotated[bool, typer.Option("--yes-really", help="Delete even more than --max-share.")]


def prune(  # noqa: PLR0917  (typer reads the options from the signature)
    policy: PolicyFile = None,
    target: TargetOption = "",
    name: NameOption = "",
    password: PasswordOption = "",
    grace: GraceOption = DEFAULT_GRACE,
    max_share: ShareOption = DEFAULT_SHARE,
    yes_really: YesOption = False,  # noqa: FBT002
    repack: Annotated[bool, typer.Option("--repack", help="Write anew what is needed of packs that are mostly waste.")] = False,  # noqa: FBT002
    repack_below: Annotated[
        str, typer.Option("--repack-below", help="With --repack: packs of which less than this is needed.")
    ] = DEFAULT_BELOW,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and change nothing.")] = False,  # noqa: FBT002
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Forget what the policy's retention does not keep; mark packs that nothing needs; delete those that were marked long ago."""
    rules = Rules(grace=_grace(grace), most_share=_share(max_share, "--max-share"), yes_really=yes_really)
    place, loaded = find_place(policy, target=target, name=name, password=password)
    with progress(quiet=json) as report:
        desk = _desk(place, report)
        if dry_run:
            going = [decision for decision in action.decide(desk, loaded) if not decision.keep] if loaded else []
            made = action.preview(desk, rules=rules)
        else:
            below = _share(repack_below, "--repack-below") if repack else None
            pruned, done, anew = action.by_hand(desk, loaded, rules=rules, repack_below=below)
    if dry_run:
        rows = [
            ("would be forgotten", f"{len(going)} points: {', '.join(decision.point.id[:8] for decision in going) or '-'}"),
            ("would be marked", f"{len(made.mark)} packs, {human_bytes(made.marked_bytes)}, and what the forgotten points alone need"),
            ("would be deleted", f"{len(made.delete)} packs, {human_bytes(made.deleted_bytes)}, {made.share:.0%} of all"),
            ("waiting", f"{made.waiting} marked packs, {human_bytes(made.waiting_bytes)}; {made.young} too young to be marked"),
            ("would stay", f"{made.total - len(made.delete)} packs, {human_bytes(made.total_bytes - made.deleted_bytes)}"),
        ]
        document: dict[str, object] = {
            "ok": True,
            "dry_run": True,
            "forget": {decision.point.id: decision.reasons for decision in going},
            "mark": list(made.mark),
            "delete": [stone.pack for stone in made.delete],
            "delete_bytes": made.deleted_bytes,
            "share": made.share,
            "waiting": made.waiting,
        }
    else:
        rows = [
            ("forgotten", f"{len(pruned.forgotten)} points, {pruned.kept} stay"),
            ("marked", f"{pruned.marked} packs: they go no sooner than in {format_duration(rules.grace)}"),
            ("deleted", f"{pruned.deleted} packs, {human_bytes(pruned.deleted_bytes)}"),
            ("waiting", f"{pruned.waiting} marked packs" + (f", {pruned.locked} that are locked" if pruned.locked else "")),
            *(("finding", str(finding)) for finding in pruned.findings),
        ]
        if anew:
            rows.append(
                ("repacked", f"{anew.packs} packs, {human_bytes(anew.packs_bytes)}, into {human_bytes(anew.bytes_written)}; they go later")
            )
        document = {
            "ok": True,
            "dry_run": False,
            "repacked": anew.packs if anew else 0,
            "pruned": payload(pruned),
            "packs": done.deleted,
            "withdrawn": done.withdrawn,
        }
    _print(rows, document, json=json)


def forget(  # noqa: PLR0917  (typer reads the options from the signature)
    point: Annotated[
        list[str], typer.Option("--point", help="A recovery point: an id, or the beginning of one. More than once for several.")
    ],
    policy: PolicyFile = None,
    target: TargetOption = "",
    name: NameOption = "",
    password: PasswordOption = "",
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Forget recovery points that you name; the last good one, pinned and locked ones stay. Space comes back by becalm prune."""
    place, _ = find_place(policy, target=target, name=name, password=password)
    with progress(quiet=json) as report:
        desk = _desk(place, report)
        found = catalog.points(open_repository(place.store, place.password), place.policy)
        chosen = [catalog.find(found, one, now=desk.clock.now()) for one in point]
        gone = action.forget_named(desk, chosen)
    _print([("forgotten", one[:8]) for one in gone], {"ok": True, "forgotten": list(gone)}, json=json)


def _desk(place: Place, report: Progress) -> action.Desk:
    return action.Desk(policy=place.policy, store=place.store, password=place.password, clock=SystemClock(), progress=report)


def _print(rows: list[tuple[str, str]], document: dict[str, object], *, json: bool) -> None:
    if json:
        print_json(document)
        return
    table = Table(show_header=False, box=None)
    for left, right in rows:
        table.add_row(left, right)
    console.print(table, markup=False)


def _grace(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except Problem as problem:
        raise UsageError(str(problem), where="--grace", hint="write it like 7d or 36h") from problem


def _share(text: str, option: str) -> float:
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError as error:
        raise UsageError(f"{text!r} is not a share", where=option, hint="write it like 50% or 0.5") from error
