"""The official client behind the port: connections, credentials and TLS are its work, everything else is ours.

One HTTP request becomes one HTTP request: nothing is tried again here (`wrappers.RetryingCluster` does), and no exception of the client
or of its transport leaves this module.
"""

from __future__ import annotations

import math
import socket
import ssl
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson

from becalm.errors import AccessDenied, BecalmError, ClusterUnavailable, NotFound, PermanentError, UsageError
from becalm.kube import urls
from becalm.kube.base import Cluster, Discovery, Event, ExecResult, Kind, Listing, Verb
from becalm.kube.carrying import carried, is_long
from becalm.kube.channels import Conversation, UnclosableInput, complaint, exit_code_of, never_began, open_stream
from becalm.kube.discovery import AGGREGATED, from_aggregated, from_resource_list, mark_preferred, versions_of
from becalm.kube.kinds import NAMESPACE, POD
from becalm.kube.replies import error_of, error_of_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import urllib3
    from websocket import WebSocket

    from becalm.model import Manifest

Kinds = list[Kind]

CONNECTIONS = 32
"""How many threads may speak to the API server at once without a handshake each."""
EXEC_KEEP_BYTES = 4 * 1024 * 1024


def open_cluster(
    *,
    kubeconfig: str | None,
    context: str | None,
    prefer_context: str | None,
    in_cluster: bool,
    kubeconfig_dict: dict[str, Any] | None,
) -> Cluster:
    """Read the connection's settings and return the cluster; nothing is sent yet. Raises: UsageError."""
    from kubernetes import client, config  # 1.4 s: only who speaks to a cluster pays for it

    settings = client.Configuration()
    settings.connection_pool_maxsize = CONNECTIONS
    settings.socket_options = _socket_options()
    place = (
        "the service account of this pod" if in_cluster else kubeconfig or ("the given kubeconfig" if kubeconfig_dict else "~/.kube/config")
    )
    hint = "give an existing kubeconfig and one of its contexts"
    try:
        if in_cluster:
            config.load_incluster_config(client_configuration=settings)
        elif kubeconfig_dict is not None:
            contexts = [entry["name"] for entry in kubeconfig_dict.get("contexts") or ()]
            chosen = _context(context, prefer_context, lambda: contexts)
            config.load_kube_config_from_dict(kubeconfig_dict, context=chosen, client_configuration=settings)
        else:
            chosen = _context(context, prefer_context, lambda: [entry["name"] for entry in config.list_kube_config_contexts(kubeconfig)[0]])
            config.load_kube_config(kubeconfig, context=chosen, client_configuration=settings, persist_config=False)
    except FileNotFoundError as error:
        raise UsageError("there is no such file", where=error.filename or place, hint=hint) from error
    except Exception as error:  # the loader lets whatever a broken file provokes through: YAML, type and key errors
        raise UsageError(f"this does not say how to reach a cluster: {str(error).strip()[:500]}", where=place, hint=hint) from error
    return ClientCluster(client.ApiClient(settings))


def _context(context: str | None, preferred: str | None, known: Callable[[], Sequence[str]]) -> str | None:
    """Choose the context: the one asked for, else the preferred one if there is such, else the file's current one."""
    return context if context or not preferred or preferred not in known() else preferred


