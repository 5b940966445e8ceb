"""The mover's pod: its description, and what its state means."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from becalm.errors import AlreadyExists, MoverFailed
from becalm.kube.base import LABEL_RUN, MoverState
from becalm.kube.kinds import POD
from becalm.kube.pods import PodMover, mover_pod
from becalm.model import Direction, MoverResult, MoverSpec, VolumeMode, VolumeRef, from_payload, payload
from becalm.testing.fake_clock import FakeClock
from becalm.testing.fake_cluster import FakeCluster

SPEC = MoverSpec(
    name="becalm-r1-data",
    run="r1",
    direction=Direction.BACK_UP,
    volume=VolumeRef(namespace="shop", claim="data"),
    namespace="becalm",
    claim="becalm-r1",
    repository="s3://backups/shop",
    secret="becalm-r1",
)


def a_mover(cluster: FakeCluster, clock: FakeClock, **options: Any) -> PodMover:
    return PodMover(cluster, clock, image="becalm/mover", policy="shop", **options)


def a_cluster() -> FakeCluster:
    cluster = FakeCluster()
    cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "becalm"}})
    cluster.on_write("pods", lambda pod: pod["metadata"].setdefault("creationTimestamp", "2026-03-14T12:00:00Z"))
    return cluster


def put(cluster: FakeCluster, phase: str, *, state: dict[str, Any] | None = None, **status: Any) -> None:
    """Do as the kubelet does: write the pod's status."""
    pod = mover_pod(SPEC, image="i", policy="shop")
    pod["metadata"] |= {"creationTimestamp": "2026-03-14T12:00:00Z", "uid": "u1"}
    statuses = [{"name": "mover", "state": state}] if state else []
    cluster.put({**pod, "status": {"phase": phase, "containerStatuses": statuses, **status}})


def environment(pod: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in pod["spec"]["containers"][0]["env"]}


class TestDescription:
    """`mover_pod`."""

    def test_the_spec_travels_in_the_environment_and_no_secret_does(self) -> None:
        """Kubernetes would expand `$(NAME)` in it: that is escaped."""
        spec = replace(SPEC, volume=VolumeRef(namespace="shop", claim="a$(HOME)"))
        text = environment(mover_pod(spec, image="i", policy="shop"))["BECALM_MOVER_SPEC"]

        assert "$(HOME)" not in text.replace("$$(HOME)", "")
        assert from_payload(MoverSpec, json.loads(text.replace("$$(", "$("))) == spec

    def test_a_backup_may_read_everything_and_write_nothing(self) -> None:
        """One capability, a read-only mount, no token, no way to more."""
        pod = mover_pod(SPEC, image="i", policy="shop")
        container = pod["spec"]["containers"][0]

        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["DAC_READ_SEARCH"]}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert pod["spec"]["volumes"][0]["persistentVolumeClaim"] == {"claimName": "becalm-r1", "readOnly": True}
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["restartPolicy"] == "Never"
        assert "fsGroup" not in pod["spec"]["securityContext"]
        assert pod["metadata"]["labels"][LABEL_RUN] == "r1"

    def test_a_restore_may_give_files_to_their_owners(self) -> None:
        """And mounts its claim for writing."""
        pod = mover_pod(replace(SPEC, direction=Direction.RESTORE), image="i", policy="shop")
        added = pod["spec"]["containers"][0]["securityContext"]["capabilities"]["add"]

        assert {"CHOWN", "FOWNER", "MKNOD", "SETFCAP"} <= set(added)
        assert pod["spec"]["volumes"][0]["persistentVolumeClaim"]["readOnly"] is False

    def test_a_block_volume_is_a_device(self) -> None:
        """Not a folder, and the mover is told its path."""
        pod = mover_pod(replace(SPEC, mode=VolumeMode.BLOCK), image="i", policy="shop")
        container = pod["spec"]["containers"][0]

        assert container["volumeDevices"] == [{"name": "volume", "devicePath": "/dev/volume"}]
        assert "/volume" not in [mount["mountPath"] for mount in container["volumeMounts"]]
        assert environment(pod)["BECALM_VOLUME"] == "/dev/volume"

    def test_a_node_is_asked_of_the_scheduler(self) -> None:
        """So that a claim that waits for its consumer is bound; taints do not keep a mover from the volume."""
        spec = mover_pod(replace(SPEC, node="n7"), image="i", policy="shop")["spec"]
        (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]

        assert "nodeName" not in spec
        assert term["matchFields"] == [{"key": "metadata.name", "operator": "In", "values": ["n7"]}]
        assert spec["tolerations"] == [{"operator": "Exists"}]


