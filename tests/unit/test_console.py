"""The console's pages over a real repository in memory: what they show, to whom, and what they never do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest
from tests.unit.console_scenes import EVIL, FILES, MemorySource, Scene, a_console

from becalm.airflow.console.app import HEADERS
from becalm.catalog import ledger
from becalm.errors import PolicyError, StoreUnavailable
from becalm.repository.format import Layout
from becalm.repository.reader import open_repository
from becalm.testing.saved_points import PASSWORD

SECRET = "resources/core/secrets/shop/tls.json"
CONFIG = "resources/core/configmaps/shop/web.json"
VALUE = "aHVudGVyMg=="


@pytest.fixture(scope="module")
def shared() -> Iterator[Scene]:
    """A console for tests that change nothing."""
    with a_console() as made:
        yield made


@pytest.fixture
def scene() -> Iterator[Scene]:
    """A console of one's own."""
    with a_console() as made:
        yield made


def kinds(scene: Scene) -> list[tuple[str, str, str]]:
    """Return what the ledger says, oldest first."""
    repository = open_repository(scene.store, PASSWORD)
    entries = [ledger.entry(repository, number) for number in ledger.numbers(repository)]
    return [(one.kind.value, one.who, str(one.content["path"])) for one in entries]


def reveal(
    scene: Scene, role: str = "op", *, origin: str = "http://console.test", token: str | None = None, path: str = SECRET
) -> httpx.Response:
    """Post the form as a browser would."""
    if token is None:
        found = re.search(r'name="token" value="(\w+)"', scene.get(f"{scene.point_path}/object?path={SECRET}", "op").text)
        assert found
        token = found[1]
    return scene.client.post(f"{scene.point_path}/reveal", data={"token": token, "path": path}, headers={"x-role": role, "origin": origin})


def pages(scene: Scene) -> dict[str, tuple[str, dict[str, int]]]:
    """Return every route with the status that each role gets."""
    viewers = {"": 401, "nobody": 403, "viewer": 200, "user": 200, "op": 200}
    everybody = {**viewers, "nobody": 200}
    own = scene.point_path
    return {
        "overview": ("/", everybody),
        "drills": ("/drills", everybody),
        "ledger": ("/ledger", everybody),
        "metrics": ("/metrics", everybody),
        "coverage": ("/coverage", everybody),
        "drift": ("/drift", everybody),
        "gaps": ("/policies/shop/gaps", viewers),
        "style": ("/static/console.css", everybody),
        "points": ("/policies/shop/points", viewers),
        "point": (own, viewers),
        "objects": (f"{own}/objects", viewers),
        "object": (f"{own}/object?path={CONFIG}", viewers),
        "secret": (f"{own}/object?path={SECRET}", viewers),
        "files": (f"{own}/files?path=volumes/shop/data", viewers),
        "download": (f"{own}/download?path=volumes/shop/data/orders.db", {**viewers, "viewer": 403}),
        "download an object": (f"{own}/download?path={CONFIG}", {**viewers, "viewer": 403}),
        "download a secret": (f"{own}/download?path={SECRET}", {**viewers, "viewer": 403, "user": 403}),
        "archive": (f"{own}/archive?path=volumes/shop/data", {**viewers, "viewer": 403}),
        "compare": (f"{own}/compare?with={scene.point.id}", viewers),
        "restore": (f"{own}/restore", {**viewers, "viewer": 403}),
        "unknown": ("/nothing", dict.fromkeys(viewers, 404)),
    }


def test_every_route_knows_every_role(shared: Scene) -> None:
    """Roles by routes: strangers get nothing, and each deed has its own right."""
    expected = {(name, role): status for name, (_, by_role) in pages(shared).items() for role, status in by_role.items()}
    found = {(name, role): shared.get(path, role).status_code for name, (path, by_role) in pages(shared).items() for role in by_role}

    assert len(expected) >= 60
    assert found == expected


