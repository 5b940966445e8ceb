"""The contract of a cluster, of volumes: claims, files that outlive pods, and cuts that are bound, read and discarded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from becalm.errors import CutFailed
from becalm.kube.base import LABEL_RUN, owned_by
from becalm.kube.kinds import CLAIM, NAMESPACE, POD, SNAPSHOT, SNAPSHOT_CONTENT, VOLUME
from becalm.kube.snapshots import Bound, SnapshotFacts, await_cuts, bind, cut, discard, start_cut
from becalm.model import VolumeMode, VolumeRef
from becalm.testing.contracts.cluster_subject import STAY, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE_BYTES = 32 * 2**20


def phase(subject: Subject, namespace: str, claim: str) -> str:
    """Return a claim's phase."""
    return str(subject.cluster.get(CLAIM, claim, namespace=namespace).get("status", {}).get("phase", "Pending"))


def a_filled_volume(subject: Subject, namespace: str) -> VolumeRef:
    """Make a claim `data` with a pod `p` that mounts it, holding a file that says `before`."""
    subject.claim(namespace, "data")
    subject.pod(namespace, "p", STAY, claim="data")
    subject.running(namespace, "p")
    subject.shell(namespace, "p", "echo before > /data/word; sync")
    return VolumeRef(namespace=namespace, claim="data")


def take(subject: Subject, volume: VolumeRef, run: str, *, name: str = "cut", seconds: float = 30) -> SnapshotFacts:
    """Cut a volume."""
    return cut(
        subject.cluster,
        subject.clock,
        volume=volume,
        snapshot_class=subject.snapshot_class,
        name=name,
        labels=owned_by("contract", run, "cut"),
        timeout_seconds=seconds,
    )


def make_readable(subject: Subject, facts: SnapshotFacts, run: str, namespace: str) -> Bound:
    """Bind a cut into another namespace, under a name of the run."""
    return bind(
        subject.cluster,
        subject.clock,
        volume=facts.volume,
        handle=facts.handle,
        driver=facts.driver,
        snapshot_class=facts.snapshot_class,
        storage_class=subject.storage_class,
        mode=VolumeMode.FILESYSTEM,
        size_bytes=SIZE_BYTES,
        namespace=namespace,
        name=f"becalm-{run}",
        labels=owned_by("contract", run, "export"),
        timeout_seconds=60,
    )


def word_in(subject: Subject, namespace: str, claim: str, pod: str = "reader") -> bytes:
    """Mount a claim in a new pod and return what its file says."""
    subject.pod(namespace, pod, "cat /data/word", claim=claim)
    subject.in_phase(namespace, pod, "Succeeded")
    return b"\n".join(subject.cluster.logs(namespace, pod))


class VolumeContract:
    """Claims and their files."""

    def test_a_claim_that_waits_for_a_consumer_is_bound_by_a_pod(self, subject: Subject, namespace: str) -> None:
        """Not before; and the volume says by which driver and handle it is held."""
        subject.claim(namespace, "data")
        subject.clock.sleep(1)
        before = phase(subject, namespace, "data")
        subject.pod(namespace, "p", claim="data")
        subject.running(namespace, "p")
        claim = subject.cluster.get(CLAIM, "data", namespace=namespace)
        volume = subject.cluster.get(VOLUME, claim["spec"]["volumeName"])

        assert (before, claim["status"]["phase"]) == ("Pending", "Bound")
        assert volume["spec"]["claimRef"]["uid"] == claim["metadata"]["uid"]
        assert {"driver", "volumeHandle"} <= volume["spec"]["csi"].keys()

    def test_a_claim_of_an_immediate_class_is_bound_by_itself(self, subject: Subject, namespace: str) -> None:
        """No pod is needed."""
        subject.claim(namespace, "data", storage_class=subject.immediate_class)

        assert subject.eventually(lambda: phase(subject, namespace, "data") == "Bound")

    def test_files_outlive_the_pod_that_wrote_them(self, subject: Subject, namespace: str) -> None:
        """The next pod that mounts the claim finds them."""
        a_filled_volume(subject, namespace)
        subject.cluster.delete(POD, "p", namespace=namespace, grace_seconds=0)
        subject.eventually(lambda: subject.is_gone(POD, "p", namespace))

        assert word_in(subject, namespace, "data") == b"before"

    def test_a_claim_in_use_stays_until_its_pod_is_gone(self, subject: Subject, namespace: str) -> None:
        """And then takes its volume along."""
        a_filled_volume(subject, namespace)
        volume = subject.cluster.get(CLAIM, "data", namespace=namespace)["spec"]["volumeName"]
        subject.cluster.delete(CLAIM, "data", namespace=namespace)
        held = subject.cluster.get(CLAIM, "data", namespace=namespace)
        subject.cluster.delete(POD, "p", namespace=namespace, grace_seconds=0)

        assert held["metadata"]["deletionTimestamp"]
        assert subject.eventually(lambda: subject.is_gone(CLAIM, "data", namespace))
        assert subject.eventually(lambda: subject.is_gone(VOLUME, volume))


