"""`becalm plan`: what a run of a policy would capture, how, and what it would not, without touching anything."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer resolves the annotations at run time)
from typing import TYPE_CHECKING, Annotated, Any

import typer

from becalm.actions import outlook
from becalm.cli.console import console, print_json
from becalm.cli.limits import limits_for
from becalm.cli.ports import ContextOption, JsonOption, KubeconfigOption, build_ports, find_place
from becalm.errors import PartialCapture, PolicyError, UsageError, exit_code
from becalm.model import Severity, payload

if TYPE_CHECKING:
    from becalm.actions.outlook import Outlook


def plan(
    policy: Annotated[Path, typer.Argument(metavar="POLICY", help="The policy's file.")],
    kubeconfig: KubeconfigOption = "",
    context: ContextOption = "",
    json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Say what a run would do, without touching anything. Ends with 3 where the policy breaks its environment's limits, 5 where something would be missing."""
    place, loaded = find_place(policy)
    if loaded is None:
        raise UsageError("a plan needs the policy's file")
    limits = limits_for(policy).limits(loaded.spec.environment)
    ports = build_ports(place, cluster_name=loaded.spec.cluster, kubeconfig=kubeconfig, context=context)
    seen = outlook.execute(loaded, ports, limits=limits, count=True)
    code = verdict(seen)
    if json:
        print_json(document(seen, ok=not code))
    else:
        for sentence in outlook.sentences(seen):
            console.print(sentence, markup=False)
    if code:
        raise typer.Exit(code)


def verdict(seen: Outlook) -> int:
    """Return the exit code: what breaks a limit comes first, then what would be missing."""
    if seen.limits or any(finding.severity is Severity.ERROR for finding in seen.discovered.warnings):
        return exit_code(PolicyError("", findings=()))
    return exit_code(PartialCapture("")) if seen.findings or _missed(seen) else 0


def _missed(seen: Outlook) -> bool:
    return any(hook.missing for prospect in seen.prospects for hook in prospect.hooks)


def document(seen: Outlook, *, ok: bool) -> dict[str, Any]:
    """Return the outlook for programs."""
    return {
        "ok": ok,
        "policy": seen.policy,
        "environment": seen.environment,
        "before": seen.before,
        "applications": [
            {
                "name": prospect.application.name,
                "namespaces": list(prospect.application.namespaces),
                "volumes": [
                    {
                        **payload(item),
                        "how": outlook.how(item, prospect.application),
                        "bytes_before": seen.sizes.get(item.volume),
                    }
                    for item in prospect.application.volumes
                ],
                "notes": list(prospect.application.notes),
                "hooks": [
                    {"hook": payload(hook.hook), "places": list(hook.places), "missing": list(hook.missing), "untested": hook.untested}
                    for hook in prospect.hooks
                ],
            }
            for prospect in seen.prospects
        ],
        "objects": dict(seen.surveyed.objects) if seen.surveyed else None,
        "certificates": [payload(one) for one in seen.surveyed.certificates] if seen.surveyed else None,
        "left_out": [payload(item) for item in outlook.left_out(seen)],
        "findings": [payload(finding) for finding in seen.findings],
        "warnings": [payload(finding) for finding in seen.discovered.warnings],
        "limits": [{"path": one.path, "problem": one.problem, "remedy": one.remedy} for one in seen.limits],
        "remarks": list(seen.remarks),
    }
