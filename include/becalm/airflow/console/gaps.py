"""The slots that nothing answers, and the form that has Airflow make up for them: the page asks Airflow itself, as the visitor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import Response  # noqa: TC002  (FastAPI reads it from the signature)

from becalm.airflow.console.cache import StillReading
from becalm.airflow.console.rights import Right, visitor_of
from becalm.clock import format_time

if TYPE_CHECKING:
    from becalm.airflow.console.desk import Desk

MOST_SHOWN = 500


def routes(desk: Desk) -> APIRouter:
    """Return the routes of this page."""
    router = APIRouter(prefix="/policies/{policy}")

    @router.get("/gaps")
    def gaps(request: Request, policy: str) -> Response:
        visitor = visitor_of(request)
        found = desk.policy(visitor, policy)
        answer = desk.library.status(policy)
        if answer is None:
            raise StillReading
        stands = answer.value
        between = (format_time(stands.gaps[0].slot), format_time(stands.gaps[-1].slot)) if stands.gaps else ("", "")
        return desk.page(
            "gaps.html",
            visitor,
            request,
            policy=found,
            stands=stands,
            gaps=list(reversed(stands.gaps))[:MOST_SHOWN],
            between=between,
            may_trigger=visitor.may(Right.TRIGGER, policy),
        )

    return router
