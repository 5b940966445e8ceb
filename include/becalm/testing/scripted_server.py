"""A server on loopback that answers as a test says: what a real server cannot be made to do at will."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client sent."""

    method: str
    path: str
    """With its query."""
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What it gets for it."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    declared_length: int | None = None
    """A Content-Length that is not the body's: the connection is cut after the body."""


@dataclass(slots=True)
class Server:
    """A running server: its address, and what it was asked."""

    url: str
    asked: list[Request]


@contextmanager
def serving(script: Callable[[Request], Response]) -> Iterator[Server]:
    """Serve a script on a free port until the end of the block."""
    asked: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            request = Request(method=self.command, path=self.path, headers=dict(self.headers), body=self.rfile.read(length))
            asked.append(request)
            response = script(request)
            self.send_response_only(response.status)
            if "Date" not in response.headers:
                self.send_header("Date", self.date_time_string())
            for name, value in response.headers.items():
                self.send_header(name, value)
            declared = len(response.body) if response.declared_length is None else response.declared_length
            self.send_header("Content-Length", str(declared))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(response.body)
            self.close_connection = declared != len(response.body)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer  # noqa: N815  (the library's names)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the library's signature)
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Server(url=f"http://127.0.0.1:{server.server_address[1]}", asked=asked)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
