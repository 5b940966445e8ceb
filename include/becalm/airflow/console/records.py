"""What was done: the ledger, the drills, and the numbers for Prometheus."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response

from becalm.actions import drill_record
from becalm.actions.metrics import families, render
from becalm.airflow.console import words
from becalm.airflow.console.cache import StillReading
from becalm.airflow.console.contents_view import page_asked
from becalm.airflow.console.rights import visitor_of
from becalm.catalog import ledger
from becalm.errors import BecalmError, NotFound
from becalm.model import Finding

if TYPE_CHECKING:
    from becalm.actions.objectives import PolicyStatus
    from becalm.airflow.console.desk import Desk
    from becalm.repository.reader import Repository

PAGE = 50
MOST_DRILLS = 100
MOST_SAID = 600


def _entries(repository: Repository, page: int) -> tuple[list[Any], int]:
    """Return one page of the ledger, newest first, and how many entries there are. One that cannot be read is a finding in its place."""
    there = ledger.numbers(repository)
    shown: list[Any] = []
    for number in islice(reversed(there), (page - 1) * PAGE, page * PAGE):
        try:
            shown.append(ledger.entry(repository, number))
        except BecalmError as error:
            shown.append(Finding(where=f"entry {number}", message=error.message, remedy=error.hint))
    return shown, len(there)


def said(content: dict[str, Any]) -> str:
    """Write the content of an entry in one line."""
    text = orjson.dumps(content, option=orjson.OPT_SORT_KEYS, default=str).decode()
    return text if len(text) <= MOST_SAID else text[:MOST_SAID] + "…"


def chosen(desk: Desk, request: Request) -> tuple[list[str], str]:
    """Return the policies that may be seen, and the one that was asked for; without a word, the first. Raises NotFound."""
    names = visitor_of(request).visible(desk.library.policies())
    asked = words.read_fields(request.scope["query_string"]).get("policy", "")
    if asked and asked not in names:
        raise NotFound(f"there is no policy {words.name_of(asked)} that you may see", hint="look at the overview")
    return names, asked or (names[0] if names else "")


def routes(desk: Desk) -> APIRouter:
    """Return the routes of these pages."""
    router = APIRouter()

    @router.get("/ledger")
    def entries(request: Request) -> Response:
        names, name = chosen(desk, request)
        page = page_asked(words.read_fields(request.scope["query_string"]).get("page", "1"))
        shown: list[Any] = []
        total, missing = 0, []
        if name:
            repository = desk.library.repository(desk.library.policy(name).name)
            shown, total = _entries(repository, page)
            missing = ledger.gaps(repository)
        return desk.page(
            "ledger.html",
            visitor_of(request),
            request,
            names=names,
            name=name,
            entries=shown,
            total=total,
            page=page,
            pages=max(1, -(-total // PAGE)),
            missing=missing,
            said=said,
        )

    @router.get("/drills")
    def drills(request: Request) -> Response:
        names, name = chosen(desk, request)
        reports, problem = [], ""
        if name:
            try:
                reports = list(reversed(drill_record.listed(desk.library.repository(desk.library.policy(name).name))))[:MOST_DRILLS]
            except BecalmError as error:
                problem = str(error)
        return desk.page("drills.html", visitor_of(request), request, names=names, name=name, reports=reports, problem=problem)

    @router.get("/metrics")
    def metrics(request: Request) -> Response:
        policies = desk.library.policies()
        statuses: list[PolicyStatus] = []
        broken = 0
        for name in visitor_of(request).visible(policies):
            if isinstance(policies[name], BecalmError):
                broken += 1
                continue
            try:
                answer = desk.library.status(name)
            except (BecalmError, StillReading):
                answer = None
            if answer is not None:
                statuses.append(answer.value)
        return Response(render(families(statuses, broken=broken)), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router
