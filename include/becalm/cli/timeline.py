"""`becalm log` and `becalm find`: what became of one object over all recovery points, and which points hold what a person looks for.

Both answer from an index on this machine, made from the bucket when it is not there, and brought up to date each time.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from becalm.actions import finding, object_log
from becalm.actions.diff import Change, Rules
from becalm.actions.finding import Query
from becalm.actions.restore_patterns import ObjectPattern
from becalm.actions.timeline import Timeline
from becalm.catalog.moments import moment
from becalm.cli.console import clean, console, print_json, progress
from becalm.cli.ports import JsonOption, NameOption, PasswordOption, TargetOption, environment, find_place
from becalm.clock import SystemClock, format_time
from becalm.errors import NotFound, UsageError
from becalm.model import payload
from becalm.policy.labels import LabelSelector
from becalm.policy.problems import Problem
from becalm.repository.reader import open_repository

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from becalm.actions.object_log import Entry
    from becalm.actions.timeline import Moment
    from becalm.repository.reader import Repository

IndexOption = Annotated[
    Path | None,
    typer.Option("--index", help="The index's file; default: becalm/history/ in the cache of this account, one for each repository."),
]
STYLES = {Change.ADDED: "green", Change.REMOVED: "red", Change.CHANGED: "yellow"}
MOST_WORDS = 2
SHOWN_FIELDS = 12
"""So many fields of one change are printed; --json has all."""


def log(
    *,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[POLICY] OBJECT",
            help="The policy's file, and v1/ConfigMap/shop/settings; globs in namespace and name are fine. Without a file, say --target.",
        ),
    ],
    target: TargetOption = "",
    name: NameOption = "",
    password: PasswordOption = "",
    everything: Annotated[bool, typer.Option("--all", help="Show also versions that differ only in what rules ignore.")] = False,
    index: IndexOption = None,
    json: JsonOption = False,
) -> None:
    """Show every version of an object over all recovery points: what changed, between which points, and who did it where that is known.

    Values of Secrets are never printed.
    """
    policy, object_ = _both(words, "OBJECT")
    pattern = _pattern(object_)
    with _opened(policy, target, name, password, index, quiet=json) as (timeline, repository):
        entries = list(object_log.log(timeline, repository, pattern, Rules(), everything=everything))
        moments = timeline.moments
    if not entries:
        raise NotFound("no recovery point holds such an object", where=object_, hint=f"{_span(moments)}; becalm find looks for names")
    if json:
        print_json({"ok": True, "points": len(moments), "entries": [payload(entry) for entry in entries]})
        return
    for entry in entries:
        _print(entry)
    console.print(clean(_span(moments), "dim"))


def _print(entry: Entry) -> None:
    since = f"after {_at(entry.since)}" if entry.since else "or before: it is in the first point"
    console.print(
        clean(f"{format_time(entry.seen.cut)[:19]}Z {entry.change} ", STYLES[entry.change]).append_text(
            clean(f"{entry.ref} in point {entry.seen.point[:8]}, {since}")
        )
    )
    for change in entry.fields[:SHOWN_FIELDS]:
        console.print(clean(f"  {change}", "yellow"))
    if len(entry.fields) > SHOWN_FIELDS:
        console.print(f"  and {len(entry.fields) - SHOWN_FIELDS} more")
    if entry.writers:
        console.print(clean(f"  by {'; '.join(entry.writers)}", "dim"))


def find(
    *,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[POLICY] NAME", help="The policy's file, and a name, or a glob: settings, '*-tls', '*'. Without a file, say --target."
        ),
    ],
    target: TargetOption = "",
    name: NameOption = "",
    password: PasswordOption = "",
    kinds: Annotated[list[str] | None, typer.Option("--kind", help="Only this kind: secrets, Deployment, *.cert-manager.io.")] = None,
    namespaces: Annotated[list[str] | None, typer.Option("--namespace", help="Only this namespace; a glob is fine.")] = None,
    labels: Annotated[list[str] | None, typer.Option("--selector", help="Only objects with these labels: app=web,tier!=test.")] = None,
    since: Annotated[str, typer.Option("--since", help="Only points cut since: a time, a day, or “2 weeks ago”.")] = "",
    until: Annotated[str, typer.Option("--until", help="Only points cut until: a time, a day, or “2 weeks ago”.")] = "",
    file: Annotated[
        bool, typer.Option("--file", help="Look for files of volumes instead; with a slash the glob is for the path in the volume.")
    ] = False,
    index: IndexOption = None,
    json: JsonOption = False,
) -> None:
    """Find objects by name, kind, label and namespace, or files of volumes, over all recovery points: which point holds them first, and which last."""
    if file and (kinds or labels):
        raise UsageError("a file has no kind and no labels", where="--file", hint="leave out --kind and --selector")
    policy, pattern = _both(words, "NAME")
    now = SystemClock().now()
    query = Query(
        name=pattern,
        namespaces=tuple(namespaces or ()),
        kinds=tuple(kinds or ()),
        labels=tuple(_selector(text) for text in labels or ()),
        since=moment(since, now=now) if since else None,
        until=moment(until, now=now) if until else None,
    )
    with _opened(policy, target, name, password, index, quiet=json) as (timeline, repository):
        found: Sequence[object] = finding.files(timeline, repository, query) if file else finding.objects(timeline, query)
        moments = timeline.moments
    if not found:
        raise NotFound("nothing of this name is in any recovery point", where=pattern, hint=_span(moments))
    if json:
        print_json({"ok": True, "points": len(moments), "found": [payload(one) for one in found]})
        return
    console.print(_table(found))
    console.print(clean(_span(moments), "dim"))


def _table(found: Sequence[object]) -> Table:
    table = Table("what", "first", "last", "", box=None)
    for one in found:
        match one:
            case finding.FoundObject():
                versions = f"{one.versions} version{'' if one.versions == 1 else 's'}"
                table.add_row(clean(one.ref), _at(one.first), _at(one.last), f"{versions}{', gone' if one.gone else ''}")
            case finding.FoundFile():
                table.add_row(clean(f"{one.volume}: {one.path}"), _at(one.first), _at(one.last), f"in {one.points} points")
    return table


def _at(seen: Moment) -> str:
    return f"{seen.point[:8]} {format_time(seen.cut)[:19]}Z"


def _span(moments: Sequence[Moment]) -> str:
    if not moments:
        return "there is no complete recovery point"
    return f"{len(moments)} complete points, from {format_time(moments[0].cut)[:19]}Z to {format_time(moments[-1].cut)[:19]}Z"


def _both(words: Sequence[str], second: str) -> tuple[Path | None, str]:
    """Return the policy's file, where one is named, and what is asked for. Raises UsageError."""
    if len(words) > MOST_WORDS:
        raise UsageError(f"{len(words)} words were given", where=words[MOST_WORDS], hint=f"write one {second}; put a glob in quotes")
    *files, asked = words
    return (Path(files[0]) if files else None), asked


