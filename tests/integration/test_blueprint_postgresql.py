"""The PostgreSQL blueprint against the real server: its data and its log on two volumes that are cut one after the other, writers at work all the time.

Protected, restored into another namespace by the product's own restore, started: the server replays from the label, and nothing is missing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from tests.e2e.harness import World, becalm, eventually, write_policy

from becalm.clock import SystemClock
from becalm.kube.base import Kind
from becalm.quiesce.base import Freeze, Target
from becalm.quiesce.blueprint import recipe_of
from becalm.quiesce.command import CommandQuiescer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.cluster, pytest.mark.s3]

NEEDED = ("KUBECONFIG", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
PASSWORD = "correct horse"
BIN = "/usr/lib/postgresql/15/bin"
GIVEN = '{"host": "/tmp"}'
SERVER = f"""
set -e
install -d -o postgres -g postgres -m 0700 /data/pg /wal/log
as() {{ setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }}
[ -e /data/pg/PG_VERSION ] || as {BIN}/initdb -D /data/pg -X /wal/log -U postgres -A trust --data-checksums >/dev/null
exec setpriv --reuid=postgres --regid=postgres --init-groups {BIN}/postgres -D /data/pg \
  -c listen_addresses=127.0.0.1 -c unix_socket_directories=/tmp -c shared_buffers=64MB
"""
WRITER = """
psql() { command psql -qAt -h 127.0.0.1 -U postgres -v ON_ERROR_STOP=1 "$@"; }
until psql -c 'create table if not exists debit(id bigint primary key, note text); create table if not exists credit(id bigint primary key, note text)' 2>/dev/null
do sleep 0.2; done
while :; do
  for i in $(seq 1 20); do
    echo "with n as (insert into debit select coalesce(max(id), 0) + 1, repeat(md5(random()::text), 20) from debit returning id, note) insert into credit select * from n;"
  done | psql || :
  sleep 0.1
done
"""
"""Each transaction writes one row to both tables: they never differ."""
LOOK = "select (select count(*) from debit), (select count(*) from credit), (select coalesce(max(id), 0) from debit), (select coalesce(max(id), 0) from credit)"


@dataclass
class Orders:
    """A database under load in a namespace of its own, and what a policy for it needs."""

    world: World
    namespace: str
    bucket: str
    environment: dict[str, str]

    def sql(self, query: str, namespace: str = "") -> str:
        """Ask the server."""
        script = f'psql -qAt -h /tmp -U postgres -c "{query}"'
        return self.world.shell(namespace or self.namespace, "orders-db-0", script, container="db").strip()

    def rows(self, namespace: str = "") -> tuple[int, ...]:
        """Return how many rows each table has, and the highest number in each."""
        return tuple(int(part) for part in self.sql(LOOK, namespace).split("|"))

    def sessions(self) -> str:
        """Return what Becalm holds in the server: its sessions and its replication slots."""
        return self.sql("select count(*) from pg_stat_activity where application_name = 'becalm'") + self.sql(
            "select count(*) from pg_replication_slots"
        )

    def target(self, *, given: str = GIVEN, timeout_seconds: float = 20) -> Target:
        """The server's container, with what the blueprint does there."""
        recipe = recipe_of("postgresql", given, timeout_seconds=timeout_seconds)
        return Target(
            namespace=self.namespace,
            pod="orders-db-0",
            container="db",
            freeze=recipe.freeze,
            thaw=recipe.thaw,
            timeout_seconds=timeout_seconds,
        )

    def done(self) -> None:
        """End the session that lingers."""
        done = recipe_of("postgresql", GIVEN, timeout_seconds=20).done
        self.world.cluster.exec(self.namespace, "orders-db-0", container="db", command=done)


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """What the command line needs."""
    if absent := [name for name in NEEDED if not os.environ.get(name)]:
        pytest.skip(f"no real cluster and bucket here: {', '.join(absent)} not set")
    return {
        "BECALM_PASSWORD": PASSWORD,
        "BECALM_NAMESPACE": f"f1-own-{uuid4().hex[:6]}",
        "BECALM_MOVER_IMAGE": os.environ.get("BECALM_MOVER_IMAGE", "becalm/mover"),
        "BECALM_MOVER_ENDPOINT_URL": os.environ.get("BECALM_MOVER_ENDPOINT_URL") or os.environ["AWS_ENDPOINT_URL"],
    }


