"""Snapshot: volumes cut inside the freeze, the thaw at once, and every object listed at the revision of the cut."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import orjson
import pytest

from becalm.actions import export, quiesce, snapshot, sweep
from becalm.actions.handover import Cut
from becalm.errors import AccessDenied, ClusterUnavailable, RevisionGone
from becalm.kube.base import LABEL_REPOSITORY, LABEL_RUN, Kind, owned_by, repository_mark
from becalm.model import Consistency, VolumeUse
from becalm.repository.reader import open_repository
from becalm.repository.tree import walk
from becalm.testing.builders import a_policy
from becalm.testing.capture_scenes import PASSWORD, Stage
from becalm.testing.memory_store import URL
from becalm.testing.objects import a_claim, a_config_map, a_namespace, an_object

if TYPE_CHECKING:
    from pathlib import Path

    from becalm.actions.handover import Application, FreezeRecord
    from becalm.policy.spec import ProtectionPolicy


def freeze(stage: Stage) -> tuple[Application, FreezeRecord]:
    application = stage.application()
    return application, quiesce.execute(application, stage.begun(), stage.policy, stage.ports)


def capture(stage: Stage) -> Cut:
    application, record = freeze(stage)
    return snapshot.execute(application, record, stage.begun(), stage.policy, stage.ports)


def contents(stage: Stage, cut: Cut) -> dict[str, dict]:
    """Read the captured objects back from the repository, by path."""
    repository = open_repository(stage.store, PASSWORD)
    return {
        path: orjson.loads(b"".join(repository.read_file(node)))
        for path, node in walk(repository, cut.resources_tree)
        if node.type == "file"
    }


def paths(stage: Stage, cut: Cut, part: str = "") -> list[str]:
    return [path for path in contents(stage, cut) if part in path]


def test_all_is_cut_in_one_window_and_the_label_says_so(tmp_path: Path) -> None:
    """Two volumes, two hooks: each cut happens while everything stands still, and nothing stands still afterwards."""
    stage = Stage(tmp_path, pods=2)
    seen: list[list[str]] = []
    stage.storage.at_cut = lambda _: seen.append(stage.frozen())
    cut = capture(stage)

    assert seen == [["db-0", "db-1"]] * 2
    assert stage.frozen() == []
    assert [(item.error, item.handle) for item in cut.volumes] == [("", "handle-db-0"), ("", "handle-db-1")]
    assert cut.thawed is not None
    assert (cut.thawed.consistency, cut.thawed.reasons) == (Consistency.APPLICATION, ())
    assert len({item.snapshot for item in cut.volumes}) == 2


def test_objects_are_of_the_revision_of_the_cut(tmp_path: Path) -> None:
    """What changes after the cut is captured as it was at the cut, and the revision lies inside the freeze."""
    stage = Stage(tmp_path)
    stage.cluster.put(a_config_map("counter", value="before"), a_config_map("removed"))
    started = threading.Event()

    def change(_: str) -> None:
        if stage.frozen() == [] and not started.is_set():
            started.set()
            stage.cluster.put(a_config_map("counter", value="after"), a_config_map("new"))
            stage.cluster.remove("configmaps", "removed", "shop")

    real = stage.cluster.list

    def listing(kind: Kind, **rest: object) -> object:
        if rest.get("revision"):
            change("")
        return real(kind, **rest)  # type: ignore[arg-type]

    stage.cluster = _with_list(stage.cluster, listing)
    cut = capture(stage)
    found = contents(stage, cut)

    assert started.is_set()
    assert found["resources/core/configmaps/shop/counter.json"]["data"] == {"value": "before"}
    assert "resources/core/configmaps/shop/removed.json" in found
    assert "resources/core/configmaps/shop/new.json" not in found
    assert cut.listed_again == ""


def _with_list(cluster: object, listing: object) -> object:
    """Return the same cluster with another `list`."""

    class Wrapped:
        def __getattr__(self, name: str) -> object:
            return listing if name == "list" else getattr(cluster, name)

    return Wrapped()


def test_an_object_is_captured_as_the_server_gave_it(tmp_path: Path) -> None:
    """Canonical JSON with nothing stripped, managed fields and status included; the namespace itself comes along."""
    stage = Stage(tmp_path)
    original = a_config_map("plain", value="ü")
    original["metadata"]["managedFields"] = [{"manager": "kubectl"}]
    stored = stage.cluster.put(original)
    cut = capture(stage)
    found = contents(stage, cut)

    assert found["resources/core/configmaps/shop/plain.json"] == stored
    assert "resources/core/namespaces/_cluster/shop.json" in found
    assert cut.objects == len(found)


def test_a_compacted_revision_is_listed_again_and_said(tmp_path: Path) -> None:
    """The objects are then of a later revision, which the cut names."""
    stage = Stage(tmp_path)
    stage.cluster.put(a_config_map("a"), a_config_map("b"))
    stage.cluster.fail(RevisionGone("compacted"), verb="list", kind="configmaps", times=1, in_the_middle=True)
    cut = capture(stage)

    assert "listed again at" in cut.listed_again
    assert cut.revision in cut.listed_again
    assert len(paths(stage, cut, "/configmaps/shop/")) == 2
    assert [call.revision for call in stage.cluster.recorded("list", "secrets")][-1] == cut.revision


def test_a_kind_that_has_no_such_revision_is_listed_as_it_is(tmp_path: Path) -> None:
    """An aggregated API may number differently: it must not cost the rest."""
    stage = Stage(tmp_path)
    stage.cluster.kinds.append(Kind(group="agg.example.org", version="v1", resource="things", kind="Thing", namespaced=True))
    stage.cluster.put(an_object("agg.example.org/v1", "Thing", "one", "shop"))
    real = stage.cluster.list

    def listing(kind: Kind, **rest: object) -> object:
        if kind.resource == "things" and rest.get("revision"):
            raise RevisionGone("never heard of it")
        return real(kind, **rest)  # type: ignore[arg-type]

    stage.cluster = _with_list(stage.cluster, listing)
    cut = capture(stage)

    assert paths(stage, cut, "things") == ["resources/agg.example.org/things/shop/one.json"]
    assert "never heard of it" in cut.listed_again


def test_what_is_left_out_is_counted_with_its_rule(tmp_path: Path) -> None:
    """Kinds by pattern, objects by label, those that are going, and Becalm's own."""
    stage = Stage(tmp_path)
    going = a_config_map("going")
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    ours = a_config_map("ours", labels=owned_by("shop", "0123456789", "mover"))
    stage.cluster.put(going, ours, a_config_map("shy", labels={"becalm.dev/protect": "no"}), a_config_map("kept"))
    stage.cluster.kinds.append(
        Kind(
            group="metrics.k8s.io",
            version="v1",
            resource="podmetrics",
            kind="PodMetrics",
            namespaced=True,
            verbs=frozenset({"get", "list"}),
        )
    )
    cut = capture(stage)

    assert paths(stage, cut, "configmaps") == ["resources/core/configmaps/shop/kept.json"]
    assert {(item.what, item.by) for item in cut.excluded} >= {
        ("1 configmaps", "terminating"),
        ("1 configmaps", "temporary"),
        ("1 configmaps", "label becalm.dev/protect"),
        ("events", "select.resources.exclude"),
        ("leases.coordination.k8s.io", "select.resources.exclude"),
        ("podmetrics.metrics.k8s.io", "not stored"),
    }
    assert not any(call.kind.startswith("podmetrics") for call in stage.cluster.recorded("list"))


