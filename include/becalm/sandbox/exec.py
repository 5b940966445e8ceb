"""`exec`: one more process of a container, its streams as channels of a WebSocket (v4 and v5.channel.k8s.io)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson
from aiohttp import WSMsgType, web

from becalm.kube.carrying import LOADER, taken_out
from becalm.sandbox.environment import StartError
from becalm.sandbox.parameters import truth

if TYPE_CHECKING:
    from becalm.model import Manifest
    from becalm.sandbox.environment import Surroundings

_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_STDIN, _STDOUT, _STDERR, _STATUS, _CLOSE = 0, 1, 2, 3, 255
_CHUNK = 32768


async def serve(request: web.Request, around: Surroundings, command: list[str]) -> web.WebSocketResponse:
    """Run a command and carry its streams; a client that leaves does not end the command, as in a real cluster."""
    socket = web.WebSocketResponse(protocols=_PROTOCOLS, max_msg_size=0)
    await socket.prepare(request)
    wants = {name: truth(request.query, name) for name in ("stdin", "stdout", "stderr", "tty")}
    if tuple(command) == LOADER and wants["stdin"]:
        command, wants["stdin"] = list(taken_out(await _input(socket))) or ["false"], False
    try:
        process = await asyncio.create_subprocess_exec(
            *around.words(command),
            stdin=asyncio.subprocess.PIPE if wants["stdin"] else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if wants["stdout"] else asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.STDOUT
            if wants["tty"]
            else asyncio.subprocess.PIPE
            if wants["stderr"]
            else asyncio.subprocess.DEVNULL,
            env=around.variables,
            cwd=around.folder,
            start_new_session=True,
        )
    except (StartError, OSError) as error:
        await _send(socket, _STATUS, orjson.dumps(_not_started(error)))
        await socket.close()
        return socket
    reading = asyncio.create_task(_read(socket, process))
    ending = asyncio.create_task(_finish(socket, process))
    try:
        await asyncio.wait([reading, ending], return_when=asyncio.FIRST_COMPLETED)
        if ending.done():
            await socket.close()
            reading.cancel()
    except asyncio.CancelledError:
        reading.cancel()
        raise
    finally:
        _KEPT.add(ending)
        ending.add_done_callback(_KEPT.discard)
    return socket


async def _input(socket: web.WebSocketResponse) -> bytes:
    """Read all input first. The paths in these words are those of the container: only as words of a command are they found and made real."""
    found = b""
    async for message in socket:
        data = message.data if message.type == WSMsgType.BINARY else b""
        if data[:1] == bytes([_STDIN]):
            found += data[1:]
        elif data[:2] == bytes([_CLOSE, _STDIN]):
            break
    return found


_KEPT: set[asyncio.Task[None]] = set()
"""Commands whose client has left: their output is still taken, so that they do not block."""


async def _finish(socket: web.WebSocketResponse, process: asyncio.subprocess.Process) -> None:
    await asyncio.gather(_pump(socket, _STDOUT, process.stdout), _pump(socket, _STDERR, process.stderr))
    code = await process.wait()
    await _send(socket, _STATUS, orjson.dumps(_ended(code if code >= 0 else 128 - code)))


async def _pump(socket: web.WebSocketResponse, channel: int, stream: asyncio.StreamReader | None) -> None:
    while stream is not None and (chunk := await stream.read(_CHUNK)):
        await _send(socket, channel, chunk)


async def _send(socket: web.WebSocketResponse, channel: int, data: bytes) -> None:
    if not socket.closed:
        try:
            await socket.send_bytes(bytes([channel]) + data)
        except ConnectionError:
            return


async def _read(socket: web.WebSocketResponse, process: asyncio.subprocess.Process) -> None:
    async for message in socket:
        if message.type == WSMsgType.TEXT:
            data = message.data.encode()
        elif message.type == WSMsgType.BINARY:
            data = message.data
        else:
            continue
        if process.stdin is None or not data:
            continue
        if data[0] == _STDIN and len(data) > 1:
            try:
                process.stdin.write(data[1:])
                await process.stdin.drain()
            except ConnectionError:
                continue
        elif data[0] == _CLOSE and data[1:2] == bytes([_STDIN]):
            process.stdin.close()
    if process.stdin is not None:
        process.stdin.close()


def _ended(code: int) -> Manifest:
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def _not_started(error: Exception) -> Manifest:
    message = f"error executing command in container: failed to exec in container: failed to start exec: {error}: unknown"
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {message}",
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    }
