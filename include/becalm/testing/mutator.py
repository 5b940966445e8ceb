"""Mutations of stored data: whatever is changed behind the repository's back, no wrong byte comes out, and what is damaged is named.

A mutation changes, cuts, swaps, replaces or removes stored objects. After each, every point is read back (the right bytes, or an
error of Becalm's), and a check that reads all data must name the object, or what hangs on one that is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeAlias

from becalm.errors import BecalmError, Damaged
from becalm.repository.check import check
from becalm.repository.extract import extract
from becalm.repository.format import Layout, SnapshotDoc
from becalm.repository.pack import read_header
from becalm.repository.reader import init_repository, open_repository
from becalm.repository.snapshots import load_snapshot, save_snapshot
from becalm.repository.tree import TreeBuilder, walk
from becalm.repository.writer import Writer
from becalm.testing.fake_clock import NOON, FakeClock
from becalm.testing.memory_store import MemoryStore
from becalm.testing.saved_points import CHEAP, PASSWORD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from becalm.storage.base import Key

Change: TypeAlias = Callable[[MemoryStore], None]

EVERY_BIT_UP_TO = 4096
RESTORE_EVERY = 25
"""After every so manieth mutation the points are restored into a folder; after the others they are read."""
BEYOND = 256
"""So many bits of a larger object are flipped, at places drawn by lot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One way to damage what is stored."""

    what: str
    change: Change
    names: tuple[Key, ...] = ()
    """Objects of which one must be named; without any, naming whatever hangs on it is enough."""
    silent: bool = False
    """Nothing needs to be said: what is there is still what was written."""


@dataclass(slots=True)
class Specimen:
    """A small repository, and what is in it."""

    shape: str
    store: MemoryStore
    points: Mapping[str, Mapping[str, bytes]]
    """Ids of snapshots, to their files."""


@dataclass(slots=True)
class Findings:
    """What mutations have shown."""

    tried: int = 0
    refused: int = 0
    """Restores that ended with an error of Becalm's."""
    wrong: list[str] = field(default_factory=list)
    """Wrong bytes came out, or an error that is not one of Becalm's."""
    unnamed: list[str] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        """Take in others."""
        self.tried += other.tried
        self.refused += other.refused
        self.wrong += other.wrong
        self.unnamed += other.unnamed


def specimen(shape: str, *, version: int = 2, compressible: bool = True, seed: int = 1) -> Specimen:
    """Make a repository of two points that share some packs."""
    random = Random(seed)
    store = MemoryStore(clock=FakeClock())
    repository = init_repository(store, PASSWORD, version=version, kdf=CHEAP)
    same = b"the same " * 20 if compressible else random.randbytes(90)
    points: dict[str, Mapping[str, bytes]] = {}
    for number in range(2):
        own = f"point {number} ".encode() * 12 if compressible else random.randbytes(80)
        files = {"folder/same": same, "folder/own": own, "empty": b"", "small": bytes([number])}
        with Writer(repository) as writer:
            builder = TreeBuilder(mtime=NOON)
            for path, content in files.items():
                builder.add_bytes(path, content)
            tree = builder.write(writer)
            writer.flush()
        points[save_snapshot(repository, SnapshotDoc(time=NOON, tree=tree, hostname="test"))] = files
    return Specimen(shape=shape, store=store, points=points)


def specimens() -> Iterator[Specimen]:
    """Yield a repository of every shape."""
    yield specimen("format 2, compressed")
    yield specimen("format 2, not compressible", compressible=False)
    yield specimen("format 1", version=1)
    yield specimen("format 1, other data", version=1, compressible=False, seed=2)


def mutations(found: Specimen, *, seed: int = 0) -> Iterator[Mutation]:
    """Yield every mutation of a repository."""
    keys = found.store.keys()
    for key in keys:
        body = found.store.get(key)
        yield from _flips(key, body, Random(f"{seed} {key}"))
        yield from _lengths(key, body)
        yield _loss(key)
        if key.startswith(Layout.DATA):
            yield from _orders(found, key, body)
    for one, two in combinations(keys, 2):
        if one.partition("/")[0] == two.partition("/")[0]:
            yield Mutation(what=f"{one} and {two} swapped", change=_swapped(one, two), names=(one, two))
    yield from _foreign(keys)


def _put(key: Key, body: bytes) -> Change:
    return lambda store: store.tamper(key, body)


def _flips(key: Key, body: bytes, random: Random) -> Iterator[Mutation]:
    every = range(min(len(body), EVERY_BIT_UP_TO) * 8)
    beyond = [random.randrange(EVERY_BIT_UP_TO * 8, len(body) * 8) for _ in range(BEYOND)] if len(body) > EVERY_BIT_UP_TO else []
    for bit in (*every, *beyond):
        yield Mutation(what=f"bit {bit} of {key} flipped", change=_flipped(key, body, bit), names=(key,))


