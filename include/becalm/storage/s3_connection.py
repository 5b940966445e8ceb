"""The connection to an S3 server by boto3: the only module that knows it. It sends one request at a time and never retries.

What comes back is a reply, `Refused` with the server's own answer, or one of Becalm's errors where there was no answer.
"""

from __future__ import annotations

import gzip
import logging
import re
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import orjson

from becalm.errors import AccessDenied, StoreUnavailable, UsageError
from becalm.storage.s3_body import ViewReader
from becalm.storage.s3_errors import Answer, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from becalm.clock import Clock

Addressing: TypeAlias = Literal["auto", "path", "virtual"]

Reply: TypeAlias = dict[str, Any]
"""What boto3 returns; it stays in the S3 adapter."""

CONNECT_SECONDS = 5
READ_SECONDS = 60
TIME_SAMPLE_SECONDS = 60.0
"""How long one `Date` of the server is good for telling its time."""

_SMALL = 64 << 10
"""A smaller body is hashed, whatever its name."""
_IS_DIGEST = re.compile(r"[0-9a-f]{64}").fullmatch
_OTHER_DIGEST = "XAmzContentSHA256Mismatch"
_SIGNER = "becalm-s3v4"
_KNOWN: ContextVar[str] = ContextVar("known", default="")
"""The digest of the body that is being sent, where it is known."""

_SESSION_LOCK = threading.Lock()
"""Clients are safe in threads; making them is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How a server is reached, and as whom. Without keys, boto3 looks for the machine's own role."""

    endpoint: str | None = None
    region: str = "us-east-1"
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    addressing: Addressing = "auto"
    verify: bool | str = True
    connections: int = 32


class Connection:
    """One client for one bucket, with a pool of connections; safe in threads. It also tells the server's time."""

    def __init__(self, bucket: str, access: Access, clock: Clock) -> None:
        """Remember how to reach the server; nothing is sent and boto3 is not loaded yet."""
        self._bucket = bucket
        self._access = access
        self._clock = clock
        self._connecting = threading.Lock()
        self._connected: Any = None
        self._sample: tuple[datetime, float] | None = None
        self.answered = False
        """Whether any request to the bucket has succeeded: then it is there."""

    def call(self, operation: str, where: str, **arguments: Any) -> Reply:
        """Send one request. Raises Refused with the server's answer, or the error of a server that gave none."""
        named = _named(arguments)
        try:
            reply = self._send(operation, where, arguments, digest=named)
        except Refused as refused:
            if not named or refused.answer.code != _OTHER_DIGEST or (digest := _digest(arguments["Body"])) == named:
                raise
            reply = self._send(operation, where, arguments, digest=digest)
        self.answered = True
        return reply

    def _send(self, operation: str, where: str, arguments: dict[str, Any], *, digest: str) -> Reply:
        token = _KNOWN.set(digest)
        try:
            with self.translated(operation, where):
                reply: Reply = getattr(self._client(), operation)(Bucket=self._bucket, **arguments)
                self._note_time(reply)
        finally:
            _KNOWN.reset(token)
        return reply

    def close(self) -> None:
        """Let go of the connections. The next call opens new ones."""
        with self._connecting:
            connected, self._connected = self._connected, None
        if connected is not None:
            connected.close()

    def server_time(self) -> datetime | None:
        """Return the server's time, carried on from its last `Date` by the monotonic clock; nothing if none is fresh."""
        sample = self._sample
        if sample is None or (age := self._clock.monotonic() - sample[1]) > TIME_SAMPLE_SECONDS:
            return None
        return sample[0] + timedelta(seconds=age)

    @contextmanager
    def translated(self, operation: str, where: str) -> Iterator[None]:
        """Let no exception of boto3 pass."""
        from botocore import exceptions as boto  # boto3 is heavy: nothing loads it before the first request

        try:
            yield
        except boto.ClientError as error:
            self._note_time(error.response)
            raise Refused(_answer(operation, error.response)) from error
        except (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError) as error:
            raise AccessDenied(
                "there are no credentials for the bucket",
                where=where,
                hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role",
            ) from error
        except boto.SSLError as error:
            if "CERTIFICATE_VERIFY_FAILED" not in str(error):
                raise StoreUnavailable(f"the encrypted connection broke: {error}", where=where) from error
            raise AccessDenied(
                "the server's certificate is not trusted", where=where, hint="name its authority's file in AWS_CA_BUNDLE"
            ) from error
        except boto.ParamValidationError as error:
            raise UsageError(f"boto3 does not accept the request: {error}", where=where) from error
        except (boto.BotoCoreError, boto.HTTPClientError, OSError) as error:
            at = f"{self._access.endpoint or 'Amazon S3'} did not answer {operation}: {type(error).__name__}"
            raise StoreUnavailable(at, where=where, hint="check the endpoint, the network and the server") from error

    def _note_time(self, reply: Reply) -> None:
        """Keep the server's time. Its `Date` counts whole seconds, so the latest of the last minute is nearest the truth."""
        date = reply.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        try:
            heard = parsedate_to_datetime(date).astimezone(UTC)
        except (TypeError, ValueError):
            return
        at, before = self._clock.monotonic(), self._sample
        if before is None or at - before[1] > TIME_SAMPLE_SECONDS or heard >= before[0] + timedelta(seconds=at - before[1]):
            self._sample = (heard, at)

    def _client(self) -> Any:
        with self._connecting:
            if self._connected is None:
                self._connected = self._connect()
            return self._connected

    def _connect(self) -> Any:
        from botocore.config import Config  # boto3 is heavy: nothing loads it before the first request

        access = self._access
        config = Config(
            signature_version="s3v4",
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=access.connections,
            tcp_keepalive=True,
            s3={"addressing_style": access.addressing},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            ignore_configured_endpoint_urls=True,
        )
        try:
            with _SESSION_LOCK:
                client = _session().client(
                    "s3",
                    endpoint_url=access.endpoint,
                    region_name=access.region,
                    aws_access_key_id=access.access_key,
                    aws_secret_access_key=access.secret_key,
                    aws_session_token=access.session_token,
                    verify=access.verify,
                    config=config,
                )
                client.meta.events.register("choose-signer.s3.PutObject", _signer())
                return client
        except ValueError as error:
            raise UsageError(
                f"{self._access.endpoint!r} is no endpoint: {error}", where=self._bucket, hint="write it as https://host:port"
            ) from error


