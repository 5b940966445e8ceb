"""Discover: a policy and an inventory become applications with their volumes and hooks, and everything else is named with its reason."""

from __future__ import annotations

import json

import pytest

from becalm.actions import discover
from becalm.actions.handover import Discovered, HookOrigin, Ports, Settings
from becalm.clock import SystemClock
from becalm.errors import AccessDenied, NotFound, NothingSelected
from becalm.model import VolumeMode, VolumeRef, VolumeUse
from becalm.testing.builders import a_policy
from becalm.testing.fake_cluster import FakeCluster
from becalm.testing.memory_store import MemoryStore
from becalm.testing.objects import DRIVER, a_claim, a_namespace, a_pod, a_snapshot_class, a_storage_class, a_volume


def a_cluster(*objects: dict, namespaces: tuple[str, ...] = ("shop",)) -> FakeCluster:
    """Return a cluster with classes for one driver, the namespaces, and the objects; bound claims get their volumes."""
    cluster = FakeCluster()
    cluster.put(a_storage_class(), a_snapshot_class(), *(a_namespace(name) for name in namespaces))
    for item in objects:
        cluster.put(item)
        if item["kind"] == "PersistentVolumeClaim" and "volumeName" in item["spec"]:
            cluster.put(a_volume(item))
    return cluster


def discovered(cluster: FakeCluster, **spec: object) -> Discovered:
    """Run the whole verb."""
    settings = Settings(cluster_name="test")
    return discover.execute(
        a_policy(**spec), Ports(cluster=cluster, store=MemoryStore(), password="x", clock=SystemClock(), settings=settings)
    )


def names(found: Discovered) -> list[str]:
    return [application.name for application in found.applications]


def test_each_selected_namespace_is_an_application() -> None:
    """Names and patterns select; what no pattern names is not even mentioned."""
    cluster = a_cluster(namespaces=("shop", "shop-eu", "other"))
    found = discovered(cluster, select={"namespaces": ["shop", "shop-*"]})

    assert names(found) == ["shop", "shop-eu"]
    assert found.findings == ()
    assert found.excluded == ()
    assert (found.cluster_uid, found.server_version) == ("fake-cluster", "v1.34.0-fake")


def test_a_policy_may_freeze_all_its_namespaces_together() -> None:
    """With scope: policy there is one application, with every namespace and volume."""
    cluster = a_cluster(a_claim("data", "a"), a_claim("data", "b"), namespaces=("a", "b"))
    found = discovered(cluster, select={"namespaces": ["a", "b"]}, quiesce={"scope": "policy"})

    assert [(item.name, item.namespaces, len(item.volumes)) for item in found.applications] == [("policy", ("a", "b"), 2)]


def test_a_named_namespace_that_does_not_exist_is_a_finding() -> None:
    """It is never silently left out: the point will be partial."""
    found = discovered(a_cluster(), select={"namespaces": ["shop", "gone", "more-*"]})

    assert names(found) == ["shop"]
    assert [finding.where for finding in found.findings] == ["namespaces/gone"]


def test_nothing_selected_is_an_error() -> None:
    """Never an empty recovery point."""
    with pytest.raises(NothingSelected, match="more-"):
        discovered(a_cluster(), select={"namespaces": ["more-*"]})


def test_namespaces_that_stay_out_are_named_with_the_rule() -> None:
    """Those that are going, that carry the label, and Becalm's own, though a pattern means them."""
    cluster = a_cluster(namespaces=("shop", "becalm"))
    cluster.put(a_namespace("going", terminating=True), a_namespace("shy", labels={"becalm.dev/protect": "no"}))
    found = discovered(cluster, select={"namespaces": ["*"]})

    assert names(found) == ["shop"]
    assert {(item.what, item.by) for item in found.excluded} == {
        ("namespaces/going", "terminating"),
        ("namespaces/shy", "label becalm.dev/protect"),
        ("namespaces/becalm", "own namespace"),
    }
    assert names(discovered(cluster, select={"namespaces": ["becalm"]})) == ["becalm"]


