"""A headless Chromium, spoken to by its own protocol: pages as people see them, what they complain of, and pictures of them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
]


@dataclass
class Page:
    """One page of the browser."""

    socket: aiohttp.ClientWebSocketResponse
    complaints: list[str] = field(default_factory=list)
    """What the page said to the console, and what its policy of contents stopped."""
    _number: int = 0
    _seen: set[str] = field(default_factory=set)

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask the browser, and wait for its answer."""
        self._number += 1
        number = self._number
        await self.socket.send_json({"id": number, "method": method, "params": params})
        while True:
            message = await self._next()
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return dict(message["result"])

    async def open(self, url: str) -> None:
        """Go to an address, and wait until the page is loaded."""
        self._seen.clear()
        await self.call("Page.navigate", url=url)
        await self.until("Page.loadEventFired")

    async def until(self, event: str) -> None:
        """Wait for an event, if it has not come yet."""
        while event not in self._seen:
            await self._next()

    async def evaluate(self, expression: str) -> Any:
        """Return what an expression is in the page."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        return found["result"].get("value")

    async def look(self, *, width: int, dark: bool) -> None:
        """Be so wide, and in this light."""
        await self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = "dark" if dark else "light"
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def picture(self, path: Path) -> None:
        """Keep a picture of the whole page."""
        taken = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))  # noqa: ASYNC240  (nothing else runs in this loop)

    async def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = await self.socket.receive_json(timeout=60)
        method = message.get("method", "")
        self._seen.add(method)
        if method == "Log.entryAdded":
            self.complaints.append(str(message["params"]["entry"]["text"]))
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(message["params"]["exceptionDetails"]))
        return message


@contextlib.asynccontextmanager
async def a_page(program: str, profile: Path, cookies: dict[str, str], url: str) -> AsyncIterator[Page]:
    """Yield a page of a browser of its own, with these cookies for an address."""
    command = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)  # noqa: ASYNC220  (as below)
    try:
        assert process.stderr is not None
        told = await asyncio.to_thread(_port, process)
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{told}/json/list") as answer:
                targets = [one for one in await answer.json() if one["type"] == "page"]
            async with session.ws_connect(targets[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                for domain in ("Page", "Log", "Runtime", "Network"):
                    await page.call(f"{domain}.enable")
                for name, value in cookies.items():
                    await page.call("Network.setCookie", name=name, value=value, url=url)
                yield page
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        if process.poll() is None:
            process.kill()
            process.wait()
        assert process.stderr is not None
        process.stderr.close()


def _port(process: subprocess.Popen[bytes]) -> int:
    """Return the port that the browser says it listens on."""
    assert process.stderr is not None
    for line in process.stderr:
        found = re.search(rb"DevTools listening on ws://127\.0\.0\.1:(\d+)/", line)
        if found:
            return int(found[1])
    raise RuntimeError("the browser ended before it listened")
