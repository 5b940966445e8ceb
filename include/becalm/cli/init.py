"""`becalm init`: try the target out and make the repository of a policy, once. Run again, it tries the target out again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from becalm.cli import recovery
from becalm.cli.console import console, print_json
from becalm.cli.ports import JsonOption, NameOption, PasswordOption, PolicyFile, TargetOption, find_place
from becalm.errors import NoRepository, UsageError
from becalm.repository.probe import probe
from becalm.repository.reader import init_repository, open_repository

if TYPE_CHECKING:
    from becalm.repository.reader import Repository
    from becalm.storage.base import ObjectStore

RecoveryOption = Annotated[
    str,
    typer.Option(
        "--recovery-key",
        metavar="FILE|print",
        help="Make a second password for emergencies, into a new file or onto the terminal, and prove that it opens the repository.",
    ),
]


def init(  # noqa: PLR0917  (typer reads the options from the signature)
    policy: PolicyFile = None,
    target: TargetOption = "",
    name: NameOption = "",
    password: PasswordOption = "",
    recovery_key: RecoveryOption = "",
    json: JsonOption = False,  # noqa: FBT002  (a flag)
) -> None:
    """Make the repository of a policy in its target. A repository that is there already, with this password, is fine.

    The target is tried out first, every time: conditional writes, and that it refuses to delete what is locked, where the policy locks.
    """
    if json and recovery_key == recovery.PRINT:
        raise UsageError("a document for programs is no place for a recovery key", where="--recovery-key print", hint="give it a file")
    place, loaded = find_place(policy, target=target, name=name, password=password, create=True)
    lock = loaded.spec.target.lock if loaded else None
    repository = _open(place.store, place.password)  # before anything is written to a target that is somebody else's
    holds = probe(place.store, locks=lock is not None)
    made = repository is None
    repository = repository or init_repository(place.store, place.password)
    recovered = recovery.make(repository, recovery_key) if recovery_key else ""
    if json:
        document = {"ok": True, "created": made, "repository": repository.id, "url": place.url, "holds": holds, "recovery_key": recovered}
        print_json(document)
        return
    for sentence in holds:
        console.print(f"tried: {sentence}", markup=False)
    console.print(f"{'created' if made else 'found'} repository {repository.id[:10]} at {place.url}", markup=False)
    if recovered:
        console.print(f"recovery key {recovered[:8]} opens the repository; keep it apart from the password", markup=False)
    elif made:
        console.print("Keep its password in a second place: without it nobody can read what is in there.")


def _open(store: ObjectStore, password: str) -> Repository | None:
    """Open the repository, or return nothing where there is none yet."""
    try:
        return open_repository(store, password)
    except NoRepository:
        return None
