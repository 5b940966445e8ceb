"""What the measurements on real parts stand on: an Airflow on PostgreSQL, a bucket, a namespace, and an application that times itself.

The application writes eight bytes into its volume and syncs them, again and again. Whenever that takes longer than it should it
says so: the longest such moment is the freeze as the application felt it, whatever anybody else believes.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from becalm.sandbox.conductor import Conductor
from tests.e2e.airflow import running_airflow
from tests.e2e.harness import World, becalm, eventually, gone

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROJECT = Path(__file__).parents[2]
NEEDED = ("KUBECONFIG", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
PASSWORD = "bench"

TICKER = """
import json, os, time
file = os.open("/data/ticks", os.O_CREAT | os.O_WRONLY, 0o600)
number = 0
while True:
    began = time.time()
    os.pwrite(file, number.to_bytes(8, "big"), 0)
    os.fdatasync(file)
    ended = time.time()
    if ended - began > 0.1:
        print(json.dumps({"began": began, "seconds": ended - began}), flush=True)
    number += 1
    time.sleep(0.005)
"""
FREEZE = ["fsfreeze", "--freeze", "/data"]
THAW = ["sh", "-c", "out=$(fsfreeze --unfreeze /data 2>&1) || case $out in *'Invalid argument'*) ;; *) echo \"$out\" >&2; exit 1;; esac"]


def absent() -> str:
    """Say which real parts are not there; nothing where all are."""
    missing = [name for name in NEEDED if not os.environ.get(name)]
    return f"no cluster and bucket: {', '.join(missing)} not set" if missing else ""


def variables() -> dict[str, str]:
    """Return the variables by which Becalm's command line finds everything."""
    pods = os.environ.get("BECALM_MOVER_ENDPOINT_URL") or os.environ["AWS_ENDPOINT_URL"]
    image = os.environ.get("BECALM_MOVER_IMAGE", "becalm/mover")
    known = {name: os.environ[name] for name in NEEDED}
    return {**known, "BECALM_PASSWORD": PASSWORD, "BECALM_MOVER_ENDPOINT_URL": pods, "BECALM_MOVER_IMAGE": image}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """One application under one policy, and everything that protects it."""

    world: World
    airflow: Conductor
    policy: Path
    namespace: str
    pod: str
    variables: dict[str, str]

    @property
    def dag(self) -> str:
        """The policy's DAG."""
        return f"becalm_policy_{self.policy.stem}"

    def run(self) -> tuple[str, list[dict[str, Any]]]:
        """Run the policy in Airflow; return the run's id and its tasks. Fails where the run does."""
        run = self.airflow.trigger(self.dag)
        state = self.airflow.wait(self.dag, run, seconds=300)
        assert state == "success", self.airflow.failures(self.dag, run)
        return run, self.airflow.tasks(self.dag, run)

    def run_by_hand(self) -> None:
        """Run the policy by the command line."""
        becalm("run", str(self.policy), environment=self.variables)

    def stalls(self) -> list[dict[str, float]]:
        """Return every write of the application so far that had to wait."""
        return [json.loads(line) for line in self.world.cluster.logs(self.namespace, self.pod, container="ticker")]


@contextmanager
def stand() -> Iterator[Stand]:
    """Build it all, hand it out, take it down."""
    given = variables()
    world = World.connect(given["KUBECONFIG"])
    with tempfile.TemporaryDirectory(prefix="becalm-bench-") as folder, bucket(given) as place, _namespace(world) as namespace:
        pod = _application(world, namespace, image=given["BECALM_MOVER_IMAGE"])
        policies = Path(folder) / "policies"
        policies.mkdir()
        policy = policies / "bench.yaml"
        policy.write_text(_policy(namespace, place))
        becalm("init", str(policy), environment=given)
        with running_airflow(Path(folder) / "airflow", policies, given, password=PASSWORD) as airflow:
            made = Stand(world=world, airflow=airflow, policy=policy, namespace=namespace, pod=pod, variables=given)
            airflow.wait_for_dag(made.dag)
            yield made


def _policy(namespace: str, bucket: str) -> str:
    hook = {"select": {"labels": "app=ticker"}, "command": {"container": "ticker", "freeze": FREEZE, "thaw": THAW}}
    target = {"url": f"s3://{bucket}/prod", "connection": "becalm_s3", "password": "becalm_repository"}
    spec = {
        "cluster": "kubernetes_default",
        "select": {"namespaces": [namespace]},
        "quiesce": {"timeout": "30s", "hooks": [hook]},
        "target": target,
        "retention": {"last": 3},
    }
    return json.dumps({"apiVersion": "becalm.dev/v1", "kind": "ProtectionPolicy", "metadata": {"name": "bench"}, "spec": spec})


def _application(world: World, namespace: str, *, image: str) -> str:
    """Make a volume and the one pod that writes to it; return the pod's name when it runs."""
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}}
    world.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": claim}, namespace)
    container = {
        "name": "ticker",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", TICKER],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "securityContext": {"privileged": True},
    }
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    spec = {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 1}
    world.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ticker", "labels": {"app": "ticker"}}, "spec": spec}, namespace)
    return world.ready(namespace, "app=ticker")


@contextmanager
def bucket(given: Mapping[str, str]) -> Iterator[str]:
    """Make a bucket, hand out its name, and remove it with all that is in it."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=given["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
    )
    name = f"becalm-bench-{uuid4().hex[:8]}"
    client.create_bucket(Bucket=name)
    try:
        yield name
    finally:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
            for item in page.get("Contents", ()):
                client.delete_object(Bucket=name, Key=item["Key"])
        client.delete_bucket(Bucket=name)


@contextmanager
def _namespace(world: World) -> Iterator[str]:
    name = f"becalm-bench-{uuid4().hex[:6]}"
    world.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    try:
        yield name
    finally:
        kind = world.kinds["v1/Namespace"]
        world.cluster.delete(kind, name)
        eventually(lambda: gone(lambda: world.cluster.get(kind, name)), f"namespace {name} is gone", seconds=120)
