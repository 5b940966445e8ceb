"""What becomes of an object that exists and differs: the mode that was asked for, and where it is not carried out, and why. Pure.

No mode deletes a definition, a namespace or a claim: with each of them goes what nobody named.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

import orjson

from becalm.actions.restore_request import Conflict
from becalm.actions.restore_steps import Action, Step
from becalm.kube.diffing import comparable, diff
from becalm.kube.immutable import fixed
from becalm.kube.kinds import CRD
from becalm.kube.replacing import kept_owners
from becalm.kube.rules import child, group_kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from becalm.kube.diffing import FieldChange
    from becalm.model import Manifest

ONLY_MERGED: dict[str, str] = {
    "Namespace": "a namespace is only merged: with it would go all that is in it",
    "PersistentVolumeClaim": "a claim is only merged: with it would go its data",
    "Pod": "a pod is only merged: the server changes little of it",
}
"""Kinds of which no mode does more than a merge."""
DEFINITION = f"{CRD.kind}.{CRD.group}"
SHOWN_PATHS = 3


def is_default_account(step: Step) -> bool:
    """Say whether an object is the service account that the cluster makes in every namespace."""
    return step.kind == "ServiceAccount" and not step.source.group and step.target.name == "default"


def mark_of(found: Manifest) -> str:
    """Return a mark of what an object says: the same as long as nobody but servers and controllers' status changed it.

    That of a Secret is its version, since a digest would let anybody try what it holds.
    """
    if group_kind(found) == "Secret":
        return str(child(found, "metadata").get("resourceVersion", ""))
    return sha256(orjson.dumps(comparable(found), option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def left_to_do(action: Action, wanted: Manifest, found: Manifest, *, ours: bool) -> list[FieldChange]:
    """Return the differences that an action would remove; none: it has nothing to do.

    A merge leaves what only the cluster has. So does every mode for an object of this restore: what was added to it since is a controller's.
    Owners that the point does not name are kept by a replacement.
    """
    kept = {**found, "metadata": {**child(found, "metadata")}}
    if action is not Action.MERGE:
        without = [one for one in child(found, "metadata").get("ownerReferences") or [] if one not in kept_owners(wanted, found)]
        kept["metadata"]["ownerReferences"] = without
    changes = diff(comparable(wanted), comparable(kept))
    return [change for change in changes if not (change.added and (ours or action is Action.MERGE))]


def resolve(step: Step, mode: Conflict, wanted: Manifest, found: Manifest, *, ours: bool) -> Step:
    """Return the step of an object that exists and differs, as the mode says."""
    match mode:
        case Conflict.MERGE:
            action, why = Action.MERGE, "it is there and differs: it gets what the point says"
        case Conflict.REPLACE:
            action, why = Action.REPLACE, "it is there and differs: it comes to say what the point says, and nothing else"
        case Conflict.RECREATE:
            action, why = Action.RECREATE, "it is there and differs: it is deleted and made again"
        case _:
            return replace(step, reason="it is there and differs: nothing that exists is overwritten")
    action, why = _allowed(step, action, why, found)
    left = left_to_do(action, wanted, found, ours=ours)
    if not left:
        return replace(step, reason="it says all that the point says; what the cluster has beside it stays")
    never = fixed(left, found) if action is not Action.RECREATE else []
    if never:
        return replace(
            step,
            reason=_never(never),
            notes=(*step.notes, f"{_never(never)}; the mode {Conflict.RECREATE} for {step.api} would make it again"),
        )
    return replace(step, action=action, reason=why, seen=mark_of(found))


def _never(paths: Sequence[str]) -> str:
    shown = ", ".join(paths[:SHOWN_PATHS]) + (f" and {len(paths) - SHOWN_PATHS} more" if len(paths) > SHOWN_PATHS else "")
    return f"it is there and stays: the server never changes {shown}"


def _allowed(step: Step, action: Action, why: str, found: Manifest) -> tuple[Action, str]:
    """Return an action that does no more than was asked, and why it is that one."""
    kind = group_kind(found)
    if action is Action.MERGE:
        return action, why
    if kind in ONLY_MERGED:
        return Action.MERGE, ONLY_MERGED[kind]
    if is_default_account(step):
        return Action.MERGE, "the account that the cluster makes is only merged"
    if action is Action.RECREATE and kind == DEFINITION:
        return Action.REPLACE, "a definition is replaced and never deleted: with it would go all its objects"
    return action, why
