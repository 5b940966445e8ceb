"""The contract of a cluster, of single objects: discovery, writing in every way, conflicts, owners, finalizers, namespaces."""

from __future__ import annotations

from uuid import uuid4

import pytest

from becalm.errors import AlreadyExists, Conflict, InvalidObject, NotFound
from becalm.kube.base import Kind, Verb
from becalm.kube.kinds import CONFIG_MAP, CRD, NAMESPACE, POD, SECRET
from becalm.testing.contracts.cluster_subject import Subject  # noqa: TC001  (pytest reads the annotations of its tests)

SERVICE_ACCOUNT = Kind(group="", version="v1", resource="serviceaccounts", kind="ServiceAccount", namespaced=True)
DEPLOYMENT = Kind(group="apps", version="v1", resource="deployments", kind="Deployment", namespaced=True)


class DiscoveryContract:
    """What the server serves."""

    def test_discovery_names_the_groups_that_becalm_rests_on(self, subject: Subject) -> None:
        """Core, apps and snapshots are there, each with its scope and verbs."""
        found = {(kind.group, kind.version, kind.resource): kind for kind in subject.cluster.discover().kinds}
        pods, namespaces = found["", "v1", "pods"], found["", "v1", "namespaces"]
        deployments, snapshots = found["apps", "v1", "deployments"], found["snapshot.storage.k8s.io", "v1", "volumesnapshots"]

        assert (pods.kind, pods.namespaced, namespaces.namespaced) == ("Pod", True, False)
        assert {"get", "list", "watch", "create", "patch", "delete"} <= pods.verbs
        assert (deployments.kind, snapshots.kind) == ("Deployment", "VolumeSnapshot")

    def test_every_kind_that_discovery_names_can_be_listed(self, subject: Subject) -> None:
        """There are no subresources and no reviews among them, and one preferred version of each resource."""
        kinds = subject.cluster.discover().kinds
        preferred = [(kind.group, kind.resource) for kind in kinds if kind.preferred]
        revisions = [subject.cluster.list(kind, page_size=1).revision for kind in kinds]

        assert len(revisions) == len(kinds)
        assert not [kind for kind in kinds if "/" in kind.resource or "list" not in kind.verbs]
        assert len(preferred) == len(set(preferred)) == len({(kind.group, kind.resource) for kind in kinds})

    def test_a_cluster_has_a_version_and_an_identity(self, subject: Subject) -> None:
        """The identity is the uid of kube-system, the same each time."""
        discovery = subject.cluster.discover()
        home = subject.cluster.get(NAMESPACE, "kube-system")

        assert discovery.server_version.startswith("v1.")
        assert discovery.uid == home["metadata"]["uid"]
        assert discovery.failures == {}

    def test_a_custom_resource_is_served_once_its_definition_is_established(self, subject: Subject, namespace: str) -> None:
        """It is discovered, written, listed and read like any other kind, and goes with its definition."""
        kind = a_custom_kind(subject)
        try:
            made = subject.create(kind, {"metadata": {"name": "first", "namespace": namespace}, "spec": {"size": 3, "tags": ["a"]}})
            read = subject.cluster.get(kind, "first", namespace=namespace)
            listed = list(subject.cluster.list(kind, namespace=namespace))
        finally:
            subject.cluster.delete(CRD, f"{kind.resource}.{kind.group}")
        subject.eventually(lambda: all(one.group != kind.group for one in subject.cluster.discover().kinds))

        assert made["spec"] == read["spec"] == {"size": 3, "tags": ["a"]}
        assert [(item["apiVersion"], item["kind"]) for item in listed] == [(kind.api_version, kind.kind)]
        with pytest.raises(NotFound):
            subject.cluster.list(kind, namespace=namespace)

    def test_a_custom_resource_is_held_against_its_schema(self, subject: Subject, namespace: str) -> None:
        """What the schema forbids is refused, what it does not know is dropped."""
        kind = a_custom_kind(subject)
        try:
            with pytest.raises(InvalidObject):
                subject.create(kind, {"metadata": {"name": "wrong", "namespace": namespace}, "spec": {"size": "three"}})
            made = subject.create(kind, {"metadata": {"name": "first", "namespace": namespace}, "spec": {"size": 1, "unknown": 1}})
        finally:
            subject.cluster.delete(CRD, f"{kind.resource}.{kind.group}")

        assert made["spec"] == {"size": 1}

    def test_status_is_written_by_its_subresource_only(self, subject: Subject, namespace: str) -> None:
        """A write of the object leaves the status, a write of the status leaves the object; the generation counts specs."""
        kind = a_custom_kind(subject)
        try:
            base = {"metadata": {"name": "first", "namespace": namespace}}
            made = subject.create(kind, {**base, "spec": {"size": 1}, "status": {"ready": True}})
            seen = subject.cluster.apply(
                kind, {**base, "spec": {"size": 9}, "status": {"ready": True}}, verb=Verb.MERGE, subresource="status"
            )
            last = subject.cluster.apply(kind, {**base, "spec": {"size": 2}, "status": {"ready": False}}, verb=Verb.MERGE)
        finally:
            subject.cluster.delete(CRD, f"{kind.resource}.{kind.group}")

        assert "status" not in made
        assert (seen["spec"], seen["status"]) == ({"size": 1}, {"ready": True})
        assert (last["spec"], last["status"]) == ({"size": 2}, {"ready": True})
        assert [item["metadata"]["generation"] for item in (made, seen, last)] == [1, 1, 2]


