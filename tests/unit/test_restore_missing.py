"""What is missing in the target, told before anything starts; and what a person changes on the way: selection, mapping, patches."""

from dataclasses import replace
from pathlib import Path

import pytest

from becalm.actions import restore
from becalm.actions.restore import Action, RestoreRequest
from becalm.actions.restore_changes import read_patches
from becalm.actions.restore_rate import rate
from becalm.actions.restore_record import VolumeRecord
from becalm.cli.restore_options import read_conflicts, read_replicas, read_wait
from becalm.errors import InvalidObject, RestoreRefused, UsageError
from becalm.kube.base import Kind
from becalm.model import VolumeRef
from becalm.testing.fake_cluster import DEFAULT_KINDS
from becalm.testing.manifests import a_claim, a_deployment, a_map, a_namespace, a_secret, a_storage_class, an_object
from becalm.testing.restore_scenes import CAMPAIGN, Scene

HOOKS = "admissionregistration.k8s.io"
WEBHOOK = Kind(
    group=HOOKS, version="v1", resource="validatingwebhookconfigurations", kind="ValidatingWebhookConfiguration", namespaced=False
)
SLICE = Kind(group="discovery.k8s.io", version="v1", resource="endpointslices", kind="EndpointSlice", namespaced=True)


def asking(**more: object) -> RestoreRequest:
    """A request of the policy shop."""
    return RestoreRequest.read({"policy": "shop", **more})


def targets(scene: Scene) -> set[str]:
    """What the plan makes."""
    return {str(step.target) for step in scene.prepare().steps_to(Action.CREATE)}


# Quota and rights


def a_quota(used: dict | None = None, **hard: str) -> dict:
    """A quota of the namespace shop."""
    names = {name.replace("__", "/").replace("_", "."): value for name, value in hard.items()}
    return an_object("v1", "ResourceQuota", "all", spec={"hard": names}, status={"used": used or {}})


