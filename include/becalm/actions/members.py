"""Which of several pods writes: a replicated database is asked itself, in each of its pods, by the probe of its recipe.

It asks and freezes nothing. No pod that says yes, two of them, or one that does not answer is a hook that did not run, with a
sentence: frozen in the wrong place, a database promises nothing.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import TYPE_CHECKING

from becalm.actions import hooks
from becalm.actions.pods import Resolved
from becalm.errors import BecalmError, HookMissing
from becalm.kube import exec as command_exec
from becalm.model import Excluded
from becalm.quiesce.blueprint import Members
from becalm.quiesce.deadman import as_user

if TYPE_CHECKING:
    from collections.abc import Sequence

    from becalm.actions.pods import Place
    from becalm.clock import Clock
    from becalm.kube.base import Cluster

PROBE_SECONDS = 10.0
SIDE_BY_SIDE = 16


class Role(StrEnum):
    """What a member says of itself."""

    WRITES = "writes"
    FOLLOWS = "follows"
    UNKNOWN = "unknown"


def choose(found: Resolved, cluster: Cluster, clock: Clock) -> Resolved:
    """Keep the places in which the recipe of their hook runs. All are of one hook; where every member is meant, nobody is asked."""
    if not found.places or hooks.recipe(found.places[0].hook).members is Members.EVERY:
        return found
    with ThreadPoolExecutor(max_workers=min(SIDE_BY_SIDE, len(found.places)), thread_name_prefix="probe") as pool:
        answers = list(pool.map(lambda place: _ask(place, cluster, clock), found.places))
    return decide(found, answers)


def decide(found: Resolved, answers: Sequence[tuple[Role, str]]) -> Resolved:
    """Choose the one member that writes. Pure. With none, or with several, there is no place: a person has to look."""
    hook = found.places[0].hook
    told = list(zip(found.places, answers, strict=True))
    writers = [place for place, (role, _) in told if role is Role.WRITES]
    where = f"{hook.name} in {hook.namespace}"
    problems = [
        HookMissing(
            f"it is unknown whether this member writes: {why}", where=str(place), hint="run the probe of the blueprint by hand there"
        )
        for place, (role, why) in told
        if role is Role.UNKNOWN
    ]
    if len(writers) > 1:
        names = ", ".join(place.pod for place in writers)
        problems.append(
            HookMissing(f"{len(writers)} members say that they write: {names}", where=where, hint="end one of the two primaries")
        )
    if not writers and not problems and not found.missing:
        names = ", ".join(place.pod for place in found.places)
        problems.append(HookMissing(f"no member says that it writes: {names}", where=where, hint="look which is the primary"))
    followers = [
        Excluded(what=f"pods/{place}", by=hook.name, because="it follows another member, which is the one that writes")
        for place, (role, _) in told
        if role is Role.FOLLOWS
    ]
    return Resolved(
        places=tuple(writers) if len(writers) == 1 else (),
        missing=(*found.missing, *problems),
        left_out=(*found.left_out, *followers),
    )


def _ask(place: Place, cluster: Cluster, clock: Clock) -> tuple[Role, str]:
    """Ask one member; that it cannot be asked is an answer."""
    hook = place.hook
    try:
        outcome = command_exec.run(
            cluster,
            clock,
            namespace=hook.namespace,
            pod=place.pod,
            container=place.container,
            command=as_user(hook.user, hooks.recipe(hook).probe),
            timeout_seconds=PROBE_SECONDS,
        )
    except BecalmError as error:
        return Role.UNKNOWN, str(error)
    match outcome.exit_code:
        case 0:
            return Role.WRITES, ""
        case 1:
            return Role.FOLLOWS, ""
        case _:
            return Role.UNKNOWN, outcome.reason
