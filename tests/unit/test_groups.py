"""Volumes that are cut together: which they are, how the group is read, and that a group that fails costs nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from becalm.actions import cutting, export, quiesce, snapshot, sweep
from becalm.actions.grouping import Grouping, group, selector
from becalm.actions.handover import Application, Begun, Cut, Ports, Settings, Trigger, VolumeGroup, VolumePlan
from becalm.actions.inventory import ClaimFacts, SnapshotClass
from becalm.clock import format_time
from becalm.errors import AccessDenied, AlreadyExists, CutFailed
from becalm.kube.base import owned_by
from becalm.kube.kinds import GROUP_CLASS, GROUP_CONTENT, GROUP_SNAPSHOT
from becalm.kube.leftovers import SOURCE_PROTECTION
from becalm.kube.snapshots import await_cuts, discard, start_group
from becalm.model import Consistency, VolumeRef, VolumeUse
from becalm.policy.labels import LabelSelector
from becalm.repository.reader import open_repository
from becalm.repository.tree import walk
from becalm.testing.capture_scenes import PASSWORD, Stage
from becalm.testing.fake_clock import NOON, FakeClock
from becalm.testing.fake_cluster import FakeCluster
from becalm.testing.fake_groups import FakeGroups, a_group_class
from becalm.testing.fake_storage import FakeStorage
from becalm.testing.memory_store import MemoryStore
from becalm.testing.objects import DRIVER, a_claim, a_namespace, a_snapshot_class, a_volume, an_object

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = (SnapshotClass(name="together", driver=DRIVER),)


def a_plan(claim: str, *, namespace: str = "shop", driver: str = DRIVER, handle: str = "h", snapshot_class: str = "s") -> VolumePlan:
    """Return a volume that will be cut."""
    volume = VolumeRef(namespace=namespace, claim=claim)
    return VolumePlan(volume=volume, use=VolumeUse.SNAPSHOT, driver=driver, handle=handle, snapshot_class=snapshot_class)


def claims(labels: dict[str, dict[str, str]]) -> list[ClaimFacts]:
    """Return claims of the namespace `shop`."""
    return [ClaimFacts(namespace="shop", name=name, labels=mine, bound=True) for name, mine in labels.items()]


def grouped(members: str, labels: dict[str, dict[str, str]]) -> Grouping:
    """Group these claims, each called by a letter, among all that there are."""
    return group([a_plan(name) for name in members], claims(labels), CLASSES)


def test_claims_that_their_labels_mean_alone_are_cut_together() -> None:
    """All common labels count, with every value."""
    found = grouped("ab", {"a": {"app": "db", "n": "1"}, "b": {"app": "db", "n": "2"}, "c": {"app": "web"}})

    assert found.notes == ()
    assert [(one.group_class, [item.claim for item in one.volumes], dict(one.labels)) for one in found.groups] == [
        ("together", ["a", "b"], {"app": ("db",), "n": ("1", "2")})
    ]


def test_all_claims_of_a_namespace_need_no_labels() -> None:
    """Those that opted out are not meant by the selector."""
    found = grouped("ab", {"a": {}, "b": {"x": "y"}, "c": {"becalm.dev/protect": "no"}})

    assert [dict(one.labels) for one in found.groups] == [{}]


def test_claims_that_their_labels_do_not_tell_apart_are_cut_one_by_one() -> None:
    """And it is said why, with the claim that stands in the way."""
    found = grouped("ab", {"a": {"app": "db"}, "b": {"app": "db"}, "scratch": {"app": "db"}})

    assert found.groups == ()
    assert found.notes == (
        f"the 2 volumes of {DRIVER} in shop are cut one by one, side by side: their common labels also mean the claim scratch",
    )


@pytest.mark.parametrize(
    ("plans", "classes", "why"),
    [
        ([a_plan("a")], CLASSES, None),
        ([a_plan("a"), a_plan("b")], (), None),
        ([a_plan("a"), a_plan("b")], (SnapshotClass(name="other", driver="other.example.org"),), None),
        ([a_plan("a"), a_plan("b", driver="other.example.org")], CLASSES, None),
        ([a_plan("a"), a_plan("b", handle="")], CLASSES, "names of the volumes are not known"),
        ([a_plan("a"), a_plan("b", snapshot_class="other")], CLASSES, "their snapshot classes differ"),
        ([a_plan("a"), a_plan("b")], (SnapshotClass(name="kept", driver=DRIVER, retains=True),), "kept retains what it cuts"),
    ],
)
def test_what_cannot_be_a_group_is_none(plans: list[VolumePlan], classes: tuple[SnapshotClass, ...], why: str | None) -> None:
    """One volume, no class for the driver, drivers that differ: nothing to say. What hinders a group is said."""
    found = group(plans, claims({"a": {"app": "x"}, "b": {"app": "x"}}), classes)

    assert found.groups == ()
    assert [note for note in found.notes if why and why in note] == list(found.notes)
    assert bool(found.notes) is (why is not None)


LABELS = st.dictionaries(st.sampled_from(["app", "tier", "n"]), st.sampled_from(["1", "2", "3"]))


@given(st.dictionaries(st.sampled_from("abcdef"), LABELS, min_size=2), st.data())
def test_a_groups_selector_means_exactly_its_volumes(labels: dict[str, dict[str, str]], data: st.DataObject) -> None:
    """Judged by the selector as its text says it, over every claim of the namespace."""
    members = data.draw(st.sets(st.sampled_from(sorted(labels)), min_size=2))
    found = grouped("".join(sorted(members)), labels)
    meant = [
        {name for name, mine in labels.items() if LabelSelector.parse(_text(selector(one.labels))).matches(mine)} for one in found.groups
    ]

    assert meant in ([], [members])
    assert bool(found.groups) is not bool(found.notes)


def _text(wanted: dict[str, Any]) -> str:
    plain = [f"{key}={value}" for key, value in wanted.get("matchLabels", {}).items()]
    return ",".join(
        [*plain, *(f"{one['key']} {one['operator'].lower()} ({','.join(one['values'])})" for one in wanted["matchExpressions"])]
    )


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """An application of two pods, each with a claim, on storage that cuts groups."""
    return Stage(tmp_path, pods=2, timeout="5m")


@pytest.fixture
def groups(stage: Stage) -> FakeGroups:
    """The group controller."""
    made = FakeGroups(stage.cluster, stage.clock)
    stage.cluster.put(a_group_class(default=True))
    return made


def capture(stage: Stage) -> tuple[Application, Cut]:
    application = stage.application()
    record = quiesce.execute(application, stage.begun(), stage.policy, stage.ports)
    return application, snapshot.execute(application, record, stage.begun(), stage.policy, stage.ports)


def test_an_application_is_cut_by_one_group(stage: Stage, groups: FakeGroups) -> None:
    """At one instant, while everything stands still; read like any other cut, no object of it captured, and gone after the sweep."""
    stage.spec = {"select": {"namespaces": ["shop"], "clusterScoped": "all"}}
    application, cut = capture(stage)
    found = export.execute([cut], stage.begun(), stage.policy, stage.ports)
    listed = [path for path, _ in walk(open_repository(stage.store, PASSWORD), cut.resources_tree)]
    left = sweep.sweep("shop", stage.ports, run=stage.begun().run)

    assert [len(one.volumes) for one in application.groups] == [2]
    assert groups.cut == ["db-0", "db-1"]
    assert stage.storage.cuts == {}
    assert {item.created for item in cut.volumes} == {cut.volumes[0].created}
    assert [(item.handle, item.snapshot, bool(item.group), item.error) for item in cut.volumes] == [
        ("handle-db-0", "", True, ""),
        ("handle-db-1", "", True, ""),
    ]
    assert cut.thawed is not None
    assert cut.thawed.consistency is Consistency.APPLICATION
    assert [item.error for item in found] == ["", ""]
    assert left == ()
    assert stage.cluster.all("volumegroupsnapshots") == []
    assert not [path for path in listed if "snapshots/" in path or "snapshotcontents/" in path]


@pytest.mark.parametrize("trouble", ["fails", "denied", "unreadable"])
def test_a_group_that_fails_is_cut_one_by_one_within_the_freeze(stage: Stage, groups: FakeGroups, trouble: str) -> None:
    """The storage refuses, or we may not ask: every volume is cut all the same, and the record says how."""
    if trouble == "fails":
        groups.fails = "the array knows no groups"
    elif trouble == "denied":
        stage.cluster.fail(AccessDenied("no groups for you"), verb="create", kind=str(GROUP_SNAPSHOT))
    else:
        stage.cluster.fail(AccessDenied("no contents for you"), verb="get", kind=str(GROUP_CONTENT))
    seen: list[list[str]] = []
    stage.storage.at_cut = lambda _: seen.append(stage.frozen())
    _, cut = capture(stage)

    assert seen == [["db-0", "db-1"]] * 2
    assert [(item.error, item.group, bool(item.snapshot)) for item in cut.volumes] == [("", "", True)] * 2
    assert len(cut.notes) == 1
    assert "its volumes were cut one by one" in cut.notes[0]
    assert cut.thawed is not None
    assert cut.thawed.consistency is Consistency.APPLICATION


def test_a_cluster_that_serves_no_groups_has_none(stage: Stage) -> None:
    """Each volume is cut by itself, and there is nothing to say."""
    application, cut = capture(stage)

    assert (application.groups, application.notes, cut.notes) == ((), (), ())
    assert set(stage.storage.cuts) == {"db-0", "db-1"}


def test_the_right_to_list_group_classes_is_not_needed(stage: Stage, groups: FakeGroups) -> None:
    """Without it there are no groups, and no finding."""
    stage.cluster.fail(AccessDenied("no"), verb="list", kind=str(GROUP_CLASS))
    _, cut = capture(stage)

    assert groups.cut == []
    assert [item.error for item in cut.volumes] == ["", ""]


def test_a_group_of_this_run_is_adopted_and_no_other() -> None:
    """By the run's label, and only while it is sound."""
    cluster = _cluster()
    groups = FakeGroups(cluster, FakeClock())
    wanted = {
        "volumes": {VolumeRef(namespace="shop", claim="a"): "disk-a"},
        "selector": selector({}),
        "group_class": "together",
        "name": "g",
    }
    first = start_group(cluster, **wanted, labels=owned_by("shop", "r1", "cut"))  # type: ignore[arg-type]
    again = start_group(cluster, **wanted, labels=owned_by("shop", "r1", "cut"))  # type: ignore[arg-type]
    with pytest.raises(AlreadyExists, match="not this run's"):
        start_group(cluster, **wanted, labels=owned_by("shop", "r2", "cut"))  # type: ignore[arg-type]
    groups.fails = "no"
    cluster.remove("volumegroupsnapshots", "g", "shop")
    start_group(cluster, **wanted, labels=owned_by("shop", "r1", "cut"))  # type: ignore[arg-type]
    with pytest.raises(CutFailed, match="earlier try"):
        start_group(cluster, **wanted, labels=owned_by("shop", "r1", "cut"))  # type: ignore[arg-type]

    assert [(one.adopted, one.uid) for one in (*first, *again)] == [(False, first[0].uid), (True, first[0].uid)]


