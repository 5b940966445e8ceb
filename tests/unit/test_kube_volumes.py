"""Cutting, binding and discarding against storage that is slow, failing or half-way. What works is in the contract suite."""

from __future__ import annotations

from typing import Any

import pytest

from becalm.errors import AccessDenied, AlreadyExists, ClusterUnavailable, CutFailed
from becalm.kube.base import owned_by
from becalm.kube.kinds import CLAIM, SNAPSHOT, SNAPSHOT_CONTENT
from becalm.kube.snapshots import Bound, SnapshotFacts, await_cuts, bind, cut, discard, quantity, start_cut
from becalm.model import ResourceRef, VolumeMode, VolumeRef
from becalm.testing.fake_clock import NOON, FakeClock
from becalm.testing.fake_cluster import FakeCluster

DATA = VolumeRef(namespace="shop", claim="data")
NANOSECONDS = int(NOON.timestamp()) * 10**9 + 123_456_789


class Ticking(FakeClock):
    """A clock that does one thing after another as time is slept away."""

    def __init__(self, **at: Any) -> None:
        super().__init__()
        self.plan = list(at.pop("plan", []))

    def sleep(self, seconds: float) -> None:
        """Let time pass, and what is due happen."""
        super().sleep(seconds)
        while self.plan and self.plan[0][0] <= self.monotonic():
            self.plan.pop(0)[1]()


def a_cluster() -> FakeCluster:
    cluster = FakeCluster()
    for name in ("shop", "becalm"):
        cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return cluster


def report(cluster: FakeCluster, name: str = "cut", namespace: str = "shop", **status: Any) -> None:
    """Do as the snapshot controller does: write a status."""
    found = cluster.get(SNAPSHOT, name, namespace=namespace)
    cluster.put({**found, "status": {**(found.get("status") or {}), **status}})


def content_of(cluster: FakeCluster, name: str = "cut", *, policy: str = "Delete", **status: Any) -> None:
    """Make the content of a snapshot, and bind it."""
    uid = cluster.get(SNAPSHOT, name, namespace="shop")["metadata"]["uid"]
    spec = {"driver": "disk", "deletionPolicy": policy, "volumeSnapshotRef": {"name": name, "namespace": "shop", "uid": uid}}
    cluster.put(
        {
            "apiVersion": "snapshot.storage.k8s.io/v1",
            "kind": "VolumeSnapshotContent",
            "metadata": {"name": f"content-{name}"},
            "spec": spec,
            "status": status,
        }
    )
    report(cluster, name, boundVolumeSnapshotContentName=f"content-{name}")


def asked(cluster: FakeCluster, clock: FakeClock, volume: VolumeRef = DATA, *, name: str = "cut", run: str = "r1") -> SnapshotFacts:
    return start_cut(cluster, clock, volume=volume, snapshot_class="fast", name=name, labels=owned_by("p", run, "cut"))


def taken(cluster: FakeCluster, clock: FakeClock, *, seconds: float = 10) -> SnapshotFacts:
    return cut(cluster, clock, volume=DATA, snapshot_class="fast", name="cut", labels=owned_by("p", "r1", "cut"), timeout_seconds=seconds)


def bound(cluster: FakeCluster, clock: FakeClock, **changes: Any) -> Bound:
    settings: dict[str, Any] = {
        "volume": DATA,
        "handle": "h-1",
        "driver": "disk",
        "snapshot_class": "fast",
        "storage_class": "standard",
        "mode": VolumeMode.FILESYSTEM,
        "size_bytes": 2**30,
        "namespace": "becalm",
        "name": "becalm-r1",
        "labels": owned_by("p", "r1", "export"),
        "timeout_seconds": 600,
    }
    return bind(cluster, clock, **(settings | changes))


