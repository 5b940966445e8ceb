"""The status of a pod, from what its containers do. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.sandbox.times import stamp

if TYPE_CHECKING:
    from becalm.model import Manifest
    from becalm.sandbox.pod import PodRunner

_ADDRESS = "127.0.0.1"


def status_of(runner: PodRunner, pod: Manifest) -> Manifest:
    """Return the status that a pod has now."""
    ready = runner.phase == "Running" and all(container.ready for container in runner.containers)
    initialized = runner.phase != "Pending" or not runner.init_containers
    why = "" if ready else "PodCompleted" if runner.phase == "Succeeded" else "ContainersNotReady"
    status: Manifest = {
        "phase": runner.phase,
        "qosClass": "BestEffort",
        "hostIP": _ADDRESS,
        "hostIPs": [{"ip": _ADDRESS}],
        "podIP": _ADDRESS,
        "podIPs": [{"ip": _ADDRESS}],
        "startTime": runner.started_at,
        "conditions": _conditions(
            pod,
            {
                "PodReadyToStartContainers": (True, ""),
                "Initialized": (initialized, "" if initialized else "ContainersNotInitialized"),
                "Ready": (ready, why),
                "ContainersReady": (ready, why),
                "PodScheduled": (True, ""),
            },
        ),
        "containerStatuses": [container.status() for container in runner.containers],
    }
    if runner.init_containers:
        status["initContainerStatuses"] = [container.status() for container in runner.init_containers]
    if runner.reason:
        status |= {"reason": runner.reason, "message": runner.message}
    return status


def _conditions(pod: Manifest, wanted: dict[str, tuple[bool, str]]) -> list[Manifest]:
    before = {condition["type"]: condition for condition in (pod.get("status") or {}).get("conditions") or ()}
    conditions = []
    for kind, (true, reason) in wanted.items():
        status = "True" if true else "False"
        old = before.get(kind, {})
        since = old["lastTransitionTime"] if old.get("status") == status else stamp()
        condition = {"type": kind, "status": status, "lastProbeTime": None, "lastTransitionTime": since}
        if reason:
            condition["reason"] = reason
        conditions.append(condition)
    return conditions


def restarted_away(pod: Manifest) -> None:
    """Mark a pod that ran when the sandbox ended, and is not to run twice, as failed."""
    for status in pod["status"].get("containerStatuses") or ():
        if "terminated" not in status["state"]:
            status |= {
                "state": {"terminated": {"exitCode": 137, "reason": "Error", "finishedAt": stamp(), "message": "the sandbox ended"}},
                "ready": False,
                "started": False,
            }
    pod["status"]["phase"] = "Failed"