def test_a_volume_that_the_group_left_out_says_so() -> None:
    """Somebody changed a claim's labels between the plan and the cut."""
    clock, cluster = FakeClock(), _cluster()
    FakeGroups(cluster, clock)
    volumes = {VolumeRef(namespace="shop", claim=name): f"disk-{name}" for name in ("a", "late")}
    started = start_group(
        cluster, volumes=volumes, selector=selector({}), group_class="together", name="g", labels=owned_by("shop", "r1", "cut")
    )
    known = await_cuts(cluster, clock, started, timeout_seconds=5)

    assert [(one.volume.claim, one.handle, one.error) for one in known] == [
        ("a", "handle-a", ""),
        ("late", "", "the group was cut without this volume"),
    ]


def _cluster() -> FakeCluster:
    cluster = FakeCluster()
    for name in ("a", "b"):
        claim = a_claim(name)
        cluster.put(claim, a_volume(claim))
    cluster.put(a_namespace("shop"), a_snapshot_class())
    return cluster


def test_a_group_that_never_answers_leaves_time_to_cut_one_by_one() -> None:
    """It may take half of the freeze; the other half is for its volumes by themselves."""
    clock, cluster = FakeClock(), _cluster()
    groups, storage = FakeGroups(cluster, clock, hangs=True), FakeStorage(cluster, clock)
    plans = tuple(a_plan(name, handle=f"disk-{name}", snapshot_class="standard") for name in "ab")
    together = VolumeGroup(namespace="shop", driver=DRIVER, group_class="together", volumes=tuple(item.volume for item in plans))
    begun = Begun(policy="shop", policy_digest="0", run_id="x", run="r1", trigger=Trigger.MANUAL, started=NOON)
    ports = Ports(cluster=cluster, store=MemoryStore(), password="x", clock=clock, settings=Settings(cluster_name="test"))
    decided = cutting.Plan(
        cuts=tuple((item, f"cut-{item.volume.claim}") for item in plans),
        groups=((together, "g"),),
        frozen_until=clock.now() + timedelta(seconds=30),
    )
    made = cutting.cut(Application(name="shop", namespaces=("shop",), volumes=plans, groups=(together,)), decided, begun, ports)
    seconds = {round((storage.cuts[name] - NOON).total_seconds()) for name in "ab"}

    assert groups.cut == []
    assert seconds == {15}
    assert made.late == ()
    assert [(item.snapshot, item.error) for item in made.cut.volumes] == [("cut-a", ""), ("cut-b", "")]


