"""The recovery points of a policy, one of them, and the form that restores it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response  # noqa: TC002  (FastAPI reads it from the signature)

from becalm.airflow.console import points_view, words
from becalm.airflow.console.evidence_view import evidence
from becalm.airflow.console.rights import Right, demand, visitor_of
from becalm.errors import BecalmError
from becalm.repository.format import Layout
from becalm.repository.tree import lookup

if TYPE_CHECKING:
    from becalm.airflow.console.desk import Desk
    from becalm.model import RecoveryPoint
    from becalm.repository.reader import Repository

LARGEST_DESCRIPTION = 64 << 20


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
            others=list(reversed(neighbours))[:30],
        )

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
