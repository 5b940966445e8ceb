"""What was saved against what lives again: every object by its fields, every file by its digest."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from becalm.actions.restore_source import Source
from becalm.errors import NotFound
from becalm.kube.diffing import compare, ignored
from becalm.kube.resources import left_out
from becalm.repository.format import NodeType
from becalm.repository.tree import lookup, walk

if TYPE_CHECKING:
    from becalm.kube.base import Cluster
    from becalm.repository.reader import Repository

FOUND = b"found "
"""How the sample database's log begins the line in which it says what it found in its volume when it was opened."""


@dataclass(slots=True)
class Row:
    """The objects of one kind."""

    equal: int = 0
    different: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    """Reasons, and how often."""


@dataclass(slots=True)
class Comparison:
    """What came of it."""

    rows: dict[str, Row] = field(default_factory=dict)
    rules: tuple[str, ...] = ()
    """What was not compared, because a server assigns it."""
    files: int = 0
    bytes: int = 0
    wrong_files: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether nothing differs, and there was something to compare."""
        return bool(self.rows and self.files) and not self.wrong_files and not any(row.different for row in self.rows.values())


def compare_objects(repository: Repository, tree: str, cluster: Cluster, into: Comparison) -> None:
    """Compare every saved object with the living one; count those that no restore brings back, with the reason."""
    saved = Source.open(repository, tree).contents(lambda _: True).objects
    selecting = {
        f"{one.ref.namespace}/{one.ref.name}" for one in saved if one.manifest["kind"] == "Service" and one.manifest["spec"].get("selector")
    }
    met = []
    for one in saved:
        row = into.rows.setdefault(one.manifest["kind"], Row())
        reason = left_out(one.manifest, services=selecting)
        if reason:
            row.left_out[reason] = row.left_out.get(reason, 0) + 1
            continue
        try:
            live = cluster.get(one.kind, one.ref.name, namespace=one.ref.namespace)
        except NotFound:
            row.different.append(f"{one.ref}: is not there")
            continue
        changes = compare(one.manifest, live)
        if changes:
            row.different.append(f"{one.ref}: " + ", ".join(str(change) for change in changes[:3]))
        else:
            row.equal += 1
        met += [one.manifest, live]
    into.rules = tuple(rule.name for rule in ignored(*met))


def compare_volume(repository: Repository, tree: str, volume: str, log: list[bytes], into: Comparison) -> None:
    """Compare the saved files of a volume with the digests that the database wrote into its log as it opened them."""
    line = next((line for line in log if line.startswith(FOUND)), b"")
    found: dict[str, str] = json.loads(line.removeprefix(FOUND)) if line else {}
    root = lookup(repository, tree, f"volumes/{volume}").subtree
    for path, node in walk(repository, root):
        if node.type is not NodeType.FILE:
            continue
        digest = sha256()
        for part in repository.read_file(node):
            digest.update(part)
        into.files += 1
        into.bytes += node.size
        if found.get(path) != digest.hexdigest():
            into.wrong_files.append(f"{volume}/{path}")
