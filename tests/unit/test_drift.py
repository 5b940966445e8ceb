"""Three corners compared: every planted change under its path, no false finding, every noise under its rule, and never the value of a Secret."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from becalm.actions.declared import Declaration, DeclaredObject, Pointer
from becalm.actions.diff import Change
from becalm.actions.diff_sides import LiveSide, PointSide, Wanted
from becalm.actions.drift import Corner, DriftReport, compare
from becalm.actions.drift_fields import undone
from becalm.actions.drift_rules import DriftRules, IgnoreRule, told
from becalm.actions.drift_sides import DeclaredSide, of_another_cluster
from becalm.actions.drift_weight import Weight
from becalm.actions.drift_writers import Writer, maker_of, writer_of
from becalm.catalog.points import points
from becalm.errors import UsageError
from becalm.kube.base import Kind
from becalm.model import Finding, Manifest, Severity, from_payload, payload
from becalm.repository.reader import open_repository
from becalm.testing.fake_cluster import DEFAULT_KINDS, FakeCluster
from becalm.testing.manifests import a_claim, a_deployment, a_map, a_namespace, a_secret, an_object
from becalm.testing.memory_store import MemoryStore
from becalm.testing.saved_points import CUT, PASSWORD, save_point

SCALER = Kind(group="autoscaling", version="v2", resource="horizontalpodautoscalers", kind="HorizontalPodAutoscaler", namespaced=True)
OLD_SCALER = replace(SCALER, version="v1", preferred=False)
KINDS = (*DEFAULT_KINDS, SCALER, OLD_SCALER)
SERVERS_OWN = ("uid", "resourceVersion", "creationTimestamp", "annotations", "finalizers")


def as_written(manifest: Manifest) -> Manifest:
    """An object as its author writes it: without what the server says."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in SERVERS_OWN}
    return {key: deepcopy(value) for key, value in manifest.items() if key != "status"} | {"metadata": metadata}


@dataclass
class Scene:
    """A recovery point in a bucket, a cluster, and what is declared."""

    store: MemoryStore = field(default_factory=MemoryStore)
    cluster: FakeCluster = field(default_factory=lambda: FakeCluster(kinds=list(KINDS)))

    def saved(self, *objects: Manifest, wanted: Wanted | None = None, **more: Any) -> PointSide:
        """Write a recovery point and open it."""
        point = save_point(self.store, objects, kinds=KINDS, **more).id
        repository = open_repository(self.store, PASSWORD)
        found = next(one for one in points(repository, "shop") if one.id == point)
        return PointSide.open(repository, found, wanted=wanted)

    def look(self, saved: PointSide, *declared: Manifest, rules: DriftRules | None = None, **more: Any) -> DriftReport:
        """Compare all three corners; nothing declared: two."""
        corner = self.declare(*declared, wanted=saved.wanted, **more) if declared else None
        return compare(saved, LiveSide(cluster=self.cluster, like=saved), declared=corner, rules=rules)

    def declare(self, *manifests: Manifest, wanted: Wanted | None = None, pointers: tuple[Pointer, ...] = ()) -> DeclaredSide:
        """Give manifests their places."""
        objects = [DeclaredObject(manifest=one, where=f"shop.yaml:{number}") for number, one in enumerate(manifests, 1)]
        declaration = Declaration(objects=objects, pointers=list(pointers))
        return DeclaredSide.of(declaration, self.cluster, namespace="shop", wanted=wanted or Wanted())


def said(found: DriftReport) -> list[str]:
    return [f"{one.change} {one.ref} ({'+'.join(one.held)})" for one in found.drifts]


def a_scaler(*, kind: str = "Deployment", name: str = "web") -> Manifest:
    spec = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": kind, "name": name}, "maxReplicas": 9}
    return an_object("autoscaling/v2", "HorizontalPodAutoscaler", "web", spec=spec)


SHOP = (a_namespace(), a_map(level="1"), a_secret(key="YQ=="), a_claim(), a_deployment())


