"""What a recovery point says of itself: what it lacks, how consistent it is, and the document and context that travel in it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import orjson

import becalm
from becalm.actions.certificates import told
from becalm.errors import AccessDenied
from becalm.kube.kinds import NODE
from becalm.model import Consistency, Finding, VolumeRef, VolumeUse, payload

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from becalm.actions.handover import Begun, Committed, Cut, Discovered, Exported, Ports, Thawed
    from becalm.model import Manifest, MoverResult
    from becalm.policy.spec import ProtectionPolicy

POINT_FORMAT = 1
"""The format of `recovery-point.json` (docs/FORMAT.md)."""


def missing(
    discovered: Discovered,
    *,
    cuts: Sequence[Cut],
    thaws: Sequence[Thawed],
    exports: Sequence[Exported],
    results: Sequence[MoverResult],
    failures: Mapping[str, str] | None = None,
) -> tuple[Finding, ...]:
    """Name everything that was selected and not captured, or not wholly. Pure. `failures` says why, by application, where it is known."""
    why = failures or {}
    found = list(discovered.findings)
    cut_names = {cut.application for cut in cuts}
    found += [
        Finding(where=name, message="not captured: " + why[name])
        if name in why
        else Finding(where=name, message="the application was not captured", remedy="see the tasks of this application in the run")
        for name in (application.name for application in discovered.applications)
        if name not in cut_names
    ]
    found += [Finding(where=name, message=message) for name, message in why.items() if name in cut_names]
    found += [finding for cut in cuts for finding in cut.findings]
    found += [_lost(volume.plan.volume, f"not cut: {volume.error}") for cut in cuts for volume in cut.volumes if volume.error]
    found += [_lost(export.volume, f"not readable: {export.error}") for export in exports if export.error]
    found += [_lost(result.volume, f"not uploaded: {result.error}") for result in results if result.error]
    found += [finding for result in results for finding in result.unreadable]
    answered = {export.volume for export in exports if export.error} | {result.volume for result in results}
    wanted = {volume.plan.volume for cut in cuts for volume in cut.volumes if not volume.error and volume.plan.use is not VolumeUse.SKIP}
    found += [_lost(volume, "no mover answered for it") for volume in sorted(wanted - answered)]
    found += [
        Finding(
            where=thawed.application, message="is not confirmed thawed: " + "; ".join(thawed.reasons), remedy="look at the application now"
        )
        for thawed in thaws
        if not thawed.confirmed
    ]
    return tuple(found)


def _lost(volume: VolumeRef, message: str) -> Finding:
    return Finding(where=f"volumes/{volume}", message=message)


def consistency(cuts: Sequence[Cut], thaws: Sequence[Thawed]) -> tuple[Consistency, tuple[str, ...]]:
    """Return the label of the whole point: that of its weakest application with volumes. Pure."""
    label_of = {thawed.application: thawed for thawed in thaws}
    with_volumes = [cut.application for cut in cuts if any(not volume.error for volume in cut.volumes)]
    weak = [name for name in with_volumes if name not in label_of or label_of[name].consistency is not Consistency.APPLICATION]
    if with_volumes and not weak:
        return Consistency.APPLICATION, ()
    reasons = [f"{name}: {'; '.join(label_of[name].reasons) if name in label_of else 'its thaw was not confirmed'}" for name in weak]
    return Consistency.CRASH, tuple(reasons) or ("no volume was captured",)


def describe(
    begun: Begun,
    facts: Committed,
    *,
    why: tuple[str, ...],
    discovered: Discovered,
    cuts: Sequence[Cut],
    thaws: Sequence[Thawed],
    exports: Sequence[Exported],
    results: Sequence[MoverResult],
    policy: ProtectionPolicy,
) -> bytes:
    """Return `recovery-point.json`: what this point is, what it holds, and what it does not."""
    document = {
        "format": POINT_FORMAT,
        "written_by": f"becalm {becalm.__version__}",
        "policy": {
            "name": policy.name,
            "digest": policy.digest,
            "document": policy.model_dump(mode="json", by_alias=True, exclude_none=True),
        },
        "run": payload(begun),
        "cluster": {"uid": discovered.cluster_uid, "version": discovered.server_version},
        "complete": facts.complete,
        "consistency": {"label": facts.consistency, "reasons": why},
        "missing": [payload(finding) for finding in facts.missing],
        "anomalies": [payload(finding) for finding in facts.anomalies],
        "warnings": [payload(finding) for finding in discovered.warnings],
        "excluded": [payload(item) for item in (*discovered.excluded, *(item for cut in cuts for item in cut.excluded))],
        "applications": [payload(replace(cut, certificates=())) for cut in cuts],
        "certificates": [payload(one) for one in told(one for cut in cuts for one in cut.certificates)],
        "thaws": [payload(thawed) for thawed in thaws],
        "exports": [payload(export) for export in exports],
        "volumes": [payload(result) for result in results],
        "counts": {"objects": facts.objects, "volumes": facts.volumes, "bytes": facts.bytes_total, "bytes_added": facts.bytes_added},
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)


def context(ports: Ports) -> list[tuple[str, bytes]]:
    """Return what helps to understand a point later: what was served, and the nodes. Rights to it are not needed for a backup."""
    served = ports.cluster.discover()
    kinds = [
        {
            "group": k.group,
            "version": k.version,
            "resource": k.resource,
            "kind": k.kind,
            "namespaced": k.namespaced,
            "preferred": k.preferred,
        }
        for k in served.kinds
    ]
    files = [
        ("discovery.json", orjson.dumps({"version": served.server_version, "uid": served.uid, "kinds": kinds, "failures": served.failures}))
    ]
    try:
        nodes: list[Manifest] = list(ports.cluster.list(NODE))
    except AccessDenied:
        return files
    return [*files, ("nodes.json", orjson.dumps(nodes))]
