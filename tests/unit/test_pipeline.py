"""The whole procedure in one process: whatever happens after `begin`, all is thawed, what is temporary goes, the lease is let go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.run_scenes import Scene

from becalm.actions import pipeline, prune, run
from becalm.actions.handover import Ports
from becalm.errors import (
    AccessDenied,
    HookFailed,
    HookMissing,
    LeaseHeld,
    LeaseLost,
    MoverFailed,
    NothingSelected,
    StoreFull,
    StoreUnavailable,
)
from becalm.kube.base import LABEL_RUN
from becalm.model import Consistency, MoverResult, MoverSpec, VolumeRef
from becalm.repository import lease
from becalm.repository.crypto import Kdf
from becalm.repository.reader import init_repository, open_repository
from becalm.repository.snapshots import snapshot_ids
from becalm.repository.tree import TreeBuilder, lookup
from becalm.repository.writer import Writer
from becalm.storage.wrappers import Wrapper
from becalm.testing.builders import a_policy, days
from becalm.testing.capture_scenes import PASSWORD, Stage
from becalm.testing.fake_mover import FakeMover
from becalm.testing.faulty_store import Crash
from becalm.testing.objects import a_claim, a_config_map, a_namespace, a_volume


class Show:
    """A stage with movers that write one file each, and what a run leaves of it."""

    def __init__(self, folder: Path, **rest: Any) -> None:
        self.stage = Stage(folder, **rest)
        self.stage.cluster.put(a_config_map("settings"))
        init_repository(self.stage.store, PASSWORD, kdf=Kdf(n=2**10, r=1, p=1))
        self.movers = FakeMover(self.stage.store, answer=self.moved)
        self.stage.cluster.on_write("persistentvolumeclaims", self._bind)

    def _bind(self, claim: Any) -> None:
        claim["status"] = {"phase": "Bound", "capacity": {"storage": "1Gi"}}
        claim["spec"]["volumeName"] = f"pv-{claim['metadata']['name']}"
        self.stage.cluster.put(claim)

    def moved(self, spec: MoverSpec) -> MoverResult:
        """Answer as a mover that has written one file."""
        with Writer(open_repository(self.stage.store, PASSWORD)) as writer:
            builder = TreeBuilder()
            builder.add_bytes("file", str(spec.volume).encode())
            tree = builder.write(writer)
            writer.flush()
        return MoverResult(name=spec.name, run=spec.run, volume=spec.volume, tree=tree, files=1, bytes_total=9, bytes_added=9)

    def ports(self, **rest: Any) -> Ports:
        """Return the stage's ports with these movers."""
        return replace(self.stage.ports, **({"movers": self.movers} | rest))

    def protect(self, run_id: str = "a run", **rest: Any) -> pipeline.Outcome:
        """Make a recovery point."""
        return pipeline.protect(self.stage.policy, run_id=run_id, ports=self.ports(**rest))

    def points(self) -> list[str]:
        """Return what is visible."""
        return snapshot_ids(open_repository(self.stage.store, PASSWORD))

    def is_clean(self) -> bool:
        """Say whether nobody is frozen, nothing temporary is left, and the lease is free."""
        held = lease.read(self.stage.store)
        kinds = ("volumesnapshots", "volumesnapshotcontents", "persistentvolumeclaims", "pods", "secrets")
        left = [item for kind in kinds for item in self.stage.cluster.all(kind) if LABEL_RUN in item["metadata"].get("labels", {})]
        return self.stage.frozen() == [] and left == [] and (held is None or held.released)


@pytest.fixture
def show(tmp_path: Path) -> Show:
    return Show(tmp_path)


def test_a_run_makes_a_verified_point_and_leaves_nothing(show: Show) -> None:
    """Application-consistent, with its objects and its volume."""
    said: list[str] = []
    outcome = show.protect(progress=lambda message, **_: said.append(message.partition(":")[0]))
    repository = open_repository(show.stage.store, PASSWORD)

    assert outcome.verdict is not None
    assert outcome.verdict.ok
    assert outcome.committed is not None
    assert (outcome.committed.consistency, outcome.committed.volumes) == (Consistency.APPLICATION, 1)
    assert lookup(repository, outcome.committed.tree, "volumes/shop/db-0/file").size == 9
    assert show.is_clean()
    assert list(dict.fromkeys(word for word in said if " " not in word and "/" not in word)) == [
        "discover", "quiesce", "snapshot", "export", "upload", "commit", "prune", "finish",
    ]  # fmt: skip


