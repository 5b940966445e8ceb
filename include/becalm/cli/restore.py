"""`becalm restore`: print the plan, ask, carry it out, and verify. It needs a bucket and a cluster, and no Airflow."""

from __future__ import annotations

import getpass
import socket
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from becalm.actions import restore as actions
from becalm.actions import restore_record
from becalm.actions.restore import ClusterScoped, RestoreRequest
from becalm.actions.restore_changes import read_patches
from becalm.cli.console import clean, console, notes, print_json, progress
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
from becalm.cli.restore_file import FileOption, IntoOption, put
from becalm.cli.restore_git import GitFolderOption, GitOption, bring_back
from becalm.cli.restore_options import (
    ClusterKindOption,
    ClusterScopedOption,
    ConflictOption,
    DropSecretsOption,
    ExcludeKindOption,
    ExcludeNamespaceOption,
    HookNamespaceOption,
    InPlaceOption,
    KindOption,
    MapClassOption,
    MapHostsOption,
    MapOption,
    MapRegistryOption,
    NamespaceOption,
    NoCopyOption,
    NodePortsOption,
    ObjectOption,
    ObjectsOnlyOption,
    ParallelOption,
    PatchesOption,
    PointOption,
    ProtectedOption,
    ReplicasOption,
    SelectorOption,
    StatusOption,
    SuspendOption,
    TryOption,
    VerifyDataOption,
    VolumeOption,
    VolumesOnlyOption,
    WaitOption,
    read_conflicts,
    read_mapping,
    read_replicas,
    read_wait,
)
from becalm.cli.restore_view import print_plan, print_report
from becalm.errors import BecalmError, PermanentError, RestoreRefused, UsageError, exit_code
from becalm.model import payload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from becalm.actions.handover import Ports
    from becalm.actions.restore import RestorePlan, RestoreReport, Verification
    from becalm.actions.restore_record import RestoreRecord
    from becalm.cli.ports import Place
    from becalm.policy.spec import ProtectionPolicy