@pytest.mark.parametrize(
    ("quota", "words"),
    [
        (a_quota(used={"pods": "9"}, pods="10"), "leaves 1 of pods, and the restore needs 2"),
        (a_quota(configmaps="0"), "leaves 0 of configmaps, and the restore needs 1"),
        (a_quota(count__deployments_apps="0"), "count/deployments.apps"),
        (a_quota(requests_storage="512Mi"), "leaves 512Mi of requests.storage, and the restore needs 1Gi"),
        (a_quota(requests_cpu="1"), "leaves 1 of requests.cpu, and the restore needs 1.5"),
        (a_quota(limits_memory="1Gi"), "leaves 1Gi of limits.memory, and the restore needs 2Gi"),
    ],
)
def test_a_quota_that_is_too_small_forbids_the_restore(quota: dict, words: str) -> None:
    """The sum of what would be made, replicas counted, beside what is used."""
    deployment = a_deployment()
    deployment["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "750m"}, "limits": {"memory": "1Gi"}}
    scene = Scene((a_namespace(), a_map(), a_claim(), deployment), there=(a_namespace(), quota))
    plan = scene.prepare()

    assert [words in str(finding) for finding in plan.blocking] == [True]
    with pytest.raises(RestoreRefused, match="raise the quota"):
        scene.execute(plan)
    assert scene.writes() == []


def test_a_quota_with_room_and_one_for_other_pods_forbid_nothing() -> None:
    """What exists already is not counted again; a quota for a scope says nothing of all pods."""
    scoped = a_quota(pods="0")
    scoped["metadata"]["name"] = "scoped"
    scoped["spec"]["scopes"] = ["Terminating"]
    there = (a_namespace(), a_map(), a_quota(used={"configmaps": "1"}, configmaps="1", pods="2"), scoped)
    scene = Scene((a_namespace(), a_map(), a_deployment()), there=there)

    assert scene.prepare().blocking == ()


def test_rights_that_are_missing_are_named_before_anything_starts() -> None:
    """Verb, kind and namespace; who may everything is asked once."""
    scene = Scene((a_namespace(), a_secret(), a_map()))
    scene.prepare()
    asked_once = len(scene.cluster.recorded("review"))
    scene.cluster.denied = {("create", "secrets")}

    assert asked_once == 1
    assert [str(finding) for finding in scene.prepare().blocking] == [
        "rights: the account may not create secrets in shop (grant it to the account of the connection)"
    ]
    assert scene.writes() == []


# Versions that are not served, and trials


OLD = Kind(group="shop.example.org", version="v1beta1", resource="campaigns", kind="Campaign", namespaced=True)


def an_old_campaign() -> dict:
    """A custom resource of a version that the cluster does not serve."""
    return an_object("shop.example.org/v1beta1", "Campaign", "spring", spec={"discount": 10})


def old_scene(**more: object) -> Scene:
    """A point with it, and a cluster that serves only the newer version."""
    scene = Scene((a_namespace(), an_old_campaign()), kinds=(*DEFAULT_KINDS, CAMPAIGN), saved_kinds=(OLD,), **more)
    scene.cluster.put(a_namespace("default"))
    return scene


def test_an_object_of_an_old_version_is_written_in_one_that_is_served() -> None:
    """The server tried it before, in a namespace that is there, and the plan says in which version it comes."""
    scene = old_scene()
    plan = scene.prepare()
    report = scene.execute(plan)

    assert report.ok
    assert plan.blocking == ()
    assert any("was saved as v1beta1" in str(finding) for finding in plan.findings)
    assert scene.live("campaigns", "spring")["apiVersion"] == "shop.example.org/v1"
    assert restore.verify(plan, scene.request, scene.ports).ok
    assert scene.prepare().changes_nothing


def test_a_server_that_refuses_the_newer_version_forbids_the_restore() -> None:
    """Its own words stand in the plan."""
    scene = old_scene()
    scene.cluster.fail(InvalidObject("spec.percent is required"), verb="create", kind="campaigns.shop.example.org")

    assert ["would refuse it as v1: spec.percent is required" in str(finding) for finding in scene.prepare().blocking] == [True]


def test_a_field_that_the_server_drops_in_the_newer_version_forbids_the_restore() -> None:
    """Nothing is lost without a word."""
    scene = old_scene()
    inner = scene.cluster.apply

    class Dropping:
        def __getattr__(self, name: str) -> object:
            return getattr(scene.cluster, name)

        def apply(self, kind: Kind, manifest: dict, **more: object) -> dict:
            made = inner(kind, manifest, **more)
            made.get("spec", {}).pop("discount", None)
            return made

    plan = restore.prepare(scene.request, replace(scene.ports, cluster=Dropping()))

    assert ["drops spec" in str(finding) for finding in plan.blocking] == [True]


def test_new_objects_are_tried_only_where_that_was_asked_for() -> None:
    """What the server would refuse is then known before."""
    scene = Scene((a_namespace(), a_map(), a_secret()), there=(a_namespace(),), request=asking(dry_run_objects=True))
    scene.cluster.fail(InvalidObject("too long"), verb="create", kind="configmaps")

    assert [finding.where for finding in scene.prepare().blocking] == ["configmaps/shop/settings"]
    assert scene.cluster.all("secrets") == []


# Webhooks


def a_webhook(policy: str) -> dict:
    """A webhook whose server is the Service guard in shop."""
    service = {"namespace": "shop", "name": "guard"}
    hook = {"name": "a.example.org", "failurePolicy": policy, "clientConfig": {"service": service}, "sideEffects": "None"}
    return an_object(f"{HOOKS}/v1", "ValidatingWebhookConfiguration", "guard", namespace=None, webhooks=[hook])


def a_slice(*, ready: bool) -> dict:
    """The endpoints of its Service."""
    labels = {"kubernetes.io/service-name": "guard"}
    endpoints = [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}]
    return an_object("discovery.k8s.io/v1", "EndpointSlice", "guard-x", metadata={"labels": labels}, endpoints=endpoints)


@pytest.mark.parametrize(
    ("policy", "ready", "made"), [("Fail", False, False), ("Fail", None, False), ("Fail", True, True), ("Ignore", False, True)]
)
def test_a_webhook_without_a_server_that_answers_is_withheld(policy: str, *, ready: bool | None, made: bool) -> None:
    """It would refuse what it guards, and lock the cluster. One that lets requests pass may come."""
    kinds = (*DEFAULT_KINDS, WEBHOOK, SLICE)
    scene = Scene((a_namespace(), a_webhook(policy)), kinds=kinds, saved_kinds=(WEBHOOK,), there=(a_namespace(),))
    if ready is not None:
        scene.cluster.put(a_slice(ready=ready))
    report = scene.execute()

    assert bool(scene.cluster.all("validatingwebhookconfigurations")) is made
    assert ["no endpoint that is ready" in str(finding) for finding in report.failures] == ([] if made else [True])


# What is dropped, and what is asked for


def test_a_finalizer_that_nobody_clears_is_dropped_with_a_reason() -> None:
    """Else the object could never be deleted again."""
    tls = a_secret()
    tls["metadata"]["finalizers"] = ["gone.example.com/cleanup"]
    scene = Scene((a_namespace(), tls))
    plan = scene.prepare()
    scene.execute(plan)

    assert "finalizers" not in scene.live("secrets", "tls")["metadata"]
    assert ["gone.example.com/cleanup is dropped" in str(finding) for finding in plan.findings] == [True]
    assert scene.prepare().changes_nothing


