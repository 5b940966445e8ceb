"""`becalm diff`: a recovery point beside the cluster as it is now, or beside another point; what differs, and what was ignored and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from becalm.actions.diff import MADE_AGAIN, MADE_AGAIN_BECAUSE, Change, Comparison, Rules, compare
from becalm.actions.diff_sides import LiveSide, PointSide, Wanted
from becalm.catalog.points import find, points
from becalm.cli.console import clean, console, print_json, progress
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
from becalm.cli.restore_options import read_mapping
from becalm.clock import SystemClock
from becalm.errors import UsageError
from becalm.model import payload
from becalm.repository.reader import open_repository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from becalm.actions.diff import ObjectDifference, Side

LIVE = "live"
DIFFERS = 1
"""The exit code that says so, as that of `diff`."""
SHOWN_FIELDS = 12
"""So many fields of one object are printed; --json has all."""
STYLES = {Change.ADDED: "green", Change.REMOVED: "red", Change.CHANGED: "yellow"}


def diff(
    *,
    policy: PolicyFile = None,
    target: TargetOption = "",
    name: NameOption = "",
    password: PasswordOption = "",
    kubeconfig: KubeconfigOption = "",
    context: ContextOption = "",
    point: Annotated[str, typer.Option("--point", help="The recovery point: latest, an id, a time, or “2 weeks ago”.")] = "latest",
    beside: Annotated[
        str, typer.Option("--with", help="What to compare it with: live (the cluster now), or another recovery point.")
    ] = LIVE,
    namespaces: Annotated[
        list[str] | None, typer.Option("--namespace", help="Only this namespace, as the point names it; a glob is fine.")
    ] = None,
    kinds: Annotated[list[str] | None, typer.Option("--kind", help="Only this kind: secrets, Deployment, *.cert-manager.io.")] = None,
    objects: Annotated[list[str] | None, typer.Option("--object", help="This object: v1/Secret/shop/tls.")] = None,
    mapping: Annotated[list[str] | None, typer.Option("--map", help="Look for a namespace under another name: shop=shop2.")] = None,
    no_ignore: Annotated[
        list[str] | None, typer.Option("--no-ignore", metavar="RULE", help="Compare what this rule would ignore: see --list-rules.")
    ] = None,
    list_rules: Annotated[
        bool, typer.Option("--list-rules", help="Name every rule by which something is ignored, and why; then end.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Compare a recovery point with the cluster, or with another point: what was added, removed and changed, field by field.

    What servers assign is ignored by named rules, and each difference that was ignored is told with its rule.
    Values of Secrets are never printed. Exit code: 0 equal, 1 different.
    """
    rules, renamed = Rules.without(no_ignore or []), read_mapping(mapping or [])
    if renamed and beside != LIVE:
        raise UsageError("a mapping leads into a cluster, and two points are compared", where="--map", hint="leave out --map or --with")
    if list_rules:
        _print_rules(json=json)
        return
    place, loaded = find_place(policy, target=target, name=name, password=password)
    repository = open_repository(place.store, place.password)
    known, now = points(repository, place.policy), SystemClock().now()
    wanted = Wanted.read(namespaces=namespaces or (), kinds=kinds or (), objects=objects or ())
    with progress(quiet=json) as report:
        first = PointSide.open(repository, find(known, point, now=now), wanted=wanted, mapping=renamed)
        report(f"reading {first.title}")
        second: Side
        if beside == LIVE:
            ports = build_ports(place, cluster_name=loaded.spec.cluster if loaded else "", kubeconfig=kubeconfig, context=context)
            second = LiveSide(cluster=ports.cluster, like=first)
        else:
            second = PointSide.open(repository, find(known, beside, now=now), wanted=wanted)
        found = compare(first, second, rules)
    if not (found.compared or found.differences or found.findings):
        raise UsageError(
            "the selection matches nothing on either side", where=first.title, hint="becalm show --objects lists what it holds"
        )
    if json:
        print_json({"ok": True, "equal": found.equal, **payload(found)})
    else:
        print_comparison(found)
    if not found.equal:
        raise typer.Exit(DIFFERS)


def _print_rules(*, json: bool) -> None:
    rows = [(rule.name, ", ".join(rule.kinds) or "all", rule.because) for rule in Rules().fields]
    rows.append((MADE_AGAIN, "whole objects", MADE_AGAIN_BECAUSE))
    if json:
        print_json({"ok": True, "rules": [{"name": name, "kinds": kinds, "because": because} for name, kinds, because in rows]})
        return
    table = Table("rule", "of", "ignored because", box=None)
    for row in rows:
        table.add_row(*map(clean, row))
    console.print(table)


def print_comparison(found: Comparison, screen: Console = console) -> None:
    """Print what differs, what was ignored by which rule, and what was not compared."""
    screen.print(clean(f"from {found.before}"))
    screen.print(clean(f"to   {found.after}"))
    for one in found.differences:
        screen.print(clean(f"{one.change} ", STYLES[one.change]).append_text(clean(one.ref)))
        for line in _fields(one):
            screen.print(clean(f"  {line}", "yellow"))
    for volume in found.volumes:
        screen.print(clean(f"{volume.change} ", STYLES[volume.change]).append_text(clean(f"data of {volume.volume}")))
    for finding in found.findings:
        screen.print(clean("unknown: ", "red").append_text(clean(finding)))
    for rule in found.ignored:
        fields = ", ".join(f"{place} ({count})" for place, count in rule.fields.items())
        screen.print(clean(f"ignored by {rule.rule}, for {rule.because}: {fields}", "dim"))
    for left in found.left_out:
        screen.print(clean(f"not compared: {left.before} there, {left.after} here: {left.because}", "dim"))
    counted = {change: sum(one.change is change for one in found.differences) for change in Change}
    said = ", ".join(f"{count} {change}" for change, count in counted.items() if count) or "nothing differs"
    data = f", the data of {len(found.volumes)} volumes differs" if found.volumes else ""
    screen.print(clean(f"{found.compared} objects compared: {said}{data}"))


def _fields(one: ObjectDifference) -> Iterator[str]:
    yield from map(str, one.fields[:SHOWN_FIELDS])
    if len(one.fields) > SHOWN_FIELDS:
        yield f"and {len(one.fields) - SHOWN_FIELDS} more"
