"""`becalm drifts`, `becalm acknowledge`: what the looks at a policy's drift have left, and letting one be until a day. Only the bucket is asked."""

from __future__ import annotations

import getpass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated

import typer
from rich.table import Table

from becalm.actions.drift_record import acknowledge as acknowledged
from becalm.catalog import drift as catalog
from becalm.catalog import ledger
from becalm.cli.console import clean, console, print_json
from becalm.cli.ports import JsonOption, NameOption, PasswordOption, PolicyFile, TargetOption, find_place
from becalm.clock import SystemClock, format_time
from becalm.errors import NotFound, UsageError
from becalm.model import payload
from becalm.repository.reader import open_repository

LONGEST = timedelta(days=366)


def acknowledge(
    policy: PolicyFile,
    objects: Annotated[list[str], typer.Argument(metavar="OBJECT...", help="As the look names them: deployments.apps/shop/web.")],
    until: Annotated[str, typer.Option("--until", help="The last day on which it is fine: 2026-12-31; a year ahead at most.")],
    note: Annotated[str, typer.Option("--note", help="Why it may be so.")] = "",
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Let drifts be until a day: the DAG of drift does not tell them, as long as they stay the same."""
    end = _day(until, SystemClock().now())
    place, _ = find_place(policy)
    repository = open_repository(place.store, place.password, few=True)
    record, etag = catalog.load(repository)
    who = _user()
    made = acknowledged(record, objects, until=end, who=who, note=note)
    catalog.save(repository, made, etag)
    content = {"format": 1, "objects": list(objects), "until": format_time(end), "note": note}
    ledger.append(repository, ledger.EntryKind.ACKNOWLEDGED, content, who=who)
    if json:
        print_json({"ok": True, "who": who, **content})
        return
    for name in objects:
        console.print(clean(f"{name}: acknowledged until {until} by {who}"))


def drifts(
    *,
    policy: PolicyFile = None,
    target: TargetOption = "",
    name: NameOption = "",
    password: PasswordOption = "",
    json: JsonOption = False,
) -> None:
    """Say what had drifted at the last look, since when, and what was acknowledged until when. Ends with 1 where something is open."""
    place, _ = find_place(policy, target=target, name=name, password=password)
    record, _ = catalog.load(open_repository(place.store, place.password, few=True))
    if record is None:
        raise NotFound("nobody has looked at the drift of this policy yet", where=f"policy {place.policy}", hint="trigger becalm_drift")
    if json:
        print_json({"ok": True, **payload(record)})
    else:
        _show(record)
    if record.open:
        raise typer.Exit(1)


def _show(record: catalog.DriftRecord) -> None:
    until = {one.where: one for one in record.acknowledged}
    table = Table("object", "what", "since", "why", box=None)
    for one in (*record.open, *record.quiet):
        known = until.get(one.where) if one in record.quiet else None
        why = f"acknowledged by {known.who} until {format_time(known.until)[:10]}: {known.note or one.because}" if known else one.because
        table.add_row(clean(one.where), one.what, format_time(one.since)[:19], clean(why))
    if table.row_count:
        console.print(table)
    last = record.looks[-1]
    console.print(
        clean(
            f"{format_time(last.time)[:19]}: {last.compared} objects compared with recovery point {last.point[:8]}: "
            f"{len(record.open)} open, {len(record.quiet)} acknowledged, {last.unknown} not known"
        )
    )


def _day(text: str, now: datetime) -> datetime:
    """Return the end of a day. Raises UsageError."""
    try:
        day = datetime.combine(date.fromisoformat(text) + timedelta(days=1), time(), tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--until {text!r} is no day", hint="write it as 2026-12-31") from error
    if not now < day <= now + LONGEST:
        raise UsageError(f"--until {text} is over, or more than a year ahead", hint="name a day of the next year")
    return day


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody at a terminal"
