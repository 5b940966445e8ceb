"""Lists: which requests are made, what is left out by rule, what comes along, and how it lies in the repository."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from becalm.actions import listing
from becalm.errors import AccessDenied, ClusterUnavailable, LeaseLost
from becalm.kube.base import Kind
from becalm.policy.spec import Selection
from becalm.repository.crypto import Kdf
from becalm.repository.reader import init_repository, open_repository
from becalm.repository.tree import walk
from becalm.repository.writer import Writer
from becalm.testing.capture_scenes import HastyClock
from becalm.testing.fake_cluster import FakeCluster
from becalm.testing.memory_store import MemoryStore
from becalm.testing.objects import a_config_map, a_namespace, a_pod, an_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from becalm.actions.listing import Listed
    from becalm.model import Manifest

PASSWORD = "correct horse"
RBAC = "rbac.authorization.k8s.io/v1"


@dataclass(slots=True)
class Library:
    """A cluster in memory, and a repository that its objects are listed into."""

    cluster: FakeCluster = field(default_factory=FakeCluster)
    store: MemoryStore = field(default_factory=MemoryStore)
    namespaces: Sequence[str] = ("shop",)

    def __post_init__(self) -> None:
        """Make the repository and the namespaces."""
        init_repository(self.store, PASSWORD, kdf=Kdf(n=2**10, r=1, p=1))
        self.cluster.put(*(a_namespace(name) for name in self.namespaces))

    def list(self, **select: Any) -> Listed:
        """List what the selection means, now."""
        scope = listing.Scope(
            namespaces=tuple(self.namespaces), selection=Selection.model_validate({"namespaces": list(self.namespaces), **select})
        )
        revision = self.cluster.list(self.cluster.kind("namespaces"), page_size=1).revision
        with Writer(open_repository(self.store, PASSWORD)) as writer:
            return listing.execute(scope, revision=revision, cluster=self.cluster, writer=writer, clock=HastyClock())

    def saved(self, listed: Listed) -> dict[str, Manifest]:
        """Read everything back, by its path below `resources`."""
        repository = open_repository(self.store, PASSWORD)
        return {
            path.removeprefix("resources/"): orjson.loads(b"".join(repository.read_file(node)))
            for path, node in walk(repository, listed.tree)
            if node.type == "file"
        }


def owned(manifest: Manifest, kind: str, *, api_version: str = "apps/v1", name: str = "web") -> Manifest:
    """Let an object be controlled by another."""
    manifest["metadata"]["ownerReferences"] = [{"apiVersion": api_version, "kind": kind, "name": name, "uid": "1", "controller": True}]
    return manifest


def many() -> list[str]:
    return [f"team-{number:02d}" for number in range(listing.FEW_NAMESPACES + 4)]


def test_many_namespaces_are_listed_at_once_and_few_one_by_one() -> None:
    """One request for each kind where the selection is a good part of the cluster; nothing of other namespaces is kept."""
    library = Library(namespaces=many())
    library.cluster.put(a_namespace("stranger"), a_config_map("foreign", "stranger"))
    library.cluster.put(*(a_config_map("own", name) for name in library.namespaces))
    listed = library.list()
    requests = [call for call in library.cluster.recorded("list", "configmaps") if call.revision]
    few = Library(namespaces=("shop", "site"))
    few.list()

    assert [call.namespace for call in requests] == [""]
    assert {path for path in library.saved(listed) if "/configmaps/" in path} == {
        f"core/configmaps/{name}/own.json" for name in library.namespaces
    }
    assert {path for path in library.saved(listed) if "/namespaces/" in path} == {
        f"core/namespaces/_cluster/{name}.json" for name in library.namespaces
    }
    assert [call.namespace for call in few.cluster.recorded("list", "configmaps")] == ["shop", "site"]


def test_a_small_part_of_a_large_cluster_is_not_read_as_a_whole() -> None:
    """Seventeen namespaces of a hundred are listed one by one."""
    library = Library(namespaces=many())
    library.cluster.put(*(a_namespace(f"other-{number}") for number in range(100)))
    library.list()

    assert len(library.cluster.recorded("list", "configmaps")) == len(library.namespaces)


def test_who_may_not_list_the_whole_cluster_lists_the_namespaces() -> None:
    """A refusal for all namespaces at once costs one request, not the objects."""
    library = Library(namespaces=many())
    library.cluster.put(*(a_config_map("own", name) for name in library.namespaces))
    refuse_wide(library.cluster, "configmaps")
    listed = library.list()

    assert len([path for path in library.saved(listed) if "/configmaps/" in path]) == len(library.namespaces)
    assert listed.findings == ()


def refuse_wide(cluster: FakeCluster, resource: str) -> None:
    """Refuse lists of all namespaces for one kind; those of one namespace are answered."""
    cluster.fail(AccessDenied("not in the whole cluster"), verb="list", kind=resource, times=1)


def test_what_its_controller_makes_again_is_left_out_and_counted() -> None:
    """Pods, current ReplicaSets, Jobs of CronJobs, and what the endpoints' controllers write."""
    library = Library()
    library.cluster.kinds.append(
        Kind(group="discovery.k8s.io", version="v1", resource="endpointslices", kind="EndpointSlice", namespaced=True)
    )
    slices = {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}
    library.cluster.put(
        an_object("apps/v1", "Deployment", "web", "shop"),
        owned(an_object("apps/v1", "ReplicaSet", "web-1", "shop", spec={"replicas": 3}), "Deployment"),
        owned(a_pod("web-1-x"), "ReplicaSet", name="web-1"),
        owned(a_pod("db-0"), "StatefulSet"),
        owned(an_object("batch/v1", "Job", "nightly-1", "shop"), "CronJob", api_version="batch/v1"),
        owned(an_object("discovery.k8s.io/v1", "EndpointSlice", "web-s", "shop", labels=slices), "Service", api_version="v1"),
        an_object("v1", "Endpoints", "web", "shop", labels={"endpoints.kubernetes.io/managed-by": "endpoint-controller"}),
    )
    listed = library.list()

    assert [path for path in library.saved(listed) if not path.startswith("core/namespaces")] == ["apps/deployments/shop/web.json"]
    assert {(item.what, item.by) for item in listed.excluded if item.by == "made again"} == {
        ("1 pods", "made again"),
        ("1 replicasets.apps", "made again"),
        ("1 jobs.batch", "made again"),
        ("1 endpointslices.discovery.k8s.io", "made again"),
        ("1 endpoints", "made again"),
    }
    assert all(item.because for item in listed.excluded)


