"""The sandbox as a process: what it does beyond the contract of every cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from becalm.errors import ClusterUnavailable, NotFound
from becalm.kube import connect
from becalm.kube.base import Cluster, Kind, Verb
from becalm.kube.kinds import CLAIM, CONFIG_MAP, NAMESPACE, POD, SNAPSHOT
from becalm.model import Manifest
from becalm.sandbox.applications import CHECK, FREEZE, THAW, manifests
from becalm.sandbox.processes import marked
from becalm.testing.sandbox import SandboxHandle, running_sandbox

T = TypeVar("T")
STAY = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxHandle]:
    with running_sandbox(tmp_path / "state") as handle:
        yield handle


@pytest.fixture
def cluster(sandbox: SandboxHandle) -> Cluster:
    return connect(kubeconfig=str(sandbox.kubeconfig))


def eventually(look: Callable[[], T | None], seconds: float = 15) -> T:
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.03)
    return found


def a_pod(name: str, script: str, *, claim: str = "", **spec: Any) -> Manifest:
    container: Manifest = {"name": "main", "image": "becalm.dev/busybox:1", "command": ["sh", "-c", script]}
    volumes = []
    if claim:
        container["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
        volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]
    base = {"terminationGracePeriodSeconds": 1, "containers": [container], "volumes": volumes}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {**base, **spec}}


def a_claim(name: str) -> Manifest:
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": "standard", "resources": {"requests": {"storage": "8Mi"}}}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


def running(cluster: Cluster, name: str) -> Manifest:
    def look() -> Manifest | None:
        pod = cluster.get(POD, name, namespace="default")
        return pod if pod["status"]["phase"] == "Running" else None

    return eventually(look)


def kinds_of(cluster: Cluster) -> dict[tuple[str, str], Kind]:
    return {(kind.api_version, kind.kind): kind for kind in cluster.discover().kinds}


def test_objects_and_data_survive_a_restart_and_pods_run_again(tmp_path: Path) -> None:
    """A pod that is to run once is not run twice."""
    with running_sandbox(tmp_path) as handle:
        cluster = connect(kubeconfig=str(handle.kubeconfig))
        cluster.apply(CLAIM, a_claim("data"), verb=Verb.CREATE)
        cluster.apply(POD, a_pod("again", f"echo x >> /data/starts; {STAY}", claim="data"), verb=Verb.CREATE)
        cluster.apply(POD, a_pod("once", STAY, restartPolicy="Never"), verb=Verb.CREATE)
        running(cluster, "again")
        revision = int(running(cluster, "once")["metadata"]["resourceVersion"])
    with running_sandbox(tmp_path) as handle:
        cluster = connect(kubeconfig=str(handle.kubeconfig))
        status = eventually(
            lambda: (found := cluster.get(POD, "again", namespace="default")["status"]["containerStatuses"][0])["restartCount"] and found
        )
        starts = eventually(
            lambda: (
                (found := cluster.exec("default", "again", container="main", command=["cat", "/data/starts"]).stdout).count(b"x") > 1
                and found
            )
        )
        once = cluster.get(POD, "once", namespace="default")

    assert (status["restartCount"], starts) == (1, b"x\nx\n")
    assert once["status"]["phase"] == "Failed"
    assert int(once["metadata"]["resourceVersion"]) > revision


def test_a_killed_sandbox_leaves_nothing_running_once_it_starts_again(tmp_path: Path) -> None:
    """Not the processes of its pods, and not what an exec left behind in a session of its own."""
    state = tmp_path / "state"
    command = [sys.executable, "-m", "becalm.sandbox", "serve", "--state", str(state)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    cluster = connect(kubeconfig=str(state / "kubeconfig"))
    cluster.apply(POD, a_pod("p", STAY, restartPolicy="Never"), verb=Verb.CREATE)
    uid = running(cluster, "p")["metadata"]["uid"]
    cluster.exec("default", "p", container="main", command=["sh", "-c", "setsid sleep 60 </dev/null >/dev/null 2>&1 &"])
    root = str(state / "pods" / uid)
    before = marked("BECALM_SANDBOX_ROOT", root)
    process.kill()
    process.wait()
    process.stdout.close()
    with running_sandbox(state):
        after = eventually(lambda: not marked("BECALM_SANDBOX_ROOT", root))

    assert len(before) >= 2
    assert after


def test_what_an_exec_left_behind_ends_with_its_pod(cluster: Cluster, sandbox: SandboxHandle) -> None:
    """As a container's processes end with it."""
    cluster.apply(POD, a_pod("p", STAY), verb=Verb.CREATE)
    uid = running(cluster, "p")["metadata"]["uid"]
    cluster.exec("default", "p", container="main", command=["sh", "-c", "setsid sleep 60 </dev/null >/dev/null 2>&1 &"])
    root = str(sandbox.state / "pods" / uid)
    before = marked("BECALM_SANDBOX_ROOT", root)
    cluster.delete(POD, "p", namespace="default")

    assert len(before) >= 2
    assert eventually(lambda: not marked("BECALM_SANDBOX_ROOT", root))


