"""The main story, on a real cluster and a real bucket: a DAG run protects, the namespace is lost, it comes back, every byte of it."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from becalm.errors import NotFound
from becalm.kube.diffing import compare
from becalm.kube.resources import left_out
from becalm.storage import open_store
from tests.e2e import applications
from tests.e2e.conftest import PASSWORD
from tests.e2e.harness import becalm, eventually, restic, saved_objects, write_policy

if TYPE_CHECKING:
    from pathlib import Path

    from becalm.sandbox.conductor import Conductor
    from tests.e2e.harness import World

pytestmark = [pytest.mark.cluster, pytest.mark.s3, pytest.mark.airflow]

DIRECTORIES, PER_DIRECTORY = 30, 2000


def policy_lines(namespace: str, bucket: str) -> list[str]:
    """A policy for one namespace with a database that is frozen by a hook."""
    return [
        "apiVersion: becalm.dev/v1",
        "kind: ProtectionPolicy",
        "metadata: {name: e2e}",
        "spec:",
        "  cluster: kubernetes_default",
        f"  select: {{namespaces: [{namespace}]}}",
        "  quiesce:",
        "    timeout: 30s",
        "    hooks:",
        "      - select: {labels: app=orders-db}",
        "        command:",
        "          container: db",
        f"          freeze: {json.dumps(applications.FREEZE)}",
        f"          thaw: {json.dumps(applications.THAW)}",
        f"  target: {{url: 's3://{bucket}/prod', connection: becalm_s3, password: becalm_repository}}",
        "  retention: {last: 3}",
    ]


def ledger(world: World, namespace: str, pod: str) -> tuple[int, int]:
    """Return how many transactions the database holds, and the highest number among them."""
    query = "psql -qAt -h 127.0.0.1 -U postgres -c 'select count(*), coalesce(max(id), 0) from ledger'"
    count, highest = world.shell(namespace, pod, query, container="db").strip().split("|")
    return int(count), int(highest)


def test_a_namespace_under_load_is_protected_lost_and_restored(
    world: World, airflow: Conductor, bucket: str, folder: Path, namespace: str, environment: dict[str, str], postgres_image: str
) -> None:
    """Objects equal but for what the server assigns, files equal to the byte, the database consistent, and restic agrees."""
    group = f"{namespace}.becalm.dev"
    definition = applications.definition(group)
    world.create(definition)
    eventually(lambda: world.learn() or f"{group}/v1/Campaign" in world.kinds, "the campaigns are served", seconds=30)
    for manifest in (
        *applications.configuration(group),
        *applications.database(postgres_image),
        *applications.files(postgres_image, directories=DIRECTORIES, per_directory=PER_DIRECTORY),
    ):
        world.create(manifest, namespace)
    files_pod = world.ready(namespace, "app=files")
    database_pod = world.ready(namespace, "app=orders-db")
    eventually(lambda: ledger(world, namespace, database_pod)[1] > 200, "the database is written to", seconds=60)
    listed, hashed = world.files(namespace, files_pod, "/files", container="files")
    assert len(hashed) >= DIRECTORIES * PER_DIRECTORY

    policy = write_policy(folder / "policies" / "e2e.yaml", policy_lines(namespace, bucket))
    becalm("init", str(policy), environment=environment)
    airflow.wait_for_dag("becalm_policy_e2e")
    committed_before = ledger(world, namespace, database_pod)[1]
    run = airflow.trigger("becalm_policy_e2e")
    state = airflow.wait("becalm_policy_e2e", run, seconds=420, report=print)
    assert state == "success", airflow.failures("becalm_policy_e2e", run)

    described = becalm("show", str(policy), environment=environment)
    point = described["point"]
    assert point["complete"]
    assert point["consistency"] == "application-consistent", described["description"]["consistency"]

    store = open_store(f"s3://{bucket}/prod/e2e", environment)
    saved = saved_objects(store, PASSWORD, point["tree"])
    world.delete_namespace(namespace)
    world.cluster.delete(world.kind(definition), definition["metadata"]["name"])
    becalm("restore", str(policy), "--yes", environment=environment)

    world.learn()
    different = {path: changes for path, manifest, live in _pairs(world, saved) if (changes := compare(manifest, live))}
    assert different == {}
    files_pod = world.ready(namespace, "app=files")
    listed_again, hashed_again = world.files(namespace, files_pod, "/files", container="files")
    assert set(listed_again) ^ set(listed) == set()
    assert hashed_again == hashed
    database_pod = world.ready(namespace, "app=orders-db")
    world.shell(
        namespace,
        database_pod,
        "/usr/lib/postgresql/15/bin/pg_amcheck -h 127.0.0.1 -U postgres --install-missing --heapallindexed postgres",
        container="db",
    )
    count, highest = ledger(world, namespace, database_pod)
    assert count == highest >= committed_before

    repository = f"s3:{environment['AWS_ENDPOINT_URL']}/{bucket}/prod/e2e"
    keys = {**environment, "RESTIC_PASSWORD": PASSWORD}
    assert "no errors were found" in restic("check", "--read-data", repository=repository, environment=keys)
    target = folder / "by-restic"
    restic(
        "restore", point["id"], "--include", f"/volumes/{namespace}/files", "--target", str(target), repository=repository, environment=keys
    )
    theirs = subprocess.run(
        ["sh", "-c", f"cd {target}/volumes/{namespace}/files && find . -type f -print0 | sort -z | xargs -0 sha256sum"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert theirs.stdout.splitlines() == hashed

    world.delete_namespace(namespace)
    assert becalm("verify", str(policy), "--read-data", environment=environment)["ok"]


def _pairs(world: World, saved: dict[str, dict]) -> list[tuple[str, dict, dict]]:
    """Return every saved object that a restore brings back, with its living counterpart."""
    pairs = []
    services = {
        f"{m['metadata']['namespace']}/{m['metadata']['name']}"
        for m in saved.values()
        if m["kind"] == "Service" and m["spec"].get("selector")
    }
    for path, manifest in saved.items():
        if left_out(manifest, services=services):
            continue
        metadata = manifest["metadata"]
        try:
            live = world.cluster.get(world.kind(manifest), metadata["name"], namespace=metadata.get("namespace"))
        except NotFound:
            live = {}
        pairs.append((path, manifest, live))
    return pairs