def test_what_nobody_makes_again_is_kept() -> None:
    """A pod of its own whatever its state, a Job of its own, the past of a rollout, endpoints written by hand."""
    library = Library()
    library.cluster.put(
        a_pod("alone"),
        a_pod("over", phase="Succeeded"),
        an_object("batch/v1", "Job", "once", "shop"),
        an_object("apps/v1", "ReplicaSet", "own", "shop", spec={"replicas": 1}),
        owned(an_object("apps/v1", "ReplicaSet", "web-0", "shop", spec={"replicas": 0}), "Deployment"),
        owned(a_pod("of-a-stranger"), "Thing", api_version="gone.example.org/v1"),
        an_object("v1", "Endpoints", "by-hand", "shop"),
    )
    listed = library.list()

    assert {path.rpartition("/")[2] for path in library.saved(listed)} == {
        "shop.json",
        "alone.json",
        "over.json",
        "once.json",
        "own.json",
        "web-0.json",
        "of-a-stranger.json",
        "by-hand.json",
    }


@pytest.mark.parametrize(
    "select",
    [
        {"labels": "app=web"},
        {"resources": {"include": ["*", "pods"]}},
        {"resources": {"include": ["*"], "exclude": ["replicasets.apps"]}},
    ],
    ids=["labels may leave the controller out", "named by the author", "the controller is excluded"],
)
def test_a_pod_is_kept_where_its_controller_may_be_missing(select: dict[str, Any]) -> None:
    """Leaving out what is made again must never lose it."""
    library = Library()
    pod = owned(a_pod("web-1-x", labels={"app": "web"}), "ReplicaSet")
    library.cluster.put(pod, owned(an_object("apps/v1", "ReplicaSet", "web-1", "shop", spec={"replicas": 1}), "Deployment"))
    listed = library.list(**select)

    assert "core/pods/shop/web-1-x.json" in library.saved(listed)


