"""Who is frozen on a real cluster: images without a shell, read-only roots, users without rights, side cars, pods that come and go; and the reaper.

Every application is a counter in memory or on a volume of its own; nothing is cut, and no storage is needed but for the last.
"""

# ruff: noqa: F401, F811  (fixtures are imported by their names)

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from tests.contract.clusters import real_subject

from becalm.actions import discover, freezes, quiesce, reap, sweep
from becalm.actions.handover import Application, Begun, Cut, FreezeRecord, Ports, Settings, Thawed, Trigger
from becalm.clock import SystemClock, format_time
from becalm.errors import HookFailed
from becalm.kube.base import ANNOTATION_EXPIRES, LABEL_MANAGED, LABEL_RUN, MANAGER, ROLE_RESTORE, Verb, owned_by
from becalm.kube.kinds import CLAIM, NAMESPACE, POD, SECRET, SNAPSHOT, SNAPSHOT_CLASS, SNAPSHOT_CONTENT
from becalm.model import Consistency, run_key
from becalm.policy.spec import ProtectionPolicy
from becalm.repository import lease
from becalm.repository.crypto import Kdf
from becalm.repository.reader import init_repository
from becalm.testing.builders import a_policy
from becalm.testing.contracts.cluster import Subject
from becalm.testing.memory_store import MemoryStore

pytestmark = pytest.mark.cluster

STATE = "/state/frozen"
FREEZE, THAW = ["sh", "-c", f"echo yes >{STATE}"], ["sh", "-c", f"rm -f {STATE}"]
MEMORY = {"name": "state", "emptyDir": {"medium": "Memory"}}
SECONDS = 60


@dataclass
class Place:
    """A namespace with one application, a policy that freezes it, and what a run needs."""

    subject: Subject
    namespace: str
    own: str
    store: MemoryStore = field(default_factory=MemoryStore)
    freeze: list[str] = field(default_factory=lambda: list(FREEZE))
    thaw: list[str] = field(default_factory=lambda: list(THAW))
    command: dict[str, Any] = field(default_factory=dict)
    timeout: str = "5m"
    on_failure: str = "crash-consistent"

    @property
    def policy(self) -> ProtectionPolicy:
        """The policy; its name is the namespace's, so that tests at the same time do not meet."""
        hook = {"select": {"labels": "app=still"}, "command": {"freeze": self.freeze, "thaw": self.thaw, **self.command}}
        quiesce_section = {"hooks": [hook], "timeout": self.timeout, "onFailure": self.on_failure}
        return a_policy(name=self.namespace, select={"namespaces": [self.namespace]}, quiesce=quiesce_section)

    @property
    def ports(self) -> Ports:
        """The ports."""
        settings = Settings(cluster_name="test", namespace=self.own)
        return Ports(cluster=self.subject.cluster, store=self.store, password="x", clock=SystemClock(), settings=settings)

    def begun(self) -> Begun:
        """Take the lease."""
        run = run_key(self.namespace, "a run")
        held = lease.take(self.store, policy=self.namespace, run=run, seconds=600)
        now = SystemClock().now()
        return Begun(
            policy=self.namespace, policy_digest="0", run_id="a run", run=run, trigger=Trigger.MANUAL, started=now, epoch=held.epoch
        )

    def application(self) -> Application:
        """Discover it."""
        return discover.execute(self.policy, self.ports).applications[0]

    def still(self) -> FreezeRecord:
        """Freeze it."""
        return quiesce.execute(self.application(), self.begun(), self.policy, self.ports)

    def let_go(self, record: FreezeRecord) -> Thawed:
        """Thaw it, as after a cut that happened now."""
        now = SystemClock().now()
        return quiesce.thaw(
            self.application(),
            record,
            Cut(application=record.application, began=now, ended=now, revision="1"),
            self.begun(),
            self.policy,
            self.ports,
        )

    def pod(self, name: str = "app", script: str = "while :; do sleep 1; done", **changes: Any) -> None:
        """Start the application; `changes` go into its container, those named `pod_…` into the pod."""
        container = {
            "name": "main",
            "image": self.subject.image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", script],
            "volumeMounts": [{"name": "state", "mountPath": "/state"}],
        }
        spec = {"containers": [container | {k: v for k, v in changes.items() if not k.startswith("pod_")}], "volumes": [MEMORY]}
        spec |= {key.removeprefix("pod_"): value for key, value in changes.items() if key.startswith("pod_")}
        spec |= {"terminationGracePeriodSeconds": 0}
        metadata = {"name": name, "namespace": self.namespace, "labels": {"app": "still"}}
        self.subject.cluster.apply(POD, {"metadata": metadata, "spec": spec}, verb=Verb.CREATE)
        wait_until(lambda: self.is_ready(name))

    def is_ready(self, name: str = "app") -> bool:
        """Say whether it is ready."""
        conditions = (self.subject.cluster.get(POD, name, namespace=self.namespace).get("status") or {}).get("conditions") or []
        return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)

    def is_still(self, name: str = "app", container: str = "main") -> bool:
        """Say whether it is frozen."""
        found = self.subject.cluster.exec(self.namespace, name, container=container, command=["ls", "/state"])
        return b"frozen" in found.stdout