class TestStart:
    """Started once, however often."""

    def test_a_second_start_adopts_the_first(self) -> None:
        """One that runs or is done is not replaced."""
        cluster, clock = a_cluster(), FakeClock()
        handles = {a_mover(cluster, clock).start(SPEC) for _ in range(2)}

        assert handles == {SPEC.name}
        assert len(cluster.all("pods")) == 1

    def test_a_failed_pod_makes_room_for_a_new_one(self) -> None:
        """The task is tried again, so the mover is."""
        cluster, clock = a_cluster(), FakeClock()
        put(cluster, "Failed")
        a_mover(cluster, clock).start(SPEC)
        (pod,) = cluster.all("pods")

        assert pod["metadata"]["uid"] != "u1"

    def test_a_pod_that_does_not_go_away_ends_the_start(self) -> None:
        """With an error, after a while."""
        cluster, clock = a_cluster(), FakeClock()
        put(cluster, "Failed")
        found = cluster.get(POD, SPEC.name, namespace="becalm")
        cluster.put({**found, "metadata": {**found["metadata"], "finalizers": ["x"]}})

        with pytest.raises(MoverFailed, match="does not go away"):
            a_mover(cluster, clock).start(SPEC)
        assert clock.monotonic() < 60

    def test_a_pod_of_another_run_is_left_alone(self) -> None:
        """Even where the name is the same."""
        cluster, clock = a_cluster(), FakeClock()
        put(cluster, "Failed")

        with pytest.raises(AlreadyExists):
            a_mover(cluster, clock).start(replace(SPEC, run="r2"))
        assert cluster.all("pods")[0]["metadata"]["uid"] == "u1"


