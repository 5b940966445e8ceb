"""The web front of the sample shop: one page that shows its settings and how many visits it had. Its state is in memory.

python -m becalm.sandbox.samples.front --settings /etc/shop --ready /run/shop/ready
"""

# ruff: noqa: T201  (a program whose output is its log)

from __future__ import annotations

import argparse
import html
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Page(BaseHTTPRequestHandler):
    """Answers every GET with the page."""

    settings: Path
    visits = 0

    def do_GET(self) -> None:
        """Send the page."""
        Page.visits += 1
        title = _text(self.settings / "title", "Shop")
        greeting = _text(self.settings / "greeting", "")
        body = f"<!doctype html><title>{title}</title><h1>{title}</h1><p>{greeting}</p><p>Visit {Page.visits}</p>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class names it so)
        """Write one line per request."""
        print(format % args, flush=True)


def _text(path: Path, otherwise: str) -> str:
    try:
        return html.escape(path.read_text().strip())
    except FileNotFoundError:
        return otherwise


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to end; where the port is taken (pods share one machine in the sandbox), another one is used and named."""
    parser = argparse.ArgumentParser(prog="front", description="The web front of the sample shop.")
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--ready", type=Path, required=True, help="the file that says that it serves")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    options = parser.parse_args(arguments)
    Page.settings = options.settings
    try:
        server = ThreadingHTTPServer((options.address, options.port), Page)
    except OSError:
        server = ThreadingHTTPServer((options.address, 0), Page)
    print(f"serving http://{options.address}:{server.server_address[1]}/", flush=True)
    options.ready.write_text("ready")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
