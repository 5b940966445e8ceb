"""One command's streams over a WebSocket, as Kubernetes multiplexes them (v5.channel.k8s.io): input, output, errors, and the verdict.

It knows frames and channels. Which container is meant, and what an outcome means, is decided by its callers.
"""

from __future__ import annotations

import selectors
import ssl
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from websocket import WebSocket

STDIN, STDOUT, STDERR, VERDICT, CLOSE = 0, 1, 2, 3, 255
V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
STDIN_PIECE = 32 * 1024
LINGER_SECONDS = 1.0
"""How long output may still come after the verdict, where the server does not close the stream."""


class Settings(Protocol):
    """What a connection's configuration says of TLS and of a proxy: the part of the official client's that is needed here."""

    verify_ssl: bool
    assert_hostname: bool | str | None
    ssl_ca_cert: str | None
    cert_file: str | None
    key_file: str | None
    tls_server_name: str | None
    proxy: str | None
    no_proxy: str | None


def open_stream(url: str, headers: list[str], settings: Settings, *, connect_seconds: float, seconds: float) -> WebSocket:
    """Open a WebSocket that speaks in channels; afterwards no single read or write takes longer than `seconds`."""
    from websocket import WebSocket  # noqa: PLC0415  (a DAG's parse must not load it)

    stream = WebSocket(sslopt=_tls(settings), skip_utf8_validation=True)
    stream.settimeout(connect_seconds)
    stream.connect(url, header=headers, subprotocols=[V5, V4], suppress_origin=True, **_proxy(settings))  # type: ignore[no-untyped-call]  # typed in part
    stream.settimeout(seconds)
    return stream


def _tls(settings: Settings) -> dict[str, Any]:
    options: dict[str, Any] = {"cert_reqs": ssl.CERT_REQUIRED if settings.verify_ssl else ssl.CERT_NONE}
    if not settings.verify_ssl or settings.assert_hostname is False:
        options["check_hostname"] = False
    given = {
        "ca_certs": settings.ssl_ca_cert,
        "certfile": settings.cert_file,
        "keyfile": settings.key_file,
        "server_hostname": settings.tls_server_name,
    }
    return options | {key: value for key, value in given.items() if value}


def _proxy(settings: Settings) -> dict[str, Any]:
    from urllib3.util import parse_url  # noqa: PLC0415

    if not settings.proxy:
        return {"http_no_proxy": ["*"]}
    proxy = parse_url(settings.proxy)
    outside = [name.strip() for name in (settings.no_proxy or "").split(",") if name.strip()]
    return {"http_proxy_host": proxy.host, "http_proxy_port": proxy.port, "proxy_type": "http", "http_no_proxy": outside or None}


