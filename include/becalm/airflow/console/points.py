"""The recovery points of a policy, one of them, and the form that restores it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from becalm.airflow.console import points_view, words
from becalm.airflow.console.evidence_view import evidence
from becalm.airflow.console.rights import Right, demand, visitor_of
from becalm.errors import BecalmError, UsageError
from becalm.repository.format import Layout
from becalm.repository.tree import lookup

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from becalm.airflow.console.desk import Desk
    from becalm.model import RecoveryPoint
    from becalm.repository.reader import Repository

LARGEST_DESCRIPTION = 64 << 20
MOST_DAYS = 36_500
MOST_NOTE = 1000


def read_description(repository: Repository, point: RecoveryPoint) -> tuple[dict[str, Any], str]:
    """Return what a point says of itself, and what is wrong where it says nothing."""
    try:
        node = lookup(repository, point.tree, "recovery-point.json")
        if node.size > LARGEST_DESCRIPTION:
            return {}, "recovery-point.json is too large to be shown"
        found = orjson.loads(b"".join(repository.read_file(node)))
    except (BecalmError, ValueError) as error:
        return {}, f"recovery-point.json cannot be read: {error}"
    return (found, "") if isinstance(found, dict) else ({}, "recovery-point.json is no document")


def locked_until(repository: Repository, point: RecoveryPoint) -> Any:
    """Return until when the point's snapshot is locked; nothing where it is not, or nobody knows."""
    try:
        return repository.store.head(Layout.snapshot(point.id)).retain_until
    except BecalmError:
        return None


def pinned_until(days: str, now: datetime) -> datetime | None:
    """Read for how many days a point is pinned; for good, if nothing is said. Raises UsageError."""
    if not days.strip():
        return None
    if not (days.isascii() and days.isdigit() and 1 <= int(days[:6]) <= MOST_DAYS):
        raise UsageError(f"{words.name_of(days)} is no number of days from 1 to {MOST_DAYS}", hint="leave it empty to pin for good")
    return now + timedelta(days=int(days))


def routes(desk: Desk) -> APIRouter:
    """Return the routes of these pages."""
    router = APIRouter(prefix="/policies/{policy}/points")

    @router.get("")
    def listed(request: Request, policy: str) -> Response:
        visitor = visitor_of(request)
        found = desk.policy(visitor, policy)
        fields = words.read_fields(request.scope["query_string"])
        asked, now = points_view.Search.read(fields), desk.clock.now()
        answer = desk.library.points(policy)
        points = answer.value.points
        month = points_view.month_asked(fields.get("month", ""), now)
        matching = points_view.search(points, asked, now=now)
        page = points_view.page_of(matching, asked, answer.value.decisions, rules=found.spec.retention is not None)
        return desk.page(
            "points.html",
            visitor,
            request,
            policy=found,
            asked=asked,
            page=page,
            states=points_view.STATES,
            weeks=points_view.month_of(points, month, now=now),
            month=month,
            beside=points_view.beside(month),
            unread=answer.value.findings,
            read=answer.read,
            problem=answer.problem,
            all=len(points),
        )

    @router.get("/{point}")
    def one(request: Request, policy: str, point: str) -> Response:
        visitor = visitor_of(request)
        found = desk.policy(visitor, policy)
        listed = desk.library.points(policy).value
        shown = listed.find(point)
        repository = desk.library.repository(policy)
        description, problem = read_description(repository, shown)
        decision = listed.decisions.get(shown.id)
        neighbours = [other for other in listed.points if other.id != shown.id]
        return desk.page(
            "point.html",
            visitor,
            request,
            policy=found,
            point=shown,
            state=points_view.state_of(shown),
            told=description,
            problem=problem,
            drawn=evidence(description),
            decision=decision,
            locked=locked_until(repository, shown),
            may_pin=visitor.may(Right.PIN, policy),
            token=desk.tokens.make(visitor, f"{request.scope.get('root_path', '')}/policies/{policy}/points/{point}/pin"),
            others=list(reversed(neighbours))[:30],
        )

    @router.post("/{point}/pin")
    async def pin(request: Request, policy: str, point: str) -> Response:
        fields = await desk.posted(request, visitor_of(request), policy)
        return await run_in_threadpool(pinned, request, policy, point, fields)

    def pinned(request: Request, policy: str, point: str, fields: Mapping[str, str]) -> Response:
        visitor = visitor_of(request)
        demand(visitor, Right.PIN, policy)
        shown = desk.library.points(policy).value.find(point)
        if fields.get("deed") == "unpin":
            desk.library.unpin(policy, shown.id, who=visitor.name)
        else:
            until = pinned_until(fields.get("days", ""), desk.clock.now())
            desk.library.pin(policy, shown.id, who=visitor.name, note=fields.get("note", "")[:MOST_NOTE], until=until)
        address = f"{request.scope.get('root_path', '')}/policies/{words.in_url(policy)}/points/{shown.id}"
        return Response(status_code=303, headers={"Location": address})

    @router.get("/{point}/restore")
    def restore(request: Request, policy: str, point: str) -> Response:
        visitor = visitor_of(request)
        found = desk.policy(visitor, policy)
        demand(visitor, Right.RESTORE, policy)
        shown = desk.library.points(policy).value.find(point)
        fields = words.read_fields(request.scope["query_string"])
        description, _ = read_description(desk.library.repository(policy), shown)
        spaces = sorted({str(volume["volume"]["namespace"]) for volume in description.get("volumes", ())} | set(_namespaces(description)))
        wanted = {key: fields[key] for key in ("objects", "volumes") if fields.get(key)}
        return desk.page(
            "restore.html", visitor, request, policy=found, point=shown, namespaces=spaces, wanted=wanted, state=points_view.state_of(shown)
        )

    return router


def _namespaces(description: dict[str, Any]) -> list[str]:
    return [str(one.get("application")) for one in description.get("applications", ()) if one.get("application")]
