"""A capture on a real cluster: an application that counts on its volume and in the cluster is frozen, cut, listed, exported and read back.

The application tells itself how long it stood still, by the machine's clock.
"""

# ruff: noqa: F401, F811  (fixtures are imported by their names)

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import orjson
import pytest
from tests.contract.clusters import real_subject

from becalm.actions import discover, export, quiesce, snapshot, sweep
from becalm.actions.handover import Application, Begun, Cut, FreezeRecord, Ports, Settings, Trigger
from becalm.clock import SystemClock
from becalm.kube.base import LABEL_MANAGED, MANAGER, Verb
from becalm.kube.kinds import CLAIM, CONFIG_MAP, NAMESPACE, POD, SNAPSHOT, SNAPSHOT_CONTENT
from becalm.model import Consistency, payload, run_key
from becalm.policy.spec import ProtectionPolicy
from becalm.repository import lease
from becalm.repository.crypto import Kdf
from becalm.repository.reader import init_repository, open_repository
from becalm.repository.tree import walk
from becalm.testing.builders import a_policy
from becalm.testing.contracts.cluster import Subject
from becalm.testing.memory_store import MemoryStore

pytestmark = pytest.mark.cluster

PASSWORD = "correct horse"
BUSY_SECONDS = 20.0
"""What a machine that has other work may add to a freeze. How much Becalm adds is measured by tests/bench/bench_freeze.py, on one that has not."""

WRITER = """
trap 'exit 0' TERM
up() { read -r now rest </proc/uptime; }
n=0
while :; do
  if [ -e /data/stop ]; then
    [ -e /tmp/still ] || { up; echo "F $now" >>/tmp/times; sync; echo $n >/tmp/still; }
  else
    [ ! -e /tmp/still ] || { up; echo "T $now" >>/tmp/times; rm -f /tmp/still; }
    n=$((n+1)); echo $n >/data/first; echo $n >/data/second
  fi
  sleep 0.02
done
"""
FREEZE = ["sh", "-c", "touch /data/stop; until [ -e /tmp/still ]; do sleep 0.05; done"]
THAW = ["sh", "-c", "rm -f /data/stop; while [ -e /tmp/still ]; do sleep 0.05; done"]


@dataclass
class Shop:
    """An application in a namespace of its own, and what a run needs."""

    subject: Subject
    namespace: str
    own: str
    store: MemoryStore
    timeout: str = "2m"

    @property
    def policy(self) -> ProtectionPolicy:
        """The policy that freezes and cuts it."""
        hook = {"select": {"labels": "app=counter"}, "command": {"freeze": FREEZE, "thaw": THAW}}
        return a_policy(select={"namespaces": [self.namespace]}, quiesce={"hooks": [hook], "timeout": self.timeout})

    @property
    def ports(self) -> Ports:
        """The ports."""
        settings = Settings(cluster_name="test", namespace=self.own, export_timeout_seconds=60)
        return Ports(cluster=self.subject.cluster, store=self.store, password=PASSWORD, clock=SystemClock(), settings=settings)

    def begun(self) -> Begun:
        """Take the lease."""
        run = run_key("shop", self.namespace)
        held = lease.take(self.store, policy="shop", run=run, seconds=600)
        now = SystemClock().now()
        return Begun(
            policy="shop", policy_digest="0", run_id=self.namespace, run=run, trigger=Trigger.MANUAL, started=now, epoch=held.epoch
        )

    def application(self) -> Application:
        """Discover it."""
        return discover.execute(self.policy, self.ports).applications[0]

    def sh(self, script: str, pod: str = "counter", namespace: str = "") -> str:
        """Return what a script prints in the container."""
        result = self.subject.cluster.exec(namespace or self.namespace, pod, container="main", command=["sh", "-c", script])
        return result.stdout.decode().strip()

    def longest_freeze(self) -> float:
        """Return the longest time that the application stood still, as it says itself."""
        longest, since = 0.0, None
        for line in [*self.sh("cat /tmp/times 2>/dev/null").splitlines(), "T " + self.sh("read -r now rest </proc/uptime; echo $now")]:
            word, moment = line.split()
            if word == "F" and since is None:
                since = float(moment)
            elif word == "T" and since is not None:
                longest, since = max(longest, float(moment) - since), None
        return longest

    def frozen(self) -> bool:
        """Say whether it stands still."""
        return self.sh("ls /tmp/still 2>/dev/null") != ""