@pytest.fixture
def place(real_subject: Subject) -> Iterator[Place]:
    """Two namespaces, gone afterwards."""
    cluster = real_subject.cluster

    def a_namespace() -> str:
        made = cluster.apply(NAMESPACE, {"metadata": {"generateName": "g-freeze-", "labels": {LABEL_MANAGED: MANAGER}}}, verb=Verb.CREATE)
        return str(made["metadata"]["name"])

    made = Place(subject=real_subject, namespace=a_namespace(), own=a_namespace())
    init_repository(made.store, "x", kdf=Kdf(n=2**10, r=1, p=1))
    yield made
    for run in sweep.runs(made.namespace, made.ports):
        sweep.sweep(made.namespace, made.ports, run=run)
    for name in (made.namespace, made.own):
        cluster.delete(NAMESPACE, name)


def wait_until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def test_a_read_only_root_is_no_obstacle(place: Place) -> None:
    """The switch stands in the pod's memory: the whole promise is kept."""
    place.pod(securityContext={"readOnlyRootFilesystem": True})
    record = place.still()
    assert place.is_still()
    thawed = place.let_go(record)

    assert (thawed.consistency, thawed.reasons) == (Consistency.APPLICATION, ())
    assert not place.is_still()


def test_a_user_without_rights_arms_the_switch_all_the_same(place: Place) -> None:
    """Any user may write to the pod's memory; what the hook itself may not do is said in its own words."""
    place.pod(securityContext={"runAsUser": 12345, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}})
    thawed = place.let_go(place.still())
    assert (thawed.consistency, thawed.reasons) == (Consistency.APPLICATION, ())
    place.freeze = ["sh", "-c", "echo no >/proc/sys/kernel/hostname"]
    record = place.still()

    assert "the freeze failed with exit code" in record.reasons[0]
    assert "hostname" in record.reasons[0]


def test_another_user_needs_a_container_that_may_become_one(place: Place) -> None:
    """`user` in a container that is not root: the sentence holds what `su` says."""
    place.pod(securityContext={"runAsUser": 12345})
    place.command = {"user": "nobody"}
    record = place.still()

    assert "the freeze failed with exit code" in record.reasons[0]
    assert "su" in record.reasons[0]
    assert not place.is_still()


def test_without_a_folder_to_write_to_the_freeze_is_not_guarded_and_says_what_to_do(place: Place) -> None:
    """No memory folder, a read-only root: it is frozen, it is thawed, and the label names the remedy."""
    hidden = [{"name": "none", "mountPath": path, "readOnly": True} for path in ("/dev/shm", "/tmp", "/run", "/var/tmp")]
    place.pod(
        securityContext={"readOnlyRootFilesystem": True},
        volumeMounts=[{"name": "state", "mountPath": "/state"}, *hidden],
        pod_volumes=[MEMORY, {"name": "none", "emptyDir": {}}],
    )
    record = place.still()
    assert place.is_still()
    thawed = place.let_go(record)
    assert not place.is_still()
    assert thawed.consistency is Consistency.CRASH
    assert "give the pod an emptyDir with medium Memory at /tmp" in thawed.reasons[0]
    place.on_failure = "fail"
    with pytest.raises(HookFailed, match="so it was not frozen"):
        place.still()

    assert not place.is_still()


@pytest.fixture
def bare_image() -> str:
    """An image that holds one static program and nothing else: tests/e2e/still.c."""
    image = os.environ.get("BECALM_BARE_IMAGE", "")
    if not image:
        pytest.skip("no image without a shell: set BECALM_BARE_IMAGE, see tests/e2e/make-images")
    return image