def test_what_calls_services_of_the_selection_comes_along() -> None:
    """Webhook configurations and API services by the namespace of their service; those of others stay out."""
    library = Library()
    admission, registration = "admissionregistration.k8s.io/v1", "apiregistration.k8s.io/v1"
    library.cluster.kinds += [
        Kind(
            group="admissionregistration.k8s.io",
            version="v1",
            resource=f"{word.lower()}webhookconfigurations",
            kind=f"{word}WebhookConfiguration",
            namespaced=False,
        )
        for word in ("Validating", "Mutating")
    ]
    library.cluster.kinds.append(
        Kind(group="apiregistration.k8s.io", version="v1", resource="apiservices", kind="APIService", namespaced=False)
    )

    def calls(namespace: str) -> list[Manifest]:
        return [{"name": "a.example.org", "clientConfig": {"service": {"namespace": namespace, "name": "hook"}}}]

    library.cluster.put(
        an_object(admission, "ValidatingWebhookConfiguration", "ours", webhooks=[*calls("elsewhere"), *calls("shop")]),
        an_object(admission, "MutatingWebhookConfiguration", "ours", webhooks=calls("shop")),
        an_object(admission, "MutatingWebhookConfiguration", "by-url", webhooks=[{"name": "b", "clientConfig": {"url": "https://x"}}]),
        an_object(admission, "ValidatingWebhookConfiguration", "theirs", webhooks=calls("elsewhere")),
        an_object(registration, "APIService", "v1.ours.example.org", spec={"service": {"namespace": "shop", "name": "api"}}),
        an_object(registration, "APIService", "v1.apps", spec={"group": "apps"}),
    )
    listed = library.list()

    assert {path.partition("/")[2] for path in library.saved(listed) if "core/" not in path} == {
        "validatingwebhookconfigurations/_cluster/ours.json",
        "mutatingwebhookconfigurations/_cluster/ours.json",
        "apiservices/_cluster/v1.ours.example.org.json",
    }


def test_a_role_comes_with_those_that_are_aggregated_into_it() -> None:
    """Also over two steps; a role that answers no selector of a bound role stays out."""
    library = Library()

    def role(name: str, *, labels: dict[str, str] | None = None, takes: dict[str, str] | None = None) -> Manifest:
        rule = {"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": takes}]}} if takes else {}
        return an_object(RBAC, "ClusterRole", name, labels=labels, **rule)

    expression = [{"key": "tier", "operator": "In", "values": ["deep"]}, {"key": "shy", "operator": "DoesNotExist"}]
    library.cluster.put(
        role("top", takes={"to": "top"}),
        an_object(
            RBAC,
            "ClusterRole",
            "part",
            labels={"to": "top"},
            aggregationRule={"clusterRoleSelectors": [{"matchExpressions": expression}]},
        ),
        role("deep", labels={"tier": "deep"}),
        role("shy", labels={"tier": "deep", "shy": "yes"}),
        role("stranger", labels={"to": "others"}),
        an_object(RBAC, "RoleBinding", "read", "shop", roleRef={"kind": "ClusterRole", "name": "top"}),
    )
    listed = library.list()

    assert {path.rpartition("/")[2] for path in library.saved(listed) if "/clusterroles/" in path} == {"top.json", "part.json", "deep.json"}


@pytest.mark.parametrize(
    ("subject", "meant"),
    [
        ({"kind": "ServiceAccount", "name": "app", "namespace": "shop"}, True),
        ({"kind": "User", "name": "system:serviceaccount:shop:app"}, True),
        ({"kind": "Group", "name": "system:serviceaccounts:shop"}, True),
        ({"kind": "Group", "name": "system:serviceaccounts"}, False),
        ({"kind": "ServiceAccount", "name": "app", "namespace": "elsewhere"}, False),
        ({"kind": "User", "name": "shop"}, False),
    ],
)
def test_a_cluster_role_binding_is_met_by_each_name_of_an_account(subject: dict[str, str], meant: bool) -> None:
    """A service account is also a user, and all of a namespace are a group."""
    library = Library()
    role = an_object(RBAC, "ClusterRole", "reader")
    library.cluster.put(role, an_object(RBAC, "ClusterRoleBinding", "b", roleRef={"kind": "ClusterRole", "name": "reader"}))
    binding = an_object(RBAC, "ClusterRoleBinding", "b", roleRef={"kind": "ClusterRole", "name": "reader"}, subjects=[subject])
    library.cluster.put(binding)
    saved = library.saved(library.list())

    assert ("rbac.authorization.k8s.io/clusterrolebindings/_cluster/b.json" in saved) is meant
    assert ("rbac.authorization.k8s.io/clusterroles/_cluster/reader.json" in saved) is meant


