"""Objects of a real API server, listed into a repository: what comes along, what a server cannot answer, and what may not be read.

What both can show is shown on the sandbox and on a real cluster. API services, conversion webhooks and rights need the real one.
"""

# ruff: noqa: F401, F811  (fixtures are imported by their names)

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any

import orjson
import pytest
import yaml
from tests.contract.clusters import real_subject, sandbox_subject

from becalm.actions import listing
from becalm.clock import SystemClock
from becalm.errors import BecalmError
from becalm.kube import connect
from becalm.kube.base import Cluster, Kind, Verb
from becalm.kube.kinds import CLAIM, CONFIG_MAP, CRD, NAMESPACE, SECRET, STORAGE_CLASS, VOLUME
from becalm.policy.spec import Selection
from becalm.repository.crypto import Kdf
from becalm.repository.reader import init_repository, open_repository
from becalm.repository.tree import walk
from becalm.repository.writer import Writer
from becalm.testing.contracts.cluster import Subject
from becalm.testing.memory_store import MemoryStore

PASSWORD = "correct horse"
RBAC = "rbac.authorization.k8s.io"


def _kind(group: str, resource: str, kind: str, *, namespaced: bool = False) -> Kind:
    return Kind(group=group, version="v1", resource=resource, kind=kind, namespaced=namespaced)