@pytest.fixture
def shop(real_subject: Subject) -> Iterator[Shop]:
    """Start the application, and remove everything afterwards."""
    cluster = real_subject.cluster

    def a_namespace() -> str:
        made = cluster.apply(NAMESPACE, {"metadata": {"generateName": "capture-", "labels": {LABEL_MANAGED: MANAGER}}}, verb=Verb.CREATE)
        return str(made["metadata"]["name"])

    store = MemoryStore()
    init_repository(store, PASSWORD, kdf=Kdf(n=2**10, r=1, p=1))
    made = Shop(subject=real_subject, namespace=a_namespace(), own=a_namespace(), store=store)
    claim = {
        "metadata": {"name": "data", "namespace": made.namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "32Mi"}},
            "storageClassName": real_subject.storage_class,
        },
    }
    cluster.apply(CLAIM, claim, verb=Verb.CREATE)
    pod = real_subject.pod(made.namespace, "counter", WRITER, claim="data")
    cluster.apply(POD, {"metadata": {"name": "counter", "namespace": made.namespace, "labels": {"app": "counter"}}}, verb=Verb.MERGE)
    real_subject.config_map(made.namespace, "settings", colour="blue")
    wait_until(lambda: ready(cluster.get(POD, pod["metadata"]["name"], namespace=made.namespace)))
    wait_until(lambda: made.sh("cat /data/second 2>/dev/null") != "")
    yield made
    real_subject.storage_faults({})
    sweep.sweep("shop", made.ports, run=run_key("shop", made.namespace))
    for name in (made.namespace, made.own):
        cluster.delete(NAMESPACE, name)


def ready(pod: dict) -> bool:
    return any(item["type"] == "Ready" and item["status"] == "True" for item in (pod.get("status") or {}).get("conditions") or [])


