"""What a recovery point holds for a restore: its objects, parsed and checked against their paths, and its volumes by their trees.

It reads the repository and nothing else. An object that is not what its path says is named as a finding and goes no further.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from becalm.actions.lanes import side_by_side
from becalm.actions.restore_trust import bounded, parse, unfit
from becalm.errors import NotFound
from becalm.kube.base import Kind
from becalm.kube.rules import child
from becalm.model import CLUSTER_SCOPE, CORE_GROUP, Finding, ResourceRef, VolumeRef
from becalm.repository.format import NodeType
from becalm.repository.node import encode_node
from becalm.repository.tree import lookup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from becalm.model import Manifest
    from becalm.repository.node import Node
    from becalm.repository.reader import Repository

READERS = 8
SUFFIX = ".json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedObject:
    """One object of a recovery point, as the server gave it."""

    ref: ResourceRef
    kind: Kind
    manifest: Manifest

    @property
    def uid(self) -> str:
        """Its uid in the cluster that it was saved from."""
        return str(child(self.manifest, "metadata").get("uid", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedVolume:
    """The data of one claim."""

    volume: VolumeRef
    tree: str
    root: str = ""
    """The entry of its own directory, for owner, mode and times (restic's JSON of a node)."""
    size_bytes: int = 0
    """How much it holds; nothing where the point does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What was read of a recovery point."""

    objects: tuple[SavedObject, ...] = ()
    volumes: Mapping[VolumeRef, SavedVolume]
    findings: tuple[Finding, ...] = ()
    """What cannot be what it says it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A recovery point, opened: where each of its objects lies. The objects themselves are read when they are asked for."""

    repository: Repository
    tree: str
    places: Mapping[ResourceRef, Node]

    @classmethod
    def open(cls, repository: Repository, tree: str, wants: Callable[[ResourceRef], bool] = lambda _: True) -> Source:
        """Walk the directories of the objects, and note those that are wanted.

        Raises: RestoreRefused (too many are wanted at once), Damaged, and what the store raises.
        """
        wanted = ((ref, node) for ref, node in _places(repository, tree) if wants(ref))
        return cls(repository=repository, tree=tree, places=dict(bounded(wanted, f"tree {tree[:8]}")))

    def contents(self, wants: Callable[[ResourceRef], bool]) -> Contents:
        """Read the objects that are wanted, and learn of all volumes. Raises: Damaged, and what the store raises."""
        read = self.read_each([ref for ref in self.places if wants(ref)])
        return Contents(
            objects=tuple(found for found in read if isinstance(found, SavedObject)),
            volumes=_volumes(self.repository, self.tree),
            findings=tuple(found for found in read if isinstance(found, Finding)),
        )

    def read(self, refs: Sequence[ResourceRef]) -> list[SavedObject]:
        """Return objects by their references, in that order. Raises: NotFound, Damaged."""
        missing = [ref for ref in refs if ref not in self.places]
        if missing:
            raise NotFound(f"the recovery point does not hold {missing[0]}", where=f"tree {self.tree[:8]}", hint="make the plan again")
        read = self.read_each(refs)
        for found in read:
            if isinstance(found, Finding):
                raise NotFound(found.message, where=found.where, hint="make the plan again")
        return [found for found in read if isinstance(found, SavedObject)]

    def read_each(self, refs: Sequence[ResourceRef]) -> list[SavedObject | Finding]:
        """Return objects by their references, in that order, or what is wrong with them. Raises: Damaged, and what the store raises."""
        return side_by_side(self._read, refs, lanes=READERS)

    def _read(self, ref: ResourceRef) -> SavedObject | Finding:
        manifest, wrong = parse(self.repository.read_file(self.places[ref]))
        wrong = wrong or unfit(ref) or mismatch(ref, manifest)
        if wrong:
            return Finding(where=ref.path, message=wrong, remedy="it was not written by Becalm; restore from another recovery point")
        version = str(manifest["apiVersion"]).rpartition("/")[2]
        kind = Kind(group=ref.group, version=version, resource=ref.resource, kind=manifest["kind"], namespaced=ref.namespace is not None)
        return SavedObject(ref=ref, kind=kind, manifest=manifest)


def _directories(repository: Repository, tree: str) -> Iterator[Node]:
    return (node for node in repository.tree(tree) if node.type is NodeType.DIR and node.subtree)


def _below(repository: Repository, tree: str, path: str) -> str:
    """Return the tree at a path, or nothing."""
    try:
        return lookup(repository, tree, path).subtree
    except NotFound:
        return ""


def _places(repository: Repository, tree: str) -> Iterator[tuple[ResourceRef, Node]]:
    """Yield every object's reference, by its path, and its file."""
    top = _below(repository, tree, "resources")
    for group in _directories(repository, top) if top else ():
        for resource in _directories(repository, group.subtree):
            for namespace in _directories(repository, resource.subtree):
                for node in repository.tree(namespace.subtree):
                    if node.type is NodeType.FILE and node.name.endswith(SUFFIX):
                        yield (
                            ResourceRef(
                                group="" if group.name == CORE_GROUP else group.name,
                                resource=resource.name,
                                namespace=None if namespace.name == CLUSTER_SCOPE else namespace.name,
                                name=node.name.removesuffix(SUFFIX),
                            ),
                            node,
                        )


def mismatch(ref: ResourceRef, manifest: Any) -> str:
    """Say in what an object is not what its path says, or nothing. An object may not name another namespace than its folder."""
    if not isinstance(manifest, dict) or not isinstance(manifest.get("kind"), str) or not manifest["kind"]:
        return "is not an API object"
    group, slash, version = str(manifest.get("apiVersion", "")).rpartition("/")
    if not version or (group if slash else "") != ref.group:
        return f"says that it is of the API {manifest.get('apiVersion')!r}"
    metadata = child(manifest, "metadata")
    if metadata.get("name") != ref.name:
        return f"says that its name is {metadata.get('name')!r}"
    if (metadata.get("namespace") or None) != ref.namespace:
        return f"says that its namespace is {metadata.get('namespace')!r}"
    return ""


def _volumes(repository: Repository, tree: str) -> dict[VolumeRef, SavedVolume]:
    """Return the volumes by their claims; their files are not walked."""
    top = _below(repository, tree, "volumes")
    sizes = _sizes(repository, tree)
    found = {}
    for namespace in _directories(repository, top) if top else ():
        for claim in _directories(repository, namespace.subtree):
            volume = VolumeRef(namespace=namespace.name, claim=claim.name)
            found[volume] = SavedVolume(
                volume=volume, tree=claim.subtree, root=encode_node(claim).decode(), size_bytes=sizes.get(volume, 0)
            )
    return found


def _sizes(repository: Repository, tree: str) -> dict[VolumeRef, int]:
    """Return what the point says of the sizes of its volumes; they are for a person's eyes, and may be missing."""
    try:
        document = orjson.loads(b"".join(repository.read_file(lookup(repository, tree, "recovery-point.json"))))
        return {VolumeRef(**item["volume"]): int(item["bytes_total"]) for item in document["volumes"]}
    except (NotFound, KeyError, TypeError, ValueError):
        return {}
