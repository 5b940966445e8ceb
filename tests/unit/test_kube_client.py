"""The adapter against servers that misbehave: what a real cluster does right is in tests/contract/test_cluster.py."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from becalm.errors import AccessDenied, BecalmError, ClusterUnavailable, Conflict, RevisionGone, Throttled, UsageError
from becalm.kube import connect
from becalm.kube.base import Cluster
from becalm.kube.kinds import CONFIG_MAP, POD

Reply = tuple[int, Any] | tuple[int, Any, dict[str, str]]


class Server:
    """An API server of canned replies, which remembers what it was asked."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply | Callable[[dict[str, str]], Reply]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = dict(parse_qsl(parts.query))
                outer.asked.append((parts.path, query))
                reply = outer.replies.get(parts.path, (404, {"message": "no such path", "code": 404}))
                status, body, *headers = reply(query) if callable(reply) else reply
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in (headers[0] if headers else {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Stay silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # a client that hung up is no news
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()

    def cluster(self) -> Cluster:
        """Return the adapter under test."""
        return a_cluster(self.url)


@pytest.fixture
def server() -> Iterator[Server]:
    """A server for one test."""
    served = Server()
    yield served
    served.close()


def a_kubeconfig(url: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "contexts": [{"name": name, "context": {"cluster": name, "user": "me"}} for name in ("one", "two")],
        "clusters": [{"name": "one", "cluster": {"server": url}}, {"name": "two", "cluster": {"server": url + "/two"}}],
        "users": [{"name": "me", "user": {"token": "secret"}}],
    }


def a_cluster(url: str, **choice: Any) -> Cluster:
    return connect(kubeconfig_dict=a_kubeconfig(url), **choice)


def a_page(*names: str, token: str = "", revision: str = "7") -> dict[str, Any]:
    return {"metadata": {"resourceVersion": revision, "continue": token}, "items": [{"metadata": {"name": name}} for name in names]}


MAPS = "/api/v1/namespaces/shop/configmaps"


def test_only_the_first_page_names_the_revision(server: Server) -> None:
    """A continue token carries it; a server refuses to be told both. Selectors go with every page."""
    server.replies[MAPS] = lambda query: (200, a_page("b") if "continue" in query else a_page("a", token="t"))
    listing = server.cluster().list(CONFIG_MAP, namespace="shop", labels="x=1", revision="7", page_size=1)

    assert [item["metadata"]["name"] for item in listing] == ["a", "b"]
    assert [query for _, query in server.asked] == [
        {"limit": "1", "labelSelector": "x=1", "resourceVersion": "7", "resourceVersionMatch": "Exact"},
        {"limit": "1", "labelSelector": "x=1", "continue": "t"},
    ]


def test_a_listing_that_expires_half_way_is_not_begun_anew(server: Server) -> None:
    """What was already read belongs to a revision that is gone: the reader must know."""
    expired = (410, {"code": 410, "reason": "Expired", "message": "The provided continue parameter is too old"})
    server.replies[MAPS] = lambda query: expired if "continue" in query else (200, a_page("a", token="t"))
    seen: list[str] = []
    with pytest.raises(RevisionGone, match="too old"):
        seen += (item["metadata"]["name"] for item in server.cluster().list(CONFIG_MAP, namespace="shop"))

    assert len(server.asked) == 2


def test_a_selector_of_a_namespace_becomes_its_path(server: Server) -> None:
    """An API server that pages such a list over all namespaces gives objects twice."""
    server.replies[MAPS] = (200, a_page("a"))
    list(server.cluster().list(CONFIG_MAP, fields="metadata.namespace=shop,metadata.name!=x"))

    assert server.asked == [(MAPS, {"limit": "500", "fieldSelector": "metadata.name!=x"})]


def test_a_watch_that_is_told_of_a_forgotten_revision_ends_with_it(server: Server) -> None:
    """The error comes as an event, after a reply of 200; what came before it is not lost."""
    lines = [
        {"type": "ADDED", "object": {"metadata": {"name": "a"}}},
        {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}},
    ]
    server.replies[MAPS] = (200, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    watch = server.cluster().watch(CONFIG_MAP, namespace="shop", revision="3")

    assert next(watch).object == {"metadata": {"name": "a"}}
    with pytest.raises(RevisionGone, match="too old"):
        next(watch)


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (401, {"code": 401, "message": "Unauthorized"}, AccessDenied, "does not accept our credentials"),
        (403, {"code": 403, "message": 'pods "p" is forbidden'}, AccessDenied, "grant this right"),
        (500, b"<html>oops</html>", ClusterUnavailable, "500: <html>oops"),
        (503, {"code": 503, "message": "etcd is gone"}, ClusterUnavailable, "etcd is gone"),
        (302, b"", BecalmError, ""),
        (200, b"<html>hello</html>", ClusterUnavailable, "not an API server"),
    ],
)
def test_a_refusal_becomes_an_error_of_ours(server: Server, status: int, body: Any, error: type[BecalmError], words: str) -> None:
    """With the server's words, the place, and what to do; nothing is tried again."""
    server.replies["/api/v1/namespaces/shop/pods/p"] = (status, body)

    with pytest.raises(error) as raised:
        server.cluster().get(POD, "p", namespace="shop")
    assert words in str(raised.value)
    assert "secret" not in str(raised.value)
    assert len(server.asked) == 1


