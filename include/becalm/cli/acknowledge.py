"""`becalm acknowledge`: somebody knows of a drift, and lets it be until a day. It stands in the bucket and in the ledger."""

from __future__ import annotations

import getpass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated

import typer

from becalm.actions.drift_record import acknowledge as acknowledged
from becalm.catalog import drift as catalog
from becalm.catalog import ledger
from becalm.cli.console import clean, console
from becalm.cli.ports import PolicyFile, find_place
from becalm.clock import SystemClock, format_time
from becalm.errors import UsageError
from becalm.repository.reader import open_repository

LONGEST = timedelta(days=366)


def acknowledge(
    policy: PolicyFile,
    objects: Annotated[list[str], typer.Argument(metavar="OBJECT...", help="As the look names them: deployments.apps/shop/web.")],
    until: Annotated[str, typer.Option("--until", help="The last day on which it is fine: 2026-12-31; a year ahead at most.")],
    note: Annotated[str, typer.Option("--note", help="Why it may be so.")] = "",
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
    for name in objects:
        console.print(clean(f"{name}: acknowledged until {until} by {who}"))


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