@pytest.fixture(scope="module")
def orders(environment: dict[str, str]) -> Iterator[Orders]:
    """Start the server and its writer; remove everything afterwards."""
    import boto3

    world = World.connect(os.environ["KUBECONFIG"])
    made = Orders(world=world, namespace=f"f1-pg-{uuid4().hex[:6]}", bucket=f"becalm-f1-{uuid4().hex[:8]}", environment=environment)
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1")
    client.create_bucket(Bucket=made.bucket)
    try:
        world.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": made.namespace}})
        for manifest in manifests(os.environ.get("BECALM_POSTGRES_IMAGE", "becalm.dev/postgres:15")):
            world.create(manifest, made.namespace)
        world.ready(made.namespace, "app=orders-db")
        eventually(lambda: made.rows()[0] > 100, "the database is written to", seconds=60)
        yield made
    finally:
        for name in (made.namespace, f"{made.namespace}-copy", environment["BECALM_NAMESPACE"]):
            world.cluster.delete(Kind(group="", version="v1", resource="namespaces", kind="Namespace", namespaced=False), name)
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=made.bucket):
            for item in page.get("Contents", ()):
                client.delete_object(Bucket=made.bucket, Key=item["Key"])
        client.delete_bucket(Bucket=made.bucket)


def manifests(image: str) -> list[dict]:
    """PostgreSQL with its data and its log on two volumes, and a writer beside it."""
    mounts = [{"name": "data", "mountPath": "/data"}, {"name": "wal", "mountPath": "/wal"}]
    ready = {"exec": {"command": ["psql", "-qAt", "-h", "/tmp", "-U", "postgres", "-c", "table debit limit 1"]}, "periodSeconds": 1}
    common = {"image": image, "imagePullPolicy": "IfNotPresent"}
    containers = [
        {"name": "db", **common, "command": ["bash", "-c", SERVER], "volumeMounts": mounts, "readinessProbe": ready},
        {"name": "writer", **common, "command": ["bash", "-c", WRITER]},
    ]
    labels = {"app": "orders-db"}
    claims = [
        {
            "metadata": {"name": name},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }
        for name in ("data", "wal")
    ]
    spec = {
        "serviceName": "orders-db",
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": containers, "terminationGracePeriodSeconds": 2}},
        "volumeClaimTemplates": claims,
    }
    service = {"clusterIP": "None", "selector": labels, "ports": [{"name": "sql", "port": 5432}]}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "orders-db"}, "spec": service},
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "orders-db", "labels": labels}, "spec": spec},
    ]


def policy_lines(orders: Orders) -> list[str]:
    """A policy that cuts under the blueprint, and takes a dump beside."""
    return [
        "apiVersion: becalm.dev/v1",
        "kind: ProtectionPolicy",
        "metadata: {name: orders}",
        "spec:",
        "  environment: test",
        f"  select: {{namespaces: [{orders.namespace}]}}",
        "  quiesce:",
        "    hooks:",
        "      - {select: {labels: app=orders-db}, use: postgresql, with: {container: db, host: /tmp}}",
        "      - {select: {labels: app=orders-db}, use: postgresql-dump, with: {container: db, host: /tmp}}",
        f"  target: {{url: 's3://{orders.bucket}/test', password: env:BECALM_PASSWORD}}",
    ]


