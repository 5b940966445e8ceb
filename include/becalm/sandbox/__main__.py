"""`python -m becalm.sandbox serve --state DIR`: a cluster of one process, until it is told to end."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import logging
import secrets
import signal
import sys
from pathlib import Path

from becalm.sandbox.cluster import Sandbox

_IN_USE = 2
_NO_PORT = 3


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m becalm.sandbox", description=__doc__)
    verbs = parser.add_subparsers(required=True)
    serve = verbs.add_parser("serve", help="serve until SIGTERM")
    serve.add_argument("--state", type=Path, required=True, help="the folder that holds everything; it is made if need be")
    serve.add_argument("--port", type=int, default=0, help="0: the port of last time, or a free one")
    serve.add_argument("--kubeconfig", type=Path, help="where to write the kubeconfig (default: in the folder)")
    serve.add_argument("--compact-after", type=float, default=300, metavar="SECONDS", help="how long old revisions stay readable at least")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    options.state.mkdir(parents=True, exist_ok=True)
    with (options.state / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{options.state}: another sandbox uses this folder; end it, or name another with --state", file=sys.stderr)
            return _IN_USE
        return asyncio.run(_serve(options.state.resolve(), options.port, options.kubeconfig, options.compact_after))


async def _serve(state: Path, port: int, kubeconfig: Path | None, compact_after: float) -> int:
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    card = state / "server.json"
    known = json.loads(card.read_text()) if card.exists() else {"token": secrets.token_urlsafe(24), "port": 0}
    sandbox = Sandbox(state, token=known["token"], compact_after_seconds=compact_after)
    try:
        try:
            found = await sandbox.start(port or known["port"])
        except OSError as error:
            print(f"port {port or known['port']}: {error.strerror}; name another with --port", file=sys.stderr)
            return _NO_PORT
        url = f"http://127.0.0.1:{found}"
        _write(card, json.dumps({"token": known["token"], "port": found}))
        _write(kubeconfig or state / "kubeconfig", kubeconfig_text(url, known["token"]))
        print(f"sandbox listens on {url}", flush=True)
        await ending.wait()
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await sandbox.stop()
    return 0


def kubeconfig_text(url: str, token: str) -> str:
    """Return a kubeconfig; JSON is YAML too."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "sandbox",
            "clusters": [{"name": "sandbox", "cluster": {"server": url}}],
            "users": [{"name": "sandbox", "user": {"token": token}}],
            "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": "sandbox", "namespace": "default"}}],
        },
        indent=1,
    )


def _write(path: Path, text: str) -> None:
    """Write a file whole, for its owner only: it holds the token."""
    part = path.with_name(f"{path.name}.part")
    part.touch(mode=0o600)
    part.write_text(text)
    part.rename(path)


if __name__ == "__main__":
    sys.exit(main())
