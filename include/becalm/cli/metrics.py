"""`becalm metrics`: how policies stand, for Prometheus, without Airflow. Computed from the bucket, so that no restart loses anything."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path  # noqa: TC003  (typer resolves the annotations at run time)
from typing import TYPE_CHECKING, Annotated

import typer

from becalm.actions.metrics import CONTENT_TYPE, families, render
from becalm.cli.console import notes
from becalm.cli.gaps import Policies, stand
from becalm.clock import SystemClock
from becalm.errors import PolicyError, UsageError
from becalm.policy.load import load_files, load_folder

if TYPE_CHECKING:
    from becalm.clock import Clock
    from becalm.policy.spec import ProtectionPolicy

app = typer.Typer(help="How policies stand, for Prometheus.", no_args_is_help=True)
SizesOption = Annotated[bool, typer.Option("--sizes", help="Count the bytes of each repository, too: it lists every pack.")]


@app.command("print")
def print_(policies: Policies, *, sizes: SizesOption = False) -> None:
    """Print all metrics once."""
    typer.echo(collect(policies, sizes=sizes), nl=False)


@app.command()
def serve(
    policies: Policies,
    *,
    listen: Annotated[str, typer.Option("--listen", help="Address and port.")] = "127.0.0.1:9187",
    fresh: Annotated[int, typer.Option("--fresh", help="For so many seconds an answer is given again without asking the bucket.")] = 30,
    sizes: SizesOption = False,
) -> None:
    """Answer at /metrics, until it is interrupted. There is no password: let only Prometheus reach it."""
    host, port = address(listen)
    try:
        server = make_server(host, port, Page(policies=policies, fresh_seconds=fresh, sizes=sizes, clock=SystemClock()))
    except OSError as error:
        raise UsageError(f"nobody can listen there: {error.strerror}", where=f"--listen {listen}", hint="choose another port") from error
    notes.print(f"http://{host}:{server.server_address[1]}/metrics", markup=False)
    with server:
        server.serve_forever()


def address(text: str) -> tuple[str, int]:
    """Read `host:port`. Raises UsageError."""
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 2**16):
        raise UsageError(f"{text!r} is no address with a port", where="--listen", hint="write it as 127.0.0.1:9187")
    return host.strip("[]"), int(port)


def collect(paths: list[Path], *, sizes: bool = False) -> str:
    """Return the metrics of all policies. A broken one is counted, and hides no other."""
    found: dict[Path, ProtectionPolicy | PolicyError] = {}
    for path in paths:
        found.update(load_folder(path) if path.is_dir() else load_files([path]))
    statuses = [stand(policy, path, count_bytes=sizes) for path, policy in found.items() if not isinstance(policy, PolicyError)]
    return render(families(statuses, broken=len(found) - len(statuses)))


@dataclass(kw_only=True)
class Page:
    """The metrics as they were last computed; one asks the bucket, the others wait for it."""

    policies: list[Path]
    fresh_seconds: float
    sizes: bool
    clock: Clock
    _text: str = ""
    _computed: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def text(self) -> str:
        """Return the metrics, computed anew where they are no longer fresh."""
        with self._lock:
            now = self.clock.monotonic()
            if self._computed is None or now - self._computed > self.fresh_seconds:
                self._text, self._computed = collect(self.policies, sizes=self.sizes), now
            return self._text


def make_server(host: str, port: int, page: Page) -> ThreadingHTTPServer:
    """Return a server that answers at /metrics, and nowhere else."""

    class Handler(BaseHTTPRequestHandler):
        server_version = "becalm"

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self.send_error(404)
                return
            body = page.text().encode()
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Say nothing: a scrape every few seconds is no news."""

    return ThreadingHTTPServer((host, port), Handler)