def test_a_server_under_load_is_cut_and_replays_from_the_label(orders: Orders, tmp_path: Path) -> None:
    """Application-consistent; restored elsewhere the two tables agree, and no row that was committed before is missing. The dump is whole, too."""
    policy = write_policy(tmp_path / "orders.yaml", policy_lines(orders))
    becalm("init", str(policy), environment=orders.environment)
    before = orders.rows()
    becalm("run", str(policy), environment=orders.environment)
    described = becalm("show", str(policy), environment=orders.environment)

    assert described["point"]["complete"]
    assert described["point"]["consistency"] == "application-consistent", described["description"]["consistency"]
    assert orders.sessions() == "00"
    assert orders.rows()[0] > before[0]

    copy = f"{orders.namespace}-copy"
    becalm("restore", str(policy), "--map", f"{orders.namespace}={copy}", "--yes", environment=orders.environment)
    orders.world.ready(copy, "app=orders-db")
    files = orders.world.shell(copy, "orders-db-0", "cat /data/pg/backup_label.old", container="db")
    log = b"\n".join(orders.world.cluster.logs(copy, "orders-db-0", container="db"))
    check = f"{BIN}/pg_amcheck -h /tmp -U postgres --install-missing --heapallindexed postgres"
    orders.world.shell(copy, "orders-db-0", check, container="db")
    debits, credits_, last_debit, last_credit = orders.rows(copy)

    assert "LABEL: becalm" in files
    assert b"redo starts at" in log
    assert b"consistent recovery state reached" in log
    assert (debits, last_debit) == (credits_, last_credit) == (last_debit, last_debit)
    assert debits >= before[0]

    dump = tmp_path / "dump"
    place = f"dumps/{orders.namespace}/orders-db-0/postgres.sql"
    becalm("extract", str(policy), "--path", place, "--to", str(dump), environment=orders.environment)
    (found,) = dump.rglob("postgres.sql")
    with found.open("rb") as text:
        load = "createdb -h /tmp -U postgres again && psql -qX -v ON_ERROR_STOP=1 -h /tmp -U postgres -d again"
        done = orders.world.cluster.exec(
            copy, "orders-db-0", container="db", command=["sh", "-c", load], stdin=text.read(), timeout_seconds=120
        )
    assert done.exit_code == 0, done.stderr
    again = orders.world.shell(copy, "orders-db-0", f'psql -qAt -h /tmp -U postgres -d again -c "{LOOK}"', container="db").strip()
    counts = [int(part) for part in again.split("|")]
    assert counts[0] == counts[1] == counts[2] == counts[3] >= before[0]


def test_the_dead_mans_switch_ends_the_backup(orders: Orders) -> None:
    """Nobody comes to thaw: the server is out of backup mode within the time, the thaw that comes late says so, and nothing stays."""
    driver = CommandQuiescer(orders.world.cluster, SystemClock())
    target = orders.target(timeout_seconds=3)
    switch = driver.switch(target, run="0123456789", hook="switch")
    froze = driver.freeze(target, switch=switch)
    look = "test -e /dev/shm/becalm-session.postgresql-*/thawed"
    eventually(
        lambda: orders.world.cluster.exec(orders.namespace, "orders-db-0", container="db", command=["sh", "-c", look]).exit_code == 0,
        "the switch thaws",
        seconds=30,
    )
    released = driver.thaw(target, switch=switch)
    orders.done()
    eventually(lambda: orders.sessions() == "00", "the session is gone", seconds=20)

    assert (froze.outcome, froze.guarded) == (Freeze.FROZEN, True)
    assert (released.confirmed, released.held, released.fired) == (True, False, True)


def test_a_session_that_the_server_ends_had_not_held(orders: Orders) -> None:
    """Whatever ended it: the thaw is confirmed, and claims nothing."""
    driver = CommandQuiescer(orders.world.cluster, SystemClock())
    target = orders.target()
    switch = driver.switch(target, run="0123456789", hook="ended")
    froze = driver.freeze(target, switch=switch)
    orders.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'becalm'")
    released = driver.thaw(target, switch=switch)

    assert froze.outcome is Freeze.FROZEN
    assert (released.confirmed, released.held) == (True, False)
    assert orders.sessions() == "00"


def test_a_role_that_is_not_there_fails_the_freeze_in_the_servers_words(orders: Orders) -> None:
    """And nothing is left."""
    driver = CommandQuiescer(orders.world.cluster, SystemClock())
    target = orders.target(given='{"host": "/tmp", "role": "nobody knows"}')
    froze = driver.freeze(target, switch=driver.switch(target, run="0123456789", hook="role"))

    assert froze.outcome is Freeze.FAILED
    assert 'role "nobody knows" does not exist' in froze.message
    assert orders.sessions() == "00"