def test_labels_and_kinds_select_objects(tmp_path: Path) -> None:
    """The policy's own words, applied to each object."""
    select = {"namespaces": ["shop"], "labels": ["tier=db", "tier=web"], "resources": {"include": ["configmaps"]}, "clusterScoped": "none"}
    stage = Stage(tmp_path, pods=0, spec={"select": select})
    stage.cluster.put(a_config_map("a", labels={"tier": "db"}), a_config_map("b", labels={"tier": "web"}), a_config_map("c"))
    stage.cluster.put(an_object("v1", "Secret", "s", "shop", labels={"tier": "db"}))
    cut = capture(stage)

    assert paths(stage, cut) == [
        "resources/core/configmaps/shop/a.json",
        "resources/core/configmaps/shop/b.json",
        "resources/core/namespaces/_cluster/shop.json",
    ]


def test_each_kind_is_listed_once_in_the_preferred_version(tmp_path: Path) -> None:
    """An old version of a kind that is also served gives nothing twice."""
    stage = Stage(tmp_path)
    stage.cluster.kinds.append(
        Kind(group="apps", version="v1beta1", resource="deployments", kind="Deployment", namespaced=True, preferred=False)
    )
    capture(stage)

    assert len([call for call in stage.cluster.recorded("list", "deployments.apps") if call.revision]) == 1