def test_what_runs_as_it_was_declared_and_saved_did_not_drift() -> None:
    """What the server says of itself is nobody's difference."""
    scene = Scene()
    scene.cluster.put(*SHOP)
    found = scene.look(scene.saved(*SHOP), *map(as_written, SHOP))

    assert (said(found), found.findings, found.compared, found.declared) == ([], (), 5, 5)
    assert found.equal


def test_each_corner_that_holds_an_object_is_named() -> None:
    """Seven ways to be in some of three places; in all of them is none."""
    scene, (gone, new, hand, undeclared, lost, fresh, forgotten) = Scene(), map(a_map, "abcdefg")
    scene.cluster.put(a_namespace(), hand, undeclared, fresh)
    found = scene.look(scene.saved(a_namespace(), undeclared, lost, forgotten), *map(as_written, (a_namespace(), gone, new, lost, fresh)))

    assert said(found) == [
        "removed configmaps/shop/a (declared)",
        "removed configmaps/shop/b (declared)",
        "added configmaps/shop/c (running)",
        "added configmaps/shop/d (saved+running)",
        "removed configmaps/shop/e (declared+saved)",
        "added configmaps/shop/f (declared+running)",
        "removed configmaps/shop/g (saved)",
    ]
    assert [one.weight for one in found.drifts] == [Weight.MEDIUM] * 5 + [Weight.LOW] * 2
    assert [one.declared_at for one in found.drifts][:2] == ["shop.yaml:2", "shop.yaml:3"]


def test_a_field_names_the_corners_it_differs_from() -> None:
    """Declared 2, saved 3, runs 5: one field, one line."""
    scene, web = Scene(), a_deployment()
    saved, running = deepcopy(web), deepcopy(web)
    saved["spec"]["replicas"], running["spec"]["replicas"] = 3, 5
    running["spec"]["paused"] = True
    scene.cluster.put(a_namespace(), running)
    (one,) = scene.look(scene.saved(a_namespace(), saved), as_written(a_namespace()), as_written(web)).drifts

    assert [(each.path, each.declared, each.saved, each.running, each.differs_from) for each in one.fields] == [
        ("spec.replicas", 2, 3, 5, (Corner.DECLARED, Corner.SAVED)),
        ("spec.paused", None, None, True, (Corner.SAVED,)),
    ]


PLACES: dict[str, tuple[Any, Any]] = {
    "spec.replicas": (2, 3),
    "spec.minReadySeconds": (5, 6),
    "spec.template.spec.containers[main].image": ("web:1", "web:2"),
    "spec.template.spec.containers[main].args[0]": ("-v", "-q"),
    "spec.template.spec.containers[main].env[MODE].value": ("shop", "bank"),
    "spec.template.spec.containers[main].ports[0].containerPort": (80, 81),
    "spec.template.spec.containers[main].resources.limits.cpu": ("500m", "1"),
    "spec.template.spec.containers[main].securityContext.allowPrivilegeEscalation": (False, True),
    "spec.template.spec.serviceAccountName": ("web", "admin"),
    'spec.template.metadata.labels["app.kubernetes.io/part-of"]': ("shop", "bank"),
    "metadata.labels.tier": ("front", "back"),
}
"""Fields that the twenty planted Deployments say, and what they are changed to."""


