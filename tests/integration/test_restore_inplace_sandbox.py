"""Restoring in place in a cluster that answers for itself: real movers, real snapshots, a workload that is stopped and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

import pytest

from becalm.actions import restore, restore_safety
from becalm.actions.handover import Ports, Settings
from becalm.actions.restore import RestoreReport, RestoreRequest
from becalm.actions.restore_marks import Mark, Stage
from becalm.clock import SystemClock
from becalm.kube import connect
from becalm.kube.base import Cluster, Verb
from becalm.kube.kinds import CLAIM, NAMESPACE, POD, SNAPSHOT
from becalm.kube.pods import PodMover
from becalm.storage import open_store
from becalm.testing.sandbox import running_sandbox
from becalm.testing.saved_points import PASSWORD, save_point

DATA = {"greeting": b"of the point\n", "same": b"the same\n", "deep/er": b"2"}
CHANGE = "cp /data/same /data/kept; printf 'of now' > /data/greeting; printf x > /data/extra; mkdir -p /data/more/and; rm -rf /data/deep"
PATIENCE_SECONDS = 90


@dataclass
class World:
    """A cluster, a namespace in it with a Deployment that has changed its data since, and a bucket with the point."""

    cluster: Cluster
    kubeconfig: str
    folder: Path
    name: str = field(default_factory=lambda: f"inplace-{token_hex(4)}")

    def __post_init__(self) -> None:
        self.store = open_store(f"file://{self.folder}/shop", {}, create=True)
        self.make("v1", "Namespace", {"name": self.name})
        spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": "standard", "resources": {"requests": {"storage": "64Mi"}}}
        self.claim = self.make("v1", "PersistentVolumeClaim", {"name": "data"}, spec=spec)
        container = {"name": "main", "image": "becalm.dev/busybox:1", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
        container["command"] = ["sh", "-c", "sleep 3600"]
        volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
        template = {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [container], "volumes": volumes},
        }
        self.make(
            "apps/v1",
            "Deployment",
            {"name": "web"},
            spec={"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template},
        )
        kinds = [kind for kind in self.cluster.discover().kinds if kind.preferred]
        saved = [self.cluster.get(NAMESPACE, self.name), self.cluster.get(CLAIM, "data", namespace=self.name)]
        save_point(self.store, saved, kinds=kinds, volumes={f"{self.name}/data": DATA})
        self.run(CHANGE)

    def make(self, api: str, kind: str, metadata: dict, **more: object) -> dict:
        """Create an object."""
        served = next(one for one in self.cluster.discover().kinds if (one.api_version, one.kind) == (api, kind))
        place = {"namespace": self.name} if served.namespaced else {}
        return self.cluster.apply(served, {"apiVersion": api, "kind": kind, "metadata": {**metadata, **place}, **more}, verb=Verb.CREATE)

    def pods(self) -> list[str]:
        """The pods of the Deployment that run."""
        found = self.cluster.list(POD, namespace=self.name, labels="app=web")
        return [
            pod["metadata"]["name"]
            for pod in found
            if pod.get("status", {}).get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")
        ]

    def run(self, script: str) -> bytes:
        """Run a script beside the data, once both pods run."""
        eventually(lambda: len(self.pods()) == 2)
        done = self.cluster.exec(self.name, self.pods()[0], container="main", command=["sh", "-c", script], timeout_seconds=30)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    @property
    def ports(self) -> Ports:
        """The outer world."""
        clock, settings = SystemClock(), Settings(cluster_name="test", mover_timeout_seconds=PATIENCE_SECONDS)
        movers = PodMover(self.cluster, clock, image=settings.mover_image, policy="shop")
        return Ports(cluster=self.cluster, store=self.store, password=PASSWORD, clock=clock, settings=settings, movers=movers)

    @property
    def request(self) -> RestoreRequest:
        """The data of the one volume, in place, read again afterwards."""
        return RestoreRequest(policy="shop", volumes=(f"{self.name}/data",), in_place=True, verify_data=True)

    def restore(self) -> RestoreReport:
        """Plan, and carry out."""
        return restore.execute(restore.prepare(self.request, self.ports), self.request, self.ports)

    def stage(self) -> Stage:
        """How far the claim is."""
        return Mark.of(self.cluster.get(CLAIM, "data", namespace=self.name)).stage

    def command(self) -> list[str]:
        """The same restore as a person types it."""
        place = [
            "--target",
            f"file://{self.folder}",
            "--policy",
            "shop",
            "--password",
            "env:BECALM_PASSWORD",
            "--kubeconfig",
            self.kubeconfig,
        ]
        asked = ["--volume", f"{self.name}/data", "--in-place", "--verify-data", "--yes"]
        return [sys.executable, "-m", "becalm.cli", "restore", *place, *asked]


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A small cluster."""
    with running_sandbox(tmp_path_factory.mktemp("sandbox")) as handle:
        yield str(handle.kubeconfig)