def test_a_slot_that_is_answered_makes_nothing(show: Show) -> None:
    """And says why."""
    slot = show.stage.clock.now()
    first = pipeline.protect(show.stage.policy, run_id="one", ports=show.ports(), slot=slot)
    second = pipeline.protect(show.stage.policy, run_id="two", ports=show.ports(), slot=slot)

    assert first.committed is not None
    assert (second.verdict, second.committed) == (None, None)
    assert first.committed.point[:8] in second.begun.skipped
    assert len(show.points()) == 1


def test_an_error_of_the_only_application_is_the_error_of_the_run(tmp_path: Path) -> None:
    """Not a remark about it."""
    show = Show(tmp_path, on_failure="fail", codes={"db-0": 3})
    with pytest.raises(HookFailed, match="exit code 3") as caught:
        show.protect()

    assert (caught.value.where, bool(caught.value.hint)) == ("shop", True)
    assert show.points() == []
    assert show.is_clean()


def test_of_several_that_all_fail_the_gravest_is_raised_and_the_others_are_noted(tmp_path: Path) -> None:
    """One that trying again does not mend comes before one that may pass."""
    show = Show(tmp_path, codes={"db-0": 3})
    hook = {"select": {"labels": "app=vault", "namespaces": ["bank"]}, "command": {"freeze": ["true"], "thaw": ["true"]}}
    quiesce = {"annotations": ["shop"], "onFailure": "fail", "hooks": [hook]}
    show.stage.spec = {"select": {"namespaces": ["shop", "bank"]}, "quiesce": quiesce}
    show.stage.cluster.put(a_namespace("bank"))
    with pytest.raises(HookMissing, match="app=vault") as caught:
        show.protect()

    assert "shop: shop: shop/db-0 (main): the freeze failed with exit code 3" in caught.value.__notes__[0]
    assert show.points() == []
    assert show.is_clean()


def test_one_application_that_fails_makes_the_point_partial(tmp_path: Path) -> None:
    """The other is captured; the point, the verdict and the error say who is missing and why."""
    show = Show(tmp_path, on_failure="fail", codes={"db-0": 3})
    show.stage.spec = {"select": {"namespaces": ["shop", "bank"]}}
    claim = a_claim("vault", "bank")
    show.stage.cluster.put(a_namespace("bank"), claim, a_volume(claim))
    outcome = show.protect()

    assert outcome.committed is not None
    assert outcome.verdict is not None
    (missing,) = outcome.committed.missing
    assert (missing.where, "exit code 3" in missing.message) == ("shop", True)
    assert (outcome.verdict.ok, outcome.verdict.reasons) == (False, (str(missing),))
    assert show.is_clean()


STEPS = ("discover", "quiesce", "snapshot", "export", "upload", "commit", "prune")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("death", [Crash("a signal"), StoreUnavailable("gone", where="s", hint="wait")], ids=["interrupt", "error"])
def test_whatever_ends_a_run_at_any_step_everything_is_undone(show: Show, step: str, death: BaseException) -> None:
    """Nothing is visible before the commit, and the next run need not wait."""

    def progress(message: str, **_: Any) -> None:
        if message.startswith(step):
            raise death

    with pytest.raises(type(death)):
        show.protect(progress=progress)
    visible = len(show.points())
    clean = show.is_clean()
    outcome = show.protect("the next run")

    assert visible == (1 if step == "prune" else 0)
    assert clean
    assert outcome.verdict is not None
    assert outcome.verdict.ok


def test_an_error_after_the_commit_says_that_the_point_is_there(show: Show) -> None:
    """Whoever reads it need not make another one."""
    show.stage.spec = {"retention": {"last": 1}}

    def progress(message: str, **_: Any) -> None:
        if message.startswith("prune"):
            raise StoreUnavailable("gone")

    with pytest.raises(StoreUnavailable) as caught:
        show.protect(progress=progress)

    assert caught.value.__notes__ == [f"recovery point {show.points()[0][:8]} was written"]


def test_what_cleaning_up_does_not_achieve_is_noted_beside_the_error(show: Show) -> None:
    """The first error stays the one that is told."""

    def progress(message: str, **_: Any) -> None:
        if message.startswith("upload"):
            show.stage.cluster.fail(AccessDenied("not yours"), verb="delete")
            raise StoreFull("full", where="s", hint="make room")

    with pytest.raises(StoreFull) as caught:
        show.protect(progress=progress)

    assert any("are left" in note for note in caught.value.__notes__)
    assert "temporary objects" in pipeline.told(caught.value)
    assert show.stage.frozen() == []