def test_what_cannot_be_listed_is_a_finding(tmp_path: Path) -> None:
    """A refused kind, one that never answers, and a group whose server is down: named, and the rest is captured."""
    stage = Stage(tmp_path)
    stage.cluster.put(a_config_map("a"), an_object("v1", "Secret", "s", "shop"))
    stage.cluster.failures = {"agg.example.org/v1": "no endpoints"}
    stage.cluster.fail(AccessDenied("secrets are not for you"), verb="list", kind="secrets")
    stage.cluster.fail(ClusterUnavailable("timed out"), verb="list", kind="services")
    stage.cluster.fail(ClusterUnavailable("a moment"), verb="list", kind="configmaps", times=1)
    cut = capture(stage)

    assert paths(stage, cut, "configmaps") == ["resources/core/configmaps/shop/a.json"]
    assert {finding.where for finding in cut.findings} == {"secrets in shop", "services in shop", "agg.example.org/v1"}
    assert all(finding.remedy for finding in cut.findings)


def with_references(stage: Stage) -> None:
    """Put objects that refer to others of the whole cluster, and some that nobody refers to."""
    stage.cluster.kinds.append(Kind(group="shop.example.org", version="v1", resource="campaigns", kind="Campaign", namespaced=True))
    rbac = "rbac.authorization.k8s.io/v1"
    account = [{"kind": "ServiceAccount", "name": "app", "namespace": "shop"}]
    stage.cluster.put(
        an_object("shop.example.org/v1", "Campaign", "spring", "shop"),
        an_object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "campaigns.shop.example.org"),
        an_object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "others.example.org"),
        an_object(rbac, "ClusterRole", "reader"),
        an_object(rbac, "ClusterRole", "writer"),
        an_object(rbac, "ClusterRole", "stranger"),
        an_object(rbac, "RoleBinding", "read", "shop", roleRef={"kind": "ClusterRole", "name": "reader"}),
        an_object(rbac, "ClusterRoleBinding", "write", roleRef={"kind": "ClusterRole", "name": "writer"}, subjects=account),
        an_object(rbac, "ClusterRoleBinding", "foreign", roleRef={"kind": "ClusterRole", "name": "stranger"}, subjects=[]),
        an_object("scheduling.k8s.io/v1", "PriorityClass", "urgent"),
        an_object("scheduling.k8s.io/v1", "PriorityClass", "idle"),
        an_object("apps/v1", "Deployment", "web", "shop", spec={"template": {"spec": {"priorityClassName": "urgent"}}}),
        an_object("networking.k8s.io/v1", "IngressClass", "nginx"),
        an_object("networking.k8s.io/v1", "Ingress", "web", "shop", spec={"ingressClassName": "nginx"}),
        an_object("storage.k8s.io/v1", "StorageClass", "unused"),
    )


def test_what_the_selection_refers_to_comes_along(tmp_path: Path) -> None:
    """Volumes and classes, the definition of each custom resource, roles of the namespaces' accounts; and nothing else."""
    stage = Stage(tmp_path)
    with_references(stage)
    cut = capture(stage)

    assert {path.removeprefix("resources/").replace("/_cluster/", " ") for path in paths(stage, cut, "_cluster")} == {
        "core/namespaces shop.json",
        "core/persistentvolumes pv-shop-db-0.json",
        "storage.k8s.io/storageclasses standard.json",
        "snapshot.storage.k8s.io/volumesnapshotclasses standard.json",
        "apiextensions.k8s.io/customresourcedefinitions campaigns.shop.example.org.json",
        "rbac.authorization.k8s.io/clusterroles reader.json",
        "rbac.authorization.k8s.io/clusterroles writer.json",
        "rbac.authorization.k8s.io/clusterrolebindings write.json",
        "scheduling.k8s.io/priorityclasses urgent.json",
        "networking.k8s.io/ingressclasses nginx.json",
    }


