"""Carrying out the objects of a plan, wave by wave, and linking them to their new owners. Only what the plan says is changed.

An object that turns out to be there is adopted where an earlier execution of the same restore made it, or where it says the
same; else the cluster changed after the plan, and the restore stops before the next wave. What the server refuses is a failure, and the
rest goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from threading import Lock
from typing import TYPE_CHECKING

from becalm.actions.lanes import side_by_side
from becalm.actions.restore_changing import AGAIN, Changing
from becalm.actions.restore_conflicts import is_default_account
from becalm.actions.restore_gates import READY_SECONDS, why_withheld
from becalm.actions.restore_select import claim_of
from becalm.actions.restore_shape import Owners, Shape, restored_from
from becalm.actions.restore_steps import ACTING, CHANGING, Action, Step, VolumeAction
from becalm.clock import Deadline
from becalm.errors import AlreadyExists, ClusterChanged, NotFound, PermanentError
from becalm.kube.base import Verb
from becalm.kube.diffing import compare
from becalm.kube.kinds import CRD
from becalm.kube.ordering import OrderClass
from becalm.kube.replacing import kept_owners
from becalm.kube.rules import FILL_NONE, FILL_PENDING, child, children
from becalm.model import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from becalm.actions.handover import Ports
    from becalm.actions.restore_source import SavedObject, Source
    from becalm.actions.restore_steps import RestorePlan
    from becalm.model import Manifest, ResourceRef, VolumeRef

WRITERS = 16
TOLD_EVERY = 20
"""After so many objects the progress is told."""
SERVED_SECONDS = 60.0
SERVED_POLL_SECONDS = 0.2

Pair = tuple[Step, "SavedObject"]


@dataclass(slots=True, kw_only=True)
class Execution:
    """One execution under way: what was made so far, by old uids, and what failed."""

    plan: RestorePlan
    shape: Shape
    source: Source
    ports: Ports
    live: Mapping[ResourceRef, Manifest] = field(default_factory=dict)
    """What was there when the execution began."""
    done: dict[Action, int] = field(default_factory=lambda: dict.fromkeys(ACTING, 0))
    """How often each action was carried out."""
    failures: list[Finding] = field(default_factory=list)
    _uids: dict[str, str] = field(init=False)
    """From the uid in the point to the uid in the cluster."""
    _owners: Owners = field(init=False)
    _fates: dict[VolumeRef, VolumeAction] = field(init=False)
    _changing: Changing = field(init=False)
    _changed: list[str] = field(default_factory=list)
    """What was found to have changed after the plan."""
    _gates: Deadline = field(init=False)
    _total: int = field(init=False)
    _counting: Lock = field(default_factory=Lock)
    _unlinked: list[tuple[Step, SavedObject, str]] = field(default_factory=list)
    """Objects whose owners were not there yet, with their new uids."""

    def __post_init__(self) -> None:
        """Learn from the plan what is there already."""
        taking_part = [step for step in self.plan.steps if step.action is not Action.SKIP and step.saved_uid]
        self._uids = {step.saved_uid: step.live_uid for step in taking_part if step.live_uid and step.action is not Action.RECREATE}
        self._owners = Owners(by_uid={step.saved_uid: step.source for step in taking_part})
        self._fates = {volume.target: volume.action for volume in self.plan.volumes}
        self._total = len(self.plan.steps_to(*ACTING))
        self._changing = Changing(cluster=self.ports.cluster, clock=self.ports.clock, point=self.plan.point)

    def shaped(self, saved: SavedObject) -> Manifest:
        """Return an object as it is to be compared with what is there: with its owners, whose uids do not matter."""
        return self.shape.manifest(saved, owners=self._owners.linked(saved))

    @property
    def changing(self) -> Changing:
        """How objects that exist are changed."""
        return self._changing

    def waves(self) -> Iterator[tuple[OrderClass, list[Step]]]:
        """Yield what is to be done, in its order."""
        acting = self.plan.steps_to(*ACTING)
        for order, steps in groupby(acting, key=lambda step: step.order):
            yield OrderClass(order[0]), list(steps)

    def carry_out(self, steps: list[Step]) -> None:
        """Carry out the objects of one wave side by side, owners before what they own, and link what can be linked by now.

        Raises: ClusterChanged, once the wave is over; and what is transient: the next execution goes on from there.
        """
        self._gates = Deadline(self.ports.clock, READY_SECONDS)
        left: list[Pair] = list(zip(steps, self.source.read([step.source for step in steps]), strict=True))
        while left:
            ready = self._without_owners_in(left)
            side_by_side(lambda pair: self._carry_out(*pair), ready, lanes=WRITERS)
            done = {step.target for step, _ in ready}
            left = [pair for pair in left if pair[0].target not in done]
        if self._changed:
            raise ClusterChanged(
                "; ".join(self._changed), where=f"recovery point {self.plan.point[:8]}", hint=f"what changed was not touched; {AGAIN}"
            )
        definitions = [saved.manifest for saved in self._created_definitions(steps)]
        if definitions:
            self._await_served(definitions)
        self._link()

    def finish(self) -> None:
        """Say which objects could not be linked to their owners."""
        for step, saved, _ in self._unlinked:
            absent = [f"{owner.get('kind')} {owner.get('name')}" for owner in self._owners.linked(saved) if owner["uid"] not in self._uids]
            self._fail(step, f"is not linked to its owner, which was not created: {', '.join(absent)}", "mend the owner and restore again")

    def withhold(self, steps: list[Step], reasons: dict[str, str]) -> list[Step]:
        """Return the steps that may go on; those in a namespace with a reason against it become failures."""
        for step in steps:
            if step.target.namespace in reasons:
                self._fail(step, f"is withheld: {reasons[step.target.namespace]}", "mend the volume and restore again")
        return [step for step in steps if step.target.namespace not in reasons]

    def _fail(self, step: Step, message: str, remedy: str) -> None:
        self.failures.append(Finding(where=str(step.target), message=message, remedy=remedy))

    def _without_owners_in(self, left: list[Pair]) -> list[Pair]:
        """Return the objects that no other one in the list owns; all of them, where they own each other."""
        uids = {saved.uid for _, saved in left}
        ready = [pair for pair in left if not any(owner["uid"] in uids for owner in self._owners.linked(pair[1]))]
        return ready or left

    def _carry_out(self, step: Step, saved: SavedObject) -> None:
        if step.action is Action.LINK:
            self._unlinked.append((step, saved, step.live_uid))
            self._put_status(step, saved, only_missing=True)
            return
        owners = self._owners.linked(saved)
        known = [{**owner, "uid": self._uids[owner["uid"]]} for owner in owners if owner["uid"] in self._uids]
        manifest = self.shape.manifest(saved, owners=known, fill=self._mark(step))
        withheld = why_withheld(manifest, self.ports, self._gates)
        if withheld:
            self._fail(step, f"is withheld: {withheld}", "see why its server is not ready, and run the same restore again")
            return
        try:
            if step.action in CHANGING:
                made = self._changing.change(step, manifest, self.live.get(step.target))
            else:
                made = self._create_or_adopt(step, manifest)
        except ClusterChanged as error:
            self._changed.append(f"{step.target} {error.message}")
            return
        except PermanentError as error:
            self._fail(step, error.message, error.hint)
            return
        done = self._count(step.action)
        uid = str(child(made, "metadata").get("uid", ""))
        self._uids[saved.uid] = uid
        if len(known) < len(owners):
            self._unlinked.append((step, saved, uid))
        self._put_status(step, saved)
        if done % TOLD_EVERY == 0 or done == self._total:
            self.ports.progress("restore objects", done=done, total=self._total)

    def _count(self, action: Action) -> int:
        """Count an action, and return how many there were of all kinds."""
        with self._counting:
            self.done[action] += 1
            return sum(self.done.values())

    def _put_status(self, step: Step, saved: SavedObject, *, only_missing: bool = False) -> None:
        """Write the status that was asked for. A kind without a status of its own got it with the object."""
        status = child(saved.manifest, "status")
        if not status or not self.shape.request.asks_status(saved.kind):
            return
        metadata = {"name": step.target.name} | ({"namespace": step.target.namespace} if step.target.namespace else {})
        document = {"apiVersion": step.api.api_version, "kind": step.kind, "metadata": metadata, "status": status}
        try:
            if only_missing and child(self.ports.cluster.get(step.api, step.target.name, namespace=step.target.namespace), "status"):
                return
            self.ports.cluster.apply(step.api, document, verb=Verb.MERGE, subresource="status")
        except NotFound:
            return
        except PermanentError as error:
            self._fail(step, f"its status cannot be restored: {error.message}", error.hint)

    def _mark(self, step: Step) -> str:
        """Return what a new claim says of its data."""
        volume = claim_of(step.target)
        if volume is None:
            return ""
        return FILL_PENDING if self._fates.get(volume) is VolumeAction.FILL else FILL_NONE

    def _create_or_adopt(self, step: Step, manifest: Manifest) -> Manifest:
        cluster, kind = self.ports.cluster, step.api
        try:
            return cluster.apply(kind, manifest, verb=Verb.CREATE)
        except AlreadyExists:
            found = cluster.get(kind, step.target.name, namespace=step.target.namespace)
            if restored_from(found) == self.plan.point or not compare(manifest, found):
                return found
            if is_default_account(step):
                return cluster.apply(kind, manifest, verb=Verb.MERGE)
            raise ClusterChanged("appeared after the plan was made, and says something else", hint=AGAIN) from None

    def _link(self) -> None:
        """Link every object whose owners are all there by now."""
        ready = [one for one in self._unlinked if all(owner["uid"] in self._uids for owner in self._owners.linked(one[1]))]
        linked = {id(one) for one in ready}
        self._unlinked = [one for one in self._unlinked if id(one) not in linked]
        for step, saved, uid in ready:
            owners = [{**owner, "uid": self._uids[owner["uid"]]} for owner in self._owners.linked(saved)]
            if not owners:
                continue
            shaped = self.shape.manifest(saved, owners=owners)["metadata"]
            others = kept_owners({"metadata": shaped}, self.live.get(step.target, {}))
            metadata = {"name": shaped["name"], "uid": uid, "ownerReferences": [*shaped["ownerReferences"], *others]}
            if step.target.namespace:
                metadata["namespace"] = step.target.namespace
            patch = {"apiVersion": step.api.api_version, "kind": step.kind, "metadata": metadata}
            try:
                self.ports.cluster.apply(step.api, patch, verb=Verb.MERGE)
            except PermanentError as error:
                self._fail(step, f"cannot be linked to its owners: {error.message}", error.hint)
            else:
                self._count(Action.LINK)

    def _created_definitions(self, steps: list[Step]) -> list[SavedObject]:
        made = [
            step
            for step in steps
            if step.action is not Action.LINK and (step.source.group, step.source.resource) == (CRD.group, CRD.resource)
        ]
        return self.source.read([step.source for step in made])

    def _await_served(self, definitions: list[Manifest]) -> None:
        """Wait until the new kinds are served; one that is not becomes a failure, and so will its objects."""
        waiting = {
            (str(spec.get("group")), str(version.get("name")), str(child(spec, "names").get("plural")))
            for spec in (child(definition, "spec") for definition in definitions)
            for version in children(spec, "versions")
            if version.get("served")
        }
        deadline = Deadline(self.ports.clock, SERVED_SECONDS)
        while waiting and not deadline.passed():
            waiting -= {(kind.group, kind.version, kind.resource) for kind in self.ports.cluster.discover().kinds}
            if waiting:
                self.ports.progress(f"waiting until {len(waiting)} new kinds are served")
                self.ports.clock.sleep(SERVED_POLL_SECONDS)
        self.failures += [
            Finding(
                where=f"{resource}.{group}",
                message=f"is not served as {version} after {SERVED_SECONDS:.0f} s",
                remedy="look at its conditions",
            )
            for group, version, resource in sorted(waiting)
        ]
