"""The census: each planted kind of hidden state is found, what is no state is not, and no value of a Secret comes out."""

from __future__ import annotations

import pytest
from tests.unit.hidden_state import CONTROLLED, SENTINEL, SHOP, Planted, a_cluster_with_all, a_secret, pod_with

from becalm.actions import census
from becalm.actions.state import Census, Origin, What
from becalm.errors import AccessDenied, ClusterUnavailable
from becalm.kube.base import LABEL_RUN, Kind
from becalm.model import Manifest
from becalm.testing.fake_cluster import FakeCluster
from becalm.testing.objects import a_claim, a_config_map, a_namespace, a_volume, an_object

CLUSTER, PLANTED = a_cluster_with_all()


@pytest.fixture(scope="module")
def seen() -> Census:
    """What the census finds in the cluster with all of them."""
    return census.read(CLUSTER)


def found_in(*objects: Manifest) -> list[str]:
    """Return where state is found in a cluster with these objects alone."""
    cluster = FakeCluster()
    cluster.put(a_namespace(SHOP), *objects)
    return [state.where for state in census.read(cluster).states]


def test_there_are_sixty_kinds_of_hidden_state() -> None:
    """The list does not shrink unseen, and no two are the same."""
    assert len({one.where for one in PLANTED}) == len(PLANTED) >= 60


@pytest.mark.parametrize("planted", PLANTED, ids=lambda one: one.where)
def test_each_planted_kind_is_found(planted: Planted, seen: Census) -> None:
    """As what it is, with the words that tell a person why."""
    state = next((state for state in seen.states if state.where == planted.where), None)

    assert state is not None
    assert (state.what, planted.says in state.detail) == (planted.what, True)


def test_nothing_is_found_that_was_not_planted(seen: Census) -> None:
    """Every finding is one of them: no false alarm beside."""
    assert {state.where for state in seen.states} == {one.where for one in PLANTED}
    assert seen.findings == ()


def test_no_value_of_a_secret_is_kept(seen: Census) -> None:
    """Neither of its data nor of what kubectl noted in an annotation."""
    assert SENTINEL not in repr(seen)


def test_what_something_else_makes_again_is_no_state() -> None:
    """Counted, and not listed: what is owned, what the cluster makes itself, and automatic tokens."""
    token = a_secret("web-token-x7k2p", "kubernetes.io/service-account-token")
    token["metadata"]["annotations"]["kubernetes.io/service-account.name"] = "web"
    owned = a_config_map("owned")
    owned["metadata"]["ownerReferences"] = CONTROLLED
    cluster = FakeCluster()
    cluster.put(a_namespace(SHOP), token, owned, a_config_map("kube-root-ca.crt"))
    seen = census.read(cluster)

    assert seen.states == ()
    assert seen.derived == {SHOP: 3}


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [
        ("apps/v1", "Deployment"),
        ("rbac.authorization.k8s.io/v1", "Role"),
        ("networking.k8s.io/v1", "Ingress"),
        ("batch/v1", "Job"),
        ("apps/v1", "ReplicaSet"),
        ("v1", "ServiceAccount"),
    ],
)
def test_what_no_file_explains_and_nothing_owns_is_state(api_version: str, kind: str) -> None:
    """Nobody makes it again, whatever kind it is of; what a file explains comes from there."""
    explained = an_object(api_version, kind, "explained", SHOP, spec={})
    explained["metadata"]["annotations"] = {"meta.helm.sh/release-name": "shop"}
    cluster = FakeCluster()
    cluster.put(a_namespace(SHOP), an_object(api_version, kind, "alone", SHOP, spec={}), explained)
    (state,) = census.read(cluster).states

    assert (state.what, state.name, state.origin) == (What.OBJECT, "alone", Origin.UNKNOWN)