@pytest.mark.parametrize("ready", [False, True], ids=["not ready", "ready, without its finalizer"])
def test_a_group_is_removed_only_when_its_controller_has_done_with_it(ready: bool) -> None:
    """Deleted before, it would leave its members or its content for ever; one that never gets there is waited for only so long."""
    clock, cluster = FakeClock(), _cluster()
    cluster.put(a_namespace("becalm"))
    cluster.kinds += [GROUP_SNAPSHOT, GROUP_CONTENT]
    asked = {
        "metadata": {"name": "g", "namespace": "shop", "labels": owned_by("shop", "r1", "cut"), "creationTimestamp": format_time(NOON)}
    }
    cluster.put({"apiVersion": GROUP_SNAPSHOT.api_version, "kind": GROUP_SNAPSHOT.kind, **asked, "status": {"readyToUse": ready}})
    early = discard(cluster, clock, run="r1", namespace="becalm", timeout_seconds=10)
    told = len(cluster.recorded("delete", str(GROUP_SNAPSHOT)))
    late = discard(cluster, clock, run="r1", namespace="becalm", timeout_seconds=300)

    assert ([ref.name for ref in early], told) == (["g"], 0)
    assert late == ()
    assert clock.now() - NOON >= timedelta(seconds=120)


@pytest.mark.parametrize("members", [1, 2], ids=["one member is not there", "one member is not ready"])
def test_a_group_is_removed_only_when_its_members_are_ready(members: int) -> None:
    """A controller that forgets a group whose members are still being made never lets go of them."""
    clock, cluster = FakeClock(), _cluster()
    cluster.put(a_namespace("becalm"))
    cluster.kinds += [GROUP_SNAPSHOT, GROUP_CONTENT]
    metadata = {"name": "g", "namespace": "shop", "labels": owned_by("shop", "r1", "cut"), "creationTimestamp": format_time(NOON)}
    metadata |= {"uid": "the-group", "finalizers": ["a-controllers"]}
    status = {"readyToUse": True, "boundVolumeGroupSnapshotContentName": "its-content"}
    cluster.put({"apiVersion": GROUP_SNAPSHOT.api_version, "kind": GROUP_SNAPSHOT.kind, "metadata": metadata, "status": status})
    info = {"status": {"volumeSnapshotInfoList": [{}, {}]}}
    cluster.put({"apiVersion": GROUP_CONTENT.api_version, "kind": GROUP_CONTENT.kind, "metadata": {"name": "its-content"}, **info})
    for number in range(members):
        made = an_object("snapshot.storage.k8s.io/v1", "VolumeSnapshot", f"member-{number}", "shop")
        made["metadata"]["ownerReferences"] = [{"uid": "the-group", "name": "g", "kind": GROUP_SNAPSHOT.kind}]
        cluster.put(made | {"status": {"readyToUse": number == 0}})
    discard(cluster, clock, run="r1", namespace="becalm", timeout_seconds=10)
    told = len(cluster.recorded("delete", str(GROUP_SNAPSHOT)))
    discard(cluster, clock, run="r1", namespace="becalm", timeout_seconds=150)

    assert (told, len(cluster.recorded("delete", str(GROUP_SNAPSHOT))) > 0) == (0, True)


def test_a_snapshot_that_only_the_provisioner_holds_is_let_go() -> None:
    """Its claim went while it was being made: nobody takes that finalizer away any more. Any other is left to whoever set it."""
    clock, cluster = FakeClock(), _cluster()
    cluster.put(a_namespace("becalm"))
    for name, finalizers in {"forgotten": [SOURCE_PROTECTION], "held": [SOURCE_PROTECTION, "someone.else/holds"]}.items():
        found = an_object("snapshot.storage.k8s.io/v1", "VolumeSnapshot", name, "becalm", labels=owned_by("shop", "r1", "export"))
        found["metadata"]["finalizers"] = finalizers
        cluster.put(found | {"spec": {"source": {"volumeSnapshotContentName": name}}})
    left = discard(cluster, clock, run="r1", namespace="becalm", timeout_seconds=10)

    assert [ref.name for ref in left] == ["held"]
