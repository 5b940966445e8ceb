"""Replacing data in place: stopped, copied, written, started again as it was; and what is left wherever it ends too early."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from becalm.actions import restore, restore_leftovers, restore_safety
from becalm.actions.handover import Ports, Settings
from becalm.actions.restore import RestorePlan, RestoreReport, RestoreRequest, VolumeAction
from becalm.actions.restore_marks import Mark, Stage
from becalm.errors import BecalmError, Conflict, RestoreRefused
from becalm.kube.base import Kind, Verb
from becalm.model import MoverResult, MoverSpec, payload
from becalm.testing.fake_clock import FakeClock
from becalm.testing.fake_cluster import DEFAULT_KINDS, FakeCluster
from becalm.testing.fake_mover import FakeMover, as_asked
from becalm.testing.fake_storage import FakeStorage
from becalm.testing.manifests import a_claim, a_namespace, a_storage_class, an_object
from becalm.testing.memory_store import MemoryStore
from becalm.testing.objects import DRIVER
from becalm.testing.saved_points import PASSWORD, save_point

IN_PLACE = RestoreRequest(policy="shop", volumes=("shop/data",), in_place=True)
FILES = {"shop/data": {"a": b"1234"}}
WRITING = {"create", "update", "merge", "apply", "delete"}


class Killed(BaseException):
    """The process ends here: nothing catches it."""


def a_template(claim: str = "data") -> dict:
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": "web:1"}], "volumes": volumes}}


def a_workload(api: str, kind: str, name: str, **spec: object) -> dict:
    return an_object(api, kind, name, spec={"template": a_template(), **spec})


def a_pod(name: str, owner: dict | None = None, claim: str = "data") -> dict:
    owners = (owner,) if owner else ()
    return an_object("v1", "Pod", name, owners=owners, spec=a_template(claim)["spec"], status={"phase": "Running"})


@dataclass
class Scene:
    """A namespace whose Deployment of three pods mounts a claim, a point that holds the claim's data, and a storage that cuts snapshots."""

    request: RestoreRequest = IN_PLACE
    classes: tuple[str, ...] = ("quick",)
    cluster: FakeCluster = field(default_factory=lambda: FakeCluster(kinds=list(DEFAULT_KINDS)))
    clock: FakeClock = field(default_factory=FakeClock)
    stubborn: bool = False
    """The pods do not go."""

    def __post_init__(self) -> None:
        self.store = MemoryStore(clock=self.clock)
        claim = a_claim()
        volume = an_object("v1", "PersistentVolume", "pvc-data", namespace=None, spec={"csi": {"driver": DRIVER}})
        self.cluster.put(a_storage_class(), a_namespace(), claim, volume)
        for name in self.classes:
            self.cluster.put(an_object("snapshot.storage.k8s.io/v1", "VolumeSnapshotClass", name, namespace=None, driver=DRIVER))
        self.web = a_workload("apps/v1", "Deployment", "web", replicas=3)
        self.set = an_object("apps/v1", "ReplicaSet", "web-1", owners=(self.web,), spec={"replicas": 3})
        self.cluster.put(self.web, self.set)
        self.run_pods(3)
        self.cluster.on_write("deployments", self._follow)
        self.storage = FakeStorage(self.cluster, self.clock)
        self.cluster.on_write("volumesnapshots", self._stamp)
        self.movers = FakeMover(self.store, answer=self._written)
        self.point = save_point(self.store, (a_namespace(), a_claim(), self.web), kinds=DEFAULT_KINDS, volumes=FILES)
        self.seen: list[tuple[int, int]] = []
        """At each mover: the pods that ran, and the copies that were there."""

    def _stamp(self, snapshot: dict) -> None:
        for found in self.cluster.all("volumesnapshots"):
            if "creationTimestamp" not in found["metadata"]:
                self.cluster.put(found | {"metadata": found["metadata"] | {"creationTimestamp": "2026-03-14T12:00:00Z"}})

    def run_pods(self, count: int) -> None:
        """Let so many pods of the Deployment run."""
        for pod in self.cluster.all("pods"):
            self.cluster.remove("pods", pod["metadata"]["name"], "shop")
        self.cluster.put(*(a_pod(f"web-1-{number}", self.set) for number in range(count))) if count else None

    def _follow(self, deployment: dict) -> None:
        if not self.stubborn:
            self.run_pods(deployment["spec"]["replicas"])

    def _written(self, spec: MoverSpec) -> MoverResult | None:
        self.seen.append((len(self.cluster.all("pods")), len(self.cluster.all("volumesnapshots"))))
        return as_asked(spec)

    @property
    def ports(self) -> Ports:
        """The outer world."""
        settings = Settings(cluster_name="test")
        return Ports(cluster=self.cluster, store=self.store, password=PASSWORD, clock=self.clock, settings=settings, movers=self.movers)

    def prepare(self) -> RestorePlan:
        """Make a plan."""
        return restore.prepare(self.request, self.ports)

    def execute(self, plan: RestorePlan | None = None) -> RestoreReport:
        """Carry out a plan, or make one first."""
        return restore.execute(plan or self.prepare(), self.request, self.ports)

    def deployment(self) -> dict:
        """The workload, if there is one."""
        (found,) = self.cluster.all("deployments")
        return found

    def mark(self) -> Mark:
        """What stands on the claim."""
        (found,) = [item for item in self.cluster.all("persistentvolumeclaims") if item["metadata"]["name"] == "data"]
        return Mark.of(found)

    def state(self) -> tuple[int, int, int, Stage, int]:
        """What a person sees at the end: replicas, pods, annotations of ours on the workload, the claim's mark, copies."""
        ours = [key for key in self.deployment()["metadata"].get("annotations", {}) if key.startswith("becalm.dev/before")]
        return (
            self.deployment()["spec"]["replicas"],
            len(self.cluster.all("pods")),
            len(ours),
            self.mark().stage,
            len(self.cluster.all("volumesnapshots")),
        )


