"""Changing one object that exists, as the plan says: merging into it, replacing it, or deleting it and making it again.

Nothing is written to an object that is not the one the plan saw, or that says something else by now. What was done already, by an earlier
execution of the same plan, is not done again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from becalm.actions.restore_conflicts import left_to_do, mark_of
from becalm.actions.restore_shape import restored_from
from becalm.actions.restore_steps import Action, Step
from becalm.clock import Deadline
from becalm.errors import AlreadyExists, ClusterChanged, Conflict, NotFound
from becalm.kube.base import ANNOTATION_RESTORED_FROM, Verb
from becalm.kube.kinds import CLAIM
from becalm.kube.replacing import replacement
from becalm.kube.rules import ANNOTATION_FILLED, child, group_kind

if TYPE_CHECKING:
    from becalm.clock import Clock
    from becalm.kube.base import Cluster
    from becalm.model import Manifest

ATTEMPTS = 5
"""How often a write is tried whose object was written by somebody else in the same moment: controllers write status."""
GONE_SECONDS = 120.0
GONE_POLL_SECONDS = 0.2
WITH_DEPENDENTS = frozenset({"Job.batch", "CronJob.batch"})
"""What these made is theirs alone. What others made is left, for the new object of the same name takes it over."""
AGAIN = "make the plan again, and look at it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changing:
    """How objects that exist are changed. Safe for threads."""

    cluster: Cluster
    clock: Clock
    point: str

    def change(self, step: Step, wanted: Manifest, found: Manifest | None) -> Manifest:
        """Carry out the step of an object; `found` is what was read of it, if it was. Return what is there then.

        Raises: ClusterChanged, and what the server refuses.
        """
        for _ in range(ATTEMPTS):
            found = found or self._read(step)
            self.demand_unchanged(step, wanted, found)
            if found is not None and self._is_done(step, wanted, found):
                return found
            try:
                return self._write(step, wanted, found)
            except (Conflict, AlreadyExists):
                found = None
        raise ClusterChanged("somebody else writes it again and again", where=str(step.target), hint="find out who, and restore again")

    def demand_unchanged(self, step: Step, wanted: Manifest, found: Manifest | None) -> None:
        """Raise ClusterChanged where the object is not the one that the plan saw, or says something else, and it was not this plan's doing."""
        if found is None:
            if step.action is not Action.RECREATE:
                raise ClusterChanged("was deleted after the plan was made", where=str(step.target), hint=AGAIN)
            return
        metadata = child(found, "metadata")
        if metadata.get("uid") != step.live_uid:
            if step.action is Action.RECREATE and restored_from(found) == self.point:
                return
            raise ClusterChanged("is another object than when the plan was made", where=str(step.target), hint=AGAIN)
        if mark_of(found) != step.seen and not self._is_done(step, wanted, found) and not _is_going(step, found):
            raise ClusterChanged("says something else than when the plan was made", where=str(step.target), hint=AGAIN)

    def _is_done(self, step: Step, wanted: Manifest, found: Manifest) -> bool:
        if step.action is Action.RECREATE:
            return child(found, "metadata").get("uid") != step.live_uid
        return not left_to_do(step.action, wanted, found, ours=restored_from(found) == self.point)

    def _read(self, step: Step) -> Manifest | None:
        try:
            return self.cluster.get(step.api, step.target.name, namespace=step.target.namespace)
        except NotFound:
            return None

    def _write(self, step: Step, wanted: Manifest, found: Manifest | None) -> Manifest:
        match step.action:
            case Action.RECREATE:
                if found is not None:
                    self._delete(step, found)
                return self.cluster.apply(step.api, wanted, verb=Verb.CREATE)
            case Action.REPLACE if found is not None:
                return self.cluster.apply(step.api, replacement(wanted, found), verb=Verb.UPDATE)
        assert found is not None
        return self.cluster.apply(step.api, merging(wanted, found), verb=Verb.FORCE_APPLY)

    def _delete(self, step: Step, found: Manifest) -> None:
        """Delete the very object that the plan saw, and wait until it is gone. Raises ClusterChanged where it does not go."""
        propagation = "Background" if group_kind(found) in WITH_DEPENDENTS else "Orphan"
        self.cluster.delete(step.api, step.target.name, namespace=step.target.namespace, uid=step.live_uid, propagation=propagation)
        deadline = Deadline(self.clock, GONE_SECONDS)
        while (left := self._read(step)) is not None and child(left, "metadata").get("uid") == step.live_uid:
            if deadline.passed():
                held = ", ".join(map(str, child(left, "metadata").get("finalizers") or ())) or "nothing that it says"
                raise ClusterChanged(
                    f"is being deleted and does not go: {held} holds it",
                    where=str(step.target),
                    hint="let it go, and run the same restore again",
                )
            self.clock.sleep(GONE_POLL_SECONDS)


def _is_going(step: Step, found: Manifest) -> bool:
    """Say whether an object is on its way out because an earlier execution of this plan deleted it."""
    return step.action is Action.RECREATE and bool(child(found, "metadata").get("deletionTimestamp"))


def merging(wanted: Manifest, found: Manifest) -> Manifest:
    """Return what is applied to an object that exists: what the point says of it, for that very object in that very version."""
    metadata = {key: value for key, value in wanted["metadata"].items() if key != "annotations"}
    marks = dict(wanted["metadata"].get("annotations") or {})
    if group_kind(found) == CLAIM.kind:
        marks.pop(ANNOTATION_RESTORED_FROM, None)  # its data is not of the point
        marks.pop(ANNOTATION_FILLED, None)
    if marks:
        metadata["annotations"] = marks
    metadata |= {"uid": found["metadata"]["uid"], "resourceVersion": found["metadata"]["resourceVersion"]}
    applied = {**wanted, "metadata": metadata}
    if group_kind(found) == CLAIM.kind:
        # What a bound claim was made with cannot be changed; its size can.
        applied["spec"] = {"resources": child(wanted, "spec", "resources")}
    return applied
