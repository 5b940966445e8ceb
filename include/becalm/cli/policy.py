"""`becalm policy …`: look at policy files without doing what they say."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003  (typer resolves the annotations at run time)
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from becalm.cli.limits import limits_for
from becalm.errors import PolicyError, exit_code
from becalm.policy import claims, environments, load
from becalm.policy.select import explain

if TYPE_CHECKING:
    from becalm.policy.claims import StatelessClaim
    from becalm.policy.spec import ProtectionPolicy

app = typer.Typer(help="Look at policy files without doing what they say.", no_args_is_help=True)


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(help="Policy files, or folders with policy files.", metavar="FILE…")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
    explained: Annotated[bool, typer.Option("--explain", help="Say also what each policy protects.")] = False,
) -> None:
    """Name everything that is wrong with these policies at once. Ends with 3 if there is anything."""
    found = _read(files)
    bad = [error for error in found.values() if isinstance(error, PolicyError)]
    if as_json:
        _print_json({"ok": not bad, "files": [_document(file, answer) for file, answer in found.items()]})
    else:
        for file, answer in found.items():
            _say(file, answer, explained=explained)
    if bad:
        raise typer.Exit(exit_code(bad[0]))


@app.command()
def schema() -> None:
    """Print the JSON Schema of a policy, for editors."""
    _print_json(load.json_schema())


@app.command()
def sample() -> None:
    """Print a policy to begin with."""
    sys.stdout.write(load.sample())


def _read(paths: list[Path]) -> dict[Path, ProtectionPolicy | StatelessClaim | PolicyError]:
    """Read files and folders together, so that a name used twice among them is noticed, and hold each against its environment's limits."""
    broken: dict[Path, ProtectionPolicy | StatelessClaim | PolicyError] = {}
    files: list[Path] = []
    for path in paths:
        try:
            files += [*load.load_folder(path), *claims.load_folder(path)] if path.is_dir() else [path]
        except PolicyError as error:
            broken[path] = error
    files = list(dict.fromkeys(files))
    claimed = [file for file in files if claims.says_claim(file)]
    found = load.load_files([file for file in files if file not in claimed])
    return {**{file: _within_limits(file, answer) for file, answer in found.items()}, **claims.load_files(claimed), **broken}


def _within_limits(file: Path, answer: ProtectionPolicy | PolicyError) -> ProtectionPolicy | PolicyError:
    """Return the policy, or what it lacks in its environment."""
    if isinstance(answer, PolicyError):
        return answer
    try:
        limits = limits_for(file).limits(answer.spec.environment)
    except PolicyError as error:
        return error
    found = environments.judge(answer, limits)
    return PolicyError("the policy does not keep to the limits of its environment", where=str(file), findings=found) if found else answer


def _say(file: Path, answer: ProtectionPolicy | StatelessClaim | PolicyError, *, explained: bool) -> None:
    if isinstance(answer, PolicyError):
        count = len(answer.findings)
        typer.echo(f"{_name(file)}: {count} finding{'' if count == 1 else 's'}")
        for finding in answer.findings:
            typer.echo(f"  {finding}")
        return
    if isinstance(answer, claims.StatelessClaim):
        typer.echo(f"{_name(file)}: ok, claim {answer.name}: no policy, `becalm claims` audits it")
        return
    typer.echo(f"{_name(file)}: ok, policy {answer.name}")
    for sentence in explain(answer) if explained else ():
        typer.echo(f"  {sentence}")


def _document(file: Path, answer: ProtectionPolicy | StatelessClaim | PolicyError) -> dict[str, Any]:
    if isinstance(answer, PolicyError):
        return {
            "file": _name(file),
            "ok": False,
            "findings": [{"path": finding.path, "problem": finding.problem, "remedy": finding.remedy} for finding in answer.findings],
        }
    if isinstance(answer, claims.StatelessClaim):
        return {"file": _name(file), "ok": True, "claim": answer.name, "findings": []}
    return {"file": _name(file), "ok": True, "policy": answer.name, "digest": answer.digest, "findings": []}


def _name(file: Path) -> str:
    """Return a file's name as it can be printed, whatever bytes it is made of."""
    return str(file).encode(errors="replace").decode()


def _print_json(document: dict[str, Any]) -> None:
    sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")