class TestPoll:
    """Where it is, and why."""

    @pytest.mark.parametrize(
        ("phase", "status", "state", "reason"),
        [
            ("Pending", {}, MoverState.WAITING, "not scheduled yet"),
            (
                "Pending",
                {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]},
                MoverState.WAITING,
                "Unschedulable: 0/1 nodes",
            ),
            (
                "Pending",
                {"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}},
                MoverState.WAITING,
                "ErrImagePull: no such image",
            ),
            ("Pending", {"state": {"waiting": {"reason": "InvalidImageName"}}}, MoverState.WAITING, "InvalidImageName"),
            ("Succeeded", {"state": {"terminated": {"exitCode": 0}}}, MoverState.SUCCEEDED, ""),
            (
                "Failed",
                {"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}},
                MoverState.FAILED,
                "OOMKilled: the mover needed more memory than 1Gi",
            ),
            (
                "Failed",
                {"state": {"terminated": {"exitCode": 6, "message": "lost the store"}}},
                MoverState.FAILED,
                "exit code 6: lost the store",
            ),
            ("Failed", {"reason": "Evicted", "message": "disk pressure"}, MoverState.FAILED, "Evicted: disk pressure"),
        ],
    )
    def test_a_state_has_its_reason(self, phase: str, status: dict[str, Any], state: MoverState, reason: str) -> None:
        """In the words of who knows it."""
        cluster = a_cluster()
        put(cluster, phase, **status)
        seen = a_mover(cluster, FakeClock()).poll(SPEC.name, namespace="becalm")

        assert (seen.state, seen.reason) == (state, reason)

    def test_what_cannot_start_fails_after_a_moment(self) -> None:
        """And what does not start in its time, whatever it waits for."""
        cluster, clock = a_cluster(), FakeClock()
        put(cluster, "Pending", state={"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "x" not found'}})
        mover = a_mover(cluster, clock, start_timeout_seconds=100)
        clock.advance(31)
        hopeless = mover.poll(SPEC.name, namespace="becalm")
        put(cluster, "Pending", state={"waiting": {"reason": "ImagePullBackOff"}})
        waiting = mover.poll(SPEC.name, namespace="becalm")
        clock.advance(70)
        late = mover.poll(SPEC.name, namespace="becalm")

        assert [seen.state for seen in (hopeless, waiting, late)] == [MoverState.FAILED, MoverState.WAITING, MoverState.FAILED]
        assert late.reason == "it did not start within 100 s: ImagePullBackOff"

    def test_a_volume_that_does_not_mount_stands_in_the_events(self) -> None:
        """The pod itself only says that its container is being created."""
        cluster = a_cluster()
        put(cluster, "Pending", state={"waiting": {"reason": "ContainerCreating"}})
        event = {"involvedObject": {"uid": "u1"}, "type": "Warning", "reason": "FailedMount", "message": "no such handle"}
        cluster.put({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "becalm"}, **event})

        assert a_mover(cluster, FakeClock()).poll(SPEC.name, namespace="becalm").reason == "FailedMount: no such handle"

    def test_a_volume_that_cannot_be_made_stands_in_the_events_of_its_claim(self) -> None:
        """The pod says nothing at all, and another claim's trouble is not its own."""
        cluster = a_cluster()
        put(cluster, "Pending")
        for name, claim in (("other", "else"), ("mine", SPEC.claim)):
            about = {"kind": "PersistentVolumeClaim", "name": claim}
            event = {"involvedObject": about, "type": "Warning", "reason": "ProvisioningFailed", "message": f"no room for {claim}"}
            cluster.put({"apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "becalm"}, **event})

        reason = a_mover(cluster, FakeClock()).poll(SPEC.name, namespace="becalm").reason
        assert reason == f"ProvisioningFailed: no room for {SPEC.claim}"

    def test_progress_is_the_last_line_that_tells_of_it(self) -> None:
        """Read anew only after some seconds: a log is read whole."""
        cluster, clock = a_cluster(), FakeClock()
        put(cluster, "Running")
        mover = a_mover(cluster, clock)
        lines = cluster.log_lines["becalm", SPEC.name] = [b'{"progress": {"files": 3, "bytes": 9}}', b"[1]", b"a word", b'{"other": 1}']
        seen = [mover.poll(SPEC.name, namespace="becalm").progress]
        lines.append(b'{"progress": {"files": 4}}')
        seen.append(mover.poll(SPEC.name, namespace="becalm").progress)
        clock.advance(6)
        seen.append(mover.poll(SPEC.name, namespace="becalm").progress)

        assert seen == ["files 3, bytes 9", "files 3, bytes 9", "files 4"]

    def test_a_pod_that_is_gone_is_gone(self) -> None:
        """A normal answer, to every question."""
        cluster, clock = a_cluster(), FakeClock()
        mover = a_mover(cluster, clock)
        mover.cancel(SPEC.name, namespace="becalm")

        assert mover.poll(SPEC.name, namespace="becalm").state is MoverState.GONE
        assert mover.result(SPEC.name, namespace="becalm") is None


class TestEnd:
    """The last word, and the end."""

    def test_the_result_is_the_termination_message(self) -> None:
        """Nothing where it is none; a failed mover's error is its reason."""
        cluster = a_cluster()
        result = MoverResult(name=SPEC.name, run="r1", volume=SPEC.volume, error="lease-lost: another run works")
        put(cluster, "Failed", state={"terminated": {"exitCode": 4, "message": json.dumps(payload(result))}})
        mover = a_mover(cluster, FakeClock())
        read, reason = mover.result(SPEC.name, namespace="becalm"), mover.poll(SPEC.name, namespace="becalm").reason
        put(cluster, "Failed", state={"terminated": {"exitCode": 1, "message": "Traceback"}})

        assert (read, reason) == (result, result.error)
        assert mover.result(SPEC.name, namespace="becalm") is None

    def test_the_log_is_kept_before_the_pod_goes(self) -> None:
        """And the pod is gone when cancel returns."""
        cluster = a_cluster()
        put(cluster, "Running")
        cluster.log_lines["becalm", SPEC.name] = [b"one", b"two"]
        kept: dict[str, list[bytes]] = {}
        a_mover(cluster, FakeClock(), keep_log=kept.__setitem__).cancel(SPEC.name, namespace="becalm")

        assert kept == {SPEC.name: [b"one", b"two"]}
        assert not cluster.all("pods")