def test_what_kubernetes_itself_writes_is_no_state() -> None:
    """Bootstrapped roles, what only its own parts wrote, default accounts, and jobs that have ended."""
    role = an_object("rbac.authorization.k8s.io/v1", "ClusterRole", "admin", rules=[])
    role["metadata"]["labels"] = {"kubernetes.io/bootstrapping": "rbac-defaults"}
    priority = an_object("scheduling.k8s.io/v1", "PriorityClass", "system-node-critical", value=1)
    priority["metadata"]["managedFields"] = [{"manager": "kube-apiserver", "operation": "Update"}]
    job = an_object("batch/v1", "Job", "migration", SHOP, spec={}, status={"conditions": [{"type": "Complete", "status": "True"}]})

    assert found_in(role, priority, an_object("v1", "ServiceAccount", "default", SHOP), job) == []


def test_a_node_is_state_only_where_a_person_changed_it() -> None:
    """Nodes join again; a label or a taint that a person set does not."""
    changed = an_object("v1", "Node", "node-1")
    changed["metadata"]["managedFields"] = [
        {"manager": "kubelet", "operation": "Update"},
        {"manager": "kubectl-taint", "operation": "Update", "time": "2026-06-01T10:00:00Z"},
    ]

    assert found_in(changed, an_object("v1", "Node", "node-2")) == ["nodes/node-1"]