def a_full_deployment(number: int) -> Manifest:
    container = {
        "name": "main",
        "image": "web:1",
        "args": ["-v"],
        "env": [{"name": "MODE", "value": "shop"}],
        "ports": [{"containerPort": 80}],
        "resources": {"limits": {"cpu": "500m"}},
        "securityContext": {"allowPrivilegeEscalation": False},
    }
    template = {
        "metadata": {"labels": {"app": "web", "app.kubernetes.io/part-of": "shop"}},
        "spec": {"containers": [container], "serviceAccountName": "web"},
    }
    spec = {"replicas": 2, "minReadySeconds": 5, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    return an_object("apps/v1", "Deployment", f"web-{number:02}", metadata={"labels": {"tier": "front"}}, spec=spec)


def as_served(written: Manifest) -> Manifest:
    """An object with the defaults that a server and its admission fill in."""
    served = deepcopy(written)
    served["metadata"] |= {"uid": "u", "resourceVersion": "9", "generation": 3, "creationTimestamp": "2026-01-01T00:00:00Z"}
    served["metadata"].setdefault("annotations", {})["deployment.kubernetes.io/revision"] = "1"
    served["spec"] |= {"strategy": {"type": "RollingUpdate"}, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600}
    pod = served["spec"]["template"]["spec"]
    pod |= {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "securityContext": {}, "serviceAccount": pod["serviceAccountName"]}
    for container in pod["containers"]:
        container |= {"terminationMessagePath": "/dev/termination-log", "imagePullPolicy": "IfNotPresent"}
        for port in container["ports"]:
            port["protocol"] = "TCP"
    return served | {"status": {"replicas": 2}}


def change(manifest: Manifest, path: str) -> None:
    """Change the field at one of the PLACES."""
    pod = manifest["spec"]["template"]
    main = pod["spec"]["containers"][0]
    where: dict[str, tuple[Any, Any]] = {
        "spec.replicas": (manifest["spec"], "replicas"),
        "spec.minReadySeconds": (manifest["spec"], "minReadySeconds"),
        "spec.template.spec.containers[main].image": (main, "image"),
        "spec.template.spec.containers[main].args[0]": (main["args"], 0),
        "spec.template.spec.containers[main].env[MODE].value": (main["env"][0], "value"),
        "spec.template.spec.containers[main].ports[0].containerPort": (main["ports"][0], "containerPort"),
        "spec.template.spec.containers[main].resources.limits.cpu": (main["resources"]["limits"], "cpu"),
        "spec.template.spec.containers[main].securityContext.allowPrivilegeEscalation": (
            main["securityContext"],
            "allowPrivilegeEscalation",
        ),
        "spec.template.spec.serviceAccountName": (pod["spec"], "serviceAccountName"),
        'spec.template.metadata.labels["app.kubernetes.io/part-of"]': (pod["metadata"]["labels"], "app.kubernetes.io/part-of"),
        "metadata.labels.tier": (manifest["metadata"]["labels"], "tier"),
    }
    place, key = where[path]
    assert place[key] == PLACES[path][0]
    place[key] = PLACES[path][1]


def test_two_hundred_planted_changes_are_found_each_under_its_path() -> None:
    """Eleven fields of each of twenty Deployments are changed one by one, in objects full of defaults; nothing else is told."""
    scene = Scene()
    written = [a_full_deployment(number) for number in range(20)]
    served = [as_served(one) for one in written]
    saved = scene.saved(a_namespace(), *served)
    planted, found = set(), set()
    for path in PLACES:
        changed = deepcopy(served)
        for one in changed:
            change(one, path)
            planted.add((one["metadata"]["name"], path))
        scene.cluster.put(a_namespace(), *changed)
        report = scene.look(saved, as_written(a_namespace()), *map(as_written, written))
        both = (Corner.DECLARED, Corner.SAVED)
        found |= {(one.ref.name, each.path) for one in report.drifts for each in one.fields if set(both) <= set(each.differs_from)}
        extra = [each for one in report.drifts for each in one.fields if each.path != path]
        assert extra == []

    assert len(planted) == 220
    assert found == planted


def test_a_cluster_that_was_just_declared_has_not_drifted() -> None:
    """The same objects, unchanged, with all the defaults of a server."""
    scene = Scene()
    written = [a_full_deployment(number) for number in range(5)]
    served = [as_served(one) for one in written]
    scene.cluster.put(a_namespace(), *served)
    found = scene.look(scene.saved(a_namespace(), *served), as_written(a_namespace()), *map(as_written, written))

    assert found.equal
    assert found.compared == 6


LEAVES = st.booleans() | st.integers(1, 3) | st.text("ab", min_size=1, max_size=2)
NESTED = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, min_size=1, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from("abcd"), NESTED, max_size=3), st.dictionaries(st.sampled_from("xyz"), NESTED, max_size=3))
def test_what_a_declaration_leaves_out_is_not_compared_with_it(wanted: Manifest, more: Manifest) -> None:
    """However much more runs: a declaration is undone only where it says something."""
    declared = {"apiVersion": "v1", "kind": "ConfigMap", "spec": wanted}
    running = {"apiVersion": "v1", "kind": "ConfigMap", "spec": {**more, **deepcopy(wanted)}, "status": more}

    assert undone(declared, running) == []


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from("abcd"), NESTED, min_size=1, max_size=3), st.data())
def test_whatever_is_declared_and_changed_is_found_below_its_key(wanted: Manifest, data: st.DataObject) -> None:
    """One key is given another value, or is taken away: each change that is told lies below it, and there is one."""
    key = data.draw(st.sampled_from(sorted(wanted)))
    running = deepcopy(wanted) | {key: data.draw(st.sampled_from(["changed", None, {"other": 1}, ["other"]]))}
    found = undone({"apiVersion": "x.org/v1", "kind": "X", "spec": wanted}, {"apiVersion": "x.org/v1", "kind": "X", "spec": running})

    assert found
    assert all(one.path.startswith(f"spec.{key}") for one in found)


