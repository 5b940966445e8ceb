"""Objects on their way into the repository, and the folders they stand in. It knows neither cluster nor rules.

Objects come in sheaves: the JSON of many at once. Their bytes go through the same hands as the files of a volume, so that many
objects are compressed and sealed by processes of their own. What is kept in memory of an object is its entry in its folder.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from becalm.model import CLUSTER_SCOPE, CORE_GROUP
from becalm.repository.entry import Entries
from becalm.repository.format import BlobKind
from becalm.repository.hands import FilesRead, Hands
from becalm.repository.node import join_nodes
from becalm.repository.progress import Progress
from becalm.repository.quoting import to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Self

    from becalm.kube.base import Kind
    from becalm.repository.format import BlobId
    from becalm.repository.writer import Writer

MOST_AT_ONCE = 256
"""So many objects make a sheaf."""
BYTES_AT_ONCE = 1 << 20
"""Or so many bytes of them."""
LARGE = 512 << 10
"""An object that has more is cut into pieces, as a file is."""

_TIMES = {"st_atime_ns": 0, "st_mtime_ns": 0, "st_ctime_ns": 0}
_FILE = os.stat_result((stat.S_IFREG | 0o644, 0, 0, 1, 0, 0, 0, 0, 0, 0), _TIMES)
_FOLDER = os.stat_result((stat.S_IFDIR | 0o755, 0, 0, 1, 0, 0, 0, 0, 0, 0), _TIMES)
"""The status of every entry: without a time, so that the same objects make the same folders whenever they are captured."""

Folder = tuple[str, str, str]
"""Group, resource and namespace, as they stand in the path."""
Shelved = dict[Folder, dict[str, bytes]]
"""Entries by the name of their file, by folder."""


def folder_of(kind: Kind, namespace: str | None) -> Folder:
    """Return where the objects of a kind and a namespace stand."""
    return kind.group or CORE_GROUP, kind.resource, namespace or CLUSTER_SCOPE


@dataclass(slots=True)
class Sheaf:
    """Some objects of one LIST, and where their entries belong."""

    into: Shelved
    places: list[tuple[Folder, str]] = field(default_factory=list)
    """The folder and the name of each."""
    bodies: list[bytes] = field(default_factory=list, repr=False)
    size: int = 0

    def add(self, folder: Folder, name: str, body: bytes) -> None:
        """Put one object in."""
        self.places.append((folder, name))
        self.bodies.append(body)
        self.size += len(body)

    @property
    def full(self) -> bool:
        """Whether it is time to hand it over."""
        return len(self.bodies) >= MOST_AT_ONCE or self.size >= BYTES_AT_ONCE


class Shelf:
    """Writes sheaves, and then the folders. One thread calls it. Close it, also after a failure."""

    def __init__(self, writer: Writer) -> None:
        """Begin."""
        self._writer = writer
        self._hands = Hands(writer, Progress())
        self._entries = Entries()

    def __enter__(self) -> Self:
        """Nothing to do."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Let the workers go."""
        self._hands.close()

    def keep(self, sheaf: Sheaf) -> None:
        """Write its objects; their entries come into `sheaf.into` now or later, until `settle` has returned. May wait."""
        large = {number for number, body in enumerate(sheaf.bodies) if len(body) > LARGE}
        for number in large:
            folder, name = sheaf.places[number]
            saved = self._writer.save_bytes(sheaf.bodies[number])
            self._enter(sheaf.into, folder, name, saved.content, saved.size)
        rest = [number for number in range(len(sheaf.bodies)) if number not in large]
        if rest:
            places, sizes = [sheaf.places[number] for number in rest], [len(sheaf.bodies[number]) for number in rest]
            self._hands.blobs([sheaf.bodies[number] for number in rest], then=self._entering(sheaf.into, places, sizes))

    def settle(self) -> None:
        """Wait until every entry is where it belongs, and send what the workers hold."""
        self._hands.finish()

    def write(self, shelved: Shelved) -> BlobId:
        """Write the folders of `resources` and return the tree that holds it."""
        groups: dict[str, dict[str, dict[str, BlobId]]] = {}
        for (group, resource, namespace), entries in shelved.items():
            groups.setdefault(group, {}).setdefault(resource, {})[namespace] = self._tree(entries)
        made = {
            group: self._above({resource: self._above(spaces) for resource, spaces in resources.items()})
            for group, resources in groups.items()
        }
        return self._above({"resources": self._above(made)} if made else {})

    def _entering(self, into: Shelved, places: list[tuple[Folder, str]], sizes: list[int]) -> Callable[[FilesRead], None]:
        def enter(read: FilesRead) -> None:
            for (folder, name), size, raw in zip(places, sizes, read.entries, strict=True):
                assert raw is not None
                self._enter(into, folder, name, (raw.hex(),), size)

        return enter

    def _enter(self, into: Shelved, folder: Folder, name: str, content: tuple[BlobId, ...], size: int) -> None:
        file = f"{name}.json"
        into.setdefault(folder, {})[file] = self._entries.file(file, _FILE, content, size=size)

    def _above(self, subtrees: Mapping[str, BlobId]) -> BlobId:
        return self._tree({name: self._entries.directory(name, _FOLDER, subtree) for name, subtree in subtrees.items()})

    def _tree(self, entries: Mapping[str, bytes]) -> BlobId:
        return self._writer.save_blob(BlobKind.TREE, join_nodes(entries[name] for name in _sorted(entries)))


def _sorted(names: Iterable[str]) -> list[str]:
    """Sort names by their bytes, as a directory is."""
    return sorted(names, key=to_bytes)