@pytest.fixture
def world(kubeconfig: str, tmp_path: Path) -> World:
    """A namespace of its own."""
    return World(cluster=connect(kubeconfig=kubeconfig), kubeconfig=kubeconfig, folder=tmp_path)


def as_in_the_point(world: World) -> None:
    """Both pods run on exactly the data of the point."""
    listed = world.run("cd /data && find . -type f | sort && cat greeting same deep/er && ls")

    assert listed == b"./deep/er\n./greeting\n./same\nof the point\nthe same\n2deep\ngreeting\nsame\n"
    assert world.stage() is Stage.DONE


def test_data_that_changed_is_as_it_was_and_the_old_is_kept_until_confirmed(world: World) -> None:
    """What came since is gone, what went is back, both pods run; the claim and its volume are the same; then the copy is let go."""
    report = world.restore()
    copies = list(world.cluster.list(SNAPSHOT, namespace=world.name))

    assert [str(finding) for finding in report.failures] == []
    as_in_the_point(world)
    assert world.cluster.get(CLAIM, "data", namespace=world.name)["metadata"]["uid"] == world.claim["metadata"]["uid"]
    assert [copy["status"]["readyToUse"] for copy in copies] == [True]
    assert restore.prepare(world.request, world.ports).changes_nothing

    assert len(restore_safety.confirm("shop", world.ports)) == 1
    eventually(lambda: not list(world.cluster.list(SNAPSHOT, namespace=world.name)))
    assert world.stage() is Stage.NONE


@pytest.mark.parametrize("stage", [Stage.BEGUN, Stage.WRITING, Stage.WRITTEN])
def test_killed_at_a_stage_the_same_command_ends_it(world: World, stage: Stage) -> None:
    """SIGKILL when the claim says so, or soon after: run again, it ends as an uninterrupted one, with one copy."""
    environment = {**os.environ, "BECALM_PASSWORD": PASSWORD}
    first = subprocess.Popen(world.command(), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    eventually(lambda: world.stage() in (stage, Stage.DONE) or first.poll() is not None)
    first.send_signal(signal.SIGKILL)
    first.wait()
    again = subprocess.run(world.command(), env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)

    assert again.returncode == 0, again.stdout + again.stderr
    as_in_the_point(world)
    assert len(list(world.cluster.list(SNAPSHOT, namespace=world.name))) == 1


def test_told_to_end_while_pods_are_stopped_it_starts_them_again_on_the_old_data(world: World) -> None:
    """SIGTERM before the first byte is written: nothing was replaced, everything runs, and it says so."""
    environment = {**os.environ, "BECALM_PASSWORD": PASSWORD}
    first = subprocess.Popen(world.command(), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    eventually(lambda: world.stage() is not Stage.NONE or first.poll() is not None)
    first.send_signal(signal.SIGTERM)
    _, told = first.communicate(timeout=PATIENCE_SECONDS)

    if world.stage() is Stage.NONE:
        assert "the old data is untouched, and what was stopped runs again" in told
        assert world.run("cat /data/greeting /data/extra") == b"of nowx"
    else:  # it had come further before it was told
        assert "is half written" in told or world.stage() in (Stage.WRITTEN, Stage.DONE)
        assert world.restore().ok
        as_in_the_point(world)


def test_one_file_comes_back_while_the_pod_runs(world: World) -> None:
    """Into a folder of the live volume; nothing is stopped, the rest stays as it is now, and a file of the same name is replaced."""
    uids = {pod["metadata"]["uid"] for pod in world.cluster.list(POD, namespace=world.name)}
    place = [
        "--target",
        f"file://{world.folder}",
        "--policy",
        "shop",
        "--password",
        "env:BECALM_PASSWORD",
        "--kubeconfig",
        world.kubeconfig,
    ]
    files = ["--file", f"volumes/{world.name}/data/greeting", "--into", f"{world.name}/data:more/and"]
    command = [sys.executable, "-m", "becalm.cli", "restore", *place, *files, "--yes"]
    environment = {**os.environ, "BECALM_PASSWORD": PASSWORD}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
    back = subprocess.run(
        [*command[:-1], "--into", f"{world.name}/data", "--yes"], env=environment, capture_output=True, text=True, check=False, timeout=90
    )

    assert (done.returncode, back.returncode) == (0, 0), done.stderr + back.stderr
    assert world.run("cat /data/more/and/greeting /data/greeting /data/extra") == b"of the point\nof the point\nx"
    assert uids == {pod["metadata"]["uid"] for pod in world.cluster.list(POD, namespace=world.name, labels="app=web")}
