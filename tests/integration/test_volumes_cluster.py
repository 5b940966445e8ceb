"""Volumes of every sort on a real cluster: cut together, vanished on the way, retained by their class; and nothing of a run is left.

What is left is judged by the API, in every namespace, and by the storage's own folder where it can be seen.
"""

# ruff: noqa: F401, F811  (fixtures are imported by their names)

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from tests.contract.clusters import real_subject

from becalm.actions import discover, export, quiesce, snapshot, sweep, upload
from becalm.actions.handover import Application, Begun, Cut, Discovered, Exported, Ports, Settings, Trigger
from becalm.clock import SystemClock
from becalm.errors import NotFound
from becalm.kube import connect
from becalm.kube.base import LABEL_MANAGED, LABEL_RUN, MANAGER, Cluster, Kind, Verb
from becalm.kube.kinds import (
    CLAIM,
    GROUP_CONTENT,
    GROUP_SNAPSHOT,
    NAMESPACE,
    POD,
    SECRET,
    SNAPSHOT,
    SNAPSHOT_CLASS,
    SNAPSHOT_CONTENT,
)
from becalm.kube.pods import PodMover
from becalm.model import run_key
from becalm.policy.spec import ProtectionPolicy
from becalm.repository import lease
from becalm.repository.crypto import Kdf
from becalm.repository.reader import init_repository
from becalm.testing.builders import a_policy
from becalm.testing.contracts.cluster_subject import Subject
from becalm.testing.memory_store import MemoryStore

pytestmark = pytest.mark.cluster

RBAC_FILE = Path(__file__).parents[2] / "deploy" / "rbac.yaml"
ACCOUNT = Kind(group="", version="v1", resource="serviceaccounts", kind="ServiceAccount", namespaced=True)
ROLE = Kind(group="rbac.authorization.k8s.io", version="v1", resource="clusterroles", kind="ClusterRole", namespaced=False)
BINDING = Kind(group="rbac.authorization.k8s.io", version="v1", resource="clusterrolebindings", kind="ClusterRoleBinding", namespaced=False)
PASSWORD = "correct horse"
POLICY = "i-volumes"


