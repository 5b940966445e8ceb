"""The dump of MariaDB against the real program: taken while it is written to, loaded into another server, compared.

PostgreSQL's stands in the story of its blueprint.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from tests.e2e import stores
from tests.e2e.harness import World, eventually

from becalm.errors import NotFound
from becalm.kube.base import Kind
from becalm.quiesce.blueprint import recipe_of

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.cluster

COUNTS = stores.MARIADB_COUNTS


class Servers:
    """Two servers in a namespace of their own."""

    def __init__(self, world: World) -> None:
        self.world, self.namespace = world, f"f1-dump-{uuid4().hex[:6]}"

    def sh(self, pod: str, script: str) -> str:
        """Return what a script prints beside a server."""
        return self.world.shell(self.namespace, pod, script, container="main").strip()

    def up(self, pod: str) -> bool:
        """Say whether a server answers."""
        try:
            done = self.world.cluster.exec(self.namespace, pod, container="main", command=["sh", "-c", COUNTS])
        except NotFound:
            return False
        return done.exit_code == 0


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """Start one that is written to, and one that is not; remove everything afterwards."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("no cluster: set KUBECONFIG")
    made = Servers(World.connect(os.environ["KUBECONFIG"]))
    made.world.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": made.namespace}})
    try:
        for name, script in (("one", stores.MARIADB), ("two", stores.MARIADB.replace("while :;", "while false;"))):
            container = {
                "name": "main",
                "image": os.environ.get("BECALM_STORES_IMAGE", "becalm.dev/stores:1"),
                "imagePullPolicy": "IfNotPresent",
                "command": ["bash", "-c", script],
                "env": [{"name": "MARIADB_ROOT_PASSWORD", "value": stores.PASSWORD}],
            }
            pod = {"containers": [container], "terminationGracePeriodSeconds": 0}
            made.world.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": pod}, made.namespace)
        eventually(lambda: made.up("one") and made.up("two"), "both servers answer", seconds=120)
        eventually(lambda: made.sh("one", COUNTS)[0] != "0", "one is written to", seconds=30)
        yield made
    finally:
        made.world.cluster.delete(Kind(group="", version="v1", resource="namespaces", kind="Namespace", namespaced=False), made.namespace)


def test_a_dump_of_mariadb_is_of_one_moment_and_can_be_loaded(servers: Servers) -> None:
    """The databases are named, the server's own are not; what is loaded elsewhere agrees with itself and lacks nothing from before."""
    (keep,) = recipe_of("mariadb-dump", "", timeout_seconds=30).keeps
    place = {"container": "main", "timeout_seconds": 60}
    names = servers.world.cluster.exec(servers.namespace, "one", command=keep.each, **place)
    before = int(servers.sh("one", COUNTS).split()[0])
    pieces: list[bytes] = []
    dumped = servers.world.cluster.exec(servers.namespace, "one", command=(*keep.command, "shop"), out=pieces.append, **place)
    load = 'MYSQL_PWD="$MARIADB_ROOT_PASSWORD" mariadb --user=root'
    loaded = servers.world.cluster.exec(servers.namespace, "two", command=["sh", "-c", load], stdin=b"".join(pieces), **place)
    orders, last, items, _ = (int(part) for part in servers.sh("two", COUNTS).split())

    assert (names.exit_code, names.stdout) == (0, b"shop\n")
    assert (dumped.exit_code, loaded.exit_code) == (0, 0), dumped.stderr + loaded.stderr
    assert orders == items == last >= before


def test_a_wrong_account_says_so(servers: Servers) -> None:
    """In the server's words, with a code that is not zero."""
    (keep,) = recipe_of("mariadb-dump", '{"account": "nobody"}', timeout_seconds=30).keeps
    done = servers.world.cluster.exec(servers.namespace, "one", container="main", command=(*keep.command, "shop"))

    assert done.exit_code
    assert b"Access denied for user 'nobody'" in done.stderr