def test_a_volume_is_planned_with_all_that_its_capture_needs() -> None:
    """Driver, classes, size, mode, and the node where a running pod mounts it."""
    cluster = a_cluster(a_claim("data", size="2Gi", mode="Block"), a_pod("db-0", mounts={"main": "data"}, node="node-7"))
    (volume,) = discovered(cluster).applications[0].volumes

    assert volume.volume == VolumeRef(namespace="shop", claim="data")
    assert (volume.use, volume.by, volume.driver, volume.snapshot_class) == (VolumeUse.SNAPSHOT, "volumes.default", DRIVER, "standard")
    assert (volume.storage_class, volume.mode, volume.size_bytes, volume.node) == ("standard", VolumeMode.BLOCK, 2 * 2**30, "node-7")


def test_the_first_rule_that_means_a_volume_decides() -> None:
    """A skipped volume is excluded with the author's reason, a live one is kept."""
    cluster = a_cluster(a_claim("cache"), a_claim("logs"), a_claim("data"))
    rules = [
        {"match": {"claim": "cache"}, "use": "skip", "because": "rebuilt from the catalogue"},
        {"match": {"claim": "logs"}, "use": "live"},
    ]
    found = discovered(cluster, volumes={"rules": rules})

    assert [(item.volume.claim, item.use) for item in found.applications[0].volumes] == [
        ("data", VolumeUse.SNAPSHOT),
        ("logs", VolumeUse.LIVE),
    ]
    assert [(item.what, item.by, item.because) for item in found.excluded] == [
        ("volumes/shop/cache", "volumes.rules.0", "rebuilt from the catalogue")
    ]


def test_the_default_snapshot_class_of_the_driver_is_taken() -> None:
    """Classes of other drivers are never taken, and the default one comes first."""
    cluster = a_cluster(a_claim("data"))
    cluster.put(a_snapshot_class("zebra", default=True), a_snapshot_class("alien", driver="other.example.org", default=True))

    assert discovered(cluster).applications[0].volumes[0].snapshot_class == "zebra"


def test_a_volume_without_a_snapshot_class_is_a_finding_with_a_remedy() -> None:
    """The others are captured; the point is partial and says why."""
    nfs = a_claim("legacy", storage_class="nfs")
    cluster = a_cluster(a_claim("data"), nfs)
    cluster.put(a_volume(nfs, driver="nfs.example.org"))
    found = discovered(cluster)

    assert [item.volume.claim for item in found.applications[0].volumes] == ["data"]
    assert [finding.where for finding in found.findings] == ["volumes/shop/legacy"]
    assert "no-snapshot-class" in found.findings[0].message
    assert "nfs.example.org" in found.findings[0].message
    assert "use: live" in found.findings[0].remedy


def test_a_cluster_that_serves_no_snapshots_has_no_class() -> None:
    """The kinds may be missing altogether."""
    cluster = a_cluster(a_claim("data"))
    cluster.fail(NotFound("no such kind"), verb="list", kind="volumesnapshotclasses.snapshot.storage.k8s.io")

    assert ["volumes/shop/data"] == [finding.where for finding in discovered(cluster).findings]  # noqa: SIM300  (reads as it is meant)


def test_claims_without_data_or_without_the_labels_are_excluded() -> None:
    """Unbound, opted out, and not answering the selector: each with its rule."""
    cluster = a_cluster(
        a_claim("new", bound=False, labels={"tier": "db"}),
        a_claim("shy", labels={"becalm.dev/protect": "no", "tier": "db"}),
        a_claim("front", labels={"tier": "web"}),
        a_claim("data", labels={"tier": "db"}),
    )
    found = discovered(cluster, select={"namespaces": ["shop"], "labels": "tier=db"})

    assert [item.volume.claim for item in found.applications[0].volumes] == ["data"]
    assert {(item.what, item.by) for item in found.excluded} == {
        ("volumes/shop/new", "unbound"),
        ("volumes/shop/shy", "label becalm.dev/protect"),
        ("volumes/shop/front", "select.labels"),
    }


def test_what_may_not_be_read_is_a_finding() -> None:
    """A refused list of claims must not look like a namespace without volumes."""
    cluster = a_cluster(a_claim("data"))
    cluster.fail(AccessDenied("claims are not for you"), verb="list", kind="persistentvolumeclaims")
    found = discovered(cluster)

    assert names(found) == ["shop"]
    assert ["persistentvolumeclaims in shop"] == [finding.where for finding in found.findings]  # noqa: SIM300  (reads as it is meant)


