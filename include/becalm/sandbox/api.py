"""The verbs of the API on single objects: create, read, update, patch, delete. Knows no HTTP; lists and watches are in `lists`."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from becalm.sandbox import defaults, rules
from becalm.sandbox.admission import admit, check_namespace, encode_strings, first_status
from becalm.sandbox.answers import ApiError, Cause, already_exists, bad_request, invalid, modified, not_found, other_uid
from becalm.sandbox.apply import server_side_apply
from becalm.sandbox.owners import track
from becalm.sandbox.patch import json_patch, merge_patch, strategic_patch
from becalm.sandbox.schema import fit
from becalm.sandbox.store import Place, Store, copied
from becalm.sandbox.times import stamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from becalm.model import Manifest
    from becalm.sandbox.kinds import Resource
    from becalm.sandbox.registry import Registry

APPLY_PATCH = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"

_SYSTEM_METADATA = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink")


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """How a request wants its write done."""

    manager: str = "unknown"
    dry_run: bool = False
    force: bool = False
    subresource: str = ""


BY_SANDBOX = Write(manager="becalm-sandbox")


class Api:
    """The verbs. Every one is atomic: it waits for nothing between reading and writing."""

    def __init__(self, store: Store, registry: Registry) -> None:
        """Serve a store."""
        self.store = store
        self.registry = registry

    def get(self, resource: Resource, place: Place) -> Manifest:
        """Return one object in the version asked for. Raises: ApiError (404)."""
        return shown(resource, self._live(resource, place))

    def create(self, resource: Resource, namespace: str, body: Manifest, write: Write = BY_SANDBOX, *, owned: bool = False) -> Manifest:
        """Create one object; `owned` says that its managedFields are right already."""
        manifest = self._decoded(resource, namespace, body)
        metadata = manifest["metadata"]
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = rules.generated(metadata["generateName"])
        check_namespace(self.store, resource, namespace, metadata.get("name") or "")
        if metadata.get("resourceVersion"):
            raise ApiError(500, "InternalError", "resourceVersion should not be set on objects to be created")
        causes = rules.metadata_causes(resource, metadata)
        if causes:
            raise self._invalid(resource, metadata.get("name") or "", causes)
        place = (namespace, metadata["name"])
        for key in (*_SYSTEM_METADATA, *(() if owned else ("managedFields",))):
            metadata.pop(key, None)
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": stamp()}
        if resource.generation or resource.custom:
            metadata["generation"] = 1
        first_status(resource, manifest)
        causes = self._shape(resource, manifest)
        if causes:
            raise self._invalid(resource, metadata["name"], causes)
        if self.store.get(resource.bucket, place) is not None:
            raise already_exists(resource, metadata["name"])
        if not owned:
            plain = {key: value for key, value in manifest.items() if key != "status" or not resource.status}
            track(None, plain, manager=write.manager, subresource="", custom=resource.custom)
        admit(self.store, resource, manifest)
        manifest = ordered(manifest)
        return manifest if write.dry_run else self.store.put(resource.bucket, place, manifest)

    def update(self, resource: Resource, place: Place, body: Manifest, write: Write) -> Manifest:
        """Replace one object, or its status. Raises: ApiError (404, 409, 422)."""
        manifest = self._decoded(resource, place[0], body)
        if manifest["metadata"].setdefault("name", place[1]) != place[1]:
            raise bad_request(f"the name of the object ({manifest['metadata']['name']}) does not match the name on the URL ({place[1]})")
        return self._replace(resource, place, self._live(resource, place), manifest, write)

    def patch(self, resource: Resource, place: Place, body: Any, content_type: str, write: Write) -> tuple[Manifest, bool]:
        """Patch one object; return it, and whether it was created. Raises: ApiError."""
        if content_type == APPLY_PATCH:
            return self._apply(resource, place, body, write)
        live = shown(resource, self._live(resource, place))
        if content_type == JSON_PATCH:
            changed = json_patch(copied(live), body)
        elif content_type == MERGE_PATCH:
            changed = merge_patch(copied(live), body)
        elif content_type == STRATEGIC_PATCH and not resource.custom:
            changed = strategic_patch(copied(live), body)
        else:
            message = f"the body of the request was in an unknown format - accepted media types include: {JSON_PATCH}, {MERGE_PATCH}, {APPLY_PATCH}"
            raise ApiError(415, "UnsupportedMediaType", message)
        return self._replace(resource, place, self._live(resource, place), self._decoded(resource, place[0], changed), write), False

    def delete(self, resource: Resource, place: Place, options: Manifest | None = None, *, dry_run: bool = False) -> tuple[Manifest, bool]:
        """Delete one object, or mark it for deletion; return it, and whether it is gone already. Raises: ApiError (404, 409)."""
        options = options or {}
        live = self._live(resource, place)
        self._check_preconditions(resource, place, live, options.get("preconditions") or {})
        manifest = copied(live)
        metadata = manifest["metadata"]
        finalizers = metadata.setdefault("finalizers", [])
        policy = options.get("propagationPolicy") or ("Orphan" if resource.bucket == "batch/jobs" else "Background")
        mark = {"Orphan": "orphan", "Foreground": "foregroundDeletion"}.get(policy)
        if mark and mark not in finalizers and not metadata.get("deletionTimestamp"):
            finalizers.append(mark)
        if not finalizers:
            del metadata["finalizers"]
        grace = self._grace(resource, manifest, options.get("gracePeriodSeconds"))
        if not metadata.get("deletionTimestamp") or grace < metadata.get("deletionGracePeriodSeconds", 0):
            metadata |= {"deletionTimestamp": stamp(grace), "deletionGracePeriodSeconds": grace}
            if "generation" in metadata:
                metadata["generation"] += 1
        if resource.bucket == "/namespaces":
            metadata.pop("deletionGracePeriodSeconds", None)
            manifest["status"] = {**manifest.get("status", {}), "phase": "Terminating"}
        gone = _may_go(resource.bucket, manifest)
        if dry_run:
            return manifest, gone
        if gone:
            return self.store.remove(resource.bucket, place), True
        if manifest == live:
            return live, False
        return self.store.put(resource.bucket, place, manifest), False

    def modify(self, bucket: str, place: Place, change: Callable[[Manifest], None]) -> Manifest | None:
        """Let the sandbox's own controllers change an object; nothing is written where nothing changes. Returns nothing if it is not there."""
        live = self.store.get(bucket, place)
        if live is None:
            return None
        manifest = copied(live)
        change(manifest)
        if manifest == live:
            return live
        counts = "generation" in manifest["metadata"] and bucket != "/pods"  # placing a pod does not count
        if counts and manifest.get("spec") != live.get("spec"):
            manifest["metadata"]["generation"] += 1
        return self._settled(bucket, place, manifest)

    def finish(self, bucket: str, place: Place) -> None:
        """End the grace period of an object whose processes are gone."""
        self.modify(bucket, place, lambda manifest: manifest["metadata"].update(deletionGracePeriodSeconds=0))
        live = self.store.get(bucket, place)
        if live is not None and _may_go(bucket, live):
            self.store.remove(bucket, place)

    def _apply(self, resource: Resource, place: Place, body: Any, write: Write) -> tuple[Manifest, bool]:
        config = self._decoded(resource, place[0], body)
        if config["metadata"].setdefault("name", place[1]) != place[1]:
            raise bad_request(f"the name of the object ({config['metadata']['name']}) does not match the name on the URL ({place[1]})")
        if config["metadata"].get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        live = self.store.get(resource.bucket, place)
        if live is None and write.subresource:
            raise not_found(resource, place[1])
        encode_strings(config)
        seen = shown(resource, live) if live else None
        result = server_side_apply(
            seen, config, manager=write.manager, force=write.force, subresource=write.subresource, custom=resource.custom
        )
        if live is None:
            return self.create(resource, place[0], result, write, owned=True), True
        return self._replace(resource, place, live, result, write, owned=True), False

    def _replace(
        self, resource: Resource, place: Place, live: Manifest, manifest: Manifest, write: Write, *, owned: bool = False
    ) -> Manifest:
        metadata = manifest["metadata"]
        self._check_preconditions(resource, place, live, {key: metadata.get(key) for key in ("uid", "resourceVersion")})
        for key in _SYSTEM_METADATA:
            metadata.pop(key, None)
            if key in live["metadata"]:
                metadata[key] = live["metadata"][key]
        metadata["resourceVersion"] = live["metadata"]["resourceVersion"]
        if not owned and "managedFields" in live["metadata"]:
            metadata["managedFields"] = live["metadata"]["managedFields"]
        manifest = self._only_the_part(resource, live, manifest, write.subresource)
        causes = rules.metadata_causes(resource, manifest["metadata"]) + self._shape(resource, manifest)
        causes += rules.change_causes(resource, live, manifest)
        if causes:
            raise self._invalid(resource, place[1], causes)
        if _content(manifest) == _content(live) and manifest["apiVersion"] == live["apiVersion"]:
            return live
        if _content({**manifest, "metadata": {}, "status": None}) != _content({**live, "metadata": {}, "status": None}) and (
            "generation" in manifest["metadata"]
        ):
            manifest["metadata"]["generation"] += 1
        if not owned:
            track(live, manifest, manager=write.manager, subresource=write.subresource, custom=resource.custom)
        return manifest if write.dry_run else self._settled(resource.bucket, place, manifest)

    def _only_the_part(self, resource: Resource, live: Manifest, manifest: Manifest, subresource: str) -> Manifest:
        if subresource == "finalize":
            return {**copied(live), "spec": manifest.get("spec") or {}}
        if subresource == "status":
            kept = copied({key: value for key, value in live.items() if key != "status"})
            kept["metadata"] = {**kept["metadata"], "managedFields": manifest["metadata"].get("managedFields") or []}
            return {**kept, "status": manifest.get("status") or {}}
        if resource.bucket == "/namespaces":
            manifest["spec"] = live["spec"]
        if resource.status:
            manifest.pop("status", None)
            if "status" in live:
                manifest["status"] = live["status"]
        return manifest

    def _shape(self, resource: Resource, manifest: Manifest) -> list[Cause]:
        if resource.custom:
            return fit(manifest, resource.schema) if resource.schema else []
        if resource.bucket == "/secrets":
            encode_strings(manifest)
        defaults.fill(resource.bucket, manifest)
        return rules.spec_causes(resource, manifest)

    def _settled(self, bucket: str, place: Place, manifest: Manifest) -> Manifest:
        if not manifest["metadata"].get("finalizers"):
            manifest["metadata"].pop("finalizers", None)
        if _may_go(bucket, manifest):
            self.store.put(bucket, place, manifest)
            return self.store.remove(bucket, place)
        return self.store.put(bucket, place, ordered(manifest))

    def _live(self, resource: Resource, place: Place) -> Manifest:
        found = self.store.get(resource.bucket, place)
        if found is None:
            raise not_found(resource, place[1])
        return found

    def _decoded(self, resource: Resource, namespace: str, body: Any) -> Manifest:
        if not isinstance(body, dict):
            raise bad_request(f"the body of the request is no {resource.kind}")
        manifest = copied(body)
        given = (manifest.get("apiVersion") or resource.api_version, manifest.get("kind") or resource.kind)
        if given[0] != resource.api_version:
            raise bad_request(f"the API version in the data ({given[0]}) does not match the expected API version ({resource.api_version})")
        if given[1] != resource.kind:
            raise bad_request(f'{given[1]} in version "{given[0]}" cannot be handled as a {resource.kind}')
        metadata = manifest.get("metadata") or {}
        if not isinstance(metadata, dict):
            raise bad_request("metadata is no object")
        if namespace:
            if metadata.setdefault("namespace", namespace) not in (namespace, ""):
                raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
            metadata["namespace"] = namespace
        else:
            metadata.pop("namespace", None)
        for key in ("labels", "annotations", "finalizers", "ownerReferences"):
            if key in metadata and not metadata[key]:
                del metadata[key]
        for key in ("data", "binaryData"):
            if resource.bucket in ("/secrets", "/configmaps") and not manifest.get(key):
                manifest.pop(key, None)
        return {**manifest, "apiVersion": given[0], "kind": given[1], "metadata": metadata}

    def _check_preconditions(self, resource: Resource, place: Place, live: Manifest, asked: Manifest) -> None:
        if asked.get("uid") and asked["uid"] != live["metadata"]["uid"]:
            raise other_uid(resource, place[1], asked=asked["uid"], found=live["metadata"]["uid"])
        if asked.get("resourceVersion") and asked["resourceVersion"] != live["metadata"]["resourceVersion"]:
            raise modified(resource, place[1])

    def _grace(self, resource: Resource, manifest: Manifest, asked: int | None) -> int:
        if resource.bucket != "/pods" or not manifest["spec"].get("nodeName"):
            return 0
        if manifest.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return 0
        return int(manifest["spec"].get("terminationGracePeriodSeconds", 30) if asked is None else asked)

    def _invalid(self, resource: Resource, name: str, causes: list[Cause]) -> ApiError:
        return invalid(resource.group, resource.kind, name, causes)


def shown(resource: Resource, manifest: Manifest) -> Manifest:
    """Return an object in a version; versions differ by nothing but their names, as without a conversion webhook."""
    return manifest if manifest["apiVersion"] == resource.api_version else {**manifest, "apiVersion": resource.api_version}


def ordered(manifest: Manifest) -> Manifest:
    """Return an object with its kind and metadata first, as people expect to read it."""
    first = {key: manifest[key] for key in ("apiVersion", "kind", "metadata") if key in manifest}
    return first | {key: value for key, value in manifest.items() if key not in first}


def _content(manifest: Manifest) -> Manifest:
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "resourceVersion"}
    return {**{key: value for key, value in manifest.items() if key != "apiVersion"}, "metadata": metadata}


def _may_go(bucket: str, manifest: Manifest) -> bool:
    metadata = manifest["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if bucket == "/namespaces":
        return not (manifest.get("spec") or {}).get("finalizers")
    return not metadata.get("deletionGracePeriodSeconds")