class TestCut:
    """The instant of a snapshot."""

    def test_the_content_tells_the_instant_before_the_snapshot_does(self) -> None:
        """To the nanosecond it was given in; readiness is not waited for."""
        cluster = a_cluster()
        clock = Ticking(
            plan=[(0.2, lambda: content_of(cluster, creationTime=NANOSECONDS, snapshotHandle="h-1", readyToUse=False, restoreSize=5))]
        )
        facts = taken(cluster, clock)

        assert facts.created == NOON.replace(microsecond=123456)
        assert (facts.handle, facts.driver, facts.content, facts.ready) == ("h-1", "disk", "content-cut", False)
        assert facts.restore_bytes == 5
        assert clock.monotonic() < 0.3

    def test_without_the_right_to_read_contents_the_snapshot_tells(self) -> None:
        """Later, and without the handle."""
        cluster = a_cluster()
        cluster.fail(AccessDenied("no"), verb="get", kind="volumesnapshotcontents.snapshot.storage.k8s.io")
        clock = Ticking(plan=[(0.2, lambda: content_of(cluster)), (0.4, lambda: report(cluster, creationTime="2026-03-14T12:00:05Z"))])
        facts = taken(cluster, clock)

        assert (facts.created, facts.handle) == (NOON.replace(second=5), "")

    def test_a_complaint_of_the_storage_fails_the_cut_at_once(self) -> None:
        """An application is frozen meanwhile."""
        cluster = a_cluster()
        clock = Ticking(plan=[(0.2, lambda: report(cluster, error={"message": "no space in the pool"}))])

        with pytest.raises(CutFailed, match="no space in the pool"):
            taken(cluster, clock)
        assert clock.monotonic() < 0.3

    def test_the_controllers_own_conflict_is_no_complaint(self) -> None:
        """It tries again by itself."""
        cluster = a_cluster()
        conflict = {
            "message": "Operation cannot be fulfilled: the object has been modified; please apply your changes to the latest version"
        }
        clock = Ticking(
            plan=[
                (0.1, lambda: report(cluster, error=conflict)),
                (0.5, lambda: content_of(cluster, creationTime=NANOSECONDS, snapshotHandle="h-1")),
            ]
        )

        assert taken(cluster, clock).handle == "h-1"

    def test_a_storage_that_hangs_fails_at_the_end_of_the_time(self) -> None:
        """Not before, and not after."""
        clock = FakeClock()

        with pytest.raises(CutFailed, match="within 3 s"):
            taken(a_cluster(), clock, seconds=3)
        assert clock.monotonic() == pytest.approx(3, abs=0.01)

    def test_a_moment_without_the_api_server_is_waited_out(self) -> None:
        """The cut may be done meanwhile; an API server that stays away is named."""
        cluster = a_cluster()
        cluster.fail(ClusterUnavailable("gone"), verb="list", times=3)
        clock = Ticking(plan=[(0.2, lambda: content_of(cluster, creationTime=NANOSECONDS, snapshotHandle="h-1"))])
        away = a_cluster()
        away.fail(ClusterUnavailable("gone"), verb="list")

        assert taken(cluster, clock).handle == "h-1"
        with pytest.raises(CutFailed, match="the last look failed: gone"):
            taken(away, FakeClock(), seconds=1)

    def test_a_snapshot_that_is_deleted_meanwhile_fails(self) -> None:
        """Also where another takes its name."""
        cluster = a_cluster()
        clock = Ticking(plan=[(0.2, lambda: cluster.remove("volumesnapshots", "cut", "shop"))])

        with pytest.raises(CutFailed, match="deleted while"):
            taken(cluster, clock)

    def test_one_list_per_namespace_serves_all_volumes(self) -> None:
        """However many are cut side by side."""
        cluster, clock = a_cluster(), FakeClock()
        started = [asked(cluster, clock, VolumeRef(namespace="shop", claim=f"c{number}"), name=f"n{number}") for number in range(5)]
        facts = await_cuts(cluster, clock, started, timeout_seconds=0)

        assert [item.name for item in facts] == [f"n{number}" for number in range(5)]
        assert all("within 0 s" in item.error for item in facts)
        assert len(cluster.recorded("list")) == 1

    def test_a_sound_snapshot_of_this_run_is_adopted(self) -> None:
        """And marked: its instant may lie before the present freeze."""
        cluster, clock = a_cluster(), FakeClock()
        first, second = asked(cluster, clock), asked(cluster, clock)

        assert (second.uid, first.adopted, second.adopted) == (first.uid, False, True)

    def test_a_failed_snapshot_of_this_run_is_replaced(self) -> None:
        """It might yet be cut, at an instant that nobody chose."""
        cluster, clock = a_cluster(), FakeClock()
        first = asked(cluster, clock)
        report(cluster, error={"message": "no space"})
        second = asked(cluster, clock)

        assert second.uid != first.uid
        assert not second.adopted

    @pytest.mark.parametrize("change", [{"run": "r2"}, {"volume": VolumeRef(namespace="shop", claim="other")}])
    def test_a_snapshot_of_something_else_is_left_alone(self, change: Any) -> None:
        """A name that is taken is an error, whoever took it."""
        cluster, clock = a_cluster(), FakeClock()
        first = asked(cluster, clock)

        with pytest.raises(AlreadyExists, match="not this run's"):
            asked(cluster, clock, **change)
        assert cluster.get(SNAPSHOT, "cut", namespace="shop")["metadata"]["uid"] == first.uid


