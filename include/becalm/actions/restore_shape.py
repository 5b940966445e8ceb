"""How a saved object looks as a restored one: stripped, patched, mapped, marked with its point, owned by the restored owners. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from becalm.actions.restore_request import means
from becalm.actions.restore_select import claim_of
from becalm.kube.base import ANNOTATION_RESTORED_FROM
from becalm.kube.isolation import isolate
from becalm.kube.kinds import NAMESPACE
from becalm.kube.mapping import move
from becalm.kube.overlay import map_hosts, map_registries, map_storage_classes, set_replicas, suspend
from becalm.kube.patching import PatchFailed, TestFailed, apply
from becalm.kube.resources import copied, strip
from becalm.kube.rules import ANNOTATION_FILLED, child, children, group_kind
from becalm.model import VolumeRef

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Self

    from becalm.actions.restore_request import RestoreRequest
    from becalm.actions.restore_source import SavedObject
    from becalm.actions.restore_steps import RestorePlan
    from becalm.kube.base import Kind
    from becalm.model import Manifest, ResourceRef


NODE_PORTS = ("node-ports",)


def target_ref(ref: ResourceRef, mapping: Mapping[str, str]) -> ResourceRef:
    """Return where an object goes."""
    if ref.namespace is not None:
        return replace(ref, namespace=mapping.get(ref.namespace, ref.namespace))
    if not ref.group and ref.resource == NAMESPACE.resource:
        return replace(ref, name=mapping.get(ref.name, ref.name))
    return ref


def target_volume(volume: VolumeRef, mapping: Mapping[str, str]) -> VolumeRef:
    """Return where a volume's data goes."""
    return VolumeRef(namespace=mapping.get(volume.namespace, volume.namespace), claim=volume.claim)


def restored_from(manifest: Manifest) -> str:
    """Return the point that an object in the cluster was restored from, or nothing."""
    return str(child(manifest, "metadata", "annotations").get(ANNOTATION_RESTORED_FROM, ""))


def _identity(manifest: Manifest) -> tuple[object, ...]:
    metadata = child(manifest, "metadata")
    return manifest.get("apiVersion"), manifest.get("kind"), metadata.get("namespace"), metadata.get("name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """The objects that owner references can be linked to: those of the point that are restored or kept, by their old uids."""

    by_uid: Mapping[str, ResourceRef]

    def linked(self, saved: SavedObject) -> list[Manifest]:
        """Return the owner references that can be linked; their uids are still the old ones."""
        return [owner for owner in children(saved.manifest, "metadata", "ownerReferences") if not self._why_dropped(saved, owner)]

    def dropped(self, saved: SavedObject) -> tuple[str, ...]:
        """Say which owner references are dropped, and why."""
        owners = children(saved.manifest, "metadata", "ownerReferences")
        return tuple(
            f"its owner {owner.get('kind')} {owner.get('name')} {why}: the reference is dropped"
            for owner in owners
            if (why := self._why_dropped(saved, owner))
        )

    def _why_dropped(self, saved: SavedObject, owner: Manifest) -> str:
        found = self.by_uid.get(str(owner.get("uid", "")))
        if found is None:
            return "is not part of this restore"
        if found.namespace not in {None, saved.ref.namespace}:
            return "stands in another namespace"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What one restore makes of every object."""

    request: RestoreRequest
    point: str
    converted: Mapping[tuple[str, str, str], str] = field(default_factory=dict)
    """From group, resource and version in the point to the version in which it is written."""
    dropped: frozenset[str] = frozenset()
    """Finalizers that nobody in this cluster would clear."""

    @classmethod
    def of(cls, plan: RestorePlan, request: RestoreRequest) -> Self:
        """Return what a plan makes of every object."""
        converted = {
            (step.source.group, step.source.resource, step.saved_version): step.version for step in plan.steps if step.saved_version
        }
        return cls(request=request, point=plan.point, converted=converted, dropped=frozenset(plan.dropped_finalizers))

    @property
    def mapping(self) -> Mapping[str, str]:
        """The mapping of namespaces."""
        return self.request.namespace_mapping

    def manifest(self, saved: SavedObject, *, owners: Iterable[Manifest] = (), fill: str = "") -> Manifest:
        """Return the object as it is created. The owners come with the uids that they have in the cluster; `fill` marks a claim.

        Raises PatchFailed where a patch of the request does not fit it.
        """
        shaped = self._patched(saved, strip(saved.manifest, but=NODE_PORTS if self.request.keep_node_ports else ()))
        move(shaped, self.mapping)
        self._overlay(shaped, saved.kind)
        metadata = shaped["metadata"]
        linked = [self._renamed(owner) for owner in owners]
        if linked:
            metadata["ownerReferences"] = linked
        metadata.setdefault("annotations", {})[ANNOTATION_RESTORED_FROM] = self.point
        if claim_of(saved.ref) and fill:
            metadata["annotations"][ANNOTATION_FILLED] = fill
        if self.request.asks_status(saved.kind) and "status" in saved.manifest:
            shaped["status"] = copied(saved.manifest["status"])
        return isolate(shaped) if self.request.isolated else shaped

    def _patched(self, saved: SavedObject, shaped: Manifest) -> Manifest:
        """Apply the patches that mean this object, by what the point says of it. None of them may make it another object."""
        for patch in self.request.patches:
            if not patch.select.means(saved.ref, saved.kind.kind, child(saved.manifest, "metadata", "labels")):
                continue
            try:
                patched = apply(shaped, patch.patch)
            except TestFailed:
                continue
            if not isinstance(patched, dict) or _identity(patched) != _identity(shaped):
                raise PatchFailed("it changes the kind, the namespace or the name of the object")
            shaped = patched
        return shaped

    def _overlay(self, shaped: Manifest, kind: Kind) -> None:
        """Change in place what the request changes in every object."""
        request = self.request
        version = self.converted.get((kind.group, kind.resource, kind.version))
        if version:
            shaped["apiVersion"] = f"{kind.group}/{version}" if kind.group else version
        if request.storage_class_mapping:
            map_storage_classes(shaped, request.storage_class_mapping)
        if request.registry_mapping:
            map_registries(shaped, request.registry_mapping)
        if request.host_mapping:
            map_hosts(shaped, request.host_mapping)
        count = request.replicas_of(kind) if request.replicas else None
        if count is not None:
            set_replicas(shaped, count, named=means((pattern for pattern in request.replicas if pattern != "*"), kind))
        if request.suspend_cronjobs:
            suspend(shaped)
        metadata = shaped["metadata"]
        if self.dropped and metadata.get("finalizers"):
            metadata["finalizers"] = [name for name in metadata["finalizers"] if name not in self.dropped]
            if not metadata["finalizers"]:
                del metadata["finalizers"]

    def _renamed(self, owner: Manifest) -> Manifest:
        """Return an owner reference with the owner's new name: only namespaces get one."""
        name = str(owner.get("name"))
        return {**owner, "name": self.mapping.get(name, name)} if group_kind(owner) == "Namespace" else owner