def test_all_and_none_of_the_clusters_own_objects(tmp_path: Path) -> None:
    """`all` takes every one, `none` only the namespace itself."""
    for scope, expected in (("all", True), ("none", False)):
        stage = Stage(tmp_path / scope, spec={"select": {"namespaces": ["shop"], "clusterScoped": scope}})
        with_references(stage)
        cut = capture(stage)

        assert ("resources/scheduling.k8s.io/priorityclasses/_cluster/idle.json" in paths(stage, cut)) is expected
        assert len(paths(stage, cut, "_cluster")) == (15 if expected else 1)


def test_a_volume_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    """Its cut carries the storage's words, and the label speaks for what was cut."""
    stage = Stage(tmp_path, pods=2)
    stage.storage.fails["db-0"] = "no space for snapshots"
    cut = capture(stage)

    assert [(item.plan.volume.claim, item.error) for item in cut.volumes] == [("db-0", "no space for snapshots"), ("db-1", "")]
    assert stage.frozen() == []
    assert cut.objects > 0


def test_live_volumes_are_not_cut_and_lower_the_label(tmp_path: Path) -> None:
    """They are listed, and nothing better than after a crash is promised."""
    stage = Stage(tmp_path, spec={"volumes": {"default": "live"}})
    cut = capture(stage)

    assert [(item.plan.use, item.snapshot, item.error) for item in cut.volumes] == [(VolumeUse.LIVE, "", "")]
    assert stage.storage.cuts == {}
    assert cut.thawed is not None


@pytest.mark.parametrize("verb", ["list", "create"])
def test_whatever_is_raised_the_application_was_thawed(tmp_path: Path, verb: str) -> None:
    """The API server goes away in the middle of the window."""
    stage = Stage(tmp_path)
    application, record = freeze(stage)
    stage.cluster.fail(ClusterUnavailable("gone"), verb=verb)
    with pytest.raises(ClusterUnavailable):
        cut = snapshot.execute(application, record, stage.begun(), stage.policy, stage.ports)
        raise ClusterUnavailable(cut.volumes[0].error)

    assert stage.frozen() == []


def test_a_plan_refuses_where_the_policy_asks_for_a_freeze_and_there_is_none(tmp_path: Path) -> None:
    """After the window, or with a hook that failed: refused for fail, planned for crash-consistent."""
    stage = Stage(tmp_path)
    application, record = freeze(stage)
    quiesce.release(application, record, None, stage.ports)
    begun, now = stage.begun(), stage.clock.now()
    strict = a_policy(quiesce={"onFailure": "fail"})
    failed = replace(record, reasons=("a hook failed",))

    def refused(policy: ProtectionPolicy, record: FreezeRecord, **later: float) -> str:
        return snapshot.plan(application, record, begun, policy, now=now + timedelta(**later)).refused

    assert refused(strict, record) == ""
    assert "300 s have passed" in refused(strict, record, seconds=300)
    assert "a hook failed" in refused(strict, failed)
    assert refused(stage.policy, failed, seconds=5) == ""


def test_a_second_try_in_the_same_freeze_finds_its_cut(tmp_path: Path) -> None:
    """And a new freeze never adopts the cut of an old one."""
    stage = Stage(tmp_path)
    application, record = freeze(stage)
    first = snapshot.plan(application, record, stage.begun(), stage.policy, now=stage.clock.now())
    again = snapshot.plan(application, record, stage.begun(), stage.policy, now=stage.clock.now())
    quiesce.release(application, record, None, stage.ports)
    _, other = freeze(stage)
    later = snapshot.plan(application, other, stage.begun(), stage.policy, now=stage.clock.now())
    quiesce.release(application, other, None, stage.ports)

    assert first.cuts == again.cuts
    assert first.cuts[0][1] != later.cuts[0][1]


