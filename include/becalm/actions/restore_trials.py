"""Letting the server say beforehand what it would make of an object: dry runs, which write nothing.

An object whose version is no longer served is always tried in the one it would be written in: the server converts it or refuses it, and
a field that it drops on the way is told. All other new objects are tried only where that was asked for.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from becalm.actions.restore_shape import Shape
from becalm.actions.restore_steps import CHANGING, Action
from becalm.errors import AlreadyExists, NotFound, PermanentError
from becalm.kube.base import Verb
from becalm.kube.diffing import compare
from becalm.kube.patching import PatchFailed
from becalm.model import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from becalm.actions.handover import Ports
    from becalm.actions.restore_request import RestoreRequest
    from becalm.actions.restore_source import SavedObject, Source
    from becalm.actions.restore_steps import RestorePlan, Step
    from becalm.model import Manifest

TRIERS = 16
STAND_IN = "default"
"""Where an object is tried whose own namespace is not there yet: this one is in every cluster."""
SHOWN_PATHS = 5


def examine(plan: RestorePlan, request: RestoreRequest, source: Source, ports: Ports) -> RestorePlan:
    """Complete a plan with what the server says of the objects that are tried. Nothing is written."""
    tried = [step for step in plan.steps_to(Action.CREATE, *CHANGING) if step.saved_version]
    if request.dry_run_objects:
        tried += [step for step in plan.steps_to(Action.CREATE) if not step.saved_version]
    served = {(kind.group, kind.resource, kind.version) for kind in ports.cluster.discover().kinds} if tried else set()
    tried = [step for step in tried if (step.api.group, step.api.resource, step.api.version) in served]
    if not tried:
        return plan
    shape = Shape.of(plan, request)
    new = {step.target.name for step in plan.steps_to(Action.CREATE) if str(step.api) == "namespaces"}
    ports.progress(f"trying {len(tried)} objects")
    fitting = _fitting(zip(tried, source.read([step.source for step in tried]), strict=True), shape)
    with ThreadPoolExecutor(max_workers=TRIERS) as pool:
        told = list(pool.map(lambda pair: list(_try(pair[0], pair[1], new, ports)), fitting))
    found = [finding for findings in told for finding in findings]
    return replace(
        plan,
        blocking=(*plan.blocking, *(one for one in found if one.severity is Severity.ERROR)),
        findings=(*plan.findings, *(one for one in found if one.severity is not Severity.ERROR)),
    )


def _fitting(pairs: Iterable[tuple[Step, SavedObject]], shape: Shape) -> Iterator[tuple[Step, Manifest]]:
    """Yield each object as it would be made, but those that a patch does not fit: the plan says so itself."""
    for step, saved in pairs:
        try:
            manifest = shape.manifest(saved)
        except PatchFailed:
            continue
        yield step, manifest


def _try(step: Step, manifest: Manifest, new: set[str], ports: Ports) -> Iterator[Finding]:
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "finalizers"}
    if step.target.namespace in new:
        metadata["namespace"] = STAND_IN
    if step.action in CHANGING:
        metadata["name"] = f"{metadata['name']}-trial"[:63]
    tried = {**manifest, "metadata": metadata}
    as_what = f"as {step.version}" if step.saved_version else "as it is"
    try:
        made = ports.cluster.apply(step.api, tried, verb=Verb.CREATE, dry_run=True)
    except AlreadyExists:
        return
    except NotFound as error:
        yield _told(step, f"could not be tried {as_what}: {error.message}", Severity.WARNING)
    except PermanentError as error:
        yield _told(step, f"the server would refuse it {as_what}: {error.message}", Severity.ERROR)
    else:
        lost = [change.path for change in compare(tried, made) if change.after is None]
        if lost and step.saved_version:
            shown = ", ".join(lost[:SHOWN_PATHS]) + (" and more" if len(lost) > SHOWN_PATHS else "")
            yield _told(step, f"was saved as {step.saved_version}, and {as_what} the server drops {shown}", Severity.ERROR)


def _told(step: Step, message: str, severity: Severity) -> Finding:
    remedy = (
        "restore into a cluster that serves its version, patch it, or leave it out" if step.saved_version else "patch it, or leave it out"
    )
    return Finding(where=str(step.target), message=message, remedy=remedy, severity=severity)
