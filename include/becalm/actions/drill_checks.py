"""Looking at what a drill restored: is everything ready, do the policy's checks succeed, does its storage belong to it alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from becalm.actions import drill_rooms
from becalm.actions.drill_steps import Checked, CheckPlan, CheckResult
from becalm.actions.readiness import wait_ready
from becalm.errors import BecalmError, NotFound
from becalm.kube import exec as command_exec
from becalm.kube.kinds import POD
from becalm.kube.rules import child, children
from becalm.policy import globs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from becalm.actions.drill_steps import DrillPlan
    from becalm.actions.handover import Ports
    from becalm.model import Manifest
    from becalm.policy.spec import Drill


def plan(drill: Drill | None, rooms: Mapping[str, str]) -> tuple[CheckPlan, ...]:
    """Say where each check of a policy runs. Pure. The policy calls the namespaces as they were captured."""
    return tuple(
        CheckPlan(
            name=f"spec.drill.checks.{number}",
            namespaces=tuple(
                room
                for source, room in sorted(rooms.items())
                if not check.select.namespaces or any(globs.matches(pattern, source) for pattern in check.select.namespaces)
            ),
            labels=check.select.labels or "",
            pod=check.select.pod or "",
            container=check.container or "",
            command=check.command,
            timeout_seconds=check.timeout.total_seconds(),
        )
        for number, check in enumerate(drill.checks if drill else ())
    )


def left_seconds(decided: DrillPlan, ports: Ports) -> float:
    """Return how long the drill may still take."""
    return max(0.0, (decided.ends - ports.clock.now()).total_seconds())


def look(decided: DrillPlan, ports: Ports) -> Checked:
    """Wait until all is ready, then run the checks. What is wrong is in the result. Raises what the cluster raises."""
    began = ports.clock.monotonic()
    unready = wait_ready(sorted(decided.rooms.values()), ports, min(decided.ready_seconds, left_seconds(decided, ports)))
    waited = ports.clock.monotonic() - began
    results = tuple(result for check in decided.checks for result in _run(check, decided, ports))
    return Checked(
        ended=ports.clock.now(),
        ready_seconds=waited,
        unready=unready,
        checks=results,
        failures=drill_rooms.shared(frozenset(decided.rooms.values()), ports),
    )


def _run(check: CheckPlan, decided: DrillPlan, ports: Ports) -> Iterator[CheckResult]:
    """Run one check in every running pod that it means. That there is none is a failure."""
    ports.progress(f"check {check.name}: {check.command[0]}")
    found = False
    for namespace in check.namespaces:
        for pod in _pods(check, namespace, ports):
            found = True
            yield _run_in(pod, check, min(check.timeout_seconds, left_seconds(decided, ports)), ports)
    if not found:
        where = ", ".join(check.namespaces) or "no namespace of the recovery point"
        yield CheckResult(name=check.name, where=where, ok=False, reason=f"no running pod answers {check.labels or check.pod}")


def _run_in(pod: Manifest, check: CheckPlan, seconds: float, ports: Ports) -> CheckResult:
    metadata = pod["metadata"]
    containers = [str(one.get("name")) for one in children(pod, "spec", "containers")]
    began = ports.clock.monotonic()
    result = CheckResult(name=check.name, where=f"{metadata['namespace']}/{metadata['name']}", ok=False)
    if seconds <= 0:
        return replace(result, reason="the drill's time was over")
    try:
        outcome = command_exec.run(
            ports.cluster,
            ports.clock,
            namespace=metadata["namespace"],
            pod=metadata["name"],
            container=check.container or next(iter(containers), ""),
            command=check.command,
            timeout_seconds=seconds,
        )
    except BecalmError as error:
        return replace(result, reason=str(error), seconds=ports.clock.monotonic() - began)
    return replace(result, ok=outcome.done, reason=outcome.reason, seconds=ports.clock.monotonic() - began)


def _pods(check: CheckPlan, namespace: str, ports: Ports) -> list[Manifest]:
    """Return the running pods that a check means."""
    if check.pod:
        try:
            found = [ports.cluster.get(POD, check.pod, namespace=namespace)]
        except NotFound:
            found = []
    else:
        found = list(ports.cluster.list(POD, namespace=namespace, labels=check.labels))
    return [pod for pod in found if child(pod, "status").get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")]