@cache
def _session() -> Any:
    """Return boto3's session, one for the process: it holds what boto3 has read of itself, and no keys of ours."""
    from boto3.session import Session
    from botocore.loaders import Loader
    from botocore.session import Session as BotocoreSession

    # At DEBUG botocore prints the headers of every request: the id of the access key is in one of them.
    logging.getLogger("botocore").setLevel(logging.INFO)
    session = BotocoreSession()
    descriptions = Loader(file_loader=_Descriptions())
    descriptions.list_available_services = lambda type_name: ["s3"]  # noqa: ARG005  (botocore's form; its own looks through four hundred folders)
    session.register_component("data_loader", descriptions)

    class Plain(Session):  # type: ignore[misc]  # boto3 is not typed
        """Without the transfer manager: it would be loaded with every client, and is never used."""

        def _register_default_handlers(self) -> None:
            return

    return Plain(botocore_session=session)


@cache
def _signer() -> Callable[..., str]:
    """Return what names the signer of a put: botocore's own, but that a digest that is known is not computed a second time."""
    from botocore.auth import AUTH_TYPE_MAPS, S3SigV4Auth

    class Known(S3SigV4Auth):  # type: ignore[misc]  # botocore is not typed
        """Takes the digest of the body from the caller, where he knows it."""

        def payload(self, request: Any) -> str:
            return _KNOWN.get() or str(super().payload(request))

    AUTH_TYPE_MAPS[_SIGNER] = Known
    return lambda **_: _SIGNER


def _named(arguments: dict[str, Any]) -> str:
    """Return the digest of a large body out of the object's name, where that looks like one. The server compares the bytes with it."""
    name = str(arguments.get("Key", "")).rpartition("/")[2]
    return name if len(arguments.get("Body", b"")) > _SMALL and _IS_DIGEST(name) else ""


def _digest(body: Any) -> str:
    """Return the true digest of a body. One that is read is put back to its begin."""
    if not isinstance(body, ViewReader):
        return sha256(body).hexdigest()
    body.seek(0)
    found = sha256(body.read()).hexdigest()
    body.seek(0)
    return found


class _Descriptions:
    """Reads the files in which botocore describes services, as its own loader does, in a fraction of the time."""

    def exists(self, path: str) -> bool:
        """Say whether there is a file, compressed or not."""
        return any(Path(path + ending).is_file() for ending in (".json", ".json.gz"))

    def load_file(self, path: str) -> Any:
        """Return what stands in a file; nothing where there is none."""
        plain, packed = Path(f"{path}.json"), Path(f"{path}.json.gz")
        if plain.is_file():
            return orjson.loads(plain.read_bytes())
        return orjson.loads(gzip.decompress(packed.read_bytes())) if packed.is_file() else None


def read_model() -> None:
    """Let boto3 read its description of S3 now: clients of this process, and of those forked from it, are then made in milliseconds.

    Nothing is sent, and no credentials are looked for.
    """
    with _SESSION_LOCK:
        _session().client("s3", region_name="us-east-1", aws_access_key_id="none", aws_secret_access_key="none")  # noqa: S106  (no secret)


def _answer(operation: str, reply: Reply) -> Answer:
    metadata = reply.get("ResponseMetadata", {})
    wait = metadata.get("HTTPHeaders", {}).get("retry-after", "")
    error = reply.get("Error", {})
    return Answer(
        operation=operation,
        status=int(metadata.get("HTTPStatusCode", 0)),
        code=str(error.get("Code", "")),
        message=str(error.get("Message", "")),
        retry_after_seconds=float(wait) if wait.isdigit() else None,
    )