def test_a_secret_that_an_operator_made_is_state_unless_it_makes_the_same_again() -> None:
    """A password that an operator draws is another one the next time; one out of a vault is not."""
    drawn, fetched = a_secret("drawn"), a_secret("fetched")
    drawn["metadata"]["ownerReferences"] = [{"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster", "name": "db", "controller": True}]
    fetched["metadata"]["ownerReferences"] = [{"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "name": "x"}]
    cluster = FakeCluster()
    cluster.put(a_namespace(SHOP), drawn, fetched)
    (state,) = census.read(cluster).states

    assert (state.where, state.detail) == ("secrets/shop/drawn", "its Cluster would make one again, with other content")


def test_a_claim_that_an_operator_owns_is_state_all_the_same() -> None:
    """Its data is not made again by anybody."""
    claim = a_claim("db-0")
    claim["metadata"]["ownerReferences"] = CONTROLLED

    assert found_in(a_volume(claim), claim) == ["persistentvolumeclaims/shop/db-0"]


def test_paths_that_hold_no_data_are_passed_over() -> None:
    """Those of the system, sockets, those only read, memory, and what stands in other objects."""
    volumes = [
        {"name": "a", "hostPath": {"path": "/sys/fs"}},
        {"name": "b", "hostPath": {"path": "/srv/x.sock", "type": "Socket"}},
        {"name": "c", "emptyDir": {"medium": "Memory"}},
        {"name": "d", "configMap": {"name": "x"}},
        {"name": "e", "projected": {"sources": []}},
    ]
    pods = [pod_with(f"p-{volume['name']}", volume) for volume in volumes]
    read_only = pod_with("p-f", {"name": "f", "hostPath": {"path": "/srv/shared"}}, readOnly=True)

    assert found_in(*pods, read_only) == []


def test_alike_pods_are_told_once() -> None:
    """By their controller, without a ReplicaSet's hash, and counted."""
    pods = []
    for number in range(3):
        pod = pod_with(f"web-5d4f-{number}", {"name": "cache", "emptyDir": {}})
        pod["metadata"]["ownerReferences"] = [{**CONTROLLED[0], "kind": "ReplicaSet", "name": "web-5d4f"}]
        pod["metadata"]["labels"] = {"pod-template-hash": "5d4f"}
        pods.append(pod)
    cluster = FakeCluster()
    cluster.put(a_namespace(SHOP), *pods)
    (state,) = census.read(cluster).states

    assert (state.where, state.count) == ("pods/shop/web: emptyDir cache", 3)


def test_what_belongs_to_a_run_is_passed_over() -> None:
    """Temporary objects go with their run."""
    assert found_in(a_config_map("temporary", labels={LABEL_RUN: "0123456789"})) == []


@pytest.mark.parametrize(
    ("metadata", "origin"),
    [
        ({"annotations": {"meta.helm.sh/release-name": "x"}}, Origin.DECLARED),
        ({"labels": {"kustomize.toolkit.fluxcd.io/name": "x"}}, Origin.DECLARED),
        ({"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}}, Origin.APPLIED),
        ({"annotations": {"meta.helm.sh/release-name": "x"}, "managedFields": [{"manager": "kubectl-edit"}]}, Origin.BY_HAND),
        ({"managedFields": [{"manager": "kubectl-client-side-apply"}]}, Origin.UNKNOWN),
        ({"managedFields": [{"manager": "kubectl", "operation": "Apply"}]}, Origin.APPLIED),
        ({"managedFields": [{"manager": "kubectl", "operation": "Update"}]}, Origin.UNKNOWN),
        ({"managedFields": [{"manager": "argocd-controller", "operation": "Apply", "subresource": "status"}]}, Origin.UNKNOWN),
        ({"managedFields": [{"manager": "some-operator", "operation": "Apply"}]}, Origin.UNKNOWN),
    ],
)
def test_where_an_object_says_that_it_comes_from(metadata: dict, origin: Origin) -> None:
    """A person's hand comes before what a tool declared: the file does not have it."""
    item = a_config_map("settings")
    item["metadata"] |= metadata
    cluster = FakeCluster()
    cluster.put(a_namespace(SHOP), item)

    assert [state.origin for state in census.read(cluster).states] == [origin]


def test_a_kind_that_may_not_be_read_is_a_finding() -> None:
    """It may hide state: silence would be a lie. A group that does not answer is one, too."""
    cluster = FakeCluster(failures={"metrics.example.org/v1": "no endpoints"})
    cluster.put(a_namespace(SHOP), a_secret("hidden"), a_config_map("seen"))
    cluster.fail(AccessDenied("secrets is forbidden"), verb="list", kind="secrets")
    seen = census.read(cluster)

    assert [finding.where for finding in seen.findings] == ["secrets", "metrics.example.org/v1"]
    assert [state.what for state in seen.states] == [What.CONFIG_MAP]


def test_a_cluster_that_breaks_off_ends_the_census() -> None:
    """Half a list is no census."""
    cluster = FakeCluster()
    cluster.put(a_namespace(SHOP), a_config_map("one"), a_config_map("two"))
    cluster.fail(ClusterUnavailable("gone"), verb="list", kind="configmaps", in_the_middle=True)

    with pytest.raises(ClusterUnavailable):
        census.read(cluster)


def test_each_kind_is_listed_once_in_the_preferred_version() -> None:
    """And what only mirrors something, or cannot be created, is not listed at all."""
    verbs = frozenset({"get", "list"})
    kinds = [
        Kind(group="example.org", version="v1", resource="widgets", kind="Widget", namespaced=True, preferred=False),
        Kind(group="example.org", version="v2", resource="widgets", kind="Widget", namespaced=True),
        Kind(group="metrics.k8s.io", version="v1", resource="pods", kind="PodMetrics", namespaced=True, verbs=verbs),
        Kind(group="", version="v1", resource="events", kind="Event", namespaced=True),
    ]

    assert [(kind.resource, kind.version) for kind in census.worth_reading(kinds)] == [("widgets", "v2")]


def test_a_broken_object_harms_no_other() -> None:
    """Fields that are not what they should be are passed over."""
    odd = an_object("v1", "Service", "odd", SHOP, spec=None)
    bare = an_object("v1", "Secret", "bare", SHOP, type=None, data=None)
    cluster = FakeCluster()
    cluster.put(a_namespace(SHOP), odd, bare)

    assert {state.where for state in census.read(cluster).states} == {"services/shop/odd", "secrets/shop/bare"}