def test_a_class_is_met_by_the_annotation_that_came_before_the_field() -> None:
    """An old Ingress names its class in an annotation; a bare pod names its runtime and its priority."""
    library = Library()
    ingress = an_object("networking.k8s.io/v1", "Ingress", "old", "shop")
    ingress["metadata"]["annotations"] = {"kubernetes.io/ingress.class": "nginx"}
    library.cluster.put(
        ingress,
        an_object("networking.k8s.io/v1", "IngressClass", "nginx"),
        an_object("node.k8s.io/v1", "RuntimeClass", "gvisor"),
        an_object("scheduling.k8s.io/v1", "PriorityClass", "low"),
        a_pod("alone", runtimeClassName="gvisor", priorityClassName="low"),
    )
    saved = library.saved(library.list())

    assert {path.rpartition("/")[2] for path in saved if "_cluster" in path} == {"shop.json", "nginx.json", "gvisor.json", "low.json"}


def a_certificate(name: str, *, days: int, names: Sequence[str] = ()) -> str:
    """Return a certificate for a key of its own, as it stands in a Secret."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=days))
    )
    if names:
        built = built.add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False)
    return base64.b64encode(built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)).decode()


def test_certificates_are_told_with_their_end_those_that_end_first_before_the_others() -> None:
    """Of TLS Secrets and of cert-manager's orders: subject, names, end; and what cannot be read says so."""
    library = Library()
    library.cluster.kinds.append(Kind(group="cert-manager.io", version="v1", resource="certificates", kind="Certificate", namespaced=True))
    tls = {"type": "kubernetes.io/tls"}
    library.cluster.put(
        an_object("v1", "Secret", "late", "shop", data={"tls.crt": a_certificate("late", days=90), "tls.key": "c2VjcmV0"}, **tls),
        an_object("v1", "Secret", "soon", "shop", data={"tls.crt": a_certificate("soon", days=5, names=["a.org", "b.org"])}, **tls),
        an_object("v1", "Secret", "broken", "shop", data={"tls.crt": "bm8="}, **tls),
        an_object("v1", "Secret", "other", "shop", data={"password": "c2VjcmV0"}),
        an_object(
            "cert-manager.io/v1",
            "Certificate",
            "order",
            "shop",
            spec={"dnsNames": ["c.org"]},
            status={"notAfter": "2026-02-01T00:00:00Z"},
        ),
        an_object("cert-manager.io/v1", "Certificate", "waiting", "shop", spec={"commonName": "d"}),
        an_object("cert-manager.io/v1", "Certificate", "weird", "shop", spec="none", status=[]),
    )
    told = library.list().certificates

    assert [(one.where, one.subject, one.names, one.not_after, bool(one.problem)) for one in told] == [
        ("secrets/shop/soon", "CN=soon", ("a.org", "b.org"), datetime(2026, 1, 6, tzinfo=UTC), False),
        ("certificates.cert-manager.io/shop/order", "", ("c.org",), datetime(2026, 2, 1, tzinfo=UTC), False),
        ("secrets/shop/late", "CN=late", (), datetime(2026, 4, 1, tzinfo=UTC), False),
        ("certificates.cert-manager.io/shop/waiting", "d", (), None, True),
        ("certificates.cert-manager.io/shop/weird", "", (), None, True),
        ("secrets/shop/broken", "", (), None, True),
    ]
    assert "c2VjcmV0" not in str(told)


def test_a_second_list_of_the_same_objects_writes_nothing() -> None:
    """Neither objects nor folders carry the time of their capture."""
    library = Library()
    library.cluster.put(*(a_config_map(f"c{number}", value="x" * 100) for number in range(300)))
    library.list()
    before = set(library.store.list("data/"))
    listed = library.list()

    assert set(library.store.list("data/")) == before
    assert listed.objects == 301


def test_large_odd_and_very_many_objects_come_back_as_they_were() -> None:
    """More than one sheaf, an object of megabytes, and a name that JSON must escape."""
    library = Library()
    large = a_config_map("large", text="".join(f"{number:08x}" for number in range(300_000)))
    odd = an_object(RBAC, "Role", "system:<odd>&more", "shop")
    library.cluster.put(large, odd, *(a_config_map(f"c{number}") for number in range(600)))
    listed = library.list()
    saved = library.saved(listed)

    assert len(saved) == listed.objects == 603
    assert saved["core/configmaps/shop/large.json"]["data"] == large["data"]
    assert saved["rbac.authorization.k8s.io/roles/shop/system:<odd>&more.json"]["metadata"]["name"] == "system:<odd>&more"
    assert listed.bytes_total > 2_400_000


