"""`python -m becalm.sandbox.demo run | stop`: what `make demo` and `make demo-stop` call."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from becalm.errors import BecalmError, exit_code
from becalm.sandbox.applications import CAMPAIGN_GROUP
from becalm.sandbox.demo.stage import POLICY, Stage
from becalm.sandbox.demo.story import Story

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
screen = Console(highlight=False, soft_wrap=True)

FolderOption = Annotated[Path, typer.Option("--folder", help="Where everything of the demo stands.")]
DIFFERENT = 1


@app.command()
def run(
    folder: FolderOption = Path(".demo"),
    dags: Annotated[Path, typer.Option("--dags", help="Airflow's folder of DAGs.")] = Path("dags"),
    kubeconfig: Annotated[str, typer.Option("--kubeconfig", help="A real cluster instead of the sandbox.")] = "",
    target: Annotated[str, typer.Option("--target", help="A bucket instead of a folder: s3://bucket/prefix.")] = "",
    end: Annotated[bool, typer.Option("--end", help="Stop everything at the end, and say by the exit code how it went.")] = False,  # noqa: FBT002
) -> None:
    """Protect a sample application, lose it, restore it, and compare."""
    began = time.monotonic()
    stage = Stage(
        folder=folder.resolve() / _scene(kubeconfig, target),
        dags=dags.resolve(),
        kubeconfig=kubeconfig and str(Path(kubeconfig).resolve()),
        target=target,
    )
    try:
        equal = Story(stage, os.environ, screen).tell()
    finally:
        if end:
            stage.stop()
    verdict = "every object and every byte came back" if equal else "something did not come back as it was"
    screen.print(f"\n{verdict}, in {time.monotonic() - began:.0f} s", style="bold green" if equal else "bold red")
    _print_what_stays(stage, running=not end)
    raise typer.Exit(0 if equal else DIFFERENT)


def _scene(kubeconfig: str, target: str) -> str:
    """Return the folder's name for a cluster and a target: what one telling left is not mixed up with another's."""
    return ("cluster" if kubeconfig else "sandbox") + ("-bucket" if target else "")


def _print_what_stays(stage: Stage, *, running: bool) -> None:
    if running:
        screen.print(f"\nAirflow   {stage.conductor.url}   user admin, password {stage.conductor.password}", markup=False)
        screen.print(f"cluster   KUBECONFIG={stage.kubeconfig_path}", markup=False)
    place = stage.target_url.replace("file://", "")
    if not stage.target:
        screen.print(f"restic    restic -r {place}/{POLICY} --password-file {stage.password_file} snapshots", markup=False)
    screen.print(f"again     make demo        it takes up what is there; {stage.folder} holds it all", markup=False)
    if stage.real:
        screen.print(f"remove    kubectl delete namespace {stage.namespace}; kubectl delete crd campaigns.{CAMPAIGN_GROUP}", markup=False)
    if running:
        screen.print("stop      make demo-stop", markup=False)


@app.command()
def stop(folder: FolderOption = Path(".demo"), dags: Path = Path("dags")) -> None:
    """Stop Airflow and the sandbox cluster of the demo; what they stored stays."""
    scenes = sorted(found.parent for found in folder.resolve().glob("*/policies"))
    for scene in scenes:
        Stage(folder=scene, dags=dags.resolve()).stop()
        screen.print(f"stopped what ran from {scene}", markup=False)
    if not scenes:
        screen.print("there is no demo here")


def main() -> None:
    """Run a verb; an error is one message."""
    try:
        app()
    except BecalmError as error:
        sys.stderr.write(f"demo: {error.code}: {error}\n")
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        sys.stderr.write("demo: interrupted; make demo goes on, make demo-stop stops what runs\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
