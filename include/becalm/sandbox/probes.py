"""Readiness probes: a command, a connection, or a small HTTP request."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from becalm.model import Manifest
    from becalm.sandbox.environment import Surroundings


async def answers(probe: Manifest, around: Surroundings) -> bool:
    """Ask once. Raises: StartError."""
    seconds = float(probe.get("timeoutSeconds", 1))
    try:
        async with asyncio.timeout(seconds):
            if "exec" in probe:
                return await _command(probe["exec"]["command"], around)
            if "tcpSocket" in probe:
                return await _port(probe["tcpSocket"]["port"], "")
            if "httpGet" in probe:
                return await _port(probe["httpGet"]["port"], probe["httpGet"].get("path", "/"))
    except (TimeoutError, OSError):
        return False
    return True


async def _command(command: list[str], around: Surroundings) -> bool:
    process = await asyncio.create_subprocess_exec(
        *around.words(command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env=around.variables,
        cwd=around.folder,
        start_new_session=True,
    )
    try:
        return await process.wait() == 0
    except asyncio.CancelledError:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise


async def _port(port: int, path: str) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    try:
        if not path:
            return True
        writer.write(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        first = (await reader.readline()).split()
        return len(first) > 1 and first[1].isdigit() and 200 <= int(first[1]) < 400
    finally:
        writer.close()