@pytest.mark.parametrize(
    ("wanted", "running"),
    [
        ({"resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}}}, {"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}),
        ({"resources": {"requests": {"cpu": 1}}}, {"resources": {"requests": {"cpu": "1"}}}),
        ({"hostNetwork": False, "nodeSelector": {}, "volumes": []}, {}),
        ({"creationTimestamp": None}, {}),
        (
            {"ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]},
            {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 80, "protocol": "TCP"}]},
        ),
        ({"emptyDir": {"sizeLimit": "1024Ki"}}, {"emptyDir": {"sizeLimit": "1Mi"}}),
        ({"limits": {"cpu": 0.5}, "preserveUnknownFields": False}, {"limits": {"cpu": "500m"}}),
    ],
)
def test_what_the_server_writes_in_other_words_is_the_same(wanted: Manifest, running: Manifest) -> None:
    """Amounts, empty values of its own kinds, ports without a name, and nulls."""
    about = {"apiVersion": "v1", "kind": "Pod"}

    assert undone({**about, "spec": wanted}, {**about, "spec": running}) == []


@pytest.mark.parametrize(
    ("declared", "running"),
    [
        ({"kind": "Secret", "data": {"a": "YQ=="}, "stringData": {"b": "b"}}, {"kind": "Secret", "data": {"a": "YQ==", "b": "Yg=="}}),
        ({"kind": "Secret", "data": {"a": "YWFh\n  YWFh\n"}}, {"kind": "Secret", "data": {"a": "YWFhYWFh"}}),
        ({"kind": "ConfigMap", "binaryData": {"a": "YWFh\nYWFh"}}, {"kind": "ConfigMap", "binaryData": {"a": "YWFhYWFh"}}),
        ({"kind": "Namespace", "metadata": {"name": "shop", "namespace": "shop"}}, {"kind": "Namespace", "metadata": {"name": "shop"}}),
    ],
)
def test_what_is_written_in_another_place_is_the_same(declared: Manifest, running: Manifest) -> None:
    """Plain texts of Secrets, encoded bytes with line breaks, and a namespace where there is none to be in."""
    assert undone({"apiVersion": "v1", **declared}, {"apiVersion": "v1", **running}) == []


