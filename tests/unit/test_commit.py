"""Commit: one object makes a recovery point visible, and only when all of it is there and the lease still holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from tests.unit.run_scenes import DATA, MORE, Scene, a_cut, a_thaw, an_export, discovered

from becalm.actions import commit, run
from becalm.actions import description as described
from becalm.actions.handover import Begun, Committed, VolumePlan
from becalm.catalog.points import points
from becalm.errors import (
    AccessDenied,
    BecalmError,
    CutFailed,
    Damaged,
    LeaseLost,
    OtherRepository,
    PreconditionFailed,
    StoreFull,
    StoreReadOnly,
    WrongPassword,
)
from becalm.model import Consistency, Excluded, Finding, MoverResult, VolumeRef, VolumeUse
from becalm.repository import intents, lease, tombstones
from becalm.repository.check import check
from becalm.repository.format import Layout
from becalm.repository.reader import open_repository
from becalm.repository.tree import TreeBuilder, lookup, walk
from becalm.repository.writer import Writer
from becalm.storage.wrappers import Wrapper
from becalm.testing.builders import a_policy, days
from becalm.testing.fake_clock import NOON
from becalm.testing.saved_points import PASSWORD


@pytest.fixture
def scene() -> Scene:
    return Scene()


def a_result(scene: Scene, volume: VolumeRef = DATA, **rest: Any) -> MoverResult:
    facts: dict[str, Any] = {"tree": "" if rest.get("error") else scene.tree(file=str(volume).encode()), "files": 1, "bytes_total": 9}
    return MoverResult(name=f"m-{volume.claim}", run="r", volume=volume, **(facts | rest))


def write(scene: Scene, begun: Begun, **rest: Any) -> Committed:
    """Commit one application with one volume, unless a test says otherwise."""
    facts: dict[str, Any] = {
        "discovered": discovered("shop"),
        "cuts": [a_cut(scene, "shop", DATA)],
        "thaws": [a_thaw("shop")],
        "exports": [an_export(DATA)],
        "results": [a_result(scene, DATA)],
        "policy": scene.policy,
        "ports": scene.ports,
    }
    return commit.execute(begun, **(facts | rest))


def description(scene: Scene, committed: Committed) -> Any:
    repository = open_repository(scene.store, PASSWORD)
    return orjson.loads(b"".join(repository.read_file(lookup(repository, committed.tree, "recovery-point.json"))))


# What is missing.


def gaps(scene: Scene, **rest: Any) -> list[tuple[str, str]]:
    facts: dict[str, Any] = {
        "cuts": [a_cut(scene, "shop", DATA)],
        "thaws": [a_thaw()],
        "exports": [an_export()],
        "results": [a_result(scene)],
    }
    selection = rest.pop("discovered", discovered("shop"))
    return [(finding.where, finding.message) for finding in described.missing(selection, **(facts | rest))]


def test_nothing_is_missing_where_every_volume_has_its_tree(scene: Scene) -> None:
    """Two applications, of which one has no volume."""
    cuts = [a_cut(scene, "shop", DATA), a_cut(scene, "bank")]

    assert gaps(scene, discovered=discovered("shop", "bank"), cuts=cuts) == []


def test_whatever_was_selected_and_is_not_there_is_named(scene: Scene) -> None:
    """Each row of it: found at discovery, an application, a cut, an export, a mover, a file, a thaw."""
    finding = Finding(where="volumes/shop/odd", message="no snapshot class")
    file = Finding(where="shop/data/x", message="cannot be read")
    rows: list[tuple[dict[str, Any], tuple[str, str]]] = [
        ({"discovered": discovered("shop", findings=(finding,))}, ("volumes/shop/odd", "no snapshot class")),
        ({"discovered": discovered("shop", "bank")}, ("bank", "the application was not captured")),
        ({"discovered": discovered("shop", "bank"), "failures": {"bank": "the hook failed"}}, ("bank", "not captured: the hook failed")),
        ({"failures": {"shop": "it is not confirmed thawed"}}, ("shop", "it is not confirmed thawed")),
        ({"cuts": [a_cut(scene, "shop", DATA, findings=(finding,))]}, ("volumes/shop/odd", "no snapshot class")),
        ({"cuts": [a_cut(scene, "shop", DATA, errors=(MORE,))]}, ("volumes/shop/more", "not cut: the storage refused")),
        ({"exports": [an_export(error="never bound")], "results": []}, ("volumes/shop/data", "not readable: never bound")),
        ({"results": [a_result(scene, error="mover-failed: gone")]}, ("volumes/shop/data", "not uploaded: mover-failed: gone")),
        ({"results": [a_result(scene, unreadable=(file,))]}, ("shop/data/x", "cannot be read")),
        ({"results": []}, ("volumes/shop/data", "no mover answered for it")),
        ({"thaws": [a_thaw(confirmed=False, reasons=("no answer",))]}, ("shop", "is not confirmed thawed: no answer")),
    ]

    assert [gaps(scene, **given) for given, _ in rows] == [[expected] for _, expected in rows]


# What it promises.


@pytest.mark.parametrize(
    ("labels", "volumes", "expected"),
    [
        ({"shop": Consistency.APPLICATION}, {"shop": DATA}, Consistency.APPLICATION),
        ({"shop": Consistency.CRASH}, {"shop": DATA}, Consistency.CRASH),
        ({"shop": Consistency.APPLICATION, "bank": Consistency.CRASH}, {"shop": DATA, "bank": MORE}, Consistency.CRASH),
        ({"shop": Consistency.APPLICATION, "bank": Consistency.CRASH}, {"shop": DATA, "bank": None}, Consistency.APPLICATION),
        ({}, {"shop": DATA}, Consistency.CRASH),
        ({"shop": Consistency.APPLICATION}, {"shop": None}, Consistency.CRASH),
    ],
    ids=["frozen", "not frozen", "the weakest counts", "without volumes it does not count", "no thaw is known", "no volume at all"],
)
def test_a_point_promises_what_its_weakest_application_does(scene: Scene, labels: Any, volumes: Any, expected: Consistency) -> None:
    """And says why it promises no more."""
    cuts = [a_cut(scene, name, *([volume] if volume else [])) for name, volume in volumes.items()]
    label, reasons = described.consistency(cuts, [a_thaw(name, given, reasons=("late",)) for name, given in labels.items()])

    assert label is expected
    assert bool(reasons) is (expected is Consistency.CRASH)


# What is written.


def test_a_point_holds_objects_volumes_context_and_its_own_description(scene: Scene) -> None:
    """Its tags say what the catalog needs, and every byte of it is there."""
    begun = scene.begin()
    excluded = Excluded(what="volumes/shop/cache", by="spec.volumes.rules.0", because="rebuilt")
    committed = write(scene, begun, discovered=discovered("shop", excluded=(excluded,)))
    repository = open_repository(scene.store, PASSWORD)
    paths = {path for path, node in walk(repository, committed.tree) if node.type == "file"}
    (point,) = points(repository, "shop")

    assert paths == {
        "recovery-point.json",
        "resources/core/configmaps/shop/settings.json",
        "volumes/shop/data/file",
        "endpoints/discovery.json",
        "endpoints/nodes.json",
    }
    assert (point.id, point.run, point.complete, point.revision) == (committed.point, begun.run, True, "7")
    assert point.consistency is Consistency.APPLICATION
    assert (committed.objects, committed.volumes, committed.bytes_total, committed.missing) == (1, 1, 9, ())
    assert description(scene, committed)["excluded"][0]["because"] == "rebuilt"
    assert check(repository, read_data=True) == []


def test_a_partial_point_says_what_is_missing_and_why(scene: Scene) -> None:
    """In its tags, in its description, and to the caller."""
    committed = write(scene, scene.begin(), discovered=discovered("shop", "bank"), failures={"bank": "the hook failed"})
    (point,) = points(open_repository(scene.store, PASSWORD), "shop")

    assert (point.complete, committed.complete) == (False, False)
    assert [item["message"] for item in description(scene, committed)["missing"]] == ["not captured: the hook failed"]
    assert "partial, 1 missing" in commit.report(committed)


def test_nodes_that_may_not_be_listed_are_left_out(scene: Scene) -> None:
    """They help a reader; a backup needs no right to them."""
    scene.cluster.fail(AccessDenied("not yours"), verb="list", kind="nodes")
    committed = write(scene, scene.begin())

    assert committed.complete


def test_the_same_run_commits_once(scene: Scene) -> None:
    """A task that is tried again finds its point, and tells of it as it is and not as it would be now."""
    begun = scene.begin()
    first = write(scene, begun)
    again = write(scene, begun, discovered=discovered("shop", "bank"))

    assert again.point == first.point
    assert (again.complete, again.missing) == (True, ())
    assert scene.points() == [first.point]


def test_a_run_that_comes_to_more_the_second_time_writes_it_beside(scene: Scene) -> None:
    """A partial point never keeps the complete one of the same run from being written; a second partial one is not written."""
    begun = scene.begin()
    partial = write(scene, begun, discovered=discovered("shop", "bank"))
    same = write(scene, begun, discovered=discovered("shop", "vault"))
    whole = write(scene, begun)

    assert (same.point, same.complete) == (partial.point, False)
    assert [finding.where for finding in same.missing] == ["bank"]
    assert whole.complete
    assert sorted(scene.points()) == sorted([partial.point, whole.point])


def test_packs_and_snapshot_are_locked_as_long_as_the_point_must_live(scene: Scene) -> None:
    """Also the packs that an earlier run had written: nothing that the point needs is unlocked before the point itself."""
    scene.policy = a_policy(target={"url": "s3://backups/p", "password": "env:X", "lock": {"mode": "compliance", "days": 14}})
    point = write(scene, scene.begin()).point
    keys = [info.key for prefix in (Layout.DATA, Layout.INDEX, Layout.KEYS, Layout.CONFIG) for info in scene.store.list(prefix)]
    until = scene.store.head(Layout.snapshot(point)).retain_until

    assert until == NOON + days(16), "the policy's days, and a slack that spares the next runs"
    assert all(scene.store.head(key).retain_until >= until for key in keys)


# What is refused: nothing becomes visible.


def test_a_pack_that_is_gone_is_noticed(scene: Scene) -> None:
    """The error names it, and what to do."""
    begun = scene.begin()
    result = a_result(scene, DATA)
    pack, *_ = [info.key for info in scene.store.list(Layout.DATA)]
    rest = {"cuts": [a_cut(scene, "shop", DATA)], "results": [result]}
    scene.store.delete(pack)
    with pytest.raises(Damaged) as caught:
        write(scene, begun, **rest)

    assert pack.rpartition("/")[2] in caught.value.where + caught.value.message
    assert caught.value.hint
    assert scene.points() == []


def test_a_run_that_lost_its_lease_shows_nothing(scene: Scene) -> None:
    """Whoever has it now is not disturbed."""
    begun = scene.begin()
    scene.clock.advance(run.LEASE_SECONDS + 1)
    other = scene.begin("another run")
    with pytest.raises(LeaseLost):
        write(scene, begun)
    held = lease.read(scene.store)

    assert scene.points() == []
    assert held is not None
    assert (held.run, held.epoch) == (other.run, other.epoch)


class Slow(Wrapper):
    """A store that takes a quarter of an hour for each pack of a commit, or for its snapshot."""

    def __init__(self, scene: Scene, prefix: str) -> None:
        super().__init__(scene.store)
        self._scene = scene
        self._prefix = prefix

    def put(self, key: str, body: Any, **rest: Any) -> Any:
        """Take long over what begins with the prefix."""
        if key.startswith(self._prefix):
            self._scene.clock.advance(run.LEASE_SECONDS)
        return self._store.put(key, body, **rest)


def test_a_run_that_sleeps_while_it_commits_shows_nothing(scene: Scene) -> None:
    """The lease is asked for again right before the one object, with time to spare."""
    begun = scene.begin()
    scene.changes = {"store": Slow(scene, Layout.DATA)}
    rest = {"ports": scene.ports}
    with pytest.raises(LeaseLost):
        write(scene, begun, **rest)

    assert scene.points() == []


def test_a_run_that_loses_its_lease_over_the_last_object_withdraws_it(scene: Scene) -> None:
    """Nobody sees it any more, and the note that it does not count stays."""
    begun = scene.begin()
    scene.changes = {"store": Slow(scene, Layout.SNAPSHOTS)}
    with pytest.raises(LeaseLost, match="was withdrawn"):
        write(scene, begun, ports=scene.ports)

    assert scene.points() == []
    assert len(intents.withdrawn(scene.store)) == 1


def test_a_run_that_loses_its_lease_over_a_point_that_the_next_run_has_counted_leaves_it(scene: Scene) -> None:
    """What was decided first holds: retention may rest on it already."""
    begun = scene.begin()

    class Overtaken(Wrapper):
        def put(self, key: str, body: Any, **rest: Any) -> Any:
            etag = self._store.put(key, body, **rest)
            if key.startswith(Layout.SNAPSHOTS):
                scene.clock.advance(run.LEASE_SECONDS + 1)
                scene.begin("another run")
                intents.settle(scene.store, alive=lambda: None)
            return etag

    scene.changes = {"store": Overtaken(scene.store)}
    committed = write(scene, begun, ports=scene.ports)

    assert scene.points() == [committed.point]
    assert not intents.withdrawn(scene.store)


def test_a_run_whose_packs_were_marked_meanwhile_shows_nothing_and_the_next_brings_them_anew(scene: Scene) -> None:
    """The same run would meet the same tombstone: it is not tried again as it is."""
    begun = scene.begin()
    tree = scene.tree(note=b"marked")
    cut = a_cut(scene, resources_tree=tree)

    class Pruned(Wrapper):
        def put(self, key: str, body: Any, **rest: Any) -> Any:
            if key.startswith(Layout.INTENTS):
                for info in scene.store.list(Layout.DATA):
                    tombstones.mark(scene.store, info.key.rpartition("/")[2], reason="a test", who="prune")
            return self._store.put(key, body, **rest)

    scene.changes = {"store": Pruned(scene.store)}
    with pytest.raises(PreconditionFailed, match="marked"):
        write(scene, begun, ports=scene.ports, cuts=[cut])
    scene.changes = {}
    hidden = scene.points()
    scene.clock.advance(run.LEASE_SECONDS + 1)
    again = scene.begin("another run")
    view = open_repository(scene.store, PASSWORD).avoiding(tombstones.marked(scene.store))
    with Writer(view) as writer:
        builder = TreeBuilder(mtime=NOON)
        builder.add_bytes("note", b"marked")
        builder.write(writer)
    committed = write(scene, again, cuts=[cut])

    assert hidden == []
    assert scene.points() == [committed.point]


def test_another_repository_at_the_place_gets_nothing(scene: Scene) -> None:
    """The run began with another one."""
    begun = replace(scene.begin(), repository="f" * 64)

    with pytest.raises(OtherRepository):
        write(scene, begun)
    assert scene.points() == []


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("store-full: s3://b: the bucket is full", StoreFull),
        ("mover-failed: the mover left no result: store-full: s3://b: full", StoreFull),
        ("store-read-only: s3://b: no", StoreReadOnly),
        ("access-denied: s3://b: refused", AccessDenied),
        ("wrong-password: s3://b: no key opens", WrongPassword),
        ("lease-lost: s3://b: another run", LeaseLost),
    ],
)
def test_a_target_that_a_mover_could_not_write_to_is_no_fault_of_one_volume(scene: Scene, said: str, wanted: type[BecalmError]) -> None:
    """Nothing becomes visible, though the objects and the other volume are there; the error names volume, cause and remedy."""
    cuts = [a_cut(scene, "shop", DATA, MORE)]
    results = [a_result(scene, DATA), a_result(scene, MORE, error=said)]
    with pytest.raises(wanted, match="s3://b") as caught:
        write(scene, scene.begin(), cuts=cuts, results=results)

    assert caught.value.where == "volumes/shop/more"
    assert caught.value.hint
    assert scene.points() == []


def test_a_mover_that_fails_for_itself_costs_its_volume_alone(scene: Scene) -> None:
    """A word in its error that looks like a code is not one."""
    results = [a_result(scene, error="mover-failed: it died over the file store-full of the volume")]
    committed = write(scene, scene.begin(), results=results)

    assert (committed.complete, committed.volumes, committed.objects) == (False, 0, 1)


def test_nothing_captured_is_no_recovery_point(scene: Scene) -> None:
    """The reasons are told."""
    cuts = [a_cut(scene, "shop", objects=0, errors=(DATA,))]
    with pytest.raises(CutFailed, match="the storage refused") as caught:
        write(scene, scene.begin(), cuts=cuts, exports=[], results=[])

    assert caught.value.hint
    assert scene.points() == []


def test_a_skipped_volume_is_not_missed(scene: Scene) -> None:
    """The policy says so."""
    cut = a_cut(scene, "shop", DATA)
    skipped = replace(cut.volumes[0], plan=VolumePlan(volume=MORE, use=VolumeUse.SKIP))
    cuts = [replace(cut, volumes=(*cut.volumes, skipped))]

    assert gaps(scene, cuts=cuts) == []
