"""`becalm restore`: print the plan, ask, carry it out, and verify. It needs a bucket and a cluster, and no Airflow."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from becalm.actions import restore as actions
from becalm.actions.restore import ClusterScoped, Conflict, RestoreRequest
from becalm.cli.console import console, print_json, progress
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
from becalm.cli.restore_view import print_plan, print_report
from becalm.errors import PermanentError, RestoreRefused, UsageError, exit_code
from becalm.model import payload

if TYPE_CHECKING:
    from becalm.actions.restore import RestorePlan, RestoreReport, Verification


def restore(
    *,
    policy: PolicyFile = None,
    target: TargetOption = "",
    name: NameOption = "",
    password: PasswordOption = "",
    kubeconfig: KubeconfigOption = "",
    context: ContextOption = "",
    point: Annotated[str, typer.Option("--point", help="The recovery point: latest, an id, a time, or “2 weeks ago”.")] = "latest",
    namespaces: Annotated[
        list[str] | None, typer.Option("--namespace", help="Only this namespace; a glob, and more than one, is fine.")
    ] = None,
    kinds: Annotated[list[str] | None, typer.Option("--kind", help="Only this kind: secrets, Deployment, *.cert-manager.io.")] = None,
    objects: Annotated[list[str] | None, typer.Option("--object", help="This object: v1/Secret/shop/tls.")] = None,
    volumes: Annotated[list[str] | None, typer.Option("--volume", help="This volume: namespace/claim.")] = None,
    mapping: Annotated[list[str] | None, typer.Option("--map", help="Restore a namespace under another name: shop=shop2.")] = None,
    conflict: Annotated[
        Conflict, typer.Option("--conflict", help="Where an object exists and differs: skip keeps it, fail refuses.")
    ] = Conflict.SKIP,
    objects_only: Annotated[bool, typer.Option("--objects-only", help="Restore no data; new claims stay empty.")] = False,
    volumes_only: Annotated[bool, typer.Option("--volumes-only", help="Restore only claims and their data.")] = False,
    cluster_scoped: Annotated[
        ClusterScoped, typer.Option("--cluster-scoped", help="What belongs to no namespace: auto (what is referred to) or none.")
    ] = ClusterScoped.AUTO,
    suspend_cronjobs: Annotated[bool, typer.Option("--suspend-cronjobs", help="Restore CronJobs suspended.")] = False,
    allow_protected: Annotated[
        bool, typer.Option("--allow-protected", help="Allow writing into kube-system and Becalm's own namespace.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Restore from a recovery point: plan, ask, create, fill, verify. Nothing that exists is overwritten."""
    place, loaded = find_place(policy, target=target, name=name, password=password)
    request = RestoreRequest.read(
        {
            "policy": place.policy,
            "point": point,
            "namespaces": namespaces or (),
            "kinds": kinds or (),
            "objects": objects or (),
            "volumes": volumes or (),
            "namespace_mapping": read_mapping(mapping or []),
            "conflict": conflict,
            "objects_only": objects_only,
            "volumes_only": volumes_only,
            "include_cluster_scoped": cluster_scoped,
            "suspend_cronjobs": suspend_cronjobs,
            "allow_protected": allow_protected,
        }
    )
    with progress(quiet=json) as report:
        cluster_name = loaded.spec.cluster if loaded else ""
        ports = build_ports(place, cluster_name=cluster_name, kubeconfig=kubeconfig, context=context, progress=report)
        plan = actions.prepare(request, ports)
    if not json:
        print_plan(plan)
    if dry_run or plan.blocking:
        _end_with_plan(plan, json=json)
        return
    if not (yes or plan.changes_nothing):
        _ask(plan, json=json)
    with progress(quiet=json) as report:
        ports = build_ports(place, cluster_name=cluster_name, kubeconfig=kubeconfig, context=context, progress=report)
        done = actions.execute(plan, request, ports)
        verification = actions.verify(plan, request, ports)
    _end_with_report(plan, done, verification, json=json)


def read_mapping(given: list[str]) -> dict[str, str]:
    """Read `shop=shop2`. Raises UsageError."""
    mapping: dict[str, str] = {}
    for text in given:
        source, equals, name = text.partition("=")
        if not (source and equals and name) or source in mapping:
            raise UsageError(
                f"{text!r} does not map one namespace to another", where="--map", hint="write it like shop=shop2, once for each"
            )
        mapping[source] = name
    return mapping


def _ask(plan: RestorePlan, *, json: bool) -> None:
    """Ask a person; without one, demand --yes. Raises UsageError."""
    if json or not sys.stdin.isatty():
        raise UsageError("nobody is there to say yes to the plan", where="restore", hint="look at it with --dry-run, then say --yes")
    if not typer.confirm(f"Carry out this plan for recovery point {plan.point[:8]}?"):
        console.print("nothing was changed")
        raise typer.Exit(0)


def _end_with_plan(plan: RestorePlan, *, json: bool) -> None:
    """End a dry run, or a restore whose plan forbids it. Raises RestoreRefused."""
    if not json:
        actions.demand(plan)
        return
    print_json({"ok": not plan.blocking, "plan": payload(plan)})
    if plan.blocking:
        raise typer.Exit(exit_code(RestoreRefused("")))


def _end_with_report(plan: RestorePlan, report: RestoreReport, verification: Verification, *, json: bool) -> None:
    """Print what was done; failures decide the exit code. Raises PermanentError."""
    ok = report.ok and verification.ok
    if json:
        print_json({"ok": ok, "plan": payload(plan), "report": payload(report), "verification": payload(verification)})
        if not ok:
            raise typer.Exit(exit_code(PermanentError("")))
        return
    print_report(report, verification)
    actions.demand_success(report)
    actions.demand_success(verification)
