"""deploy/rbac.yaml on a real cluster: with exactly these rights an application is protected and restored, and without them nothing is.

The roles are taken from the file, under names of their own. The two accounts act by their tokens.
"""

# ruff: noqa: F401, F811  (fixtures are imported by their names)

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
import yaml
from tests.contract.clusters import real_subject
from tests.contract.stores import Server, s3_bucket, s3_server

from becalm.actions import pipeline, restore
from becalm.actions.handover import Ports, Settings
from becalm.actions.restore import RestoreRequest
from becalm.clock import SystemClock
from becalm.errors import AccessDenied
from becalm.kube import connect
from becalm.kube.base import Cluster, Kind, Verb, owned_by
from becalm.kube.kinds import CLAIM, CONFIG_MAP, NAMESPACE, POD, SECRET, SNAPSHOT
from becalm.kube.leftovers import SOURCE_PROTECTION, discard
from becalm.kube.pods import PodMover
from becalm.policy.spec import ProtectionPolicy
from becalm.repository.crypto import Kdf
from becalm.repository.reader import init_repository
from becalm.storage import open_store
from becalm.testing.builders import a_policy
from becalm.testing.contracts.cluster_subject import Subject

pytestmark = [pytest.mark.cluster, pytest.mark.s3]

FILE = Path(__file__).parents[2] / "deploy" / "rbac.yaml"
RBAC = "rbac.authorization.k8s.io"
KINDS = {
    "Namespace": NAMESPACE,
    "ServiceAccount": Kind(group="", version="v1", resource="serviceaccounts", kind="ServiceAccount", namespaced=True),
    "ClusterRole": Kind(group=RBAC, version="v1", resource="clusterroles", kind="ClusterRole", namespaced=False),
    "ClusterRoleBinding": Kind(group=RBAC, version="v1", resource="clusterrolebindings", kind="ClusterRoleBinding", namespaced=False),
    "Role": Kind(group=RBAC, version="v1", resource="roles", kind="Role", namespaced=True),
    "RoleBinding": Kind(group=RBAC, version="v1", resource="rolebindings", kind="RoleBinding", namespaced=True),
}
VERBS = {Verb.CREATE: "create", Verb.UPDATE: "update", Verb.MERGE: "patch", Verb.APPLY: "patch", Verb.FORCE_APPLY: "patch"}
PASSWORD = "correct horse"
SECOND_TRIES = {("get", "secrets"), ("update", "secrets"), ("get", "persistentvolumeclaims")}
"""What a second try of a task needs, which adopts what the first one made."""
RETAINED = {("patch", "volumesnapshotcontents")}
"""Only where a snapshot class retains what it cuts."""
FORGOTTEN = {("patch", "volumesnapshots")}
"""Only where the provisioner leaves its mark on a cut that goes; the last test of this file uses it."""
TOGETHER = {("get", "volumegroupsnapshots"), ("create", "volumegroupsnapshots"), ("delete", "volumegroupsnapshots")} | {
    ("get", "volumegroupsnapshotcontents")
}
"""Only where two volumes and more are cut together."""
AIRFLOWS = {("watch", "events"), ("patch", "pods")}
"""What Airflow's pod operator does in place of our own movers."""


class Recording:
    """A cluster that remembers which rights were used."""

    def __init__(self, inner: Cluster) -> None:
        self.inner, self.used = inner, set[tuple[str, str]]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def list(self, kind: Kind, **more: Any) -> Any:
        """List."""
        self.used.add(("list", "*"))
        return self.inner.list(kind, **more)

    def get(self, kind: Kind, name: str, **more: Any) -> Any:
        """Get."""
        self.used.add(("get", kind.resource))
        return self.inner.get(kind, name, **more)

    def apply(self, kind: Kind, manifest: dict[str, Any], *, verb: Verb, **more: Any) -> Any:
        """Write."""
        self.used.add((VERBS[verb], kind.resource))
        return self.inner.apply(kind, manifest, verb=verb, **more)

    def delete(self, kind: Kind, name: str, **more: Any) -> bool:
        """Delete."""
        self.used.add(("delete", kind.resource))
        return self.inner.delete(kind, name, **more)

    def exec(self, *place: Any, **more: Any) -> Any:
        """Run a command; the client looks at the pod first."""
        self.used |= {("get", "pods"), ("get", "pods/exec"), ("create", "pods/exec")}
        return self.inner.exec(*place, **more)

    def logs(self, *place: Any, **more: Any) -> Any:
        """Read a log."""
        self.used.add(("get", "pods/log"))
        return self.inner.logs(*place, **more)


def documents() -> list[dict[str, Any]]:
    """Return the objects of the file."""
    return [document for document in yaml.safe_load_all(FILE.read_text()) if document]


def granted(*roles: str) -> set[tuple[str, str]]:
    """Return every verb on every resource that some roles of the file grant."""
    rules = [rule for one in documents() if one["kind"] == "ClusterRole" and one["metadata"]["name"] in roles for rule in one["rules"]]
    return {(verb, resource) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}