class TestBind:
    """A cut made readable."""

    def test_the_claim_is_made_once_the_snapshot_is_readable(self) -> None:
        """As large as the origin or as the storage asks, whichever is more; the content is retained and carries the same handle."""
        cluster = a_cluster()
        clock = Ticking(plan=[(40, lambda: report(cluster, "becalm-r1", "becalm", readyToUse=True, restoreSize="3Gi"))])
        made = bound(cluster, clock)
        content = cluster.get(SNAPSHOT_CONTENT, "becalm-r1")
        claim = cluster.get(CLAIM, "becalm-r1", namespace="becalm")

        assert made == Bound(volume=DATA, namespace="becalm", claim="becalm-r1", size_bytes=3 * 2**30)
        assert (content["spec"]["deletionPolicy"], content["spec"]["source"]) == ("Retain", {"snapshotHandle": "h-1"})
        assert claim["spec"]["resources"]["requests"]["storage"] == str(3 * 2**30)
        assert claim["spec"]["dataSource"]["name"] == "becalm-r1"

    def test_a_passing_complaint_is_waited_out(self) -> None:
        """Drivers try again by themselves."""
        cluster = a_cluster()
        clock = Ticking(
            plan=[
                (1, lambda: report(cluster, "becalm-r1", "becalm", error={"message": "busy"})),
                (20, lambda: report(cluster, "becalm-r1", "becalm", error=None, readyToUse=True)),
            ]
        )

        assert bound(cluster, clock).size_bytes == 2**30

    def test_a_complaint_that_stands_fails_long_before_the_time_is_over(self) -> None:
        """With the storage's words."""
        cluster = a_cluster()
        clock = Ticking(plan=[(1, lambda: report(cluster, "becalm-r1", "becalm", error={"message": "no such handle"}))])

        with pytest.raises(CutFailed, match="no such handle"):
            bound(cluster, clock)
        assert clock.monotonic() < 60
        assert not cluster.all("persistentvolumeclaims")

    def test_a_snapshot_that_never_becomes_readable_fails_in_time(self) -> None:
        """As long as was allowed."""
        clock = FakeClock()

        with pytest.raises(CutFailed, match="within 600 s"):
            bound(a_cluster(), clock)
        assert clock.monotonic() == pytest.approx(600, abs=0.1)

    def test_a_content_of_another_handle_is_not_adopted(self) -> None:
        """Nor one of another run: the data would be another's."""
        cluster = a_cluster()
        for change in ({"handle": "h-2"}, {"labels": owned_by("p", "r2", "export")}):
            clock = Ticking(plan=[(0, lambda: report(cluster, "becalm-r1", "becalm", readyToUse=True))])
            if not cluster.all("volumesnapshotcontents"):
                bound(cluster, clock)
            with pytest.raises(AlreadyExists):
                bound(cluster, clock, **change)

    def test_a_cut_without_a_handle_cannot_be_read(self) -> None:
        """Nothing is made of it."""
        cluster = a_cluster()

        with pytest.raises(CutFailed, match="no handle"):
            bound(cluster, FakeClock(), handle="")
        assert not cluster.all("volumesnapshotcontents")


