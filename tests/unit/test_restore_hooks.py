"""Hooks after a restore: only where the request lets them, once, in ready containers, also after a kill; what fails is said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from becalm.actions import restore, restore_hooks
from becalm.actions.handover import Ports, Settings
from becalm.actions.restore import RestoreReport, RestoreRequest
from becalm.actions.restore_hooks import RestoreHook, hook_of
from becalm.kube.base import ExecResult
from becalm.model import Finding, Severity
from becalm.testing.fake_clock import FakeClock
from becalm.testing.fake_cluster import DEFAULT_KINDS, FakeCluster
from becalm.testing.manifests import a_map, a_namespace, a_storage_class, an_object
from becalm.testing.memory_store import MemoryStore
from becalm.testing.saved_points import PASSWORD, save_point

VELERO = "post.hook.restore.velero.io/"
OWN = "restore.becalm.dev/"


def a_pod(name: str = "db-0", *, ready: bool = True, **annotations: str) -> dict:
    """A pod that runs, with annotations given as `own_command`, `velero_command`."""
    keys = {key.replace("own_", OWN).replace("velero_", VELERO).replace("_", "-"): value for key, value in annotations.items()}
    status = {"phase": "Running", "containerStatuses": [{"name": "main", "ready": ready, "state": {"running": {}}}]}
    return an_object(
        "v1", "Pod", name, metadata={"annotations": keys}, spec={"containers": [{"name": "main"}, {"name": "side"}]}, status=status
    )


class Scene:
    """A point with a ConfigMap, and a cluster in which a pod waits with its hook."""

    def __init__(self, *pods: dict, hook_namespaces: tuple[str, ...] = ("shop",)) -> None:
        self.cluster, self.clock = FakeCluster(kinds=list(DEFAULT_KINDS)), FakeClock()
        self.store = MemoryStore(clock=self.clock)
        self.cluster.put(a_storage_class(), a_namespace(), *pods)
        self.ran: list[tuple[str, str, tuple[str, ...]]] = []
        self.exit_code = 0
        self.cluster.run_command = self._run
        self.request = RestoreRequest(policy="shop", hook_namespaces=hook_namespaces)
        save_point(self.store, (a_namespace(), a_map()), kinds=DEFAULT_KINDS)

    def _run(self, namespace: str, pod: str, *, container: str, command: object, **_: object) -> ExecResult:
        self.ran.append((f"{namespace}/{pod}", container, tuple(command)))
        return ExecResult(stdout=b"", stderr=b"no such table", exit_code=self.exit_code)

    @property
    def ports(self) -> Ports:
        """The outer world."""
        return Ports(cluster=self.cluster, store=self.store, password=PASSWORD, clock=self.clock, settings=Settings(cluster_name="t"))

    def restore(self) -> RestoreReport:
        """Plan, and carry out."""
        return restore.execute(restore.prepare(self.request, self.ports), self.request, self.ports)


def test_a_hook_runs_once_after_everything_is_there() -> None:
    """The second restore changes nothing, and runs nothing."""
    scene = Scene(a_pod(own_command='["migrate", "--all"]', own_container="side"), a_pod("web"))
    scene.cluster.put(
        scene.cluster.all("pods")[0] | {"status": {"phase": "Running", "containerStatuses": [_ready("main"), _ready("side")]}}
    )
    first, second = scene.restore(), scene.restore()

    assert (first.failures, second.failures) == ((), ())
    assert scene.ran == [("shop/db-0", "side", ("migrate", "--all"))]


def _ready(name: str) -> dict:
    return {"name": name, "ready": True, "state": {"running": {}}}


def test_pods_of_a_namespace_that_is_not_named_command_nothing() -> None:
    """Who can label a pod must not thereby command the operator."""
    scene = Scene(a_pod(own_command="migrate"), hook_namespaces=())
    other = Scene(a_pod(own_command="migrate"), hook_namespaces=("shop-*",))

    assert scene.restore().ok
    assert other.restore().ok
    assert scene.ran == other.ran == []


def test_a_restore_that_was_killed_before_its_hooks_makes_up_for_them() -> None:
    """All objects are there, and the next execution has nothing to do but this."""
    scene = Scene(a_pod(own_command="migrate"))

    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> ExecResult:
        raise Killed

    scene.cluster.run_command = die
    with pytest.raises(Killed):
        scene.restore()
    scene.cluster.run_command = scene._run
    plan = restore.prepare(scene.request, scene.ports)

    assert plan.changes_nothing
    assert restore.execute(plan, scene.request, scene.ports).ok
    assert len(scene.ran) == 1


@pytest.mark.parametrize(("on_error", "severity"), [("Fail", Severity.ERROR), ("Continue", Severity.WARNING)])
def test_what_a_hook_says_when_it_fails_is_in_the_report(on_error: str, severity: Severity) -> None:
    """With its exit code and its last words."""
    scene = Scene(a_pod(velero_command="migrate", velero_on_error=on_error))
    scene.exit_code = 3
    report = scene.restore()
    (finding,) = (*report.failures, *report.remarks)

    assert report.ok is (on_error == "Continue")
    assert (finding.where, finding.severity) == ("pods/shop/db-0 (main)", severity)
    assert finding.message == "its restore hook failed: exit code 3: no such table"


def test_a_container_that_does_not_become_ready_is_waited_for_and_then_named() -> None:
    """For the time that the annotation says."""
    scene = Scene(a_pod(ready=False, own_command="migrate", own_wait="40s"))
    (finding,) = scene.restore().failures

    assert "was not ready within 40 s" in finding.message
    assert scene.ran == []


def test_veleros_annotations_are_understood() -> None:
    """With its own defaults: a hook that fails is no failure, and a container need only run."""
    (hook,) = hook_of(a_pod(velero_command='["/bin/sh", "-c", "x"]', velero_exec_timeout="1m30s", velero_wait_timeout="5m"))

    assert hook == RestoreHook(
        namespace="shop",
        pod="db-0",
        container="main",
        command=("/bin/sh", "-c", "x"),
        timeout_seconds=90,
        wait_seconds=300,
        ready=False,
        must=False,
    )
    (ready,) = hook_of(a_pod(velero_command="x", velero_wait_for_ready="true"))
    assert isinstance(ready, RestoreHook)
    assert ready.ready


@pytest.mark.parametrize(
    ("annotations", "told"),
    [
        ({"own_command": "[1]"}, "neither a program nor a JSON array of strings"),
        ({"own_container": "main"}, "neither a program nor a JSON array of strings"),
        ({"own_command": "x", "own_container": "none"}, "is none of main, side"),
        ({"own_command": "x", "own_timeout": "soon"}, "is not a time of at least one second"),
        ({"own_command": "x", "own_comand": "y"}, "is not known"),
        ({"velero_command": "x", "velero_on_error": "Maybe"}, "neither Fail nor Continue"),
    ],
)
def test_what_is_mistyped_is_a_failure_and_never_silence(annotations: dict[str, str], told: str) -> None:
    """Half a hook is none."""
    (finding,) = hook_of(a_pod(**annotations))

    assert isinstance(finding, Finding)
    assert told in finding.message


def test_an_init_container_that_is_asked_for_is_named() -> None:
    """It is not added, and that is not hidden."""
    pod = a_pod()
    pod["metadata"]["annotations"] = {"init.hook.restore.velero.io/container-image": "x"}
    (finding,) = hook_of(pod)

    assert "is not added: write it into the pod's template" in str(finding)


def test_workloads_that_are_not_ready_in_time_are_failures() -> None:
    """The verdict comes from readiness, where a time for it was asked for."""
    scene = Scene(a_pod(ready=False), hook_namespaces=())
    scene.request = scene.request.model_copy(update={"wait_seconds": 20.0})
    report = scene.restore()

    assert [finding.where for finding in report.failures] == ["pods/shop/db-0"]
    assert replace(report, failures=()).ok
    assert not restore_hooks.owed(report.run, scene.ports)
