"""Becalm in Airflow's navigation: the console. Every process loads this module, so the pages behind it come with the first request."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PREFIX = "/becalm"
"""Where the console stands below Airflow's own address."""


class Console:
    """The console as an ASGI application that is built when it is first asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._app: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._built()(scope, receive, send)

    def _built(self) -> Any:
        with self._lock:
            if self._app is None:
                from becalm.airflow.console.entrance import console_of_airflow  # noqa: PLC0415  (tasks load plugins too)

                self._app = console_of_airflow()
        return self._app


class BecalmPlugin(AirflowPlugin):
    """The console under `/becalm`, and its entry in the menu."""

    name = "becalm"
    fastapi_apps: list[Any] = [{"app": Console(), "url_prefix": PREFIX, "name": "Becalm"}]  # noqa: RUF012  (Airflow declares it so)
    external_views: list[Any] = [  # noqa: RUF012  (as above)
        {"name": "Becalm", "href": f"{PREFIX}/", "destination": "nav", "url_route": "becalm", "category": "browse"}
    ]