class WritingContract:
    """How one object is written."""

    def test_the_server_names_what_it_made(self, subject: Subject, namespace: str) -> None:
        """A created object has a uid, a revision and a time, and is read back as it is."""
        made = subject.config_map(namespace, "one", key="value")
        read = subject.cluster.get(CONFIG_MAP, "one", namespace=namespace)

        assert made["data"] == {"key": "value"}
        assert {"uid", "resourceVersion", "creationTimestamp"} <= made["metadata"].keys()
        assert read == made
        assert (read["apiVersion"], read["kind"]) == ("v1", "ConfigMap")

    def test_a_second_create_meets_the_first(self, subject: Subject, namespace: str) -> None:
        """The object that is there stays as it is."""
        first = subject.config_map(namespace, "one", key="first")

        with pytest.raises(AlreadyExists):
            subject.config_map(namespace, "one", key="second")
        assert subject.cluster.get(CONFIG_MAP, "one", namespace=namespace) == first

    def test_a_generated_name_is_new_each_time(self, subject: Subject, namespace: str) -> None:
        """The server appends to the prefix."""
        manifest = {"metadata": {"generateName": "some-", "namespace": namespace}}
        names = {subject.create(CONFIG_MAP, manifest)["metadata"]["name"] for _ in range(3)}

        assert len(names) == 3
        assert all(name.startswith("some-") and len(name) > len("some-") for name in names)

    def test_what_is_not_there_is_said_to_be_not_there(self, subject: Subject, namespace: str) -> None:
        """Reading and updating raise; deleting says no."""
        absent = {"metadata": {"name": "absent", "namespace": namespace}}

        with pytest.raises(NotFound):
            subject.cluster.get(CONFIG_MAP, "absent", namespace=namespace)
        with pytest.raises(NotFound):
            subject.cluster.apply(CONFIG_MAP, absent, verb=Verb.UPDATE)
        with pytest.raises(NotFound):
            subject.cluster.apply(CONFIG_MAP, absent, verb=Verb.MERGE)
        with pytest.raises(NotFound):
            subject.config_map(f"absent-{uuid4().hex}", "one")
        assert subject.cluster.delete(CONFIG_MAP, "absent", namespace=namespace) is False

    def test_a_name_that_kubernetes_does_not_allow_is_refused(self, subject: Subject, namespace: str) -> None:
        """The error carries the server's own words."""
        with pytest.raises(InvalidObject, match=r"metadata\.name"):
            subject.config_map(namespace, "Not_Allowed")

    def test_an_update_of_an_old_revision_conflicts(self, subject: Subject, namespace: str) -> None:
        """Who read before another wrote must read again; without a revision the last writer wins."""
        old = subject.config_map(namespace, "one", key="0")
        new = subject.cluster.apply(CONFIG_MAP, {**old, "data": {"key": "1"}}, verb=Verb.UPDATE)
        bare = {"metadata": {"name": "one", "namespace": namespace}, "data": {"key": "3"}}

        with pytest.raises(Conflict):
            subject.cluster.apply(CONFIG_MAP, {**old, "data": {"key": "2"}}, verb=Verb.UPDATE)
        assert new["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"]
        assert subject.cluster.apply(CONFIG_MAP, bare, verb=Verb.UPDATE)["data"] == {"key": "3"}

    def test_a_write_that_changes_nothing_makes_no_revision(self, subject: Subject, namespace: str) -> None:
        """So that a second restore leaves no trace."""
        made = subject.config_map(namespace, "one", key="0")
        again = subject.cluster.apply(CONFIG_MAP, made, verb=Verb.UPDATE)

        assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]

    def test_a_merge_changes_what_it_names(self, subject: Subject, namespace: str) -> None:
        """Fields are added and replaced, null removes, the rest stays (RFC 7386)."""
        subject.config_map(namespace, "one", labels={"keep": "1"}, gone="1", stays="1", changes="1")
        patch = {"metadata": {"name": "one", "namespace": namespace}, "data": {"gone": None, "changes": "2", "new": "3"}}
        merged = subject.cluster.apply(CONFIG_MAP, patch, verb=Verb.MERGE)

        assert merged["data"] == {"stays": "1", "changes": "2", "new": "3"}
        assert merged["metadata"]["labels"] == {"keep": "1"}

    def test_an_apply_creates_and_then_owns_its_fields(self, subject: Subject, namespace: str) -> None:
        """What a manager applied and leaves out the next time goes; what others wrote stays."""
        base = {"metadata": {"name": "one", "namespace": namespace}}
        subject.cluster.apply(CONFIG_MAP, {**base, "data": {"a": "1", "b": "1"}}, verb=Verb.APPLY)
        subject.cluster.apply(CONFIG_MAP, {**base, "data": {"others": "1"}}, verb=Verb.MERGE)
        last = subject.cluster.apply(CONFIG_MAP, {**base, "data": {"a": "2"}}, verb=Verb.APPLY)

        assert last["data"] == {"a": "2", "others": "1"}

    def test_an_apply_over_the_field_of_another_conflicts_unless_forced(self, subject: Subject, namespace: str) -> None:
        """Nothing is changed by the conflict; force takes the field over."""
        subject.config_map(namespace, "one", key="theirs")
        ours = {"metadata": {"name": "one", "namespace": namespace}, "data": {"key": "ours"}}

        with pytest.raises(Conflict, match="key"):
            subject.cluster.apply(CONFIG_MAP, ours, verb=Verb.APPLY)
        assert subject.cluster.get(CONFIG_MAP, "one", namespace=namespace)["data"] == {"key": "theirs"}
        assert subject.cluster.apply(CONFIG_MAP, ours, verb=Verb.FORCE_APPLY)["data"] == {"key": "ours"}

    def test_a_dry_run_answers_and_changes_nothing(self, subject: Subject, namespace: str) -> None:
        """It answers as the real write would, also with an error."""
        before = subject.config_map(namespace, "one", key="0")
        base = {"metadata": {"name": "two", "namespace": namespace}}
        made = subject.cluster.apply(CONFIG_MAP, base, verb=Verb.CREATE, dry_run=True)
        patch = {"metadata": {"name": "one", "namespace": namespace}, "data": {"key": "1"}}
        patched = subject.cluster.apply(CONFIG_MAP, patch, verb=Verb.MERGE, dry_run=True)

        assert (made["metadata"]["name"], patched["data"]) == ("two", {"key": "1"})
        with pytest.raises(AlreadyExists):
            subject.cluster.apply(CONFIG_MAP, before | {"metadata": patch["metadata"]}, verb=Verb.CREATE, dry_run=True)
        with pytest.raises(InvalidObject):
            subject.cluster.apply(CONFIG_MAP, {"metadata": {"name": "A_B", "namespace": namespace}}, verb=Verb.CREATE, dry_run=True)
        assert subject.is_gone(CONFIG_MAP, "two", namespace)
        assert subject.cluster.get(CONFIG_MAP, "one", namespace=namespace) == before

    def test_secret_text_comes_back_as_bytes_in_base64(self, subject: Subject, namespace: str) -> None:
        """`stringData` is written only; `data` is what is read."""
        subject.create(SECRET, {"metadata": {"name": "one", "namespace": namespace}, "stringData": {"key": "value"}})
        read = subject.cluster.get(SECRET, "one", namespace=namespace)

        assert read["data"] == {"key": "dmFsdWU="}
        assert read["type"] == "Opaque"
        assert "stringData" not in read


