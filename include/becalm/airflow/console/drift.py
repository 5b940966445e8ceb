"""What has drifted of a policy, look by look, as the bucket keeps it; and what was acknowledged until when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import Response  # noqa: TC002  (FastAPI reads it from the signature)

from becalm.airflow.console import words
from becalm.airflow.console.contents_view import page_asked
from becalm.airflow.console.coverage import PAGE, matching
from becalm.airflow.console.records import chosen
from becalm.airflow.console.rights import visitor_of
from becalm.catalog import drift
from becalm.errors import BecalmError

if TYPE_CHECKING:
    from becalm.airflow.console.desk import Desk
    from becalm.catalog.drift import DriftRecord

MOST_LOOKS = 60


def routes(desk: Desk) -> APIRouter:
    """Return the routes of this page."""
    router = APIRouter()

    @router.get("/drift")
    def drifted(request: Request) -> Response:
        names, name = chosen(desk, request)
        fields = words.read_fields(request.scope["query_string"])
        page, text = page_asked(fields.get("page", "1")), fields.get("q", "")
        record: DriftRecord | None = None
        problem = ""
        if name:
            try:
                record, _ = drift.load(desk.library.repository(desk.library.policy(name).name))
            except BecalmError as error:
                problem = str(error)
        found = matching(record.open, text) if record else []
        return desk.page(
            "drift.html",
            visitor_of(request),
            request,
            names=names,
            name=name,
            record=record,
            looks=list(reversed(record.looks))[:MOST_LOOKS] if record else [],
            problem=problem,
            q=text,
            found=found[(page - 1) * PAGE : page * PAGE],
            total=len(found),
            page=page,
            pages=max(1, -(-len(found) // PAGE)),
        )

    return router
