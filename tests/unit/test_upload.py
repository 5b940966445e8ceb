"""Upload: one mover per volume, side by side; whatever becomes of one is an answer, and the lease lasts as long as they work."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.run_scenes import DATA, MORE, Scene, an_export

from becalm.actions import run, upload
from becalm.actions.handover import Begun, Settings
from becalm.errors import AlreadyExists, ClusterUnavailable, LeaseLost, MoverFailed, OtherRepository, PermanentError
from becalm.kube.base import MoverState, MoverStatus
from becalm.model import Direction, MoverResult, MoverSpec, VolumeRef
from becalm.repository import lease
from becalm.repository.format import Layout, SnapshotDoc
from becalm.repository.reader import open_repository
from becalm.repository.snapshots import save_snapshot
from becalm.repository.tree import lookup
from becalm.testing.builders import a_policy
from becalm.testing.fake_mover import FakeMover
from becalm.testing.saved_points import PASSWORD

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,60}[a-z0-9])?", fullmatch=True)
VOLUMES = st.builds(VolumeRef, namespace=NAMES, claim=NAMES)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def specs_of(scene: Scene, begun: Begun, *volumes: VolumeRef) -> list[MoverSpec]:
    return upload.prepare([an_export(volume) for volume in volumes], begun, scene.policy, scene.ports)


# The plan.


@given(VOLUMES, VOLUMES, NAMES, NAMES)
def test_names_are_unique_by_volume_and_by_what_is_read_and_fit_a_pod(one: VolumeRef, other: VolumeRef, claim: str, second: str) -> None:
    """Also where long names begin alike."""
    name = upload.mover_name("0a1b2c3d4e", one, claim)
    same = (one, claim) == (other, second)

    assert (upload.mover_name("0a1b2c3d4e", other, second) == name) is same
    assert upload.mover_name("ffffffffff", one, claim) != name
    assert len(name) <= 63
    assert Layout.run_result("0a1b2c3d4e", name)


def test_a_plan_is_stable_and_leaves_out_what_cannot_be_read(scene: Scene) -> None:
    """It names secrets and holds none; the lock of the policy goes with it."""
    scene.policy = a_policy(target={"url": "s3://backups/p", "password": "env:X", "lock": {"mode": "compliance", "days": 14}})
    begun = scene.begin()
    exports = [an_export(DATA), an_export(MORE, error="never bound")]
    plans = [upload.plan(exports, begun, scene.policy, parents={DATA: "f" * 64}) for _ in range(2)]
    (spec,) = plans[0]

    assert plans[0] == plans[1]
    assert (spec.direction, spec.volume, spec.namespace, spec.claim) == (Direction.BACK_UP, DATA, "becalm", "export-data")
    assert (spec.repository, spec.epoch, spec.parent, spec.lock_days) == ("s3://backups/p/shop", 1, "f" * 64, 14)


def test_a_second_try_that_cut_anew_never_takes_up_the_mover_of_the_first_cut(scene: Scene) -> None:
    """Objects and volumes are of the same instant."""
    begun = scene.begin()
    first, second = (upload.plan([an_export(claim=claim)], begun, scene.policy, parents={})[0] for claim in ("export-1", "export-2"))

    assert first.name != second.name


def test_the_parent_of_a_volume_is_its_tree_in_the_parent_point(scene: Scene) -> None:
    """A volume that was not there begins anew; the Secret stands in each namespace where movers run."""
    tree = scene.tree(volumes__shop__data__file=b"before")
    repository = open_repository(scene.store, PASSWORD)
    point = save_snapshot(repository, SnapshotDoc(time=scene.clock.now(), tree=tree))
    begun = replace(scene.begin(), parent=point)
    first, second = specs_of(scene, begun, DATA, MORE)

    assert first.parent == lookup(repository, tree, "volumes/shop/data").subtree
    assert second.parent == ""
    assert [item["metadata"]["namespace"] for item in scene.cluster.all("secrets")] == ["becalm"]


def test_another_repository_at_the_place_is_noticed_before_a_mover_starts(scene: Scene) -> None:
    """Its parents would mean nothing."""
    begun = replace(scene.begin(), repository="f" * 64, parent="a" * 64)

    with pytest.raises(OtherRepository):
        specs_of(scene, begun, DATA)


# The movers.


def test_every_mover_runs_once_and_its_result_comes_from_the_bucket(scene: Scene) -> None:
    """Doing it again adopts them."""
    begun = scene.begin()
    specs = specs_of(scene, begun, DATA, MORE)
    results = upload.execute(specs, begun, scene.ports)
    again = upload.execute(specs, begun, scene.ports)

    assert [(result.volume, result.error) for result in results] == [(DATA, ""), (MORE, "")]
    assert again == results
    assert len(scene.movers.started) == 2


def test_a_mover_without_a_result_is_a_named_failure_and_stops_no_other(scene: Scene) -> None:
    """The reason is that of its pod."""
    begun = scene.begin()
    scene.movers.answer = lambda spec: None if spec.volume == DATA else scene.moved(spec)
    failed, fine = upload.execute(specs_of(scene, begun, DATA, MORE), begun, scene.ports)

    assert failed.error == "mover-failed: the mover left no result: OOMKilled"
    assert (failed.volume, failed.tree) == (DATA, "")
    assert fine.error == ""


def test_a_result_that_cannot_be_read_is_a_named_failure(scene: Scene) -> None:
    """Nobody guesses what it meant."""
    begun = scene.begin()
    (spec,) = specs_of(scene, begun, DATA)
    scene.store.put(Layout.run_result(spec.run, spec.name), b"{")
    (result,) = upload.collect([spec], scene.ports)

    assert "cannot be read" in result.error
    assert result.tree == ""


class Odd(FakeMover):
    """Movers with something wrong; set what."""

    refuses: Any = None
    silent_polls = 0
    last: Any = None

    def start(self, spec: MoverSpec) -> str:
        """Start, or refuse."""
        if self.refuses and spec.volume == DATA:
            raise self.refuses
        return FakeMover.start(self, spec)

    def poll(self, handle: str, *, namespace: str) -> MoverStatus:
        """Answer, or be away."""
        if self.silent_polls:
            self.silent_polls -= 1
            raise ClusterUnavailable("the API server does not answer")
        return FakeMover.poll(self, handle, namespace=namespace)

    def result(self, handle: str, *, namespace: str) -> MoverResult | None:
        """Return the last word, if there is one."""
        spec = next((spec for spec in self.started if spec.name == handle), None)
        return MoverResult(name=handle, run="r", volume=spec.volume, error=self.last) if spec and self.last else None


def odd(scene: Scene, **rest: Any) -> Odd:
    movers = Odd(scene.store, answer=rest.pop("answer", scene.moved))
    for name, value in rest.items():
        setattr(movers, name, value)
    scene.changes |= {"movers": movers}
    return movers


def test_a_mover_that_cannot_be_started_stops_no_other(scene: Scene) -> None:
    """It is named with the reason."""
    odd(scene, refuses=AlreadyExists("a pod of that name stands there"))
    begun = scene.begin()
    failed, fine = upload.execute(specs_of(scene, begun, DATA, MORE), begun, scene.ports)

    assert "already-exists: a pod of that name stands there" in failed.error
    assert fine.error == ""


def test_the_last_word_of_a_mover_says_why_the_bucket_has_no_result(scene: Scene) -> None:
    """A full store takes none."""
    odd(scene, answer=lambda _: None, last="store-full: s3://b: full")
    begun = scene.begin()
    (failed,) = upload.execute(specs_of(scene, begun, DATA), begun, scene.ports)

    assert failed.error == "mover-failed: the mover left no result: store-full: s3://b: full"


def test_a_cluster_that_is_away_for_a_while_stops_no_mover(scene: Scene) -> None:
    """They work on without it; only a long silence ends the run."""
    movers = odd(scene, silent_polls=100)
    begun = scene.begin()
    specs = specs_of(scene, begun, DATA)
    (fine,) = upload.execute(specs, begun, scene.ports)
    movers.silent_polls = 10_000

    assert fine.error == ""
    with pytest.raises(ClusterUnavailable):
        upload.execute(specs, begun, scene.ports)


class Endless(FakeMover):
    """Movers that never end by themselves."""

    def poll(self, handle: str, *, namespace: str) -> MoverStatus:
        """Say that it is at work."""
        return MoverStatus(state=MoverState.RUNNING if handle in self.at_work else MoverState.GONE)


def test_the_lease_is_renewed_as_long_as_movers_work_and_the_time_has_an_end(scene: Scene) -> None:
    """An hour is longer than a lease. Then the mover is cancelled and named."""
    movers = Endless(scene.store)
    scene.changes = {"movers": movers, "settings": Settings(cluster_name="test", mover_timeout_seconds=3600)}
    begun = scene.begin()
    (result,) = upload.execute(specs_of(scene, begun, DATA), begun, scene.ports)
    held = lease.read(scene.store)

    assert "not done within 3600 s" in result.error
    assert movers.at_work == {}
    assert held is not None
    assert (held.expires - scene.clock.now()).total_seconds() > run.LEASE_SECONDS - 2 * upload.RENEW_SECONDS


def test_a_lease_that_is_lost_meanwhile_ends_the_upload(scene: Scene) -> None:
    """Another run is at work: this one must not go on."""
    begun = scene.begin()
    specs = specs_of(scene, begun, DATA)
    scene.changes = {"movers": Endless(scene.store)}
    scene.clock.advance(run.LEASE_SECONDS + 1)
    scene.begin("another run")

    with pytest.raises(LeaseLost):
        upload.execute(specs, begun, scene.ports)


def test_nothing_to_run_movers_with_is_said(scene: Scene) -> None:
    """With the remedy."""
    scene.changes = {"movers": None}

    with pytest.raises(PermanentError, match="nothing to run movers with"):
        upload.execute([], scene.begin(), scene.ports)


def test_an_error_of_a_mover_is_handed_on_as_it_is(scene: Scene) -> None:
    """Its result says why nothing was moved."""
    failed = MoverFailed("the device is gone", where="/volume")
    scene.movers.answer = lambda spec: MoverResult(name=spec.name, run=spec.run, volume=spec.volume, error=f"{failed.code}: {failed}")
    begun = scene.begin()
    (result,) = upload.execute(specs_of(scene, begun, DATA), begun, scene.ports)

    assert result.error == "mover-failed: /volume: the device is gone"


class Busy(FakeMover):
    """Movers that are counted while they are at work."""

    most = 0

    def poll(self, handle: str, *, namespace: str) -> MoverStatus:
        """Note how many are at work, and answer."""
        self.most = max(self.most, len(self.at_work))
        status = super().poll(handle, namespace=namespace)
        if status.state is not MoverState.RUNNING:
            self.at_work.pop(handle, None)
        return status


@pytest.mark.parametrize(("limit", "most"), [(1, 1), (4, 4), (8, 8), (100, 20)])
def test_movers_work_side_by_side_up_to_the_limit(scene: Scene, limit: int, most: int) -> None:
    """Twenty volumes: each is moved, and never more at once than the settings allow."""
    begun = scene.begin()
    movers = Busy(scene.store, answer=scene.moved)
    scene.changes = {"movers": movers, "settings": Settings(cluster_name="test", movers_at_once=limit)}
    volumes = [VolumeRef(namespace="shop", claim=f"data-{number:02}") for number in range(20)]
    results = upload.execute(specs_of(scene, begun, *volumes), begun, scene.ports)

    assert movers.most == most
    assert [(result.volume, result.error) for result in results] == [(volume, "") for volume in volumes]