def test_status_is_restored_where_it_is_asked_for() -> None:
    """After the object, through its own way; a second restore does not write it again."""
    deployment = a_deployment()
    scene = Scene((a_namespace(), deployment, a_deployment("other")), request=asking(status_kinds=["deployments"]))
    scene.execute()

    assert scene.live("deployments", "web")["status"] == deployment["status"]
    assert scene.prepare().changes_nothing


def test_node_ports_are_kept_where_that_is_asked_for() -> None:
    """By default the server chooses anew."""
    service = an_object("v1", "Service", "web", spec={"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]})
    kept = Scene((a_namespace(), service), request=asking(keep_node_ports=True))
    anew = Scene((a_namespace(), service))
    for scene in (kept, anew):
        scene.execute()

    assert kept.live("services", "web")["spec"]["ports"] == [{"port": 80, "nodePort": 30080}]
    assert anew.live("services", "web")["spec"]["ports"] == [{"port": 80}]


def test_another_storage_class_is_looked_for_and_used() -> None:
    """The old one need not be there, and is not brought along."""
    objects = (a_namespace(), a_storage_class("fast", default=False), a_claim(storage_class="fast"))
    scene = Scene(objects, request=asking(namespaces=["shop"], storage_class_mapping={"fast": "standard"}))
    missing = Scene(objects, request=asking(storage_class_mapping={"fast": "nowhere"}))
    scene.execute()

    assert scene.live("persistentvolumeclaims", "data")["spec"]["storageClassName"] == "standard"
    assert [one["metadata"]["name"] for one in scene.cluster.all("storageclasses")] == ["standard"]
    assert any("needs the storage class nowhere" in str(finding) for finding in missing.prepare().blocking)


def test_patches_change_the_objects_that_they_mean_by_the_names_of_the_point() -> None:
    """A test is a condition; the mapping comes after; a second restore finds nothing to do."""
    patches = [
        {
            "select": {"kinds": ["configmaps"], "namespaces": ["shop"], "names": ["set*"]},
            "patch": [{"op": "add", "path": "/data/env", "value": "test"}],
        },
        {
            "select": {"kinds": ["Secret"]},
            "patch": [{"op": "test", "path": "/data/key", "value": "other"}, {"op": "remove", "path": "/data/key"}],
        },
    ]
    request = asking(patches=patches, namespace_mapping={"shop": "shop2"})
    scene = Scene((a_namespace(), a_map(level="1"), a_map("other"), a_secret(key="YQ==")), request=request)
    scene.execute()

    assert scene.live("configmaps", "settings")["data"] == {"level": "1", "env": "test"}
    assert "env" not in scene.live("configmaps", "other")["data"]
    assert scene.live("secrets", "tls")["data"] == {"key": "YQ=="}
    assert scene.prepare().changes_nothing


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ({"op": "remove", "path": "/data/nothing"}, "a patch does not fit it: operation 1"),
        ({"op": "replace", "path": "/metadata/name", "value": "other"}, "changes the kind, the namespace or the name"),
    ],
)
def test_a_patch_that_does_not_fit_forbids_the_restore(operation: dict, words: str) -> None:
    """It is known before anything is written, whether the object is there or not."""
    request = asking(patches=[{"select": {"kinds": ["configmaps"]}, "patch": [operation]}])
    for there in ((), (a_namespace(), a_map(level="2"))):
        scene = Scene((a_namespace(), a_map(level="1")), there=there, request=request)

        assert [words in str(finding) for finding in scene.prepare().blocking] == [True]


def test_replicas_are_set_by_kind() -> None:
    """The kind that is named goes before the star."""
    stateful = an_object("apps/v1", "StatefulSet", "db", spec={"replicas": 3})
    campaign = an_object("shop.example.org/v1", "Campaign", "spring", spec={"replicas": 5})
    request = asking(replicas={"*": 0, "statefulsets": 1})
    scene = Scene((a_namespace(), a_deployment(), stateful, campaign), kinds=(*DEFAULT_KINDS, CAMPAIGN), request=request)
    scene.execute()

    assert scene.live("campaigns", "spring")["spec"]["replicas"] == 5
    assert (scene.live("deployments", "web")["spec"]["replicas"], scene.live("statefulsets", "db")["spec"]["replicas"]) == (0, 1)


# Selection


