"""Drills on a real cluster and a real bucket, by the command line: proven and gone, failed and gone, and the live application as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from becalm.kube.kinds import NAMESPACE, VOLUME
from tests.e2e.harness import World, becalm, eventually, write_policy
from tests.e2e.test_rebuild import application

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.cluster, pytest.mark.s3]


def policy_lines(namespace: str, bucket: str, word: str) -> list[str]:
    """A policy whose drill looks for a word in the restored volume."""
    return [
        "apiVersion: becalm.dev/v1",
        "kind: ProtectionPolicy",
        "metadata: {name: drilled}",
        "spec:",
        "  cluster: any",
        "  objectives: {rto: 10m}",
        f"  select: {{namespaces: [{namespace}]}}",
        f"  target: {{url: 's3://{bucket}/drills', password: becalm_repository}}",
        f"  drill: {{ready: 2m, checks: [{{select: {{labels: app={namespace}}}, command: [grep, -q, {word}, /data/word]}}]}}",
    ]


def test_a_point_is_proven_and_nothing_is_left(
    world: World, bucket: str, folder: Path, namespace: str, environment: dict[str, str]
) -> None:
    """Ready, checked, measured, removed with its volumes; a check that fails is told, and everything goes all the same."""
    for manifest in application(namespace):
        world.create(manifest, manifest["metadata"].get("namespace"))
    pod = world.ready(namespace, f"app={namespace}")
    eventually(lambda: world.shell(namespace, pod, "cat /data/word", container="main").strip() == namespace, "it wrote", seconds=60)
    policy = write_policy(folder / "drilled.yaml", policy_lines(namespace, bucket, namespace))
    becalm("init", str(policy), environment=environment)
    becalm("run", str(policy), environment=environment)
    before = world.cluster.get(NAMESPACE, namespace)["metadata"]["resourceVersion"], world.ready(namespace, f"app={namespace}")

    proven = becalm("drill", str(policy), environment=environment)["drill"]
    write_policy(folder / "drilled.yaml", policy_lines(namespace, bucket, "nothing"))
    failed = becalm("drill", str(policy), environment=environment, code=4)["drill"]
    listed = becalm("drills", str(policy), environment=environment)["drills"]

    assert (proven["ok"], proven["volumes"], [check["ok"] for check in proven["checks"]]) == (True, 1, [True]), proven
    assert 0 < proven["recovery_seconds"] < 600
    assert [check["ok"] for check in failed["checks"]] == [False]
    assert [one["ok"] for one in listed] == [True, False]
    assert not [one for one in world.cluster.list(NAMESPACE) if one["metadata"]["name"].startswith("drill-drilled-")]
    assert {
        one["metadata"]["name"] for one in world.cluster.list(VOLUME) if one["spec"]["claimRef"]["namespace"].startswith("drill-drilled-")
    } == set()
    assert before == (world.cluster.get(NAMESPACE, namespace)["metadata"]["resourceVersion"], world.ready(namespace, f"app={namespace}"))
