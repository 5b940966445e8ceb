"""The garbage collector: what nobody owns any more goes, in the background, in the foreground, or is let go as an orphan."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, TypeAlias

from becalm.sandbox.answers import ApiError
from becalm.sandbox.store import Change, Place
from becalm.sandbox.work import Worker

if TYPE_CHECKING:
    from becalm.model import Manifest
    from becalm.sandbox.api import Api

Seat: TypeAlias = tuple[str, Place]
"""Where an object stands: its bucket and place."""


class GarbageCollector:
    """Knows every uid and who refers to it."""

    def __init__(self, api: Api) -> None:
        """Follow the store; begin with `worker.start`."""
        self._api = api
        self._seats: dict[str, Seat] = {}
        self._owned: defaultdict[str, set[Seat]] = defaultdict(set)
        self.worker = Worker("garbage collector", self._look)

    def see(self, change: Change) -> None:
        """Note a change."""
        seat = (change.bucket, change.place)
        for reference in (change.before or {}).get("metadata", {}).get("ownerReferences") or ():
            self._owned[reference["uid"]].discard(seat)
        if change.after is None:
            uid = change.last["metadata"]["uid"]
            self._seats.pop(uid, None)
            for dependent in self._owned.get(uid, ()):
                self.worker.add(dependent)
            for reference in change.last["metadata"].get("ownerReferences") or ():
                if reference["uid"] in self._seats:
                    self.worker.add(self._seats[reference["uid"]])
            return
        metadata = change.after["metadata"]
        self._seats[metadata["uid"]] = seat
        for reference in metadata.get("ownerReferences") or ():
            self._owned[reference["uid"]].add(seat)
            self.worker.add(seat)
        if metadata.get("deletionTimestamp") and {"foregroundDeletion", "orphan"} & set(metadata.get("finalizers") or ()):
            self.worker.add(seat)

    def _look(self, seat: Seat) -> None:
        bucket, place = seat
        manifest = self._api.store.get(bucket, place)
        if manifest is None:
            return
        metadata = manifest["metadata"]
        finalizers = metadata.get("finalizers") or []
        if metadata.get("deletionTimestamp"):
            if "orphan" in finalizers:
                self._let_go(metadata["uid"])
                self._unmark(seat, "orphan")
            elif "foregroundDeletion" in finalizers:
                self._delete_dependents(seat, metadata["uid"])
            return
        references = metadata.get("ownerReferences") or []
        if references and not any(self._stands(reference, place[0]) for reference in references):
            self._delete(seat, "Background")

    def _stands(self, reference: Manifest, namespace: str) -> bool:
        """Say whether an owner is there and is not waiting for its dependents to go."""
        seat = self._seats.get(reference["uid"])
        owner = self._api.store.get(*seat) if seat else None
        if owner is None or seat is None or seat[1][0] not in ("", namespace):
            return False
        if (owner["kind"], owner["metadata"]["name"]) != (reference["kind"], reference["name"]):
            return False
        metadata = owner["metadata"]
        return not (metadata.get("deletionTimestamp") and "foregroundDeletion" in (metadata.get("finalizers") or ()))

    def _delete_dependents(self, seat: Seat, uid: str) -> None:
        blocking = False
        for dependent in sorted(self._owned.get(uid, ())):
            manifest = self._api.store.get(*dependent)
            if manifest is None:
                continue
            references = manifest["metadata"].get("ownerReferences") or ()
            blocking |= any(reference["uid"] == uid and reference.get("blockOwnerDeletion") for reference in references)
            if not manifest["metadata"].get("deletionTimestamp") and not any(self._stands(other, dependent[1][0]) for other in references):
                self._delete(dependent, "Foreground")
        if not blocking or not any(self._api.store.get(*dependent) for dependent in self._owned.get(uid, ())):
            self._unmark(seat, "foregroundDeletion")

    def _let_go(self, uid: str) -> None:
        for dependent in list(self._owned.get(uid, ())):

            def change(manifest: Manifest) -> None:
                kept = [reference for reference in manifest["metadata"]["ownerReferences"] if reference["uid"] != uid]
                manifest["metadata"]["ownerReferences"] = kept
                if not kept:
                    del manifest["metadata"]["ownerReferences"]

            self._api.modify(*dependent, change)

    def _unmark(self, seat: Seat, mark: str) -> None:
        def change(manifest: Manifest) -> None:
            kept = [finalizer for finalizer in manifest["metadata"].get("finalizers") or () if finalizer != mark]
            manifest["metadata"]["finalizers"] = kept

        self._api.modify(*seat, change)

    def _delete(self, seat: Seat, propagation: str) -> None:
        resource = self._api.registry.of_bucket(seat[0])
        if resource is None:
            return
        try:
            self._api.delete(resource, seat[1], {"propagationPolicy": propagation})
        except ApiError as error:
            if error.code != 404:
                raise
