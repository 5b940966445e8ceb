"""What the S3 adapter makes of a server's answers, those too that a real server gives once a year."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import sha256

import pytest

from becalm.errors import (
    AccessDenied,
    BecalmError,
    BucketMissing,
    Damaged,
    NotFound,
    PermanentError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    Throttled,
    UsageError,
)
from becalm.storage import open_store
from becalm.storage.base import Span
from becalm.storage.s3 import S3Store
from becalm.testing.fake_clock import FakeClock
from becalm.testing.scripted_server import Request, Response, serving


def _store(endpoint: str, **changes: object) -> S3Store:
    options = {"endpoint": endpoint, "access_key": "key", "secret_key": "secret", "addressing": "path"}
    return S3Store("bucket", "prefix", **(options | changes))


def _error(status: int, code: str, **headers: str) -> Response:
    return Response(status=status, body=f"<Error><Code>{code}</Code><Message>said {code}</Message></Error>".encode(), headers=headers)


LISTED = Response(body=b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")


def _but_lists(answer: Response) -> Callable[[Request], Response]:
    """Answer so, but let the bucket be listed."""
    return lambda request: LISTED if "list-type=2" in request.path else answer


@pytest.mark.parametrize(
    ("status", "code", "error", "said"),
    [
        (404, "NoSuchBucket", BucketMissing, "there is no bucket 'bucket'"),
        (403, "InvalidAccessKeyId", AccessDenied, "does not know this access key"),
        (403, "SignatureDoesNotMatch", AccessDenied, "the secret is wrong"),
        (400, "ExpiredToken", AccessDenied, "renew the session"),
        (400, "InvalidToken", AccessDenied, "renew the session"),
        (403, "RequestTimeTooSkewed", AccessDenied, r"set this machine's clock \(NTP\)"),
        (400, "AuthorizationHeaderMalformed", AccessDenied, "AWS_REGION"),
        (403, "AccessDenied", StoreReadOnly, "may read the bucket but not write"),
        (405, "MethodNotAllowed", StoreReadOnly, "accepts no writes"),
        (403, "QuotaExceeded", StoreFull, "full"),
        (507, "InsufficientStorage", StoreFull, "deleting still works"),
        (503, "SlowDown", Throttled, "patience"),
        (429, "TooManyRequests", Throttled, "patience"),
        (500, "InternalError", StoreUnavailable, "500"),
        (502, "", StoreUnavailable, "502"),
        (504, "", StoreUnavailable, "504"),
        (400, "RequestTimeout", StoreUnavailable, "RequestTimeout"),
        (409, "ConditionalRequestConflict", StoreUnavailable, "ConditionalRequestConflict"),
        (400, "BadDigest", StoreUnavailable, "damaged on their way"),
        (400, "XAmzContentSHA256Mismatch", StoreUnavailable, "damaged on their way"),
        (409, "ObjectParentIsFile", PermanentError, "folder"),
        (400, "InvalidArgument", PermanentError, "said InvalidArgument"),
        (501, "NotImplemented", PermanentError, "said NotImplemented"),
        (418, "Teapot", PermanentError, "said Teapot"),
    ],
)
def test_a_refused_write_is_told_by_its_cause(status: int, code: str, error: type[BecalmError], said: str) -> None:
    """The class says what to do next, the message why, the place which object."""
    with serving(_but_lists(_error(status, code))) as server, pytest.raises(error, match=said) as caught:
        _store(server.url).put("some/key", b"body")

    assert caught.type is error
    assert caught.value.where == "s3://bucket/prefix/some/key"


def test_a_server_that_says_how_long_to_wait_is_heard() -> None:
    """The delay travels with the error."""
    with serving(lambda _: _error(503, "SlowDown", **{"Retry-After": "7"})) as server, pytest.raises(Throttled) as caught:
        _store(server.url).get("key")

    assert caught.value.delay_seconds == 7


def test_the_adapter_itself_never_tries_again() -> None:
    """Patience is a wrapper's business."""
    with serving(lambda _: _error(500, "InternalError")) as server:
        for act in (lambda store: store.get("key"), lambda store: store.put("key", b""), lambda store: list(store.list(""))):
            with pytest.raises(StoreUnavailable):
                act(_store(server.url))

    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("code", "said"), [("InvalidAccessKeyId", "does not know this access key"), ("AccessDenied", "may not read the bucket")]
)
def test_a_bare_refusal_is_asked_after(code: str, said: str) -> None:
    """HEAD has no body to say why; a list does."""

    def script(request: Request) -> Response:
        return Response(status=403) if request.method == "HEAD" else _error(403, code)

    with serving(script) as server, pytest.raises(AccessDenied, match=said):
        _store(server.url).head("key")