def test_what_is_not_listed_as_a_route_does_not_exist(shared: Scene) -> None:
    """A route that is added must come into the table of roles: this one knows all of them."""
    asked = {
        re.sub(r"/policies/shop", "/policies/{policy}", re.sub(r"/points/\w+", "/points/{point}", path))
        for path, _ in pages(shared).values()
    }
    known = {path.partition("?")[0] for path in asked} | {f"/policies/{{policy}}/points/{{point}}/{deed}" for deed in ("reveal", "pin")}
    routes = {getattr(route, "path", "") for route in shared.client.app.routes}

    assert len(routes) >= 14
    assert {path.replace("/static/{name}", "/static/console.css") for path in routes if path} <= known


def test_a_policy_that_may_not_be_seen_is_nowhere(shared: Scene) -> None:
    """Neither in the overview, nor by its address, nor in the metrics."""
    seen = [
        shared.get(path, "viewer", **{"x-policy": "other"}).text for path in ("/", "/ledger", "/drills", "/drift", "/coverage", "/metrics")
    ]

    assert not any("shop" in text for text in seen)
    assert shared.get("/policies/shop/points", "viewer", **{"x-policy": "other"}).status_code == 403
    assert shared.get("/ledger?policy=shop", "viewer", **{"x-policy": "other"}).status_code == 404


def test_every_answer_has_strict_headers(shared: Scene) -> None:
    """Also errors, and those that turn a stranger away."""
    for path, role in (("/", "op"), ("/policies/none/points", "op"), ("/", ""), ("/static/console.js", "op")):
        answer = shared.get(path, role)
        assert answer.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_names_that_others_chose_are_text(shared: Scene) -> None:
    """HTML in names, in what a point says of itself, and in objects; and what turns the writing round is escaped."""
    listed = shared.get(f"{shared.point_path}/files?path=volumes/shop/data").text
    point = shared.get(shared.point_path).text
    config = shared.get(f"{shared.point_path}/object?path={CONFIG}").text

    assert "<img" not in listed
    assert "&lt;img src=x onerror=alert(1)&gt;" in listed
    assert "\u202e" not in listed
    assert r"\u202e" in listed
    assert ("<i>x</i>" in point, "<b>cut</b>" in point, "<b>bold</b>" in config) == (False, False, False)
    assert "&lt;b&gt;bold&lt;/b&gt;" in config


def test_no_page_holds_a_script_or_a_style_of_its_own(shared: Scene) -> None:
    """The policy of contents forbids them, so they would not work."""
    for path, by_role in pages(shared).values():
        text = shared.get(path, "op").text if by_role["op"] == 200 and not re.search("download|archive", path) else ""
        tags = re.sub(r'"[^"]*"', '""', text)
        assert not re.search(r"<script(?![^>]*src=)|<[a-z][^>]*\s(style|on[a-z]+)=", tags), path


def test_the_values_of_a_secret_are_hidden(shared: Scene) -> None:
    """Their keys show."""
    text = shared.get(f"{shared.point_path}/object?path={SECRET}").text

    assert VALUE not in text
    assert "key:" in text


def test_a_revealed_secret_is_in_the_ledger(scene: Scene) -> None:
    """Who saw it, and what."""
    answer = reveal(scene)

    assert VALUE in answer.text
    assert kinds(scene) == [("revealed", "op", SECRET)]


@pytest.mark.parametrize(
    ("role", "origin", "token"),
    [
        ("op", "http://evil.test", None),
        ("op", "", None),
        ("op", "http://console.test", "0" * 64),
        ("op", "http://console.test", ""),
        ("user", "http://console.test", None),
        ("viewer", "http://console.test", None),
    ],
    ids=["another page's", "nobody's", "a guessed token", "no token", "a token of somebody else", "no right"],
)
def test_a_secret_is_not_revealed_to_what_did_not_show_the_form(scene: Scene, role: str, origin: str, token: str | None) -> None:
    """Origin and token must both be right, and the token is the visitor's own."""
    answer = reveal(scene, role, origin=origin, token=token)

    assert answer.status_code == 403
    assert VALUE not in answer.text
    assert kinds(scene) == []


def test_what_cannot_be_noted_is_not_shown(scene: Scene) -> None:
    """A store that takes no writes shows names and hides what is secret."""
    assert scene.get(scene.point_path).status_code == 200

    class Refusing(MemorySource):
        def place(self, policy: object) -> object:  # type: ignore[override]
            raise StoreUnavailable("the bucket does not answer", where="s3://b")

    scene.library._source = Refusing(scene.source.stores)
    answer = scene.get(f"{scene.point_path}/download?path=volumes/shop/data/orders.db")

    assert answer.status_code == 503
    assert b"rows" not in answer.content