class EndingContract:
    """How objects end."""

    def test_a_deletion_of_another_uid_is_refused(self, subject: Subject, namespace: str) -> None:
        """What has taken the name meanwhile is not ours to delete."""
        made = subject.config_map(namespace, "one")

        with pytest.raises(Conflict):
            subject.cluster.delete(CONFIG_MAP, "one", namespace=namespace, uid=str(uuid4()))
        assert subject.cluster.get(CONFIG_MAP, "one", namespace=namespace) == made
        assert subject.cluster.delete(CONFIG_MAP, "one", namespace=namespace, uid=made["metadata"]["uid"]) is True
        assert subject.is_gone(CONFIG_MAP, "one", namespace)

    def test_a_finalizer_holds_what_is_being_deleted(self, subject: Subject, namespace: str) -> None:
        """It stays, marked, until the finalizer is taken away."""
        metadata = {"name": "one", "namespace": namespace, "finalizers": ["becalm.dev/contract"]}
        subject.create(CONFIG_MAP, {"metadata": metadata})
        asked = subject.cluster.delete(CONFIG_MAP, "one", namespace=namespace)
        held = subject.cluster.get(CONFIG_MAP, "one", namespace=namespace)
        subject.cluster.apply(CONFIG_MAP, {"metadata": {**metadata, "finalizers": None}}, verb=Verb.MERGE)

        assert asked is True
        assert held["metadata"]["deletionTimestamp"]
        assert subject.is_gone(CONFIG_MAP, "one", namespace)

    def test_what_is_owned_goes_with_its_owner(self, subject: Subject, namespace: str) -> None:
        """Over two generations, in the background."""
        owner = subject.config_map(namespace, "owner")
        child = subject.create(CONFIG_MAP, owned_by(owner, "child"))
        subject.create(CONFIG_MAP, owned_by(child, "grandchild"))
        subject.cluster.delete(CONFIG_MAP, "owner", namespace=namespace)

        assert subject.eventually(lambda: subject.is_gone(CONFIG_MAP, "child", namespace))
        assert subject.eventually(lambda: subject.is_gone(CONFIG_MAP, "grandchild", namespace))

    def test_what_is_owned_stays_when_it_is_orphaned(self, subject: Subject, namespace: str) -> None:
        """It loses the reference instead."""
        owner = subject.config_map(namespace, "owner")
        subject.create(CONFIG_MAP, owned_by(owner, "child"))
        subject.cluster.delete(CONFIG_MAP, "owner", namespace=namespace, propagation="Orphan")
        subject.eventually(lambda: subject.is_gone(CONFIG_MAP, "owner", namespace))
        child = subject.cluster.get(CONFIG_MAP, "child", namespace=namespace)

        assert not child["metadata"].get("ownerReferences")
        assert "deletionTimestamp" not in child["metadata"]

    def test_what_names_an_owner_that_never_was_is_collected(self, subject: Subject, namespace: str) -> None:
        """So a restore must never write an old uid: the name alone does not save the object."""
        owner = subject.config_map(namespace, "owner")
        stranger = {**owner, "metadata": {**owner["metadata"], "uid": str(uuid4())}}
        subject.create(CONFIG_MAP, owned_by(stranger, "child"))

        assert subject.eventually(lambda: subject.is_gone(CONFIG_MAP, "child", namespace))
        assert not subject.is_gone(CONFIG_MAP, "owner", namespace)

    def test_a_new_namespace_is_furnished(self, subject: Subject, namespace: str) -> None:
        """It is active, and gets a service account and the cluster's certificate."""
        found = subject.cluster.get(NAMESPACE, namespace)
        account = subject.eventually(lambda: not subject.is_gone(SERVICE_ACCOUNT, "default", namespace))
        certificate = subject.eventually(lambda: not subject.is_gone(CONFIG_MAP, "kube-root-ca.crt", namespace))

        assert account
        assert certificate
        assert found["status"]["phase"] == "Active"
        assert found["metadata"]["labels"]["kubernetes.io/metadata.name"] == namespace

    def test_a_namespace_ends_with_all_that_is_in_it(self, subject: Subject, namespace: str) -> None:
        """While something holds it, it is terminating and takes nothing new."""
        metadata = {"name": "held", "namespace": namespace, "finalizers": ["becalm.dev/contract"]}
        subject.create(CONFIG_MAP, {"metadata": metadata})
        subject.config_map(namespace, "free")
        subject.cluster.delete(NAMESPACE, namespace)
        ending = subject.cluster.get(NAMESPACE, namespace)
        subject.eventually(lambda: subject.is_gone(CONFIG_MAP, "free", namespace))
        with pytest.raises(Conflict):
            subject.config_map(namespace, "late")
        subject.cluster.apply(CONFIG_MAP, {"metadata": {**metadata, "finalizers": None}}, verb=Verb.MERGE)

        assert ending["status"]["phase"] == "Terminating"
        assert ending["metadata"]["deletionTimestamp"]
        assert subject.eventually(lambda: subject.is_gone(NAMESPACE, namespace))

    def test_a_deployment_makes_its_pods_and_takes_them_along(self, subject: Subject, namespace: str) -> None:
        """Pods belong to a ReplicaSet, which belongs to the Deployment; scaling down ends them."""
        labels = {"app": "web"}
        container = {"name": "main", "image": subject.image, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "3600"]}
        template = {"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}}
        base = {"metadata": {"name": "web", "namespace": namespace}}
        subject.create(DEPLOYMENT, {**base, "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}})

        def pods() -> list[str]:
            found = subject.cluster.list(POD, namespace=namespace, labels="app=web")
            return [item["metadata"]["ownerReferences"][0]["kind"] for item in found]

        subject.eventually(lambda: pods() == ["ReplicaSet", "ReplicaSet"])
        ready = subject.eventually(
            lambda: subject.cluster.get(DEPLOYMENT, "web", namespace=namespace).get("status", {}).get("readyReplicas") == 2
        )
        subject.cluster.apply(DEPLOYMENT, {**base, "spec": {"replicas": 0}}, verb=Verb.MERGE)
        subject.eventually(lambda: not pods())

        assert ready


def owned_by(owner: dict[str, object], name: str) -> dict[str, object]:
    """Describe a ConfigMap that another object owns."""
    metadata: dict[str, str] = owner["metadata"]  # type: ignore[assignment]  # a raw object
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": metadata["name"], "uid": metadata["uid"]}
    return {"metadata": {"name": name, "namespace": metadata["namespace"], "ownerReferences": [reference]}}


def a_custom_kind(subject: Subject) -> Kind:
    """Define a kind of our own, with a status, and wait until it is served."""
    group = f"c{uuid4().hex[:8]}.contract.becalm.dev"
    size = {"type": "integer"}
    spec = {"type": "object", "properties": {"size": size, "tags": {"type": "array", "items": {"type": "string"}}}}
    status = {"type": "object", "properties": {"ready": {"type": "boolean"}}}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": status}}},
        "subresources": {"status": {}},
    }
    names = {"plural": "gadgets", "singular": "gadget", "kind": "Gadget", "listKind": "GadgetList"}
    definition = {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}
    subject.create(CRD, {"metadata": {"name": f"gadgets.{group}"}, "spec": definition})

    def served() -> Kind | None:
        return next((kind for kind in subject.cluster.discover().kinds if kind.group == group), None)

    kind = subject.eventually(served)

    def ready() -> bool:
        try:
            subject.cluster.list(kind)
        except NotFound:
            return False
        return True

    subject.eventually(ready)
    return kind