BANK = (a_namespace("bank"), a_map("limits", namespace="bank"), a_secret("vault", namespace="bank"))
LABELLED = an_object("v1", "ConfigMap", "front", metadata={"labels": {"app": "web", "tier": "front"}}, data={})
SHOP = (a_namespace(), a_map(), a_secret(), LABELLED)
ROLE = an_object("rbac.authorization.k8s.io/v1", "ClusterRole", "reader", namespace=None, rules=[])


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"exclude_namespaces": ["ba*"], "include_cluster_scoped": "none"}, {"namespaces/shop", "configmaps/shop/settings", "secrets/shop/tls", "configmaps/shop/front"}),
        ({"namespaces": ["shop"], "exclude_kinds": ["configmaps"]}, {"namespaces/shop", "secrets/shop/tls"}),
        ({"namespaces": ["bank"], "drop_secrets": True}, {"namespaces/bank", "configmaps/bank/limits"}),
        ({"labels": ["app=web,tier!=back"]}, {"namespaces/shop", "configmaps/shop/front"}),
        ({"labels": ["app=none", "tier"]}, {"namespaces/shop", "configmaps/shop/front"}),
        ({"namespaces": ["bank"], "kinds": ["secrets"], "include_cluster_scoped": "all"}, {"namespaces/bank", "secrets/bank/vault", "clusterroles.rbac.authorization.k8s.io/reader"}),
        ({"namespaces": ["bank"], "kinds": ["secrets"], "cluster_kinds": ["clusterroles"]}, {"namespaces/bank", "secrets/bank/vault", "clusterroles.rbac.authorization.k8s.io/reader"}),
        ({"objects": ["v1/Secret/*/*"], "exclude_namespaces": ["shop"]}, {"namespaces/bank", "secrets/bank/vault"}),
    ],
)  # fmt: skip
def test_what_is_asked_for_comes_and_what_is_excluded_does_not(asked: dict, expected: set[str]) -> None:
    """An exclusion goes before everything."""
    assert targets(Scene((*SHOP, *BANK, ROLE), request=asking(**asked))) == expected


def test_a_kind_that_the_point_does_not_hold_is_pointed_out() -> None:
    """An exclusion that is written wrong would exclude nothing."""
    scene = Scene(SHOP, request=asking(exclude_kinds=["sercets"]))
    asked = Scene(SHOP, request=asking(kinds=["sercets", "secrets"]))

    assert ["exclude_kinds" in finding.where for finding in scene.prepare().findings] == [True]
    assert ["no kind is sercets" in str(finding) for finding in asked.prepare().blocking] == [True]


# The command line, and times


def test_the_modes_of_the_command_line_are_read() -> None:
    """One for all, others for kinds."""
    assert read_conflicts([]) == ("skip", {})
    assert read_conflicts(["replace", "secrets=merge"]) == ("replace", {"secrets": "merge"})
    assert read_replicas(["0", "deployments=1"]) == {"*": 0, "deployments": 1}
    assert (read_wait("5m"), read_wait("")) == (300.0, 0.0)
    for wrong in (["replace", "merge"], ["overwrite"], ["secrets=perhaps"]):
        with pytest.raises(UsageError):
            read_conflicts(wrong)
    for wrong_number in ("many", "deployments=-1", "="):
        with pytest.raises(UsageError):
            read_replicas([wrong_number])


def test_patches_are_read_from_a_file(tmp_path: Path) -> None:
    """A list, or a mapping with it; anything else is refused in one sentence."""
    path = tmp_path / "patches.yaml"
    path.write_text("patches:\n- patch: [{op: remove, path: /a}]\n")
    one = [{"patch": [{"op": "remove", "path": "/a"}]}]
    assert read_patches(path) == one
    path.write_text("- patch: [{op: remove, path: /a}]\n")
    assert read_patches(path) == one
    for wrong in ("a: [", "text", "- 1\n"):
        path.write_text(wrong)
        with pytest.raises(UsageError):
            read_patches(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_patches(tmp_path / "none")


def test_the_time_of_a_volume_is_estimated_from_what_earlier_ones_took() -> None:
    """The median of those that tell; without any, an assumption that says so."""
    volume = VolumeRef(namespace="shop", claim="data")

    def took(size: int, seconds: float, error: str = "") -> VolumeRecord:
        return VolumeRecord(volume=volume, target=volume, action="fill", bytes=size, seconds=seconds, error=error)

    large = 1 << 30
    scene = Scene((a_namespace(), a_claim()), volumes={"shop/data": {"a": b"1"}})
    plan = scene.prepare()

    assert rate([took(large, 10), took(large, 20), took(large, 1000), took(1000, 0.001), took(large, 1, error="x")]) == large // 20
    assert rate([]) == 0
    assert (plan.rate_bytes, plan.rate_measured) == (50 << 20, False)
