"""The worst day, on a real cluster: everything in it is wiped, an empty one comes up, and one command brings back all that was protected.

It wipes the cluster, so it runs only where BECALM_REBUILD_WIPES=1 says that this cluster is for that, and BECALM_CLUSTER_COMMAND names the
program that wipes and starts it (`wipe`, `up`). It must run alone.
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from becalm.kube.base import Verb
from becalm.kube.kinds import NODE, SECRET
from tests.e2e.harness import World, becalm, eventually, write_policy

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.s3,
    pytest.mark.skipif(
        os.environ.get("BECALM_REBUILD_WIPES") != "1" or not os.environ.get("BECALM_CLUSTER_COMMAND"),
        reason="it wipes the cluster: BECALM_REBUILD_WIPES=1 and BECALM_CLUSTER_COMMAND say that it may",
    ),
]

IMAGE = "becalm.dev/busybox:1"
POLICIES = {"front": "production", "back": "test"}
"""Names of policies and of their namespaces, with their environments."""
TAINT = {"key": "becalm-test", "value": "kept", "effect": "PreferNoSchedule"}


def policy_lines(name: str, environment: str, bucket: str) -> list[str]:
    """A policy for one namespace."""
    scope = "all" if name == "front" else "auto"
    return [
        "apiVersion: becalm.dev/v1",
        "kind: ProtectionPolicy",
        f"metadata: {{name: {name}}}",
        "spec:",
        "  cluster: any",
        f"  environment: {environment}",
        f"  select: {{namespaces: [{name}], clusterScoped: {scope}}}",
        f"  target: {{url: 's3://{bucket}/worst', password: becalm_repository}}",
    ]


def definition(group: str) -> dict[str, Any]:
    """A kind of custom resources that only one of the policies holds."""
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }
    names = {"plural": "campaigns", "singular": "campaign", "kind": "Campaign", "listKind": "CampaignList"}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"campaigns.{group}"},
        "spec": spec,
    }


def application(name: str) -> list[dict[str, Any]]:
    """A Deployment that writes into its volume once, and keeps what is there."""
    script = f"[ -f /data/word ] || echo {name} > /data/word; sync; exec sleep 1000000"
    container = {"name": "main", "image": IMAGE, "command": ["sh", "-c", script], "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    pod = {
        "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        "terminationGracePeriodSeconds": 0,
    }
    labels = {"app": name}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key", "namespace": name}, "stringData": {"word": name}},
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data", "namespace": name},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": name},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "strategy": {"type": "Recreate"},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
    ]


def cluster_command(*words: str) -> None:
    """Wipe or start the cluster."""
    done = subprocess.run([os.environ["BECALM_CLUSTER_COMMAND"], *words], capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_wiped_cluster_comes_back_from_the_bucket_alone(world: World, bucket: str, folder: Path, environment: dict[str, str]) -> None:
    """Objects, data, custom resources, and what was put on the node; the second time nothing is left to do."""
    world.create(definition("rebuild.becalm.dev"))
    eventually(lambda: world.learn() or "rebuild.becalm.dev/v1/Campaign" in world.kinds, "the campaigns are served", seconds=60)
    for name in POLICIES:
        for manifest in application(name):
            world.create(manifest, manifest["metadata"].get("namespace"))
        campaign = {"apiVersion": "rebuild.becalm.dev/v1", "kind": "Campaign", "metadata": {"name": "winter"}, "spec": {"discount": 3}}
        world.create(campaign, name)
    (node,) = list(world.cluster.list(NODE))
    marks = {"metadata": {"name": node["metadata"]["name"], "labels": {"becalm-test/disk": "ssd"}}, "spec": {"taints": [TAINT]}}
    world.cluster.apply(NODE, marks, verb=Verb.MERGE)
    for name, kind in POLICIES.items():
        pod = world.ready(name, f"app={name}")
        eventually(
            lambda pod=pod, name=name: world.shell(name, pod, "cat /data/word", container="main").strip() == name, "it wrote", seconds=60
        )
        policy = write_policy(folder / f"{name}.yaml", policy_lines(name, kind, bucket))
        becalm("init", str(policy), environment=environment)
        becalm("run", str(policy), environment=environment)

    cluster_command("wipe")
    cluster_command("up")
    empty = World.connect(environment["KUBECONFIG"])
    assert not {one["metadata"]["name"] for one in empty.list("v1/Namespace")} & set(POLICIES)
    images = os.environ.get("BECALM_REBUILD_IMAGES")  # what brings the movers' image and the application's back, where no registry does
    if images:
        subprocess.run(images, shell=True, check=True, timeout=900)
    told = ("rebuild", "--target", f"s3://{bucket}/worst", "--password", "env:BECALM_PASSWORD", "--nodes", "--wait", "10m", "--yes")
    report = becalm(*told, environment=environment)
    again = becalm(*told, environment=environment)

    empty.learn()
    assert report["ok"], report
    assert [part["policy"] for part in report["plan"]["parts"]] == ["front", "back"]
    assert sum(part["created"] for part in again["report"]["parts"]) == 0
    for name in POLICIES:
        pod = empty.ready(name, f"app={name}")
        assert empty.shell(name, pod, "cat /data/word", container="main").strip() == name
        assert empty.cluster.get(SECRET, "key", namespace=name)["data"]
        assert [one["spec"] for one in empty.list("rebuild.becalm.dev/v1/Campaign", name)] == [{"discount": 3}]
    (node,) = list(empty.cluster.list(NODE))
    assert node["metadata"]["labels"]["becalm-test/disk"] == "ssd"
    assert TAINT in node["spec"]["taints"]
    print(json.dumps({"rebuilt_seconds": report["report"]["seconds"], "parts": report["report"]["parts"]}, indent=2))
    for name in POLICIES:
        empty.delete_namespace(name)
