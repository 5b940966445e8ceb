"""Drills: a recovery point in closed namespaces of its own, looked at, measured and removed; the live application is never touched."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from becalm.actions import discover, drill, drill_record, drill_rooms, reap
from becalm.actions.drill_steps import DrillReport
from becalm.actions.handover import Ports, Settings
from becalm.errors import AlreadyExists, BecalmError, ClusterUnavailable, DrillFailed, NothingSelected, PointMissing
from becalm.kube.base import ExecResult, Kind
from becalm.policy.spec import ProtectionPolicy
from becalm.repository.reader import open_repository
from becalm.testing.builders import a_policy
from becalm.testing.fake_clock import FakeClock
from becalm.testing.fake_cluster import DEFAULT_KINDS, FakeCluster
from becalm.testing.fake_mover import FakeMover
from becalm.testing.manifests import a_claim, a_deployment, a_map, a_namespace, a_secret, a_storage_class, an_object
from becalm.testing.memory_store import MemoryStore
from becalm.testing.saved_points import PASSWORD, save_point

CAMPAIGN = Kind(group="shop.example.org", version="v1", resource="campaigns", kind="Campaign", namespaced=True)
KINDS = (*DEFAULT_KINDS, CAMPAIGN)
CHECKS = [{"select": {"labels": "app=web"}, "command": ["pg_isready", "-q"]}]


def a_service(name: str, **spec: Any) -> dict[str, Any]:
    return an_object("v1", "Service", name, spec={"ports": [{"port": 80, "nodePort": 30080}], **spec})


SHOP = (
    a_namespace(),
    a_map(level="1"),
    a_secret(key="YQ=="),
    a_claim(),
    a_deployment(),
    a_service("front", type="LoadBalancer", externalIPs=["203.0.113.7"], selector={"app": "web"}),
    a_service("elsewhere", type="ExternalName", externalName="db.example.org"),
    an_object("networking.k8s.io/v1", "Ingress", "front", spec={"rules": []}),
    an_object("networking.k8s.io/v1", "NetworkPolicy", "open", spec={"podSelector": {}, "egress": [{}]}),
    an_object("batch/v1", "CronJob", "bill", spec={"schedule": "0 * * * *", "jobTemplate": {"spec": {"template": {"spec": {}}}}}),
    an_object("batch/v1", "Job", "mail", spec={"template": {"spec": {"containers": [{"name": "mail", "image": "mail:1"}]}}}),
    an_object("shop.example.org/v1", "Campaign", "winter", spec={"discount": 3}),
    an_object("rbac.authorization.k8s.io/v1", "ClusterRole", "shop-admin", namespace=None, rules=[]),
)


@dataclass
class Scene:
    """A live application, a recovery point of it, and a cluster whose Deployments get a pod as soon as they are made."""

    objects: tuple[dict[str, Any], ...] = SHOP
    policy: ProtectionPolicy = field(default_factory=lambda: a_policy(drill={"checks": CHECKS}, objectives={"rto": "15m"}))
    ready: bool = True
    store: MemoryStore = field(default_factory=MemoryStore)
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.cluster = FakeCluster(kinds=list(KINDS))
        self.cluster.put(a_storage_class(), *(deepcopy(one) for one in self.objects))
        self.cluster.on_write("deployments", self._run)
        self.cluster.on_write("persistentvolumeclaims", self._provision)
        self.movers = FakeMover(self.store)
        self.point = save_point(self.store, self.objects, kinds=KINDS, volumes={"shop/data": {"db/a": b"1234"}})
        self.before = self.live()

    def _run(self, deployment: dict[str, Any]) -> None:
        """Do as the controllers do: a status, and a pod."""
        place, name = deployment["metadata"]["namespace"], deployment["metadata"]["name"]
        if deployment.get("status") or not self.ready:
            return
        count = deployment["spec"]["replicas"]
        self.cluster.put({**deployment, "status": {"availableReplicas": count, "updatedReplicas": count}})
        pod = an_object("v1", "Pod", f"{name}-1", namespace=place, metadata={"labels": {"app": name}})
        pod["spec"] = deployment["spec"]["template"]["spec"]
        pod["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        self.cluster.put(pod)

    def _provision(self, claim: dict[str, Any]) -> None:
        place = claim["metadata"]["namespace"]
        name = f"pv-{place}"
        if any(volume["metadata"]["name"] == name for volume in self.cluster.all("persistentvolumes")):
            return
        spec = {
            "csi": {"driver": "disk.example.org", "volumeHandle": f"disk-{place}"},
            "claimRef": {"namespace": place, "name": claim["metadata"]["name"]},
            "persistentVolumeReclaimPolicy": "Retain",
        }
        self.cluster.put(an_object("v1", "PersistentVolume", name, namespace=None, spec=spec))

    def reclaim(self) -> None:
        """Do as the storage does: a volume whose claim is gone and that is to be deleted goes."""
        there = {one["metadata"]["name"] for one in self.cluster.all("namespaces")}
        for volume in self.cluster.all("persistentvolumes"):
            spec = volume["spec"]
            if spec["claimRef"]["namespace"] not in there and spec["persistentVolumeReclaimPolicy"] == "Delete":
                self.cluster.remove("persistentvolumes", volume["metadata"]["name"])

    @property
    def ports(self) -> Ports:
        """The outer world. Time passes only while somebody waits; the storage works meanwhile."""
        settings = Settings(cluster_name="test", store_environment={"AWS_ACCESS_KEY_ID": "k"})
        return Ports(cluster=self.cluster, store=self.store, password=PASSWORD, clock=Working(self), settings=settings, movers=self.movers)

    def run(self, **asked: Any) -> DrillReport:
        """Drill once."""
        return drill.run(self.policy, self.ports, run_id="by-hand", **asked)

    def live(self) -> dict[str, list[dict[str, Any]]]:
        """Everything that stands in the application's own namespace, and its namespace."""
        return {
            kind.resource: [
                one
                for one in self.cluster.all(kind.resource, kind.group)
                if one["metadata"].get("namespace") == "shop" or one["metadata"]["name"] == "shop"
            ]
            for kind in KINDS
        }

    def rooms(self) -> list[dict[str, Any]]:
        """The namespaces of drills."""
        return [one for one in self.cluster.all("namespaces") if "becalm.dev/drill" in (one["metadata"].get("labels") or {})]

    def in_room(self, resource: str) -> dict[str, dict[str, Any]]:
        """What stands in a drill's namespace, by name."""
        return {one["metadata"]["name"]: one for one in self.cluster.all(resource) if one["metadata"]["namespace"].startswith("drill-")}