@dataclass
class Place:
    """The roles of the file on a cluster, and an application beside them."""

    subject: Subject
    server: Server
    bucket: str
    name: str = field(default_factory=lambda: f"docs-rbac-{token_hex(3)}")

    @property
    def shop(self) -> str:
        """The application's namespace."""
        return f"{self.name}-shop"

    def install(self) -> None:
        """Apply the file. Commands may be run in the application's namespace only, as the file says how."""
        for document in documents():
            kind, narrowed = KINDS[document["kind"]], document["metadata"]["name"] == "becalm-freeze"
            if document["kind"] == "ClusterRoleBinding" and narrowed:
                kind, document["kind"], document["metadata"]["namespace"] = KINDS["RoleBinding"], "RoleBinding", self.shop
            self.subject.create(kind, self._renamed(document))

    def _renamed(self, document: dict[str, Any]) -> dict[str, Any]:
        """Give an object of the file a name that is free; its rules stay as they are."""
        metadata = document["metadata"]
        if document["kind"].startswith("Cluster"):
            metadata["name"] = self._role(metadata["name"])
        elif document["kind"] == "Namespace":
            metadata["name"] = self.name
        if metadata.get("namespace") == "becalm":
            metadata["namespace"] = self.name
        if "roleRef" in document:
            document["roleRef"]["name"] = self._role(document["roleRef"]["name"])
            document["subjects"] = [{**subject, "namespace": self.name} for subject in document["subjects"]]
        return document

    def _role(self, name: str) -> str:
        return f"{self.name}-{name}"

    def remove(self) -> None:
        """Remove everything that was applied."""
        for document in documents():
            if document["kind"] in ("ClusterRole", "ClusterRoleBinding"):
                self.subject.cluster.delete(KINDS[document["kind"]], self._role(document["metadata"]["name"]))
        for namespace in (self.shop, self.name):
            self.subject.cluster.delete(NAMESPACE, namespace)

    def account(self, name: str) -> Recording:
        """Connect as one of the accounts of the file, by a token."""
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {"name": name, "namespace": self.name}}
        kind = KINDS["ServiceAccount"]
        made = self.subject.cluster.apply(kind, {**request, "spec": {"expirationSeconds": 3600}}, verb=Verb.CREATE, subresource="token")
        file = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
        context = {"name": "it", "context": {"cluster": file["clusters"][0]["name"], "user": "it"}}
        user = {"name": "it", "user": {"token": made["status"]["token"]}}
        return Recording(connect(kubeconfig_dict={**file, "users": [user], "contexts": [context], "current-context": "it"}))

    def ports(self, cluster: Recording) -> Ports:
        """Return the ports of an account."""
        pods_see = os.environ.get("BECALM_MOVER_ENDPOINT_URL") or self.server.endpoint
        settings = Settings(
            cluster_name="test",
            namespace=self.name,
            mover_image=os.environ.get("BECALM_MOVER_IMAGE", "becalm/mover"),
            store_environment=self.server.credentials(AWS_ENDPOINT_URL=pods_see),
        )
        store = open_store(self.policy.spec.target.repository_url("shop"), self.server.credentials())
        movers = PodMover(cluster, SystemClock(), image=settings.mover_image, policy="shop")
        return Ports(cluster=cluster, store=store, password=PASSWORD, clock=SystemClock(), settings=settings, movers=movers)

    @property
    def policy(self) -> ProtectionPolicy:
        """A policy with a hook and a snapshot."""
        hook = {"select": {"pod": "web"}, "command": {"freeze": ["touch", "/data/frozen"], "thaw": ["rm", "-f", "/data/frozen"]}}
        target = {"url": f"s3://{self.bucket}/{self.name}", "password": "env:BECALM_PASSWORD"}
        return a_policy(select={"namespaces": [self.shop]}, quiesce={"hooks": [hook]}, target=target)


@pytest.fixture
def place(real_subject: Subject, s3_server: Server, s3_bucket: str) -> Iterator[Place]:
    """Start an application and apply the file."""
    made = Place(subject=real_subject, server=s3_server, bucket=s3_bucket)
    real_subject.create(NAMESPACE, {"metadata": {"name": made.shop}})
    try:
        made.install()
        real_subject.claim(made.shop, "data")
        real_subject.pod(made.shop, "web", claim="data")
        real_subject.config_map(made.shop, "settings", colour="blue")
        rules = [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["delete"]}]
        real_subject.create(KINDS["Role"], {"metadata": {"name": "keeper", "namespace": made.shop}, "rules": rules})
        reference = {"apiGroup": RBAC, "kind": "Role", "name": "keeper"}
        subjects = [{"kind": "ServiceAccount", "name": "default", "namespace": made.shop}]
        binding = {"metadata": {"name": "keeper", "namespace": made.shop}, "roleRef": reference, "subjects": subjects}
        real_subject.create(KINDS["RoleBinding"], binding)
        real_subject.running(made.shop, "web")
        real_subject.shell(made.shop, "web", "echo precious >/data/file; sync")
        yield made
    finally:
        made.remove()


