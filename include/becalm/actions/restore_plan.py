"""What a restore would do, decided before it does anything: each object and each volume with an action and its reason.

`plan` is pure. What it returns is what a person reads, what an approval shows, and exactly what `restore.execute` carries out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from becalm.actions import restore_checks
from becalm.actions.restore_select import claim_of, claim_ref, select, unmatched
from becalm.actions.restore_shape import Owners, Shape, restored_from, target_ref, target_volume
from becalm.actions.restore_steps import Action, RestorePlan, Step, VolumeAction, VolumeStep
from becalm.errors import RestoreRefused
from becalm.kube.diffing import compare
from becalm.kube.ordering import wave
from becalm.kube.resources import left_out
from becalm.kube.rules import ANNOTATION_FILLED, FILL_PENDING, child
from becalm.model import Finding, VolumeMode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.actions.restore_live import Live
    from becalm.actions.restore_request import RestoreRequest
    from becalm.actions.restore_source import Contents, SavedObject
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
    planner = _Planner.of(selected, Shape(request=request, point=point.id), contents, live)
    decided = RestorePlan(
        policy=point.policy,
        point=point.id,
        tree=point.tree,
        cut=point.cut,
        consistency=str(point.consistency),
        complete=point.complete,
        steps=tuple(sorted(map(planner.step, selected), key=lambda step: (step.order, step.target.path))),
        volumes=tuple(sorted(planner.volumes(selected), key=lambda volume: volume.target)),
    )
    wrong = (Finding(where="selection", message=text, remedy="becalm show --objects lists what there is") for text in missing)
    return replace(
        decided,
        blocking=(*wrong, *restore_checks.blocking(decided, selected, contents, live, request)),
        findings=tuple(restore_checks.remarks(decided, live)),
    )


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

    def step(self, saved: SavedObject) -> Step:
        """Decide on one object."""
        target = target_ref(saved.ref, self.shape.mapping)
        order = wave(saved.kind)
        step = Step(
            source=saved.ref,
            target=target,
            kind=saved.kind.kind,
            version=saved.kind.version,
            action=Action.SKIP,
            reason=left_out(saved.manifest, services=self.services) or "",
            order=(int(order[0]), order[1]),
            saved_uid=saved.uid,
        )
        if step.reason:
            return step
        step = replace(step, notes=self.owners.dropped(saved))
        found = self.live.objects.get(target)
        if found is None:
            return replace(step, action=Action.CREATE, reason="it is not there")
        return self._beside(step, saved, found)

    def _beside(self, step: Step, saved: SavedObject, found: Manifest) -> Step:
        """Decide on an object of which one of the same name is there."""
        wanted = self.shape.manifest(saved, owners=self.owners.linked(saved))
        changes = tuple(compare(wanted, found))
        step = replace(step, action=Action.KEEP, changes=changes, live_uid=str(child(found, "metadata").get("uid", "")))
        ours = restored_from(found) == self.shape.point
        if not changes:
            return replace(step, reason="restored from this point already" if ours else "it is there and says the same")
        if ours and all(change.path.startswith("metadata.ownerReferences") for change in changes):
            return replace(step, action=Action.LINK, reason="an interrupted restore did not link its owners")
        if is_default_account(step) and self._is_ours(step.target.namespace or ""):
            return replace(step, action=Action.CREATE, reason="merged into the one that the cluster made with the namespace")
        return replace(step, reason="it is there and differs: nothing that exists is overwritten")

    def _is_ours(self, namespace: str) -> bool:
        found = self.live.namespace(namespace)
        return found is not None and restored_from(found) == self.shape.point

    def volumes(self, selected: list[SavedObject]) -> Iterator[VolumeStep]:
        """Decide on the data of every selected claim."""
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
                storage_class=str(spec.get("storageClassName") or ""),
                static=spec.get("storageClassName") == "",
                mode=VolumeMode.BLOCK if spec.get("volumeMode") == VolumeMode.BLOCK else VolumeMode.FILESYSTEM,
            )
            action, reason = self._fate(step, self.live.objects.get(claim_ref(step.target)))
            yield replace(step, action=action, reason=reason)

    def _fate(self, step: VolumeStep, found: Manifest | None) -> tuple[VolumeAction, str]:
        """Say what becomes of a volume's data. A claim is written into only while it is ours and waits for its data."""
        filled = child(found or {}, "metadata", "annotations").get(ANNOTATION_FILLED)
        if found is not None and (restored_from(found) != self.shape.point or filled is None):
            return VolumeAction.KEEP, "the claim is there: a live volume is never written into"
        if found is not None and filled != FILL_PENDING:
            return VolumeAction.KEEP, "filled from this point already" if filled == step.tree else "restored from this point already"
        if self.shape.request.objects_only:
            return (VolumeAction.EMPTY, "no data was asked for") if found is None else (VolumeAction.KEEP, "no data was asked for")
        if not step.tree:
            return VolumeAction.EMPTY, "the point holds no data of it"
        return VolumeAction.FILL, "an interrupted restore did not fill it" if found else "it is not there"


def _selecting(contents: Contents) -> Iterator[str]:
    for saved in contents.objects:
        if saved.kind.kind == "Service" and not saved.kind.group and child(saved.manifest, "spec").get("selector"):
            yield f"{saved.ref.namespace}/{saved.ref.name}"


def is_default_account(step: Step) -> bool:
    """Say whether an object is the service account that the cluster makes in every namespace."""
    return step.kind == "ServiceAccount" and not step.source.group and step.target.name == "default"


def targets(request: RestoreRequest, contents: Contents) -> Iterator[tuple[SavedObject, ResourceRef]]:
    """Yield what a plan must look up in the cluster: every selected object's place."""
    for saved in select(request, contents):
        yield saved, target_ref(saved.ref, request.namespace_mapping)
