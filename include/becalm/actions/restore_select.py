"""Which objects and volumes of a recovery point a request means. Pure."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from becalm.actions.restore_request import ClusterScoped, means
from becalm.kube.kinds import CLAIM, NAMESPACE
from becalm.kube.references import RBAC, referred, subject_namespaces
from becalm.kube.rules import child
from becalm.model import ResourceRef, VolumeRef

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from becalm.actions.restore_request import RestoreRequest
    from becalm.actions.restore_source import Contents, SavedObject


def worth_reading(request: RestoreRequest) -> Callable[[ResourceRef], bool]:
    """Return what to read of a point: everything that the request could mean, judged by paths alone."""
    patterns = request.patterns

    def wants(ref: ResourceRef) -> bool:
        if ref.namespace is None or not (request.only_named or request.namespaces):
            return True
        if not request.only_named and request.selects_namespace(ref.namespace):
            return True
        if any(fnmatchcase(ref.name, one.name) and one.namespace and fnmatchcase(ref.namespace, one.namespace) for one in patterns):
            return True
        return ref.resource == CLAIM.resource and _names_volume(request, VolumeRef(namespace=ref.namespace, claim=ref.name))

    return wants


def _names_volume(request: RestoreRequest, volume: VolumeRef) -> bool:
    return any(fnmatchcase(str(volume), pattern) for pattern in request.volumes)


def claim_of(ref: ResourceRef) -> VolumeRef | None:
    """Return the volume of a claim, or nothing for other objects."""
    if ref.group or ref.resource != CLAIM.resource or ref.namespace is None:
        return None
    return VolumeRef(namespace=ref.namespace, claim=ref.name)


def claim_ref(volume: VolumeRef) -> ResourceRef:
    """Name the claim of a volume as an object."""
    return ResourceRef(group=CLAIM.group, resource=CLAIM.resource, namespace=volume.namespace, name=volume.claim)


def select(request: RestoreRequest, contents: Contents) -> list[SavedObject]:
    """Return the objects that are meant: those selected, the namespaces they stand in, and what they refer to outside of any."""
    own = [saved for saved in contents.objects if (_selected if saved.ref.namespace is not None else _named)(request, saved)]
    beside = {saved.ref: saved for saved in contents.objects if saved.ref.namespace is None}
    taken = _namespaces(own) | {ref for ref in beside if _is_namespace(ref) and _wholly(request, ref.name)}
    out = {ref for ref, saved in beside.items() if not _is_namespace(ref) and request.excludes_kind(saved.kind)}
    match request.include_cluster_scoped:
        case ClusterScoped.ALL:
            taken |= {ref for ref in beside if not _is_namespace(ref)}
        case ClusterScoped.AUTO:
            whole = {ref for ref in beside if not _is_namespace(ref) or request.selects_namespace(ref.name)}
            taken |= whole if request.whole else _closure(request, own, beside)
            out |= {ref for ref in beside if ref.resource == "storageclasses" and ref.name in request.storage_class_mapping}
    taken |= {ref for ref, saved in beside.items() if request.names_cluster_kind(saved.kind)}
    taken -= {saved.ref for saved in own} | out
    return [*own, *(saved for ref, saved in beside.items() if ref in taken)]


def _wholly(request: RestoreRequest, namespace: str) -> bool:
    """Say whether a namespace is asked for with all that is in it, so that it comes even when it is empty."""
    return not (request.only_named or request.kinds or request.volumes_only or request.labels) and request.selects_namespace(namespace)


def _is_namespace(ref: ResourceRef) -> bool:
    return not ref.group and ref.resource == NAMESPACE.resource


def _selected(request: RestoreRequest, saved: SavedObject) -> bool:
    if request.excludes_kind(saved.kind) or not _fits(request, saved):
        return False
    volume = claim_of(saved.ref)
    if volume and _names_volume(request, volume):
        return True
    if request.volumes_only and not volume:
        return False
    if any(pattern.matches(saved.ref, saved.kind.kind) for pattern in request.patterns):
        return True
    asked = not request.only_named and request.selects_namespace(saved.ref.namespace or "") and request.selects_kind(saved.kind)
    return asked and request.selects_labels(child(saved.manifest, "metadata", "labels"))


def _fits(request: RestoreRequest, saved: SavedObject) -> bool:
    """Say whether the namespace of an object is not excluded: that goes before everything, names too."""
    return not any(fnmatchcase(saved.ref.namespace or "", pattern) for pattern in request.exclude_namespaces)


def _named(request: RestoreRequest, saved: SavedObject) -> bool:
    """Say whether an object outside of any namespace is asked for itself: one by one, or by its kind and without namespaces."""
    if request.excludes_kind(saved.kind):
        return False
    if any(pattern.matches(saved.ref, saved.kind.kind) for pattern in request.patterns):
        return True
    asked = bool(request.kinds or request.labels) and not request.namespaces and not request.only_named and request.selects_kind(saved.kind)
    return asked and request.selects_labels(child(saved.manifest, "metadata", "labels"))


def _namespaces(own: Iterable[SavedObject]) -> set[ResourceRef]:
    names = {saved.ref.namespace for saved in own if saved.ref.namespace}
    return {ResourceRef(group="", resource=NAMESPACE.resource, namespace=None, name=name) for name in names}


def _closure(request: RestoreRequest, own: list[SavedObject], beside: dict[ResourceRef, SavedObject]) -> set[ResourceRef]:
    """Follow the references out of the namespaces until nothing new is met; bindings are met from their subjects' side."""
    todo = list(own)
    if not (request.only_named or request.kinds or request.volumes_only or request.labels):
        namespaces = {saved.ref.namespace for saved in own}
        bindings = [saved for ref, saved in beside.items() if (ref.group, ref.resource) == (RBAC, "clusterrolebindings")]
        todo += [saved for saved in bindings if subject_namespaces(saved.manifest) & namespaces]
    met = {saved.ref for saved in todo if saved.ref.namespace is None}
    while todo:
        saved = todo.pop()
        for ref in referred(saved.manifest, saved.kind):
            if ref in beside and ref not in met:
                met.add(ref)
                todo.append(beside[ref])
    return met


def unmatched(request: RestoreRequest, contents: Contents) -> list[str]:
    """Return every part of the request that means nothing in the point, in plain words."""
    objects, volumes = contents.objects, contents.volumes
    names = {saved.ref.name if _is_namespace(saved.ref) else saved.ref.namespace for saved in objects}
    names |= {volume.namespace for volume in volumes}
    missing = [
        f"no object is {text}" for text, one in zip(request.objects, request.patterns, strict=True) if not _any(one.matches, objects)
    ]
    missing += [f"no volume is {text}" for text in request.volumes if not any(fnmatchcase(str(volume), text) for volume in volumes)]
    missing += [f"no namespace is {text}" for text in request.namespaces if not any(name and fnmatchcase(name, text) for name in names)]
    missing += [f"no namespace is {source}, which is to be mapped" for source in request.namespace_mapping if source not in names]
    missing += [f"no kind is {text}" for text in request.kinds if not any(means((text,), saved.kind) for saved in objects)]
    missing += [f"no kind outside of namespaces is {text}" for text in request.cluster_kinds if not _any_beside(text, objects)]
    return missing


def _any_beside(text: str, objects: Iterable[SavedObject]) -> bool:
    return any(saved.ref.namespace is None and means((text,), saved.kind) for saved in objects)


def _any(matches: Callable[[ResourceRef, str], bool], objects: Iterable[SavedObject]) -> bool:
    return any(matches(saved.ref, saved.kind.kind) for saved in objects)