WHOLE = (3, 3, 0, Stage.DONE, 1)


def test_the_plan_says_what_is_stopped_and_where_the_old_data_stays() -> None:
    """Nothing is written for it; the workload is named by what can be stopped, not by its pods."""
    scene = Scene()
    plan = scene.prepare()
    (step,) = plan.volumes_to(VolumeAction.REPLACE)

    assert (step.stops, step.snapshot_class) == (("deployments.apps/shop/web",), "quick")
    assert "deployments.apps/shop/web is stopped meanwhile; its old data is kept" in " ".join(map(str, plan.findings))
    assert not [call for call in scene.cluster.calls if call.verb in WRITING]


def test_data_is_replaced_while_nothing_runs_and_a_copy_is_there() -> None:
    """Stopped, copied, written exactly, started again with as many pods as before."""
    scene = Scene()
    report = scene.execute()

    assert report.failures == ()
    assert scene.seen == [(0, 1)]
    assert [(spec.exact, spec.tree) for spec in scene.movers.started] == [(True, scene.point.volumes["shop/data"])]
    assert scene.state() == WHOLE
    assert restore.verify(scene.prepare(), scene.request, scene.ports).ok


def test_a_second_restore_in_place_does_nothing_until_it_is_confirmed() -> None:
    """Then the copy and the mark are gone, and the same point can be restored again."""
    scene = Scene()
    scene.execute()
    again = scene.prepare()
    (step,) = again.volumes
    gone = restore_safety.confirm("shop", scene.ports)

    assert again.changes_nothing
    assert (step.action, "becalm confirm" in step.reason) == (VolumeAction.KEEP, True)
    assert [payload(copy)["volume"] for copy in gone] == [{"namespace": "shop", "claim": "data"}]
    assert (scene.cluster.all("volumesnapshots"), scene.mark().stage) == ([], Stage.NONE)
    assert scene.prepare().volumes_to(VolumeAction.REPLACE)


def test_without_in_place_a_claim_that_is_there_is_never_written() -> None:
    """Only who asks for it gets it."""
    scene = Scene(request=RestoreRequest(policy="shop", volumes=("shop/data",)))
    scene.execute()

    assert scene.movers.started == []
    assert scene.state() == (3, 3, 0, Stage.NONE, 0)


def test_without_a_snapshot_class_it_is_refused_unless_no_copy_is_wanted() -> None:
    """Nobody replaces data that is kept nowhere by mistake."""
    scene = Scene(classes=())
    with pytest.raises(RestoreRefused, match="no snapshot class can copy its old data"):
        scene.execute()
    assert scene.state() == (3, 3, 0, Stage.NONE, 0)

    scene.request = IN_PLACE.model_copy(update={"without_safety_copy": True})
    assert scene.execute().ok
    assert scene.state() == (3, 3, 0, Stage.DONE, 0)