class ClientCluster:
    """A cluster reached by the official client. Safe for threads."""

    def __init__(self, api_client: Any, *, connect_timeout_seconds: float = 10, read_timeout_seconds: float = 60) -> None:
        """Take a configured `kubernetes.client.ApiClient`; its connection pool is used directly."""
        self._settings = api_client.configuration
        self._authorise = api_client.update_params_for_auth
        self._pool: urllib3.PoolManager = api_client.rest_client.pool_manager
        self._agent = {**api_client.default_headers}
        self._connect_seconds = connect_timeout_seconds
        self._read_seconds = read_timeout_seconds
        self._credentials = threading.Lock()

    @property
    def address(self) -> str:
        """Where the API server is."""
        return str(self._settings.host).rstrip("/")

    def discover(self) -> Discovery:
        """Ask for everything in one answer per root; a server that cannot is asked group by group."""
        kinds: Kinds = []
        failures: dict[str, str] = {}
        for root in ("/api", "/apis"):
            document = self._json(urls.Request(path=root, accept=urls.DISCOVERY, subject=root))
            if document.get("kind") == AGGREGATED:
                found, failed = from_aggregated(document)
            else:
                found, failed = self._group_by_group(document)
            kinds += found
            failures |= failed
        version = self._json(urls.Request(path="/version", subject="/version"))
        return Discovery(kinds=tuple(kinds), failures=failures, server_version=str(version.get("gitVersion") or ""), uid=self._identity())

    def _group_by_group(self, document: Manifest) -> tuple[Kinds, dict[str, str]]:
        kinds: Kinds = []
        failures: dict[str, str] = {}
        for served in versions_of(document):
            try:
                kinds += from_resource_list(served, self._json(urls.Request(path=served.path, subject=str(served))))
            except BecalmError as error:
                failures[str(served)] = error.message
        return mark_preferred(kinds), failures

    def _identity(self) -> str:
        try:
            return str(self.get(NAMESPACE, "kube-system")["metadata"]["uid"])
        except (AccessDenied, NotFound):
            return ""

    def list(
        self,
        kind: Kind,
        *,
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
        revision: str | None = None,
        page_size: int = 500,
    ) -> Listing:
        """Fetch the first page and return the listing; the further pages are fetched as they are read."""

        def page(token: str) -> Manifest:
            return self._json(
                urls.listing(kind, namespace=namespace, labels=labels, fields=fields, revision=revision, page_size=page_size, token=token)
            )

        return PagedListing(kind, page)

    def get(self, kind: Kind, name: str, *, namespace: str | None = None) -> Manifest:
        """Return one object."""
        return self._json(
            urls.Request(path=urls.path(kind, name, namespace=namespace), subject=urls.subject(kind, name, namespace=namespace))
        )

    def apply(self, kind: Kind, manifest: Manifest, *, verb: Verb, subresource: str = "", dry_run: bool = False) -> Manifest:
        """Write one object."""
        return self._json(urls.writing(kind, manifest, verb=verb, subresource=subresource, dry_run=dry_run))

    def delete(
        self,
        kind: Kind,
        name: str,
        *,
        namespace: str | None = None,
        uid: str = "",
        propagation: str = "Background",
        grace_seconds: int | None = None,
    ) -> bool:
        """Ask for a deletion."""
        try:
            self._json(urls.deleting(kind, name, namespace=namespace, uid=uid, propagation=propagation, grace_seconds=grace_seconds))
        except NotFound:
            return False
        return True

    def watch(
        self,
        kind: Kind,
        *,
        namespace: str | None = None,
        fields: str = "",
        labels: str = "",
        revision: str = "",
        timeout_seconds: float = 60,
    ) -> Iterator[Event]:
        """Yield events. The server is told when to end; a silent server is left at the same time."""
        seconds = max(1, math.ceil(timeout_seconds))
        request = urls.watching(kind, namespace=namespace, labels=labels, fields=fields, revision=revision, seconds=seconds)
        for line in self._lines(request, silence_seconds=timeout_seconds, silence_ends=True):
            event = orjson.loads(line)
            if event["type"] == "ERROR":
                raise error_of_status(event["object"], subject=request.subject, address=self.address)
            yield Event(type=event["type"], object=event["object"])

    def logs(self, namespace: str, pod: str, *, container: str = "", follow: bool = False) -> Iterator[bytes]:
        """Yield the lines of a log. While following, silence is normal: keepalive notices a dead connection."""
        request = urls.reading_logs(namespace, pod, container=container, follow=follow)
        return self._lines(request, silence_seconds=None if follow else self._read_seconds)

    def exec(
        self,
        namespace: str,
        pod: str,
        *,
        container: str,
        command: Sequence[str],
        stdin: bytes = b"",
        timeout_seconds: float = 30,
        out: Callable[[bytes], object] | None = None,
    ) -> ExecResult:
        """Run a command, and come back when the time is over whatever happens. The words of a long one travel on its input."""
        self._must_run(namespace, pod, container=container)
        long = not stdin and is_long(command)
        words, given = carried(command) if long else (command, stdin)
        request = urls.executing(namespace, pod, container=container, command=words, stdin=bool(given))
        talk, in_time = self._talk(request, given, timeout_seconds, out)
        if in_time and long and isinstance(talk.failure, UnclosableInput):  # an old server: the loader got no words, so nothing has run
            request = urls.executing(namespace, pod, container=container, command=command, stdin=False)
            talk, in_time = self._talk(request, b"", timeout_seconds, out)
        if not in_time:
            return ExecResult(stdout=bytes(talk.stdout), stderr=bytes(talk.stderr), exit_code=None)
        if not talk.opened and talk.failure is not None:
            self._refused(talk.failure, request)
        if isinstance(talk.failure, UnclosableInput):
            raise PermanentError(
                "this API server cannot close a command's input",
                where=request.subject,
                hint="it speaks only v4.channel.k8s.io; Kubernetes 1.30 and later speak v5",
            ) from talk.failure
        if talk.verdict is not None and exit_code_of(talk.verdict) is None and never_began(talk.verdict):
            raise NotFound(str(talk.verdict.get("message")), where=f"{request.subject}/{container}")
        return _result_of(talk)

    def _talk(
        self, request: urls.Request, given: bytes, timeout_seconds: float, out: Callable[[bytes], object] | None
    ) -> tuple[Conversation, bool]:
        """Hold one conversation; say whether it ended in time."""
        headers = self._headers(request)
        talk = Conversation(lambda: self._websocket(request, headers, timeout_seconds), stdin=given, keep_bytes=EXEC_KEEP_BYTES, out=out)
        return talk, talk.hold(timeout_seconds)

    def _must_run(self, namespace: str, pod: str, *, container: str) -> None:
        """Look before: a stream to a container that is not there may hang or end without a word."""
        status = self.get(POD, pod, namespace=namespace).get("status") or {}
        states = [
            *(status.get("containerStatuses") or []),
            *(status.get("initContainerStatuses") or []),
            *(status.get("ephemeralContainerStatuses") or []),
        ]
        state = next((entry.get("state") or {} for entry in states if entry.get("name") == container), None)
        if state is None:
            raise NotFound(f"the pod has no container {container!r}, or has not started it", where=f"pods/{namespace}/{pod}")
        if "running" not in state:
            raise NotFound(f"the container {container!r} is not running", where=f"pods/{namespace}/{pod}")

    def _refused(self, failure: Exception, request: urls.Request) -> None:
        """Raise what kept the stream from opening; return where it is not certain that the command was not started."""
        from websocket import WebSocketBadStatusException  # noqa: PLC0415

        if isinstance(failure, WebSocketBadStatusException):
            body = failure.resp_body or b""
            raise error_of(
                failure.status_code,
                body if isinstance(body, bytes) else str(body).encode(),
                headers={},
                subject=request.subject,
                address=self.address,
            ) from failure
        if isinstance(failure, (ConnectionRefusedError, ssl.SSLError, socket.gaierror)):
            raise self._unavailable(failure) from failure

    def _websocket(self, request: urls.Request, headers: dict[str, str], timeout_seconds: float) -> WebSocket:
        url = "ws" + self.address.removeprefix("http") + request.target
        kept = [f"{key}: {value}" for key, value in headers.items() if key.lower() in {"authorization", "cookie", "user-agent"}]
        return open_stream(url, kept, self._settings, connect_seconds=min(timeout_seconds, self._connect_seconds), seconds=timeout_seconds)

    def _json(self, request: urls.Request) -> Manifest:
        with self._reply(request, silence_seconds=self._read_seconds) as reply, self._foreign_errors():
            document: Manifest = orjson.loads(reply.data)
            return document

    def _lines(self, request: urls.Request, *, silence_seconds: float | None, silence_ends: bool = False) -> Iterator[bytes]:
        """Yield the lines of a reply that may never end, as they come."""
        from urllib3.exceptions import ReadTimeoutError  # noqa: PLC0415

        with self._reply(request, silence_seconds=silence_seconds) as reply:
            rest = b""
            try:
                with self._foreign_errors(but=ReadTimeoutError if silence_ends else None):
                    for piece in reply.stream(64 * 1024):
                        *lines, rest = (rest + piece).split(b"\n")
                        yield from lines
            except ReadTimeoutError:
                return
            if rest:
                yield rest

    @contextmanager
    def _reply(self, request: urls.Request, *, silence_seconds: float | None) -> Iterator[urllib3.BaseHTTPResponse]:
        """Send a request; give its reply, or raise what a refusal means. A reply that was not read to its end closes its connection."""
        import urllib3  # noqa: PLC0415

        with self._foreign_errors():
            reply = self._pool.request(
                request.method,
                self.address + request.target,
                body=request.body,
                headers=self._headers(request),
                preload_content=False,
                redirect=False,
                retries=False,
                timeout=urllib3.Timeout(connect=self._connect_seconds, read=silence_seconds),
            )
        whole = False
        try:
            if reply.status >= 300:
                with self._foreign_errors():
                    body = reply.data
                raise error_of(reply.status, body, headers=reply.headers, subject=request.subject, address=self.address)
            yield reply
            whole = True
        finally:
            if not whole:
                reply.close()
            reply.release_conn()

    def _headers(self, request: urls.Request) -> dict[str, str]:
        """Return the headers with fresh credentials; a plugin that fetches them is asked once at a time."""
        headers = {**self._agent, "Accept": request.accept}
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        try:
            with self._credentials:
                self._authorise(headers, [], ["BearerToken"])
        except Exception as error:  # a credential plugin fails with whatever it likes
            raise AccessDenied(
                f"the connection's credentials cannot be had: {error}", where=self.address, hint="run its login again"
            ) from error
        return headers

    @contextmanager
    def _foreign_errors(self, *, but: type[Exception] | None = None) -> Iterator[None]:
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        try:
            yield
        except orjson.JSONDecodeError as error:
            raise ClusterUnavailable("what answers there is not an API server: its reply is not JSON", where=self.address) from error
        except (HTTPError, OSError) as error:
            if but is not None and isinstance(error, but):
                raise
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> ClusterUnavailable:
        hint = "check the address, the network and the certificates of the connection"
        return ClusterUnavailable(f"the API server does not answer: {str(error) or type(error).__name__}", where=self.address, hint=hint)