def test_an_export_binds_each_cut_in_becalms_namespace(tmp_path: Path) -> None:
    """A claim there for each cut, the claim itself for a live volume, and a failed one by name; the second time finds the first."""
    stage = Stage(tmp_path, pods=2, spec={"volumes": {"rules": [{"match": {"claim": "db-1"}, "use": "live"}]}})
    cut = capture(stage)
    lost = replace(
        cut.volumes[0], handle="", content="", plan=replace(cut.volumes[0].plan, volume=replace(cut.volumes[0].plan.volume, claim="lost"))
    )
    cuts = [replace(cut, volumes=(*cut.volumes, lost))]
    exported = export.execute(cuts, stage.begun(), stage.policy, stage.ports)
    again = export.execute(cuts, stage.begun(), stage.policy, stage.ports)

    assert [(item.volume.claim, item.use, item.namespace) for item in exported] == [
        ("db-0", VolumeUse.SNAPSHOT, "becalm"),
        ("db-1", VolumeUse.LIVE, "shop"),
        ("lost", VolumeUse.SNAPSHOT, ""),
    ]
    assert [bool(item.error) for item in exported] == [False, False, True]
    assert (exported[1].claim, exported[1].node) == ("db-1", "node-1")
    assert again == exported
    (content,) = [item for item in stage.cluster.all("volumesnapshotcontents") if LABEL_RUN in item["metadata"].get("labels", {})]
    assert content["spec"]["source"] == {"snapshotHandle": "handle-db-0"}
    assert content["spec"]["deletionPolicy"] == "Retain"


def test_a_sweep_removes_what_runs_left_and_nothing_else(tmp_path: Path) -> None:
    """By label, of this policy, and never what looks like it."""
    stage = Stage(tmp_path)
    cut = capture(stage)
    begun = stage.begun()
    export.execute([cut], begun, stage.policy, stage.ports)
    ours, theirs = (owned_by(policy, key, "mover", repository=URL) for policy, key in (("shop", begun.run), ("other-policy", "0000000000")))
    stage.cluster.put(an_object("v1", "Secret", f"becalm-{begun.run}", "becalm", labels=ours))
    strangers = [
        an_object("v1", "Secret", "becalm-0000000000", "becalm", labels=theirs),
        a_claim(f"becalm-{begun.run}-00000000", "becalm"),
        an_object("snapshot.storage.k8s.io/v1", "VolumeSnapshot", "mine", "shop", labels={LABEL_RUN: begun.run}, spec={"source": {}}),
    ]
    ours_alone = [
        item["metadata"]["labels"].get(LABEL_REPOSITORY)
        for kind in ("volumesnapshots", "volumesnapshotcontents", "persistentvolumeclaims", "secrets")
        for item in stage.cluster.all(kind)
        if item["metadata"].get("labels", {}).get(LABEL_RUN) == begun.run
    ]
    stage.cluster.put(*strangers)
    kept = sweep.sweep("shop", stage.ports, keep_run=begun.run)
    before = [item["metadata"]["name"] for item in stage.cluster.all("volumesnapshots")]
    found = sweep.sweep("shop", stage.ports, run=begun.run)

    assert len(ours_alone) >= 4
    assert set(ours_alone) == {repository_mark(URL)}
    assert (kept, found) == ((), ())
    assert len(before) == 3
    assert [item["metadata"]["name"] for item in stage.cluster.all("volumesnapshots")] == ["mine"]
    assert [item["metadata"]["name"] for item in stage.cluster.all("secrets")] == ["becalm-0000000000"]
    assert {item["metadata"]["name"] for item in stage.cluster.all("persistentvolumeclaims")} == {"db-0", f"becalm-{begun.run}-00000000"}
    assert sweep.runs("shop", stage.ports) == set()


def test_a_dead_runs_leavings_go_with_the_next(tmp_path: Path) -> None:
    """Without a run named, every run of the policy but the living one is swept."""
    stage = Stage(tmp_path)
    stage.cluster.put(a_namespace("elsewhere"))
    labels = owned_by("shop", "dead000000", "cut", repository=URL)
    dead = an_object("snapshot.storage.k8s.io/v1", "VolumeSnapshot", "old", "elsewhere", labels=labels)
    dead["spec"] = {"source": {"persistentVolumeClaimName": "gone"}}
    stage.cluster.put(dead, an_object("v1", "Pod", "mine", "becalm", labels=owned_by("shop", "living0000", "mover", repository=URL)))
    left = sweep.sweep("shop", stage.ports, keep_run="living0000")

    assert left == ()
    assert stage.cluster.all("volumesnapshots") == []
    assert sweep.runs("shop", stage.ports) == {"living0000"}
