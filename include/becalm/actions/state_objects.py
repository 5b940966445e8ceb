"""What state an object other than a pod is: by its kind, its type and what it says of itself. Pure. No value of a Secret is read but a certificate."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from becalm.actions import certificates, state_marks
from becalm.actions.state import Origin, State, What
from becalm.actions.state_kinds import (
    CLOUDS,
    DATABASES,
    MADE_ALIKE,
    MADE_BY_THE_CLUSTER,
    SEALING_KEY,
    SECRET_WORDS,
)
from becalm.clock import format_time
from becalm.kube.rules import child, children, is_automatic_token
from becalm.policy.select import labels_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.kube.base import Kind
    from becalm.model import Manifest

SNAPSHOT_GROUPS = frozenset({"snapshot.storage.k8s.io", "groupsnapshot.storage.k8s.io"})
_JUDGED = frozenset({("", "secrets"), ("", "configmaps"), ("", "nodes")})
"""Those of them that are no state are made again: tokens, certificates of the cluster, nodes that join."""


def states(kind: Kind, manifest: Manifest, *, custom: bool) -> Iterator[State]:
    """Yield what an object is, and that a person changed it. `custom`: its kind is defined by the cluster's own users."""
    base = _base(kind, manifest)
    found = _of_kind(kind, manifest, base, custom=custom)
    if found:
        yield found
    elif state_marks.is_owned(manifest):
        return
    elif base.origin is Origin.BY_HAND:
        yield replace(base, what=What.BY_HAND, detail=f"last by {', '.join(base.hands)}" + _when(base))
    elif base.origin is Origin.UNKNOWN and not _comes_again(kind, manifest):
        yield replace(base, what=What.OBJECT, detail="no file explains it, and nothing makes it again")


def _comes_again(kind: Kind, manifest: Manifest) -> bool:
    """Say whether an object that nothing owns is made again all the same, or has ended."""
    table = (kind.group, kind.resource)
    if table in _JUDGED or kind.group in SNAPSHOT_GROUPS or state_marks.is_the_clusters_own(manifest):
        return True
    if table == ("", "serviceaccounts"):
        return str(manifest["metadata"]["name"]) == "default"
    ended = {str(one.get("type")) for one in children(manifest, "status", "conditions") if one.get("status") == "True"}
    return table == ("batch", "jobs") and not ended.isdisjoint({"Complete", "Failed"})


def _base(kind: Kind, manifest: Manifest) -> State:
    metadata = manifest["metadata"]
    return State(
        what=What.BY_HAND,
        group=kind.group,
        resource=kind.resource,
        namespace=metadata.get("namespace") or "",
        name=metadata["name"],
        labels=labels_of(metadata),
        origin=state_marks.origin(manifest),
        created=state_marks.created(manifest),
        changed=state_marks.changed(manifest),
        hands=state_marks.hands(manifest),
        changed_by_hand=state_marks.changed_by_hand(manifest),
    )


def _when(base: State) -> str:
    return f", {format_time(base.changed_by_hand)}" if base.changed_by_hand else ""


def _of_kind(kind: Kind, manifest: Manifest, base: State, *, custom: bool) -> State | None:
    """Return the state that objects of a kind are; nothing where they are none, or where another object makes this one again."""
    table = (kind.group, kind.resource)
    if table == ("snapshot.storage.k8s.io", "volumesnapshots"):
        return replace(base, what=What.SNAPSHOT, detail="it stands in the same storage as its volume")
    if table == ("", "secrets") and state_marks.is_owned(manifest):
        return _owned_secret(manifest, base)
    if kind.group in SNAPSHOT_GROUPS or (state_marks.is_owned(manifest) and table != ("", "services")):
        return None
    if table == ("", "secrets"):
        return _secret(kind, manifest, base)
    if table == ("", "configmaps"):
        made = base.name in MADE_BY_THE_CLUSTER or "control-plane.alpha.kubernetes.io/leader" in child(manifest, "metadata", "annotations")
        return None if made else replace(base, what=What.CONFIG_MAP, detail=_kept_by(base))
    if table == ("", "services"):
        return _service(manifest, base)
    if table == ("apps", "statefulsets"):
        count = len(children(manifest, "spec", "volumeClaimTemplates"))
        return replace(base, what=What.STATEFUL_SET, detail=f"{count} claims for each replica" if count else "without claims of its own")
    if table == ("batch", "cronjobs"):
        return replace(base, what=What.CRON_JOB, detail=f"runs {child(manifest, 'spec').get('schedule', '')!s}")
    if table == certificates.ORDERED:
        return _certificate(kind, manifest, base)
    return _custom(kind, base) if custom else None


