"""`becalm assess`: what a cluster without any policy would lose, and policies to begin with. Of the cluster it only reads."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer resolves the annotations at run time)
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from becalm.actions import coverage_look
from becalm.actions.assess import Assessment, assess
from becalm.actions.proposals import Proposal, propose
from becalm.cli.console import clean, console, human_bytes, print_json
from becalm.cli.ports import ContextOption, JsonOption, KubeconfigOption  # noqa: TC001  (as above)
from becalm.cli.survey import own_namespace, reach
from becalm.errors import UsageError
from becalm.model import payload

if TYPE_CHECKING:
    from collections.abc import Sequence


def look(
    *,
    kubeconfig: KubeconfigOption = "",
    context: ContextOption = "",
    folder: Annotated[Path | None, typer.Option("--propose", help="Write proposed policies into this folder.")] = None,
    json: JsonOption = False,
) -> None:
    """Say what state a cluster holds, and what each disaster would take of it. With --propose, write policies to begin with."""
    seen, inventory = coverage_look.survey(reach(kubeconfig=kubeconfig, context=context))
    found = assess(seen)
    proposals = propose(seen, inventory, own=own_namespace())
    written = write(proposals, folder) if folder else []
    if json:
        print_json(document(found, proposals, written))
    else:
        show(found, proposals, written)


def write(proposals: Sequence[Proposal], folder: Path) -> list[str]:
    """Write the proposals, and return their files. Raises UsageError, before anything is written, where one of the files is there already."""
    there = [proposal.file for proposal in proposals if (folder / proposal.file).exists()]
    if there:
        raise UsageError(
            f"{', '.join(there[:3])}{' and more' if len(there) > 3 else ''}: there already, and nothing is overwritten",
            where=str(folder),
            hint="name an empty folder",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for proposal in proposals:
            with (folder / proposal.file).open("x", encoding="utf-8") as out:
                out.write(proposal.text)
    except OSError as error:
        raise UsageError(
            f"the proposals cannot be written: {error.strerror}", where=str(folder), hint="name a folder of your own"
        ) from error
    return [str(folder / proposal.file) for proposal in proposals]


def document(found: Assessment, proposals: Sequence[Proposal], written: Sequence[str]) -> dict[str, Any]:
    """Return the assessment for programs."""
    return {
        "objects": found.objects,
        "derived": found.derived,
        "state": [
            {"what": one.what.value, "where": one.where, "detail": one.detail, "origin": one.origin.value, "bytes": one.size_bytes or None}
            for one in found.states
        ],
        "disasters": [
            {
                "disaster": toll.disaster.value,
                "lost": {what.value: count for what, count in toll.lost.items()},
                "by_files": toll.by_files,
                "kept": toll.kept,
                "bytes_lost": toll.bytes_lost,
                "examples": list(toll.examples),
            }
            for toll in found.tolls
        ],
        "proposals": [{"name": one.name, "namespace": one.namespace, "policy": dict(one.document)} for one in proposals],
        "written": list(written),
        "findings": [payload(finding) for finding in found.findings],
    }


def show(found: Assessment, proposals: Sequence[Proposal], written: Sequence[str]) -> None:
    """Print the assessment for people."""
    console.print(clean(f"{found.objects} objects: {len(found.states)} keep state of their own, {found.derived} are made again by others."))
    places = Table("namespace", "state", box=None)
    for namespace, counted in found.by_namespace.items():
        places.add_row(clean(namespace or "(none)"), clean(_counted({what.value: count for what, count in counted.items()})))
    console.print(places)
    tolls = Table("disaster", "lost", "of it in volumes", "back from files", "kept", "such as", box=None)
    for toll in found.tolls:
        such = ", ".join(toll.examples[:3])
        tolls.add_row(toll.disaster.value, str(toll.total), human_bytes(toll.bytes_lost), str(toll.by_files), str(toll.kept), clean(such))
    console.print(tolls)
    for finding in found.findings:
        console.print(clean(f"not known: {finding}"))
    for proposal in proposals if not written else []:
        console.print(clean(f"proposed: a policy for {proposal.namespace}"))
    for file in written:
        console.print(clean(f"written: {file}"))
    if proposals and not written:
        console.print("`--propose FOLDER` writes them as files.", markup=False)


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} x {what}" for what, count in sorted(counts.items()))
