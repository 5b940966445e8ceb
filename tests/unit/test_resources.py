"""What is stripped from an object, what is left out of a restore, and in which order kinds come."""

from copy import deepcopy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from becalm.kube.base import Kind, owned_by
from becalm.kube.mapping import map_namespace
from becalm.kube.ordering import OrderClass, order_class, wave
from becalm.kube.resources import MAY_BE_MADE_AGAIN, left_out, made_again, strip

KINDS = (
    ("v1", "Service"),
    ("v1", "Secret"),
    ("v1", "Pod"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "Namespace"),
    ("v1", "ServiceAccount"),
    ("apps/v1", "Deployment"),
    ("batch/v1", "Job"),
    ("shop.example.org/v1", "Campaign"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
WORDS = st.sampled_from(
    ["a", "web", "default-token-abcde", "kube-api-access-x1y2z", "pv.kubernetes.io/bind-completed", "becalm.dev/filled"]
)


@st.composite
def manifests(draw: st.DrawFn) -> dict:
    """Objects that look like those of a server, with odd things in every place that a rule looks at."""
    api_version, kind = draw(st.sampled_from(KINDS))
    metadata = {
        "name": draw(WORDS),
        "namespace": "shop",
        "uid": "1",
        "resourceVersion": "7",
        "annotations": draw(JSON | st.dictionaries(WORDS, st.text(max_size=3), max_size=3)),
        "labels": draw(JSON | st.dictionaries(WORDS, st.text(max_size=3), max_size=3)),
        "finalizers": draw(st.lists(st.sampled_from(["kubernetes.io/pvc-protection", "shop.example.org/clean"]), max_size=2) | JSON),
        "ownerReferences": draw(st.just([{"kind": "Deployment", "name": "web", "uid": "2", "apiVersion": "apps/v1"}]) | JSON),
        "managedFields": draw(JSON),
    }
    spec = {
        "clusterIP": draw(st.sampled_from(["10.0.0.1", "None", None])),
        "ports": draw(st.lists(st.fixed_dictionaries({"port": st.integers(1, 3), "nodePort": st.integers(1, 3)}), max_size=2) | JSON),
        "volumes": draw(st.lists(st.fixed_dictionaries({"name": WORDS}), max_size=2)),
        "containers": draw(
            st.lists(st.fixed_dictionaries({"name": WORDS, "volumeMounts": st.just([{"name": "kube-api-access-x1y2z"}])}), max_size=2)
        ),
        "selector": draw(JSON),
        "template": draw(JSON),
    }
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": metadata,
        "spec": draw(st.just(spec) | JSON),
        "status": draw(JSON),
        "secrets": [{"name": draw(WORDS)}],
    }


@given(manifests())
def test_stripping_twice_is_stripping_once_and_touches_only_a_copy(manifest: dict) -> None:
    """`strip` is idempotent, whatever stands in an object."""
    before = deepcopy(manifest)
    once = strip(manifest)

    assert strip(once) == once
    assert manifest == before


@given(manifests())
def test_nothing_that_identifies_an_object_survives_stripping(manifest: dict) -> None:
    """No uid, version, owner or status goes back to a server: an old owner's uid would make the garbage collector delete the object."""
    stripped = strip(manifest)

    assert not {"uid", "resourceVersion", "managedFields", "ownerReferences", "creationTimestamp"} & set(stripped["metadata"])
    assert "status" not in stripped


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(manifests(), JSON, JSON)
def test_no_object_however_odd_raises(manifest: dict, first: object, second: object) -> None:
    """A hostile recovery point gives answers, not tracebacks."""
    odd = {
        **manifest,
        "subjects": first,
        "webhooks": second,
        "status": {"phase": first, "conditions": [{"type": second, "status": "True"}]},
    }
    left_out(odd)
    for resource in MAY_BE_MADE_AGAIN:
        made_again(odd, resource)
    moved = map_namespace(odd, {"shop": "shop2"})

    assert strip(moved)["metadata"]["namespace"] == "shop2"


def a_service(**spec: object) -> dict:
    """A Service as a server gives it."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop", "uid": "1", "resourceVersion": "7"},
        "spec": {
            "clusterIP": "10.0.0.7",
            "clusterIPs": ["10.0.0.7"],
            "type": "NodePort",
            "ports": [{"port": 80, "nodePort": 31000}],
            **spec,
        },
    }


def test_a_services_addresses_and_ports_are_the_servers_choice() -> None:
    """The cluster IP goes, and a node port that nobody asked for."""
    spec = strip(a_service())["spec"]

    assert spec == {"type": "NodePort", "ports": [{"port": 80}]}


def test_a_headless_service_stays_headless() -> None:
    """`None` is not an address that a server chose."""
    spec = strip(a_service(clusterIP="None", clusterIPs=["None"]))["spec"]

    assert (spec["clusterIP"], spec["clusterIPs"]) == ("None", ["None"])


@pytest.mark.parametrize("evidence", ["annotation", "managed fields"])
def test_a_node_port_that_the_author_asked_for_stays(evidence: str) -> None:
    """The annotation of kubectl and the managed fields both tell what the author wrote."""
    service = a_service()
    if evidence == "annotation":
        applied = '{"spec": {"ports": [{"port": 80, "nodePort": 31000}]}}'
        service["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": applied}
    else:
        fields = {"f:spec": {"f:ports": {'k:{"port":80,"protocol":"TCP"}': {"f:port": {}, "f:nodePort": {}}}}}
        service["metadata"]["managedFields"] = [{"manager": "helm", "fieldsV1": fields}]

    assert strip(service)["spec"]["ports"] == [{"port": 80, "nodePort": 31000}]


def test_a_claim_forgets_the_volume_that_it_was_bound_to() -> None:
    """A restored claim gets a volume of its own, and no snapshot of the live one."""
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": "data",
            "namespace": "shop",
            "annotations": {"pv.kubernetes.io/bind-completed": "yes", "volume.kubernetes.io/selected-node": "n1", "team": "a"},
            "finalizers": ["kubernetes.io/pvc-protection"],
        },
        "spec": {"volumeName": "pvc-1", "dataSource": {"name": "s"}, "dataSourceRef": {"name": "s"}, "storageClassName": "standard"},
    }

    assert strip(claim)["spec"] == {"storageClassName": "standard"}
    assert strip(claim)["metadata"] == {"name": "data", "namespace": "shop", "annotations": {"team": "a"}}


def test_a_claim_forgets_the_marks_of_the_cut_it_was_captured_in() -> None:
    """The snapshot controller marks a claim while it is cut, and objects are listed then: restored, the mark would keep the claim for ever."""
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": "data",
            "finalizers": [
                "snapshot.storage.kubernetes.io/pvc-as-source-protection",
                "provisioner.storage.kubernetes.io/cloning-protection",
                "shop.example.org/clean",
            ],
        },
        "spec": {},
    }

    assert strip(claim)["metadata"]["finalizers"] == ["shop.example.org/clean"]


def test_a_jobs_selector_goes_unless_its_author_wrote_it() -> None:
    """The selector and the label hold the uid of the old Job; a manual selector is the author's."""
    labels = {"batch.kubernetes.io/controller-uid": "u", "job-name": "once", "app": "shop"}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "once"},
        "spec": {"selector": {"matchLabels": {"controller-uid": "u"}}, "template": {"metadata": {"labels": labels}}},
    }
    by_hand = deepcopy(job)
    by_hand["spec"]["manualSelector"] = True

    assert strip(job)["spec"] == {"template": {"metadata": {"labels": {"app": "shop"}}}}
    assert strip(by_hand)["spec"]["selector"] == {"matchLabels": {"controller-uid": "u"}}


