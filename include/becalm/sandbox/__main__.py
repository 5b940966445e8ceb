"""`python -m becalm.sandbox serve --state DIR`: a cluster of one process, until it is told to end."""

# ruff: noqa: T201  (a command line)

from __future__ import annotations

import argparse
import asyncio
import base64
import fcntl
import json
import logging
import secrets
import signal
import ssl
import sys
from pathlib import Path
from typing import Any

from becalm.sandbox.certificates import self_signed
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
    card = _card(state)
    sandbox = Sandbox(state, token=card["token"], compact_after_seconds=compact_after)
    wanted = (port or card["port"], card["secure_port"])
    try:
        try:
            found = await sandbox.start(wanted, _tls(state))
        except OSError as error:
            print(f"ports {wanted[0]}, {wanted[1]}: {error.strerror}; name another with --port", file=sys.stderr)
            return _NO_PORT
        card |= {"port": found[0], "secure_port": found[1]}
        _write(state / "server.json", json.dumps(card))
        _write(kubeconfig or state / "kubeconfig", kubeconfig_text(card, (state / "tls.crt").read_bytes()))
        print(f"sandbox listens on http://127.0.0.1:{found[0]}", flush=True)
        await ending.wait()
    finally:
        await sandbox.stop()
    return 0


def _card(state: Path) -> dict[str, Any]:
    """Return the ports and the token of last time, or new ones."""
    try:
        card: dict[str, Any] = json.loads((state / "server.json").read_text())
    except FileNotFoundError:
        return {"token": secrets.token_urlsafe(24), "port": 0, "secure_port": 0}
    return card


def _tls(state: Path) -> ssl.SSLContext:
    """Return the context of the HTTPS port; its certificate is made once."""
    certificate, key = state / "tls.crt", state / "tls.key"
    if not key.exists():
        made = self_signed("localhost", addresses=["127.0.0.1"], days=3650)
        _write(certificate, made[0].decode())
        _write(key, made[1].decode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def kubeconfig_text(card: dict[str, Any], certificate: bytes) -> str:
    """Return a kubeconfig; JSON is YAML too. HTTPS, since kubectl sends no token over HTTP; the context `plain` is HTTP."""
    secure = {
        "server": f"https://127.0.0.1:{card['secure_port']}",
        "certificate-authority-data": base64.b64encode(certificate).decode(),
    }
    plain = {"server": f"http://127.0.0.1:{card['port']}"}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "sandbox",
            "clusters": [{"name": "sandbox", "cluster": secure}, {"name": "plain", "cluster": plain}],
            "users": [{"name": "sandbox", "user": {"token": card["token"]}}],
            "contexts": [
                {"name": name, "context": {"cluster": name, "user": "sandbox", "namespace": "default"}} for name in ("sandbox", "plain")
            ],
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