def restore(
    *,
    policy: PolicyFile = None,
    target: TargetOption = "",
    name: NameOption = "",
    password: PasswordOption = "",
    kubeconfig: KubeconfigOption = "",
    context: ContextOption = "",
    point: PointOption = "latest",
    namespaces: NamespaceOption = None,
    kinds: KindOption = None,
    objects: ObjectOption = None,
    volumes: VolumeOption = None,
    selector: SelectorOption = None,
    exclude_namespaces: ExcludeNamespaceOption = None,
    exclude_kinds: ExcludeKindOption = None,
    drop_secrets: DropSecretsOption = False,
    cluster_scoped: ClusterScopedOption = ClusterScoped.AUTO,
    cluster_kinds: ClusterKindOption = None,
    objects_only: ObjectsOnlyOption = False,
    volumes_only: VolumesOnlyOption = False,
    conflict: ConflictOption = None,
    mapping: MapOption = None,
    storage_classes: MapClassOption = None,
    registries: MapRegistryOption = None,
    hosts: MapHostsOption = None,
    patches: PatchesOption = None,
    suspend_cronjobs: SuspendOption = False,
    replicas: ReplicasOption = None,
    keep_node_ports: NodePortsOption = False,
    status: StatusOption = None,
    in_place: InPlaceOption = False,
    without_safety_copy: NoCopyOption = False,
    verify_data: VerifyDataOption = False,
    wait: WaitOption = "",
    parallel: ParallelOption = 4,
    hook_namespaces: HookNamespaceOption = None,
    allow_protected: ProtectedOption = False,
    try_objects: TryOption = False,
    files: FileOption = None,
    into: IntoOption = "",
    git: GitOption = "",
    to: GitFolderOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Restore from a recovery point: plan, ask, carry out, verify. Unless --conflict or --in-place says so, nothing that exists is changed."""
    place, loaded = find_place(policy, target=target, name=name, password=password)
    if git or to:
        bring_back(place, git, to, point, json=json)
        return
    if files or into:
        _put_files(place, loaded, files or (), into, point, kubeconfig=kubeconfig, context=context, dry_run=dry_run, yes=yes, json=json)
        return
    mode, mode_by_kind = read_conflicts(conflict or ())
    request = RestoreRequest.read(
        {
            "policy": place.policy,
            "point": point,
            "namespaces": namespaces or (),
            "kinds": kinds or (),
            "objects": objects or (),
            "volumes": volumes or (),
            "labels": selector or (),
            "exclude_namespaces": exclude_namespaces or (),
            "exclude_kinds": exclude_kinds or (),
            "drop_secrets": drop_secrets,
            "include_cluster_scoped": cluster_scoped,
            "cluster_kinds": cluster_kinds or (),
            "objects_only": objects_only,
            "volumes_only": volumes_only,
            "conflict": mode,
            "conflict_by_kind": mode_by_kind,
            "namespace_mapping": read_mapping(mapping or ()),
            "storage_class_mapping": read_mapping(storage_classes or (), option="--map-storage-class", example="fast=standard"),
            "registry_mapping": read_mapping(registries or (), option="--map-registry", example="docker.io=registry.example.org"),
            "host_mapping": read_mapping(hosts or (), option="--map-hosts", example="shop.example.org=test.example.org"),
            "patches": read_patches(patches) if patches else (),
            "suspend_cronjobs": suspend_cronjobs,
            "replicas": read_replicas(replicas or ()),
            "keep_node_ports": keep_node_ports,
            "status_kinds": status or (),
            "in_place": in_place,
            "without_safety_copy": without_safety_copy,
            "verify_data": verify_data,
            "wait_seconds": read_wait(wait),
            "parallel": parallel,
            "hook_namespaces": hook_namespaces or (),
            "allow_protected": allow_protected,
            "dry_run_objects": try_objects,
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
        done, verification = _remembered(plan, request, ports)
    _end_with_report(plan, done, verification, json=json)


def _put_files(
    place: Place,
    loaded: ProtectionPolicy | None,
    files: Sequence[str],
    into: str,
    point: str,
    *,
    kubeconfig: str,
    context: str,
    dry_run: bool,
    yes: bool,
    json: bool,
) -> None:
    """Bring single files into a claim that exists."""

    def agreed(_: str) -> bool:
        if yes:
            return True
        if json or not sys.stdin.isatty():
            raise UsageError("nobody is there to say yes", where="restore", hint="look at it with --dry-run, then say --yes")
        return typer.confirm("Write them?")

    with progress(quiet=json) as report:
        cluster_name = loaded.spec.cluster if loaded else ""
        ports = build_ports(place, cluster_name=cluster_name, kubeconfig=kubeconfig, context=context, progress=report)
        put(files, into, ports, policy=place.policy, point=point, dry_run=dry_run, agreed=agreed, json=json)


def _remembered(plan: RestorePlan, request: RestoreRequest, ports: Ports) -> tuple[RestoreReport, Verification]:
    """Carry out a plan and verify it. What begins is kept in the bucket before the first write, and what came of it after the last."""
    if plan.changes_nothing:
        return actions.execute(plan, request, ports), actions.verify(plan, request, ports)
    asked_by, started = f"{getpass.getuser()}@{socket.gethostname()}", ports.clock.now()
    run, cluster = actions.restore_run(plan, request), ports.settings.cluster_name
    begun = restore_record.begun(plan, request, run=run, cluster=cluster, started=started, asked_by=asked_by)
    _keep(begun, ports)
    try:
        done = actions.execute(plan, request, ports)
        verification = actions.verify(plan, request, ports)
    except BecalmError as error:
        _keep(restore_record.broken_off(begun, error, ended=ports.clock.now()), ports)
        raise
    ended = ports.clock.now()
    _keep(restore_record.record(plan, request, done, verification, cluster=cluster, started=started, ended=ended, asked_by=asked_by), ports)
    return done, verification


def _keep(made: RestoreRecord, ports: Ports) -> None:
    """Keep a report in the bucket; what is in the way of that is said, and does not fail the restore."""
    for finding in restore_record.save(made, ports):
        notes.print(clean(finding))


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
