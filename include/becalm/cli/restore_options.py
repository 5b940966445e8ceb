"""The options of `becalm restore` that say what a request says, and how their texts are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from becalm.actions.restore_request import ClusterScoped, Conflict
from becalm.errors import UsageError
from becalm.policy.problems import Problem
from becalm.policy.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterable

Texts = list[str] | None

PointOption = Annotated[str, typer.Option("--point", help="The recovery point: latest, an id, a time, or “2 weeks ago”.")]
NamespaceOption = Annotated[Texts, typer.Option("--namespace", help="Only this namespace; a glob, and more than one, is fine.")]
KindOption = Annotated[Texts, typer.Option("--kind", help="Only this kind: secrets, Deployment, *.cert-manager.io.")]
ObjectOption = Annotated[Texts, typer.Option("--object", help="This object: v1/Secret/shop/tls.")]
VolumeOption = Annotated[Texts, typer.Option("--volume", help="This volume: namespace/claim.")]
SelectorOption = Annotated[
    Texts, typer.Option("--selector", help="Only objects with these labels: app=web,tier!=test. Of several, one is enough.")
]
ExcludeNamespaceOption = Annotated[Texts, typer.Option("--exclude-namespace", help="Not this namespace; a glob is fine.")]
ExcludeKindOption = Annotated[Texts, typer.Option("--exclude-kind", help="Not this kind.")]
DropSecretsOption = Annotated[bool, typer.Option("--drop-secrets", help="Restore no Secrets: the target has its own.")]
ClusterScopedOption = Annotated[
    ClusterScoped,
    typer.Option("--cluster-scoped", help="What belongs to no namespace: auto (what is referred to), none, or all that the point holds."),
]
ClusterKindOption = Annotated[
    Texts, typer.Option("--cluster-kind", help="This kind that belongs to no namespace comes along, and may be changed: clusterroles.")
]
MapOption = Annotated[Texts, typer.Option("--map", help="Restore a namespace under another name: shop=shop2.")]
MapClassOption = Annotated[Texts, typer.Option("--map-storage-class", help="Use another storage class: fast=standard.")]
MapRegistryOption = Annotated[
    Texts, typer.Option("--map-registry", help="Take images from elsewhere: docker.io=registry.example.org/mirror.")
]
MapHostsOption = Annotated[
    Texts, typer.Option("--map-hosts", help="Other host names in Ingresses and routes: shop.example.org=test.example.org.")
]
PatchesOption = Annotated[Path | None, typer.Option("--patches", help="A file of JSON patches, each with the objects that it means.")]
ConflictOption = Annotated[
    Texts,
    typer.Option(
        "--conflict",
        help="Where an object exists and differs: skip (the default), fail, merge, replace or delete-and-restore; for one kind: secrets=merge.",
    ),
]
SuspendOption = Annotated[bool, typer.Option("--suspend-cronjobs", help="Restore CronJobs suspended.")]
ReplicasOption = Annotated[Texts, typer.Option("--replicas", help="How many replicas workloads come with: 0; for one kind: deployments=1.")]
NodePortsOption = Annotated[bool, typer.Option("--keep-node-ports", help="Restore the node ports that the old cluster chose.")]
StatusOption = Annotated[Texts, typer.Option("--status", help="Restore the status of this kind too.")]
ObjectsOnlyOption = Annotated[bool, typer.Option("--objects-only", help="Restore no data; new claims stay empty.")]
VolumesOnlyOption = Annotated[bool, typer.Option("--volumes-only", help="Restore only claims and their data.")]
ProtectedOption = Annotated[bool, typer.Option("--allow-protected", help="Allow writing into kube-system and Becalm's own namespace.")]
TryOption = Annotated[bool, typer.Option("--try-objects", help="Let the server try each new object while the plan is made.")]
InPlaceOption = Annotated[
    bool, typer.Option("--in-place", help="Write the data into claims that exist: what mounts them is stopped meanwhile.")
]
NoCopyOption = Annotated[bool, typer.Option("--without-safety-copy", help="With --in-place: keep no copy of the old data.")]
VerifyDataOption = Annotated[bool, typer.Option("--verify-data", help="Read every restored volume again and compare it with the point.")]
WaitOption = Annotated[str, typer.Option("--wait", help="Wait so long until the restored workloads are ready: 5m.")]
ParallelOption = Annotated[int, typer.Option("--parallel", help="How many volumes are filled side by side.")]
HookNamespaceOption = Annotated[
    Texts, typer.Option("--hook-namespace", help="Pods of this namespace may bring restore hooks by annotation; a glob is fine.")
]


def read_mapping(given: Iterable[str], *, option: str = "--map", example: str = "shop=shop2") -> dict[str, str]:
    """Read `shop=shop2`. Raises UsageError."""
    mapping: dict[str, str] = {}
    for text in given:
        source, equals, name = text.partition("=")
        if not (source and equals and name) or source in mapping:
            raise UsageError(f"{text!r} does not map one name to another", where=option, hint=f"write it like {example}, once for each")
        mapping[source] = name
    return mapping


def read_conflicts(given: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Read modes, and modes of kinds: `replace`, `secrets=merge`. Raises UsageError."""
    modes = [text for text in given if "=" not in text]
    if len(modes) > 1:
        hint = "say one mode for all, and others for kinds: --conflict merge --conflict secrets=skip"
        raise UsageError(f"{' and '.join(modes)} cannot both hold for everything", where="--conflict", hint=hint)
    by_kind = read_mapping((text for text in given if "=" in text), option="--conflict", example="secrets=merge")
    known = [str(mode) for mode in Conflict]
    for mode in (*modes, *by_kind.values()):
        if mode not in known:
            raise UsageError(f"{mode!r} is no mode", where="--conflict", hint=f"say one of {', '.join(known)}")
    return (modes or [str(Conflict.SKIP)])[0], by_kind


def read_replicas(given: Iterable[str]) -> dict[str, int]:
    """Read `0` and `deployments=1`. Raises UsageError."""
    counts: dict[str, int] = {}
    for text in given:
        kind, _, number = text.rpartition("=")
        if not number.isascii() or not number.isdecimal():
            raise UsageError(f"{text!r} is no number of replicas", where="--replicas", hint="write 0, or deployments=1")
        counts[kind or "*"] = int(number)
    return counts


def read_wait(text: str) -> float:
    """Read `5m`; nothing is no wait. Raises UsageError."""
    try:
        return parse_duration(text).total_seconds() if text else 0.0
    except Problem as found:
        raise UsageError(found.problem, where="--wait", hint=found.remedy) from None
