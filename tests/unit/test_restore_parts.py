"""A restore in parts, as Airflow conducts it: the plan that was shown, the ground, each volume, the rest; and whose turn it is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from becalm.actions import restore, restore_phases, restore_turn
from becalm.actions.handover import Ports, Settings
from becalm.actions.restore import RestoreRequest
from becalm.errors import Damaged, LeaseHeld, MoverFailed, NotFound
from becalm.testing.fake_clock import FakeClock
from becalm.testing.fake_cluster import FakeCluster
from becalm.testing.fake_kinds import DEFAULT_KINDS
from becalm.testing.fake_mover import FakeMover
from becalm.testing.manifests import a_claim, a_deployment, a_map, a_namespace, a_secret, a_storage_class
from becalm.testing.memory_store import MemoryStore
from becalm.testing.saved_points import PASSWORD, save_point

SHOP = (a_namespace(), a_map(level="1"), a_secret(key="YQ=="), a_claim(), a_claim("logs"), a_deployment())
VOLUMES = {"shop/data": {"a": b"1234"}, "shop/logs": {"b": b"5678"}}


@dataclass
class Scene:
    """A recovery point with two volumes, and an empty cluster."""

    request: RestoreRequest = field(default_factory=lambda: RestoreRequest.read({"policy": "shop"}))
    store: MemoryStore = field(default_factory=MemoryStore)
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.cluster = FakeCluster(kinds=list(DEFAULT_KINDS))
        self.cluster.put(a_storage_class(), a_namespace("becalm"))
        self.movers = FakeMover(self.store)
        save_point(self.store, SHOP, kinds=DEFAULT_KINDS, volumes=VOLUMES)

    @property
    def ports(self) -> Ports:
        """The outer world."""
        settings = Settings(cluster_name="test", store_environment={"AWS_ACCESS_KEY_ID": "k"})
        return Ports(cluster=self.cluster, store=self.store, password=PASSWORD, clock=self.clock, settings=settings, movers=self.movers)

    def names(self, resource: str) -> set[str]:
        """The names of what is there."""
        return {one["metadata"]["name"] for one in self.cluster.all(resource)}


def test_the_parts_together_are_the_whole_restore() -> None:
    """Claims first, each volume by itself, the rest last; nothing is filled twice."""
    scene = Scene()
    plan = restore.prepare(scene.request, scene.ports)
    assert restore_phases.lay(plan, scene.request, scene.ports) == ()
    ground = scene.names("persistentvolumeclaims"), scene.names("deployments")
    for target in restore_phases.to_fill(plan):
        restore_phases.fill_one(plan, scene.request, target, scene.ports)
    report = restore.execute(plan, scene.request, scene.ports)

    assert ground == ({"data", "logs"}, set())
    assert report.ok, report.failures
    assert scene.names("deployments") == {"web"}
    assert sorted(spec.claim for spec in scene.movers.started) == ["data", "logs"]
    assert restore.verify(plan, scene.request, scene.ports).ok


def test_a_volume_that_is_not_filled_is_an_error_that_may_go_better() -> None:
    """The next try fills it."""
    scene = Scene()
    plan = restore.prepare(scene.request, scene.ports)
    restore_phases.lay(plan, scene.request, scene.ports)
    good, scene.movers.answer = scene.movers.answer, lambda _: None
    with pytest.raises(MoverFailed, match="OOMKilled"):
        restore_phases.fill_one(plan, scene.request, "shop/data", scene.ports)
    scene.movers.answer = good

    assert restore_phases.fill_one(plan, scene.request, "shop/data", scene.ports).tree


def test_only_what_the_plan_names_is_filled() -> None:
    """Another claim is refused."""
    scene = Scene()
    plan = restore.prepare(scene.request, scene.ports)
    with pytest.raises(NotFound, match="fills no volume shop/other"):
        restore_phases.fill_one(plan, scene.request, "shop/other", scene.ports)


def test_the_plan_that_is_carried_out_is_the_one_that_was_shown() -> None:
    """It is kept sealed under its digest; another one in its place is found out, and one that is over is gone."""
    scene = Scene()
    plan = restore.prepare(scene.request, scene.ports)
    run = restore.restore_run(plan, scene.request)
    digest = restore_phases.keep(plan, scene.request, scene.ports)
    assert restore_phases.kept(run, digest, scene.ports) == plan
    key = next(info.key for info in scene.store.list("becalm/runs/"))
    assert b"secrets" not in scene.store.get(key)
    other = replace(plan, steps=plan.steps[:1])
    restore_phases.keep(other, scene.request, scene.ports)
    forged = next(info.key for info in scene.store.list("becalm/runs/") if info.key != key)
    scene.store.put(key, scene.store.get(forged))

    with pytest.raises(Damaged, match="not the plan that was shown"):
        restore_phases.kept(run, digest, scene.ports)
    restore_phases.forget(run, digest, scene.ports)
    with pytest.raises(NotFound, match="not kept any more"):
        restore_phases.kept(run, digest, scene.ports)


def test_two_restores_into_one_namespace_take_turns() -> None:
    """The second is told who is at work, and takes nothing; when the first gives back, it is its turn."""
    scene = Scene()
    assert restore_turn.take(["shop", "blog"], "first", scene.ports)
    with pytest.raises(LeaseHeld, match="restore first is at work in it"):
        restore_turn.take(["art", "shop"], "second", scene.ports)
    assert restore_turn.take(["art"], "third", scene.ports)
    restore_turn.give(["shop", "blog"], "first", scene.ports)

    assert restore_turn.take(["blog", "shop"], "second", scene.ports)


def test_a_turn_is_renewed_by_who_has_it_and_ends_by_itself() -> None:
    """A restore that died holds nobody up for ever; one that gives back what is not its own changes nothing."""
    scene = Scene()
    assert restore_turn.take(["shop"], "first", scene.ports)
    assert restore_turn.take(["shop"], "first", scene.ports)
    restore_turn.give(["shop"], "stranger", scene.ports)
    lease = scene.cluster.all("leases")[0]
    lease["spec"]["renewTime"] = "2000-01-01T00:00:00.000001Z"
    scene.cluster.put(lease)

    assert restore_turn.take(["shop"], "second", scene.ports)
    assert scene.cluster.all("leases")[0]["spec"]["holderIdentity"] == "second"
    assert timedelta(days=2) > restore_turn.LASTS > timedelta(hours=24)


def test_a_cluster_without_becalms_namespace_says_so() -> None:
    """Nothing can be written there, and the restore goes on without a turn."""
    scene = Scene()
    scene.cluster.remove("namespaces", "becalm")

    assert restore_turn.take(["shop"], "first", scene.ports) is False
