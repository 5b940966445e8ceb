"""Restoring into a cluster that answers for itself: the sandbox always, a real one where KUBECONFIG names one.

An application is made, saved as the server shows it, deleted, restored, and compared.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

import pytest

from becalm.actions import restore
from becalm.actions.handover import Ports, Settings
from becalm.actions.restore import RestoreRequest
from becalm.actions.restore_steps import ACTING
from becalm.clock import SystemClock
from becalm.errors import NotFound
from becalm.kube import connect
from becalm.kube.base import Cluster, Kind, Verb
from becalm.kube.diffing import compare
from becalm.kube.kinds import CLAIM, CRD, NAMESPACE, POD
from becalm.kube.pods import PodMover
from becalm.kube.resources import left_out
from becalm.storage import open_store
from becalm.testing.sandbox import running_sandbox
from becalm.testing.saved_points import PASSWORD, save_point

Manifest = dict
IMAGE = "becalm.dev/busybox:1"


class Recording:
    """A cluster that counts what is written through it."""

    def __init__(self, cluster: Cluster) -> None:
        self.inner, self.writes = cluster, []

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def apply(self, kind: Kind, manifest: Manifest, **more: object) -> Manifest:
        """Write, and remember it; what is only asked or tried is no write."""
        if kind.group != "authorization.k8s.io" and not more.get("dry_run"):
            self.writes.append((str(kind), manifest["metadata"]["name"]))
        return self.inner.apply(kind, manifest, **more)

    def delete(self, kind: Kind, name: str, **more: object) -> bool:
        """Delete, and remember it."""
        self.writes.append((str(kind), name))
        return self.inner.delete(kind, name, **more)


@dataclass
class World:
    """One cluster, one namespace in it, one bucket."""

    cluster: Cluster
    folder: Path
    name: str = field(default_factory=lambda: f"restore-{token_hex(4)}")

    def __post_init__(self) -> None:
        self.group = f"{self.name}.example.org"
        self.url = f"file://{self.folder}/shop"
        self.store = open_store(self.url, {}, create=True)
        self.recording = Recording(self.cluster)

    @property
    def ports(self) -> Ports:
        """The outer world, with every write recorded."""
        settings = Settings(
            cluster_name="test", mover_image=os.environ.get("BECALM_MOVER_IMAGE", "becalm/mover"), mover_timeout_seconds=120
        )
        clock = SystemClock()
        movers = PodMover(self.recording, clock, image=settings.mover_image, policy="shop")
        return Ports(cluster=self.recording, store=self.store, password=PASSWORD, clock=clock, settings=settings, movers=movers)

    def make(self, manifest: Manifest) -> Manifest:
        """Create an object, in this world's namespace where it has one."""
        kind = next(
            one for one in self.cluster.discover().kinds if (one.api_version, one.kind) == (manifest["apiVersion"], manifest["kind"])
        )
        place = {"namespace": self.name} if kind.namespaced else {}
        return self.cluster.apply(kind, {**manifest, "metadata": {**manifest["metadata"], **place}}, verb=Verb.CREATE)

    def kinds(self) -> list[Kind]:
        """Every kind that can be listed and created, in the version that the server prefers."""
        return [kind for kind in self.cluster.discover().kinds if kind.preferred and {"list", "create"} <= kind.verbs]

    def saved(self) -> list[Manifest]:
        """Everything in the namespace, and what it needs from outside."""
        found = [self.cluster.get(NAMESPACE, self.name), self.cluster.get(CRD, f"campaigns.{self.group}")]
        for kind in self.kinds():
            if kind.namespaced:
                found += self.cluster.list(kind, namespace=self.name)
        return found

    def lose(self) -> None:
        """Delete all of it, and wait until it is gone."""
        self.cluster.delete(NAMESPACE, self.name)
        self.cluster.delete(CRD, f"campaigns.{self.group}")
        for kind, name in ((NAMESPACE, self.name), (CRD, f"campaigns.{self.group}")):
            eventually(lambda kind=kind, name=name: is_gone(self.cluster, kind, name))


def is_gone(cluster: Cluster, kind: Kind, name: str, namespace: str | None = None) -> bool:
    """Say whether an object is not there."""
    try:
        cluster.get(kind, name, namespace=namespace)
    except NotFound:
        return True
    return False