def test_a_file_is_downloaded_byte_by_byte(scene: Scene) -> None:
    """With its length, as an attachment, and noted."""
    answer = scene.get(f"{scene.point_path}/download?path=volumes/shop/data/orders.db", "user")

    assert answer.content == FILES["orders.db"]
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith('attachment; filename="orders.db"')
    assert kinds(scene) == [("downloaded", "user", "volumes/shop/data/orders.db")]


def test_a_file_of_any_name_is_downloaded(scene: Scene) -> None:
    """Its name cannot break out of the header."""
    answer = scene.get(f"{scene.point_path}/download?path=volumes/shop/data/{quote(EVIL)}")

    assert answer.content == b"evil"
    assert answer.headers["content-disposition"].startswith('attachment; filename="_img_src_x_onerror_alert_1___.txt"; ')


@pytest.mark.parametrize(
    "path",
    ["../recovery-point.json", "recovery-point.json", "volumes/../recovery-point.json", "", "/", "volumes", "no/such", "volumes/none"],
)
def test_what_is_no_file_is_not_downloaded(shared: Scene, path: str) -> None:
    """Each is an answer, with what to do, and no failure."""
    answer = shared.get(f"{shared.point_path}/download?path={quote(path)}")

    assert answer.status_code in (400, 404)
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/policies/none/points", 404),
        ("/policies/shop/points/0123", 404),
        ("/policies/shop/points?page=0", 400),
        ("/policies/shop/points?page=999999999999", 400),
        ("/policies/shop/points?after=soon", 400),
        ("/policies/shop/points?state=odd", 400),
        ("/policies/shop/points?month=2026-99", 400),
        ("/policies/shop/points?month=x", 400),
        ("/ledger?page=-1", 400),
        ("/ledger?policy=%3Cb%3E", 404),
        ("/policies/%3Cscript%3E/points", 404),
    ],
)
def test_a_wrong_question_gets_an_answer(shared: Scene, path: str, status: int) -> None:
    """One sentence, and what to do; never a failure, and never the question as HTML."""
    answer = shared.get(path)

    assert answer.status_code == status
    assert 'role="alert"' in answer.text
    assert "<script>" not in re.sub(r"<script src=[^>]*></script>", "", answer.text)


def test_points_are_searched(shared: Scene) -> None:
    """By state, by id, by time."""
    partial = shared.get("/policies/shop/points?state=partial").text
    by_id = shared.get(f"/policies/shop/points?q={shared.point.id[:10]}").text
    early = shared.get("/policies/shop/points?before=2026-03-13").text

    assert ["1 of 2 points" in text for text in (partial, by_id, early)] == [True, True, True]
    assert shared.point.id in by_id


def test_a_damaged_point_is_told_and_the_others_shown(scene: Scene) -> None:
    """What can be read is shown; what cannot is named."""
    scene.store.put(Layout.snapshot("f" * 64), b"no snapshot at all")
    text = scene.get("/policies/shop/points").text

    assert "2 of 2 points" in text
    assert "Points that cannot be read" in text


def test_a_bucket_that_fails_leaves_what_was_known(scene: Scene) -> None:
    """A broken policy is a card of its own, and does not hide the others."""
    scene.source.broken["odd"] = PolicyError("kind is missing", findings=())
    scene.get("/")
    scene.library.settle()
    text = scene.get("/").text

    assert "the policy&#39;s file is broken" in text
    assert "/policies/shop/points" in text


def test_the_evidence_is_drawn(shared: Scene) -> None:
    """Freeze, cut and their lengths, as a picture with words."""
    text = shared.get(shared.point_path).text

    assert '<svg class="evidence"' in text
    assert "frozen for 1.20 s" in text
    assert "application-consistent" in text


def test_a_point_beside_itself_differs_in_nothing(shared: Scene) -> None:
    """The comparison is the one of `becalm diff`."""
    assert "Nothing differs" in shared.get(f"{shared.point_path}/compare?with={shared.point.id}").text
