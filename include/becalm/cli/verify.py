"""`becalm verify`: prove that what is in the repository is whole, all at once or in shares, and say what the ledger knows of it."""

from __future__ import annotations

import getpass
import platform
from contextlib import nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from becalm.actions import verify as action
from becalm.cli.console import console, human_bytes, notes, print_json, progress
from becalm.cli.memory import one_heap
from becalm.cli.ports import JsonOption, NameOption, PasswordOption, PolicyFile, TargetOption, find_place
from becalm.cli.rate import rated
from becalm.clock import SystemClock, format_time
from becalm.errors import Damaged, UsageError
from becalm.policy.problems import Problem
from becalm.policy.units import parse_duration, parse_quantity
from becalm.repository.check_packs import hire
from becalm.repository.reader import open_repository
from becalm.repository.snapshots import load_snapshot

if TYPE_CHECKING:
    from becalm.cli.ports import Place
    from becalm.policy.spec import ProtectionPolicy
    from becalm.repository.damage import Damage

_EXIT_DAMAGED = 7
_REMEDY = "becalm repair shows what can be saved; do not prune before; see docs/operations.md"


def verify(  # noqa: PLR0917  (typer reads the options from the signature)
    policy: PolicyFile = None,
    target: TargetOption = "",
    name: NameOption = "",
    password: PasswordOption = "",
    read_data: Annotated[bool, typer.Option("--read-data", help="Read, decrypt and hash every byte, not only the structure.")] = False,  # noqa: FBT002
    rotate: Annotated[
        str, typer.Option("--rotate", help="Read the share that is due, so that every byte is read once within this time: 30d.")
    ] = "",
    max_bytes: Annotated[str, typer.Option("--max-bytes", help="With --rotate: read at most so much: 50Gi.")] = "",
    for_: Annotated[str, typer.Option("--for", help="Begin no further pack after this time: 10m. What is left is due next time.")] = "",
    snapshot: Annotated[list[str] | None, typer.Option("--snapshot", help="Only this recovery point, by its id.")] = None,
    status: Annotated[bool, typer.Option("--status", help="Read nothing; say what was verified when, and which damages are open.")] = False,  # noqa: FBT002
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Check every recovery point: each tree and blob is there, in a pack of the right size; with --read-data or --rotate, bytes too."""
    if max_bytes and not rotate:
        raise UsageError("--max-bytes bounds the share of --rotate", hint="add --rotate 30d")
    if snapshot and rotate:
        raise UsageError("--snapshot and --rotate exclude each other", hint="--snapshot ID --read-data reads what that point needs")
    span = _span("--rotate", rotate) if rotate else None
    bound = _span("--for", for_).total_seconds() if for_ else None
    most = _quantity(max_bytes) if max_bytes else None
    place, loaded = find_place(policy, target=target, name=name, password=password, whole=True)
    if status:
        _show_status(place, json=json)
        return
    wanted = action.Wanted(read_data=read_data, period=span, max_bytes=most, for_seconds=bound, snapshots=_whole_ids(place, snapshot or []))
    clock = SystemClock()
    if not read_data:  # where whole packs come and go at once, a heap for each thread is a little faster
        one_heap()
    all_at_once = read_data and not snapshot and bound is None
    with (hire() if all_at_once else None) or nullcontext() as hired, progress(quiet=json) as report:
        found = action.execute(
            place.store,
            place.password,
            wanted,
            who=f"becalm verify, {getpass.getuser()}@{platform.node()}",
            clock=clock,
            progress=rated(report, clock, lively=notes.is_terminal),
            retain_until=place.store.now() + timedelta(days=_days(loaded)) if _days(loaded) else None,
            hired=hired,
        )
    if json:
        print_json(_document(found))
        if found.damages:
            raise typer.Exit(_EXIT_DAMAGED)
        return
    _print(found)
    if found.damages:
        raise Damaged(f"{len(found.damages)} objects are damaged", where=place.url, hint=_REMEDY)
    console.print(_verdict(found))


def _days(policy: ProtectionPolicy | None) -> int:
    lock = policy.spec.target.lock if policy else None
    return lock.days if lock else 0


def _span(option: str, text: str) -> timedelta:
    try:
        return parse_duration(text)
    except Problem as error:
        raise UsageError(f"{option} {text!r} is no length of time: {error}", hint="write 10m, 12h, 30d") from error


def _quantity(text: str) -> int:
    try:
        return parse_quantity(text)
    except Problem as error:
        raise UsageError(f"--max-bytes {text!r} is no amount: {error}", hint="write 500Mi, 50Gi") from error


def _whole_ids(place: Place, wanted: list[str]) -> tuple[str, ...]:
    if not wanted:
        return ()
    repository = open_repository(place.store, place.password)
    return tuple(load_snapshot(repository, one)[0] for one in wanted)


def damage_document(damage: Damage) -> dict[str, Any]:
    """Return a damage for programs."""
    harms = [{"point": h.point, "time": format_time(h.time), "paths": list(h.paths), "more": h.more} for h in damage.harms]
    return {"where": damage.where, "problem": damage.problem, "harms": harms}


def print_damages(damages: tuple[Damage, ...]) -> None:
    """Print damages for people: the object, the problem, and what it harms."""
    for damage in damages:
        console.print(f"{damage.where}: {damage.problem}", markup=False)
        for harm in damage.harms:
            console.print(f"  harms {harm}", markup=False)


def _document(found: action.Verified) -> dict[str, Any]:
    share = found.share
    return {
        "ok": not found.damages,
        "points": found.points,
        "packs": found.packs,
        "packs_read": found.packs_read,
        "bytes": found.bytes,
        "bytes_read": found.bytes_read,
        "unindexed_packs": list(found.unindexed),
        "share": None if share is None else {"packs": len(share.packs), "bytes": share.bytes, "due": share.due, "left": share.left},
        "ledger_entry": found.entry,
        "note": found.note,
        "damages": [damage_document(damage) for damage in found.damages],
    }


def _print(found: action.Verified) -> None:
    print_damages(found.damages)
    if found.note:
        console.print(found.note, markup=False)
    if found.unindexed:
        console.print(f"{len(found.unindexed)} packs stand in no index: runs that died left them, or an index object is lost")
    if found.share is not None and found.share.left:
        console.print(f"{found.share.left} packs are due and did not fit into this run: give it more bytes, or run it more often")


def _verdict(found: action.Verified) -> str:
    points = f"{found.points} recovery points"
    if found.packs_read == found.packs - len(found.unindexed):
        return f"every byte of {points} is whole: {human_bytes(found.bytes_read)} read"
    read = f"{found.packs_read} of {found.packs} packs, {human_bytes(found.bytes_read)} of {human_bytes(found.bytes)}, were read"
    return f"the structure of {points} is whole; {read}"


def _show_status(place: Place, *, json: bool) -> None:
    """Say what the ledger knows; a damage that is open is a damage."""
    found = action.status(place.store, place.password)
    if json:
        print_json(
            {
                "ok": not found.damages,
                "packs": found.packs,
                "bytes": found.bytes,
                "unread_packs": found.unread_packs,
                "unread_bytes": found.unread_bytes,
                "oldest_unread_since": format_time(found.oldest) if found.oldest else None,
                "all_read_since": format_time(found.all_read) if found.all_read else None,
                "last_run": format_time(found.last) if found.last else None,
                "damages": [{"where": d.where, "problem": d.problem, "since": format_time(d.since)} for d in found.damages],
            }
        )
    else:
        never = f"{found.unread_packs} of them, {human_bytes(found.unread_bytes)}, were never read since they were written"
        console.print(f"{found.packs} packs, {human_bytes(found.bytes)}; {never}")
        console.print(f"last verified: {format_time(found.last) if found.last else 'never'}")
        if found.oldest:
            console.print(f"the byte that waits longest was read or written last at {format_time(found.oldest)}")
        for damage in found.damages:
            console.print(f"open since {format_time(damage.since)}: {damage.where}: {damage.problem}", markup=False)
    if found.damages:
        if json:
            raise typer.Exit(_EXIT_DAMAGED)
        raise Damaged(f"{len(found.damages)} damages are open", where=place.url, hint=_REMEDY)
