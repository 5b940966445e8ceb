"""`becalm claims`: whether what is claimed to need no backup still needs none, and confirming it again. Nothing but the claim's file is written."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from tempfile import mkstemp
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from typer.core import TyperGroup

from becalm.actions import census, claims
from becalm.cli.console import clean, console, print_json
from becalm.cli.ports import ContextOption, JsonOption, KubeconfigOption  # noqa: TC001  (as above)
from becalm.cli.survey import claims_in, reach
from becalm.clock import SystemClock
from becalm.errors import PartialCapture, UsageError, exit_code
from becalm.model import payload
from becalm.policy.claims import confirmed_text, load_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from becalm.actions.claims import Audit


class AuditUnlessNamed(TyperGroup):
    """The verbs of claims; where none is named, the audit is meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the audit before paths and options that follow no verb."""
        if args and args[0] not in {*self.commands, "--help"}:
            args = ["audit", *args]
        found: list[str] = super().parse_args(ctx, args)
        return found


app = typer.Typer(cls=AuditUnlessNamed, help="Claims that something needs no backup: audit, confirm.", no_args_is_help=True)


@app.command()
def audit(
    paths: Annotated[list[Path], typer.Argument(metavar="CLAIM...", help="The claims' files, or folders with them.")],
    *,
    kubeconfig: KubeconfigOption = "",
    context: ContextOption = "",
    json: JsonOption = False,
) -> None:
    """Hold each claim against what the cluster shows. Ends with 5 where one has run out, is contradicted, or speaks of nothing."""
    declared = claims_in(paths)
    if not declared:
        raise UsageError("there are no claims", where=", ".join(map(str, paths)), hint="a claim is a file with `kind: StatelessClaim`")
    seen = census.read(reach(kubeconfig=kubeconfig, context=context))
    found = claims.audit(declared, seen, now=SystemClock().now())
    if json:
        print_json(document(found, unknown=[str(finding) for finding in seen.findings]))
    else:
        show(found)
        for finding in seen.findings:
            console.print(clean(f"not known: {finding}"))
    if seen.findings or not all(one.ok for one in found):
        raise typer.Exit(exit_code(PartialCapture("")))


@app.command()
def confirm(file: Annotated[Path, typer.Argument(metavar="CLAIM", help="The claim's file.")]) -> None:
    """Write today as the day on which a claim was last found true. Nothing else of the file changes; no cluster is asked."""
    before = load_file(file)
    today = SystemClock().now().date()
    try:
        text = file.read_bytes().decode("utf-8")
        replace_text(file, confirmed_text(text, today, source=str(file)))
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not plain UTF-8"
        raise UsageError(f"the claim cannot be written: {reason}", where=str(file), hint="look at its rights and its encoding") from error
    after = load_file(file)
    console.print(clean(f"{after.name}: confirmed on {today} (before: {before.spec.confirmed}), holds until {after.expires}"))


def replace_text(file: Path, text: str) -> None:
    """Replace a file's text, whole or not at all. Raises OSError."""
    target = file.resolve()
    descriptor, name = mkstemp(prefix=f".{target.name}.", dir=target.parent)
    beside = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(text.encode())
            out.flush()
            os.fsync(out.fileno())
        beside.chmod(target.stat().st_mode & 0o777)
        beside.replace(target)
    except OSError:
        with suppress(OSError):
            beside.unlink()
        raise


def document(found: Sequence[Audit], *, unknown: Sequence[str] = ()) -> dict[str, Any]:
    """Return the audit for programs."""
    return {
        "ok": not unknown and all(one.ok for one in found),
        "claims": [
            {
                "name": one.claim.name,
                "standing": one.standing.value,
                "owner": one.claim.spec.owner,
                "reason": one.claim.spec.reason,
                "confirmed": one.claim.spec.confirmed.isoformat(),
                "expires": one.claim.expires.isoformat(),
                "matched": one.matched,
                "findings": [payload(finding) for finding in one.findings],
            }
            for one in found
        ],
        "unknown": list(unknown),
    }


def show(found: Sequence[Audit]) -> None:
    """Print the audit for people."""
    table = Table("claim", "standing", "owner", "holds until", "speaks of", box=None)
    for one in found:
        table.add_row(clean(one.claim.name), one.standing.value, clean(one.claim.spec.owner), str(one.claim.expires), str(one.matched))
    console.print(table)
    for one in found:
        for finding in one.findings:
            console.print(clean(finding))