def test_a_list_that_breaks_off_leaves_no_half_of_itself() -> None:
    """It is made again, and each object is there once; one that never comes to its end leaves nothing but a finding."""
    library = Library()
    library.cluster.put(*(a_config_map(f"c{number}") for number in range(5)), an_object("v1", "Secret", "s", "shop"))
    library.cluster.fail(ClusterUnavailable("a moment"), verb="list", kind="configmaps", times=1, in_the_middle=True)
    library.cluster.fail(ClusterUnavailable("gone"), verb="list", kind="secrets", in_the_middle=True)
    listed = library.list()
    saved = library.saved(listed)

    assert len([path for path in saved if "/configmaps/" in path]) == 5
    assert not [path for path in saved if "/secrets/" in path]
    assert [finding.where for finding in listed.findings] == ["secrets in shop"]


def things(*versions: str) -> list[Kind]:
    """Return a custom kind in some versions, of which the first is preferred."""
    return [
        Kind(group="example.org", version=one, resource="things", kind="Thing", namespaced=True, preferred=one == versions[0])
        for one in versions
    ]


@pytest.mark.parametrize(("failures", "found", "noted"), [(0, True, False), (listing.TRIES, True, True), (2 * listing.TRIES, False, False)])
def test_a_version_that_cannot_be_read_is_read_in_another(failures: int, found: bool, noted: bool) -> None:
    """A conversion webhook that is down costs nothing where the stored version is served, too; where all fail, the kind is named as missing."""
    library = Library()
    library.cluster.kinds += things("v2", "v1")
    library.cluster.put(an_object("example.org/v1", "Thing", "one", "shop"), a_config_map("settings"))
    library.cluster.fail(ClusterUnavailable("conversion webhook failed"), verb="list", kind="things.example.org", times=failures)
    listed = library.list()
    saved = library.saved(listed)

    assert ("example.org/things/shop/one.json" in saved) is found
    assert [finding.where for finding in listed.findings] == ([] if found else ["things.example.org in shop"])
    assert list(listed.notes) == (["things.example.org were listed as v1, since v2 failed: conversion webhook failed"] if noted else [])
    assert "core/configmaps/shop/settings.json" in saved


def test_a_refusal_of_one_kind_among_many_is_a_finding_and_no_silence() -> None:
    """The sentence says which right is missing, and how else to be rid of it; all other kinds are there."""
    library = Library()
    library.cluster.put(a_config_map("settings"), an_object("v1", "Secret", "s", "shop"), an_object("apps/v1", "Deployment", "web", "shop"))
    library.cluster.fail(AccessDenied("secrets are not for you"), verb="list", kind="secrets")
    listed = library.list()
    (finding,) = listed.findings

    assert (finding.where, finding.message) == ("secrets in shop", "not listed: secrets are not for you")
    assert finding.remedy == "give Becalm's account the right to list secrets, or exclude them under spec.select.resources"
    assert {path for path in library.saved(listed) if "_cluster" not in path} == {
        "core/configmaps/shop/settings.json",
        "apps/deployments/shop/web.json",
    }


def test_a_survey_counts_what_a_capture_would_keep() -> None:
    """By the same rules, without a repository: objects by kind, certificates, what is left out, what cannot be listed."""
    library = Library()
    tls = {"tls.crt": a_certificate("shop.example.org", days=30)}
    library.cluster.put(
        *(a_config_map(f"c{number}") for number in range(3)),
        an_object("v1", "Secret", "tls", "shop", type="kubernetes.io/tls", data=tls),
        an_object("apps/v1", "Deployment", "web", "shop"),
        owned(an_object("apps/v1", "ReplicaSet", "web-1", "shop", spec={"replicas": 3}), "Deployment"),
    )
    library.cluster.fail(AccessDenied("not for you"), verb="list", kind="services")
    scope = listing.Scope(namespaces=("shop",), selection=Selection.model_validate({"namespaces": ["shop"]}))
    surveyed = listing.survey(scope, cluster=library.cluster, clock=HastyClock())
    listed = library.list()

    assert surveyed.objects == {"configmaps": 3, "secrets": 1, "deployments.apps": 1, "namespaces": 1}
    assert sum(surveyed.objects.values()) == listed.objects
    assert [one.where for one in surveyed.certificates] == ["secrets/shop/tls"]
    assert (surveyed.excluded, surveyed.findings) == (listed.excluded, listed.findings)
    assert ("1 replicasets.apps", "made again") in {(item.what, item.by) for item in surveyed.excluded}


def test_an_error_that_is_no_lists_fault_is_raised() -> None:
    """What a finding cannot tell is raised."""
    library = Library()
    library.cluster.put(*(a_config_map(f"c{number}") for number in range(5)))
    library.cluster.fail(LeaseLost("another run has it"), verb="list", kind="configmaps")

    with pytest.raises(LeaseLost):
        library.list()
