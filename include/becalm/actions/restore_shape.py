"""How a saved object looks as a restored one: in its namespace, stripped, marked with its point, owned by the restored owners. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from becalm.actions.restore_select import claim_of
from becalm.kube.base import ANNOTATION_RESTORED_FROM
from becalm.kube.kinds import NAMESPACE
from becalm.kube.mapping import map_namespace
from becalm.kube.resources import strip
from becalm.kube.rules import ANNOTATION_FILLED, child, children, group_kind
from becalm.model import VolumeRef

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from becalm.actions.restore_request import RestoreRequest
    from becalm.actions.restore_source import SavedObject
    from becalm.model import Manifest, ResourceRef


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

    @property
    def mapping(self) -> Mapping[str, str]:
        """The mapping of namespaces."""
        return self.request.namespace_mapping

    def manifest(self, saved: SavedObject, *, owners: Iterable[Manifest] = (), fill: str = "") -> Manifest:
        """Return the object as it is created. The owners come with the uids that they have in the cluster; `fill` marks a claim."""
        shaped = strip(map_namespace(saved.manifest, self.mapping))
        metadata = shaped["metadata"]
        linked = [self._renamed(owner) for owner in owners]
        if linked:
            metadata["ownerReferences"] = linked
        metadata.setdefault("annotations", {})[ANNOTATION_RESTORED_FROM] = self.point
        if claim_of(saved.ref) and fill:
            metadata["annotations"][ANNOTATION_FILLED] = fill
        if self.request.suspend_cronjobs and group_kind(shaped) == "CronJob.batch":
            shaped.setdefault("spec", {})["suspend"] = True
        return shaped

    def _renamed(self, owner: Manifest) -> Manifest:
        """Return an owner reference with the owner's new name: only namespaces get one."""
        name = str(owner.get("name"))
        return {**owner, "name": self.mapping.get(name, name)} if group_kind(owner) == "Namespace" else owner