def test_what_admission_adds_to_a_pod_is_noise() -> None:
    """Tokens and tolerations stand in lists that the author wrote, too."""
    scene, mount = Scene(), {"name": "kube-api-access-abcde", "mountPath": "/var/run/secrets"}
    own = {"key": "gpu", "operator": "Exists"}
    main = {"name": "main", "image": "web:1", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    spec = {"containers": [main], "volumes": [{"name": "data", "emptyDir": {}}], "tolerations": [own]}
    pod = an_object("v1", "Pod", "web", spec=spec)
    running = deepcopy(pod)
    running["spec"]["volumes"].append({"name": mount["name"], "projected": {}})
    running["spec"]["containers"][0]["volumeMounts"].append(mount)
    running["spec"]["tolerations"].append({"key": "node.kubernetes.io/not-ready", "tolerationSeconds": 300})
    scene.cluster.put(a_namespace(), running)
    found = scene.look(scene.saved(a_namespace(), running), as_written(a_namespace()), as_written(pod))

    assert said(found) == []
    assert {"token-volumes", "default-tolerations"} <= {one.rule for one in found.ignored}


@pytest.mark.parametrize(
    ("wanted", "running", "path"),
    [
        ({"allowPrivilegeEscalation": False}, {}, "spec.allowPrivilegeEscalation"),
        ({"immutable": True}, {"immutable": 1}, "spec.immutable"),
        ({"limits": {"cpu": "x"}}, {"limits": {"cpu": "y"}}, "spec.limits.cpu"),
        ({"data": {"a": ""}}, {"data": {}}, "spec.data.a"),
        ({"containers": [{"name": "a"}]}, {"containers": [{"name": "a"}, {"name": "miner"}]}, "spec.containers[miner]"),
        ({"subjects": [{"name": "a"}]}, {"subjects": [{"name": "a"}, {"name": "eve"}]}, "spec.subjects[eve]"),
        ({"rules": [["get"]]}, {"rules": [["get"], ["*"]]}, "spec.rules[1]"),
        ({"args": ["-a", "-b"]}, {"args": ["-a"]}, "spec.args[1]"),
    ],
)
def test_what_looks_alike_and_is_not_is_told(wanted: Manifest, running: Manifest, path: str) -> None:
    """A guard that was taken away, one more container, one more subject of a binding."""
    about = {"apiVersion": "v1", "kind": "Pod"}

    assert [one.path for one in undone({**about, "spec": wanted}, {**about, "spec": running})] == [path]


def test_an_empty_value_of_a_custom_resource_is_a_value() -> None:
    """The server keeps it as it was written, so that its absence is somebody's doing."""
    about = {"apiVersion": "shop.example.org/v1", "kind": "Campaign"}

    assert [one.path for one in undone({**about, "spec": {"on": ""}}, {**about, "spec": {}})] == ["spec.on"]


def test_the_plain_texts_of_a_declared_secret_are_compared_and_never_told() -> None:
    """The server stores stringData as data; a changed value is named without being said."""
    scene = Scene()
    declared = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "tls", "namespace": "shop"},
        "stringData": {"key": "a", "pin": "b"},
    }
    running = a_secret(key="YQ==", pin="aHVudGVyMg==")
    scene.cluster.put(a_namespace(), running)
    report = scene.look(scene.saved(a_namespace(), a_secret(key="YQ==", pin="czNjcjN0")), as_written(a_namespace()), declared)
    (one,) = report.drifts

    assert [(each.path, each.declared, each.saved, each.running) for each in one.fields] == [("data.pin", *["(hidden)"] * 3)]
    assert (one.weight, one.change) == (Weight.HIGH, Change.CHANGED)
    assert not any(secret in orjson.dumps(payload(report)).decode() + repr(report) for secret in ("aHVudGVyMg", "czNjcjN0", "Yg=="))


def test_replicas_that_an_autoscaler_chooses_are_noise_and_others_are_not() -> None:
    """By the workload that it names; without the rule they are told."""
    scene, other = Scene(), a_deployment("api")
    served = (a_namespace(), a_scaler(), a_deployment(), other)
    running = deepcopy(served)
    running[2]["spec"]["replicas"] = running[3]["spec"]["replicas"] = 7
    scene.cluster.put(*running)
    saved = scene.saved(*served)
    found = scene.look(saved, *map(as_written, served))
    without = scene.look(saved, *map(as_written, served), rules=DriftRules.without(["autoscaled-replicas"]))

    assert said(found) == ["changed deployments.apps/shop/api (declared+saved+running)"]
    assert [one.fields for one in found.ignored if one.rule == "autoscaled-replicas"] == [{"spec.replicas": 2}]
    assert len(without.drifts) == 2


def owned(manifest: Manifest, owner: Manifest) -> Manifest:
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": "1",
        "controller": True,
    }
    return manifest | {"metadata": {**manifest["metadata"], "ownerReferences": [reference]}}