def test_an_image_without_a_shell_is_frozen_unguarded_and_never_called_consistent(place: Place, bare_image: str) -> None:
    """One static program is all that is there: frozen and thawed directly, noted in the bucket, and thawed by the reaper if its run dies."""
    place.freeze, place.thaw = ["/still", "freeze"], ["/still", "thaw"]
    place.pod(image=bare_image, command=["/still"])

    def is_still() -> bool:
        return place.subject.cluster.exec(place.namespace, "app", container="main", command=["/still", "ask"]).exit_code == 0

    record = place.still()
    assert is_still()
    thawed = place.let_go(record)
    assert not is_still()
    assert (thawed.consistency, thawed.confirmed) == (Consistency.CRASH, True)
    assert "the container has no shell to hold a dead-man switch" in thawed.reasons[0]

    place.still()
    begun = place.begun()
    lease.release(place.store, run=begun.run, epoch=begun.epoch)
    done = reap.execute(reap.plan(place.policy, place.ports), place.policy, place.ports)
    assert (done.thawed, done.frozen) == ((f"{place.namespace}/app (main)",), ())
    assert not is_still()
    place.on_failure = "fail"
    with pytest.raises(HookFailed, match="so it was not frozen"):
        place.still()

    assert not is_still()


def test_a_side_car_that_stays_is_a_container(place: Place) -> None:
    """A native side car holds the data: its hook runs there, under its own switch."""
    keeper = {
        "name": "keeper",
        "image": place.subject.image,
        "imagePullPolicy": "IfNotPresent",
        "restartPolicy": "Always",
        "command": ["sh", "-c", "while :; do sleep 1; done"],
        "volumeMounts": [{"name": "state", "mountPath": "/state"}],
    }
    place.pod(pod_initContainers=[keeper])
    place.command = {"container": "keeper"}
    record = place.still()

    assert [item.container for item in record.frozen] == ["keeper"]
    assert place.is_still(container="keeper")
    assert place.let_go(record).consistency is Consistency.APPLICATION


def test_a_container_that_was_restarted_meanwhile_did_not_hold(place: Place) -> None:
    """The memory of the pod outlives its container, and with it the switch's folder: the label is lowered all the same."""
    place.pod(script="while [ ! -e /state/die ]; do sleep 0.1; done; rm /state/die")
    record = place.still()
    place.subject.cluster.exec(place.namespace, "app", container="main", command=["touch", "/state/die"])
    wait_until(lambda: restarts(place) > 0 and place.is_ready())
    thawed = place.let_go(record)

    assert (thawed.consistency, thawed.confirmed) == (Consistency.CRASH, True)
    assert "the container was restarted meanwhile" in thawed.reasons[0]
    assert not place.is_still()


def restarts(place: Place) -> int:
    statuses = place.subject.cluster.get(POD, "app", namespace=place.namespace)["status"].get("containerStatuses") or []
    return sum(item["restartCount"] for item in statuses)


def test_a_pod_that_was_replaced_meanwhile_is_thawed_in_its_new_place(place: Place) -> None:
    """Its freeze died with it; what it left for its successor is undone, by whoever comes once that stands."""
    place.pod("first")
    record = place.still()
    place.subject.cluster.delete(POD, "first", namespace=place.namespace, grace_seconds=0)
    wait_until(lambda: not list(place.subject.cluster.list(POD, namespace=place.namespace)))
    thawed = place.let_go(record)
    assert (thawed.consistency, thawed.confirmed) == (Consistency.CRASH, True)
    assert "the container is gone" in thawed.reasons[0]
    place.pod("second", script="echo yes >/state/frozen; while :; do sleep 1; done")
    wait_until(lambda: place.is_still("second"))
    begun = place.begun()
    lease.release(place.store, run=begun.run, epoch=begun.epoch)
    done = reap.execute(reap.plan(place.policy, place.ports), place.policy, place.ports)

    assert done.thawed == (f"{place.namespace}/second (main)",)
    assert not place.is_still("second")
    assert freezes.find(place.store) == []


def test_a_program_that_is_not_there_is_named(place: Place) -> None:
    """Nothing is frozen, nothing is owed, and the sentence holds the program."""
    place.pod()
    place.freeze, place.thaw = ["/no/such/freeze"], ["/no/such/thaw"]
    record = place.still()

    assert "exit code 127" in record.reasons[0]
    assert "/no/such/freeze" in record.reasons[0]
    assert record.frozen == ()


def test_words_that_mean_something_to_a_shell_arrive_as_they_are(place: Place) -> None:
    """No word of a hook is ever read by a shell that its author did not ask for."""
    place.pod()
    nasty = ["a b", "$(touch /state/pwned)", "';", "*", "`id`", "&& true"]
    place.freeze = ["sh", "-c", 'printf "[%s]" "$@" >/state/words; echo yes >/state/frozen', "freeze", *nasty]
    place.let_go(place.still())
    words = place.subject.cluster.exec(place.namespace, "app", container="main", command=["cat", "/state/words"]).stdout.decode()
    there = place.subject.cluster.exec(place.namespace, "app", container="main", command=["ls", "/state"]).stdout.split()

    assert words == "".join(f"[{word}]" for word in nasty)
    assert there == [b"words"]


