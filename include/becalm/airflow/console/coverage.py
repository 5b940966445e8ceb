"""What nothing covers: the looks of the DAG of coverage at each cluster, as the bucket keeps them.

A record tells of all namespaces of a cluster; so it is shown to whoever may see every policy of that cluster, and to nobody else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import Response  # noqa: TC002  (FastAPI reads it from the signature)

from becalm.airflow.console import words
from becalm.airflow.console.contents_view import page_asked
from becalm.airflow.console.rights import visitor_of
from becalm.catalog import coverage
from becalm.errors import BecalmError, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from becalm.airflow.console.desk import Desk
    from becalm.airflow.console.rights import Visitor
    from becalm.catalog.coverage import CoverageRecord, Look, Open
    from becalm.policy.spec import ProtectionPolicy

PAGE = 100
WIDTH, HEIGHT = 640, 120
MOST_DRAWN = 120
"""So many looks are drawn, the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One look in the plot."""

    x: float
    y: float
    words: str


def dots(looks: Sequence[Look]) -> list[Dot]:
    """Place the looks that have a score: time to the right, percent upwards. Pure."""
    drawn = [(look, look.percent) for look in looks[-MOST_DRAWN:] if look.percent is not None]
    if not drawn:
        return []
    begin, length = drawn[0][0].time, (drawn[-1][0].time - drawn[0][0].time).total_seconds()
    return [
        Dot(
            x=round(WIDTH * ((look.time - begin).total_seconds() / length), 1) if length else float(WIDTH),
            y=round(HEIGHT * (1 - percent / 100), 1),
            words=f"{words.time_of(look.time)}: {look.arithmetic}",
        )
        for look, percent in drawn
    ]


def matching(pieces: Sequence[Open], asked: str) -> list[Open]:
    """Return the pieces with these letters in them, large or small. Pure."""
    wanted = asked.casefold()
    return [one for one in pieces if wanted in f"{one.where}\n{one.what}\n{one.because}".casefold()]


def clusters(policies: Mapping[str, ProtectionPolicy | BecalmError], visitor: Visitor) -> dict[str, str]:
    """Return the clusters that the visitor may see whole, each with the policy in whose bucket its record stands."""
    found: dict[str, list[str]] = {}
    for name, policy in policies.items():
        if not isinstance(policy, BecalmError):
            found.setdefault(policy.spec.cluster, []).append(name)
    return {cluster: min(found[cluster]) for cluster in sorted(found) if len(visitor.visible(found[cluster])) == len(found[cluster])}


def routes(desk: Desk) -> APIRouter:
    """Return the routes of this page."""
    router = APIRouter()

    @router.get("/coverage")
    def covered(request: Request) -> Response:
        visitor = visitor_of(request)
        fields = words.read_fields(request.scope["query_string"])
        page, text = page_asked(fields.get("page", "1")), fields.get("q", "")
        there = clusters(desk.library.policies(), visitor)
        asked = fields.get("cluster", "")
        if asked and asked not in there:
            raise NotFound(f"there is no cluster {words.name_of(asked)} that you may see whole", hint="look at the overview")
        cluster = asked or next(iter(there), "")
        record: CoverageRecord | None = None
        problem = ""
        if cluster:
            try:
                record, _ = coverage.load(desk.library.repository(there[cluster]))
            except BecalmError as error:
                problem = str(error)
        found = matching(record.open, text) if record else []
        return desk.page(
            "coverage.html",
            visitor,
            request,
            clusters=list(there),
            cluster=cluster,
            record=record,
            look=record.looks[-1] if record and record.looks else None,
            dots=dots(record.looks) if record else [],
            width=WIDTH,
            height=HEIGHT,
            problem=problem,
            q=text,
            found=found[(page - 1) * PAGE : page * PAGE],
            total=len(found),
            page=page,
            pages=max(1, -(-len(found) // PAGE)),
        )

    return router