class CutContract:
    """Snapshots: cut, bound elsewhere, read, discarded."""

    @pytest.fixture
    def elsewhere(self, subject: Subject) -> Iterator[str]:
        """A second namespace, such as Becalm's own."""
        name = subject.new_namespace()
        yield name
        subject.cluster.delete(POD, "reader", namespace=name, grace_seconds=0)
        subject.cluster.delete(NAMESPACE, name)

    @pytest.fixture
    def run(self, subject: Subject, namespace: str, elsewhere: str) -> Iterator[str]:
        """A run of its own; what it leaves is discarded."""
        key = namespace.rpartition("-")[2]
        yield key
        subject.cluster.delete(POD, "reader", namespace=elsewhere, grace_seconds=0)
        discard(subject.cluster, subject.clock, run=key, namespace=elsewhere, application_namespaces=[namespace])

    def test_a_cut_is_reported_before_it_can_be_read(self, subject: Subject, namespace: str, run: str) -> None:
        """The instant is known, and so an application thaws, while the storage is still busy."""
        volume = a_filled_volume(subject, namespace)
        subject.storage_faults({"ready_seconds": 6})
        try:
            facts = take(subject, volume, run)
            at_once = subject.cluster.get(SNAPSHOT, "cut", namespace=namespace)["status"]
        finally:
            subject.storage_faults({})

        assert facts.created is not None
        assert abs((facts.created - subject.clock.now()).total_seconds()) < 60
        assert facts.handle
        assert facts.driver
        assert at_once.get("readyToUse") is not True
        assert subject.eventually(lambda: subject.cluster.get(SNAPSHOT, "cut", namespace=namespace)["status"].get("readyToUse") is True)

    def test_a_cut_is_read_in_another_namespace(self, subject: Subject, namespace: str, elsewhere: str, run: str) -> None:
        """It holds what was written before it and nothing after, and the application's volume goes on."""
        volume = a_filled_volume(subject, namespace)
        facts = take(subject, volume, run)
        subject.shell(namespace, "p", "echo after > /data/word; sync")
        bound = make_readable(subject, facts, run, elsewhere)

        assert word_in(subject, elsewhere, bound.claim) == b"before"
        assert subject.shell(namespace, "p", "cat /data/word") == b"after\n"
        assert bound.size_bytes >= SIZE_BYTES

    def test_cutting_and_binding_again_adopts_what_is_there(self, subject: Subject, namespace: str, elsewhere: str, run: str) -> None:
        """A task that is run twice makes nothing twice, and says that the cut is an older one."""
        volume = a_filled_volume(subject, namespace)
        first, second = take(subject, volume, run), take(subject, volume, run)
        bounds = [make_readable(subject, facts, run, elsewhere) for facts in (first, second)]
        labels = f"{LABEL_RUN}={run}"

        assert (first.uid, first.created, first.handle) == (second.uid, second.created, second.handle)
        assert (first.adopted, second.adopted) == (False, True)
        assert bounds[0] == bounds[1]
        assert len(list(subject.cluster.list(SNAPSHOT, labels=labels))) == 2
        assert len(list(subject.cluster.list(CLAIM, labels=labels))) == 1

    def test_ending_what_was_bound_leaves_the_cut(self, subject: Subject, namespace: str, elsewhere: str, run: str) -> None:
        """The content is retained: the same handle can be bound again, and the application's snapshot is untouched."""
        volume = a_filled_volume(subject, namespace)
        facts = take(subject, volume, run)
        first = make_readable(subject, facts, run, elsewhere)
        left = discard(subject.cluster, subject.clock, run=run, namespace=elsewhere, application_namespaces=[])
        still = subject.cluster.get(SNAPSHOT, "cut", namespace=namespace)["status"]
        again = make_readable(subject, facts, run, elsewhere)

        assert left == ()
        assert still["readyToUse"] is True
        assert again == first
        assert word_in(subject, elsewhere, again.claim) == b"before"

    def test_discarding_ends_all_of_a_run_and_nothing_else(self, subject: Subject, namespace: str, elsewhere: str, run: str) -> None:
        """Twice is as good as once; a snapshot of another run stays."""
        volume = a_filled_volume(subject, namespace)
        facts = take(subject, volume, run)
        other = take(subject, volume, f"{run}0", name="other")
        make_readable(subject, facts, run, elsewhere)
        lefts = [
            discard(subject.cluster, subject.clock, run=run, namespace=elsewhere, application_namespaces=[namespace]) for _ in range(2)
        ]
        kept = subject.cluster.get(SNAPSHOT, "other", namespace=namespace)
        contents = {item["metadata"]["name"] for item in subject.cluster.list(SNAPSHOT_CONTENT)}
        discard(subject.cluster, subject.clock, run=f"{run}0", namespace=elsewhere, application_namespaces=[namespace])

        assert lefts == [(), ()]
        assert subject.is_gone(SNAPSHOT, "cut", namespace)
        assert facts.content not in contents
        assert f"becalm-{run}" not in contents
        assert kept["metadata"]["uid"] == other.uid
        assert subject.shell(namespace, "p", "cat /data/word") == b"before\n"

    def test_several_volumes_are_cut_side_by_side(self, subject: Subject, namespace: str, run: str) -> None:
        """One that fails does not stop the others, and says why."""
        volume = a_filled_volume(subject, namespace)
        labels = owned_by("contract", run, "cut")
        started = [
            start_cut(
                subject.cluster,
                subject.clock,
                volume=VolumeRef(namespace=namespace, claim=claim),
                snapshot_class=subject.snapshot_class,
                name=f"cut-{claim}",
                labels=labels,
            )
            for claim in ("absent", "data")
        ]
        absent, data = await_cuts(subject.cluster, subject.clock, started, timeout_seconds=5)

        assert (absent.created, data.error) == (None, "")
        assert absent.error
        assert data.volume == volume
        assert data.created is not None

    def test_a_class_that_is_not_there_fails_the_cut(self, subject: Subject, namespace: str, run: str) -> None:
        """With the storage's reason, or at the end of its time."""
        volume = a_filled_volume(subject, namespace)
        labels = owned_by("contract", run, "cut")

        with pytest.raises(CutFailed):
            cut(
                subject.cluster,
                subject.clock,
                volume=volume,
                snapshot_class="absent",
                name="cut",
                labels=labels,
                timeout_seconds=4,
            )
