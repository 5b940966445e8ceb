"""`becalm points`, `show`, `pin`, `unpin`: what recovery points there are, and what one holds. Only the bucket is asked."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

import orjson
import typer
from rich.table import Table

from becalm.actions.certificates import SOON
from becalm.catalog import points as catalog
from becalm.catalog.adoption import POLICY as ADOPTED
from becalm.catalog.adoption import adopted, is_hexadecimal
from becalm.catalog.moments import moment
from becalm.catalog.points import LATEST
from becalm.cli.adopt import adopted_table, describe, show_adopted
from becalm.cli.console import console, human_bytes, print_json
from becalm.cli.point_objects import listed, show_objects
from becalm.cli.ports import JsonOption, NameOption, PasswordOption, PolicyFile, TargetOption, find_place
from becalm.clock import SystemClock, format_time, parse_time
from becalm.errors import NotFound, UsageError
from becalm.model import RecoveryPoint, payload
from becalm.policy import globs
from becalm.policy.units import format_duration
from becalm.repository.reader import Repository, open_repository
from becalm.repository.tree import lookup

PointOption = Annotated[str, typer.Option("--point", help="A recovery point: latest, an id, a time, or “2 weeks ago”.")]


def points(
    policy: PolicyFile = None,
    target: TargetOption = "",
    name: NameOption = "",
    password: PasswordOption = "",
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """List the recovery points of a policy, newest last."""
    place, loaded = find_place(policy, target=target, name=name, password=password, whole=True)
    repository = open_repository(place.store, place.password)
    found = sorted(catalog.points(repository, place.policy, protection=True), key=lambda point: point.cut)
    others = adopted(repository)
    objective = loaded.spec.objectives.rpo if loaded and loaded.spec.objectives else None
    if json:
        print_json(
            {
                "ok": True,
                "policy": place.policy,
                "points": [payload(point) for point in found],
                "adopted": [describe(one) for one in others],
            }
        )
        return
    if others:
        console.print(adopted_table(others))
    if not found:
        if place.policy != ADOPTED:
            console.print(f"policy {place.policy} has no recovery point at {place.url}", markup=False)
        elif not others:
            console.print(f"nothing is adopted at {place.url}: see becalm adopt, or name a policy with --policy", markup=False)
        return
    table = Table("point", "cut", "slot", "late", "state", "consistency", "kept by", box=None)
    for point in found:
        kept = ", ".join(
            word
            for word in ("pin" if point.pinned else "", f"lock until {format_time(point.locked_until)}" if point.locked_until else "")
            if word
        )
        table.add_row(
            point.id[:8],
            format_time(point.cut)[:19] + "Z",
            format_time(point.slot) if point.slot else "-",
            str(point.late).split(".")[0] if point.late else "-",
            _state(point),
            str(point.consistency),
            kept or "-",
        )
    console.print(table)
    console.print(_age(found, objective, place.store.now()))


def _state(point: RecoveryPoint) -> str:
    """Say in a word or two what a point is worth."""
    if point.salvaged:
        return f"salvaged from {point.salvaged[:8]}"
    if not point.complete:
        return "partial"
    return "anomalous" if point.anomalous else "complete"


def _age(found: list[RecoveryPoint], objective: timedelta | None, now: datetime) -> str:
    """Say how old the last good point is, and whether the policy's objective allows that."""
    last = catalog.last_good(found)
    if last is None:
        return "there is no good recovery point"
    age = now - last.cut
    said = f"the last good point is {format_duration(timedelta(seconds=max(1, int(age.total_seconds()))))} old"
    return (
        said if objective is None else f"{said}; the objective of {format_duration(objective)} is {'met' if age <= objective else 'missed'}"
    )


def _find(policy: PolicyFile, target: str, name: str, password: str, wanted: str) -> tuple[Repository, RecoveryPoint]:
    place, _ = find_place(policy, target=target, name=name, password=password, whole=True)
    repository = open_repository(place.store, place.password)
    own = catalog.points(repository, place.policy)
    now = SystemClock().now()
    if own and not is_hexadecimal(wanted):  # times and `latest` mean the policy's own
        return repository, catalog.find(own, wanted, now=now)
    return repository, catalog.find([*own, *(one.point for one in adopted(repository))], wanted, now=now)