@dataclass
class Working:
    """The scene's clock: the storage works while somebody sleeps."""

    scene: Scene

    def now(self) -> Any:
        """Say the scene's time."""
        return self.scene.clock.now()

    def monotonic(self) -> float:
        """Say the scene's steady time."""
        return self.scene.clock.monotonic()

    def sleep(self, seconds: float) -> None:
        """Let the storage work, and pass the time."""
        self.scene.reclaim()
        self.scene.clock.sleep(seconds)


def test_a_drill_proves_a_point_and_leaves_nothing() -> None:
    """Objects and volume are compared, the check ran in the restored pod, the time is measured, and no namespace or volume is left."""
    scene = Scene()
    report = scene.run()

    assert report.ok, report.failures
    assert (report.point, report.volumes) == (scene.point.id, 1)
    assert [(check.name, check.ok) for check in report.checks] == [("spec.drill.checks.0", True)]
    assert report.checks[0].where.startswith("drill-shop-")
    assert report.recovery_seconds is not None
    assert report.recovery_seconds <= 900
    assert scene.rooms() == []
    assert scene.cluster.all("persistentvolumes") == []
    assert drill_record.listed(open_repository(scene.store, PASSWORD)) == (report,)


def test_the_live_application_is_never_touched() -> None:
    """Not one object of it is another afterwards, and not one call wrote into its namespace."""
    scene = Scene()
    scene.run()
    written = [call for call in scene.cluster.calls if call.verb not in {"get", "list", "discover", "watch"} and call.namespace == "shop"]

    assert scene.live() == scene.before
    assert written == []