def test_a_server_that_asks_for_patience_says_how_long(server: Server) -> None:
    """The wait is part of the error."""
    server.replies["/api/v1/namespaces/shop/pods/p"] = (429, {"code": 429, "message": "too many requests"}, {"Retry-After": "7"})

    with pytest.raises(Throttled) as raised:
        server.cluster().get(POD, "p", namespace="shop")
    assert raised.value.delay_seconds == 7


def test_a_namespace_that_is_ending_is_no_matter_of_rights(server: Server) -> None:
    """Kubernetes answers 403 to both."""
    causes = {"causes": [{"reason": "NamespaceTerminating", "message": "namespace shop is being terminated"}]}
    server.replies["/api/v1/namespaces/shop/pods/p"] = (403, {"code": 403, "message": "being terminated", "details": causes})

    with pytest.raises(Conflict, match="wait until it is gone"):
        server.cluster().get(POD, "p", namespace="shop")


def test_a_server_that_is_not_there_is_named() -> None:
    """The address stands in the error, for reading, watching and logs alike."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        cluster = a_cluster(address)

        with pytest.raises(ClusterUnavailable, match=address):
            cluster.get(POD, "p", namespace="shop")
        with pytest.raises(ClusterUnavailable, match=address):
            list(cluster.watch(POD, namespace="shop", timeout_seconds=1))
        with pytest.raises(ClusterUnavailable, match=address):
            list(cluster.logs("shop", "p"))
        with pytest.raises(ClusterUnavailable, match=address):
            cluster.exec("shop", "p", container="c", command=["true"])


def test_a_server_without_tls_behind_https_is_unavailable(server: Server) -> None:
    """A failed handshake is no traceback."""
    with pytest.raises(ClusterUnavailable, match="certificates"):
        a_cluster(server.url.replace("http:", "https:")).get(POD, "p", namespace="shop")


def test_a_silent_exec_comes_back_in_time(server: Server) -> None:
    """The server takes the connection and never answers the handshake: unknown, at the end of the time."""
    running = {"metadata": {"name": "p"}, "status": {"containerStatuses": [{"name": "c", "state": {"running": {}}}]}}
    server.replies["/api/v1/namespaces/shop/pods/p"] = (200, running)
    halt = threading.Event()
    server.replies["/api/v1/namespaces/shop/pods/p/exec"] = lambda _: (halt.wait(20) and (500, b"")) or (500, b"")
    result = server.cluster().exec("shop", "p", container="c", command=["true"], timeout_seconds=0.3)
    halt.set()

    assert result.exit_code is None


def test_an_exec_that_is_refused_is_an_error(server: Server) -> None:
    """The command certainly did not run."""
    running = {"metadata": {"name": "p"}, "status": {"containerStatuses": [{"name": "c", "state": {"running": {}}}]}}
    server.replies["/api/v1/namespaces/shop/pods/p"] = (200, running)
    server.replies["/api/v1/namespaces/shop/pods/p/exec"] = (403, {"code": 403, "message": "cannot create pods/exec"})

    with pytest.raises(AccessDenied, match="pods/exec"):
        server.cluster().exec("shop", "p", container="c", command=["true"])


def test_the_words_of_a_long_command_are_not_in_its_url(server: Server) -> None:
    """They travel on its input: a proxy may refuse a URL of many thousand characters."""
    running = {"metadata": {"name": "p"}, "status": {"containerStatuses": [{"name": "c", "state": {"running": {}}}]}}
    server.replies["/api/v1/namespaces/shop/pods/p"] = (200, running)
    server.replies["/api/v1/namespaces/shop/pods/p/exec"] = (403, {"code": 403, "message": "cannot create pods/exec"})
    for words in ("short", "x" * 10_000):
        with pytest.raises(AccessDenied):
            server.cluster().exec("shop", "p", container="c", command=["sh", "-c", "true", words])
    short, long = (query for path, query in server.asked if path.endswith("/exec"))

    assert (short["command"], "stdin" in short) == ("short", False)
    assert (len(str(long)) < 1000, long["stdin"]) == (True, "true")


def test_discovery_falls_back_to_group_by_group(server: Server) -> None:
    """A server without the aggregated form is asked for each version; one that fails is named, the others stay."""
    verbs = ["get", "list"]
    server.replies |= {
        "/api": (200, {"kind": "APIVersions", "versions": ["v1"]}),
        "/api/v1": (
            200,
            {
                "resources": [
                    {"name": "pods", "kind": "Pod", "namespaced": True, "verbs": verbs},
                    {"name": "pods/log", "kind": "Pod", "namespaced": True, "verbs": ["get"]},
                    {"name": "bindings", "kind": "Binding", "namespaced": True, "verbs": ["create"]},
                ]
            },
        ),
        "/apis": (
            200,
            {
                "kind": "APIGroupList",
                "groups": [
                    {"name": "apps", "versions": [{"version": "v1beta1"}, {"version": "v1"}], "preferredVersion": {"version": "v1"}},
                    {"name": "metrics.k8s.io", "versions": [{"version": "v1"}], "preferredVersion": {"version": "v1"}},
                ],
            },
        ),
        "/apis/apps/v1": (200, {"resources": [{"name": "deployments", "kind": "Deployment", "namespaced": True, "verbs": verbs}]}),
        "/apis/apps/v1beta1": (
            200,
            {
                "resources": [
                    {"name": "deployments", "kind": "Deployment", "namespaced": True, "verbs": verbs},
                    {"name": "relics", "kind": "Relic", "namespaced": False, "verbs": verbs},
                ]
            },
        ),
        "/apis/metrics.k8s.io/v1": (503, {"code": 503, "message": "the server is currently unable to handle the request"}),
        "/version": (200, {"gitVersion": "v1.24.0"}),
        "/api/v1/namespaces/kube-system": (403, {"code": 403, "message": "forbidden"}),
    }
    found = server.cluster().discover()

    assert [(str(kind), kind.version, kind.preferred) for kind in found.kinds] == [
        ("pods", "v1", True),
        ("deployments.apps", "v1", True),
        ("deployments.apps", "v1beta1", False),
        ("relics.apps", "v1beta1", True),
    ]
    assert list(found.failures) == ["metrics.k8s.io/v1"]
    assert (found.server_version, found.uid) == ("v1.24.0", "")


def test_a_stale_group_is_a_failure_not_a_kind(server: Server) -> None:
    """Its own server does not answer: what it would serve cannot be listed."""
    resource = {"resource": "things", "responseKind": {"kind": "Thing"}, "scope": "Cluster", "verbs": ["list"]}
    items = [
        {"metadata": {"name": name}, "versions": [{"version": "v1", "freshness": freshness, "resources": [resource]}]}
        for name, freshness in (("alive.example", "Current"), ("dead.example", "Stale"))
    ]
    server.replies |= {
        "/api": (200, {"kind": "APIGroupDiscoveryList", "items": []}),
        "/apis": (200, {"kind": "APIGroupDiscoveryList", "items": items}),
        "/version": (200, {"gitVersion": "v1.34.0"}),
        "/api/v1/namespaces/kube-system": (200, {"metadata": {"uid": "u"}}),
    }
    found = server.cluster().discover()

    assert [str(kind) for kind in found.kinds] == ["things.alive.example"]
    assert list(found.failures) == ["dead.example/v1"]


def test_a_preferred_context_is_taken_if_it_is_there(server: Server) -> None:
    """A named one must be."""
    server.replies |= {MAPS: (200, a_page("one")), "/two" + MAPS: (200, a_page("two"))}

    def reached(**choice: Any) -> str:
        (item,) = a_cluster(server.url, **choice).list(CONFIG_MAP, namespace="shop")
        return str(item["metadata"]["name"])

    assert [reached(), reached(prefer_context="two"), reached(prefer_context="three"), reached(context="two")] == [
        "one",
        "two",
        "one",
        "two",
    ]
    with pytest.raises(UsageError, match="three"):
        a_cluster(server.url, context="three")


@pytest.mark.parametrize(
    "text", [None, "", "{", "a: [", "[]", "contexts: 1", "current-context: x\ncontexts: []\nclusters: []\nusers: []\n"]
)
def test_a_broken_kubeconfig_is_named(tmp_path: Path, text: str | None) -> None:
    """With its path; a missing one too."""
    path = tmp_path / "kubeconfig"
    if text is not None:
        path.write_text(text)

    with pytest.raises(UsageError, match=str(path)):
        connect(kubeconfig=str(path))


def test_outside_of_a_pod_there_is_no_service_account() -> None:
    """And it is said so."""
    with pytest.raises(UsageError, match="service account"):
        connect(in_cluster=True)