def test_a_second_run_at_the_same_time_harms_nothing(show: Show) -> None:
    """It is told to wait; the first goes on."""
    met: list[LeaseHeld] = []

    def progress(message: str, **_: Any) -> None:
        if message.startswith("upload: "):
            with pytest.raises(LeaseHeld) as held:
                show.protect("another run")
            met.append(held.value)

    outcome = show.protect(progress=progress)

    assert len(met) == 1
    assert outcome.verdict is not None
    assert outcome.verdict.ok


def test_a_run_whose_lease_was_taken_over_shows_nothing(show: Show) -> None:
    """And does not let go of the other's lease."""

    def progress(message: str, **_: Any) -> None:
        if message.startswith("commit"):
            held = lease.read(show.stage.store)
            assert held is not None
            lease.release(show.stage.store, run=held.run, epoch=held.epoch)
            lease.take(show.stage.store, policy="shop", run="other", seconds=600)

    with pytest.raises(LeaseLost):
        show.protect(progress=progress)
    held = lease.read(show.stage.store)

    assert show.points() == []
    assert held is not None
    assert (held.run, held.released) == ("other", False)
    assert show.stage.frozen() == []


def test_one_mover_that_fails_costs_its_volume_alone(tmp_path: Path) -> None:
    """The other one and the objects are captured."""
    show = Show(tmp_path, pods=2)
    bad = VolumeRef(namespace="shop", claim="db-1")
    error = MoverFailed("the device is gone")
    show.movers.answer = lambda spec: (
        replace(show.moved(spec), tree="", error=f"{error.code}: {error}") if spec.volume == bad else show.moved(spec)
    )
    outcome = show.protect()

    assert outcome.committed is not None
    assert [finding.where for finding in outcome.committed.missing] == ["volumes/shop/db-1"]
    assert outcome.committed.volumes == 1
    assert show.is_clean()


class Full(Wrapper):
    """A store without room for whatever begins with a prefix."""

    def __init__(self, store: Any, *prefixes: str) -> None:
        super().__init__(store)
        self._prefixes = prefixes

    def put(self, key: str, body: Any, **rest: Any) -> Any:
        """Refuse what begins with a prefix."""
        if key.startswith(self._prefixes):
            raise StoreFull("the store is full", where=key, hint="make room")
        return self._store.put(key, body, **rest)


@pytest.mark.parametrize("prefix", ["data/", "index/", "snapshots/"])
def test_a_store_that_is_full_shows_nothing_and_freezes_nobody(show: Show, prefix: str) -> None:
    """Whichever object it has no room for."""
    with pytest.raises(StoreFull):
        show.protect(store=Full(show.stage.store, prefix))
    clean = show.is_clean()
    outcome = show.protect()

    assert clean
    assert outcome.verdict is not None
    assert outcome.verdict.ok
    assert len(show.points()) == 1


def test_nothing_selected_is_an_error_and_not_an_empty_point(show: Show) -> None:
    """With the lease let go."""
    show.stage.spec = {"select": {"namespaces": ["nowhere"]}}

    with pytest.raises(NothingSelected):
        show.protect()
    assert show.points() == []
    assert show.is_clean()


# Prune.


def test_prune_forgets_what_no_rule_keeps_and_says_why() -> None:
    """The last good point stays, though a partial one is newer."""
    scene = Scene(policy=a_policy(retention={"last": 1}))
    scene.clock.advance(60)
    old = scene.point(cut=scene.clock.now() - days(3))
    good = scene.point(cut=scene.clock.now() - days(2))
    begun = scene.begin()
    planned = prune.plan(scene.policy, scene.ports)
    before = scene.points()
    pruned = prune.execute(begun, scene.policy, scene.ports)

    assert sorted(before) == sorted([old, good])
    assert {decision.point.id: decision.keep for decision in planned} == {old: False, good: True}
    assert (pruned.forgotten, pruned.kept) == ((old,), 1)
    assert pruned.reasons[good]
    assert scene.points() == [good]


def test_a_policy_without_retention_keeps_everything() -> None:
    """Nothing is deleted that nobody asked to be."""
    scene = Scene()
    scene.point()
    pruned = prune.execute(scene.begin(), scene.policy, scene.ports)

    assert (pruned.kept, pruned.forgotten) == (0, ())
    assert len(scene.points()) == 1


def test_a_run_that_lost_its_lease_prunes_nothing() -> None:
    """Another one is at work."""
    scene = Scene(policy=a_policy(retention={"last": 1}))
    for number in (1, 2):
        scene.point(cut=scene.clock.now() - days(number))
    begun = scene.begin()
    scene.clock.advance(run.LEASE_SECONDS + 1)
    scene.begin("another run")

    with pytest.raises(LeaseLost):
        prune.execute(begun, scene.policy, scene.ports)
    assert len(scene.points()) == 2
