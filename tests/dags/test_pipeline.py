"""A policy's DAG with nothing replaced: a sandbox cluster, a folder as repository, mover pods by the Kubernetes provider."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow import settings
from airflow.sdk import DAG, Context

from becalm.actions import credentials, discover, drill_record, quiesce
from becalm.actions.handover import Trigger
from becalm.actions.run import begin
from becalm.airflow.connections import ports_for
from becalm.airflow.dag import policy_dag
from becalm.airflow.drill import drill_dags
from becalm.airflow.handed import Handed
from becalm.airflow.loader import policy_dags
from becalm.airflow.operators import OPERATORS, UploadOperator
from becalm.airflow.reaper import reaper_dag
from becalm.airflow.restore import restore_dag
from becalm.catalog.points import points
from becalm.errors import NotFound
from becalm.kube import connect
from becalm.kube.base import LABEL_RUN, Cluster, Kind, Verb
from becalm.policy.load import load_file
from becalm.repository import lease
from becalm.repository.reader import init_repository, open_repository
from becalm.repository.snapshots import load_snapshot
from becalm.repository.tree import lookup
from becalm.storage import open_store
from becalm.testing.sandbox import SandboxHandle, running_sandbox

# Airflow runs inside this process, and its dependencies warn of their own next versions; our own warnings stay errors.
pytestmark = [pytest.mark.airflow, pytest.mark.filterwarnings("ignore"), pytest.mark.filterwarnings("error:::becalm")]

REPOSITORY = Path(__file__).parents[2]
PASSWORD = "a password for tests"
MOVER = "becalm.dev/mover:1"
RESTORE = ("plan", "approve", "claims", "restore", "objects", "verify", "finish")

NAMESPACE = Kind(group="", version="v1", resource="namespaces", kind="Namespace", namespaced=False)
CLAIM = Kind(group="", version="v1", resource="persistentvolumeclaims", kind="PersistentVolumeClaim", namespaced=True)
POD = Kind(group="", version="v1", resource="pods", kind="Pod", namespaced=True)
SECRET = Kind(group="", version="v1", resource="secrets", kind="Secret", namespaced=True)
SNAPSHOT = Kind(group="snapshot.storage.k8s.io", version="v1", resource="volumesnapshots", kind="VolumeSnapshot", namespaced=True)

POLICY = """\
apiVersion: becalm.dev/v1
kind: ProtectionPolicy
metadata: {{name: {name}}}
spec:
  cluster: sandbox
  select: {{namespaces: [{namespaces}]}}
  quiesce:
    timeout: 20s
    hooks:
      - select: {{labels: app=db}}
        command: {{container: db, freeze: [sh, -c, "{freeze}"], thaw: [sh, -c, "echo thawed >> /data/journal"]}}
  target: {{url: "file://{store}", password: "env:BECALM_TEST_PASSWORD"}}
  retention: {{last: 3}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A cluster with applications, a repository, and Airflow."""

    sandbox: SandboxHandle
    cluster: Cluster
    home: Path
    store: Path

    def policy(self, name: str, *namespaces: str, freeze: str = "echo frozen >> /data/journal") -> DAG:
        """Write a policy, make its repository, and return its DAG."""
        file = self.home / "policies" / f"{name}.yaml"
        file.write_text(POLICY.format(name=name, namespaces=", ".join(namespaces), store=self.store, freeze=freeze))
        init_repository(open_store(f"file://{self.store}/{name}", {}, create=True), PASSWORD)
        return policy_dags(file.parent)[f"becalm_policy_{name}"]

    def say(self, name: str, line: str) -> None:
        """Let a policy say one thing more, or another thing."""
        file = self.home / "policies" / f"{name}.yaml"
        key = line.partition(":")[0]
        kept = [one for one in file.read_text().splitlines() if not one.startswith(f"  {key}:")]
        file.write_text("\n".join([*kept, f"  {line}"]) + "\n")

    def application(self, namespace: str) -> None:
        """Make a namespace with a database of one file, a claim, and a Secret."""
        self.cluster.apply(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, verb=Verb.CREATE)
        meta = {"namespace": namespace}
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        container = {
            "name": "db",
            "image": "becalm.dev/busybox:1",
            "command": ["sh", "-c", f"echo {namespace} > /data/rows; touch /data/journal; sleep 3600"],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        }
        volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
        spec = {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 0}
        for kind, body in (
            (SECRET, {"metadata": {"name": "key", **meta}, "stringData": {"word": namespace}}),
            (CLAIM, {"metadata": {"name": "data", **meta}, "spec": claim}),
            (POD, {"metadata": {"name": "db", "labels": {"app": "db"}, **meta}, "spec": spec}),
        ):
            self.cluster.apply(kind, {"apiVersion": kind.api_version, "kind": kind.kind, **body}, verb=Verb.CREATE)

    def ready(self, namespace: str) -> None:
        """Wait until the database has written its row."""
        self.until(lambda: self.cluster.exec(namespace, "db", container="db", command=["cat", "/data/journal"]).exit_code == 0)

    def until(self, true: Callable[[], bool], seconds: float = 20) -> None:
        """Wait for something to become true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if true():
                    return
            except NotFound:
                pass
            time.sleep(0.1)
        pytest.fail("it did not become true in time")

    def journal(self, namespace: str) -> list[str]:
        """Return what was done to a database."""
        return self.cluster.exec(namespace, "db", container="db", command=["cat", "/data/journal"]).stdout.decode().split()

    def left_over(self) -> list[str]:
        """Return the temporary objects of any run that are still there."""
        found = [item for kind in (POD, CLAIM, SECRET, SNAPSHOT) for item in self.cluster.list(kind, labels=LABEL_RUN)]
        return [f"{item['kind']}/{item['metadata']['namespace']}/{item['metadata']['name']}" for item in found]

    def tree(self, name: str) -> Any:
        """Return what reads a path of the newest point of a policy."""
        repository = open_repository(open_store(f"file://{self.store}/{name}", {}), PASSWORD)
        newest = max(points(repository, name), key=lambda point: point.cut)
        _, document = load_snapshot(repository, newest.id)
        return newest, lambda path: b"".join(repository.read_file(lookup(repository, document.tree, path)))


@pytest.fixture(scope="module")
def world(database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    settings.configure_orm()
    home = database.parent
    for file in ("becalm_policies.py", "becalm_restore.py", "becalm_reaper.py", "becalm_drill.py"):
        shutil.copy(REPOSITORY / "dags" / file, home / "dags")
    for old in (home / "policies").iterdir():
        old.unlink()
    os.environ["BECALM_TEST_PASSWORD"] = PASSWORD
    with running_sandbox(tmp_path_factory.mktemp("sandbox")) as sandbox:
        extra = {"kube_config_path": str(sandbox.kubeconfig), "becalm_mover_image": MOVER}
        os.environ["AIRFLOW_CONN_SANDBOX"] = json.dumps({"conn_type": "kubernetes", "extra": extra})
        made = World(
            sandbox=sandbox, cluster=connect(kubeconfig=str(sandbox.kubeconfig)), home=home, store=tmp_path_factory.mktemp("store")
        )
        for namespace in ("shop", "blog"):
            made.application(namespace)
        for namespace in ("shop", "blog"):
            made.ready(namespace)
        yield made
    del os.environ["AIRFLOW_CONN_SANDBOX"], os.environ["BECALM_TEST_PASSWORD"]


def run(dag: DAG, **conf: Any) -> tuple[str, dict[str, str]]:
    """Run a DAG to its end in this process; return its state and that of each task."""
    ended = dag.test(run_after=datetime.now(UTC), logical_date=None, run_conf=conf or None)
    states = {f"{ti.task_id}:{ti.map_index}" if ti.map_index >= 0 else ti.task_id: str(ti.state) for ti in ended.get_task_instances()}
    return str(ended.state), states


def test_a_run_makes_a_recovery_point_and_leaves_nothing_behind(world: World) -> None:
    """Frozen, cut, thawed; uploaded by pods; committed whole; and no temporary object is left."""
    state, states = run(world.policy("whole", "shop", "blog"), note="before the release")
    point, read = world.tree("whole")

    assert (state, set(states.values())) == ("success", {"success"})
    assert (point.complete, str(point.consistency)) == (True, "application-consistent")
    assert read("volumes/shop/data/rows") == b"shop\n"
    assert read("volumes/blog/data/rows") == b"blog\n"
    assert json.loads(read("resources/core/secrets/shop/key.json"))["metadata"]["name"] == "key"
    assert json.loads(read("recovery-point.json"))["run"]["note"] == "before the release"
    assert world.journal("shop")[:2] == ["frozen", "thawed"]
    assert world.left_over() == []


def test_a_policy_removed_while_it_runs_ends_the_run_and_thaws(world: World) -> None:
    """The run says what happened; the application is thawed, nothing is left, and nothing is visible in the repository."""
    before = world.journal("shop")
    removed = f"rm {world.home}/policies/removed.yaml; echo frozen >> /data/journal"
    dag = world.policy("removed", "shop", freeze=removed)
    state, states = run(dag)
    repository = open_repository(open_store(f"file://{world.store}/removed", {}), PASSWORD)

    assert state == "failed"
    assert states["protect.snapshot:0"] == "failed"
    assert states["protect.thaw:0"] == "success"
    assert world.journal("shop")[len(before) :][:2] == ["frozen", "thawed"]
    assert points(repository, "removed") == []
    assert world.left_over() == []


def test_the_reaper_thaws_and_removes_what_a_dead_run_left(world: World) -> None:
    """A run froze, made a Secret, and died with its worker: one run of the reaper, and all is as if it had ended well."""
    world.policy("orphaned", "shop")
    policy = load_file(world.home / "policies" / "orphaned.yaml")
    ports = ports_for(policy)
    begun = begin(policy, run_id="dead", trigger=Trigger.MANUAL, run_after=datetime.now(UTC), ports=ports)
    before = world.journal("shop")
    quiesce.execute(discover.execute(policy, ports).applications[0], begun, policy, ports)
    credentials.ensure(policy.name, begun.run, "becalm", ports)
    lease.release(ports.store, run=begun.run, epoch=begun.epoch)
    assert world.left_over() != []
    state, states = run(reaper_dag(folder=world.home / "policies"))

    assert (state, states) == ("success", {"reap": "success"})
    after = world.journal("shop")[len(before) :]
    assert (after[0], set(after[1:])) == ("frozen", {"thawed"})  # on a slow machine the switch has thawed it, too
    assert world.left_over() == []


def test_a_cluster_that_refuses_the_movers_pod_is_named(world: World) -> None:
    """The upload fails at once, the recovery point holds the objects and says which volume is missing, and the run fails."""
    dag = world.policy("refused", "blog")
    world.sandbox.faults(requests=[{"match": "POST /api/v1/namespaces/becalm/pods", "status": 403, "times": 50}])
    state, states = run(dag)
    world.sandbox.faults()
    point, read = world.tree("refused")

    assert (state, states["upload:0"], states["commit"]) == ("failed", "failed", "success")
    assert point.complete is False
    assert [missing["where"] for missing in json.loads(read("recovery-point.json"))["missing"]] != []
    assert world.left_over() == []


class UploadTwice(UploadOperator):
    """Uploads, and then is run again, as after a cleared task: a second pod would show as a deferral, which is no return."""

    def trigger_reentry(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on, and then begin again."""
        first = super().trigger_reentry(context, event)
        second = self.act(context, Handed(context))
        assert first == second
        return second


def test_an_upload_that_is_repeated_moves_nothing_again(world: World) -> None:
    """Every task may run twice: a second try finds the result in the bucket and starts no pod."""
    world.policy("twice", "blog")
    file = world.home / "policies" / "twice.yaml"
    state, states = run(policy_dag(load_file(file), file=file, operators={**OPERATORS, "upload": UploadTwice}))

    assert (state, states["upload:0"]) == ("success", "success")


def test_a_restore_plans_first_and_then_does_it(world: World) -> None:
    """Without being told otherwise nothing is changed; told so, the namespace is back with every object and every byte."""
    world.application("wiki")
    world.ready("wiki")
    run(world.policy("books", "wiki"))
    world.cluster.delete(NAMESPACE, "wiki")
    world.until(lambda: not any(found["metadata"]["name"] == "wiki" for found in world.cluster.list(NAMESPACE)))
    world.say("books", "environment: test")
    dag = restore_dag(["books"], folder=world.home / "policies")
    planned = run(dag, policy="books")
    there = [found["metadata"]["name"] for found in world.cluster.list(NAMESPACE)]
    done = run(dag, policy="books", dry_run=False)

    assert planned == ("success", {**dict.fromkeys(RESTORE, "skipped"), "plan": "success"})
    assert "wiki" not in there
    assert done == ("success", dict.fromkeys((*(task for task in RESTORE if task != "restore"), "restore:0"), "success"))
    assert world.cluster.get(SECRET, "key", namespace="wiki")["data"] == {"word": "d2lraQ=="}
    world.until(lambda: world.journal("wiki")[:1] == ["frozen"])
    assert world.left_over() == []


def test_a_restore_does_not_accept_words_it_does_not_know(world: World) -> None:
    """A misspelled selection must not become a restore of everything."""
    world.policy("words", "blog")
    state, states = run(restore_dag(["words"], folder=world.home / "policies"), policy="words", namespace=["blog"], dry_run=False)

    assert (state, states["plan"], states["restore"]) == ("failed", "failed", "upstream_failed")


def test_no_form_takes_away_the_approval_that_production_requires(world: World) -> None:
    """It is refused before anything is planned."""
    world.policy("strict", "blog")
    state, states = run(restore_dag(["strict"], folder=world.home / "policies"), policy="strict", dry_run=False, approval="skip")

    assert (state, states["plan"]) == ("failed", "failed")
    assert {states[task] for task in RESTORE[1:]} == {"upstream_failed"}


def test_a_drill_proves_a_point_and_leaves_nothing(world: World) -> None:
    """In a namespace of its own, with the policy's check run in the restored pod; afterwards it is gone, and the report is in the bucket."""
    run(world.policy("proof", "blog"))
    world.say("proof", "drill: {ready: 30s, checks: [{select: {labels: app=db}, command: [grep, -q, blog, /data/rows]}]}")
    dags = drill_dags(world.home / "policies")
    before = world.journal("blog")
    done = run(dags["becalm_drill_proof"])
    world.say("proof", "drill: {ready: 30s, checks: [{select: {labels: app=db}, command: [grep, -q, nothing, /data/rows]}]}")
    failed = run(dags["becalm_drill"], policy="proof")
    reports = drill_record.listed(open_repository(open_store(f"file://{world.store}/proof", {}), PASSWORD))

    assert done == ("success", dict.fromkeys(("begin", "restore", "check", "finish"), "success"))
    assert failed == ("failed", {"begin": "success", "restore": "success", "check": "failed", "finish": "failed"})
    assert [(report.ok, report.volumes, [check.ok for check in report.checks]) for report in reports] == [
        (True, 1, [True]),
        (False, 1, [False]),
    ]
    assert not [one for one in world.cluster.list(NAMESPACE) if one["metadata"]["name"].startswith("drill-")]
    assert world.journal("blog") == before
    assert world.left_over() == []