def test_a_bare_404_may_mean_the_bucket() -> None:
    """HEAD of an object in no bucket looks like HEAD of no object."""
    with serving(lambda _: Response(status=404)) as server, pytest.raises(BucketMissing):
        _store(server.url).head("key")
    with serving(lambda request: Response(status=404 if "key" in request.path else 200)) as server, pytest.raises(NotFound):
        _store(server.url).head("key")


def test_an_answer_that_is_cut_off_is_no_answer() -> None:
    """Half an object is transient: the connection broke."""
    with serving(lambda _: Response(body=b"half", declared_length=8)) as server, pytest.raises(StoreUnavailable):
        _store(server.url).get("key")


def test_a_span_from_a_server_that_ignores_spans_is_cut_out() -> None:
    """A whole object is an answer as well."""
    with serving(lambda _: Response(body=b"0123456789")) as server:
        assert _store(server.url).get("key", Span(offset=3, length=4)) == b"3456"


def test_a_span_that_comes_back_short_is_damage() -> None:
    """The object ends before it should."""
    answer = Response(status=206, body=b"89", headers={"Content-Range": "bytes 8-9/10"})
    with serving(lambda _: answer) as server, pytest.raises(Damaged, match="2 bytes came back, asked for 4 from 8"):
        _store(server.url).get("key", Span(offset=8, length=4))


def _page(keys: list[str], token: str | None, *, truncated: bool = True) -> Response:
    entries = "".join(
        f"<Contents><Key>prefix/{key}</Key><Size>1</Size><ETag>e</ETag><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
        for key in keys
    )
    following = f"<NextContinuationToken>{token}</NextContinuationToken>" if token is not None else ""
    return Response(
        body=f"<ListBucketResult><IsTruncated>{str(truncated).lower()}</IsTruncated>{following}{entries}</ListBucketResult>".encode()
    )


@pytest.mark.parametrize(
    "second",
    [
        _error(500, "InternalError"),
        _page(["c"], None),
        _page(["c"], ""),
        _page(["c"], "one"),
        _page(["b"], None, truncated=False),
        _page(["a"], None, truncated=False),
        _page(["d", "c"], None, truncated=False),
        Response(body=b"<ListBucketResult><IsTrunc"),
        Response(body=b"", declared_length=100),
    ],
    ids=["fails", "no token", "empty token", "same token", "doubled", "backwards", "unsorted", "cut", "gone"],
)
def test_a_list_that_goes_wrong_never_looks_complete(second: Response) -> None:
    """What was seen is no answer: whoever deletes by a list must not take it for one."""
    pages = iter([_page(["a", "b"], "one"), second])
    with serving(lambda _: next(pages)) as server, pytest.raises(StoreUnavailable):
        list(_store(server.url).list(""))

    assert len(server.asked) == 2


@pytest.mark.parametrize("body", [b"", b"<html><body>please log in</body></html>"])
def test_a_stranger_that_answers_200_is_not_believed(body: bytes) -> None:
    """A proxy's page is neither an empty bucket nor a stored object."""
    acts = (
        lambda store: list(store.list("")),
        lambda store: store.put("key", b"body"),
        lambda store: store.head("key"),
        lambda store: store.delete("key", if_match="etag"),
    )
    for act in acts:
        with serving(lambda _: Response(body=body)) as server, pytest.raises(StoreUnavailable):
            act(_store(server.url))