def wait_until(condition: object, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def capture(shop: Shop) -> tuple[FreezeRecord, Cut]:
    application = shop.application()
    record = quiesce.execute(application, shop.begun(), shop.policy, shop.ports)
    return record, snapshot.execute(application, record, shop.begun(), shop.policy, shop.ports)


def test_a_whole_capture(shop: Shop) -> None:
    """Consistent on the volume, complete in the repository, short in the window, readable afterwards, and gone after the sweep."""
    shop.subject.storage_faults({"cut_seconds": 0.5, "ready_seconds": 4})
    began = time.monotonic()
    record, cut = capture(shop)
    seconds = time.monotonic() - began
    shop.subject.storage_faults({})
    exported = export.execute([cut], shop.begun(), shop.policy, shop.ports)

    assert record.reasons == ()
    assert cut.thawed is not None
    assert (cut.thawed.consistency, cut.thawed.reasons, cut.thawed.confirmed) == (Consistency.APPLICATION, (), True)
    assert [item.error for item in cut.volumes] == [""]
    assert not shop.frozen()
    assert shop.longest_freeze() <= 0.5 + BUSY_SECONDS, f"the whole took {seconds:.1f} s"
    assert cut.findings == ()
    assert cut.listed_again == ""

    repository = open_repository(shop.store, PASSWORD)
    found = {path: node for path, node in walk(repository, cut.resources_tree) if node.type == "file"}
    settings = found[f"resources/core/configmaps/{shop.namespace}/settings.json"]
    assert orjson.loads(b"".join(repository.read_file(settings))) == shop.subject.cluster.get(
        CONFIG_MAP, "settings", namespace=shop.namespace
    )
    volume = shop.subject.cluster.get(CLAIM, "data", namespace=shop.namespace)["spec"]["volumeName"]
    assert f"resources/core/persistentvolumes/_cluster/{volume}.json" in found
    assert "resources/storage.k8s.io/storageclasses/_cluster/standard.json" in found
    assert f"resources/core/namespaces/_cluster/{shop.namespace}.json" in found
    assert len(found) == cut.objects

    (readable,) = exported
    assert readable.error == ""
    shop.subject.pod(shop.own, "reader", claim=readable.claim)
    wait_until(lambda: ready(shop.subject.cluster.get(POD, "reader", namespace=shop.own)))
    first, second = shop.sh("cat /data/first /data/second", pod="reader", namespace=shop.own).split()
    assert first == second
    shop.subject.cluster.delete(POD, "reader", namespace=shop.own, grace_seconds=0)

    assert sweep.sweep("shop", shop.ports, run=shop.begun().run) == ()
    assert list(shop.subject.cluster.list(SNAPSHOT, namespace=shop.namespace)) == []
    handles = {item.handle for item in cut.volumes}
    left = [item for item in shop.subject.cluster.list(SNAPSHOT_CONTENT) if (item.get("status") or {}).get("snapshotHandle") in handles]
    assert left == []


def test_a_cut_slower_than_the_freeze_does_not_prolong_it(shop: Shop) -> None:
    """The window ends by its time; the cut is taken, and labelled for what it is."""
    shop.timeout = "2s"
    shop.subject.storage_faults({"cut_seconds": 4})
    _, cut = capture(shop)

    assert shop.longest_freeze() <= 2 + BUSY_SECONDS
    assert cut.volumes[0].error == ""
    assert cut.thawed is not None
    assert cut.thawed.consistency is Consistency.CRASH


def test_a_failed_snapshot_is_named_and_the_application_is_thawed(shop: Shop) -> None:
    """The storage refuses; the objects are captured all the same."""
    shop.timeout = "5s"
    shop.subject.storage_faults({"fail_snapshots": 1000})
    _, cut = capture(shop)

    assert cut.volumes[0].error
    assert not shop.frozen()
    assert shop.longest_freeze() <= 5 + BUSY_SECONDS
    assert cut.objects > 0


KILLED = """
import sys
from becalm.actions import quiesce
from becalm.actions.handover import Application, Begun, Ports, Settings
from becalm.clock import SystemClock
from becalm.kube import connect
from becalm.model import from_payload
from becalm.policy.spec import ProtectionPolicy
from becalm.testing.memory_store import MemoryStore
import json
handed = json.loads(sys.stdin.read())
ports = Ports(cluster=connect(), store=MemoryStore(), password="x", clock=SystemClock(), settings=Settings(cluster_name="test"))
policy = ProtectionPolicy.model_validate(handed["policy"])
quiesce.execute(from_payload(Application, handed["application"]), from_payload(Begun, handed["begun"]), policy, ports)
print("frozen", flush=True)
ports.clock.sleep(600)
"""


def test_a_process_killed_between_freeze_and_thaw_leaves_nobody_frozen(shop: Shop) -> None:
    """SIGKILL after the freeze: the container thaws by itself within its time, and says so to whoever comes to thaw."""
    shop.timeout = "10s"
    handed = {
        "policy": shop.policy.model_dump(mode="json", by_alias=True, exclude_none=True),
        "application": payload(shop.application()),
        "begun": payload(shop.begun()),
    }
    process = subprocess.Popen([sys.executable, "-c", KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    process.stdin.write(orjson.dumps(handed))
    process.stdin.close()
    assert process.stdout.readline() == b"frozen\n"
    process.kill()
    process.wait()
    process.stdout.close()
    wait_until(lambda: not shop.frozen())

    assert 0 < shop.longest_freeze() <= 10 + BUSY_SECONDS