def test_a_pod_loses_its_node_and_its_token() -> None:
    """The scheduler places it again, and admission mounts a new token; other volumes stay."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "tool"},
        "spec": {
            "nodeName": "n1",
            "priority": 0,
            "volumes": [{"name": "kube-api-access-x1y2z"}, {"name": "data"}],
            "containers": [{"name": "c", "volumeMounts": [{"name": "kube-api-access-x1y2z"}, {"name": "data"}]}],
            "initContainers": [{"name": "i", "volumeMounts": [{"name": "kube-api-access-x1y2z"}]}],
        },
    }

    assert strip(pod)["spec"] == {
        "volumes": [{"name": "data"}],
        "containers": [{"name": "c", "volumeMounts": [{"name": "data"}]}],
        "initContainers": [{"name": "i"}],
    }


def an_object(api_version: str, kind: str, name: str = "x", **more: object) -> dict:
    """An object of the namespace shop."""
    metadata = {"name": name, "namespace": "shop", **more.pop("metadata", {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **more}


def owned(api_version: str, kind: str) -> dict:
    """Metadata of an object with a controller."""
    return {"ownerReferences": [{"apiVersion": api_version, "kind": kind, "name": "web", "uid": "1", "controller": True}]}


ENDED = {"conditions": [{"type": "Complete", "status": "True"}]}
LEFT_OUT = {
    "a pod of a ReplicaSet": an_object("v1", "Pod", metadata=owned("apps/v1", "ReplicaSet")),
    "a pod of an operator": an_object("v1", "Pod", metadata=owned("postgresql.cnpg.io/v1", "Cluster")),
    "a pod that ended": an_object("v1", "Pod", status={"phase": "Succeeded"}),
    "a ReplicaSet of a Deployment": an_object("apps/v1", "ReplicaSet", metadata=owned("apps/v1", "Deployment")),
    "a Job of a CronJob": an_object("batch/v1", "Job", metadata=owned("batch/v1", "CronJob")),
    "a Job that ended": an_object("batch/v1", "Job", status=ENDED),
    "a revision": an_object("apps/v1", "ControllerRevision"),
    "an event": an_object("v1", "Event"),
    "a newer event": an_object("events.k8s.io/v1", "Event"),
    "a lease": an_object("coordination.k8s.io/v1", "Lease"),
    "a slice of a controller": an_object(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        metadata={"labels": {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}},
    ),
    "the cluster's certificate": an_object("v1", "ConfigMap", "kube-root-ca.crt"),
    "an automatic token": an_object(
        "v1",
        "Secret",
        "default-token-ab12c",
        type="kubernetes.io/service-account-token",
        metadata={"annotations": {"kubernetes.io/service-account.name": "default"}},
    ),
    "a volume": an_object("v1", "PersistentVolume"),
    "a snapshot": an_object("snapshot.storage.k8s.io/v1", "VolumeSnapshot"),
    "an object being deleted": an_object("v1", "ConfigMap", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
    "our own": an_object("v1", "Secret", metadata={"labels": owned_by("shop", "abc", "mover")}),
    "the claim of a pod": an_object("v1", "PersistentVolumeClaim", "web-scratch", metadata=owned("v1", "Pod")),
}
KEPT = {
    "a pod by itself": an_object("v1", "Pod", status={"phase": "Running"}),
    "a ReplicaSet by itself": an_object("apps/v1", "ReplicaSet"),
    "a Job that runs": an_object("batch/v1", "Job", status={"active": 1}),
    "a token made by hand": an_object(
        "v1",
        "Secret",
        "ci",
        type="kubernetes.io/service-account-token",
        metadata={"annotations": {"kubernetes.io/service-account.name": "default"}},
    ),
    "a slice made by hand": an_object("discovery.k8s.io/v1", "EndpointSlice"),
    "a Secret of an operator": an_object("v1", "Secret", metadata=owned("cert-manager.io/v1", "Certificate")),
    "a claim of a StatefulSet": an_object("v1", "PersistentVolumeClaim", "data-web", metadata=owned("v1", "Pod")),
    "a class": an_object("storage.k8s.io/v1", "StorageClass"),
}


@pytest.mark.parametrize("manifest", LEFT_OUT.values(), ids=LEFT_OUT)
def test_what_the_cluster_makes_again_is_left_out_with_a_reason(manifest: dict) -> None:
    """Whatever a controller makes again, what ended, and what points at live data stays out, and says why."""
    assert left_out(manifest)


@pytest.mark.parametrize("manifest", KEPT.values(), ids=KEPT)
def test_what_nobody_makes_again_is_restored(manifest: dict) -> None:
    """Nothing is left out on a mere resemblance."""
    assert left_out(manifest) is None


def test_endpoints_are_left_out_only_where_a_service_selects_its_pods() -> None:
    """Endpoints written by hand are the author's."""
    endpoints = an_object("v1", "Endpoints", "web")

    assert left_out(endpoints) is None
    assert left_out(endpoints, services={"shop/web"})


