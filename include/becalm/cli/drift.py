"""`becalm drift`: what runs, beside what is declared and what was saved; who changed it, how much it matters, and what was ignored and why."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer resolves the annotations at run time)
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from becalm.actions.declared import gather
from becalm.actions.diff import Change
from becalm.actions.diff_sides import LiveSide, PointSide, Wanted
from becalm.actions.drift import Corner, Drift, DriftReport, FieldDrift, compare
from becalm.actions.drift_ignore import read_rules
from becalm.actions.drift_rules import DriftRules, told
from becalm.actions.drift_sides import DeclaredSide, of_another_cluster
from becalm.actions.drift_weight import Weight
from becalm.actions.rendering import Programs
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
    environment,
    find_place,
)
from becalm.clock import SystemClock
from becalm.errors import UsageError
from becalm.model import payload
from becalm.repository.reader import open_repository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from becalm.kube.base import Cluster

DRIFTED = 1
"""The exit code that says so, as that of `becalm diff`."""
SHOWN_FIELDS = 12
"""So many fields of one object are printed; --json has all."""
LONGEST_VALUE = 80
STYLES = {Weight.HIGH: "red", Weight.MEDIUM: "yellow", Weight.LOW: "dim"}


def drift(
    *,
    policy: PolicyFile = None,
    target: TargetOption = "",
    name: NameOption = "",
    password: PasswordOption = "",
    kubeconfig: KubeconfigOption = "",
    context: ContextOption = "",
    declared: Annotated[
        list[Path] | None,
        typer.Option("--declared", metavar="FOLDER", help="A folder of manifests, of Kustomize, or a file: what is declared. Repeatable."),
    ] = None,
    default_namespace: Annotated[
        str, typer.Option("--default-namespace", help="The namespace of declared objects that name none.")
    ] = "default",
    point: Annotated[str, typer.Option("--point", help="The recovery point: latest, an id, a time, or “2 weeks ago”.")] = "latest",
    since: Annotated[
        str, typer.Option("--since", metavar="POINT", help="Compare --point with this earlier recovery point, and not with the cluster.")
    ] = "",
    namespaces: Annotated[
        list[str] | None, typer.Option("--namespace", help="Only this namespace, as the point names it; a glob is fine.")
    ] = None,
    kinds: Annotated[list[str] | None, typer.Option("--kind", help="Only this kind: secrets, Deployment, *.cert-manager.io.")] = None,
    objects: Annotated[list[str] | None, typer.Option("--object", help="This object: v1/Secret/shop/tls.")] = None,
    no_ignore: Annotated[
        list[str] | None, typer.Option("--no-ignore", metavar="RULE", help="Compare what this rule would ignore: see --list-rules.")
    ] = None,
    own_rules: Annotated[
        Path | None, typer.Option("--ignore", metavar="FILE", help="Your own rules: a YAML file that says what may differ, and why.")
    ] = None,
    list_rules: Annotated[
        bool, typer.Option("--list-rules", help="Name every rule by which something is ignored, and why; then end.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Compare what runs with what is declared and with what was saved: what was added, removed and changed, by whom, and how much it matters.

    A declaration is compared by the fields that it says, a recovery point by all fields. It only reads.
    Values of Secrets are never printed. Exit code: 0 nothing drifted, 1 something did.
    """
    rules = DriftRules.without(no_ignore or [], read_rules(own_rules) if own_rules else ())
    if list_rules:
        _print_rules(json=json)
        return
    if since and declared:
        raise UsageError("a declaration is compared with what runs, and --since compares two points", where="--since", hint="leave out one")
    wanted = Wanted.read(namespaces=namespaces or (), kinds=kinds or (), objects=objects or ())
    place, loaded = find_place(policy, target=target, name=name, password=password)
    repository = open_repository(place.store, place.password)
    known, now = points(repository, place.policy), SystemClock().now()
    with progress(quiet=json) as report:
        saved = PointSide.open(repository, find(known, point, now=now), wanted=wanted)
        if since:
            before = PointSide.open(repository, find(known, since, now=now), wanted=wanted)
            report(f"reading {before.title}")
            found = compare(before, saved, rules=rules)
        else:
            report(f"reading {saved.title}")
            ports = build_ports(place, cluster_name=loaded.spec.cluster if loaded else "", kubeconfig=kubeconfig, context=context)
            found = look(saved, ports.cluster, wanted=wanted, rules=rules, declared=declared or [], namespace=default_namespace)
    if not (found.compared or found.drifts or found.findings):
        raise UsageError("the selection matches nothing in any corner", where=saved.title, hint="becalm show --objects lists what it holds")
    if json:
        print_json({"ok": True, "equal": found.equal, **payload(found)})
    else:
        print_report(found)
    if not found.equal:
        raise typer.Exit(DRIFTED)


