"""MariaDB and Redis under constant writes, protected by their blueprints through the whole pipeline, restored beside, and started again; and
the snapshot that etcd gives, taken out of the recovery point.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.e2e import stores
from tests.e2e.harness import becalm, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.harness import World

pytestmark = [pytest.mark.cluster, pytest.mark.s3]

IMAGE = os.environ.get("BECALM_STORES_IMAGE", "becalm.dev/stores:1")
ENVIRONMENT = {"MARIADB_ROOT_PASSWORD": stores.PASSWORD, "REDIS_PASSWORD": stores.PASSWORD}


def policy_text(namespace: str, bucket: str) -> str:
    """A policy that stills both by their blueprints, and demands that it succeeds."""
    return "\n".join(
        [
            "apiVersion: becalm.dev/v1",
            "kind: ProtectionPolicy",
            "metadata: {name: stores}",
            "spec:",
            f"  select: {{namespaces: [{namespace}]}}",
            "  quiesce:",
            "    timeout: 30s",
            "    onFailure: fail",
            "    hooks:",
            "      - {select: {labels: app=mariadb}, use: mariadb}",
            "      - {select: {labels: app=redis}, use: redis}",
            "      - {select: {labels: app=etcd}, use: etcd}",
            f"  target: {{url: 's3://{bucket}/stores', password: 'env:BECALM_PASSWORD'}}",
            "  retention: {last: 3}",
            "",
        ]
    )


@pytest.fixture
def restored(world: World, namespace: str) -> Iterator[str]:
    """The name of the namespace beside, removed afterwards."""
    name = f"{namespace}-again"
    yield name
    world.cluster.delete(world.kinds["v1/Namespace"], name)


def numbers(world: World, namespace: str, name: str, counts: str) -> list[int]:
    """Return what a store counts."""
    pod = world.ready(namespace, f"app={name}")
    told: list[int] = eventually(
        lambda: [int(word) for word in world.shell(namespace, pod, f"{counts} || true", container="main").split() if word.isdecimal()],
        f"{name} in {namespace} answers",
        seconds=150,
    )
    return told


def test_what_was_written_before_the_freeze_comes_back_in_whole_pairs(
    world: World, bucket: str, namespace: str, restored: str, environment: dict[str, str], tmp_path: Path
) -> None:
    """Both freezes held; the restored servers start, have every pair that was there before, and no half of one; etcd's snapshot has its keys."""
    for name, script in (("mariadb", stores.MARIADB), ("redis", stores.REDIS), ("etcd", stores.ETCD)):
        world.create(stores.stateful_set(name, stores.pod(IMAGE, script, environment=ENVIRONMENT)), namespace)
    for name, counts in (("mariadb", stores.MARIADB_COUNTS), ("redis", stores.REDIS_COUNTS)):
        eventually(lambda name=name, counts=counts: numbers(world, namespace, name, counts)[0] > 20, f"{name} is written to", seconds=150)
    before = {
        "mariadb": numbers(world, namespace, "mariadb", stores.MARIADB_COUNTS),
        "redis": numbers(world, namespace, "redis", stores.REDIS_COUNTS),
    }
    etcd = world.ready(namespace, "app=etcd")
    put = "ETCDCTL_API=3 etcdctl put /shop/key value-of-the-key 2>&1 || true"
    eventually(lambda: "OK" in world.shell(namespace, etcd, put, container="main"), "etcd serves", seconds=150)
    policy = tmp_path / "stores.yaml"
    policy.write_text(policy_text(namespace, bucket))
    becalm("init", str(policy), environment=environment)
    becalm("run", str(policy), environment=environment)
    described = becalm("show", str(policy), environment=environment)
    after = numbers(world, namespace, "mariadb", stores.MARIADB_COUNTS)
    path = f"dumps/{namespace}/{etcd}/etcd-snapshot.db"
    becalm("extract", str(policy), "--path", path, "--to", str(tmp_path / "taken"), environment=environment)
    snapshot = (tmp_path / "taken" / "etcd-snapshot.db").read_bytes()
    restore = "cat >/tmp/back.db && ETCDCTL_API=3 etcdctl snapshot restore /tmp/back.db --data-dir /tmp/new"
    rebuilt = world.cluster.exec(namespace, etcd, container="main", command=["sh", "-c", restore], stdin=snapshot, timeout_seconds=60)
    becalm("restore", str(policy), "--map", f"{namespace}={restored}", "--yes", environment=environment)
    orders, last, items, notes = numbers(world, restored, "mariadb", stores.MARIADB_COUNTS)
    redis = numbers(world, restored, "redis", stores.REDIS_COUNTS)

    assert described["point"]["consistency"] == "application-consistent", described["description"]["consistency"]
    assert (rebuilt.exit_code, b"value-of-the-key" in snapshot) == (0, True), rebuilt.stderr
    assert orders == last == items
    assert abs(orders - notes) <= 2  # one at the cut, and one of the writer in this moment
    assert orders >= before["mariadb"][0]
    assert after[0] > before["mariadb"][0]
    assert redis[0] == redis[1]
    assert redis[0] >= before["redis"][0]
    pod = world.ready(restored, "app=mariadb")
    checked = world.shell(
        restored,
        pod,
        'MYSQL_PWD="$MARIADB_ROOT_PASSWORD" mariadb --user=root --batch --skip-column-names shop --execute="check table orders, items, notes"',
        container="main",
    )
    assert [line.split("\t")[-1] for line in checked.splitlines()] == ["OK"] * 3