class PagedListing:
    """The pages of one LIST. It may be iterated again: the first page is kept, the others are fetched anew."""

    def __init__(self, kind: Kind, page: Callable[[str], Manifest]) -> None:
        """Fetch the first page."""
        self._kind = kind
        self._page = page
        self._first = page("")

    @property
    def revision(self) -> str:
        """The collection's resourceVersion."""
        return str((self._first.get("metadata") or {}).get("resourceVersion") or "")

    def __iter__(self) -> Iterator[Manifest]:
        """Yield each object of each page. Raises: RevisionGone, also where a token expired half-way: what was seen is then not the whole."""
        page = self._first
        while True:
            for item in page.get("items") or ():
                yield {"apiVersion": self._kind.api_version, "kind": self._kind.kind, **item}
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return
            page = self._page(token)


def _result_of(talk: Conversation) -> ExecResult:
    code = exit_code_of(talk.verdict) if talk.verdict is not None else None
    stderr = bytes(talk.stderr)
    if talk.dropped_bytes:
        stderr += f"\n({talk.dropped_bytes} bytes of output were dropped)".encode()
    if not stderr and talk.verdict is not None:
        stderr = complaint(talk.verdict)
    return ExecResult(stdout=bytes(talk.stdout), stderr=stderr, exit_code=code)


def _socket_options() -> list[tuple[int, int, int]]:
    """Notice a dead peer within a minute, also on a connection where silence is normal."""
    tcp = socket.IPPROTO_TCP
    return [
        (tcp, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (tcp, socket.TCP_KEEPIDLE, 30),
        (tcp, socket.TCP_KEEPINTVL, 10),
        (tcp, socket.TCP_KEEPCNT, 3),
    ]
