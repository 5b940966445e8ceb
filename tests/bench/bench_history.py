"""A thousand recovery points of ten thousand objects: `becalm log` and `becalm find`, from an index that is made first and then from a warm one.

    python -m tests.bench.bench_history --points 1000 --work /var/tmp

The points are written by the engine itself: the first one whole, each later one with ten objects changed, so that almost all trees are shared,
as between real points. Every command is a process of its own, measured from its start to its end. Where a bucket server is known
(AWS_ENDPOINT_URL) the points lie in a bucket, else in a folder.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import orjson

from becalm.catalog.points import tags_of
from becalm.model import RecoveryPoint
from becalm.repository.crypto import Kdf
from becalm.repository.format import SnapshotDoc
from becalm.repository.node import Node
from becalm.repository.reader import init_repository, open_repository
from becalm.repository.snapshots import save_snapshot
from becalm.repository.writer import Writer
from becalm.storage import CREDENTIALS, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from becalm.storage.base import ObjectStore

PASSWORD, POLICY = "bench", "bench"
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
BUILD_SECONDS = 60.0
ANSWER_SECONDS = 2.0
CHANGED = 10
"""So many objects differ from one point to the next."""
ASKED = ("n0", "thing-0")
"""The namespace and the name of an object that changes often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """How many points there are, and how many objects in each."""

    points: int = 1000
    namespaces: int = 50
    kinds: int = 4
    each: int = 50
    """Objects of a kind in a namespace."""

    @property
    def objects(self) -> int:
        """In one point."""
        return self.namespaces * self.kinds * self.each