def test_the_folders_of_consoles_are_no_objects() -> None:
    """A key that ends in a slash is nobody's object."""
    with serving(lambda _: _page(["", "data/", "data/ab"], None, truncated=False)) as server:
        assert [info.key for info in _store(server.url).list("")] == ["data/ab"]


@pytest.mark.parametrize(("status", "code", "error"), [(403, "AccessDenied", AccessDenied), (405, "MethodNotAllowed", StoreReadOnly)])
def test_a_deletion_that_is_not_allowed_is_denied(status: int, code: str, error: type[BecalmError]) -> None:
    """Keys that may write and not delete."""

    def script(request: Request) -> Response:
        if request.method == "HEAD":
            return Response(headers={"ETag": '"e"', "Last-Modified": "Mon, 23 Nov 2026 12:00:00 GMT"})
        return LISTED if "list-type=2" in request.path else _error(status, code)

    with serving(script) as server, pytest.raises(error):
        _store(server.url).delete("key")


def test_a_server_that_ignores_conditions_of_deletion_deletes_nothing_else() -> None:
    """The state is compared before: such servers delete whatever is there."""

    def script(request: Request) -> Response:
        return Response(headers={"ETag": '"other"', "Last-Modified": "Mon, 23 Nov 2026 12:00:00 GMT"})

    with serving(script) as server, pytest.raises(PermanentError, match="not the one that was read"):
        _store(server.url).delete("key", if_match="mine")

    assert [request.method for request in server.asked] == ["HEAD"]


def test_time_is_the_servers_and_goes_on_by_the_monotonic_clock() -> None:
    """Whatever this machine's wall clock says. A later answer corrects it; so does any answer when the last is a minute old."""
    clock, time = FakeClock(), datetime(2031, 5, 4, 3, 2, 1, tzinfo=UTC)
    dates = iter([time, time + timedelta(hours=8), time + timedelta(hours=7)])
    with serving(lambda _: Response(headers={"Date": format_datetime(next(dates), usegmt=True)})) as server:
        store = _store(server.url, clock=clock)
        told = [store.now()]
        clock.jump(-365 * 86400)
        clock.advance(30)
        told.append(store.now())
        list_of_dates_used = len(server.asked)
        clock.advance(31)
        told.append(store.now())
        clock.advance(61)
        told.append(store.now())

    assert list_of_dates_used == 1
    assert [moment - time for moment in told] == [timedelta(0), timedelta(seconds=30), timedelta(hours=8), timedelta(hours=7)]


def test_nobody_listening_is_transient_and_names_the_endpoint() -> None:
    """With what to check."""
    with serving(lambda _: Response()) as server:
        address = server.url
    with pytest.raises(StoreUnavailable, match=rf"{address} did not answer get_object.*check the endpoint"):
        _store(address).get("key")


def test_a_certificate_that_nobody_knows_is_denied_with_its_remedy(tmp_path) -> None:
    """Plain bytes where TLS was meant are transient; the right file is named for the wrong certificate."""
    with serving(lambda _: Response()) as server, pytest.raises(StoreUnavailable):
        _store(server.url.replace("http:", "https:")).get("key")
    with pytest.raises(UsageError, match="AWS_CA_BUNDLE"):
        open_store("s3://bucket", {"AWS_CA_BUNDLE": str(tmp_path / "absent.pem")})


def test_secrets_stand_in_no_error_and_no_url() -> None:
    """Errors go to logs."""
    answer = Response(status=403, body=b"<Error><Code>SignatureDoesNotMatch</Code><StringToSign>hidden</StringToSign></Error>")
    with serving(lambda _: answer) as server:
        store = _store(server.url, access_key="AKIAVISIBLE", secret_key="hidden", session_token="hidden")
        with pytest.raises(AccessDenied) as caught:
            store.put("key", b"")

    assert "hidden" not in f"{caught.value} {store.url} {vars(store)}"