def test_what_stands_in_a_drill_is_reached_by_nobody_and_starts_nothing() -> None:
    """No load balancer, node port, outer name, ingress, policy of its own, custom resource or cluster-scoped object; jobs are suspended."""
    scene = Scene()
    scene.run(keep=True)
    services = scene.in_room("services")

    assert set(services) == {"front"}
    assert services["front"]["spec"] == {"type": "ClusterIP", "selector": {"app": "web"}, "ports": [{"port": 80}]}
    assert scene.in_room("ingresses") == {}
    assert scene.in_room("campaigns") == {}
    assert set(scene.in_room("networkpolicies")) == {"becalm-drill", "becalm-drill-movers"}
    assert scene.in_room("cronjobs")["bill"]["spec"]["suspend"] is True
    assert scene.in_room("jobs")["mail"]["spec"]["suspend"] is True
    assert len(scene.cluster.all("clusterroles")) == 1


def test_custom_resources_come_along_where_the_policy_names_their_kind() -> None:
    """The author knows that their operator may act on them."""
    scene = Scene(policy=a_policy(drill={"customResources": ["*.example.org"]}))
    scene.run(keep=True)

    assert set(scene.in_room("campaigns")) == {"winter"}


def test_a_namespace_is_closed_before_anything_stands_in_it() -> None:
    """The first thing made in it is the policy that denies everything but the drill itself, and names."""
    scene = Scene()
    scene.run(keep=True)
    made = [call for call in scene.cluster.calls if call.verb == "create" and call.namespace.startswith("drill-")]
    spec = scene.in_room("networkpolicies")["becalm-drill"]["spec"]
    within = {"namespaceSelector": {"matchLabels": {"becalm.dev/drill": drill_id(scene)}}}

    assert (made[0].kind, made[0].name) == ("networkpolicies.networking.k8s.io", "becalm-drill")
    assert (spec["podSelector"], spec["policyTypes"], spec["ingress"]) == ({}, ["Ingress", "Egress"], [{"from": [within]}])
    assert spec["egress"][0] == {"to": [within]}
    assert {port["port"] for port in spec["egress"][1]["ports"]} == {53}


def drill_id(scene: Scene) -> str:
    """The drill that has left a namespace."""
    found: str = scene.rooms()[0]["metadata"]["labels"]["becalm.dev/drill"]
    return found


def test_only_the_movers_of_the_restore_reach_the_bucket() -> None:
    """They are chosen by their run's key, which nothing that was saved can carry."""
    scene = Scene()
    scene.run(keep=True)
    spec = scene.in_room("networkpolicies")["becalm-drill-movers"]["spec"]

    assert spec["podSelector"]["matchLabels"] == {"becalm.dev/run": scene.movers.started[0].run}
    assert spec["policyTypes"] == ["Egress"]


def test_no_policy_selects_the_namespace_of_a_drill() -> None:
    """Not even one that selects all of them."""
    scene = Scene()
    scene.run(keep=True)
    greedy = a_policy(name="all", select={"namespaces": ["*"]})
    found = discover.execute(greedy, scene.ports)

    assert {name for application in found.applications for name in application.namespaces} == {"shop"}
    assert {one.by for one in found.excluded if one.what.startswith("namespaces/drill-")} == {"label becalm.dev/protect"}


def test_a_check_that_fails_fails_the_drill_and_everything_goes_all_the_same() -> None:
    """The report names the check, the pod and what it said."""
    scene = Scene()
    scene.cluster.run_command = lambda *_, **__: ExecResult(stdout=b"", stderr=b"no response", exit_code=2)
    report = scene.run()

    assert not report.ok
    assert [str(one) for one in report.failures if "spec.drill.checks.0" in one.where and "no response" in one.message]
    assert scene.rooms() == []
    with pytest.raises(DrillFailed, match="no response"):
        drill.demand(report)


def test_a_check_that_meets_no_pod_fails() -> None:
    """A selector that means nothing proves nothing."""
    scene = Scene(policy=a_policy(drill={"checks": [{"select": {"labels": "app=nobody"}, "command": ["true"]}]}))

    assert any("no running pod" in one.message for one in scene.run().failures)


def test_what_does_not_become_ready_is_named_after_its_time() -> None:
    """The drill waits as long as the policy says, and no longer."""
    scene = Scene(policy=a_policy(drill={"ready": "2m"}), ready=False)
    began = scene.clock.monotonic()
    report = scene.run()

    assert [one.where.partition("/")[0] for one in report.failures] == ["deployments.apps"]
    assert "0 of 2 pods are ready" in report.failures[0].message
    assert 120 <= scene.clock.monotonic() - began < 200