def _pattern(text: str) -> ObjectPattern:
    try:
        return ObjectPattern.parse(text)
    except ValueError as error:
        raise UsageError(str(error), where="OBJECT") from error


def _selector(text: str) -> LabelSelector:
    try:
        return LabelSelector.parse(text)
    except Problem as error:
        raise UsageError(str(error), where=f"--selector {text}", hint="write it as kubectl does: app=web,tier!=test") from error


@contextmanager
def _opened(
    policy: Path | None, target: str, name: str, password: str, index: Path | None, *, quiet: bool
) -> Iterator[tuple[Timeline, Repository]]:
    """Open the repository and its index, up to date."""
    place, _ = find_place(policy, target=target, name=name, password=password)
    repository = open_repository(place.store, place.password)
    identity = f"{repository.id} {place.policy}"
    path = index or _default(identity)
    timeline = Timeline.open(path, identity)
    try:
        with progress(quiet=quiet) as report:
            timeline.refresh(
                repository,
                timeline.points(repository, place.policy),
                lambda message, done, total: report(message, done=done, total=total),
            )
        yield timeline, repository
    except sqlite3.Error as error:
        raise UsageError(
            f"the index cannot be read: {error}", where=str(path), hint="delete this file: it is made anew from the bucket"
        ) from error
    finally:
        timeline.close()


def _default(identity: str) -> Path:
    """Return where the index is, where nobody says it. Raises UsageError where this account has no folder for such things."""
    given = environment()
    cache = given.get("XDG_CACHE_HOME") or (f"{given['HOME']}/.cache" if given.get("HOME") else "")
    if not cache:
        raise UsageError("there is no folder for the index: neither XDG_CACHE_HOME nor HOME is set", hint="name a file with --index")
    return Path(cache) / "becalm" / "history" / f"{sha256(identity.encode()).hexdigest()[:24]}.sqlite"