def test_a_cut_is_one_instant_even_of_a_volume_that_is_written_to(cluster: Cluster, sandbox: SandboxHandle) -> None:
    """A writer that raises two counters in turn is never cut with the second ahead, or the first ahead by more than one."""
    script = "i=0; while :; do i=$((i+1)); printf '%s ' $i >> /data/a; printf '%s ' $i >> /data/b; done"
    cluster.apply(CLAIM, a_claim("data"), verb=Verb.CREATE)
    cluster.apply(POD, a_pod("writer", script, claim="data"), verb=Verb.CREATE)
    running(cluster, "writer")
    for number in range(5):
        wanted = {"metadata": {"name": f"s{number}", "namespace": "default"}, "spec": {"source": {"persistentVolumeClaimName": "data"}}}
        cluster.apply(SNAPSHOT, wanted, verb=Verb.CREATE)
        eventually(lambda name=f"s{number}": (cluster.get(SNAPSHOT, name, namespace="default").get("status") or {}).get("readyToUse"))
    cuts = [
        [len((folder / name).read_text().split()) for name in "ab"] for folder in (sandbox.state / "snapshots").iterdir() if folder.is_dir()
    ]

    assert len(cuts) == 5
    assert all(first - second in (0, 1) for first, second in cuts)
    assert len({first for first, _ in cuts}) == 5


def test_requests_meet_the_trouble_that_was_asked_for(cluster: Cluster, sandbox: SandboxHandle) -> None:
    """A refusal counted down, and a reply that is lost although the work was done."""
    sandbox.faults(
        requests=[{"match": "^GET .*/configmaps/x", "status": 503, "times": 1}, {"match": "^POST .*/configmaps", "drop": "after"}]
    )
    config = {"metadata": {"name": "x", "namespace": "default"}, "data": {"k": "1"}}
    with pytest.raises(ClusterUnavailable):
        cluster.apply(CONFIG_MAP, config, verb=Verb.CREATE)
    with pytest.raises(ClusterUnavailable):
        cluster.get(CONFIG_MAP, "x", namespace="default")

    assert cluster.get(CONFIG_MAP, "x", namespace="default")["data"] == {"k": "1"}


def test_nobody_is_served_without_the_token(sandbox: SandboxHandle) -> None:
    """But for the question whether it lives."""
    with urllib.request.urlopen(f"{sandbox.url}/readyz") as response:
        ready = response.status
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{sandbox.url}/api/v1/namespaces")

    assert (ready, refused.value.code) == (200, 401)
    assert json.load(refused.value)["reason"] == "Unauthorized"


def test_a_folder_serves_one_sandbox(sandbox: SandboxHandle) -> None:
    """A second one says so and ends."""
    command = [sys.executable, "-m", "becalm.sandbox", "serve", "--state", str(sandbox.state)]
    second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)

    assert second.returncode == 2
    assert "another sandbox uses this folder" in second.stderr


def test_a_sandbox_ends_when_it_is_told_to(tmp_path: Path) -> None:
    """With all of its pods' processes."""
    with running_sandbox(tmp_path) as handle:
        cluster = connect(kubeconfig=str(handle.kubeconfig))
        cluster.apply(POD, a_pod("p", "trap '' TERM; while :; do sleep 0.1; done"), verb=Verb.CREATE)
        running(cluster, "p")
        os.kill(handle.pid, signal.SIGTERM)

    assert not marked("BECALM_SANDBOX_ROOT", str(tmp_path / "pods"), below=True)


