"""Which objects of a list are captured, and by which rule the others are not. Pure.

What stays out holds nothing that is not elsewhere: what is being deleted, what Becalm made itself, and what a controller makes again
from an object that is captured. A pod without a controller is kept, whatever its state.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from becalm.kube.base import LABEL_RUN
from becalm.kube.kinds import GROUP_SNAPSHOT, NAMESPACE, SNAPSHOT_CONTENT
from becalm.kube.resources import MAY_BE_MADE_AGAIN, controller_of, made_again
from becalm.policy import globs
from becalm.policy.select import Choice, Selector, labels_of, opted_out
from becalm.policy.spec import ClusterScope

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from becalm.actions.references import References
    from becalm.kube.base import Kind
    from becalm.model import Manifest
    from becalm.policy.spec import Selection

_KEPT = Choice(selected=True, by="select")
_NOT_MEANT = Choice(selected=False, by="")
"""Without a rule: nobody asked for it, so nobody is told."""
_GOING = Choice(selected=False, by="terminating", because="it is being deleted")
_CUT_GROUPS = frozenset({SNAPSHOT_CONTENT.group, GROUP_SNAPSHOT.group})
_OURS = Choice(selected=False, by="temporary", because="it belongs to a run of Becalm")


@dataclass(slots=True)
class Chooser:
    """The rules of one selection, ready to be asked about many objects. Safe for threads."""

    selection: Selection
    namespaces: frozenset[str]
    references: References
    cuts: frozenset[str] = frozenset()
    """The names of this run's VolumeSnapshots: the contents that the storage made of them carry no label of ours."""
    served: Mapping[str, Kind] = field(default_factory=dict)
    """The kinds by their names, as `Deployment.apps`: whose controllers are asked for."""
    selector: Selector = field(init=False)

    def __post_init__(self) -> None:
        """Read the selectors once."""
        self.selector = Selector.of(self.selection)

    @classmethod
    def of(
        cls, selection: Selection, namespaces: Iterable[str], references: References, kinds: Iterable[Kind], cuts: frozenset[str]
    ) -> Chooser:
        """Make the rules of a selection."""
        served = {f"{kind.kind}.{kind.group}" if kind.group else kind.kind: kind for kind in kinds}
        return cls(selection=selection, namespaces=frozenset(namespaces), references=references, cuts=cuts, served=served)

    def choose(self, kind: Kind, manifest: Manifest) -> Choice:
        """Say whether one object is captured, and by which rule not. Without a rule it was never meant."""
        metadata = manifest["metadata"]
        labels = labels_of(metadata)
        if kind.namespaced and metadata.get("namespace") not in self.namespaces:
            return _NOT_MEANT
        if kind == NAMESPACE:
            return _KEPT if metadata["name"] in self.namespaces else _NOT_MEANT
        if LABEL_RUN in labels or self._is_of_a_cut(kind, manifest):
            return _OURS
        if metadata.get("deletionTimestamp"):
            return _GOING
        if kind.namespaced:
            return self._in_a_namespace(kind, manifest, labels)
        if self.selection.cluster_scoped is ClusterScope.ALL:
            return self.selector.object(metadata)
        if not self.references.means(kind, manifest):
            return _NOT_MEANT
        if opted_out(labels):
            return self.selector.object(metadata)
        return Choice(selected=True, by="select.clusterScoped", because="the selection refers to it")

    def _in_a_namespace(self, kind: Kind, manifest: Manifest, labels: Mapping[str, str]) -> Choice:
        if self.selector.selectors or opted_out(labels):
            return self.selector.object(manifest["metadata"])
        if kind.resource in MAY_BE_MADE_AGAIN:
            why = made_again(manifest, kind.resource)
            if why and not self._is_named(kind) and self._has_its_controller(manifest):
                return Choice(selected=False, by="made again", because=why)
        return _KEPT

    def _is_named(self, kind: Kind) -> bool:
        """Say whether the policy includes a kind in so many words: then its author wants all of them."""
        return any(
            pattern != "*" and globs.resource_matches(pattern, group=kind.group, resource=kind.resource)
            for pattern in self.selection.resources.include
        )

    def _has_its_controller(self, manifest: Manifest) -> bool:
        """Say whether the object that would make this one again is captured as well; what has no owner is a controller's by its label."""
        owner = controller_of(manifest["metadata"])
        kind = self.served.get(owner)
        return not owner or (kind is not None and bool(self.selector.resource(kind.group, kind.resource)))

    def _is_of_a_cut(self, kind: Kind, manifest: Manifest) -> bool:
        """Say whether an object is what the storage's controllers made of our cuts: contents, and the members of a group."""
        if kind.group not in _CUT_GROUPS:
            return False
        spec, status = manifest.get("spec") or {}, manifest.get("status") or {}
        names = {
            (spec.get("volumeSnapshotRef") or {}).get("name"),
            (spec.get("volumeGroupSnapshotRef") or {}).get("name"),
            status.get("snapshotHandle"),
            *(owner.get("name") for owner in manifest["metadata"].get("ownerReferences") or ()),
        }
        return not self.cuts.isdisjoint(names - {None})
