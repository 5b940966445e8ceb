"""What a large repository needs in memory: four million blobs, five million files, made up and written in minutes.

    python -m tests.bench.bench_memory --work /var/tmp

The blobs of data exist in the index objects only; the trees are real, and name contents that the index knows. There are directories of a few
files, of thousands, and one of a million. Each work is a process of its own, watched with all its children (`engine_watch.py`). It needs no
bucket server: the repository is a folder.
"""

# ruff: noqa: PLC0415  (each work's process imports what that work imports, and no more)

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson

from tests.bench.engine_watch import CommandFailedError, watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from becalm.repository.reader import Repository

LIMIT = 512
"""MiB."""
PASSWORD = "bench"
POLICY = "bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large the repository is."""

    blobs: int
    files: int
    largest: int
    """Entries of the largest directory."""

    def __str__(self) -> str:
        return f"{self.blobs / 1e6:g} million blobs, {self.files / 1e6:g} million files, a directory of {self.largest / 1e6:g} million"


FULL = Size(blobs=4_000_000, files=5_000_000, largest=1_000_000)
QUICK = Size(blobs=200_000, files=250_000, largest=50_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Worked:
    """What one work took."""

    key: str
    what: str
    seconds: float
    memory: float
    told: str


@dataclass(slots=True)
class Found:
    """What all works took."""

    size: Size
    works: list[Worked] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


# What is made.

_PER_INDEX = 40_000
_PER_PACK = 1_000
_STORED = 16 << 10
_SEALING = 32
_SIZES = (3, 8, 5, 20, 60, 10, 200, 4, 15, 1000)
"""Directories have so many files, one after the other; the very first has the most."""
_PER_GROUP = 200


def make(folder: Path, size: Size) -> str:
    """Write the repository. Return the id of its snapshot's tree."""
    from becalm.repository.format import BlobKind, Layout, SnapshotDoc
    from becalm.repository.node import Node
    from becalm.repository.reader import init_repository
    from becalm.repository.writer import Writer
    from becalm.storage.directory import DirectoryStore

    folder.mkdir(parents=True)
    repository = init_repository(DirectoryStore(folder), PASSWORD)
    ids = np.random.default_rng(11).integers(0, 256, (size.blobs, 32), dtype=np.uint8).tobytes()
    with Writer(repository) as writer:
        folders: list[Node] = []
        for number, document in enumerate(_directories(size, ids)):
            folders.append(Node.directory(f"folder-{number:06d}", subtree=writer.save_blob(BlobKind.TREE, document)))
        places = range(0, len(folders), _PER_GROUP)
        tree = writer.save_tree(
            [Node.directory(f"group-{at:06d}", subtree=writer.save_tree(folders[at : at + _PER_GROUP])) for at in places]
        )
    _write_indexes(repository, folder, ids)
    document = SnapshotDoc(time=datetime.now(UTC), tree=tree, paths=("/",), hostname="bench", tags=(f"policy={POLICY}",))
    repository.save_document(Layout.SNAPSHOTS, document.encode())
    return tree


def _directories(size: Size, ids: bytes) -> Iterator[bytes]:
    """Yield the JSON of each directory."""
    made, number = 0, 0
    while made < size.files:
        count = min(size.largest if number == 0 else _SIZES[number % len(_SIZES)], size.files - made)
        lines = [_file(made + at, ids) for at in range(count)]
        yield b'{"nodes":[' + b",".join(lines) + b"]}\n"
        made, number = made + count, number + 1


def _file(number: int, ids: bytes) -> bytes:
    place = 32 * (number % (len(ids) // 32))
    time = b"2026-%02d-%02dT%02d:%02d:%02d.%09dZ" % (
        number % 12 + 1, number % 28 + 1, number % 24, number % 60, number % 59, number * 7919 % 10**9
    )  # fmt: skip
    return (
        b'{"name":"file-%08d.data","type":"file","mode":420,"mtime":"%s","atime":"%s","ctime":"%s","uid":1000,"gid":1000,'
        b'"user":"somebody","group":"somebody","inode":%d,"size":%d,"links":1,"content":["%s"]}'
    ) % (number, time, time, time, 10_000_000 + number, _STORED - _SEALING, ids[place : place + 32].hex().encode())


def _write_indexes(repository: Repository, folder: Path, ids: bytes) -> None:
    """Write index objects for the blobs of data; their packs are files of holes, of the right size."""
    from becalm.repository.format import BlobKind, IndexDoc, IndexedBlob, Layout
    from becalm.repository.index import Index

    total = len(ids) // 32
    for begin in range(0, total, _PER_INDEX):
        packs = {}
        for first in range(begin, min(begin + _PER_INDEX, total), _PER_PACK):
            packs[sha256(b"pack %d" % first).hexdigest()] = tuple(
                IndexedBlob(id=ids[32 * at : 32 * at + 32].hex(), kind=BlobKind.DATA, offset=(at - first) * _STORED, length=_STORED)
                for at in range(first, min(first + _PER_PACK, total))
            )
        document = IndexDoc(packs).encode()
        repository.save_document(Layout.INDEX, document)
        index = Index()
        index.add_document(document, where="a made-up index object")
        for pack, length in index.pack_sizes().items():
            place = folder / Layout.pack(pack)
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as file:
                file.truncate(length)


# What is done with it: each in a process of its own.


def _open(folder: Path) -> Repository:
    from becalm.repository.reader import open_repository
    from becalm.storage.directory import DirectoryStore

    return open_repository(DirectoryStore(folder), PASSWORD)


def load_index(folder: Path, tree: str) -> str:
    """Open the repository and read its index."""
    return f"{len(_open(folder).index)} entries"


def walk_tree(folder: Path, tree: str) -> str:
    """Visit each entry of the snapshot with its path, as a plan of a restore and a listing do."""
    from becalm.repository.tree import walk

    return f"{sum(1 for _ in walk(_open(folder), tree))} entries"


def plan_prune(folder: Path, tree: str) -> str:
    """Follow all snapshots and say what a prune would do; nothing is written."""
    from becalm.repository.prune import Rules, preview

    made = preview(_open(folder), rules=Rules())
    return f"{made.total} packs, {len(made.mark) + made.young} that nothing refers to"


TASKS: dict[str, tuple[str, Callable[[Path, str], str]]] = {
    "index": ("open the repository and read its index", load_index),
    "walk": ("visit every entry of a snapshot", walk_tree),
    "prune": ("see what a prune would do", plan_prune),
}


def _command(verb: str, folder: Path, *arguments: str) -> list[str]:
    where = ["--target", f"file://{folder.parent}", "--policy", folder.name, "--password", "env:BECALM_PASSWORD"]
    return [sys.executable, "-m", "becalm.cli", verb, *where, *arguments]


def _mover(folder: Path, tree: str, work: Path, size: Size) -> dict[str, str]:
    """Make a volume with one directory as large as the snapshot's largest; return the mover's environment."""
    from becalm.model import Direction, MoverSpec, VolumeRef, payload

    volume = work / "volume" / "group-000000" / "folder-000000"
    volume.mkdir(parents=True)
    for number in range(size.largest):
        os.close(os.open(volume / f"file-{number:08d}.data", os.O_CREAT | os.O_WRONLY, 0o644))
    secrets = work / "secrets"
    secrets.mkdir()
    (secrets / "password").write_text(PASSWORD)
    spec = MoverSpec(
        name="memory",
        run="bench",
        direction=Direction.BACK_UP,
        volume=VolumeRef(namespace="bench", claim="data"),
        namespace="bench",
        claim="data",
        repository=f"file://{folder}",
        secret="none",
        parent=tree,
    )
    return {
        "BECALM_MOVER_SPEC": orjson.dumps(payload(spec)).decode(),
        "BECALM_SECRET_DIR": str(secrets),
        "BECALM_VOLUME": str(work / "volume"),
        "BECALM_TERMINATION": str(work / "termination"),
    }


def compare(size: Size, *, work: Path | None = None, only: frozenset[str] = frozenset()) -> Found:
    """Make the repository and do each work with it. Leaves nothing behind."""
    found = Found(size=size)
    with tempfile.TemporaryDirectory(prefix="becalm-memory-", dir=work) as place:
        folder = Path(place) / POLICY
        print(f"becalm: making {size}", flush=True)
        tree = make(folder, size)
        environment = {"PATH": os.environ["PATH"], "HOME": place, "BECALM_PASSWORD": PASSWORD, "PYTHONPATH": str(Path(__file__).parents[2])}
        for key, (what, _) in TASKS.items():
            command = [sys.executable, "-m", "tests.bench.bench_memory", "--task", key, "--repository", str(folder), "--tree", tree]
            _note(found, key, what, command, environment, only)
        _note(found, "verify", "check the structure", _command("verify", folder, "--json"), environment, only)
        _note(found, "backup", f"back up a directory of {size.largest} files beside its parent", [sys.executable, "-m", "becalm.mover"],
              environment, only, prepare=lambda: _mover(folder, tree, Path(place), size))  # fmt: skip
    return found


def _note(
    found: Found,
    key: str,
    what: str,
    command: list[str],
    environment: dict[str, str],
    only: frozenset[str],
    *,
    prepare: Callable[[], dict[str, str]] = dict,
) -> None:
    """Do one work, and tell what it took. One that fails does not keep the others from being done."""
    if only and key not in only:
        return
    try:
        measured = watch(command, environment | prepare())
    except CommandFailedError as error:
        found.failures.append(f"{what}: {error}")
        print(f"  failed: {what}: {error}", flush=True)
        return
    told = measured.output.strip() if key in TASKS else ""
    found.works.append(Worked(key=key, what=what, seconds=measured.seconds, memory=measured.memory, told=told))
    print(f"  {what:60} {measured.seconds:7.1f} s {measured.cpu:7.1f} s cpu {measured.memory:6.0f} MiB {told}", flush=True)


def main() -> int:
    """Measure and judge, or do one of the works."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=str(QUICK))
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"), help="a folder with room for some gigabytes")
    parser.add_argument("--only", default="", help=f"some of {','.join([*TASKS, 'verify', 'backup'])}")
    parser.add_argument("--task", default="", help=argparse.SUPPRESS)
    parser.add_argument("--repository", type=Path, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--tree", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.task:
        print(TASKS[given.task][1](given.repository, given.tree))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was made is removed
    found = compare(QUICK if given.quick else FULL, work=given.work, only=frozenset(filter(None, given.only.split(","))))
    return 0 if not found.failures and all(one.memory <= LIMIT for one in found.works) else 1


if __name__ == "__main__":
    sys.exit(main())