CLUSTER_ROLE = _kind(RBAC, "clusterroles", "ClusterRole")
CLUSTER_BINDING = _kind(RBAC, "clusterrolebindings", "ClusterRoleBinding")
ROLE_BINDING = _kind(RBAC, "rolebindings", "RoleBinding", namespaced=True)
API_SERVICE = _kind("apiregistration.k8s.io", "apiservices", "APIService")
VALIDATING = _kind("admissionregistration.k8s.io", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration")
MUTATING = _kind("admissionregistration.k8s.io", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration")
PRIORITY_CLASS = _kind("scheduling.k8s.io", "priorityclasses", "PriorityClass")
RUNTIME_CLASS = _kind("node.k8s.io", "runtimeclasses", "RuntimeClass")
INGRESS_CLASS = _kind("networking.k8s.io", "ingressclasses", "IngressClass")
INGRESS = _kind("networking.k8s.io", "ingresses", "Ingress", namespaced=True)
SNAPSHOT_CLASS = _kind("snapshot.storage.k8s.io", "volumesnapshotclasses", "VolumeSnapshotClass")
SNAPSHOT = _kind("snapshot.storage.k8s.io", "volumesnapshots", "VolumeSnapshot", namespaced=True)
CRON_JOB = _kind("batch", "cronjobs", "CronJob", namespaced=True)
DEPLOYMENT = _kind("apps", "deployments", "Deployment", namespaced=True)
REPLICA_SET = _kind("apps", "replicasets", "ReplicaSet", namespaced=True)
ACCOUNT = _kind("", "serviceaccounts", "ServiceAccount", namespaced=True)


@dataclass
class Place:
    """A namespace of its own on some cluster, and whatever a test makes beside it; all of it goes."""

    subject: Subject
    stack: ExitStack
    name: str = field(default_factory=lambda: f"objects-{token_hex(3)}")
    store: MemoryStore = field(default_factory=MemoryStore)

    def make(self, kind: Kind, name: str = "", **body: Any) -> str:
        """Create an object; one that belongs to no namespace gets a name that is free. Return its name."""
        name = name if kind.namespaced else f"{name}{'-' if name and not name.endswith('.') else ''}{self.name}"
        metadata = {"name": name, **({"namespace": self.name} if kind.namespaced else {}), **body.pop("metadata", {})}
        self.subject.create(kind, {"metadata": metadata, **body})
        if not kind.namespaced:
            self.stack.callback(self.subject.cluster.delete, kind, name)
        return name

    def define(self, *versions: str, conversion: dict[str, Any] | None = None) -> Kind:
        """Define a kind with these versions, the last of which is stored, and wait until it is served."""
        group = f"{self.name}.example.org"
        schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
        served = [{"name": one, "served": True, "storage": one == versions[-1], "schema": schema} for one in versions]
        names = {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"}
        spec = {"group": group, "scope": "Namespaced", "names": names, "versions": served}
        self.subject.create(CRD, {"metadata": {"name": f"things.{group}"}, "spec": spec})
        self.stack.callback(self.subject.cluster.delete, CRD, f"things.{group}")
        kind = Kind(group=group, version=versions[-1], resource="things", kind="Thing", namespaced=True)
        self.subject.eventually(lambda: self._is_served(kind))
        if conversion:
            self.subject.cluster.apply(CRD, {"metadata": {"name": f"things.{group}"}, "spec": {"conversion": conversion}}, verb=Verb.MERGE)
        return kind

    def _is_served(self, kind: Kind) -> bool:
        try:
            list(self.subject.cluster.list(kind, namespace=self.name))
        except BecalmError:
            return False
        return any(found.resource == "things" and found.group == kind.group for found in self.subject.cluster.discover().kinds)

    def list(self, cluster: Cluster | None = None, **select: Any) -> listing.Listed:
        """List what stands in the namespace at the revision of now."""
        cluster = cluster or self.subject.cluster
        selection = Selection.model_validate({"namespaces": [self.name], **select})
        if not any(True for _ in self.store.list("config")):
            init_repository(self.store, PASSWORD, kdf=Kdf(n=2**10, r=1, p=1))
        revision = self.subject.cluster.list(NAMESPACE, page_size=1).revision
        with Writer(open_repository(self.store, PASSWORD)) as writer:
            scope = listing.Scope(namespaces=(self.name,), selection=selection)
            return listing.execute(scope, revision=revision, cluster=cluster, writer=writer, clock=SystemClock())

    def saved(self, listed: listing.Listed) -> dict[str, Any]:
        """Read everything back, by its path below `resources`."""
        repository = open_repository(self.store, PASSWORD)
        return {
            path.removeprefix("resources/"): orjson.loads(b"".join(repository.read_file(node)))
            for path, node in walk(repository, listed.tree)
            if node.type == "file"
        }

    def outside(self, listed: listing.Listed) -> set[str]:
        """Return what came along from beyond the namespace, as `resource name`."""
        paths = [path.split("/") for path in self.saved(listed)]
        return {f"{resource} {name.removesuffix('.json')}" for _, resource, scope, name in paths if scope == "_cluster"}


def _place(subject: Subject) -> Iterator[Place]:
    with ExitStack() as stack:
        made = Place(subject=subject, stack=stack)
        subject.create(NAMESPACE, {"metadata": {"name": made.name}})
        stack.callback(subject.cluster.delete, NAMESPACE, made.name)
        yield made


@pytest.fixture
def real(real_subject: Subject) -> Iterator[Place]:
    """A namespace of the real cluster."""
    yield from _place(real_subject)


@pytest.fixture(params=["sandbox", pytest.param("real", marks=pytest.mark.cluster)])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A namespace of the sandbox, and one of the real cluster."""
    subject: Subject = request.getfixturevalue(f"{request.param}_subject")
    yield from _place(subject)


def calls(namespace: str) -> dict[str, Any]:
    """Return a webhook of a service of a namespace, that is called for nothing there is."""
    rule = {"apiGroups": ["nothing.example.org"], "apiVersions": ["v1"], "resources": ["nothings"], "operations": ["CREATE"]}
    client = {"service": {"namespace": namespace, "name": "hook", "path": "/"}}
    return {
        "name": "hook.example.org",
        "clientConfig": client,
        "rules": [rule],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "failurePolicy": "Ignore",
    }


def an_account(place: Place) -> None:
    """Give the namespace's account a role by each kind of binding: one that takes in another, and one of its own."""
    part, parts = f"{place.name}.example.org/part", {"rules": []}
    place.make(CLUSTER_ROLE, "part", metadata={"labels": {part: "yes"}}, **parts)
    whole = place.make(CLUSTER_ROLE, "whole", aggregationRule={"clusterRoleSelectors": [{"matchLabels": {part: "yes"}}]}, rules=[])
    role = place.make(CLUSTER_ROLE, "role", rules=[])
    place.make(CLUSTER_ROLE, "nobodys", rules=[])
    subjects = [{"kind": "ServiceAccount", "name": "app", "namespace": place.name}]
    place.make(ACCOUNT, "app")
    place.make(CLUSTER_BINDING, "binding", roleRef={"apiGroup": RBAC, "kind": "ClusterRole", "name": whole}, subjects=subjects)
    place.make(CLUSTER_BINDING, "nobodys", roleRef={"apiGroup": RBAC, "kind": "ClusterRole", "name": whole}, subjects=[])
    place.make(ROLE_BINDING, "own", roleRef={"apiGroup": RBAC, "kind": "ClusterRole", "name": role}, subjects=subjects)


def a_workload(place: Place) -> None:
    """Name classes of every kind."""
    priority = place.make(PRIORITY_CLASS, "priority", value=1)
    runtime = place.make(RUNTIME_CLASS, "runtime", handler="runc")
    storage = place.make(STORAGE_CLASS, "storage", provisioner="nobody.example.org")
    snapshots = place.make(SNAPSHOT_CLASS, "snapshots", driver="nobody.example.org", deletionPolicy="Delete")
    ingress = place.make(INGRESS_CLASS, "ingress", spec={"controller": "example.org/nobody"})
    place.make(PRIORITY_CLASS, "unused", value=2)
    pod = {
        "containers": [{"name": "c", "image": "i"}],
        "restartPolicy": "Never",
        "priorityClassName": priority,
        "runtimeClassName": runtime,
    }
    job = {"spec": {"template": {"spec": pod}}}
    place.make(CRON_JOB, "nightly", spec={"schedule": "0 0 1 1 *", "suspend": True, "jobTemplate": job})
    place.make(INGRESS, "web", spec={"ingressClassName": ingress, "defaultBackend": {"service": {"name": "x", "port": {"number": 80}}}})
    volume = place.make(
        VOLUME,
        "volume",
        spec={
            "capacity": {"storage": "1Mi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage,
            "hostPath": {"path": "/nowhere"},
            "persistentVolumeReclaimPolicy": "Retain",
        },
    )
    place.make(
        CLAIM,
        "data",
        spec={
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Mi"}},
            "storageClassName": storage,
            "volumeName": volume,
        },
    )
    place.make(SNAPSHOT, "mine", spec={"source": {"persistentVolumeClaimName": "gone"}, "volumeSnapshotClassName": snapshots})


def test_everything_that_the_selection_needs_comes_along(place: Place) -> None:
    """Definitions, roles with their parts, volumes, classes, webhooks: by what refers to them, and nothing beside."""
    kind = place.define("v1")
    place.make(kind, "one")
    an_account(place)
    a_workload(place)
    place.make(VALIDATING, "validating", webhooks=[calls(place.name)])
    place.make(MUTATING, "mutating", webhooks=[calls(place.name)])
    place.make(MUTATING, "nobodys", webhooks=[calls("elsewhere")])
    listed = place.list()

    assert {found for found in place.outside(listed) if place.name in found} == {
        f"namespaces {place.name}",
        f"customresourcedefinitions things.{kind.group}",
        *(f"clusterroles {name}-{place.name}" for name in ("part", "whole", "role")),
        f"clusterrolebindings binding-{place.name}",
        f"priorityclasses priority-{place.name}",
        f"runtimeclasses runtime-{place.name}",
        f"storageclasses storage-{place.name}",
        f"volumesnapshotclasses snapshots-{place.name}",
        f"ingressclasses ingress-{place.name}",
        f"persistentvolumes volume-{place.name}",
        f"validatingwebhookconfigurations validating-{place.name}",
        f"mutatingwebhookconfigurations mutating-{place.name}",
    }


def test_what_a_deployment_makes_again_is_counted_and_not_kept(place: Place) -> None:
    """Its ReplicaSet and its pods stay out, whether they run or not; a pod of its own is kept."""
    labels = {"app": "web"}
    container = {"name": "main", "image": place.subject.image, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "3600"]}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 0}}
    place.make(DEPLOYMENT, "web", spec={"replicas": 2, "selector": {"matchLabels": labels}, "template": template})
    place.subject.pod(place.name, "alone", script="sleep 3600")
    pods = Kind(group="", version="v1", resource="pods", kind="Pod", namespaced=True)
    place.subject.eventually(lambda: len(list(place.subject.cluster.list(pods, namespace=place.name))) == 3)
    listed = place.list()
    saved = place.saved(listed)
    counted = {item.what: item.because for item in listed.excluded if item.by == "made again"}

    assert {path for path in saved if path.startswith(("core/pods", "apps/"))} == {
        f"core/pods/{place.name}/alone.json",
        f"apps/deployments/{place.name}/web.json",
    }
    assert counted["2 pods"] == "its ReplicaSet makes it again"
    assert counted["1 replicasets.apps"] == "its Deployment makes it again"


@pytest.mark.cluster
def test_an_api_service_without_a_backend_is_named_and_the_rest_is_captured(real: Place) -> None:
    """Its group does not answer, so it cannot be known what is missing: the point is partial, and the API service itself comes along."""
    group = f"{real.name}.example.org"
    spec = {
        "group": group,
        "version": "v1",
        "service": {"namespace": real.name, "name": "nobody"},
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "insecureSkipTLSVerify": True,
    }
    real.subject.create(API_SERVICE, {"metadata": {"name": f"v1.{group}"}, "spec": spec})
    real.stack.callback(real.subject.cluster.delete, API_SERVICE, f"v1.{group}")
    real.subject.config_map(real.name, "settings", colour="blue")
    real.subject.eventually(lambda: f"{group}/v1" in real.subject.cluster.discover().failures)
    listed = real.list()
    (finding,) = [one for one in listed.findings if one.where == f"{group}/v1"]

    assert "does not answer" in finding.message
    assert finding.remedy == "look at its APIService"
    assert f"core/configmaps/{real.name}/settings.json" in real.saved(listed)
    assert f"apiservices v1.{group}" in real.outside(listed)


@pytest.mark.cluster
@pytest.mark.parametrize("mixed", [False, True], ids=["all are stored in one version", "they are stored in two"])
def test_a_conversion_webhook_that_is_down_costs_only_what_no_served_version_can_tell(real: Place, mixed: bool) -> None:
    """What cannot be read in the preferred version is read in the one in which it is stored, and the point says so; where objects of one kind
    are stored in two versions none of them can be listed, and that is named with its remedy. The definition comes along in any case.
    """
    kind = real.define("v1", "v1alpha1")
    real.make(kind, "one")
    if mixed:
        defined = real.subject.cluster.get(CRD, f"things.{kind.group}")
        for version in defined["spec"]["versions"]:
            version["storage"] = version["name"] == "v1"
        real.subject.cluster.apply(CRD, defined, verb=Verb.UPDATE)
    client = {"service": {"namespace": real.name, "name": "nobody", "path": "/convert"}}
    conversion = {"strategy": "Webhook", "webhook": {"clientConfig": client, "conversionReviewVersions": ["v1"]}}
    definition = f"things.{kind.group}"
    real.subject.cluster.apply(CRD, {"metadata": {"name": definition}, "spec": {"conversion": conversion}}, verb=Verb.MERGE)
    mended = {"metadata": {"name": definition}, "spec": {"conversion": {"strategy": "None", "webhook": None}}}
    real.stack.callback(real.subject.cluster.apply, CRD, mended, verb=Verb.MERGE)  # else neither objects nor definition could be deleted
    preferred = Kind(group=kind.group, version="v1", resource="things", kind="Thing", namespaced=True)
    real.subject.eventually(lambda: _fails(lambda: list(real.subject.cluster.list(preferred, namespace=real.name))))
    if mixed:
        real.subject.eventually(lambda: _is_stored_in_both(real, preferred, kind), seconds=60)
    listed = real.list()
    saved = real.saved(listed)
    named = [one for one in listed.findings if kind.group in one.where]

    assert f"customresourcedefinitions {definition}" in real.outside(listed)
    if mixed:
        assert [one.where for one in named] == [f"things.{kind.group} in {real.name}"]
        assert "conversion webhook" in named[0].message
        assert named[0].remedy == "look at the API server, or at the server behind this API group"
    else:
        assert named == []
        assert saved[f"{kind.group}/things/{real.name}/one.json"]["apiVersion"] == f"{kind.group}/v1alpha1"
        assert [note for note in listed.notes if f"things.{kind.group} were listed as v1alpha1, since v1 failed: " in note]


def _is_stored_in_both(place: Place, new: Kind, old: Kind) -> bool:
    """Make one more object in the version that is stored now, as soon as the server has noticed; then neither version can be listed."""
    _fails(lambda: place.make(new, f"new-{token_hex(3)}"))
    return _fails(lambda: list(place.subject.cluster.list(old, namespace=place.name)))


def _fails(call: Callable[[], object]) -> bool:
    try:
        call()
    except BecalmError:
        return True
    return False


@pytest.mark.cluster
def test_a_kind_that_the_account_may_not_read_is_named_and_the_others_are_captured(real: Place) -> None:
    """403 on Secrets among all other kinds: a finding that says which right is missing."""
    rules = [
        {"apiGroups": [""], "resources": ["configmaps", "serviceaccounts", "services", "pods"], "verbs": ["list", "get"]},
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list", "get"]},
    ]
    role = real.make(CLUSTER_ROLE, "reader", rules=rules)
    real.make(ACCOUNT, "backup")
    subjects = [{"kind": "ServiceAccount", "name": "backup", "namespace": real.name}]
    real.make(CLUSTER_BINDING, "reader", roleRef={"apiGroup": RBAC, "kind": "ClusterRole", "name": role}, subjects=subjects)
    real.make(SECRET, "hidden", stringData={"password": "nobody sees this"})
    real.subject.config_map(real.name, "settings", colour="blue")
    cluster = _as_account(real, "backup")
    real.subject.eventually(lambda: not _fails(lambda: list(cluster.list(CONFIG_MAP, namespace=real.name))))
    include = ["configmaps", "serviceaccounts", "services", "secrets"]
    listed = real.list(cluster, resources={"include": include}, clusterScoped="none")
    (finding,) = listed.findings

    assert finding.where == f"secrets in {real.name}"
    assert "not listed" in finding.message
    assert "right to list secrets" in finding.remedy
    assert f"core/configmaps/{real.name}/settings.json" in real.saved(listed)
    assert f"core/secrets/{real.name}/hidden.json" not in real.saved(listed)


def _as_account(place: Place, name: str) -> Cluster:
    """Connect as a service account, by a token."""
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {"name": name, "namespace": place.name}}
    body = {**request, "spec": {"expirationSeconds": 3600}}
    made = place.subject.cluster.apply(ACCOUNT, body, verb=Verb.CREATE, subresource="token")
    file = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    context = {"name": "it", "context": {"cluster": file["clusters"][0]["name"], "user": "it"}}
    user = {"name": "it", "user": {"token": made["status"]["token"]}}
    return connect(kubeconfig_dict={**file, "users": [user], "contexts": [context], "current-context": "it"})