def test_what_controllers_make_is_left_out_and_counted_unless_it_is_declared() -> None:
    """Owned objects, Helm's records, default accounts: each under its reason."""
    scene = Scene()
    release = an_object("v1", "Secret", "sh.helm.release.v1.shop.v1", type="helm.sh/release.v1", data={"release": "eA=="})
    account = an_object("v1", "ServiceAccount", "default")
    scene.cluster.put(a_namespace(), owned(a_map("made"), a_deployment()), release, account, owned(a_secret("kept"), a_deployment()))
    saved = scene.saved(a_namespace())
    found = scene.look(saved, as_written(a_namespace()), as_written(a_secret("kept")))
    without = scene.look(saved, as_written(a_namespace()), rules=DriftRules.without(["helm-releases", "controller-owned"]))

    assert said(found) == ["added secrets/shop/kept (declared+running)"]
    assert [(one.because, one.after) for one in found.left_out] == [
        ("Helm's record of a release", 1),
        ("its Deployment makes it", 1),
        ("the server makes it in each namespace", 1),
    ]
    assert len(without.drifts) == 3


def test_an_exported_manifest_is_compared_without_what_a_server_once_said_in_it() -> None:
    """People keep objects as kubectl printed them, with uids and marks; what the rules took out is counted."""
    scene, web = Scene(), a_deployment()
    other = deepcopy(web)
    other["metadata"] |= {"uid": "old", "resourceVersion": "1", "annotations": {"deployment.kubernetes.io/revision": "1"}}
    scene.cluster.put(a_namespace(), web)
    found = scene.look(scene.saved(a_namespace(), web), as_written(a_namespace()), other)

    assert found.equal
    assert {one.rule for one in found.ignored} == {"server-metadata", "rollout-marks"}


def test_without_the_rule_a_declaration_is_compared_by_all_fields() -> None:
    """Then what the server filled in is told, too."""
    scene, web = Scene(), a_deployment()
    written = as_written(web)
    del written["spec"]["replicas"]
    scene.cluster.put(a_namespace(), web)
    saved = scene.saved(a_namespace(), web)

    assert scene.look(saved, as_written(a_namespace()), written).equal
    (one,) = scene.look(saved, as_written(a_namespace()), written, rules=DriftRules.without(["undeclared"])).drifts
    assert [each.path for each in one.fields] == ["spec.replicas"]


def test_an_authors_own_rules_are_counted_by_their_reason() -> None:
    """By kind, name and place; whole objects where no place is named."""
    scene, web = Scene(), a_deployment()
    changed = deepcopy(web)
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "web:2"
    changed["spec"]["replicas"] = 9
    scene.cluster.put(a_namespace(), changed, a_map("cache-1"))
    saved = scene.saved(a_namespace(), web)
    own = (
        IgnoreRule(kinds=("Deployment",), names=("shop/w*",), fields=("spec.template.*.image",), because="a robot sets it"),
        IgnoreRule(kinds=("configmaps",), names=("cache-*",), because="a cache"),
    )
    (one,) = scene.look(saved, rules=DriftRules(own=own)).drifts

    assert [each.path for each in one.fields] == ["spec.replicas"]
    assert [(rule.because, rule.fields) for rule in scene.look(saved, rules=DriftRules(own=own)).ignored if rule.rule == "own"] == [
        ("a cache", {"added objects": 1}),
        ("a robot sets it", {"spec.template.spec.containers[main].image": 1}),
    ]


def test_a_rule_that_nobody_knows_is_a_usage_error() -> None:
    """With the nearest name."""
    with pytest.raises(UsageError, match="did you mean undeclared"):
        DriftRules.without(["undeclard"])


def test_every_rule_has_one_name_and_a_reason() -> None:
    """So that each can be left out."""
    names = [name for name, _, because in told() if because]

    assert len(names) == len(set(names)) == len(told())