def test_many_namespaces_are_listed_at_once() -> None:
    """Two hundred namespaces cost one list of pods and one of claims, not four hundred."""
    cluster = a_cluster(namespaces=tuple(f"n{number}" for number in range(200)))
    discovered(cluster, select={"namespaces": ["n*"]})

    assert len(cluster.recorded("list", "pods")) == 1
    assert len(cluster.recorded("list", "persistentvolumeclaims")) == 1


COMMAND = {"freeze": ["/freeze"], "thaw": ["/thaw"]}


def test_a_policys_hook_goes_where_its_pods_are() -> None:
    """It belongs to the applications that have such pods, and is missed everywhere only if it has none at all."""
    cluster = a_cluster(a_pod("db-0", "a", labels={"app": "db"}), namespaces=("a", "b"))
    quiesce = {"hooks": [{"select": {"labels": "app=db"}, "command": COMMAND, "timeout": "5s"}]}
    here = discovered(cluster, select={"namespaces": ["a", "b"]}, quiesce=quiesce)
    cluster.remove("pods", "db-0", "a")
    nowhere = discovered(cluster, select={"namespaces": ["a", "b"]}, quiesce=quiesce)

    assert [len(item.hooks) for item in here.applications] == [1, 0]
    assert [len(item.hooks) for item in nowhere.applications] == [1, 1]
    hook = here.applications[0].hooks[0]
    assert (hook.name, hook.origin, hook.labels, hook.timeout_seconds) == ("spec.quiesce.hooks.0", HookOrigin.POLICY, "app=db", 5)
    assert (hook.freeze, hook.thaw) == (("/freeze",), ("/thaw",))


def with_annotations(opted_in: bool = True, **annotations: str) -> Discovered:
    """Discover one pod with hooks of its own. Underscores before a key stand for the prefix of Velero's."""
    keys = {
        key.replace("pre_", "pre.hook.backup.velero.io/")
        .replace("post_", "post.hook.backup.velero.io/")
        .replace("own_", "quiesce.becalm.dev/")
        .replace("__", "-"): value
        for key, value in annotations.items()
    }
    cluster = a_cluster(a_pod("db-0", annotations=keys, containers=("main", "side")))
    return discovered(cluster, quiesce={"annotations": ["shop"] if opted_in else ["other"], "timeout": "20s"})


def test_a_pod_brings_its_own_hook() -> None:
    """A JSON array is a command with arguments, any other text is the program itself; the time never passes the policy's."""
    found = with_annotations(own_freeze='["fsync", "-a"]', own_thaw="/bin/thaw it", own_container="side", own_timeout="5m")
    (hook,) = found.applications[0].hooks

    assert (hook.origin, hook.pod, hook.container) == (HookOrigin.ANNOTATION, "db-0", "side")
    assert (hook.freeze, hook.thaw, hook.timeout_seconds) == (("fsync", "-a"), ("/bin/thaw it",), 20)
    assert found.findings == ()


def test_a_pod_names_a_blueprint_and_its_parameters() -> None:
    """Numbers are texts there, and a list is JSON. The container may be said in both ways."""
    keys = {"own_use": "postgresql-dump", "own_with.port": "5433", "own_with.databases": '["a", "b c"]', "own_container": "side"}
    (hook,) = with_annotations(**keys).applications[0].hooks

    assert (hook.origin, hook.use, hook.container, hook.timeout_seconds) == (HookOrigin.ANNOTATION, "postgresql-dump", "side", 20)
    assert json.loads(hook.given) == {"role": "postgres", "port": 5433, "databases": ["a", "b c"]}


def test_veleros_annotations_are_understood() -> None:
    """With its defaults: the first container, and thirty seconds unless the policy gives less."""
    found = with_annotations(pre_command='["/freeze"]', post_command='["/thaw"]', pre_on__error="Fail", pre_timeout="10s")
    (hook,) = found.applications[0].hooks

    assert (hook.origin, hook.container, hook.freeze, hook.thaw) == (HookOrigin.VELERO, "main", ("/freeze",), ("/thaw",))
    assert hook.timeout_seconds == 10