def show(  # noqa: PLR0917  (typer reads the options from the signature)
    policy: PolicyFile = None,
    point: PointOption = "latest",
    target: TargetOption = "",
    name: NameOption = "",
    password: PasswordOption = "",
    objects: Annotated[bool, typer.Option("--objects", help="List every object and volume in it.")] = False,  # noqa: FBT002
    namespace: Annotated[
        str, typer.Option("--namespace", help="List the objects and volumes of this namespace only; a glob is fine.")
    ] = "",
    wanted: Annotated[
        str, typer.Option("--object", help="Print this object as it was: v1/ConfigMap/shop/settings. Values of Secrets are hidden.")
    ] = "",
    as_of: Annotated[str, typer.Option("--as-of", help="The newest complete point at or before this time: a day, or “2 weeks ago”.")] = "",
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Show one recovery point: what it is, what it holds, what it does not and why."""
    if as_of and point != LATEST:
        raise UsageError("a point and a time are two things", where="--as-of", hint="leave out --point or --as-of")
    when = moment(as_of, now=SystemClock().now()) if as_of else None
    repository, found = _find(policy, target, name, password, as_of or point)
    if found.policy == ADOPTED:
        if namespace or wanted:
            raise UsageError(
                "a snapshot that Becalm did not write holds no objects", where=found.id[:8], hint="becalm extract gets its files"
            )
        show_adopted(repository, found, objects=objects, json=json)
        return
    if wanted:
        show_objects(repository, found, wanted, json=json)
        return
    node = lookup(repository, found.tree, "recovery-point.json")
    description = orjson.loads(b"".join(repository.read_file(node)))
    paths = listed(repository, found, namespace) if objects or namespace else []
    volumes = [one for one in description["volumes"] if not namespace or globs.matches(namespace, one["volume"]["namespace"])]
    if namespace and not (paths or volumes):
        raise NotFound("the recovery point holds nothing of this namespace", where=namespace, hint="becalm show --objects lists all")
    if json:
        print_json({"ok": True, "point": payload(found), "description": description, "objects": paths})
        return
    counts = description["counts"]
    table = Table(show_header=False, box=None)
    rows = [
        *([("as of", f"{format_time(when)}: the newest complete point at or before")] if when else []),
        ("recovery point", found.id),
        ("policy", f"{found.policy} (digest {description['policy']['digest'][:12]})"),
        ("cut", format_time(found.cut)),
        ("revision", f"{found.revision} of cluster {found.cluster}"),
        ("slot", format_time(found.slot) if found.slot else "none: made by hand"),
        ("consistency", f"{found.consistency} {'; '.join(description['consistency']['reasons'])}".strip()),
        ("state", _state(found)),
        ("objects", str(counts["objects"])),
        *(
            ("volume", f"{v['volume']['namespace']}/{v['volume']['claim']}: {v['files']} files, {human_bytes(v['bytes_total'])}")
            for v in volumes
        ),
        *(("certificate", _certificate(one)) for one in description.get("certificates", ())),
        *(("missing", f"{f['where']}: {f['message']}") for f in description["missing"]),
        *(("anomaly", f"{f['where']}: {f['message']}") for f in description.get("anomalies", ())),
        *(("warning", f"{f['where']}: {f['message']}") for f in description.get("warnings", ())),
        *(("left out", f"{e['what']} by {e['by']}" + (f": {e['because']}" if e["because"] else "")) for e in description["excluded"]),
        *(("object", path) for path in paths),
    ]
    for left, right in rows:
        table.add_row(left, right)
    console.print(table, markup=False)


def _certificate(told: dict[str, Any]) -> str:
    """Say what a point knows of one certificate, and whether it would still hold where it is restored."""
    names = ", ".join(told.get("names") or ()) or told.get("subject") or ""
    if not told.get("not_after"):
        return f"{told['where']}: {told.get('problem') or 'it does not say until when it holds'}"
    ends = parse_time(told["not_after"])
    left = ends - SystemClock().now()
    warning = "; WARNING: it has expired" if left <= timedelta(0) else f"; WARNING: {left.days} days are left" if left < SOON else ""
    return f"{told['where']}: {names}, until {format_time(ends)[:10]}{warning}"


def pin(  # noqa: PLR0917  (typer reads the options from the signature)
    policy: PolicyFile = None,
    point: PointOption = "latest",
    note: Annotated[str, typer.Option("--note", help="Why it must stay.")] = "",
    target: TargetOption = "",
    name: NameOption = "",
    password: PasswordOption = "",
) -> None:
    """Keep one recovery point, whatever retention says."""
    repository, found = _find(policy, target, name, password, point)
    catalog.pin(repository.store, found.id, note=note, now=SystemClock().now())
    console.print(f"pinned {found.id[:8]}")


def unpin(
    policy: PolicyFile = None,
    point: PointOption = "latest",
    target: TargetOption = "",
    name: NameOption = "",
    password: PasswordOption = "",
) -> None:
    """Leave a recovery point to retention again."""
    repository, found = _find(policy, target, name, password, point)
    catalog.unpin(repository.store, found.id)
    console.print(f"unpinned {found.id[:8]}")