def test_these_rights_protect_and_restore_and_none_of_them_is_idle(place: Place) -> None:
    """One account makes a whole recovery point, the other brings the lost namespace back; every right of the first is used."""
    protector, restorer = place.account("becalm-protect"), place.account("becalm-restore")
    ports = place.ports(protector)
    init_repository(ports.store, PASSWORD, kdf=Kdf(n=2**10, r=1, p=1))
    outcome = pipeline.protect(place.policy, run_id="rbac", ports=ports)

    assert outcome.verdict is not None
    assert (outcome.verdict.ok, outcome.verdict.reasons) == (True, ())
    assert outcome.committed is not None
    assert outcome.committed.consistency == "application-consistent"
    idle = granted("becalm-protect", "becalm-freeze", "becalm-movers") - protector.used
    assert idle <= SECOND_TRIES | RETAINED | FORGOTTEN | TOGETHER | AIRFLOWS | {
        ("get", "pods/log")
    }  # a short mover ends before its log is read

    cluster = place.subject.cluster
    for kind, namespace in ((SNAPSHOT, place.shop), (SNAPSHOT, place.name), (CLAIM, place.name), (POD, place.name)):
        assert list(cluster.list(kind, namespace=namespace)) == []
    cluster.delete(NAMESPACE, place.shop)
    place.subject.eventually(lambda: place.subject.is_gone(NAMESPACE, place.shop), seconds=120)
    request = RestoreRequest(policy="shop")
    plan = restore.prepare(request, place.ports(restorer))
    report = restore.execute(plan, request, place.ports(restorer))
    verified = restore.verify(plan, request, place.ports(restorer))

    assert (report.failures, verified.failures) == ((), ())
    assert cluster.get(CONFIG_MAP, "settings", namespace=place.shop)["data"] == {"colour": "blue"}
    assert cluster.get(KINDS["Role"], "keeper", namespace=place.shop)["rules"][0]["verbs"] == ["delete"]
    place.subject.running(place.shop, "web")
    assert place.subject.shell(place.shop, "web", "cat /data/file") == b"precious\n"


def test_the_account_that_protects_can_do_no_more(place: Place) -> None:
    """It reads lists of everything, and neither changes an application nor runs commands where it was not let."""
    cluster = place.account("becalm-protect")
    place.subject.pod(place.name, "stranger")
    place.subject.running(place.name, "stranger")
    manifest = {"metadata": {"name": "settings", "namespace": place.shop}, "data": {"colour": "red"}}

    assert [found["metadata"]["name"] for found in cluster.list(CONFIG_MAP, namespace=place.shop, fields="metadata.name=settings")]
    with pytest.raises(AccessDenied, match="exec"):
        cluster.exec(place.name, "stranger", container="main", command=["true"])
    for forbidden in (
        lambda: cluster.apply(CONFIG_MAP, manifest, verb=Verb.MERGE),
        lambda: cluster.delete(POD, "web", namespace=place.shop),
        lambda: cluster.apply(SECRET, {"metadata": {"name": "new", "namespace": place.shop}}, verb=Verb.CREATE),
        lambda: cluster.apply(POD, {"metadata": {"name": "new", "namespace": place.shop}, "spec": {"containers": []}}, verb=Verb.CREATE),
        lambda: cluster.delete(NAMESPACE, place.shop),
    ):
        with pytest.raises(AccessDenied):
            forbidden()
    assert cluster.get(NAMESPACE, place.shop)["metadata"]["name"] == place.shop


def test_a_cut_that_the_provisioner_has_forgotten_goes_with_these_rights(place: Place) -> None:
    """Its mark is all that holds the cut back: the account may take it away, and nothing of the cut is left."""
    admin, cluster, run = place.subject.cluster, place.account("becalm-protect"), "0123456789"
    labels = owned_by("shop", run, "cut")
    source = {"persistentVolumeClaimName": "data"}
    metadata = {"name": "forgotten", "namespace": place.shop, "labels": labels, "finalizers": [SOURCE_PROTECTION]}
    spec = {"volumeSnapshotClassName": place.subject.snapshot_class, "source": source}
    place.subject.create(SNAPSHOT, {"metadata": metadata, "spec": spec})
    place.subject.eventually(lambda: admin.get(SNAPSHOT, "forgotten", namespace=place.shop).get("status", {}).get("readyToUse"))
    left = discard(cluster, SystemClock(), run=run, namespace=place.name, application_namespaces=[place.shop])

    assert left == ()
    assert cluster.used >= FORGOTTEN
    assert list(admin.list(SNAPSHOT, namespace=place.shop)) == []
