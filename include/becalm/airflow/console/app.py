"""The console's application: closed by default, strict headers on every answer, and an error is a page that says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from becalm.airflow.console import compare, contents, coverage, drift, gaps, overview, points, records
from becalm.airflow.console.cache import StillReading
from becalm.airflow.console.desk import Desk, templates
from becalm.airflow.console.rights import Refused
from becalm.airflow.console.tokens import Tokens
from becalm.errors import BecalmError, IntegrityError, NotFound, PointMissing, PolicyError, TransientError, UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from becalm.airflow.console.library import Library
    from becalm.airflow.console.rights import Visitor
    from becalm.clock import Clock

STATIC = Path(__file__).parent / "static"
STATIC_TYPES = {"console.css": "text/css; charset=utf-8", "console.js": "text/javascript; charset=utf-8"}

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
STATUS_OF = (
    (UsageError, 400),
    (NotFound, 404),
    (PointMissing, 404),
    (PolicyError, 422),
    (TransientError, 503),
    (IntegrityError, 502),
    (BecalmError, 502),
)


def create_app(library: Library, *, secret: str, clock: Clock, identify: Callable[..., Visitor]) -> FastAPI:
    """Return the application. `identify` says who asks, and turns strangers away; every route depends on it."""
    desk = Desk(library=library, tokens=Tokens(secret, clock), clock=clock, templates=templates())
    app = FastAPI(title="Becalm", docs_url=None, redoc_url=None, openapi_url=None, dependencies=[Depends(_admits(identify))])
    for module in (overview, points, contents, compare, records, coverage, drift, gaps):
        app.include_router(module.routes(desk))

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in STATIC_TYPES:
            raise HTTPException(404)
        return Response((STATIC / name).read_bytes(), media_type=STATIC_TYPES[name], headers={"Cache-Control": "private, max-age=300"})

    _guard(app)
    _explain(app, desk)
    return app


def _admits(identify: Callable[..., Visitor]) -> Callable[..., None]:
    """Return what stands before every route: it notes who asks, or raises."""

    def admit(request: Request, visitor: Any = Depends(identify)) -> None:  # noqa: B008  (the dependency is an argument here)
        request.state.visitor = visitor

    return admit


def _guard(app: FastAPI) -> None:
    """Put the headers on every answer."""

    @app.middleware("http")
    async def headers(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await answer(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response


def _explain(app: FastAPI, desk: Desk) -> None:
    """Turn errors into pages."""

    def plain(request: Request, status: int, title: str, said: str, hint: str = "", *, reading: bool = False) -> HTMLResponse:
        nobody: Any = None
        return desk.page("error.html", nobody, request, status=status, title=title, said=said, hint=hint, reading=reading)

    @app.exception_handler(BecalmError)
    async def becalm_error(request: Request, error: BecalmError) -> Response:
        status = next(status for kind, status in STATUS_OF if isinstance(error, kind))
        where = f"{error.where}: " if error.where else ""
        return plain(request, status, "This could not be shown", where + error.message, error.hint)

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return plain(request, 403, "Not allowed", str(error), "ask an administrator of Airflow for the right, or load the page again")

    @app.exception_handler(StillReading)
    async def reading(request: Request, _error: StillReading) -> Response:
        return plain(
            request, 200, "Reading the bucket", "This is being read for the first time.", "The page comes by itself.", reading=True
        )

    @app.exception_handler(HTTPException)
    async def refused_by_airflow(request: Request, error: HTTPException) -> Response:
        hint = "log in to Airflow, then load this page again" if error.status_code == 401 else ""
        return plain(request, error.status_code, "Not shown", str(error.detail), hint)
