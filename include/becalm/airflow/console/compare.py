"""A recovery point beside another one, or beside the cluster as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import Response  # noqa: TC002  (FastAPI reads it from the signature)

from becalm.actions import diff
from becalm.actions.diff_sides import LiveSide, PointSide
from becalm.airflow.console import words
from becalm.airflow.console.contents import opened
from becalm.airflow.console.rights import Right, demand, visitor_of

if TYPE_CHECKING:
    from becalm.airflow.console.desk import Desk

LIVE = "live"
MOST_SHOWN = 300


def routes(desk: Desk) -> APIRouter:
    """Return the routes of this page."""
    router = APIRouter(prefix="/policies/{policy}/points/{point}")

    @router.get("/compare")
    def compare(request: Request, policy: str, point: str) -> Response:
        visitor = visitor_of(request)
        found = desk.policy(visitor, policy)
        other = words.read_fields(request.scope["query_string"]).get("with", LIVE)
        repository, shown = opened(desk, policy, point)
        before = PointSide.open(repository, shown)
        after: diff.Side
        if other == LIVE:
            demand(visitor, Right.TRIGGER, policy)  # it asks the cluster for everything that the policy selects
            after = LiveSide(cluster=desk.library.ports(policy).cluster, like=before)
        else:
            after = PointSide.open(repository, desk.library.points(policy).value.find(other))
        told = diff.compare(before, after)
        return desk.page(
            "compare.html", visitor, request, policy=found, point=shown, told=told, most=MOST_SHOWN, other=other, live=other == LIVE
        )

    return router
