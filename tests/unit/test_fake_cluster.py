"""The cluster in memory keeps the port's promises, so that tests on it mean something."""

from __future__ import annotations

import pytest

from becalm.errors import AccessDenied, AlreadyExists, ClusterUnavailable, Conflict, NotFound, RevisionGone
from becalm.kube.base import Cluster, Verb
from becalm.testing.fake_cluster import FakeCluster


def a_map(name: str, namespace: str = "shop", **data: str) -> dict:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}


@pytest.fixture
def cluster() -> FakeCluster:
    made = FakeCluster()
    made.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    return made


def test_it_is_a_cluster(cluster: FakeCluster) -> None:
    """Mypy compares the signatures; here the port's methods are all there."""
    port: Cluster = cluster

    assert all(callable(getattr(port, name)) for name in ("discover", "list", "get", "apply", "delete", "watch", "exec", "logs"))


def test_an_exact_list_shows_the_old_state(cluster: FakeCluster) -> None:
    """A list at a revision is what stood there then, whatever came after."""
    maps = cluster.kind("configmaps")
    cluster.put(a_map("a", value="old"), a_map("gone"))
    then = cluster.list(maps, namespace="shop").revision
    cluster.put(a_map("a", value="new"), a_map("b"))
    cluster.remove("configmaps", "gone", "shop")

    assert [(item["metadata"]["name"], item["data"].get("value")) for item in cluster.list(maps, namespace="shop", revision=then)] == [
        ("a", "old"),
        ("gone", None),
    ]
    assert [item["metadata"]["name"] for item in cluster.list(maps, namespace="shop")] == ["a", "b"]


def test_a_compacted_revision_is_gone(cluster: FakeCluster) -> None:
    """410 as the real one says it."""
    revision = cluster.list(cluster.kind("configmaps")).revision
    cluster.put(a_map("a"))
    cluster.compact()

    with pytest.raises(RevisionGone):
        cluster.list(cluster.kind("configmaps"), revision=revision)


def test_writes_notice_each_other(cluster: FakeCluster) -> None:
    """Creation of what is there, an update of an old version, and a namespace that is not there are refused."""
    maps = cluster.kind("configmaps")
    first = cluster.apply(maps, a_map("a"), verb=Verb.CREATE)
    cluster.apply(maps, a_map("a", value="1"), verb=Verb.MERGE)

    with pytest.raises(AlreadyExists):
        cluster.apply(maps, a_map("a"), verb=Verb.CREATE)
    with pytest.raises(Conflict):
        cluster.apply(maps, first, verb=Verb.UPDATE)
    with pytest.raises(NotFound):
        cluster.apply(maps, a_map("a", namespace="nowhere"), verb=Verb.CREATE)


def test_a_dry_run_writes_nothing(cluster: FakeCluster) -> None:
    """What a dry run returns is not there afterwards."""
    cluster.apply(cluster.kind("configmaps"), a_map("a"), verb=Verb.CREATE, dry_run=True)

    assert list(cluster.list(cluster.kind("configmaps"))) == []


def test_deletion_knows_uids_finalizers_and_absence(cluster: FakeCluster) -> None:
    """Another uid conflicts, a finalizer only marks, and what is not there is a normal answer."""
    maps = cluster.kind("configmaps")
    held = a_map("held")
    held["metadata"]["finalizers"] = ["example.org/wait"]
    cluster.put(a_map("a"), held)

    with pytest.raises(Conflict):
        cluster.delete(maps, "a", namespace="shop", uid="other")
    assert cluster.delete(maps, "a", namespace="shop")
    assert not cluster.delete(maps, "a", namespace="shop")
    assert cluster.delete(maps, "held", namespace="shop")
    assert "deletionTimestamp" in cluster.get(maps, "held", namespace="shop")["metadata"]


def test_a_deleted_namespace_takes_its_contents(cluster: FakeCluster) -> None:
    """Nothing is left behind."""
    cluster.put(a_map("a"))
    cluster.delete(cluster.kind("namespaces"), "shop")

    assert list(cluster.list(cluster.kind("configmaps"))) == []


def test_selectors_choose(cluster: FakeCluster) -> None:
    """Labels and fields as an API server reads them."""
    for name, labels in (("a", {"app": "db"}), ("b", {"app": "web", "tier": "front"})):
        item = a_map(name)
        item["metadata"]["labels"] = labels
        cluster.put(item)

    def names(**selectors: str) -> list[str]:
        return [item["metadata"]["name"] for item in cluster.list(cluster.kind("configmaps"), **selectors)]

    assert names(labels="app=db") == ["a"]
    assert names(labels="app in (web, cache),tier") == ["b"]
    assert names(labels="app!=web") == ["a"]
    assert names(labels="!tier,app notin (web)") == ["a"]
    assert names(fields="metadata.name=b,metadata.namespace=shop") == ["b"]


def test_a_watch_tells_what_happened_since(cluster: FakeCluster) -> None:
    """Events come in order from the revision on, and the watch ends when its time is over."""
    maps = cluster.kind("configmaps")
    cluster.put(a_map("before"))
    revision = cluster.list(maps).revision
    cluster.put(a_map("a"), a_map("a", value="1"))
    cluster.remove("configmaps", "a", "shop")

    assert [(event.type, event.object["metadata"]["name"]) for event in cluster.watch(maps, revision=revision, timeout_seconds=0)] == [
        ("ADDED", "a"),
        ("MODIFIED", "a"),
        ("DELETED", "a"),
    ]


def test_faults_strike_the_calls_they_name(cluster: FakeCluster) -> None:
    """By verb and kind, a number of times, after some, and in the middle of a list."""
    maps, secrets = cluster.kind("configmaps"), cluster.kind("secrets")
    cluster.put(a_map("a"), a_map("b"))
    cluster.fail(AccessDenied("no"), verb="list", kind="secrets")
    cluster.fail(ClusterUnavailable("later"), verb="list", kind="configmaps", times=1, in_the_middle=True)

    with pytest.raises(AccessDenied):
        cluster.list(secrets)
    with pytest.raises(ClusterUnavailable):
        list(cluster.list(maps))
    assert len(list(cluster.list(maps))) == 2
    assert [call.kind for call in cluster.recorded("list")] == ["secrets", "configmaps", "configmaps"]


def test_a_command_needs_a_running_container(cluster: FakeCluster) -> None:
    """Exec knows pods and containers before it runs anything."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "db", "namespace": "shop"},
        "spec": {"containers": [{"name": "main"}]},
        "status": {"phase": "Running"},
    }
    cluster.put(pod)

    assert cluster.exec("shop", "db", container="main", command=["true"]).exit_code == 0
    with pytest.raises(NotFound):
        cluster.exec("shop", "db", container="other", command=["true"])
    with pytest.raises(NotFound):
        cluster.exec("shop", "gone", container="main", command=["true"])