@pytest.mark.parametrize("owner", [None, an_object("apps/v1", "DaemonSet", "agent"), an_object("x.org/v1", "Pool", "p")], ids=str)
def test_what_cannot_be_stopped_is_refused(owner: dict | None) -> None:
    """A pod without a controller, of a DaemonSet, or of a kind that is not known."""
    scene = Scene()
    scene.cluster.put(a_pod("other", owner))

    with pytest.raises(RestoreRefused, match=r"pods/shop/other: mounts the claim, and cannot be stopped"):
        scene.execute()
    assert scene.deployment()["spec"]["replicas"] == 3


def test_a_job_of_a_cronjob_is_suspended_with_it() -> None:
    """The CronJob would make new ones; both go on as they were afterwards."""
    scene = Scene()
    scene.cluster.remove("deployments", "web", "shop")
    scene.run_pods(0)
    cron = a_workload("batch/v1", "CronJob", "nightly", suspend=False)
    job = an_object("batch/v1", "Job", "nightly-1", owners=(cron,), spec={})
    scene.cluster.put(cron, job, a_pod("nightly-1-x", job))
    scene.cluster.on_write("jobs", lambda found: scene.run_pods(0) if found["spec"].get("suspend") else None)
    during: list[bool] = []
    scene.movers.answer = lambda spec: (
        during.extend(one["spec"]["suspend"] for kind in ("cronjobs", "jobs") for one in scene.cluster.all(kind)),
        as_asked(spec),
    )[1]
    plan = scene.prepare()

    assert plan.volumes[0].stops == ("cronjobs.batch/shop/nightly", "jobs.batch/shop/nightly-1")
    assert scene.execute(plan).ok
    assert during == [True, True]
    assert [one["spec"]["suspend"] for kind in ("cronjobs", "jobs") for one in scene.cluster.all(kind)] == [False, False]


def test_pods_that_do_not_go_end_it_on_the_old_data() -> None:
    """Within the time it stays as it was: nothing is copied, nothing written, everything runs."""
    scene = Scene(stubborn=True)
    with pytest.raises(Conflict, match="still mounts it after") as caught:
        scene.execute()

    assert scene.movers.started == []
    assert scene.state() == (3, 3, 0, Stage.NONE, 0)
    assert caught.value.__notes__ == ["shop: the old data is untouched, and what was stopped runs again"]


def test_something_that_starts_it_again_meanwhile_is_noticed() -> None:
    """An operator scales up while the volume is written: it ends with an error, stays half written, and the next one finishes it."""
    scene = Scene()
    polled = scene.movers.poll

    def slow(handle: str, *, namespace: str) -> object:
        if scene.mark().stage is Stage.WRITING and not scene.cluster.all("pods"):
            scene.run_pods(1)
            scene.clock.advance(10)
            scene.movers.at_work[handle] = -5
        return polled(handle, namespace=namespace)

    slow_movers = _Polled(scene.movers, slow)
    with pytest.raises(Conflict, match="web-1-0 mounts it again") as caught:
        restore.execute(scene.prepare(), scene.request, replace(scene.ports, movers=slow_movers))
    assert (scene.mark().stage, scene.deployment()["spec"]["replicas"]) == (Stage.WRITING, 0)
    assert "is half written; deployments.apps/shop/web stays stopped" in caught.value.__notes__[0]
    assert "VolumeSnapshot" in caught.value.__notes__[0]

    scene.run_pods(0)
    assert scene.execute().ok
    assert scene.state() == WHOLE


class _Polled:
    """Movers whose poll is the test's."""

    def __init__(self, movers: FakeMover, poll: Callable[..., object]) -> None:
        self._movers, self.poll = movers, poll

    def __getattr__(self, name: str) -> object:
        return getattr(self._movers, name)


def test_a_mover_that_fails_leaves_it_stopped_and_says_so() -> None:
    """Nothing ever starts on half of each; the copy is named; the same restore again finishes it with the same copy."""
    scene = Scene()
    scene.movers.answer = lambda _: None
    report = scene.execute()
    told = " ".join(map(str, report.failures))

    assert "deployments.apps/shop/web stays stopped until the same restore has been run again" in told
    assert "the old data is in the VolumeSnapshot shop/becalm-before-" in told
    assert scene.state() == (0, 0, 1, Stage.WRITING, 1)
    with pytest.raises(Conflict, match="has not finished"):
        restore_safety.confirm("shop", scene.ports)

    scene.movers.answer = as_asked
    assert scene.execute().ok
    assert scene.state() == WHOLE


