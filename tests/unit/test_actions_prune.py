"""Prune as a run and as a person does it: what goes wrong with reclaiming is told, and the ledger says what went."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from tests.unit.prune_scenes import World
from tests.unit.run_scenes import Scene
from typer.testing import CliRunner

from becalm.actions import prune
from becalm.actions.handover import silent
from becalm.actions.prune import Desk
from becalm.catalog import ledger
from becalm.catalog.pins import pin
from becalm.catalog.points import points
from becalm.cli.app import app
from becalm.errors import LeaseHeld, StoreFull, UsageError
from becalm.repository import lease, reserve
from becalm.repository.format import Layout
from becalm.repository.lockfile import LockDoc
from becalm.repository.prune import Rules
from becalm.repository.reader import init_repository, open_repository
from becalm.storage.directory import DirectoryStore
from becalm.testing.builders import a_policy, days
from becalm.testing.saved_points import CHEAP, PASSWORD

FILES = [{str(number): bytes([number]) * 700} for number in range(3)]
RULES = Rules(yes_really=True)


def a_desk(world: World) -> Desk:
    return Desk(policy="shop", store=world.store, password=PASSWORD, clock=world.clock, progress=silent)


@pytest.fixture
def world() -> World:
    """Three points, a day apart."""
    world = World()
    for files in FILES:
        world.write(files)
        world.days(1)
    return world


def entries(world: World, kind: ledger.EntryKind) -> list[ledger.Entry]:
    return list(ledger.newest(open_repository(world.store, PASSWORD), kind))


def test_by_hand_it_forgets_reclaims_and_lets_go(world: World) -> None:
    """The ledger says what went and why; the next run need not wait."""
    policy = a_policy(retention={"last": 1})
    world.days(3)
    first, _, _ = prune.by_hand(a_desk(world), policy, rules=RULES)
    world.days(8)
    second, done, _ = prune.by_hand(a_desk(world), policy, rules=RULES)
    held = lease.read(world.store)
    (forgotten,) = entries(world, ledger.EntryKind.FORGOTTEN)
    (pruned,) = entries(world, ledger.EntryKind.PRUNED)

    assert (len(first.forgotten), first.kept, first.marked, first.deleted) == (2, 1, 4, 0)
    assert (second.forgotten, second.deleted, len(done.deleted)) == ((), 4, 4)
    assert list(world.content().values()) == [FILES[2]]
    assert {item["point"] for item in forgotten.content["points"]} == set(first.forgotten)
    assert pruned.content["deleted"] == 4
    assert held is not None
    assert held.released


def test_beside_a_run_it_does_nothing(world: World) -> None:
    """The lease is held by one at a time."""
    world.begin()
    with pytest.raises(LeaseHeld):
        prune.by_hand(a_desk(world), None, rules=RULES)


def test_a_full_store_gives_up_its_reserve_and_gets_it_back(world: World) -> None:
    """Every write is refused at first; after it there is room again, and a reserve."""
    policy = a_policy(retention={"last": 1})
    prune.by_hand(a_desk(world), policy, rules=RULES)
    world.days(2)
    prune.by_hand(a_desk(world), policy, rules=RULES)
    world.days(8)
    before = sum(world.store.head(key).size for key in list(world.store.keys()))
    world.store.capacity_bytes = before
    with pytest.raises(StoreFull):
        world.store.put("becalm/more", b"a byte")
    done, _, _ = prune.by_hand(a_desk(world), policy, rules=RULES)

    assert done.deleted == 4
    assert world.store.head(Layout.RESERVE).size == reserve.SMALLEST_BYTES
    assert world.damages() == []


def test_a_full_store_without_a_reserve_says_what_helps(world: World) -> None:
    world.store.capacity_bytes = 0
    with pytest.raises(StoreFull) as caught:
        prune.by_hand(a_desk(world), None, rules=RULES)

    assert "quota" in caught.value.hint


def test_what_hinders_reclaiming_is_a_finding_and_costs_no_run() -> None:
    """Restic is at work; the run's point is good, and it goes on."""
    scene = Scene(policy=a_policy(retention={"last": 1}))
    old = scene.point(cut=scene.clock.now() - days(3))
    scene.point(cut=scene.clock.now() - days(2))
    begun = scene.begin()
    doc = LockDoc(time=scene.clock.now(), exclusive=False, hostname="laptop", username="ann", pid=7)
    open_repository(scene.store, PASSWORD).save_document(Layout.LOCKS, doc.encode())
    pruned = prune.execute(begun, scene.policy, scene.ports)

    assert pruned.forgotten == (old,)
    assert ["ann" in finding.message for finding in pruned.findings] == [True]


def test_a_run_reclaims_once_a_day() -> None:
    """To know what nothing needs, every tree of every point is read."""
    scene = Scene()
    scene.point(cut=scene.clock.now() - days(2))
    before = prune.due(scene.store)
    prune.execute(scene.begin(), scene.policy, scene.ports)
    after = prune.due(scene.store)
    scene.clock.advance(prune.LOOK_EVERY.total_seconds() + 1)

    assert (before, after, prune.due(scene.store)) == (True, False, True)


def test_points_that_a_person_names_go_but_not_the_last_good_nor_a_pinned_nor_a_locked_one(world: World) -> None:
    """Each refusal says why, and then none of those that were named goes."""
    desk = a_desk(world)
    first, second, last = points(open_repository(world.store, PASSWORD), "shop")
    pin(world.store, first.id, now=world.clock.now())
    with pytest.raises(UsageError, match="pinned"):
        prune.forget_named(desk, [second, first])
    with pytest.raises(UsageError, match="last good"):
        prune.forget_named(desk, [second, last])
    world.store.delete(Layout.pin(first.id))
    world.store.retain(Layout.snapshot(first.id), world.clock.now() + timedelta(days=3))
    with pytest.raises(UsageError, match="locked until"):
        prune.forget_named(desk, [second, first])
    kept = list(world.content())
    gone = prune.forget_named(desk, [second])

    assert sorted(kept) == sorted([first.id, second.id, last.id])
    assert gone == (second.id,)
    assert [item["point"] for item in entries(world, ledger.EntryKind.FORGOTTEN)[0].content["points"]] == [second.id]


# At a terminal.


def test_the_command_shows_what_would_go_and_refuses_what_is_reckless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run changes nothing; a short grace period and a wrong share are errors of usage."""
    (tmp_path / "shop").mkdir()
    store = DirectoryStore(tmp_path / "shop")
    init_repository(store, PASSWORD, kdf=CHEAP)
    monkeypatch.setenv("BECALM_PASSWORD", PASSWORD)
    place = ["--target", f"file://{tmp_path}", "--policy", "shop", "--password", "env:BECALM_PASSWORD"]
    dry = CliRunner().invoke(app, ["prune", *place, "--dry-run", "--json"])
    keys = {info.key for info in store.list("")}
    real = CliRunner().invoke(app, ["prune", *place, "--json"])
    short = CliRunner().invoke(app, ["prune", *place, "--grace", "1h"])
    odd = CliRunner().invoke(app, ["prune", *place, "--max-share", "much"])

    assert dry.exit_code == 0
    assert orjson.loads(dry.output)["delete"] == []
    assert not any(key.startswith("becalm/") for key in keys)
    assert orjson.loads(real.output)["pruned"]["deleted"] == 0
    assert isinstance(short.exception, UsageError)
    assert isinstance(odd.exception, UsageError)