def _secret(kind: Kind, manifest: Manifest, base: State) -> State | None:
    if is_automatic_token(manifest):
        return None
    if SEALING_KEY in base.labels:
        return replace(base, what=What.SECRET, detail="the key of Sealed Secrets: without it, no sealed secret in Git can be opened")
    if child(manifest, "data").get(certificates.CERTIFICATE_KEY):
        return _certificate(kind, manifest, base)
    sort = str(manifest.get("type") or "Opaque")
    words = SECRET_WORDS.get(sort, "of a type of its own")
    count = len(child(manifest, "data"))
    return replace(base, what=What.SECRET, detail=f"{words}, {count} {'entry' if count == 1 else 'entries'}; {_kept_by(base)}")


def _owned_secret(manifest: Manifest, base: State) -> State | None:
    """Return a Secret that an operator made: it makes one again, and its content is another one then."""
    owner = next((one for one in children(manifest, "metadata", "ownerReferences") if one.get("controller")), None)
    owner = owner or children(manifest, "metadata", "ownerReferences")[0]
    group = str(owner.get("apiVersion", "")).partition("/")[0]
    if is_automatic_token(manifest) or any(_below(group, known) for known in MADE_ALIKE):
        return None
    return replace(base, what=What.SECRET, detail=f"its {owner.get('kind', 'owner')} would make one again, with other content")


def _certificate(kind: Kind, manifest: Manifest, base: State) -> State | None:
    found = certificates.found_in(kind, manifest)
    if found is None:
        return None
    names = ", ".join(found.names) or found.subject
    ends = f"ends {format_time(found.not_after)}" if found.not_after else found.problem
    return replace(base, what=What.CERTIFICATE, detail=f"for {names}, {ends}" if names else ends, expires=found.not_after)


def _service(manifest: Manifest, base: State) -> State | None:
    spec = child(manifest, "spec")
    if spec.get("type") == "ExternalName":
        return replace(
            base, what=What.OUTSIDE, detail=f"it is a name for {spec.get('externalName', '')}: no policy reaches what is behind it"
        )
    if not spec.get("selector") and not state_marks.is_owned(manifest) and base.where != "services/default/kubernetes":
        return replace(base, what=What.OUTSIDE, detail="it selects no pods: its addresses were written by hand")
    return None


def _custom(kind: Kind, base: State) -> State:
    if database := next((DATABASES[group] for group in DATABASES if _below(kind.group, group)), ""):
        return replace(base, what=What.DATABASE, detail=f"{database}: its data stands in claims that the operator makes")
    if any(_below(kind.group, group) for group in CLOUDS):
        return replace(base, what=What.OUTSIDE, detail="it stands for something outside the cluster, whose data no policy reaches")
    return replace(base, what=What.CUSTOM, detail=_kept_by(base))


def _below(group: str, parent: str) -> bool:
    return group == parent or group.endswith(f".{parent}")


def _kept_by(base: State) -> str:
    match base.origin:
        case Origin.DECLARED:
            return "a tool keeps it from files"
        case Origin.APPLIED:
            return "it was applied from a file that somebody has"
        case Origin.BY_HAND:
            return f"changed by hand with {', '.join(base.hands)}"
        case Origin.UNKNOWN:
            return "no file explains it"