FULL, QUICK = Field(), Field(points=60, namespaces=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was measured, in seconds."""

    where: str
    writing: float
    build: float
    answers: dict[str, list[float]]
    index_bytes: int


@dataclass(slots=True)
class _Shelves:
    """The objects as they are at the point at hand, folder by folder."""

    shape: Field
    written: dict[tuple[int, int], str] = field(default_factory=dict)
    """The tree of each folder, by kind and namespace."""
    nodes: dict[tuple[int, int], dict[int, Node]] = field(default_factory=dict)

    def write(self, writer: Writer, point: int) -> str:
        """Write what is new at a point, and return its tree."""
        for place, numbers in self._changed(point).items():
            shelf = self.nodes.setdefault(place, {})
            for number in numbers:
                saved = writer.save_bytes(orjson.dumps(_manifest(*place, number, point)))
                shelf[number] = Node.file(f"thing-{number}.json", content=saved.content, size=saved.size)
            self.written[place] = writer.save_tree(shelf.values())
        kinds = [Node.directory(f"things{kind}", subtree=writer.save_tree(self._namespaces(kind))) for kind in range(self.shape.kinds)]
        group = Node.directory("bench.becalm.dev", subtree=writer.save_tree(kinds))
        resources = Node.directory("resources", subtree=writer.save_tree([group]))
        return writer.save_tree([resources])

    def _namespaces(self, kind: int) -> list[Node]:
        return [Node.directory(f"n{number}", subtree=self.written[kind, number]) for number in range(self.shape.namespaces)]

    def _changed(self, point: int) -> Mapping[tuple[int, int], range]:
        """Return the numbers of the objects that are new, by kind and namespace. Every tenth point changes the object that is asked for."""
        shape = self.shape
        if point == 0:
            return {(kind, space): range(shape.each) for kind in range(shape.kinds) for space in range(shape.namespaces)}
        if point % 10 == 0:
            return {(0, 0): range(CHANGED)}
        begin = point * CHANGED % shape.each
        return {(point % shape.kinds, point % shape.namespaces): range(begin, min(begin + CHANGED, shape.each))}


def _manifest(kind: int, space: int, number: int, point: int) -> dict[str, Any]:
    return {
        "apiVersion": "bench.becalm.dev/v1",
        "kind": f"Thing{kind}",
        "metadata": {
            "name": f"thing-{number}",
            "namespace": f"n{space}",
            "uid": f"{kind}-{space}-{number}",
            "resourceVersion": str(point),
            "labels": {"app": f"app-{number % 7}", "tier": "bench"},
        },
        "spec": {"generation": point, "words": [f"word {kind} {space} {number} {line}" for line in range(20)]},
    }


def write_points(store: ObjectStore, shape: Field) -> float:
    """Write the points; return the seconds it took."""
    began = time.monotonic()
    init_repository(store, PASSWORD, kdf=Kdf(n=1 << 15, r=8))  # as dear to open as a real one
    repository = open_repository(store, PASSWORD)
    shelves = _Shelves(shape)
    for number in range(shape.points):
        with Writer(repository) as writer:
            tree = shelves.write(writer, number)
            writer.flush()
        cut = BEGAN + timedelta(hours=number)
        point = RecoveryPoint(id="", policy=POLICY, cut=cut, tree=tree, run=f"run{number}")
        save_snapshot(repository, SnapshotDoc(time=cut, tree=tree, paths=("/",), hostname="bench", username="becalm", tags=tags_of(point)))
    return time.monotonic() - began


@dataclass(frozen=True, slots=True, kw_only=True)
class _Commands:
    """Commands about the points at one place, with one index."""

    target: str
    index: Path

    def run(self, *words: str) -> float:
        """Run a command; return its seconds. Raises RuntimeError where it fails or answers nothing."""
        place = ["--target", self.target, "--policy", POLICY, "--password", "env:BECALM_PASSWORD", "--index", str(self.index), "--json"]
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "becalm.cli", *words, *place],
            env={**os.environ, "BECALM_PASSWORD": PASSWORD},
            capture_output=True,
            check=False,
        )
        seconds = time.monotonic() - began
        if done.returncode or not orjson.loads(done.stdout)["ok"]:
            raise RuntimeError(f"becalm {' '.join(words)} ended with {done.returncode}: {(done.stderr or done.stdout).decode()[-500:]}")
        return seconds


def measure(shape: Field, *, rounds: int, work: Path) -> Found:
    """Write the points, make the index, and ask."""
    with tempfile.TemporaryDirectory(prefix="becalm-history-", dir=work) as folder:
        base = f"s3://bench-history-{uuid4().hex[:8]}" if os.environ.get("AWS_ENDPOINT_URL") else f"file://{folder}/store"
        store = open_store(f"{base}/{POLICY}", {name: os.environ[name] for name in CREDENTIALS if os.environ.get(name)}, create=True)
        try:
            writing = write_points(store, shape)
            commands = _Commands(target=base, index=Path(folder) / "index.sqlite")
            build = commands.run("find", "thing-0")
            answers: dict[str, list[float]] = {}
            for _ in range(rounds):
                for what, words in _questions():
                    answers.setdefault(what, []).append(round(commands.run(*words), 2))
            return Found(
                where="a bucket" if base.startswith("s3:") else "a folder",
                writing=writing,
                build=build,
                answers=answers,
                index_bytes=commands.index.stat().st_size,
            )
        finally:
            for info in list(store.list("")):
                store.delete(info.key)
            if base.startswith("file://"):
                shutil.rmtree(base.removeprefix("file://"), ignore_errors=True)


def _questions() -> Iterator[tuple[str, tuple[str, ...]]]:
    space, name = ASKED
    yield "log of an object that changed every tenth point", ("log", f"bench.becalm.dev/v1/Thing0/{space}/{name}")
    yield "find by name, in all namespaces", ("find", "thing-4?")
    yield "find by label", ("find", "*", "--selector", "app=app-3", "--namespace", "n1")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=FULL.points)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"))
    given = parser.parse_args()
    print(measure(Field(points=given.points), rounds=given.rounds, work=given.work))


if __name__ == "__main__":
    main()