def test_workloads_make_their_pods(cluster: Cluster) -> None:
    """A Deployment rolls, a StatefulSet keeps its claims, a Job completes, and a CronJob only stands there."""
    kinds = kinds_of(cluster)
    labels = {"a": "b"}
    spec = a_pod("x", STAY)["spec"]
    template = {"metadata": {"labels": labels}, "spec": spec}
    here = {"namespace": "default"}
    selector = {"matchLabels": labels}
    claims = [{"metadata": {"name": "data"}, "spec": a_claim("x")["spec"]}]
    job = {"template": {"spec": {**a_pod("x", "exit 0")["spec"], "restartPolicy": "Never"}}}
    for api, kind, body in (
        ("apps/v1", "Deployment", {"replicas": 2, "selector": selector, "template": template}),
        ("apps/v1", "StatefulSet", {"replicas": 2, "selector": {"matchLabels": {"s": "t"}}, "volumeClaimTemplates": claims,
                                    "template": {"metadata": {"labels": {"s": "t"}}, "spec": spec}}),
        ("batch/v1", "Job", job),
        ("batch/v1", "CronJob", {"schedule": "* * * * *", "jobTemplate": {"spec": job}}),
    ):  # fmt: skip
        cluster.apply(kinds[api, kind], {"metadata": {"name": kind.lower(), **here}, "spec": body}, verb=Verb.CREATE)

    def status(api: str, kind: str) -> Manifest:
        return cluster.get(kinds[api, kind], kind.lower(), namespace="default").get("status") or {}

    eventually(lambda: status("apps/v1", "Deployment").get("readyReplicas") == 2)
    eventually(lambda: status("apps/v1", "StatefulSet").get("readyReplicas") == 2)
    eventually(lambda: status("batch/v1", "Job").get("succeeded") == 1)
    first = {pod["metadata"]["name"] for pod in cluster.list(POD, namespace="default", labels="a=b")}
    change = {"metadata": {"name": "deployment", **here}, "spec": {"template": {"metadata": {"annotations": {"new": "yes"}}}}}
    cluster.apply(kinds["apps/v1", "Deployment"], change, verb=Verb.MERGE)

    def rolled() -> bool:
        pods = list(cluster.list(POD, namespace="default", labels="a=b"))
        return len(pods) == 2 and not first & {pod["metadata"]["name"] for pod in pods}

    assert eventually(rolled)
    assert {claim["metadata"]["name"] for claim in cluster.list(CLAIM, namespace="default")} == {"data-statefulset-0", "data-statefulset-1"}
    assert [item["metadata"]["name"] for item in cluster.list(kinds["batch/v1", "Job"], namespace="default")] == ["job"]


def test_the_sample_application_runs_is_cut_cleanly_and_goes(cluster: Cluster, sandbox: SandboxHandle) -> None:
    """Frozen by its hook, cut, thawed: the cut is one that the database itself calls clean. Without its namespace nothing is left."""
    for manifest in manifests("shop"):
        kind = eventually(lambda wanted=(manifest["apiVersion"], manifest["kind"]): kinds_of(cluster).get(wanted))
        cluster.apply(kind, manifest, verb=Verb.CREATE)

    def ready() -> bool:
        pods = list(cluster.list(POD, namespace="shop"))
        statuses = [status for pod in pods for status in pod["status"].get("containerStatuses") or ()]
        return len(statuses) == 2 and all(status["ready"] for status in statuses)

    eventually(ready)
    frozen = cluster.exec("shop", "orders-db-0", container="db", command=FREEZE)
    wanted = {"metadata": {"name": "cut", "namespace": "shop"}, "spec": {"source": {"persistentVolumeClaimName": "data-orders-db-0"}}}
    cluster.apply(SNAPSHOT, wanted, verb=Verb.CREATE)
    eventually(lambda: (cluster.get(SNAPSHOT, "cut", namespace="shop").get("status") or {}).get("creationTime"))
    thawed = cluster.exec("shop", "orders-db-0", container="db", command=THAW)
    (cut,) = (folder for folder in (sandbox.state / "snapshots").iterdir() if folder.is_dir())
    check = subprocess.run([sys.executable, *CHECK[1:-1], str(cut), "--quiesced"], capture_output=True, text=True, check=False)
    cluster.delete(NAMESPACE, "shop")

    def gone() -> bool:
        try:
            cluster.get(NAMESPACE, "shop")
        except NotFound:
            return True
        return False

    assert (frozen.exit_code, thawed.exit_code, check.returncode) == (0, 0, 0), check.stdout
    assert eventually(gone)
    assert [list((sandbox.state / name).iterdir()) for name in ("volumes", "snapshots", "pods")] == [[], [], []]