@dataclass(slots=True)
class Conversation:
    """A command that runs at the other end. `hold` runs it in a thread of its own, so that its caller is never held longer than it asked."""

    connect: Callable[[], WebSocket]
    stdin: bytes
    keep_bytes: int
    """How much of each output stream is kept; what comes beyond it is read and dropped."""
    out: Callable[[bytes], object] | None = None
    """Where standard output goes instead of being kept."""
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    dropped_bytes: int = 0
    verdict: Mapping[str, Any] | None = None
    opened: bool = False
    failure: Exception | None = None
    """What ended it before the verdict."""
    _socket: WebSocket | None = None
    _message: bytearray = field(default_factory=bytearray)
    """The frames of a message that is not whole yet."""
    _replies: bytes = b""
    """Answers to pings, which go between frames of input."""
    _ended: threading.Event = field(default_factory=threading.Event)
    _abandoned: bool = False

    def hold(self, timeout_seconds: float) -> bool:
        """Converse for at most that long. False: the time was over first; the command may still run."""
        threading.Thread(target=self._run, name="exec", daemon=True).start()
        ended = self._ended.wait(timeout_seconds)
        if not ended:
            self._abandoned = True
            self._hang_up()
        return ended

    def _run(self) -> None:
        try:
            self._socket = self.connect()
            self.opened = True
            if not self._abandoned:
                self._converse(self._socket)
        except Exception as error:  # noqa: BLE001  (handed to the thread that waits, which decides)
            self.failure = error
        finally:
            self._hang_up()
            self._ended.set()

    def _converse(self, socket: WebSocket) -> None:
        """Send what is to be sent while reading what comes, until the server closes or has given its verdict.

        Never blocks in sending: a command that ended without reading its input would hold us for ever.
        """
        outgoing = self._frames_of_input(socket)
        waiting = b""
        with selectors.DefaultSelector() as selector:
            wire = socket.fileno()  # type: ignore[no-untyped-call]  # websocket-client types a part of itself
            selector.register(wire, selectors.EVENT_READ)
            while not self._abandoned:
                if not waiting:
                    waiting, self._replies = self._replies or next(outgoing, b""), b""
                selector.modify(wire, selectors.EVENT_READ | (selectors.EVENT_WRITE if waiting else 0))
                ready = self._ready(socket, selector)
                if not ready or (ready & selectors.EVENT_READ and not self._receive(socket)):
                    return
                if ready & selectors.EVENT_WRITE:
                    waiting = _send_some(socket, waiting)

    def _ready(self, socket: WebSocket, selector: selectors.BaseSelector) -> int:
        """Wait until the socket can be read or written. Nothing: the verdict is there and no more comes."""
        if getattr(socket.sock, "pending", int)():
            return selectors.EVENT_READ
        events = selector.select(LINGER_SECONDS if self.verdict is not None else None)
        return events[0][1] if events else 0

    def _frames_of_input(self, socket: WebSocket) -> Iterator[bytes]:
        if self.stdin and socket.getsubprotocol() != V5:
            raise UnclosableInput
        return self._input_frames()

    def _input_frames(self) -> Iterator[bytes]:
        for start in range(0, len(self.stdin), STDIN_PIECE):
            yield _frame(bytes([STDIN]) + self.stdin[start : start + STDIN_PIECE])
        if self.stdin:
            yield _frame(bytes([CLOSE, STDIN]))

    def _receive(self, socket: WebSocket) -> bool:
        """Take one frame. False: the server closed the stream."""
        from websocket import ABNF  # noqa: PLC0415  (a DAG's parse must not load it)

        frame = socket.recv_frame()  # type: ignore[no-untyped-call]
        if frame.opcode == ABNF.OPCODE_CLOSE:
            return False
        if frame.opcode == ABNF.OPCODE_PING:
            self._replies += _frame(frame.data, ABNF.OPCODE_PONG)
        elif frame.opcode in {ABNF.OPCODE_BINARY, ABNF.OPCODE_TEXT, ABNF.OPCODE_CONT}:
            self._message += frame.data
            if frame.fin:
                self._take(bytes(self._message))
                self._message.clear()
        return True

    def _take(self, message: bytes) -> None:
        channel, data = message[:1], message[1:]
        if channel == bytes([STDOUT]) and self.out is not None:
            self.out(data)
        elif channel == bytes([STDOUT]):
            self._keep(self.stdout, data)
        elif channel == bytes([STDERR]):
            self._keep(self.stderr, data)
        elif channel == bytes([VERDICT]) and data:
            self.verdict = orjson.loads(data)

    def _keep(self, stream: bytearray, data: bytes) -> None:
        room = self.keep_bytes - len(stream)
        stream += data[:room]
        self.dropped_bytes += max(0, len(data) - room)

    def _hang_up(self) -> None:
        """Close the connection under the reader, which wakes it."""
        if self._socket is not None:
            self._socket.abort()  # type: ignore[no-untyped-call]
            self._socket.shutdown()  # type: ignore[no-untyped-call]


def _frame(data: bytes, opcode: int | None = None) -> bytes:
    from websocket import ABNF  # noqa: PLC0415

    return ABNF.create_frame(data, ABNF.OPCODE_BINARY if opcode is None else opcode).format()


def _send_some(socket: WebSocket, data: bytes) -> bytes:
    """Send what the connection takes without waiting; return the rest."""
    wire = socket.sock
    if wire is None:
        raise ConnectionError("the connection was closed")
    before = wire.gettimeout()
    wire.settimeout(0)
    try:
        return data[wire.send(data) :]
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return data
    finally:
        wire.settimeout(before)


class UnclosableInput(Exception):  # noqa: N818  (the caller turns it into an error of Becalm's)
    """The server speaks only the older protocol, which cannot close the input: the command would wait for ever."""


def exit_code_of(verdict: Mapping[str, Any]) -> int | None:
    """Read the verdict: 0, the command's own code, 126 or 127 where it could not be started at all, or nothing where it is not known."""
    if verdict.get("status") == "Success":
        return 0
    for cause in (verdict.get("details") or {}).get("causes") or []:
        if cause.get("reason") == "ExitCode" and str(cause.get("message")).lstrip("-").isdigit():
            return int(cause["message"])
    message = str(verdict.get("message") or "")
    if "unable to start container process" in message or "failed to start exec" in message:
        return 126 if "permission denied" in message else 127
    return None


def complaint(verdict: Mapping[str, Any]) -> bytes:
    """Return what the server says where it is not merely the command's own exit code."""
    causes = (verdict.get("details") or {}).get("causes") or []
    if any(cause.get("reason") == "ExitCode" for cause in causes):
        return b""
    return str(verdict.get("message") or "").encode()


def never_began(verdict: Mapping[str, Any]) -> bool:
    """Say whether the verdict is certain that no command was started, since there was no container to start it in."""
    message = str(verdict.get("message") or "")
    return verdict.get("code") == 404 or "container not found" in message or "is not running" in message
