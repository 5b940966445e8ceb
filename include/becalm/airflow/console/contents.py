"""Inside a recovery point: its objects, its volumes' files, and what a visitor takes away. Each deed is in the ledger before it is done."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response, StreamingResponse

from becalm.airflow.console import contents_view, object_view, words
from becalm.airflow.console.archive import archived
from becalm.airflow.console.rights import Right, demand, visitor_of
from becalm.catalog.ledger import EntryKind
from becalm.errors import NotFound, UsageError
from becalm.repository.node import NodeType
from becalm.repository.quoting import to_bytes
from becalm.repository.tree import lookup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from becalm.airflow.console.desk import Desk
    from becalm.airflow.console.rights import Visitor
    from becalm.model import Manifest, RecoveryPoint
    from becalm.repository.node import Node
    from becalm.repository.reader import Repository

LARGEST_OBJECT = 4 << 20
"""A larger object is downloaded, not shown."""
OBJECTS, VOLUMES = "resources", "volumes"
ROOTS = (OBJECTS, VOLUMES, "blueprints", "dumps", "overlays", "git", "endpoints")


def opened(desk: Desk, policy: str, point: str) -> tuple[Repository, RecoveryPoint]:
    """Return the repository and a point of it. Raises what reading raises."""
    return desk.library.repository(policy), desk.library.points(policy).value.find(point)


def _object(repository: Repository, point: RecoveryPoint, path: str) -> Manifest:
    node = lookup(repository, point.tree, contents_view.checked(path, OBJECTS))
    if node.type is not NodeType.FILE:
        raise NotFound("this is a folder, not an object", hint="go back to the objects")
    if node.size > LARGEST_OBJECT:
        raise UsageError("the object is too large to be shown", hint="download it")
    found = object_view.read_object(b"".join(repository.read_file(node)))
    if found is None:
        raise NotFound("this is no object", hint="go back to the objects")
    return found


def _file(repository: Repository, point: RecoveryPoint, path: str) -> Node:
    root = path.strip("/").partition("/")[0]
    if root not in ROOTS:
        raise UsageError("there is nothing to download here", hint="go back to the recovery point")
    node = lookup(repository, point.tree, contents_view.checked(path, root))
    if node.type is not NodeType.FILE:
        raise NotFound(f"{words.name_of(node.name)} is a {node.type}, not a file", hint="go back to its folder")
    return node


def attachment(name: str) -> str:
    """Return the header that makes a browser save a file under its name, whatever the name is."""
    plain = "".join(one if one.isascii() and (one.isalnum() or one in "._-") else "_" for one in name) or "file"
    return f"attachment; filename=\"{plain[:150]}\"; filename*=UTF-8''{quote(to_bytes(name), safe='')}"


def routes(desk: Desk) -> APIRouter:
    """Return the routes of these pages."""
    router = APIRouter(prefix="/policies/{policy}/points/{point}")

    def show_folder(request: Request, policy: str, point: str, root: str) -> Response:
        visitor = visitor_of(request)
        found = desk.policy(visitor, policy)
        fields = words.read_fields(request.scope["query_string"])
        repository, shown = opened(desk, policy, point)
        path = contents_view.checked(fields.get("path", root), root)
        folder = contents_view.folder(repository, shown, path, page=contents_view.page_asked(fields.get("page", "1")))
        return desk.page(
            "folder.html",
            visitor,
            request,
            policy=found,
            point=shown,
            folder=folder,
            objects=root == OBJECTS,
            may_download=visitor.may(Right.DOWNLOAD, policy),
        )

    @router.get("/objects")
    def objects(request: Request, policy: str, point: str) -> Response:
        return show_folder(request, policy, point, OBJECTS)

    @router.get("/files")
    def files(request: Request, policy: str, point: str) -> Response:
        return show_folder(request, policy, point, VOLUMES)

    def show_object(request: Request, policy: str, point: str, path: str, *, bare: bool) -> Response:
        visitor = visitor_of(request)
        repository, shown = opened(desk, policy, point)
        manifest = _object(repository, shown, path)
        deed = f"{request.scope.get('root_path', '')}/policies/{policy}/points/{point}/reveal"
        return desk.page(
            "object.html",
            visitor,
            request,
            policy=desk.policy(visitor, policy),
            point=shown,
            path=path,
            text=object_view.as_yaml(manifest if bare else object_view.hidden(manifest)),
            secret=object_view.is_secret(manifest),
            wanted=object_view.pattern_of(manifest),
            bare=bare,
            may_reveal=visitor.may(Right.REVEAL, policy),
            may_download=visitor.may(Right.DOWNLOAD, policy),
            token=desk.tokens.make(visitor, deed),
        )

    @router.get("/object")
    def one_object(request: Request, policy: str, point: str) -> Response:
        desk.policy(visitor_of(request), policy)
        path = words.read_fields(request.scope["query_string"]).get("path", "")
        return show_object(request, policy, point, path, bare=False)

    @router.post("/reveal")
    async def reveal(request: Request, policy: str, point: str) -> Response:
        visitor = visitor_of(request)
        fields = await desk.posted(request, visitor, policy)
        return await run_in_threadpool(revealed, request, policy, point, fields)

    def revealed(request: Request, policy: str, point: str, fields: Mapping[str, str]) -> Response:
        visitor = visitor_of(request)
        demand(visitor, Right.REVEAL, policy)
        path = fields.get("path", "")
        repository, shown = opened(desk, policy, point)
        if object_view.is_secret(_object(repository, shown, path)):
            _note(desk, EntryKind.REVEALED, visitor, policy=policy, point=shown, path=path)
        return show_object(request, policy, point, path, bare=True)

    @router.get("/download")
    def download(request: Request, policy: str, point: str) -> Response:
        visitor = visitor_of(request)
        desk.policy(visitor, policy)
        demand(visitor, Right.DOWNLOAD, policy)
        path = words.read_fields(request.scope["query_string"]).get("path", "")
        repository, shown = opened(desk, policy, point)
        node = _file(repository, shown, path)
        if path.strip("/").startswith((f"{OBJECTS}/core/secrets/", "endpoints/")):
            demand(visitor, Right.REVEAL, policy)
        parts = repository.read_file(node)
        first = next(parts, b"")  # what is damaged at once is said before a byte is sent
        _note(desk, EntryKind.DOWNLOADED, visitor, policy=policy, point=shown, path=path)
        return StreamingResponse(
            map(bytes, chain((first,), parts)),
            media_type="application/octet-stream",
            headers={"Content-Disposition": attachment(node.name), "Content-Length": str(node.size), "Content-Security-Policy": "sandbox"},
        )

    @router.get("/archive")
    def archive(request: Request, policy: str, point: str) -> Response:
        visitor = visitor_of(request)
        desk.policy(visitor, policy)
        demand(visitor, Right.DOWNLOAD, policy)
        path = words.read_fields(request.scope["query_string"]).get("path", "")
        repository, shown = opened(desk, policy, point)
        wanted = contents_view.checked(path, VOLUMES)
        node = lookup(repository, shown.tree, wanted)
        if node.type is not NodeType.DIR or wanted.strip("/") == VOLUMES:
            raise UsageError("an archive is made of a volume, or of a folder in one", hint="go back to the files")
        _note(desk, EntryKind.DOWNLOADED, visitor, policy=policy, point=shown, path=path)
        return StreamingResponse(
            archived(repository, shown.tree, wanted),
            media_type="application/x-tar",
            headers={"Content-Disposition": attachment(f"{node.name}.tar"), "Content-Security-Policy": "sandbox"},
        )

    return router


def _note(desk: Desk, kind: EntryKind, visitor: Visitor, *, policy: str, point: RecoveryPoint, path: str) -> None:
    """Write down who saw what, before it is seen."""
    desk.library.note(policy, kind, {"format": 1, "point": point.id, "path": words.name_of(path.strip("/"))}, who=visitor.name)