class Killing:
    """A cluster and a store that end the process at the n-th call that writes: before it, or after it was done."""

    def __init__(self, cluster: FakeCluster, stop: int, *, after: bool) -> None:
        self.cluster, self.stop, self.after, self.calls = cluster, stop, after, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.cluster, name)

    def _count(self, act: Callable[[], object]) -> object:
        self.calls += 1
        if self.calls == self.stop and not self.after:
            raise Killed
        if self.calls > self.stop:
            raise Killed  # whoever was killed does nothing more
        done = act()
        if self.calls == self.stop:
            raise Killed
        return done

    def apply(self, kind: Kind, manifest: dict, *, verb: Verb, **more: object) -> object:
        """Write, unless the process ends here."""
        return self._count(lambda: self.cluster.apply(kind, manifest, verb=verb, **more))

    def delete(self, kind: Kind, name: str, **more: object) -> object:
        """Delete, unless the process ends here."""
        return self._count(lambda: self.cluster.delete(kind, name, **more))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_call_it_ends_as_an_uninterrupted_one(after: bool) -> None:
    """Whatever was written last: run again, everything runs on the new data, there is one copy, and a third run does nothing."""
    stops = 0
    for stop in range(1, 100):
        scene = Scene()
        killing = Killing(scene.cluster, stop, after=after)
        try:
            restore.execute(scene.prepare(), scene.request, replace(scene.ports, cluster=killing))
        except Killed:
            stops += 1
        else:
            break
        assert not (scene.mark().stage is Stage.WRITING and scene.cluster.all("pods")), f"call {stop}: something runs on half of each"
        report = scene.execute()

        assert report.failures == (), f"call {stop}"
        assert scene.state() == WHOLE, f"call {stop}"
        assert scene.prepare().changes_nothing, f"call {stop}"
        assert [item["metadata"]["name"] for item in scene.cluster.all("secrets")] == []
    assert stops > 8


def test_another_restore_does_not_take_over_from_one_that_lives() -> None:
    """It waits for its end, or until it surely is dead; then it goes on with what that one stopped, and keeps its copy."""
    scene = Scene()
    with pytest.raises(Killed):
        restore.execute(scene.prepare(), scene.request, replace(scene.ports, cluster=Killing(scene.cluster, 5, after=True)))
    assert scene.mark().stage is Stage.WRITING
    scene.request = IN_PLACE.model_copy(update={"parallel": 2})
    with pytest.raises(BecalmError, match="is replacing data here"):
        scene.execute()
    assert scene.deployment()["spec"]["replicas"] == 0

    scene.clock.advance(3600)
    assert scene.execute().ok
    assert scene.state() == WHOLE


def test_a_new_claim_in_the_same_request_is_filled_once() -> None:
    """It says so like the others: the same request again does not replace what it has just filled."""
    scene = Scene()
    scene.cluster.remove("persistentvolumeclaims", "data", "shop")
    scene.run_pods(0)
    report = scene.execute()

    assert report.ok
    assert scene.movers.started[0].exact is False
    assert scene.prepare().changes_nothing


def test_data_that_was_read_again_and_differs_is_a_failure() -> None:
    """With verify_data a second mover reads the volume before anything starts."""
    scene = Scene(request=IN_PLACE.model_copy(update={"verify_data": True}))
    scene.movers.answer = lambda spec: replace(as_asked(spec), error="damaged: other bytes") if spec.compare else as_asked(spec)
    report = scene.execute()

    assert [spec.compare for spec in scene.movers.started] == [False, True]
    assert "what was written is not what the point holds: damaged: other bytes" in str(report.failures[0])
    assert scene.state()[:2] == (0, 0)


def test_a_copy_that_nobody_confirmed_goes_after_a_month_but_never_one_that_is_needed() -> None:
    """The reaper names it; the copy of a claim that is half written is all there is of the old data."""
    scene = Scene()
    scene.execute()
    now = scene.clock.now()
    young = restore_leftovers.dead_restores("shop", scene.ports, now=now)
    scene.clock.advance(3600 * 24 * 5000)
    (old,) = restore_leftovers.dead_restores("shop", scene.ports, now=scene.clock.now())
    restore_leftovers.remove_restore(old, scene.ports)

    assert young == ()
    assert [name.split("/")[:2] for name in old.objects] == [["volumesnapshots.snapshot.storage.k8s.io", "shop"]]
    assert scene.cluster.all("volumesnapshots") == []

    half = Scene()
    half.movers.answer = lambda _: None
    half.execute()
    half.clock.advance(3600 * 24 * 5000)
    assert restore_leftovers.dead_restores("shop", half.ports, now=half.clock.now()) == ()
    assert len(half.cluster.all("volumesnapshots")) == 1
