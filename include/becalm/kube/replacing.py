"""The whole object that takes the place of one in the cluster: what the author said is the new one's, what the server assigned stays. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from becalm.kube.resources import copied, strip
from becalm.kube.rules import SERVER_FINALIZERS, STORAGE_FINALIZERS, child, children

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.model import Manifest


def replacement(wanted: Manifest, live: Manifest) -> Manifest:
    """Return what to PUT: `wanted`, with everything that `strip` takes from the object in the cluster put back, its version included."""
    whole: Manifest = copied(wanted)
    _carry(whole, live, strip(live))
    metadata = whole["metadata"]
    finalizers = [*metadata.get("finalizers", ()), *_kept_finalizers(live, metadata)]
    if finalizers:
        metadata["finalizers"] = finalizers
    owners = [*metadata.get("ownerReferences", ()), *kept_owners(wanted, live)]
    if owners:
        metadata["ownerReferences"] = owners
    else:
        metadata.pop("ownerReferences", None)
    metadata.pop("managedFields", None)
    return whole


def _carry(whole: Manifest, live: Manifest, stripped: Manifest) -> None:
    """Put back, mapping by mapping, what stripping took out and nobody says otherwise."""
    for key, value in live.items():
        if key in {"finalizers", "ownerReferences"}:
            continue
        if key not in stripped:
            whole.setdefault(key, copied(value))
        elif isinstance(value, dict) and isinstance(stripped[key], dict) and isinstance(whole.get(key), dict):
            _carry(whole[key], value, stripped[key])


def _kept_finalizers(live: Manifest, metadata: Manifest) -> Iterator[Any]:
    said = metadata.get("finalizers", ())
    for name in child(live, "metadata").get("finalizers") or ():
        if name not in said and (name in SERVER_FINALIZERS or str(name).startswith(STORAGE_FINALIZERS)):
            yield name


def kept_owners(wanted: Manifest, live: Manifest) -> list[Manifest]:
    """Return the owners of the object in the cluster that the new one does not name. Nobody asked for it to be taken from them."""
    said = {(owner.get("kind"), owner.get("name")) for owner in children(wanted, "metadata", "ownerReferences")}
    return [copied(owner) for owner in children(live, "metadata", "ownerReferences") if (owner.get("kind"), owner.get("name")) not in said]