def a_kind(name: str, *, namespaced: bool = True) -> Kind:
    """A kind by its full name."""
    resource, _, group = name.partition(".")
    return Kind(group=group, version="v1", resource=resource, kind="X", namespaced=namespaced)


def test_kinds_come_in_the_order_that_they_need_each_other() -> None:
    """Definitions first, what guards the API last, and data before workloads."""
    names = [
        "customresourcedefinitions.apiextensions.k8s.io",
        "storageclasses.storage.k8s.io",
        "clusterrolebindings.rbac.authorization.k8s.io",
        "namespaces",
        "persistentvolumeclaims",
        "serviceaccounts",
        "roles.rbac.authorization.k8s.io",
        "rolebindings.rbac.authorization.k8s.io",
        "secrets",
        "endpoints",
        "services",
        "deployments.apps",
        "campaigns.shop.example.org",
        "apiservices.apiregistration.k8s.io",
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
    ]
    cluster = {"storageclasses.storage.k8s.io", "clusterrolebindings.rbac.authorization.k8s.io"}
    waves = [wave(a_kind(name, namespaced=name not in cluster)) for name in names]

    assert waves == sorted(waves)
    assert len(set(waves)) == len(waves)


@given(st.text("abcdefg.", min_size=1, max_size=12), st.booleans())
def test_every_kind_has_its_place(name: str, namespaced: bool) -> None:
    """The order is total: a kind that nobody knows comes after workloads, or with what belongs to no namespace."""
    expected = OrderClass.OTHERS if namespaced else OrderClass.CLUSTER

    assert order_class(a_kind(name, namespaced=namespaced)) == expected
