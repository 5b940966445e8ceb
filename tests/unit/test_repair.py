"""A repair adds what can be saved, says what is lost, and touches nothing that exists."""

from __future__ import annotations

from pathlib import Path
from random import Random

import orjson
import pytest
from typer.testing import CliRunner

from becalm.actions import repair, verify
from becalm.catalog import ledger
from becalm.catalog.points import last_good, points
from becalm.cli.app import app
from becalm.errors import BecalmError, Damaged, LeaseHeld
from becalm.kube.base import Kind
from becalm.repository import lease, tombstones
from becalm.repository.check import check
from becalm.repository.format import BlobKind, Layout, SnapshotDoc
from becalm.repository.reader import Repository, open_repository
from becalm.repository.repair import RepairPlan, header_of
from becalm.repository.salvage import NOTE
from becalm.repository.snapshots import load_snapshot, save_snapshot
from becalm.repository.tree import lookup, walk
from becalm.repository.writer import Writer
from becalm.storage.directory import DirectoryStore
from becalm.testing.fake_clock import FakeClock
from becalm.testing.faulty_store import Fault, FaultyStore
from becalm.testing.memory_store import MemoryStore
from becalm.testing.saved_points import CUT, PASSWORD, save_point

KINDS: list[Kind] = []
DESCRIPTION = {"format": 1, "complete": True, "missing": [], "volumes": [], "counts": {}}


