"""`becalm init`: make the repository of a policy, once."""

from __future__ import annotations

from becalm.cli.console import console, print_json
from becalm.cli.ports import JsonOption, NameOption, PasswordOption, PolicyFile, TargetOption, find_place
from becalm.errors import NoRepository
from becalm.repository.reader import init_repository, open_repository


def init(
    policy: PolicyFile = None,
    target: TargetOption = "",
    name: NameOption = "",
    password: PasswordOption = "",
    json: JsonOption = False,  # noqa: FBT002  (a flag)
) -> None:
    """Make the repository of a policy in its target. A repository that is there already, with this password, is fine."""
    place, _ = find_place(policy, target=target, name=name, password=password, create=True)
    try:
        repository, made = open_repository(place.store, place.password), False
    except NoRepository:
        repository, made = init_repository(place.store, place.password), True
    if json:
        print_json({"ok": True, "created": made, "repository": repository.id, "url": place.url})
        return
    console.print(f"{'created' if made else 'found'} repository {repository.id[:10]} at {place.url}", markup=False)
    if made:
        console.print("Keep its password in a second place: without it nobody can read what is in there.")
