"""A check names every damage, the object it lies in and the points it harms, whoever reads: this process, or others."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from hashlib import sha256
from random import Random

import pytest

from becalm.errors import MoverFailed
from becalm.repository.check import Examined, check, check_tree, examine
from becalm.repository.check_packs import Hired
from becalm.repository.format import BlobKind, IndexDoc, IndexedBlob, Layout, NodeType, SnapshotDoc
from becalm.repository.node import Node
from becalm.repository.reader import Repository, init_repository, open_repository
from becalm.repository.snapshots import save_snapshot
from becalm.repository.tree import TreeBuilder
from becalm.repository.writer import Writer
from becalm.testing.memory_store import MemoryStore
from becalm.testing.saved_points import CHEAP

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
NOISE = Random(3).randbytes(40_000)


class Scene:
    """A repository with two points: the second one shares a folder with the first."""

    def __init__(self, *, version: int = 2) -> None:
        self.store = MemoryStore()
        init_repository(self.store, "password", kdf=CHEAP, version=version)
        self.first = self.save({"shared/noise": NOISE, "shared/deep/a": b"a" * 3000, "old": b"old"}, NOON)
        self.second = self.save({"shared/noise": NOISE, "shared/deep/a": b"a" * 3000, "new": b"new" * 700}, NOON.replace(hour=13))

    @property
    def repository(self) -> Repository:
        """Opened anew: nothing is remembered."""
        return open_repository(self.store, "password")

    def save(self, files: dict[str, bytes], time: datetime) -> str:
        """Write a point and return its id."""
        repository = self.repository
        builder = TreeBuilder(mtime=NOON)
        for path, data in files.items():
            builder.add_bytes(path, data)
        with Writer(repository) as writer:
            tree = builder.write(writer)
        return save_snapshot(repository, SnapshotDoc(time=time, tree=tree))

    def told(self, *, read_data: bool = True) -> str:
        """What a check says."""
        return "\n".join(map(str, check(self.repository, read_data=read_data)))

    def keys(self, prefix: str) -> list[str]:
        """The keys of one kind."""
        return [key for key in tuple(self.store.keys()) if key.startswith(prefix)]

    def pack_of(self, data: bytes, kind: BlobKind = BlobKind.DATA) -> str:
        """The pack that a blob lies in."""
        place = self.repository.index.lookup(kind, sha256(data).hexdigest())
        assert place is not None
        return place.pack

    def break_blob(self, data: bytes) -> str:
        """Flip a bit in the middle of a blob, and return its pack."""
        place = self.repository.index.lookup(BlobKind.DATA, sha256(data).hexdigest())
        assert place is not None
        key = Layout.pack(place.pack)
        body = bytearray(self.store.get(key))
        body[place.blob.offset + place.blob.length // 2] ^= 4
        self.store.tamper(key, bytes(body))
        return place.pack


@pytest.fixture(params=[1, 2])
def scene(request: pytest.FixtureRequest) -> Scene:
    return Scene(version=request.param)


def facts(examined: Examined) -> tuple[object, ...]:
    """What does not depend on who reads."""
    return (
        [(damage.where, damage.problem, damage.harms) for damage in examined.damages],
        examined.verified,
        examined.bytes_read,
        examined.lost,
        examined.packs,
    )


def test_a_whole_repository_has_no_damage(scene: Scene) -> None:
    """And every pack was read, tree packs already for the structure."""
    structure, everything = examine(scene.repository), examine(scene.repository, read_data=True)

    assert structure.damages == everything.damages == ()
    assert everything.verified == tuple(sorted(key.rpartition("/")[2] for key in scene.keys("data/")))
    assert everything.bytes_read == sum(len(scene.store.get(key)) for key in scene.keys("data/"))
    assert 0 < len(structure.verified) < len(everything.verified)
    assert {point.id for point in everything.points} == {scene.first, scene.second}


def test_processes_find_what_this_one_finds() -> None:
    """The code is the same, only elsewhere."""
    scene = Scene()
    scene.break_blob(NOISE)
    tree_pack = examine(scene.repository).verified[0]
    body = bytearray(scene.store.get(Layout.pack(tree_pack)))
    body[40] ^= 1
    scene.store.tamper(Layout.pack(tree_pack), bytes(body))
    here = examine(scene.repository, read_data=True, workers=0)
    there = examine(scene.repository, read_data=True, workers=2)

    assert facts(there) == facts(here)
    assert here.damages


def test_processes_that_were_started_before_find_the_same() -> None:
    """They wait for a key and for packs; whoever started them ends them."""
    scene = Scene()
    scene.break_blob(NOISE)
    here = examine(scene.repository, read_data=True, workers=0)
    with Hired(2, 1 << 20) as hired:
        there = examine(scene.repository, read_data=True, workers=2, hired=hired)

    assert facts(there) == facts(here)
    assert here.damages


def test_a_process_that_died_before_it_was_needed_is_a_failure() -> None:
    """Nobody waits for its answer."""
    scene = Scene()
    with Hired(1, 1 << 20) as hired:
        hired.crew._processes[0].kill()
        hired.crew._processes[0].wait()
        with pytest.raises(MoverFailed, match="was killed by signal 9"):
            examine(scene.repository, read_data=True, workers=1, hired=hired)


def test_a_damage_names_the_points_and_paths_that_it_harms(scene: Scene) -> None:
    """Newest first; a point that does not need the blob is not named."""
    pack = scene.break_blob(NOISE)
    damages = check(scene.repository, read_data=True)
    lost = next(damage for damage in damages if sha256(NOISE).hexdigest() in damage.problem)

    assert lost.where.endswith(Layout.pack(pack))
    assert [(harm.point, harm.paths) for harm in lost.harms] == [(scene.second, ("/shared/noise",)), (scene.first, ("/shared/noise",))]
    assert f"{scene.second[:8]} of 2026-01-02 13:00: /shared/noise" in str(lost)


def test_what_only_one_point_needs_harms_only_that(scene: Scene) -> None:
    """A lost pack names all its paths; a check of the other point alone finds nothing."""
    pack = scene.pack_of(b"new" * 700)
    scene.store.delete(Layout.pack(pack))
    (damage,) = check(scene.repository)

    assert (damage.where, damage.problem) == (f"memory://store/{Layout.pack(pack)}", "the pack is not there")
    assert [(harm.point, harm.paths) for harm in damage.harms] == [(scene.second, ("/new",))]
    assert check(scene.repository, snapshots=[scene.first], read_data=True) == []
    assert [one.problem for one in check(scene.repository, snapshots=[scene.second])] == ["the pack is not there"]


def test_a_lost_directory_is_named_as_one(scene: Scene) -> None:
    """All that lies in it is lost with it."""
    packs = list(examine(scene.repository).verified)
    for pack in packs:
        scene.store.delete(Layout.pack(pack))
    told = scene.told(read_data=False)

    assert all(Layout.pack(pack) in told for pack in packs)
    assert "13:00: /" in told


def test_bytes_at_the_end_of_a_pack_are_seen_without_reading_it(scene: Scene) -> None:
    """As are missing ones."""
    for key in scene.keys("data/"):
        body = scene.store.get(key)
        for wrong in (body + b"x", body[:-1], body[: len(body) // 2], b""):
            scene.store.put(key, wrong)

            assert key in scene.told(read_data=False)
        scene.store.put(key, body)
    assert scene.told() == ""


@pytest.mark.parametrize("prefix", ["data/", "index/", "snapshots/", "keys/"])
def test_a_foreign_object_is_a_finding(scene: Scene, prefix: str) -> None:
    """Not a crash, and the rest is looked at."""
    for name in ("README", "0" * 63, f"00/{'z' * 64}", f"{'A' * 64}"):
        scene.store.put(prefix + name, b"whatever")
    damages = check(scene.repository)

    assert [damage.where for damage in damages] == [
        f"memory://store/{key}" for key in scene.keys(prefix) if scene.store.get(key) == b"whatever"
    ]


def test_a_foreign_object_stops_no_commit(scene: Scene) -> None:
    """A tree needs nothing of it."""
    scene.store.put("data/README", b"whatever")
    tree = examine(scene.repository).points[0].tree

    assert check_tree(scene.repository, tree).damages == ()


@pytest.mark.parametrize("prefix", ["data/", "index/", "snapshots/"])
def test_objects_in_each_others_places_are_named(scene: Scene, prefix: str) -> None:
    """Every pair of one kind."""
    keys = scene.keys(prefix)
    assert len(keys) > 1
    for one in keys:
        for other in keys:
            if one < other:
                a, b = scene.store.get(one), scene.store.get(other)
                scene.store.tamper(one, b)
                scene.store.tamper(other, a)
                told = scene.told()

                assert one in told
                assert other in told
                scene.store.tamper(one, a)
                scene.store.tamper(other, b)


def test_a_damaged_key_is_named_though_another_opens() -> None:
    """The next person to need it is told before."""
    scene = Scene()
    scene.store.put(Layout.key("ab" * 32), b"{}")

    assert f"keys/{'ab' * 32}: the key is not what its name says" in scene.told()


def test_blobs_in_another_order_are_named(scene: Scene) -> None:
    """Two blobs of one pack that changed places are authentic, each by itself."""
    pack = scene.pack_of(b"old")
    blobs = sorted((e.blob for e in scene.repository.index.entries() if e.pack == pack), key=lambda blob: blob.offset)
    body = scene.store.get(Layout.pack(pack))
    parts = [body[blob.offset : blob.offset + blob.length] for blob in blobs]
    scene.store.tamper(Layout.pack(pack), b"".join([parts[1], parts[0], *parts[2:]]) + body[sum(map(len, parts)) :])

    assert Layout.pack(pack) in scene.told()


def test_every_bit_of_a_small_pack_is_covered(scene: Scene) -> None:
    """Though its hash is taken only where something is wrong: every byte is authenticated where it lies."""
    for key in scene.keys("data/")[-2:]:
        body = scene.store.get(key)
        for place in range(0, len(body), max(1, len(body) // 60)):
            scene.store.tamper(key, body[:place] + bytes([body[place] ^ 1 << place % 8]) + body[place + 1 :])

            assert key in scene.told(), place
        for place in range(1, 5):  # the length of the header
            scene.store.tamper(key, body[:-place] + bytes([body[-place] ^ 1]) + body[len(body) - place + 1 :])

            assert key in scene.told(), place
        scene.store.tamper(key, body)


def test_an_index_that_names_a_missing_pack_is_named(scene: Scene) -> None:
    """Nobody needs that pack, but a writer would rely on it."""
    blob = IndexedBlob(id="11" * 32, kind=BlobKind.DATA, offset=0, length=100)
    scene.repository.save_document(Layout.INDEX, IndexDoc({"22" * 32: (blob,)}).encode())

    assert scene.told() == f"memory://store/{Layout.pack('22' * 32)}: the pack is not there"


def test_an_index_that_says_otherwise_than_the_pack_is_named(scene: Scene) -> None:
    """Even where it is of the right length."""
    pack = scene.pack_of(b"old")
    entries = next(one for one in scene.repository.index.entries_of_packs() if one.pack == pack)
    first, *rest = entries.blobs()
    for key in scene.keys("index/"):
        if pack.encode() in scene.repository.load_document(key):
            scene.store.delete(key)
    wrong = IndexedBlob(
        id="33" * 32, kind=first.kind, offset=first.offset, length=first.length, uncompressed_length=first.uncompressed_length
    )
    scene.repository.save_document(Layout.INDEX, IndexDoc({pack: (wrong, *rest)}).encode())
    told = scene.told()

    assert f"{Layout.pack(pack)}: tree" in told or f"{Layout.pack(pack)}: blob {'33' * 32}: it holds something else" in told
    assert "the index says that the blob" in told


def test_a_lost_index_object_is_named_by_what_it_knew(scene: Scene) -> None:
    """And the packs that nobody names any more are told."""
    for key in scene.keys("index/"):
        scene.store.delete(key)
    examined = examine(scene.repository)

    assert all("no index knows it" in damage.problem for damage in examined.damages)
    assert {harm.point for damage in examined.damages for harm in damage.harms} == {scene.first, scene.second}
    assert len(examined.unindexed) == len(scene.keys("data/"))


def test_one_damaged_index_object_hides_nothing_else(scene: Scene) -> None:
    """It is named, and so is a damaged pack that another one knows."""
    pack = scene.break_blob(NOISE)
    second = next(key for key in scene.keys("index/") if pack.encode() not in scene.repository.load_document(key))
    scene.store.tamper(second, b"x" * 100)
    told = scene.told()

    assert second in told
    assert Layout.pack(pack) in told


def a_tree_with(scene: Scene, node: Node) -> str:
    repository = scene.repository
    with Writer(repository) as writer:
        tree = writer.save_tree([node])
    return save_snapshot(repository, SnapshotDoc(time=NOON, tree=tree))


def test_a_snapshot_of_a_missing_tree_is_named(scene: Scene) -> None:
    """By the tree, and by the point."""
    point = save_snapshot(scene.repository, SnapshotDoc(time=NOON, tree="44" * 32))
    (damage,) = check(scene.repository)

    assert str(damage) == f"memory://store: tree {'44' * 32}: no index knows it; harms {point[:8]} of 2026-01-02 12:00: /"
    assert [one.where for one in check_tree(scene.repository, "44" * 32).damages] == [damage.where]


@pytest.mark.parametrize(
    ("node", "told"),
    [
        (Node.file("f", content=("55" * 32,), size=3), f"blob {'55' * 32}: no index knows it"),
        (Node.file("f", content=(sha256(b"old").hexdigest(),), size=4), "1 files in it do not have the sizes of their blobs"),
        (Node.directory("d"), "the directory 'd' has no tree"),
        (Node.directory("d", subtree="66" * 32), f"tree {'66' * 32}: no index knows it"),
    ],
)
def test_what_a_tree_needs_and_has_not_is_named(scene: Scene, node: Node, told: str) -> None:
    """By a check of all points, of one, and of the tree alone."""
    point = a_tree_with(scene, node)
    tree = next(one.tree for one in examine(scene.repository).points if one.id == point)

    assert told in scene.told(read_data=False)
    assert told in "\n".join(map(str, check(scene.repository, snapshots=[point])))
    assert told in "\n".join(map(str, check_tree(scene.repository, tree).damages))
    assert check(scene.repository, snapshots=[scene.first]) == []


def test_a_tree_that_no_point_reaches_harms_nobody(scene: Scene) -> None:
    """What a run that died left behind is not judged."""
    repository = scene.repository
    with Writer(repository) as writer:
        writer.save_tree([Node.file("f", content=("55" * 32,), size=3)])

    assert scene.told() == ""


def test_a_tree_is_read_once_however_many_points_share_it() -> None:
    """And a file without content, a link and a device need nothing."""
    scene = Scene()
    repository = scene.repository
    with Writer(repository) as writer:
        inner = writer.save_tree(
            [
                Node(name="link", type=NodeType.SYMLINK, linktarget="x"),
                Node.file("empty", content=(), size=0),
                Node(name="p", type=NodeType.FIFO),
            ]
        )
        trees = [writer.save_tree([Node.directory(f"d{number}", subtree=inner)]) for number in range(20)]
    for number, tree in enumerate(trees):
        save_snapshot(repository, SnapshotDoc(time=NOON.replace(minute=number), tree=tree))

    assert scene.told() == ""


def test_only_the_packs_that_are_asked_for_are_read(scene: Scene) -> None:
    """Beside those of the structure; and none when it is enough."""
    structure = set(examine(scene.repository).verified)
    wanted = scene.pack_of(b"new" * 700)
    some = examine(scene.repository, choose=lambda _: [wanted])
    none = examine(scene.repository, choose=lambda _: [wanted], enough=lambda: True)

    assert set(some.verified) - structure == {wanted}
    assert set(none.verified) == structure
    assert (some.whole, none.whole) == (True, False)


def test_progress_tells_bytes(scene: Scene) -> None:
    """Up to the last one."""
    told: list[tuple[str, int | None, int | None]] = []
    examine(scene.repository, read_data=True, progress=lambda message, *, done=None, total=None: told.append((message, done, total)))
    message, done, total = told[-1]

    assert (message, done) == ("reading the data", total)


def test_a_header_that_claims_too_much_is_named() -> None:
    """A length beyond the pack."""
    scene = Scene()
    key = scene.keys("data/")[0]
    body = scene.store.get(key)
    scene.store.tamper(key, body[:-4] + struct.pack("<I", 1 << 31))

    assert "its header" in scene.told()
