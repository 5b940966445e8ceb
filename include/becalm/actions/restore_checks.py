"""What forbids a restore: everything that would go wrong half way, found before anything starts. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from becalm.actions.restore_request import Conflict, means
from becalm.actions.restore_select import claim_of, claim_ref
from becalm.actions.restore_shape import restored_from
from becalm.actions.restore_steps import ACTING, CHANGING, Action, Step, VolumeAction
from becalm.actions.restore_trust import untrue
from becalm.kube.kinds import CLAIM, CRD, NAMESPACE, STORAGE_CLASS
from becalm.kube.rules import child, children
from becalm.model import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from becalm.actions.restore_live import Live
    from becalm.actions.restore_request import RestoreRequest
    from becalm.actions.restore_source import Contents, SavedObject
    from becalm.actions.restore_steps import RestorePlan
    from becalm.model import Manifest

PROTECTED = frozenset({"kube-system", "kube-public", "kube-node-lease"})
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


def blocking(
    plan: RestorePlan, selected: Sequence[SavedObject], contents: Contents, live: Live, request: RestoreRequest
) -> Iterator[Finding]:
    """Yield every reason why this plan cannot be carried out."""
    acting = plan.steps_to(*ACTING)
    yield from contents.findings
    yield from untrue(acting, live.kinds)
    yield from _doubled(plan)
    yield from _unserved(acting, selected, live)
    yield from _namespaces(plan, acting, live, request)
    yield from _classes(plan, live)
    yield from _going(plan, live)
    yield from _conflicts(plan, live, request)
    yield from _orphans(selected, contents, request)


def remarks(plan: RestorePlan, contents: Contents, live: Live, request: RestoreRequest) -> Iterator[Finding]:
    """Yield what a person should know before saying yes."""
    yield from _unmeant(contents, request)
    for kind, version in sorted({(step.api, step.saved_version) for step in plan.steps_to(*ACTING) if step.saved_version}, key=str):
        yield _warning(str(kind), f"was saved as {version}, which is not served, and is written as {kind.version}", "")
    if not plan.complete:
        yield _warning(f"recovery point {plan.point[:8]}", "is partial: it says itself what is missing", "becalm show lists it")
    for group, reason in sorted(live.failures.items()):
        yield _warning(group, f"did not say what it serves: {reason}", "its objects are taken as not there")
    for volume in plan.volumes_to(VolumeAction.EMPTY):
        yield _warning(f"volumes/{volume.target}", f"stays empty: {volume.reason}", "")
    for step in plan.steps:
        for note in step.notes:
            yield _warning(str(step.target), note, "")


def _unmeant(contents: Contents, request: RestoreRequest) -> Iterator[Finding]:
    """Yield the kinds that the request names in passing and the point does not hold: perhaps they are written wrong."""
    kinds = {saved.kind for saved in contents.objects}
    named = {
        "exclude_kinds": request.exclude_kinds,
        "conflict_by_kind": tuple(request.conflict_by_kind),
        "replicas": tuple(pattern for pattern in request.replicas if pattern != "*"),
        "status_kinds": request.status_kinds,
        **{f"patches.{number}.select.kinds": patch.select.kinds for number, patch in enumerate(request.patches)},
    }
    for field, patterns in named.items():
        for pattern in patterns:
            if not any(means((pattern,), kind) for kind in kinds):
                yield _warning(field, f"nothing that was read of the point is of the kind {pattern}", "look whether it is written right")


def _warning(where: str, message: str, remedy: str) -> Finding:
    return Finding(where=where, message=message, remedy=remedy, severity=Severity.WARNING)


def _doubled(plan: RestorePlan) -> Iterator[Finding]:
    counted = Counter(step.target for step in plan.steps)
    for target, count in counted.items():
        if count > 1:
            yield Finding(
                where=str(target), message=f"{count} objects would be restored to this place", remedy="map their namespaces apart"
            )


def _unserved(acting: Sequence[Step], selected: Sequence[SavedObject], live: Live) -> Iterator[Finding]:
    """Yield the kinds that the cluster does not serve, and that no definition in this plan will make it serve."""
    coming = set()
    restored = {step.source for step in acting}
    for saved in selected:
        if saved.ref.resource == CRD.resource and saved.ref.group == CRD.group and saved.ref in restored:
            spec = child(saved.manifest, "spec")
            names = (spec.get("group"), child(spec, "names").get("plural"))
            coming |= {(*names, one.get("name")) for one in children(spec, "versions") if one.get("served")}
    seen = set()
    for step in acting:
        kind = step.api
        key = (kind.group, kind.resource, kind.version)
        if key in seen or key in coming or live.serves(kind):
            continue
        seen.add(key)
        versions = live.versions(kind)
        if versions:
            message, remedy = f"{kind.api_version} is not served; served are {', '.join(versions)}", "restore into a cluster that serves it"
        else:
            message, remedy = f"{kind.api_version} is not served", "install what serves it first, or restore its definition too"
        yield Finding(where=str(kind), message=message, remedy=remedy)


def _namespaces(plan: RestorePlan, acting: Sequence[Step], live: Live, request: RestoreRequest) -> Iterator[Finding]:
    made = {step.target.name for step in acting if _is_namespace(step)}
    names = {step.target.namespace for step in acting if step.target.namespace} | {
        volume.target.namespace for volume in plan.volumes_to(VolumeAction.FILL)
    }
    for name in sorted(names | made):
        where, found = f"namespaces/{name}", live.namespace(name)
        if name in PROTECTED | {live.own_namespace} and not request.allow_protected:
            yield Finding(
                where=where, message="is a namespace of the cluster or of Becalm itself", remedy="say that you mean it: allow_protected"
            )
        if found is None and name not in made:
            yield Finding(where=where, message="is not there, and the point holds no such namespace", remedy="create it first")
        elif found is not None and _is_going(found):
            yield Finding(where=where, message="is being deleted", remedy="wait until it is gone, or map it to another name")


def _is_namespace(step: Step) -> bool:
    return not step.source.group and step.source.resource == NAMESPACE.resource


def _is_going(found: Manifest) -> bool:
    return bool(child(found, "metadata").get("deletionTimestamp")) or child(found, "status").get("phase") == "Terminating"


def _classes(plan: RestorePlan, live: Live) -> Iterator[Finding]:
    """Yield the claims for which no storage class would make a volume."""
    planned = {
        step.target.name
        for step in plan.steps_to(Action.CREATE)
        if (step.source.group, step.source.resource) == (STORAGE_CLASS.group, STORAGE_CLASS.resource)
    }
    names = {str(child(one, "metadata").get("name")) for one in live.storage_classes} | planned
    has_default = any(child(one, "metadata", "annotations").get(DEFAULT_CLASS) == "true" for one in live.storage_classes)
    created = {claim_of(step.target) for step in plan.steps_to(Action.CREATE)}
    for volume in plan.volumes:
        where = f"volumes/{volume.target}"
        if volume.target not in created:
            continue
        if volume.storage_class and volume.storage_class not in names:
            yield Finding(
                where=where, message=f"needs the storage class {volume.storage_class}, which is not there", remedy="create the class first"
            )
        elif volume.static:
            yield Finding(
                where=where,
                message="binds only to a volume that was made by hand, and those are not restored: they name live data",
                remedy="make the claim and its volume by hand, and restore the rest",
            )
        elif not volume.storage_class and not has_default:
            yield Finding(
                where=where, message="names no storage class, and the cluster has no default", remedy="mark a class as the default"
            )


def _going(plan: RestorePlan, live: Live) -> Iterator[Finding]:
    for step in plan.steps_to(Action.KEEP, Action.LINK, *CHANGING):
        found = live.objects.get(step.target)
        if found is not None and not _is_namespace(step) and _is_going(found):
            yield Finding(where=str(step.target), message="is being deleted", remedy="wait until it is gone")


def _conflicts(plan: RestorePlan, live: Live, request: RestoreRequest) -> Iterator[Finding]:
    for step in plan.steps_to(Action.KEEP):
        if step.changes and request.conflict_of(step.api) is Conflict.FAIL:
            what = ", ".join(change.path for change in step.changes[:3])
            yield Finding(where=str(step.target), message=f"exists and differs in {what}", remedy="conflict skip keeps what is there")
    if request.conflict_of(CLAIM) is not Conflict.FAIL:
        return
    for volume in plan.volumes_to(VolumeAction.KEEP):
        claim = live.objects.get(claim_ref(volume.target))
        if volume.tree and claim is not None and restored_from(claim) != plan.point:
            yield Finding(where=f"volumes/{volume.target}", message="the claim exists already", remedy="conflict skip keeps what is there")


def _orphans(selected: Sequence[SavedObject], contents: Contents, request: RestoreRequest) -> Iterator[Finding]:
    """Yield the volumes that are asked for and whose claim is not in the point: nothing says what claim to make for them."""
    if request.objects_only or request.kinds or (request.objects and not request.volumes):
        return
    claims = {claim_of(saved.ref) for saved in selected}
    for volume in contents.volumes:
        asked = str(volume) in request.volumes if request.only_named else request.selects_namespace(volume.namespace)
        if asked and volume not in claims:
            yield Finding(
                where=f"volumes/{volume}",
                message="the point holds the data, but not the claim",
                remedy=f"read it with restic (path /volumes/{volume}), or leave it out of the selection",
            )