def test_who_can_label_a_pod_commands_nothing() -> None:
    """Without the policy's leave annotations are no hooks, and the recovery point says so."""
    found = with_annotations(opted_in=False, own_freeze="/freeze", own_thaw="/thaw")

    assert found.applications[0].hooks == ()
    assert [(item.what, item.by) for item in found.excluded] == [("the hook of pods/shop/db-0", "quiesce.annotations")]


@pytest.mark.parametrize(
    ("annotations", "problem"),
    [
        ({"own_freez": "/freeze", "own_thaw": "/thaw"}, "did you mean quiesce.becalm.dev/freeze"),
        ({"own_freeze": "/freeze"}, "needs both"),
        ({"own_use": "postgresl"}, "quiesce.becalm.dev/use: this is not the name of a blueprint; write one of: postgresql"),
        ({"own_use": "postgresql", "own_freeze": "/freeze"}, "write one of them"),
        ({"own_use": "postgresql", "own_with.rolle": "backup"}, 'no parameter "rolle"; write role'),
        ({"own_use": "postgresql", "own_with.role": "-c"}, "quiesce.becalm.dev/with.role: this cannot be a name or an address"),
        ({"own_use": "postgresql", "own_timeout": "soon"}, "not a time"),
        ({"own_with.role": "backup"}, "quiesce.becalm.dev/use is missing"),
        ({"own_freeze": '["/freeze"', "own_thaw": "/thaw"}, "not a JSON array"),
        ({"own_freeze": "[]", "own_thaw": "/thaw"}, "not a JSON array"),
        ({"own_freeze": "/freeze", "own_thaw": "/thaw", "own_timeout": "soon"}, "not a time"),
        ({"pre_command": "/freeze"}, "needs both"),
        ({"pre_command": "/freeze", "post_command": "/thaw", "post_container": "side"}, "different containers"),
        ({"pre_command": "/freeze", "post_command": "/thaw", "pre_on__error": "Panic"}, "neither Fail nor Continue"),
    ],
)
def test_a_mistyped_annotation_is_a_finding_and_no_hook(annotations: dict[str, str], problem: str) -> None:
    """Half a hook could freeze and not thaw; a key that is not known would be ignored in silence elsewhere."""
    found = with_annotations(**annotations)

    assert found.applications[0].hooks == ()
    assert [finding.where for finding in found.findings][:1] == ["pods/shop/db-0"]
    assert any(problem in finding.message for finding in found.findings)


def test_a_rule_may_name_the_snapshot_class() -> None:
    """One of the volume's own driver; its default class is for the others."""
    cluster = a_cluster(a_claim("data"), a_claim("log"))
    cluster.put(a_snapshot_class("fast"))
    rule = {"match": {"claim": "log"}, "use": "snapshot", "snapshotClass": "fast"}
    found = discovered(cluster, volumes={"rules": [rule]})

    assert [(item.volume.claim, item.snapshot_class) for item in found.applications[0].volumes] == [("data", "fast"), ("log", "fast")]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alien", "the snapshot class alien of volumes.rules.0 is of the driver other.example.org, the volume of " + DRIVER),
        ("none", "the snapshot class none of volumes.rules.0 does not exist"),
    ],
)
def test_a_snapshot_class_that_cannot_cut_the_volume_is_a_finding(name: str, expected: str) -> None:
    """It is never tried on the volume of another driver."""
    cluster = a_cluster(a_claim("data"))
    cluster.put(a_snapshot_class("alien", driver="other.example.org"))
    rule = {"match": {"claim": "data"}, "use": "snapshot", "snapshotClass": name}
    (finding,) = discovered(cluster, volumes={"rules": [rule]}).findings

    assert (finding.where, finding.message, finding.remedy) == (
        "volumes/shop/data",
        expected,
        "mend spec.volumes.rules.0.snapshotClass",
    )


def test_a_class_of_another_driver_is_named_where_there_is_no_other() -> None:
    """A person sees at once which driver has snapshots."""
    cluster = a_cluster(a_claim("data"))
    cluster.remove("volumesnapshotclasses", "standard")
    cluster.put(a_snapshot_class("alien", driver="other.example.org"))
    (finding,) = discovered(cluster).findings

    assert finding.message.endswith(f"no VolumeSnapshotClass serves the driver {DRIVER}; there are alien (other.example.org)")