def eventually(holds: Callable[[], bool], *, seconds: float = 90) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


@pytest.fixture(scope="session")
def sandbox_kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The way to the small cluster."""
    with running_sandbox(tmp_path_factory.mktemp("sandbox")) as handle:
        yield str(handle.kubeconfig)


@pytest.fixture(scope="session")
def sandbox(sandbox_kubeconfig: str) -> Cluster:
    """The small cluster."""
    return connect(kubeconfig=sandbox_kubeconfig)


@pytest.fixture(scope="session")
def real() -> Cluster:
    """The cluster that KUBECONFIG names; without one the test is skipped."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("no cluster: set KUBECONFIG")
    return connect()


def in_a_namespace_of_its_own(cluster: Cluster, folder: Path) -> Iterator[World]:
    """Make a world; remove what is in it at the end, without waiting."""
    made = World(cluster=cluster, folder=folder)
    yield made
    made.cluster.delete(NAMESPACE, made.name)
    made.cluster.delete(NAMESPACE, f"{made.name}-copy")
    made.cluster.delete(CRD, f"campaigns.{made.group}")


@pytest.fixture(params=["sandbox", pytest.param("real", marks=pytest.mark.cluster)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A world in each cluster."""
    yield from in_a_namespace_of_its_own(request.getfixturevalue(request.param), tmp_path)


@pytest.fixture
def small_world(sandbox: Cluster, tmp_path: Path) -> Iterator[World]:
    """A world in the sandbox, whose movers reach the folders of this machine; the end-to-end tests restore volumes from a bucket."""
    yield from in_a_namespace_of_its_own(sandbox, tmp_path)


def an_application(world: World) -> None:
    """Make an application of many kinds, with owners, a custom resource and addresses that the server chose."""
    group, rbac = world.group, "rbac.authorization.k8s.io"
    world.make({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": world.name, "labels": {"team": "shop"}}})
    names = {"plural": "campaigns", "singular": "campaign", "kind": "Campaign"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema, "subresources": {"status": {}}}
    spec = {"group": group, "names": names, "scope": "Namespaced", "versions": [version]}
    world.make(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"campaigns.{group}"},
            "spec": spec,
        }
    )
    eventually(lambda: any(kind.group == group for kind in world.cluster.discover().kinds))
    pod = {"terminationGracePeriodSeconds": 0, "containers": [{"name": "main", "image": IMAGE, "command": ["sleep", "3600"]}]}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": pod}
    selector = {"matchLabels": {"app": "web"}}
    settings = world.make({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"level": "1"}})
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "settings", "uid": settings["metadata"]["uid"]}
    world.make({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "derived", "ownerReferences": [owner]}, "data": {}})
    campaign = world.make({"apiVersion": f"{group}/v1", "kind": "Campaign", "metadata": {"name": "spring"}, "spec": {"discount": 10}})
    owner = {"apiVersion": f"{group}/v1", "kind": "Campaign", "name": "spring", "uid": campaign["metadata"]["uid"], "controller": True}
    world.make({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls", "ownerReferences": [owner]}, "data": {"key": "YQ=="}})
    for manifest in (
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web"}},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "Role",
            "metadata": {"name": "web"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "web"},
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "web"},
            "subjects": [{"kind": "ServiceAccount", "name": "web", "namespace": world.name}],
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80}]},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "peers"},
            "spec": {"clusterIP": "None", "selector": {"app": "web"}, "ports": [{"port": 80}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": {"replicas": 1, "selector": selector, "template": template},
        },
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": "nightly"},
            "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": {"spec": {**pod, "restartPolicy": "Never"}}}}},
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "web"},
            "spec": {"podSelector": selector, "policyTypes": ["Ingress"]},
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "web"},
            "spec": {"minAvailable": 1, "selector": selector},
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "standard", "resources": {"requests": {"storage": "64Mi"}}},
        },
    ):
        world.make(manifest)
    eventually(lambda: bool(list(world.cluster.list(POD, namespace=world.name))))


def test_a_lost_namespace_comes_back_equal_and_a_second_restore_writes_nothing(world: World) -> None:
    """Every object that nobody makes again is there and says the same; owners have their new uids; the second time there is nothing to do."""
    an_application(world)
    saved = world.saved()
    save_point(world.store, saved, kinds=world.kinds(), volumes={})
    world.lose()
    request = RestoreRequest(policy="shop", objects_only=True)
    plan = restore.prepare(request, world.ports)
    report = restore.execute(plan, request, world.ports)
    verified = restore.verify(plan, request, world.ports)

    assert [str(finding) for finding in (*report.failures, *verified.failures)] == []
    assert report.created == len(world.recording.writes) - report.linked

    live = {(one["kind"], one["metadata"]["name"]): one for one in world.saved()}
    services = {f"{world.name}/web", f"{world.name}/peers"}
    wanted = [one for one in saved if left_out(one, services=services) is None]
    assert {str(change) for one in wanted for change in compare(one, live[one["kind"], one["metadata"]["name"]])} == set()
    uids = {one["metadata"]["uid"] for one in live.values()}
    owners = [owner["uid"] for one in wanted for owner in live[one["kind"], one["metadata"]["name"]]["metadata"].get("ownerReferences", [])]
    assert len(owners) == 2
    assert set(owners) <= uids

    world.recording.writes.clear()
    again = restore.prepare(request, world.ports)
    restore.execute(again, request, world.ports)
    assert world.recording.writes == []
    assert again.changes_nothing


def test_a_copy_beside_the_live_application_leaves_it_alone(world: World) -> None:
    """With a mapping, the same objects come up in another namespace; not one write goes to the old."""
    an_application(world)
    saved = world.saved()
    save_point(world.store, saved, kinds=world.kinds(), volumes={})
    request = RestoreRequest(policy="shop", objects_only=True, namespace_mapping={world.name: f"{world.name}-copy"})
    plan = restore.prepare(request, world.ports)
    report = restore.execute(plan, request, world.ports)
    after = {(one["kind"], one["metadata"]["name"]): one["metadata"].get("uid") for one in world.saved()}

    assert [str(finding) for finding in report.failures] == []
    assert {step.target.namespace for step in plan.steps if step.action is restore.Action.CREATE} == {None, f"{world.name}-copy"}
    assert all(after[one["kind"], one["metadata"]["name"]] == one["metadata"]["uid"] for one in saved if left_out(one) is None)


def changed(world: World, kind: Kind, name: str, change: Manifest) -> None:
    """Let somebody change an object that is there."""
    document = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name, "namespace": world.name}, **change}
    world.cluster.apply(kind, document, verb=Verb.MERGE)


@pytest.mark.parametrize("mode", ["merge", "replace", "delete-and-restore"])
def test_every_mode_brings_back_what_was_changed_and_a_second_restore_writes_nothing(world: World, mode: str) -> None:
    """A Service keeps its address, a Deployment its pods' owner, unless it is made anew; what is bound and what was not changed stays."""
    an_application(world)
    saved = world.saved()
    save_point(world.store, saved, kinds=world.kinds(), volumes={})
    served = {str(kind): kind for kind in world.kinds()}
    changed(world, served["configmaps"], "settings", {"data": {"level": "2", "extra": "x"}})
    changed(world, served["services"], "web", {"spec": {"selector": {"app": "other"}}})
    changed(world, served["deployments.apps"], "web", {"spec": {"replicas": 2}})
    changed(world, served["roles.rbac.authorization.k8s.io"], "web", {"rules": []})
    changed(world, served["persistentvolumeclaims"], "data", {"metadata": {"name": "data", "namespace": world.name, "labels": {"a": "b"}}})
    before = {(one["kind"], one["metadata"]["name"]): one["metadata"]["uid"] for one in world.saved()}
    request = RestoreRequest.read({"policy": "shop", "objects_only": True, "conflict": mode})
    plan = restore.prepare(request, world.ports)
    report = restore.execute(plan, request, world.ports)
    verified = restore.verify(plan, request, world.ports)
    live = {(one["kind"], one["metadata"]["name"]): one for one in world.saved()}

    assert [str(finding) for finding in (*plan.blocking, *report.failures, *verified.failures)] == []
    assert live["ConfigMap", "settings"]["data"] == {"level": "1"} | ({"extra": "x"} if mode == "merge" else {})
    assert live["Service", "web"]["spec"]["selector"] == {"app": "web"}
    assert live["Deployment", "web"]["spec"]["replicas"] == 1
    assert live["Role", "web"]["rules"][0]["resources"] == ["pods"]
    for place in (("Service", "web"), ("Deployment", "web"), ("ConfigMap", "settings")):
        assert (live[place]["metadata"]["uid"] == before[place]) is (mode != "delete-and-restore"), place
    for place in (("PersistentVolumeClaim", "data"), ("Namespace", world.name), ("Service", "peers"), ("Campaign", "spring")):
        assert live[place]["metadata"]["uid"] == before[place], place

    world.recording.writes.clear()
    again = restore.prepare(request, world.ports)
    assert [str(step.target) for step in again.steps_to(*ACTING)] == []
    assert restore.execute(again, request, world.ports).ok
    assert world.recording.writes == []


def with_a_reader(world: World) -> None:
    """Make an application with a pod that prints what its volume holds; save it with a file in that volume, and lose it."""
    an_application(world)
    command = ["sh", "-c", "cat /data/greeting; sleep 3600"]
    container = {"name": "main", "image": IMAGE, "command": command, "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container], "volumes": [volume]}
    world.make({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "reader"}, "spec": spec})
    save_point(world.store, world.saved(), kinds=world.kinds(), volumes={f"{world.name}/data": {"greeting": b"hello from before\n"}})
    world.lose()


def test_a_volume_comes_back_before_the_pod_that_mounts_it(small_world: World) -> None:
    """A mover fills the new claim and is gone; then the pod comes and reads the file. A second restore starts no mover."""
    world = small_world
    with_a_reader(world)
    request = RestoreRequest(policy="shop")
    plan = restore.prepare(request, world.ports)
    report = restore.execute(plan, request, world.ports)
    verified = restore.verify(plan, request, world.ports)

    assert [str(finding) for finding in (*report.failures, *verified.failures)] == []
    assert (verified.volumes, len(report.volumes)) == (1, 1)
    eventually(lambda: b"hello from before" in b"".join(logs_of(world, "reader")))
    assert list(world.cluster.list(POD, namespace=world.name, labels="becalm.dev/role=restore")) == []
    assert world.cluster.get(CLAIM, "data", namespace=world.name)["metadata"]["annotations"]["becalm.dev/filled"] == plan.volumes[0].tree

    world.recording.writes.clear()
    assert restore.prepare(request, world.ports).changes_nothing
    again = restore.execute(plan, request, world.ports)
    assert again.ok
    assert [write for write in world.recording.writes if write[0] == "pods" and write[1] != "reader"] == []


def test_the_command_line_shows_the_plan_and_then_carries_it_out(small_world: World, sandbox_kubeconfig: str) -> None:
    """Without Airflow and without the policy's file: a dry run changes nothing, nobody is surprised, and the end is verified."""
    world = small_world
    with_a_reader(world)
    point = [
        "--target",
        f"file://{world.folder}",
        "--policy",
        "shop",
        "--password",
        "env:BECALM_PASSWORD",
        "--kubeconfig",
        sandbox_kubeconfig,
    ]
    environment = {**os.environ, "BECALM_PASSWORD": PASSWORD, "COLUMNS": "200"}

    def becalm(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "becalm.cli", "restore", *point, *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=120)

    shown = becalm("--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert "deployments.apps" in shown.stdout
    assert is_gone(world.cluster, NAMESPACE, world.name)

    unasked = becalm()
    assert (unasked.returncode, "say --yes" in unasked.stderr) == (2, True)
    nothing = becalm("--namespace", "nowhere", "--json")
    assert (nothing.returncode, json.loads(nothing.stdout)["error"]) == (4, "restore-refused")
    assert is_gone(world.cluster, NAMESPACE, world.name)

    done = becalm("--yes", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert document["ok"]
    assert document["verification"]["volumes"] == 1
    again = becalm("--yes")
    assert (again.returncode, "created   0 objects" in again.stdout) == (0, True), again.stdout


def logs_of(world: World, pod: str) -> list[bytes]:
    """The lines that a pod printed; none while it has not begun."""
    try:
        return list(world.cluster.logs(world.name, pod, container="main"))
    except Exception:  # noqa: BLE001  (a container that has not begun has no log: each server says so in its own way)
        return []
