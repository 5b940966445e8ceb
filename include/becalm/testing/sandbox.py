"""The sandbox cluster for a test: a process of its own on a free port of the loopback address, ended with the test."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_START_SECONDS = 15.0
_END_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxHandle:
    """A sandbox that serves."""

    kubeconfig: Path
    url: str
    token: str
    pid: int
    state: Path

    def faults(self, **faults: Any) -> None:
        """Ask for trouble (`becalm.sandbox.faults`); nothing asks for none."""
        self._post("/sandbox/faults", faults)

    def compact(self) -> int:
        """Make it forget old revisions; return the oldest that it still knows."""
        return int(self._post("/sandbox/compact", {})["revision"])

    def _post(self, path: str, document: Any) -> Any:
        request = urllib.request.Request(
            self.url + path, data=json.dumps(document).encode(), headers={"Authorization": f"Bearer {self.token}"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)


@contextlib.contextmanager
def running_sandbox(state: Path, *, compact_after_seconds: float = 300) -> Iterator[SandboxHandle]:
    """Serve a sandbox from a folder, new or used before; its log stands beside its state."""
    state.mkdir(parents=True, exist_ok=True)
    kubeconfig = state / "kubeconfig"
    command = [sys.executable, "-m", "becalm.sandbox", "serve", "--state", str(state), "--compact-after", str(compact_after_seconds)]
    with (state / "sandbox.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        url = _address(process, state)
        card = json.loads((state / "server.json").read_text())
        yield SandboxHandle(kubeconfig=kubeconfig, url=url, token=card["token"], pid=process.pid, state=state)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


def _address(process: subprocess.Popen[bytes], state: Path) -> str:
    """Wait for the line that names the address. Raises: RuntimeError with the end of the log."""
    assert process.stdout is not None
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        line = process.stdout.readline().decode()
        if not line:
            break
        if " on http://" in line:
            return line.split()[-1]
    raise RuntimeError(f"the sandbox did not start: {(state / 'sandbox.log').read_text()[-2000:]}")