LARGE = bytes(range(256)) * 512
STORED = Response(headers={"ETag": '"e"'})
MISMATCH = _error(400, "XAmzContentSHA256Mismatch")


def _digest(request: Request) -> str:
    return {name.lower(): value for name, value in request.headers.items()}["x-amz-content-sha256"]


@pytest.mark.parametrize("body", [LARGE, memoryview(bytearray(LARGE))], ids=["bytes", "a view"])
def test_a_large_object_named_by_its_hash_is_signed_by_its_name(body: bytes | memoryview) -> None:
    """It was hashed where it was made; the server compares the bytes with the name. A small one is hashed, whatever its name."""
    name = sha256(LARGE).hexdigest()
    with serving(lambda _: STORED) as server:
        store = _store(server.url)
        store.put(f"data/{name}", body, if_absent=True)
        store.put(f"data/{name}", b"small")
        store.put("data/other", body)

    assert [_digest(request) for request in server.asked] == [name, sha256(b"small").hexdigest(), name]
    assert [request.body for request in server.asked] == [LARGE, b"small", LARGE]


@pytest.mark.parametrize("body", [LARGE, memoryview(bytearray(LARGE))], ids=["bytes", "a view"])
def test_a_name_that_only_looks_like_the_hash_is_signed_by_the_hash(body: bytes | memoryview) -> None:
    """The server says that it is none; then it is hashed, once."""
    digest = sha256(LARGE).hexdigest()
    with serving(lambda request: STORED if _digest(request) == digest else MISMATCH) as server:
        _store(server.url).put(f"data/{'0' * 64}", body)

    assert [_digest(request) for request in server.asked] == ["0" * 64, digest]
    assert [request.body == LARGE for request in server.asked] == [True, True]


def test_bytes_that_were_damaged_on_their_way_are_not_sent_again_by_the_adapter() -> None:
    """The name is their hash, and the server got others: patience is a wrapper's business."""
    with serving(lambda _: MISMATCH) as server, pytest.raises(StoreUnavailable, match="damaged on their way"):
        _store(server.url).put(f"data/{sha256(LARGE).hexdigest()}", LARGE)

    assert len(server.asked) == 1


def test_opening_a_bucket_sends_nothing_and_loads_no_boto3() -> None:
    """Not even the module: a parse of DAG files must not pay for it."""
    program = "import sys; from becalm.storage import open_store; open_store('s3://bucket/a/b', {}); sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    "url",
    [
        "",
        "bucket",
        "s3:",
        "s3://",
        "s3:///prefix",
        "s3://user:secret@bucket/x",
        "s3://bucket/a//b",
        "s3://bucket/../x",
        "http://host/bucket",
        "file://",
        "file://relative",
        "file:///a/../b",
        "/path",
    ],
)
def test_a_url_that_names_no_target_is_refused_with_the_forms_that_do(url: str) -> None:
    """Nothing is made from it."""
    with pytest.raises(UsageError, match=r"s3://bucket/prefix|file:///absolute/path"):
        open_store(url, {}, create=True)


@pytest.mark.parametrize(
    ("credentials", "said"),
    [({"AWS_ENDPOINT_URL": "127.0.0.1:9000"}, "https://host:port"), ({"BECALM_S3_ADDRESSING": "sideways"}, "auto, path or virtual")],
)
def test_settings_that_mean_nothing_are_refused(credentials: dict[str, str], said: str) -> None:
    """Before anything is sent."""
    with pytest.raises(UsageError, match=said):
        open_store("s3://bucket", credentials)


def test_where_a_store_is() -> None:
    """Its URL is the one it was opened with."""
    assert open_store("s3://bucket/a/b/", {}).url == "s3://bucket/a/b"
    assert open_store("s3://bucket", {}).url == "s3://bucket"
    assert open_store("file:///a/b", {}).url == "file:///a/b"
