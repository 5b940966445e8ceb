"""A recovery point whose volumes were cut together, by one group snapshot of a real storage: protected, lost, restored, compared byte by byte."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from tests.e2e.harness import World, becalm, write_policy

from becalm.kube.kinds import GROUP_CLASS, NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from becalm.model import Manifest

pytestmark = [pytest.mark.cluster, pytest.mark.s3]

NEEDED = ("KUBECONFIG", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
CLAIMS = ("data", "log")
FILL = (
    "for f in /vol/data /vol/log; do [ -e $f/large ] || { mkdir -p $f/deep/er; head -c 3000000 /dev/urandom >$f/large; "
    "echo $f >$f/deep/er/name; }; done; sync; touch /tmp/ready; exec sleep 36000"
)
DIGESTS = "cd /vol && find data log -type f ! -path '*lost+found*' | sort | xargs sha256sum"


@pytest.fixture
def world() -> World:
    """The cluster and the bucket's server; without them there is nothing to test."""
    if absent := [name for name in NEEDED if not os.environ.get(name)]:
        pytest.skip(f"no real cluster and bucket here: {', '.join(absent)} not set")
    found = World.connect(os.environ["KUBECONFIG"])
    if not any(kind.resource == GROUP_CLASS.resource for kind in found.cluster.discover().kinds) or not list(
        found.cluster.list(GROUP_CLASS)
    ):
        pytest.skip("this cluster cuts no groups: it has no VolumeGroupSnapshotClass")
    return found


@pytest.fixture
def bucket() -> Iterator[str]:
    """A bucket of its own."""
    import boto3

    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1")
    name = f"becalm-group-{uuid4().hex[:8]}"
    client.create_bucket(Bucket=name)
    yield name
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
        for item in page.get("Contents", ()):
            client.delete_object(Bucket=name, Key=item["Key"])
    client.delete_bucket(Bucket=name)


def manifests() -> Iterator[Manifest]:
    """Two claims and one Deployment that mounts both, and fills them when they are empty."""
    for name in CLAIMS:
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}}
        yield {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}
    container = {
        "name": "main",
        "image": "becalm.dev/busybox:1",
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", FILL],
        "readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1},
        "volumeMounts": [{"name": name, "mountPath": f"/vol/{name}"} for name in CLAIMS],
    }
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in CLAIMS]
    labels = {"app": "pair"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 1}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": pod}
    yield {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "pair", "labels": labels}, "spec": spec}


def test_a_point_that_was_cut_as_a_group_is_restored_like_any_other(world: World, bucket: str, tmp_path: Path) -> None:
    """Both volumes carry the group's name and one instant; the lost namespace comes back with every byte."""
    name, own = (f"l-{what}-{uuid4().hex[:6]}" for what in ("pair", "own"))
    endpoint = os.environ.get("BECALM_MOVER_ENDPOINT_URL") or os.environ["AWS_ENDPOINT_URL"]
    environment = {"BECALM_PASSWORD": "correct horse", "BECALM_NAMESPACE": own, "BECALM_MOVER_ENDPOINT_URL": endpoint}
    policy = write_policy(
        tmp_path / "pair.yaml",
        [
            "apiVersion: becalm.dev/v1",
            "kind: ProtectionPolicy",
            "metadata: {name: pair}",
            f"spec: {{environment: test, select: {{namespaces: [{name}]}}, target: {{url: 's3://{bucket}/x', password: env:BECALM_PASSWORD}}}}",
        ],
    )
    try:
        for namespace in (name, own):
            world.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        for manifest in manifests():
            world.create(manifest, name)
        before = world.shell(name, world.ready(name, "app=pair"), DIGESTS, container="main")
        becalm("init", str(policy), environment=environment)
        becalm("run", str(policy), environment=environment)
        described = becalm("show", str(policy), environment=environment)
        world.delete_namespace(name)
        becalm("restore", str(policy), "--yes", environment=environment)
        after = world.shell(name, world.ready(name, "app=pair"), DIGESTS, container="main")
    finally:
        for namespace in (name, own):
            world.cluster.delete(NAMESPACE, namespace)
    (application,) = described["description"]["applications"]
    cuts = application["volumes"]

    assert described["point"]["complete"]
    assert len({cut["group"] for cut in cuts} - {""}) == 1
    assert len({cut["created"] for cut in cuts}) <= 2
    assert (len(before.splitlines()), after) == (4, before)