def test_the_reaper_removes_what_dead_ones_left_and_nothing_else(place: Place) -> None:
    """Snapshots, contents, claims, pods and Secrets of a dead run, Secret and pod of a dead restore; look-alikes and the living stay."""
    cluster, dead = place.subject.cluster, "dead0000aa"
    driver = next(iter(cluster.list(SNAPSHOT_CLASS)))["driver"]
    living = place.begun().run
    now = place.store.now()
    planted: list[tuple[Any, str, str, dict[str, Any], bool]] = []

    def plant(
        kind: Any,
        name: str,
        *,
        labels: dict[str, str],
        goes: bool,
        namespace: str = place.own,
        spec: dict[str, Any] | None = None,
        **marks: str,
    ) -> None:
        metadata = {"name": name, "labels": labels, "annotations": marks} | ({"namespace": namespace} if kind.namespaced else {})
        cluster.apply(kind, {"metadata": metadata, **({"spec": spec} if spec else {})}, verb=Verb.CREATE)
        planted.append((kind, name, namespace if kind.namespaced else "", {}, goes))

    claim = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Mi"}},
        "storageClassName": place.subject.storage_class,
    }
    pod = {
        "containers": [{"name": "main", "image": place.subject.image, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "600"]}],
        "terminationGracePeriodSeconds": 0,
    }
    for key, goes in ((dead, True), (living, False)):
        ours = owned_by(place.namespace, key, "export", repository=place.store.url)
        content = f"becalm-{key}-{place.namespace}"
        bound = {
            "deletionPolicy": "Retain",
            "driver": driver,
            "source": {"snapshotHandle": f"none-{key}"},
            "volumeSnapshotRef": {"name": f"becalm-{key}", "namespace": place.own},
        }
        plant(SNAPSHOT_CONTENT, content, labels=ours, goes=goes, spec=bound)
        plant(SNAPSHOT, f"becalm-{key}", labels=ours, goes=goes, spec={"source": {"volumeSnapshotContentName": content}})
        plant(CLAIM, f"becalm-{key}", labels=ours, goes=goes, spec=claim)
        plant(POD, f"becalm-{key}", labels=ours, goes=goes, spec=pod)
        plant(SECRET, f"becalm-{key}", labels=owned_by(place.namespace, key, "mover", repository=place.store.url), goes=goes)
    for name, labels in (
        ("becalm-dead0000aa-1", {}),
        ("becalm-dead0000aa-2", {LABEL_RUN: dead}),
        ("becalm-dead0000aa-3", {**owned_by(place.namespace, dead, "mover", repository=place.store.url), LABEL_MANAGED: "helm"}),
        ("becalm-dead0000aa-4", owned_by("another-policy", "0000000000", "mover", repository=place.store.url)),
        ("becalm-dead0000aa-5", owned_by(place.namespace, "dead0000bb", "mover", repository="s3://another/installation")),
    ):
        plant(SECRET, name, labels=labels, goes=False)
        plant(CLAIM, name, labels=labels, goes=False, spec=claim)
    for key, until, goes in (("rest0000aa", -1, True), ("rest0000bb", 600, False)):
        ours = owned_by(place.namespace, key, ROLE_RESTORE, repository=place.store.url)
        marks = {ANNOTATION_EXPIRES: format_time(now + timedelta(seconds=until))}
        plant(SECRET, f"becalm-{key}", labels=ours, goes=goes, namespace=place.namespace, **marks)
        plant(POD, f"becalm-{key}", labels=ours, goes=goes, namespace=place.namespace, spec=pod)
        plant(CLAIM, f"restored-{key}", labels=ours, goes=False, namespace=place.namespace, spec=claim)

    decided = reap.plan(place.policy, place.ports)
    done = reap.execute(decided, place.policy, place.ports)
    assert (decided.runs, decided.living, [item.run for item in decided.restores]) == ((dead,), living, ["rest0000aa"])
    assert [str(finding) for finding in done.findings] == []
    assert (done.runs, done.restores) == ((dead,), ("rest0000aa",))
    for kind, name, namespace, _, goes in planted:
        there = any(
            item["metadata"]["name"] == name
            for item in cluster.list(kind, namespace=namespace or None)
            if not item["metadata"].get("deletionTimestamp")
        )
        assert there is not goes, f"{kind}/{name}"