def _flipped(key: Key, body: bytes, bit: int) -> Change:
    def change(store: MemoryStore) -> None:
        changed = bytearray(body)
        changed[bit // 8] ^= 1 << bit % 8
        store.tamper(key, bytes(changed))

    return change


def _lengths(key: Key, body: bytes) -> Iterator[Mutation]:
    lengths = range(len(body)) if len(body) <= EVERY_BIT_UP_TO else range(0, len(body), len(body) // EVERY_BIT_UP_TO + 1)
    for length in lengths:
        yield Mutation(what=f"{key} cut to {length} bytes", change=_put(key, body[:length]), names=(key,))
        if length:
            yield Mutation(what=f"{key} without its first {length} bytes", change=_put(key, body[length:]), names=(key,))
    for what, longer in (("a zero", body + b"\0"), ("itself", body * 2), ("its first half", body + body[: len(body) // 2])):
        yield Mutation(what=f"{what} appended to {key}", change=_put(key, longer), names=(key,))
    yield Mutation(what=f"{key} all zeros", change=_put(key, bytes(len(body))), names=(key,))


def _loss(key: Key) -> Mutation:
    named = () if key.startswith((Layout.INDEX, Layout.SNAPSHOTS)) else (Layout.KEYS if key.startswith(Layout.KEYS) else key,)
    return Mutation(what=f"{key} is gone", change=lambda store: store.lose(key), names=named, silent=key.startswith(Layout.SNAPSHOTS))


def _swapped(one: Key, two: Key) -> Change:
    def change(store: MemoryStore) -> None:
        first, second = store.get(one), store.get(two)
        store.tamper(one, second)
        store.tamper(two, first)

    return change


def _orders(found: Specimen, key: Key, body: bytes) -> Iterator[Mutation]:
    """Change the places of blobs within a pack, and repeat one in the place of another of its length."""
    blobs = read_header(open_repository(found.store, PASSWORD).key, body)
    for one, two in combinations(blobs, 2):
        first, second = (body[blob.offset : blob.offset + blob.length] for blob in (one, two))
        between = body[one.offset + one.length : two.offset]
        swapped = body[: one.offset] + second + between + first + body[two.offset + two.length :]
        yield Mutation(what=f"blobs {one.offset} and {two.offset} of {key} swapped", change=_put(key, swapped), names=(key,))
        if one.length == two.length:
            doubled = body[: two.offset] + first + body[two.offset + two.length :]
            yield Mutation(what=f"blob {one.offset} of {key} in the place of {two.offset}", change=_put(key, doubled), names=(key,))


def _foreign(keys: Sequence[Key]) -> Iterator[Mutation]:
    """Put objects of another repository, of the same password, in the place of its own."""
    other = specimen("another", seed=7)
    theirs = other.store.keys()
    for key in keys:
        rivals = (rival for rival in theirs if rival.partition("/")[0] == key.partition("/")[0])
        for rival in rivals:
            yield Mutation(what=f"{rival} of another repository as {key}", change=_put(key, other.store.get(rival)), names=(key,))


def examine(found: Specimen, mutation: Mutation, findings: Findings) -> None:
    """Apply one mutation to a copy, restore every point, check, and note what came of it."""
    store = found.store.copy()
    mutation.change(store)
    findings.tried += 1
    where = f"{found.shape}: {mutation.what}"
    said = _said(store)
    names = [part for key in mutation.names for part in (key, key.rpartition("/")[2]) if part]
    if not mutation.silent and not (any(name in line for name in names for line in said) if names else said):
        findings.unnamed.append(f"{where}: {said[:2] or 'nothing was said'}")
    read_point = _restored if findings.tried % RESTORE_EVERY == 0 else _read
    for snapshot, files in found.points.items():
        try:
            read = read_point(store, snapshot)
        except BecalmError:
            findings.refused += 1
        except Exception as error:  # noqa: BLE001  any other error is what this looks for
            findings.wrong.append(f"{where}: {error!r}")
        else:
            if read != files:
                findings.wrong.append(f"{where}: point {snapshot[:8]} gives other bytes")


def _said(store: MemoryStore) -> list[str]:
    try:
        return [str(damage) for damage in check(open_repository(store, PASSWORD), read_data=True)]
    except BecalmError as error:
        return [str(error)]
    except Exception:  # noqa: BLE001  reading the points shows the same error, and it is noted there
        return []


def _restored(store: MemoryStore, snapshot: str) -> dict[str, bytes]:
    """Restore a point into a folder and read that. Raises Damaged where the restore names files that it could not write."""
    repository = open_repository(store, PASSWORD)
    tree = load_snapshot(repository, snapshot)[1].tree
    with TemporaryDirectory(prefix="becalm-proof-") as folder:
        done = extract(repository, tree, folder)
        if done.failures:
            raise Damaged(str(done.failures[0]))
        return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def _read(store: MemoryStore, snapshot: str) -> dict[str, bytes]:
    repository = open_repository(store, PASSWORD)
    tree = load_snapshot(repository, snapshot)[1].tree
    return {path: b"".join(repository.read_file(node)) for path, node in walk(repository, tree) if node.type == "file"}