def test_a_recovery_that_takes_longer_than_the_objective_fails() -> None:
    """The application runs, and too late."""
    scene = Scene(policy=a_policy(drill={"checks": CHECKS}, objectives={"rto": "10s"}))

    def slow(*_: object, **__: object) -> ExecResult:
        scene.clock.sleep(60)
        return ExecResult(stdout=b"", stderr=b"", exit_code=0)

    scene.cluster.run_command = slow
    report = scene.run()

    assert [one.where for one in report.failures] == ["spec.objectives.rto"]
    assert report.recovery_seconds is not None
    assert report.recovery_seconds >= 60


def test_a_volume_that_was_not_filled_fails_the_drill() -> None:
    """The mover's reason stands in the report."""
    scene = Scene()
    scene.movers.answer = lambda _: None
    report = scene.run()

    assert any("OOMKilled" in one.message for one in report.failures)
    assert scene.rooms() == []


def test_a_cluster_that_goes_away_in_the_middle_is_a_failed_drill() -> None:
    """And what was made goes as soon as it answers again."""
    scene = Scene()
    scene.cluster.fail(ClusterUnavailable("no answer"), verb="create", kind="secrets", times=1)
    report = scene.run()

    assert not report.ok
    assert any("no answer" in one.message for one in report.failures)
    assert scene.rooms() == []


def test_a_namespace_that_somebody_deletes_in_the_middle_harms_nobody() -> None:
    """The drill fails; the live application is as it was."""
    scene = Scene()

    def vandal(deployment: dict[str, Any]) -> None:
        scene.cluster.delete(scene.cluster.kind("namespaces"), deployment["metadata"]["namespace"])

    scene.cluster.on_write("deployments", vandal)
    report = scene.run()

    assert not report.ok
    assert scene.live() == scene.before
    assert scene.rooms() == []


def test_storage_that_is_shared_with_the_live_application_is_never_deleted() -> None:
    """A driver that hands out the same disk twice: the drill fails, and its volume is told to let the data stay."""
    scene = Scene()
    spec = {"csi": {"driver": "disk.example.org", "volumeHandle": "disk-live"}, "claimRef": {"namespace": "shop", "name": "data"}}
    scene.cluster.put(an_object("v1", "PersistentVolume", "pv-live", namespace=None, spec=spec))

    def twice(volume_of: dict[str, Any]) -> None:
        place = volume_of["metadata"]["namespace"]
        for volume in scene.cluster.all("persistentvolumes"):
            if volume["spec"]["claimRef"]["namespace"] == place and place != "shop":
                volume["spec"]["csi"]["volumeHandle"] = "disk-live"
                volume["spec"]["persistentVolumeReclaimPolicy"] = "Delete"
                scene.cluster.put(volume)

    scene.cluster.on_write("deployments", twice)
    report = scene.run()
    (left,) = [one for one in scene.cluster.all("persistentvolumes") if one["metadata"]["name"] != "pv-live"]

    assert any("shares its storage with pv-live" in one.message for one in report.failures)
    assert left["spec"]["persistentVolumeReclaimPolicy"] == "Retain"


def test_a_namespace_of_that_name_that_is_not_the_drills_is_left_alone() -> None:
    """Nothing is put into it, and it is not removed."""
    scene = Scene()
    decided = drill.begin(scene.policy, scene.ports, run_id="by-hand")
    name = decided.rooms["shop"]
    scene.cluster.remove("namespaces", name)
    scene.cluster.put(a_namespace(name))

    with pytest.raises(AlreadyExists, match="not of this drill"):
        scene.run()

    assert name in {one["metadata"]["name"] for one in scene.cluster.all("namespaces")}
    assert scene.in_room("configmaps") == {}


def test_what_a_failed_drill_restored_stays_where_the_policy_says_so() -> None:
    """For a day, and then the reaper takes it; one that succeeded leaves nothing."""
    scene = Scene(policy=a_policy(drill={"checks": CHECKS, "keep": "on-failure"}))
    assert scene.run().kept == ()
    scene.cluster.run_command = lambda *_, **__: ExecResult(stdout=b"", stderr=b"", exit_code=1)
    report = drill.run(scene.policy, scene.ports, run_id="again")
    now = scene.store.now()

    assert len(report.kept) == len(scene.rooms()) == 1
    assert drill_rooms.dead("shop", scene.ports, now=now + timedelta(hours=23)) == ()
    assert [dead.namespaces for dead in drill_rooms.dead("shop", scene.ports, now=now + timedelta(hours=25))] == [report.kept]