class Scene:
    """Two points: the older has a file of its own, both share another."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(clock=self.clock)
        raw = {"recovery-point.json": orjson.dumps(DESCRIPTION)}
        self.shared, self.own = Random(1).randbytes(9000), Random(2).randbytes(7000)
        both = {"folder/shared": self.shared}
        self.old = save_point(self.store, [], kinds=KINDS, raw=raw, volumes={"shop/data": {**both, "folder/own": self.own}}).id
        self.new = save_point(self.store, [], kinds=KINDS, raw=raw, volumes={"shop/data": both}, cut=CUT.replace(hour=13)).id

    @property
    def repository(self) -> Repository:
        """Opened anew."""
        return open_repository(self.store, PASSWORD)

    def plan(self, *, read_data: bool = True) -> RepairPlan:
        """What would be written."""
        return repair.plan(self.store, PASSWORD, read_data=read_data)

    def repair(self, *, read_data: bool = True) -> repair.Repaired:
        """Write it."""
        return repair.execute(self.store, PASSWORD, self.plan(read_data=read_data), policy="shop", who="test", clock=self.clock)

    def break_blob(self, data: bytes) -> None:
        """Flip a bit in the middle of a blob."""
        from hashlib import sha256  # noqa: PLC0415

        place = self.repository.locate(BlobKind.DATA, sha256(data).hexdigest())
        body = bytearray(self.store.get(Layout.pack(place.pack)))
        body[place.blob.offset + 50] ^= 1
        self.store.tamper(Layout.pack(place.pack), bytes(body))

    def names(self, prefix: str = "") -> set[str]:
        """The keys that are there."""
        return {key for key in tuple(self.store.keys()) if key.startswith(prefix)}

    def files(self, point: str) -> dict[str, bytes]:
        """What a point holds."""
        repository = self.repository
        _, doc = load_snapshot(repository, point)
        return {path: b"".join(repository.read_file(node)) for path, node in walk(repository, doc.tree) if node.type == "file"}


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_nothing_is_written_where_nothing_is_damaged(scene: Scene) -> None:
    """Not even a ledger entry."""
    before = scene.names()
    plan = scene.plan()
    done = scene.repair()

    assert plan.nothing
    assert (done.index_objects, done.salvaged) == (0, ())
    assert scene.names() - before <= {Layout.LEASE}


def test_what_is_damaged_on_its_way_only_is_not_lost(scene: Scene) -> None:
    """At each reading in turn: nothing is to be repaired, or an error says that the repository cannot be opened."""
    for call in range(1, 60):
        faulty = FaultyStore(scene.store, {call: Fault.GARBLED})
        try:
            plan = repair.plan(faulty, PASSWORD, read_data=True)
        except BecalmError:
            continue
        assert plan.nothing, call
        if len(faulty.calls) < call:
            break
    else:
        pytest.fail("more calls than were tried")


def test_a_plan_names_what_is_lost_and_writes_nothing(scene: Scene) -> None:
    """Every path, of every point that is harmed, and of no other."""
    scene.break_blob(scene.own)
    before = {key: scene.store.get(key) for key in scene.names()}
    plan = scene.plan()

    assert [(one.point.id, one.lost) for one in plan.salvages] == [(scene.old, ("/volumes/shop/data/folder/own",))]
    assert {key: scene.store.get(key) for key in scene.names()} == before


def test_a_salvaged_point_holds_all_the_rest(scene: Scene) -> None:
    """Byte for byte; it says what it has lost, and is not complete."""
    scene.break_blob(scene.own)
    before = {key: scene.store.get(key) for key in scene.names()}
    (made,) = scene.repair().salvaged
    files = scene.files(made.new)
    description = orjson.loads(files.pop("recovery-point.json"))
    saved = next(point for point in points(scene.repository, "shop") if point.id == made.new)

    assert files == {"volumes/shop/data/folder/shared": scene.shared}
    assert description["complete"] is False
    assert [one["where"] for one in description["missing"]] == ["/volumes/shop/data/folder/own"]
    assert description["salvaged"]["from"] == scene.old
    assert (saved.complete, saved.salvaged, saved.cut) == (False, scene.old, CUT)
    assert {key: scene.store.get(key) for key in before} == before
    assert [damage for damage in check(scene.repository, snapshots=[made.new], read_data=True) if damage.harms] == []


def test_a_salvaged_point_is_never_the_last_good_one(scene: Scene) -> None:
    """Though it may be the newest."""
    scene.break_blob(scene.shared)
    scene.repair()
    found = points(scene.repository, "shop")
    good = last_good([point for point in found if point.salvaged])

    assert good is None
    assert len(found) == 4


def test_a_repair_is_done_once(scene: Scene) -> None:
    """The second one finds what the first one saved; new damage is saved from again."""
    scene.break_blob(scene.own)
    first = scene.repair()
    second = scene.repair()
    scene.break_blob(scene.shared)
    third = scene.repair()

    assert (len(first.salvaged), second.salvaged, second.done_before) == (1, (), (scene.old,))
    assert {one.old for one in third.salvaged} == {scene.old, scene.new, first.salvaged[0].new}


def test_what_a_verify_found_is_known_without_reading_all_again(scene: Scene) -> None:
    """The ledger names the pack."""
    scene.break_blob(scene.own)
    unknown = scene.plan(read_data=False)
    verify.execute(scene.store, PASSWORD, verify.Wanted(read_data=True), who="test", clock=scene.clock)
    told = scene.plan(read_data=False)

    assert unknown.nothing
    assert [one.point.id for one in told.salvages] == [scene.old]


def test_the_ledger_tells_of_a_repair(scene: Scene) -> None:
    """Which point came of which."""
    scene.break_blob(scene.own)
    (made,) = scene.repair().salvaged
    entry = next(ledger.newest(scene.repository, ledger.EntryKind.SALVAGED))

    assert entry.content["points"] == [{"from": scene.old, "to": made.new, "lost": 1}]


def test_a_lost_index_is_written_anew_from_the_packs(scene: Scene) -> None:
    """Then nothing is lost at all."""
    for key in scene.names(Layout.INDEX):
        scene.store.delete(key)
    plan = scene.plan()
    done = scene.repair()

    assert (plan.salvages, len(plan.packs)) == ((), len(scene.names("data/")))
    assert done.index_objects == 1
    assert check(scene.repository, read_data=True) == []


def test_a_damaged_index_object_stands_in_nobodys_way_after_a_repair(scene: Scene) -> None:
    """It stays where it is; others say what it said."""
    key = min(scene.names(Layout.INDEX))
    scene.store.tamper(key, b"rubbish")
    with pytest.raises(Damaged, match="not what its name says"):
        scene.files(scene.old)
    done = scene.repair()

    assert done.index_objects == 1
    assert scene.store.get(key) == b"rubbish"
    assert check(scene.repository, read_data=True) == []
    assert scene.files(scene.old)["volumes/shop/data/folder/own"] == scene.own


def test_a_pack_that_prune_has_marked_gets_no_index(scene: Scene) -> None:
    """It is about to go."""
    for key in scene.names(Layout.INDEX):
        scene.store.delete(key)
    marked = min(scene.names("data/")).rpartition("/")[2]
    tombstones.mark(scene.store, marked, reason="test", who="test")

    assert marked not in scene.plan().packs


def test_a_lost_folder_takes_what_is_in_it_and_no_more(scene: Scene) -> None:
    """It is named as a folder."""
    repository = scene.repository
    folder = lookup(repository, load_snapshot(repository, scene.old)[1].tree, "volumes/shop/data/folder").subtree
    place = repository.locate(BlobKind.TREE, folder)
    body = bytearray(scene.store.get(Layout.pack(place.pack)))
    body[place.blob.offset + 20] ^= 1
    scene.store.tamper(Layout.pack(place.pack), bytes(body))
    plan = scene.plan()
    made = {one.old: one.new for one in scene.repair().salvaged}

    assert [one.lost for one in plan.salvages if one.point.id == scene.old] == [("/volumes/shop/data/folder/",)]
    assert set(scene.files(made[scene.old])) == {"recovery-point.json"}


def test_a_point_without_its_root_is_hopeless_and_said_to_be(scene: Scene) -> None:
    """Nothing is written for it."""
    save_snapshot(scene.repository, SnapshotDoc(time=CUT, tree="11" * 32))
    plan = scene.plan()

    assert [(one.lost, one.hopeless) for one in plan.salvages] == [(("/",), True)]
    assert scene.repair().salvaged == ()


def test_a_snapshot_of_another_maker_gets_a_note(scene: Scene) -> None:
    """It has no description that could say what is missing."""
    repository = scene.repository
    with Writer(repository) as writer:
        lost, kept = writer.save_bytes(b"lost" * 500), writer.save_bytes(b"kept" * 500)
        from becalm.repository.node import Node  # noqa: PLC0415

        nodes = [Node.file(name, content=one.content, size=one.size) for name, one in (("lost", lost), ("kept", kept))]
        tree = writer.save_tree(nodes)
    save_snapshot(repository, SnapshotDoc(time=CUT, tree=tree, tags=("mine",)))
    scene.break_blob(b"lost" * 500)
    (made,) = scene.repair().salvaged
    files = scene.files(made.new)

    assert files.keys() == {"kept", NOTE}
    assert [one["where"] for one in orjson.loads(files[NOTE])["missing"]] == ["/lost"]
    assert load_snapshot(scene.repository, made.new)[1].tags == ("mine", f"salvaged={made.old}")


def test_a_repair_waits_for_no_run(scene: Scene) -> None:
    """While another one works, it ends with the reason, and has written nothing."""
    scene.break_blob(scene.own)
    lease.take(scene.store, policy="shop", run="other", seconds=600, clock=scene.clock)
    before = scene.names()
    with pytest.raises(LeaseHeld):
        scene.repair()

    assert scene.names() == before


def test_a_header_is_read_from_the_end_of_a_pack(scene: Scene) -> None:
    """And says what the index says."""
    for entries in scene.repository.index.entries_of_packs():
        size = len(scene.store.get(Layout.pack(entries.pack)))

        assert header_of(scene.repository, entries.pack, size) == list(entries.blobs())


def test_the_command_shows_first_and_writes_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user runs it."""
    monkeypatch.setenv("BECALM_PASSWORD", PASSWORD)
    store = DirectoryStore(tmp_path / "shop")
    store.make_folder()
    point = save_point(store, [], kinds=KINDS, volumes={"shop/data": {"a": b"a" * 9000, "b": b"b" * 50}}).id
    for info in list(store.list(Layout.INDEX)):
        store.delete(info.key)
    place = ["--target", f"file://{tmp_path}", "--policy", "shop"]
    runner = CliRunner()
    dry = runner.invoke(app, ["repair", *place])
    after_dry = list(store.list(Layout.INDEX))
    done = runner.invoke(app, ["repair", *place, "--yes"])

    assert (dry.exit_code, done.exit_code) == (0, 0)
    assert "nothing was written; --yes writes it" in dry.stdout
    assert after_dry == []
    assert "1 index objects were written" in done.stdout
    assert check(open_repository(store, PASSWORD), read_data=True) == []
    assert load_snapshot(open_repository(store, PASSWORD), point)
