"""`becalm restore --git NAME --to FOLDER`: a repository of infrastructure code out of a recovery point, as a mirror and as a clone.

It needs the bucket and the password, and no cluster.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from becalm.actions.infrastructure import FOLDER, Mirrored, mirrored_in
from becalm.catalog.adoption import choose
from becalm.cli.console import clean, console, print_json
from becalm.clock import SystemClock, format_time
from becalm.errors import Damaged, NotFound, UsageError
from becalm.git.contents import clone
from becalm.model import payload
from becalm.repository.extract import extract
from becalm.repository.reader import open_repository

if TYPE_CHECKING:
    from becalm.cli.ports import Place

GitOption = Annotated[str, typer.Option("--git", help="Only this repository of infrastructure code, into a local folder (--to).")]
GitFolderOption = Annotated[
    Path | None, typer.Option("--to", help="With --git: a folder. NAME.git in it becomes the mirror, NAME a clone at the declared branch.")
]


def bring_back(place: Place, name: str, to: Path | None, point: str, *, json: bool) -> None:
    """Write the mirror and a clone of it. Raises UsageError, NotFound, and as the repository does."""
    if not name or to is None:
        raise UsageError("a repository needs its name and a folder", where="--git" if to else "--to", hint="write --git NAME --to FOLDER")
    repository = open_repository(place.store, place.password, few=True)
    found = choose(repository, place.policy, point, now=SystemClock().now())
    mirrored = _of_name(mirrored_in(repository, found.tree), name, found.id)
    bare, working = to / f"{name}.git", to / name
    for folder in (bare, working):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError("it is there already", where=str(folder), hint="name a new folder")
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the folder cannot be made: {error.strerror}", where=str(to), hint="name another") from error
    with TemporaryDirectory(prefix=".becalm-", dir=to) as beside:
        done = extract(repository, found.tree, beside, include=f"{FOLDER}/{name}")
        if done.failures:
            raise Damaged(
                f"the mirror is not whole: {done.failures[0]}", where=f"{FOLDER}/{name}", hint="becalm verify says what is damaged"
            )
        (Path(beside) / name).rename(bare)
    clone(bare, working, mirrored.ref, origin=mirrored.url)
    if json:
        print_json(
            {"ok": True, "point": found.id, "cut": format_time(found.cut), "mirror": str(bare), "clone": str(working), **payload(mirrored)}
        )
        return
    console.print(clean(f"{name} as of {mirrored.fetched}: {mirrored.ref} at {mirrored.revision[:12]}"))
    console.print(clean(f"mirror: {bare}; clone: {working}, its origin is {mirrored.url}"))
    for finding in mirrored.findings:
        console.print(clean(f"note: {finding}"))


def _of_name(found: tuple[Mirrored, ...], name: str, point: str) -> Mirrored:
    for one in found:
        if one.name == name:
            return one
    there = ", ".join(one.name for one in found) or "none"
    raise NotFound(f"there is no repository {name} in recovery point {point[:8]}", where="--git", hint=f"it holds {there}")
