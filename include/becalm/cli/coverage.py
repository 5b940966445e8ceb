"""`becalm coverage`: which state of a cluster these policies cover, and what they do not. It only reads."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer resolves the annotations at run time)
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from becalm.actions import claims, coverage, coverage_look
from becalm.cli.console import clean, console, notes, print_json
from becalm.cli.gaps import sound
from becalm.cli.ports import ContextOption, JsonOption, KubeconfigOption, find_place
from becalm.cli.survey import claims_in, own_namespace, reach
from becalm.clock import SystemClock, format_time
from becalm.errors import PartialCapture, UsageError, exit_code
from becalm.model import payload
from becalm.policy.claims import says_claim

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from becalm.actions.coverage import Coverage, Covered
    from becalm.policy.spec import ProtectionPolicy
    from becalm.storage.base import ObjectStore

MOST_NAMED = 3
"""So many alike are named in a table; the others are counted."""


def report(
    policies: Annotated[
        list[Path] | None, typer.Argument(metavar="[POLICY...]", help="The policies' files, or folders with them and with claims.")
    ] = None,
    *,
    folder: Annotated[Path | None, typer.Option("--policies", help="A folder with policies and claims.")] = None,
    every: Annotated[bool, typer.Option("--all", help="List also what is covered.")] = False,
    kubeconfig: KubeconfigOption = "",
    context: ContextOption = "",
    json: JsonOption = False,
) -> None:
    """Say which state of the cluster is covered, by which policy, and what is not and why. Ends with 5 where anything is not, or is not known."""
    paths = [*(policies or []), *([folder] if folder else [])]
    if not paths:
        raise UsageError("there are no policies to judge by", hint="name their files or their folder; without any, ask `becalm assess`")
    given = [path for path in paths if path.is_dir() or says_claim(path)]
    found = for_one_cluster(sound([path for path in paths if path.is_dir() or not says_claim(path)]), context)
    declared = claims_in(given)
    seen, inventory = coverage_look.survey(reach(kubeconfig=kubeconfig, context=context, prefer=found[0][1].spec.cluster if found else ""))
    audits = claims.audit(declared, seen, now=SystemClock().now())
    for one in audits:
        if not one.ok:
            notes.print(clean(f"the claim {one.claim.name} is {one.standing}, and excuses nothing"))
    protections = [protection(policy, path) for path, policy in found]
    judged = coverage.judge(seen, inventory, protections, claims.holding(audits), own=own_namespace())
    if json:
        print_json(document(judged))
    else:
        show(judged, every=every)
    if not judged.whole:
        raise typer.Exit(exit_code(PartialCapture("")))


def protection(policy: ProtectionPolicy, path: Path) -> coverage.Protection:
    """Return how a policy stands, and whether its last good point was made by the same selection."""

    def reach() -> tuple[ObjectStore, str]:
        place, _ = find_place(path)
        return place.store, place.password

    return coverage_look.protection(policy, reach, clock=SystemClock(), problem=lambda words: notes.print(clean(words)))


def for_one_cluster(found: list[tuple[Path, ProtectionPolicy]], context: str) -> list[tuple[Path, ProtectionPolicy]]:
    """Return the policies for the cluster that is looked at. Raises UsageError where they are for several, and none is named."""
    clusters = sorted({policy.spec.cluster for _, policy in found})
    if len(clusters) < 2:
        return found
    if context not in clusters:
        raise UsageError(f"the policies are for {len(clusters)} clusters: {', '.join(clusters)}", hint="say which with --context NAME")
    return [(path, policy) for path, policy in found if policy.spec.cluster == context]


def document(judged: Coverage) -> dict[str, Any]:
    """Return the coverage for programs."""
    return {
        "ok": judged.whole,
        "score": {"percent": judged.score.percent, "arithmetic": str(judged.score), "counts": dict(judged.score.counts)},
        "namespaces": [
            {
                "name": place.namespace,
                "policies": list(place.policies),
                "why_not": place.why_not,
                "percent": place.score.percent,
                "arithmetic": str(place.score),
                "counts": dict(place.score.counts),
                "derived": place.derived,
            }
            for place in judged.places
        ],
        "state": [_item(item) for item in judged.items],
        "findings": [payload(finding) for finding in judged.findings],
    }


def _item(item: Covered) -> dict[str, Any]:
    state = item.state
    return {
        "what": state.what.value,
        "where": state.where,
        "namespace": state.namespace,
        "detail": state.detail,
        "origin": state.origin.value,
        "pods": state.count if state.resource == "pods" else None,
        "bytes": state.size_bytes or None,
        "expires": format_time(state.expires) if state.expires else None,
        "verdict": item.verdict.value,
        "policies": list(item.policies),
        "because": item.because,
    }


def show(judged: Coverage, *, every: bool) -> None:
    """Print the coverage for people."""
    table = Table("namespace", "covered", "policies", "made again", box=None)
    for place in judged.places:
        policies = ", ".join(place.policies) or place.why_not or "-"
        table.add_row(clean(place.namespace or "(none)"), str(place.score), clean(policies), str(place.derived))
    console.print(table)
    shown = [item for item in judged.items if every or item.verdict is not coverage.Verdict.COVERED]
    if shown:
        rows = Table("namespace", "verdict", "what", "which", "why", box=None)
        for row in grouped(shown):
            rows.add_row(*(clean(cell) for cell in row))
        console.print(rows)
    for finding in judged.findings:
        console.print(clean(f"not known: {finding}"))
    console.print(clean(f"the cluster: {judged.score}"))


def grouped(items: Iterable[Covered]) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield one row for what is alike: in place, verdict, kind and reason."""
    alike: dict[tuple[str, str, str, str], list[str]] = {}
    for item in items:
        key = (item.state.namespace or "(none)", item.verdict.value, item.state.what.value, item.because)
        alike.setdefault(key, []).append(f"{item.state.name}: {item.state.part}" if item.state.part else item.state.name)
    for (namespace, verdict, what, because), names in alike.items():
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        yield namespace, verdict, what, ", ".join(names[:MOST_NAMED]) + more, because