@dataclass
class Yard:
    """Claims in a namespace of their own, Becalm's own namespace, and what a run needs."""

    subject: Subject
    namespace: str
    own: str
    store: MemoryStore = field(default_factory=MemoryStore)
    spec: dict[str, Any] = field(default_factory=dict)
    classes: list[tuple[Kind, str]] = field(default_factory=list)
    """What belongs to no namespace, and goes at the end."""
    account: Cluster | None = None
    """Who acts, where it is not the administrator."""

    def __post_init__(self) -> None:
        init_repository(self.store, PASSWORD, kdf=Kdf(n=2**10, r=1, p=1))
        self.run = run_key(POLICY, self.namespace)
        self.epoch = lease.take(self.store, policy=POLICY, run=self.run, seconds=3000).epoch

    @property
    def policy(self) -> ProtectionPolicy:
        """The policy that captures the claims, of the kinds that are needed alone."""
        return a_policy(name=POLICY, **({"select": {"namespaces": [self.namespace], "clusterScoped": "none"}} | self.spec))

    @property
    def ports(self) -> Ports:
        """The ports."""
        settings = Settings(cluster_name="test", namespace=self.own, export_timeout_seconds=60)
        movers = PodMover(self.subject.cluster, SystemClock(), image=self.subject.image, policy=POLICY, start_timeout_seconds=5)
        return Ports(
            cluster=self.account or self.subject.cluster,
            store=self.store,
            password=PASSWORD,
            clock=SystemClock(),
            settings=settings,
            movers=movers,
        )

    @property
    def begun(self) -> Begun:
        """The run."""
        return Begun(
            policy=POLICY,
            policy_digest="0",
            run_id=self.namespace,
            run=self.run,
            trigger=Trigger.MANUAL,
            started=SystemClock().now(),
            epoch=self.epoch,
        )

    def claim(self, name: str, *, app: str = "", **spec: Any) -> None:
        """Make a claim that is bound at once, and wait for its volume."""
        wanted = {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "16Mi"}},
            "storageClassName": self.subject.immediate_class,
        }
        labels = {"app": app} if app else {}
        self.subject.create(CLAIM, {"metadata": {"name": name, "namespace": self.namespace, "labels": labels}, "spec": wanted | spec})
        self.subject.eventually(lambda: self.there(CLAIM, name, self.namespace).get("status", {}).get("phase") == "Bound")

    def there(self, kind: Kind, name: str, namespace: str | None = None) -> dict[str, Any]:
        """Return an object, or nothing."""
        try:
            return self.subject.cluster.get(kind, name, namespace=namespace)
        except NotFound:
            return {}

    def a_class(self, kind: Kind, name: str, policy: str) -> str:
        """Make a class of the cluster's driver for this test alone."""
        unique = f"{name}-{self.namespace}"
        driver = self.subject.cluster.get(SNAPSHOT_CLASS, self.subject.snapshot_class)["driver"]
        self.subject.create(kind, {"metadata": {"name": unique}, "driver": driver, "deletionPolicy": policy})
        self.classes.append((kind, unique))
        return unique

    def as_account(self, name: str, rules: list[dict[str, Any]]) -> Cluster:
        """Connect as an account that has these rights in the whole cluster and no others."""
        unique = f"{name}-{self.namespace}"
        subject = {"kind": "ServiceAccount", "name": name, "namespace": self.own}
        self.subject.create(ACCOUNT, {"metadata": {"name": name, "namespace": self.own}})
        self.subject.create(ROLE, {"metadata": {"name": unique}, "rules": rules})
        role = {"apiGroup": ROLE.group, "kind": ROLE.kind, "name": unique}
        self.subject.create(BINDING, {"metadata": {"name": unique}, "roleRef": role, "subjects": [subject]})
        self.classes += [(BINDING, unique), (ROLE, unique)]
        asked = {"metadata": {"name": name, "namespace": self.own}, "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
        made = self.subject.cluster.apply(ACCOUNT, asked | {"spec": {"expirationSeconds": 3600}}, verb=Verb.CREATE, subresource="token")
        file = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
        context = {"name": "it", "context": {"cluster": file["clusters"][0]["name"], "user": "it"}}
        user = {"name": "it", "user": {"token": made["status"]["token"]}}
        return connect(kubeconfig_dict={**file, "users": [user], "contexts": [context], "current-context": "it"})

    def discover(self) -> Discovered:
        """Resolve the selection."""
        return discover.execute(self.policy, self.ports)

    def cut(self, application: Application) -> Cut:
        """Cut an application that has no hooks."""
        record = quiesce.execute(application, self.begun, self.policy, self.ports)
        return snapshot.execute(application, record, self.begun, self.policy, self.ports)

    def export(self, cut: Cut) -> list[Exported]:
        """Make it readable."""
        return export.execute([cut], self.begun, self.policy, self.ports)

    def left(self) -> list[str]:
        """Return what of the run is anywhere in the cluster, and what of the namespace's volumes is in the storage."""
        labels = f"{LABEL_MANAGED}={MANAGER},{LABEL_RUN}={self.run}"
        cluster = self.subject.cluster
        found = [
            f"{kind}/{item['metadata']['name']}"
            for kind in (POD, CLAIM, SECRET, SNAPSHOT, SNAPSHOT_CONTENT, GROUP_SNAPSHOT)
            for item in cluster.list(kind, labels=labels)
        ]
        found += [f"{kind} of the group" for kind in (SNAPSHOT, GROUP_SNAPSHOT) for _ in cluster.list(kind, namespace=self.namespace)]
        for kind, reference in ((SNAPSHOT_CONTENT, "volumeSnapshotRef"), (GROUP_CONTENT, "volumeGroupSnapshotRef")):
            found += [str(kind) for item in cluster.list(kind) if item["spec"][reference].get("namespace") in {self.namespace, self.own}]
        return found

    def sweep(self) -> None:
        """Remove all of it; what the cluster's own controllers remove after that is waited for."""
        assert sweep.sweep(POLICY, self.ports, run=self.run) == ()
        self.subject.eventually(lambda: not self.left())


@pytest.fixture
def yard(real_subject: Subject) -> Iterator[Yard]:
    """Two namespaces, and nothing of them afterwards."""
    cluster = real_subject.cluster
    names = [f"i-{what}-{uuid4().hex[:6]}" for what in ("app", "own")]
    for name in names:
        cluster.apply(NAMESPACE, {"metadata": {"name": name, "labels": {LABEL_MANAGED: MANAGER}}}, verb=Verb.CREATE)
    made = Yard(subject=real_subject, namespace=names[0], own=names[1])
    yield made
    sweep.sweep(POLICY, made.ports, run=made.run)
    for kind, name in made.classes:
        cluster.delete(kind, name)
    for name in names:
        cluster.delete(NAMESPACE, name)


def stored(handles: list[str]) -> set[str]:
    """Return those cuts that are still in the storage, where its folder can be seen."""
    folder = Path(os.environ["KUBECONFIG"]).parent / "volumes" / "snapshots"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return {handle for handle in handles if any(handle in name for name in names)}


def test_an_application_is_cut_by_one_group_and_nothing_of_it_is_left(yard: Yard) -> None:
    """The claims' own labels mean exactly them; the cut is swept at once, while the controller still makes the members."""
    yard.claim("data", app="db")
    yard.claim("log", app="db")
    yard.claim("other", app="web")
    yard.spec = {"volumes": {"rules": [{"match": {"claim": "other"}, "use": "skip", "because": "a test"}]}}
    (application,) = yard.discover().applications
    cut = yard.cut(application)
    handles = [item.handle for item in cut.volumes]
    created = [item.created for item in cut.volumes if item.created]
    kept = stored(handles)
    yard.sweep()
    yard.subject.eventually(lambda: not stored(handles))

    assert [[str(volume) for volume in group.volumes] for group in application.groups] == [
        [f"{yard.namespace}/data", f"{yard.namespace}/log"]
    ]
    assert cut.notes == ()
    assert [(item.error, bool(item.group), item.snapshot) for item in cut.volumes] == [("", True, "")] * 2
    assert len(created) == 2
    assert (max(created) - min(created)).total_seconds() < 0.1
    assert len(kept) in {0, 2}


def test_the_cuts_of_a_group_are_read_like_any_other(yard: Yard) -> None:
    """Each is bound in Becalm's namespace by its handle; the claim made of it is provisioned and mounted."""
    yard.claim("data")
    yard.claim("log")
    (application,) = yard.discover().applications
    exported = yard.export(yard.cut(application))
    for number, item in enumerate(exported):
        yard.subject.pod(yard.own, f"reader-{number}", "ls /data && sleep 600", claim=item.claim)
    for number in range(len(exported)):
        yard.subject.running(yard.own, f"reader-{number}")
        yard.subject.cluster.delete(POD, f"reader-{number}", namespace=yard.own)
    yard.sweep()

    assert len(application.groups) == 1
    assert [(item.volume.claim, item.error) for item in exported] == [("data", ""), ("log", "")]


def test_a_group_that_cannot_be_cut_is_cut_one_by_one(yard: Yard) -> None:
    """A claim without a volume came after the plan, and the labels mean it: the group fails, the volumes do not."""
    yard.claim("data")
    yard.claim("log")
    (application,) = yard.discover().applications
    yard.subject.claim(yard.namespace, "unbound")
    cut = yard.cut(application)
    yard.sweep()

    assert [(item.error, item.group, bool(item.handle)) for item in cut.volumes] == [("", "", True)] * 2
    assert len(cut.notes) == 1
    assert "its volumes were cut one by one" in cut.notes[0]


def test_a_class_that_retains_its_cuts_leaks_nothing(yard: Yard) -> None:
    """Named by a rule; the storage lets go of the cut with its snapshot."""
    yard.claim("data")
    yard.claim("log")
    rule = {"match": {"claim": "*"}, "use": "snapshot", "snapshotClass": yard.a_class(SNAPSHOT_CLASS, "i-retain", "Retain")}
    yard.spec = {"volumes": {"rules": [rule]}}
    (application,) = yard.discover().applications
    cut = yard.cut(replace(application, groups=()))
    handles = [item.handle for item in cut.volumes]
    kept = stored(handles)
    policies = [yard.subject.cluster.get(SNAPSHOT_CONTENT, item.content)["spec"]["deletionPolicy"] for item in cut.volumes]
    yard.sweep()
    yard.subject.eventually(lambda: not stored(handles))

    assert [item.plan.snapshot_class for item in cut.volumes] == [rule["snapshotClass"]] * 2
    assert policies == ["Delete", "Delete"]
    assert len(kept) in {0, 2}


def test_a_claim_that_vanishes_before_the_cut_is_named(yard: Yard) -> None:
    """The others are cut."""
    yard.claim("data", app="a")
    yard.claim("gone", app="b")
    (application,) = yard.discover().applications
    yard.subject.cluster.delete(CLAIM, "gone", namespace=yard.namespace)
    yard.subject.eventually(lambda: yard.subject.is_gone(CLAIM, "gone", yard.namespace))
    cut = yard.cut(application)
    yard.sweep()

    by_name = {item.plan.volume.claim: item.error for item in cut.volumes}
    assert by_name["data"] == ""
    assert by_name["gone"].startswith("the claim was deleted after it was discovered")


def test_a_volume_that_vanishes_after_its_cut_is_captured(yard: Yard) -> None:
    """The cut is what counts: the claim, and the volume with it, may go."""
    yard.claim("data")
    (application,) = yard.discover().applications
    cut = yard.cut(application)
    yard.subject.cluster.delete(CLAIM, "data", namespace=yard.namespace)
    yard.subject.eventually(lambda: yard.subject.is_gone(CLAIM, "data", yard.namespace))
    exported = yard.export(cut)
    yard.sweep()

    assert [item.error for item in exported] == [""]


def test_an_export_that_vanishes_is_named_by_its_mover(yard: Yard) -> None:
    """Somebody deletes the temporary claim: the mover says what it waits for, and what the run made is gone."""
    yard.claim("data")
    (application,) = yard.discover().applications
    exported = yard.export(yard.cut(application))
    specs = upload.prepare(exported, yard.begun, yard.policy, yard.ports)
    yard.subject.cluster.delete(CLAIM, exported[0].claim, namespace=yard.own)
    yard.subject.eventually(lambda: yard.subject.is_gone(CLAIM, exported[0].claim, yard.own))
    (result,) = upload.execute(specs, yard.begun, yard.ports)
    before = yard.left()
    yard.sweep()

    assert "left no result" in result.error
    assert exported[0].claim in result.error
    assert any(one.startswith("pods/") for one in before)
    assert any(one.startswith("secrets/") for one in before)


def test_a_block_volume_is_cut_and_read_as_one(yard: Yard) -> None:
    """Its mode goes with it to the temporary claim."""
    yard.claim("disk", volumeMode="Block")
    (application,) = yard.discover().applications
    exported = yard.export(yard.cut(application))
    mode = yard.there(CLAIM, exported[0].claim, yard.own)["spec"]["volumeMode"]
    yard.sweep()

    assert (exported[0].error, mode) == ("", "Block")


def test_what_is_foreign_and_looks_alike_stays(yard: Yard) -> None:
    """A snapshot of somebody else's, of our claims and with a name like ours, is not ours."""
    yard.claim("data")
    name = f"becalm-{yard.run}-12345678"
    yard.subject.create(
        SNAPSHOT,
        {
            "metadata": {"name": name, "namespace": yard.namespace, "labels": {LABEL_MANAGED: MANAGER, LABEL_RUN: "another"}},
            "spec": {"volumeSnapshotClassName": yard.subject.snapshot_class, "source": {"persistentVolumeClaimName": "data"}},
        },
    )
    (application,) = yard.discover().applications
    yard.cut(application)
    sweep.sweep(POLICY, yard.ports, run=yard.run)
    there = yard.there(SNAPSHOT, name, yard.namespace)
    yard.subject.cluster.delete(SNAPSHOT, name, namespace=yard.namespace)
    yard.subject.eventually(lambda: not yard.left())

    assert there


def test_the_rights_of_the_account_suffice_for_a_group(yard: Yard) -> None:
    """With the rights that are documented and no others, volumes are cut together and swept; without those for groups, one by one."""
    yard.claim("data")
    yard.claim("log")
    documents = [one for one in yaml.safe_load_all(RBAC_FILE.read_text()) if one]
    rules = next(one["rules"] for one in documents if one["kind"] == "ClusterRole" and one["metadata"]["name"] == "becalm-protect")
    together = yard.as_account("full", rules)
    alone = yard.as_account("less", [rule for rule in rules if rule["apiGroups"] != [GROUP_SNAPSHOT.group]])
    cuts = []
    for cluster in (together, alone):
        yard.account = cluster
        cuts.append(yard.cut(yard.discover().applications[0]))
    yard.account = None
    yard.sweep()

    assert [[(bool(item.group), item.error) for item in cut.volumes] for cut in cuts] == [[(True, "")] * 2, [(False, "")] * 2]