class TestDiscard:
    """The end of what a run made."""

    def test_only_the_run_itself_is_ended(self) -> None:
        """Look-alikes stay: other runs, and objects of others that carry half of the labels."""
        cluster, clock = a_cluster(), FakeClock()
        for name, labels in {"mine": owned_by("p", "r1", "x"), "other": owned_by("p", "r2", "x"), "half": {"becalm.dev/run": "r1"}}.items():
            for kind in ("Pod", "PersistentVolumeClaim"):
                cluster.put(
                    {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "becalm", "labels": labels}, "spec": {}}
                )
        left = discard(cluster, clock, run="r1", namespace="becalm", application_namespaces=["shop"])

        assert left == ()
        for resource in ("pods", "persistentvolumeclaims"):
            assert [item["metadata"]["name"] for item in cluster.all(resource)] == ["half", "other"]

    def test_what_does_not_go_in_time_is_named(self) -> None:
        """The next sweep finds it again."""
        cluster, clock = a_cluster(), FakeClock()
        metadata = {
            "name": "held",
            "namespace": "becalm",
            "labels": owned_by("p", "r1", "x"),
            "finalizers": ["kubernetes.io/pvc-protection"],
        }
        cluster.put({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": {}})
        left = discard(cluster, clock, run="r1", namespace="becalm", timeout_seconds=5)

        assert left == (ResourceRef(group="", resource="persistentvolumeclaims", namespace="becalm", name="held"),)
        assert clock.monotonic() == pytest.approx(5, abs=0.1)

    def test_a_cut_that_its_class_would_retain_goes_from_the_storage_too(self) -> None:
        """Its content is told to delete it; the content of someone else's snapshot is not touched."""
        cluster, clock = a_cluster(), FakeClock()
        asked(cluster, clock)
        content_of(cluster, policy="Retain")
        stranger = {"driver": "disk", "deletionPolicy": "Retain", "volumeSnapshotRef": {"name": "x", "namespace": "shop", "uid": "u"}}
        cluster.put(
            {"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent", "metadata": {"name": "theirs"}, "spec": stranger}
        )
        discard(cluster, clock, run="r1", namespace="becalm")
        policies = {item["metadata"]["name"]: item["spec"]["deletionPolicy"] for item in cluster.all("volumesnapshotcontents")}

        assert policies == {"content-cut": "Delete", "theirs": "Retain"}
        assert not cluster.all("volumesnapshots")

    def test_a_cut_that_would_leak_in_the_storage_stays_and_is_named(self) -> None:
        """Without the right to change its content, the snapshot is the only trace of it."""
        cluster, clock = a_cluster(), FakeClock()
        asked(cluster, clock)
        content_of(cluster, policy="Retain")
        cluster.fail(AccessDenied("no"), verb="merge")
        left = discard(cluster, clock, run="r1", namespace="becalm", timeout_seconds=1)

        assert [ref.name for ref in left] == ["cut"]

    def test_a_run_needs_a_key(self) -> None:
        """An empty one would match more than it means."""
        with pytest.raises(ValueError, match="all runs"):
            discard(a_cluster(), FakeClock(), run="", namespace="becalm")


@pytest.mark.parametrize(
    ("text", "size"),
    [("1Gi", 2**30), ("5G", 5 * 10**9), ("1024", 1024), ("1.5Ki", 1536), ("100k", 100_000), (None, 0), ("", 0), ("much", 0)],
)
def test_quantities_are_bytes(text: str | None, size: int) -> None:
    """As Kubernetes writes them."""
    assert quantity(text) == size
