"""Whether the cluster is still as the plan saw it, asked once before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.actions.restore_changing import AGAIN
from becalm.actions.restore_conflicts import is_default_account
from becalm.actions.restore_live import read_live
from becalm.actions.restore_shape import restored_from
from becalm.actions.restore_steps import ACTING, CHANGING, Action
from becalm.errors import ClusterChanged
from becalm.kube.diffing import compare
from becalm.kube.rules import child

if TYPE_CHECKING:
    from collections.abc import Mapping

    from becalm.actions.restore_objects import Execution
    from becalm.actions.restore_source import SavedObject
    from becalm.actions.restore_steps import Step
    from becalm.model import Manifest, ResourceRef

SHOWN = 5


def demand_unchanged(execution: Execution) -> Mapping[ResourceRef, Manifest]:
    """Return the objects of the plan that are there. What an earlier execution of the same plan did is no change.

    Raises ClusterChanged, with every object that is not as the plan saw it.
    """
    plan = execution.plan
    steps = plan.steps_to(*ACTING)
    live = read_live([(step.api, step.target) for step in steps], execution.ports).objects
    looked = [step for step in steps if step.action is not Action.CREATE or step.target in live]
    wrong: list[ClusterChanged] = []
    for step, saved in zip(looked, execution.source.read([step.source for step in looked]), strict=True):
        try:
            _demand(execution, step, saved, live.get(step.target))
        except ClusterChanged as error:
            wrong.append(error)
    if wrong:
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise ClusterChanged(
            "; ".join(f"{error.where} {error.message}" for error in wrong[:SHOWN]) + more,
            where=f"recovery point {plan.point[:8]}",
            hint=f"nothing was written now; {AGAIN}",
        )
    return live


def _demand(execution: Execution, step: Step, saved: SavedObject, found: Manifest | None) -> None:
    """Raise ClusterChanged where an object is not as the plan saw it, or somebody else's stands in its place."""
    where = str(step.target)
    if step.action in CHANGING:
        execution.changing.demand_unchanged(step, execution.shaped(saved), found)
    elif step.action is Action.LINK:
        if found is None or child(found, "metadata").get("uid") != step.live_uid:
            raise ClusterChanged("is another object than when the plan was made", where=where)
    elif found is not None and restored_from(found) != execution.plan.point and not is_default_account(step):
        if child(found, "metadata").get("deletionTimestamp"):
            raise ClusterChanged("is being deleted", where=where)
        if compare(execution.shaped(saved), found):
            raise ClusterChanged("appeared after the plan was made, and says something else", where=where)
