"""What follows once everything is there: workloads become ready within the time that was asked for, and the pods' hooks run.

Nothing here changes an object. What is not ready, and what a hook said, are failures of the restore and its report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.actions import restore_hooks
from becalm.actions.readiness import wait_ready
from becalm.model import Severity

if TYPE_CHECKING:
    from becalm.actions.handover import Ports
    from becalm.actions.restore_request import RestoreRequest
    from becalm.actions.restore_steps import RestorePlan
    from becalm.model import Finding


def begin(plan: RestorePlan, request: RestoreRequest, run: str, ports: Ports) -> None:
    """Note that hooks are owed, before anything is made: whoever goes on after a kill runs them."""
    if _hook_places(plan, request):
        restore_hooks.owe(run, ports)


def settle(plan: RestorePlan, request: RestoreRequest, run: str, ports: Ports) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    """Wait for what was restored, then run the hooks that are owed. Return what failed, and what went wrong and may."""
    findings: tuple[Finding, ...] = ()
    if request.wait_seconds:
        findings = wait_ready(sorted({target for _, target in _places(plan, request)}), ports, request.wait_seconds)
    if _hook_places(plan, request) and restore_hooks.owed(run, ports):
        findings += restore_hooks.run_all(_hook_places(plan, request), run, ports)
    failures = tuple(found for found in findings if found.severity is Severity.ERROR)
    return failures, tuple(found for found in findings if found not in failures)


def _places(plan: RestorePlan, request: RestoreRequest) -> set[tuple[str, str]]:
    """Return the namespaces of a plan: their names in the point and in the cluster."""
    mapping = request.namespace_mapping
    names = {step.source.namespace for step in plan.steps if step.source.namespace} | {step.volume.namespace for step in plan.volumes}
    return {(name, mapping.get(name, name)) for name in names}


def _hook_places(plan: RestorePlan, request: RestoreRequest) -> list[str]:
    return restore_hooks.allowed(_places(plan, request), request.hook_namespaces)