def look(saved: PointSide, cluster: Cluster, *, wanted: Wanted, rules: DriftRules, declared: list[Path], namespace: str) -> DriftReport:
    """Compare a recovery point and a declaration, where there is one, with the cluster. Raises UsageError, and what the cluster raises."""
    corner = None
    if declared:
        programs = Programs(path=environment().get("PATH", ""))
        corner = DeclaredSide.of(gather(declared, programs), cluster, namespace=namespace, wanted=wanted)
    found = compare(saved, LiveSide(cluster=cluster, like=saved), declared=corner, rules=rules)
    return found.with_finding(of_another_cluster(saved, cluster))


def _print_rules(*, json: bool) -> None:
    rows = told()
    if json:
        print_json({"ok": True, "rules": [{"name": name, "kinds": kinds, "because": because} for name, kinds, because in rows]})
        return
    table = Table("rule", "of", "ignored because", box=None)
    for row in rows:
        table.add_row(*map(clean, row))
    console.print(table)


def print_report(found: DriftReport, screen: Console = console) -> None:
    """Print what drifted, the weightiest first, what was ignored by which rule, and what was not compared."""
    if found.declared is not None:
        screen.print(clean(f"declared  {found.declared} objects"))
    screen.print(clean(f"saved     {found.saved}"))
    screen.print(clean(f"running   {found.running}"))
    for one in found.drifts:
        screen.print(clean(f"{one.weight} ", STYLES[one.weight]).append_text(clean(headline(one))))
        for line in _fields(one):
            screen.print(clean(f"  {line}"))
    for pointer in found.pointers:
        screen.print(clean(f"declared elsewhere, and not read: {pointer.kind} {pointer.name} points to {' '.join(pointer.to)}", "dim"))
    for finding in found.findings:
        screen.print(clean(f"{finding.severity}: ", "red").append_text(clean(finding)))
    for rule in found.ignored:
        fields = ", ".join(f"{place} ({count})" for place, count in rule.fields.items())
        screen.print(clean(f"ignored by {rule.rule}, for {rule.because}: {fields}", "dim"))
    for left in found.left_out:
        screen.print(clean(f"not compared: {left.before} saved, {left.after} running: {left.because}", "dim"))
    counted = {change: sum(one.change is change for one in found.drifts) for change in Change}
    said = ", ".join(f"{count} {change}" for change, count in counted.items() if count) or "nothing drifted"
    screen.print(clean(f"{found.compared} objects compared: {said}"))


def headline(one: Drift) -> str:
    """Say what became of an object, who holds it, and who did it."""
    held = " and ".join(one.held)
    by = f", by {one.by}" if one.by else ""
    at = f", declared in {one.declared_at}" if one.declared_at else ""
    return f"{one.change} {one.ref} ({held}{by}{at}): {one.because}"


def _fields(one: Drift) -> Iterator[str]:
    for each in one.fields[:SHOWN_FIELDS]:
        by = f", by {each.by}" if each.by else ""
        yield f"{each.path}: {_sides(each)}{by}"
    if len(one.fields) > SHOWN_FIELDS:
        yield f"and {len(one.fields) - SHOWN_FIELDS} more"


def _sides(one: FieldDrift) -> str:
    """`declared 2, saved 2, runs 5`; a corner that says the same as what runs, or nothing, is not named."""
    said = {Corner.DECLARED: one.declared, Corner.SAVED: one.saved}
    return ", ".join([*(f"{corner} {_word(said[corner])}" for corner in one.differs_from), f"runs {_word(one.running)}"])


def _word(value: object) -> str:
    text = "nothing" if value is None else repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"