def test_a_claim_whose_volume_is_gone_is_a_finding() -> None:
    """It is not one without data: its data is lost."""
    lost = a_claim("data")
    lost["status"]["phase"] = "Lost"
    found = discovered(a_cluster(lost))

    assert [(item.where, item.message) for item in found.findings] == [
        ("volumes/shop/data", "its volume pv-shop-data is gone (the claim is Lost)")
    ]
    assert found.applications[0].volumes == ()


@pytest.mark.parametrize(("use", "used", "hindered"), [("live", True, True), ("live", False, False), ("snapshot", True, False)])
def test_a_volume_for_one_pod_alone_is_read_live_only_while_none_has_it(use: str, used: bool, hindered: bool) -> None:
    """The mover would be a second pod; a cut needs none."""
    claim = a_claim("data")
    claim["spec"]["accessModes"] = ["ReadWriteOncePod"]
    cluster = a_cluster(claim, *([a_pod("db-0", mounts={"main": "data"})] if used else []))
    found = discovered(cluster, volumes={"default": use})

    assert [finding.where for finding in found.findings] == ["volumes/shop/data"] * hindered
    assert len(found.applications[0].volumes) == (not hindered)


def test_a_volume_that_several_pods_share_is_one_volume_on_the_node_of_a_running_pod() -> None:
    """Whoever mounts it: pods that wait, run, or have no node yet."""
    claim = a_claim("shared")
    claim["spec"]["accessModes"] = ["ReadWriteMany"]
    pods = [
        a_pod("a", mounts={"main": "shared"}, phase="Pending", node=""),
        a_pod("b", mounts={"main": "shared"}, phase="Pending", node="node-2"),
        a_pod("c", mounts={"main": "shared"}, node="node-3"),
        a_pod("d", mounts={"main": "shared"}, node="node-4"),
    ]
    (volume,) = discovered(a_cluster(claim, *pods), volumes={"default": "live"}).applications[0].volumes
    (waiting,) = discovered(a_cluster(claim, pods[0]), volumes={"default": "live"}).applications[0].volumes

    assert (volume.node, waiting.node) == ("node-3", "")


def test_an_empty_and_a_huge_volume_are_volumes_like_others() -> None:
    """A claim says what it may hold, in any of the API's spellings."""
    sizes = {"empty": "0", "half": "512Mi", "huge": "3Ei", "decimal": "1.5e18", "odd": "a lot"}
    found = discovered(a_cluster(*(a_claim(name, size=size) for name, size in sizes.items())))

    assert {item.volume.claim: item.size_bytes for item in found.applications[0].volumes} == {
        "empty": 0,
        "half": 512 * 2**20,
        "huge": 3 * 2**60,
        "decimal": 1_500_000_000_000_000_000,
        "odd": 0,
    }


def test_what_pods_keep_outside_claims_is_left_out_by_name() -> None:
    """Once for pods that are alike in it. What stands in a claim, in another object or in memory is no such thing."""
    volumes = [
        {"name": "cache", "emptyDir": {}},
        {"name": "logs", "hostPath": {"path": "/var/log/shop"}},
        {"name": "share", "nfs": {"server": "nas", "path": "/x"}},
        {"name": "fast", "emptyDir": {"medium": "Memory"}},
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "token", "projected": {"sources": []}},
    ]
    cluster = a_cluster(a_claim("data"), a_pod("web-0", volumes=volumes), a_pod("web-1", volumes=volumes[:1]))
    cluster.put(a_namespace("other"), a_pod("stranger", "other", volumes=volumes))
    found = discovered(cluster)

    assert [(item.what, item.by) for item in found.excluded] == [
        ("pods/shop/web-0: emptyDir cache, and 1 pods more", "not a claim"),
        ("pods/shop/web-0: hostPath /var/log/shop", "not a claim"),
        ("pods/shop/web-0: nfs share", "not a claim"),
    ]
    assert all(item.because for item in found.excluded)


def test_a_namespace_of_another_environment_is_a_warning() -> None:
    """It is captured; who plans and who reads the point is told."""
    cluster = a_cluster()
    cluster.put(a_namespace("shop", labels={"becalm.dev/environment": "staging"}))
    found = discovered(cluster)

    assert [finding.where for finding in found.warnings] == ["namespaces/shop"]
    assert found.findings == ()
    assert discovered(cluster, environment="staging").warnings == ()
