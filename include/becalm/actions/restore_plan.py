"""What a restore would do, decided before it does anything: each object and each volume with an action and its reason.

`plan` is pure. What it returns is what a person reads, what an approval shows, and exactly what `restore.execute` carries out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from becalm.actions import restore_checks
from becalm.actions.restore_conflicts import is_default_account, resolve
from becalm.actions.restore_marks import fate
from becalm.actions.restore_quota import over_quota
from becalm.actions.restore_select import claim_of, claim_ref, select, unmatched
from becalm.actions.restore_shape import Owners, Shape, restored_from, target_ref, target_volume
from becalm.actions.restore_steps import Action, RestorePlan, Step, VolumeAction, VolumeStep
from becalm.errors import RestoreRefused
from becalm.kube.diffing import compare
from becalm.kube.finalizers import uncleared
from becalm.kube.isolation import is_custom, kept_out
from becalm.kube.kinds import CRD
from becalm.kube.ordering import wave
from becalm.kube.patching import PatchFailed
from becalm.kube.resources import left_out
from becalm.kube.rules import ANNOTATION_FILLED, FILL_PENDING, child
from becalm.model import Finding, Severity, VolumeMode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.actions.restore_live import Live
    from becalm.actions.restore_request import RestoreRequest
    from becalm.actions.restore_source import Contents, SavedObject
    from becalm.kube.base import Kind
    from becalm.kube.diffing import FieldChange
    from becalm.model import Manifest, RecoveryPoint, ResourceRef


def plan(request: RestoreRequest, point: RecoveryPoint, contents: Contents, live: Live) -> RestorePlan:
    """Decide what a restore would do. Raises RestoreRefused where the selection matches nothing."""
    missing = unmatched(request, contents)
    selected = select(request, contents)
    if not selected:
        raise RestoreRefused(
            "the selection matches nothing in this recovery point" + (f": {'; '.join(missing)}" if missing else ""),
            where=f"recovery point {point.id[:8]}",
            hint="becalm show --objects lists what it holds",
        )
    shape = Shape(
        request=request,
        point=point.id,
        converted={key: version for saved in selected if (key := _key(saved.kind))[2] != (version := live.version_for(saved.kind))},
        dropped=frozenset(_uncleared(selected, live)),
    )
    planner = _Planner.of(selected, shape, contents, live)
    decided = RestorePlan(
        policy=point.policy,
        point=point.id,
        tree=point.tree,
        cut=point.cut,
        consistency=str(point.consistency),
        complete=point.complete,
        steps=tuple(sorted(planner.steps(selected), key=lambda step: (step.order, step.target.path))),
        volumes=tuple(sorted(planner.volumes(selected), key=lambda volume: volume.target)),
        dropped_finalizers=tuple(sorted(shape.dropped)),
    )
    wrong = (Finding(where="selection", message=text, remedy="becalm show --objects lists what there is") for text in missing)
    return replace(
        decided,
        blocking=(
            *wrong,
            *planner.unpatched(selected),
            *restore_checks.blocking(decided, selected, contents, live, request),
            *over_quota(decided, selected, live, shape),
        ),
        findings=(*_of_point(point), *restore_checks.remarks(decided, contents, live, request)),
    )


def _of_point(point: RecoveryPoint) -> Iterator[Finding]:
    where, severity = f"recovery point {point.id[:8]}", Severity.WARNING
    if point.anomalous:
        message = "is an anomaly: a volume that was full before is empty in it, or almost"
        yield Finding(where=where, message=message, remedy="an older point may be the one you mean", severity=severity)
    if point.salvaged:
        yield Finding(where=where, message=f"holds what could be saved of the harmed point {point.salvaged[:8]}", severity=severity)


def _key(kind: Kind) -> tuple[str, str, str]:
    return kind.group, kind.resource, kind.version


def _uncleared(selected: list[SavedObject], live: Live) -> set[str]:
    """Return the finalizers that nobody would clear: neither in this cluster, nor by what the restore brings."""
    groups = {kind.group for kind in live.kinds}
    groups |= {str(child(saved.manifest, "spec").get("group")) for saved in selected if str(saved.kind) == str(CRD)}
    return {name for saved in selected for name in uncleared(saved.manifest, groups)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planner:
    """All that the decision on one object rests on."""

    shape: Shape
    owners: Owners
    services: frozenset[str]
    """The Services with a selector, as `namespace/name`."""
    contents: Contents
    live: Live

    @classmethod
    def of(cls, selected: list[SavedObject], shape: Shape, contents: Contents, live: Live) -> _Planner:
        services = frozenset(_selecting(contents))
        restored = [saved for saved in selected if left_out(saved.manifest, services=services) is None]
        owners = Owners(by_uid={saved.uid: saved.ref for saved in restored if saved.uid})
        return cls(shape=shape, owners=owners, services=services, contents=contents, live=live)

    def steps(self, selected: list[SavedObject]) -> list[Step]:
        """Decide on every object. What stays as it is, and whose owner is made anew, is linked to the new one."""
        steps = [self.step(saved) for saved in selected]
        anew = {step.saved_uid for step in steps if step.action is Action.RECREATE}
        return [
            replace(step, action=Action.LINK, reason="its owner is made again")
            if anew and step.action is Action.KEEP and any(owner["uid"] in anew for owner in self.owners.linked(saved))
            else step
            for step, saved in zip(steps, selected, strict=True)
        ]

    def step(self, saved: SavedObject) -> Step:
        """Decide on one object."""
        target = target_ref(saved.ref, self.shape.mapping)
        order = wave(saved.kind)
        version = self.live.version_for(saved.kind)
        step = Step(
            source=saved.ref,
            target=target,
            kind=saved.kind.kind,
            version=version,
            saved_version=saved.kind.version if version != saved.kind.version else "",
            action=Action.SKIP,
            reason=left_out(saved.manifest, services=self.services) or self._kept_out(saved),
            order=(int(order[0]), order[1]),
            saved_uid=saved.uid,
        )
        if step.reason:
            return step
        step = replace(step, notes=(*self.owners.dropped(saved), *self._dropped_finalizers(saved)))
        found = self.live.objects.get(target)
        if found is None:
            return replace(step, action=Action.CREATE, reason="it is not there")
        return self._beside(step, saved, found)

    def _kept_out(self, saved: SavedObject) -> str:
        """Say why an isolated restore leaves an object out, or nothing."""
        request = self.shape.request
        if not request.isolated:
            return ""
        if is_custom(saved.kind) and not kept_out(saved.kind, saved.manifest):
            return "" if request.isolates(saved.kind) else "an operator of the live cluster would act on it"
        return kept_out(saved.kind, saved.manifest)

    def _beside(self, step: Step, saved: SavedObject, found: Manifest) -> Step:
        """Decide on an object of which one of the same name is there."""
        try:
            wanted = self.shape.manifest(saved, owners=self.owners.linked(saved))
        except PatchFailed:
            return replace(step, action=Action.KEEP, reason="a patch does not fit it")
        changes = tuple(compare(wanted, found))
        step = replace(step, action=Action.KEEP, changes=changes, live_uid=str(child(found, "metadata").get("uid", "")))
        ours = restored_from(found) == self.shape.point
        if not changes and ours and self._lacks_status(saved, found):
            return replace(step, action=Action.LINK, reason="an interrupted restore did not come to its status")
        if not changes:
            return replace(step, reason="restored from this point already" if ours else "it is there and says the same")
        if ours and any(not change.added for change in changes) and all(_of_owners(change) for change in changes):
            return replace(step, action=Action.LINK, reason="an interrupted restore did not link its owners")
        if is_default_account(step) and self._is_ours(step.target.namespace or ""):
            return replace(step, action=Action.CREATE, reason="merged into the one that the cluster made with the namespace")
        return resolve(step, self.shape.request.conflict_of(step.api), wanted, found, ours=ours)

    def _lacks_status(self, saved: SavedObject, found: Manifest) -> bool:
        return self.shape.request.asks_status(saved.kind) and bool(child(saved.manifest, "status")) and not child(found, "status")

    def _dropped_finalizers(self, saved: SavedObject) -> Iterator[str]:
        for name in child(saved.manifest, "metadata").get("finalizers") or ():
            if name in self.shape.dropped:
                yield f"its finalizer {name} is dropped: nothing that this cluster serves would clear it"

    def unpatched(self, selected: list[SavedObject]) -> Iterator[Finding]:
        """Yield the objects that a patch of the request means and does not fit."""
        for saved in selected if self.shape.request.patches else ():
            if left_out(saved.manifest, services=self.services) is None:
                try:
                    self.shape.manifest(saved)
                except PatchFailed as error:
                    yield Finding(
                        where=str(saved.ref), message=f"a patch does not fit it: {error}", remedy="correct the patch, or select less"
                    )

    def _is_ours(self, namespace: str) -> bool:
        found = self.live.namespace(namespace)
        return found is not None and restored_from(found) == self.shape.point

    def volumes(self, selected: list[SavedObject]) -> Iterator[VolumeStep]:
        """Decide on the data of every selected claim."""
        classes = self.shape.request.storage_class_mapping
        for saved in selected:
            volume = claim_of(saved.ref)
            if volume is None or left_out(saved.manifest, services=self.services):
                continue
            spec, data = child(saved.manifest, "spec"), self.contents.volumes.get(volume)
            step = VolumeStep(
                volume=volume,
                target=target_volume(volume, self.shape.mapping),
                action=VolumeAction.EMPTY,
                reason="",
                tree=data.tree if data else "",
                root=data.root if data else "",
                size_bytes=data.size_bytes if data else 0,
                storage_class=classes.get(name := str(spec.get("storageClassName") or ""), name),
                static=spec.get("storageClassName") == "",
                mode=VolumeMode.BLOCK if spec.get("volumeMode") == VolumeMode.BLOCK else VolumeMode.FILESYSTEM,
                in_place=self.shape.request.in_place,
                verify=self.shape.request.verify_data,
            )
            action, reason = self._fate(step, self.live.objects.get(claim_ref(step.target)))
            yield replace(step, action=action, reason=reason)

    def _fate(self, step: VolumeStep, found: Manifest | None) -> tuple[VolumeAction, str]:
        """Say what becomes of a volume's data. A claim is written into only while it is ours and waits for its data."""
        filled = child(found or {}, "metadata", "annotations").get(ANNOTATION_FILLED)
        replaced = fate(found, point=self.shape.point, tree=step.tree) if found is not None and step.in_place else None
        if replaced is not None:
            return replaced
        if found is not None and (restored_from(found) != self.shape.point or filled is None):
            return VolumeAction.KEEP, "the claim is there: a live volume is never written into"
        if found is not None and filled != FILL_PENDING:
            return VolumeAction.KEEP, "filled from this point already" if filled == step.tree else "restored from this point already"
        if self.shape.request.objects_only:
            return (VolumeAction.EMPTY, "no data was asked for") if found is None else (VolumeAction.KEEP, "no data was asked for")
        if not step.tree:
            return VolumeAction.EMPTY, "the point holds no data of it"
        return VolumeAction.FILL, "an interrupted restore did not fill it" if found else "it is not there"


def _of_owners(change: FieldChange) -> bool:
    return change.path.startswith("metadata.ownerReferences")


def _selecting(contents: Contents) -> Iterator[str]:
    for saved in contents.objects:
        if saved.kind.kind == "Service" and not saved.kind.group and child(saved.manifest, "spec").get("selector"):
            yield f"{saved.ref.namespace}/{saved.ref.name}"


def targets(request: RestoreRequest, contents: Contents) -> Iterator[tuple[SavedObject, ResourceRef]]:
    """Yield what a plan must look up in the cluster: every selected object's place."""
    for saved in select(request, contents):
        yield saved, target_ref(saved.ref, request.namespace_mapping)