def test_the_reaper_removes_what_a_drill_that_was_killed_has_left() -> None:
    """Not while it may still be at work; and nothing but its namespaces."""
    scene = Scene()
    drill.begin(scene.policy, scene.ports, run_id="killed")
    assert reap.plan(scene.policy, scene.ports).drills == ()
    dead = drill_rooms.dead("shop", scene.ports, now=scene.store.now() + timedelta(hours=2))
    done = reap.execute(reap.Plan(policy="shop", drills=dead), scene.policy, scene.ports)

    assert len(dead) == 1
    assert done.drills == (dead[0].id,)
    assert scene.rooms() == []
    assert scene.live() == scene.before


def test_the_same_drill_is_taken_up_where_it_was_left() -> None:
    """Each step may run twice: nothing is made a second time, and there is one entry in the ledger."""
    scene = Scene()
    decided = drill.begin(scene.policy, scene.ports, run_id="by-hand")
    again = drill.begin(scene.policy, scene.ports, run_id="by-hand")
    first, second = (drill.restore_point(decided, scene.ports) for _ in range(2))
    checked = drill.look(decided, scene.ports)
    done = drill.finish(decided, first, checked, scene.ports)
    drill.finish(decided, first, checked, scene.ports)

    assert again.id == decided.id
    assert (first.failures, second.failures) == ((), ())
    assert len(scene.movers.started) == 1
    assert done.ok
    assert len(list(scene.store.list("becalm/ledger/"))) == 1


def test_a_drill_that_cannot_begin_leaves_nothing() -> None:
    """No point, or nothing in it that stands in a namespace."""
    scene = Scene()
    with pytest.raises(PointMissing):
        scene.run(point="2020-01-01")
    empty = Scene(objects=(an_object("rbac.authorization.k8s.io/v1", "ClusterRole", "a", namespace=None, rules=[]),))
    nothing = replace_volumes(empty)
    with pytest.raises(NothingSelected):
        drill.plan(scene.policy, nothing, (), run_id="x", repository="s3://b/shop", now=scene.clock.now())

    assert scene.rooms() == []


def replace_volumes(scene: Scene) -> Any:
    """The point of a scene, as the catalog knows it."""
    from becalm.catalog.points import points  # noqa: PLC0415  (only one test needs it)

    return points(open_repository(scene.store, PASSWORD), "shop")[0]


def test_a_drill_that_fails_while_its_namespaces_are_made_takes_them_back() -> None:
    """The one that was made goes; the error is the one that happened."""
    scene = Scene()
    scene.cluster.fail(BecalmError("full"), verb="create", kind="networkpolicies.networking.k8s.io")

    with pytest.raises(BecalmError, match="full"):
        scene.run()
    assert scene.rooms() == []


def test_the_names_of_a_drills_namespaces_fit_and_never_meet() -> None:
    """The longest name of a policy and many namespaces: each has its own, of at most 63 characters."""
    names = drill_rooms.names("p" * 40, "0123456789", [f"ns-{number}" for number in range(100)])

    assert len(set(names.values())) == 100
    assert max(map(len, names.values())) <= 63


def test_a_report_says_when_a_drill_did_not_come_so_far() -> None:
    """A run that ended after its beginning is no success."""
    scene = Scene()
    decided = drill.begin(scene.policy, scene.ports, run_id="by-hand")
    early = drill.report(decided, None, None, now=scene.clock.now())
    restored = drill.restore_point(decided, scene.ports)
    half = drill.report(decided, restored, None, now=scene.clock.now())
    late = drill.report(decided, restored, None, now=decided.ends + timedelta(seconds=1))

    assert [one.message for one in early.failures] == ["the restore did not come to its end"]
    assert [one.message for one in half.failures] == ["nothing was checked"]
    assert [one.where for one in late.failures] == ["drill", "spec.drill.timeout"]
    assert replace(half, failures=()).recovery_seconds is None
