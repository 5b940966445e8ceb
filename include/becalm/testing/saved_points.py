"""Recovery points for tests, written by the engine itself: objects at their paths, volumes as small trees, one snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson

from becalm.catalog.points import tags_of
from becalm.model import RecoveryPoint, ResourceRef
from becalm.repository.crypto import Kdf
from becalm.repository.format import SnapshotDoc
from becalm.repository.reader import init_repository, open_repository
from becalm.repository.snapshots import save_snapshot
from becalm.repository.tree import TreeBuilder
from becalm.repository.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from becalm.kube.base import Kind
    from becalm.model import Manifest
    from becalm.storage.base import ObjectStore

PASSWORD = "correct horse"
CUT = datetime(2026, 3, 14, 11, tzinfo=UTC)
CHEAP = Kdf(n=16, r=1)
"""A password that costs nothing to try."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedPoint:
    """What was written: the point's id, and the tree of each volume."""

    id: str
    tree: str
    volumes: Mapping[str, str]


def path_of(manifest: Manifest, kinds: Iterable[Kind]) -> str:
    """Return where an object stands in a recovery point."""
    for kind in kinds:
        if (kind.api_version, kind.kind) == (manifest["apiVersion"], manifest["kind"]):
            metadata = manifest["metadata"]
            return ResourceRef(group=kind.group, resource=kind.resource, namespace=metadata.get("namespace"), name=metadata["name"]).path
    raise LookupError(f"no kind is {manifest['apiVersion']} {manifest['kind']}")


def save_point(
    store: ObjectStore,
    objects: Iterable[Manifest],
    *,
    kinds: Iterable[Kind],
    volumes: Mapping[str, Mapping[str, bytes]] | None = None,
    raw: Mapping[str, bytes] | None = None,
    policy: str = "shop",
    complete: bool = True,
    cut: datetime = CUT,
) -> SavedPoint:
    """Write a recovery point: objects, volumes (`namespace/claim` to files), and raw documents at paths. The repository is made once."""
    served = list(kinds)
    if not any(True for _ in store.list("config")):
        init_repository(store, PASSWORD, kdf=CHEAP)
    repository = open_repository(store, PASSWORD)
    with Writer(repository) as writer:
        builder = TreeBuilder()
        for manifest in objects:
            builder.add_bytes(path_of(manifest, served), orjson.dumps(manifest))
        for path, document in (raw or {}).items():
            builder.add_bytes(path, document)
        trees = {}
        for volume, files in (volumes or {}).items():
            inside = TreeBuilder()
            for path, content in files.items():
                inside.add_bytes(path, content)
            trees[volume] = inside.write(writer)
            builder.add_tree(f"volumes/{volume}", trees[volume])
        tree = builder.write(writer)
        writer.flush()
    point = RecoveryPoint(id="", policy=policy, cut=cut, tree=tree, run="abc", complete=complete)
    snapshot = SnapshotDoc(time=cut, tree=tree, paths=("/",), hostname="test", username="becalm", tags=tags_of(point))
    return SavedPoint(id=save_snapshot(repository, snapshot), tree=tree, volumes=trees)
