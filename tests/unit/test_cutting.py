"""After the thaw: cuts that their class retains are let go, and failures are explained."""

from __future__ import annotations

import pytest

from becalm.actions import cutting
from becalm.actions.cutting import Cutting
from becalm.actions.handover import Cut, Ports, Settings, VolumeCut, VolumePlan
from becalm.errors import AccessDenied, NotFound
from becalm.kube.kinds import CLAIM, SNAPSHOT_CONTENT
from becalm.model import VolumeRef, VolumeUse
from becalm.testing.fake_clock import NOON, FakeClock
from becalm.testing.fake_cluster import FakeCluster
from becalm.testing.memory_store import MemoryStore
from becalm.testing.objects import a_claim, a_namespace, an_object


@pytest.fixture
def cluster() -> FakeCluster:
    """A claim, and the retained content of its cut."""
    made = FakeCluster()
    content = an_object("snapshot.storage.k8s.io/v1", "VolumeSnapshotContent", "kept", spec={"deletionPolicy": "Retain"})
    made.put(a_namespace("shop"), a_claim("data"), content)
    return made


def settled(cluster: FakeCluster, *volumes: VolumeCut, retained: tuple[str, ...] = ()) -> Cut:
    ports = Ports(cluster=cluster, store=MemoryStore(), password="x", clock=FakeClock(), settings=Settings(cluster_name="test"))
    cut = Cut(application="shop", began=NOON, ended=NOON, revision="7", volumes=volumes)
    return cutting.settle(Cutting(cut=cut, retained=retained), ports).cut


def a_failure(claim: str) -> VolumeCut:
    return VolumeCut(plan=VolumePlan(volume=VolumeRef(namespace="shop", claim=claim), use=VolumeUse.SNAPSHOT), error="the storage's words")


def test_a_retained_cut_goes_with_its_snapshot(cluster: FakeCluster) -> None:
    """Whoever deletes that: also where the namespace of the application is deleted."""
    cut = settled(cluster, retained=("kept",))

    assert [item["spec"]["deletionPolicy"] for item in cluster.all("volumesnapshotcontents")] == ["Delete"]
    assert cut.notes == ()


@pytest.mark.parametrize("error", [AccessDenied("not for you"), NotFound("it is gone")])
def test_a_retained_cut_that_cannot_be_let_go_is_noted(cluster: FakeCluster, error: Exception) -> None:
    """It costs no backup."""
    cluster.fail(error, verb="merge", kind=str(SNAPSHOT_CONTENT))  # type: ignore[arg-type]

    assert settled(cluster, retained=("kept",)).notes == (f"kept stays in the storage when its snapshot goes, as its class says: {error}",)


def test_a_claim_that_vanished_is_said_to_have_vanished(cluster: FakeCluster) -> None:
    """The storage's own words stand beside it; where nobody may look, they stand alone."""
    told = [item.error for item in settled(cluster, a_failure("data"), a_failure("gone")).volumes]
    cluster.fail(AccessDenied("not for you"), verb="list", kind=str(CLAIM))
    blind = [item.error for item in settled(cluster, a_failure("gone")).volumes]

    assert told == ["the storage's words", "the claim was deleted after it was discovered (the storage's words)"]
    assert blind == ["the storage's words"]