MANAGED = [
    {"manager": "helm", "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {"f:replicas": {}, "f:template": {}, "f:strategy": {}}}},
    {"manager": "kubectl-edit", "time": "2026-02-01T00:00:00Z", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
    {
        "manager": "robot",
        "time": "2026-03-01T00:00:00Z",
        "fieldsV1": {
            "f:metadata": {"f:labels": {".": {}, "f:app.kubernetes.io/part-of": {}}},
            "f:spec": {"f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:nodePort": {}}, "k:broken": {}}},
        },
    },
    {"manager": "kubelet", "time": "2026-04-01T00:00:00Z", "subresource": "status", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
]


@pytest.mark.parametrize(
    ("path", "manager"),
    [
        ("spec.replicas", "kubectl-edit"),
        ("spec.template.spec.containers[main].image", "helm"),
        ('metadata.labels["app.kubernetes.io/part-of"]', "robot"),
        ("spec.ports[0].nodePort", "robot"),
        ("spec.ports[1].nodePort", None),
        ("spec.ports[0].name", None),
        ("spec.paused", None),
        ("data.key", None),
    ],
)
def test_who_wrote_a_field_is_the_last_manager_that_owns_it(path: str, manager: str | None) -> None:
    """Items of lists are known by what names them; whoever reported a status changed nothing."""
    ports = [{"port": 80}, {"port": 81}]
    running = {"metadata": {"managedFields": MANAGED}, "spec": {"replicas": 2, "ports": ports}}
    found = writer_of(running, path)

    assert (found.manager if found else None) == manager
    assert maker_of(running) == Writer(manager="helm", time="2026-01-01T00:00:00Z")


def test_an_object_that_was_added_names_its_maker_and_a_field_its_writer() -> None:
    """As the server recorded them."""
    scene, web = Scene(), a_deployment()
    running = deepcopy(web)
    running["spec"]["replicas"] = 9
    for one in (running, new := a_map("new")):
        one["metadata"]["managedFields"] = MANAGED
    scene.cluster.put(a_namespace(), running, new)
    changed, added = scene.look(scene.saved(a_namespace(), web)).drifts

    assert (str(added.by), str(changed.fields[0].by)) == ("helm, 2026-01-01T00:00:00Z", "kubectl-edit, 2026-02-01T00:00:00Z")


def a_binding(**subject: str) -> Manifest:
    return an_object("rbac.authorization.k8s.io/v1", "RoleBinding", "web", subjects=[subject], roleRef={"kind": "Role", "name": "web"})


@pytest.mark.parametrize(
    ("before", "after", "weight"),
    [
        (a_binding(name="a"), a_binding(name="b"), Weight.HIGH),
        (a_deployment(), a_deployment(image="web:2"), Weight.HIGH),
        (a_deployment(), a_deployment() | {"spec": {**a_deployment()["spec"], "replicas": 9}}, Weight.MEDIUM),
        (a_map(level="1"), a_map(level="2"), Weight.MEDIUM),
        (a_namespace("shop", labels={"a": "b"}), a_namespace("shop", labels={"a": "c"}), Weight.LOW),
    ],
)
def test_rights_secrets_and_code_weigh_most_and_labels_least(before: Manifest, after: Manifest, weight: Weight) -> None:
    """Each with the reason; the weightiest come first."""
    scene, noise = Scene(), a_map("zz-noise")
    space = () if before["kind"] == "Namespace" else (a_namespace(),)
    scene.cluster.put(*space, after, noise)
    found = scene.look(scene.saved(*space, before))
    one = next(one for one in found.drifts if one.change is Change.CHANGED)

    assert (one.weight, bool(one.because)) == (weight, True)
    assert [each.weight for each in found.drifts] == sorted((each.weight for each in found.drifts), key=list(Weight).index)


def test_a_declared_object_is_found_where_the_policy_does_not_look() -> None:
    """In another namespace, or without one: it is looked up by its name, and is not called missing."""
    scene, role = Scene(), an_object("rbac.authorization.k8s.io/v1", "ClusterRole", "web", namespace=None, rules=[{"verbs": ["get"]}])
    wider = role | {"rules": [{"verbs": ["*"]}]}
    scene.cluster.put(a_namespace(), a_map(namespace="elsewhere", level="1"), wider)
    found = scene.look(scene.saved(a_namespace()), *map(as_written, (a_namespace(), a_map(namespace="elsewhere", level="1"), role)))

    assert said(found) == ["changed clusterroles.rbac.authorization.k8s.io/web (declared+running)"]
    assert [each.path for each in found.drifts[0].fields] == ["rules[0].verbs[0]"]


def test_a_declaration_is_compared_in_its_own_version() -> None:
    """The same object in another version is read in that one, and no word of the other is a difference."""
    scene = Scene()
    scene.cluster.put(a_namespace(), a_scaler())
    declared = as_written(a_scaler()) | {"apiVersion": "autoscaling/v1"}
    scene.look(scene.saved(a_namespace(), a_scaler()), as_written(a_namespace()), declared)

    assert [(call.verb, call.kind) for call in scene.cluster.calls if call.verb == "get"][-1] == (
        "get",
        "horizontalpodautoscalers.autoscaling",
    )


def test_a_kind_that_is_not_served_is_a_finding_and_the_rest_is_compared() -> None:
    """Nobody knows whether it would run; the place of the manifest is named."""
    scene = Scene()
    scene.cluster.put(a_namespace(), a_map())
    campaign = {"apiVersion": "shop.example.org/v1", "kind": "Campaign", "metadata": {"name": "x"}}
    found = scene.look(scene.saved(a_namespace(), a_map()), as_written(a_namespace()), as_written(a_map()), campaign)

    assert [(finding.where, finding.message) for finding in found.findings] == [
        ("shop.yaml:3", "the server serves no shop.example.org/v1 Campaign")
    ]
    assert (found.drifts, found.equal) == ((), False)


def test_what_is_declared_twice_is_said() -> None:
    """The later one is compared, as the later `kubectl apply` wins."""
    scene = Scene()
    scene.cluster.put(a_namespace(), a_map(level="2"))
    found = scene.look(scene.saved(a_namespace()), *map(as_written, (a_namespace(), a_map(level="1"), a_map(level="2"))))

    assert [finding.severity for finding in found.findings] == [Severity.WARNING]
    assert said(found) == ["added configmaps/shop/settings (declared+running)"]


def test_a_selection_narrows_the_declaration_too() -> None:
    """What nobody asked for is not missing."""
    scene, wanted = Scene(), Wanted.read(kinds=["secrets"])
    scene.cluster.put(*SHOP)
    found = scene.look(scene.saved(*SHOP, wanted=wanted), as_written(a_map("gone")), as_written(a_secret(key="YQ==")))

    assert (said(found), found.declared, found.compared) == ([], 1, 1)


def test_two_points_tell_what_changed_between_them() -> None:
    """With weight and writer, as the later one recorded them, and without a cluster."""
    scene = Scene()
    later = a_map(level="2")
    later["metadata"]["managedFields"] = [{"manager": "eve", "time": "2026-03-01T00:00:00Z", "fieldsV1": {"f:data": {"f:level": {}}}}]
    before = scene.saved(a_namespace(), a_map(level="1"))
    after = scene.saved(a_namespace(), later, cut=CUT.replace(hour=12))
    (one,) = compare(before, after).drifts

    assert [(each.path, each.saved, each.running, str(each.by)) for each in one.fields] == [
        ("data.level", "1", "2", "eve, 2026-03-01T00:00:00Z")
    ]


@pytest.mark.parametrize(("uid", "warned"), [("another", [Severity.WARNING]), ("", []), (None, [])])
def test_a_recovery_point_of_another_cluster_is_said(uid: str | None, warned: list[Severity]) -> None:
    """Then everything may differ, and the person named the wrong cluster. A point that does not say, or names this one, is believed."""
    scene = Scene()
    raw = {"recovery-point.json": orjson.dumps({"cluster": {"uid": scene.cluster.discover().uid if uid is None else uid}})}
    found = of_another_cluster(scene.saved(a_namespace(), raw=raw), scene.cluster)

    assert [one.severity for one in [found] if one] == warned


def test_a_report_survives_a_process_boundary() -> None:
    """It is a document as well."""
    scene = Scene()
    scene.cluster.put(a_namespace(), a_deployment(image="web:2"))
    pointer = Pointer(where="a.yaml:1", kind="Application", name="shop", to=("https://git.example.org/shop",))
    saved = scene.saved(a_namespace(), a_deployment())
    corner = scene.declare(as_written(a_deployment()), pointers=(pointer,))
    found = compare(saved, LiveSide(cluster=scene.cluster, like=saved), declared=corner)
    found = found.with_finding(Finding(where="x", message="y"))

    assert found.drifts
    assert from_payload(DriftReport, orjson.loads(orjson.dumps(payload(found)))) == found
