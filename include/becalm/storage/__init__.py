"""The port to a bucket and its adapters. It knows nothing of packs, points or policies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from becalm.clock import Clock, SystemClock
from becalm.errors import UsageError
from becalm.storage.keys import problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from becalm.storage.base import ObjectStore
    from becalm.storage.directory import DirectoryStore
    from becalm.storage.s3 import LockMode, S3Store
    from becalm.storage.s3_connection import Addressing

__all__ = ["CREDENTIALS", "open_store"]

CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_CA_BUNDLE",
    "BECALM_S3_ADDRESSING",
)
"""How a store's credentials and its endpoint are called: in an environment, and in a mover's Secret."""

_FORMS = "write s3://bucket/prefix or file:///absolute/path"


def open_store(
    url: str,
    credentials: Mapping[str, str],
    *,
    create: bool = False,
    lock: Literal["", "compliance", "governance"] = "",
    attempts: int = 5,
    throttled_seconds: float = 60.0,
    clock: Clock | None = None,
) -> ObjectStore:
    """Return the store at a URL; it tries transient failures again. Nothing is sent, unless it has to be created.

    `credentials` may hold what CREDENTIALS names (BECALM_S3_ADDRESSING is auto, path or virtual), and AWS_DEFAULT_REGION. With `create`, a bucket or a folder
    that is not there is made: a bucket with object lock if `lock` names a mode. `attempts` says how often a transient failure is met
    before it is raised: 5 give up within seconds, 12 within minutes; throttling is borne with for `throttled_seconds` in any case.
    Raises: UsageError.
    """
    from becalm.storage.wrappers import Retrying  # noqa: PLC0415  (nothing of this loads before a store is opened)

    clock = clock or SystemClock()
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in {"s3", "file"}:
        raise UsageError(f"{url!r} is no target", hint=_FORMS)
    if scheme == "file":
        store: ObjectStore = _open_folder(url, rest, create=create, clock=clock)
    else:
        store = _open_bucket(url, rest, credentials, create=create, lock=lock, clock=clock)
    return Retrying(store, clock=clock, attempts=attempts, throttled_seconds=throttled_seconds)


def _open_folder(url: str, path: str, *, create: bool, clock: Clock) -> DirectoryStore:
    from becalm.storage.directory import DirectoryStore  # noqa: PLC0415  (adapters load only where they are used)

    if not path.startswith("/") or problem(path.strip("/")):
        raise UsageError(f"{url!r} names no folder", hint="write file:///absolute/path")
    store = DirectoryStore(path, clock=clock)
    if create:
        store.make_folder()
    return store


def _open_bucket(url: str, rest: str, credentials: Mapping[str, str], *, create: bool, lock: str, clock: Clock) -> S3Store:
    from becalm.storage.s3 import S3Store  # noqa: PLC0415  (adapters load only where they are used)

    bucket, _, prefix = rest.partition("/")
    prefix = prefix.strip("/")
    if not bucket or "@" in bucket or ":" in bucket:
        raise UsageError(f"{url!r} names no bucket", hint="write s3://bucket/prefix; the endpoint and the keys belong to the connection")
    if prefix and problem(prefix):
        raise UsageError(f"{url!r} has no usable prefix: {problem(prefix)}", hint="write s3://bucket/prefix")
    addressing = credentials.get("BECALM_S3_ADDRESSING") or "auto"
    if addressing not in {"auto", "path", "virtual"}:
        raise UsageError(f"BECALM_S3_ADDRESSING is {addressing!r}", hint="write auto, path or virtual")
    store = S3Store(
        bucket,
        prefix,
        endpoint=_endpoint(credentials),
        region=credentials.get("AWS_REGION") or credentials.get("AWS_DEFAULT_REGION"),
        access_key=credentials.get("AWS_ACCESS_KEY_ID") or None,
        secret_key=credentials.get("AWS_SECRET_ACCESS_KEY") or None,
        session_token=credentials.get("AWS_SESSION_TOKEN") or None,
        addressing=cast("Addressing", addressing),
        verify=_certificates(credentials),
        lock_mode=cast("LockMode", (lock or "compliance").upper()),
        clock=clock,
    )
    if create:
        store.make_bucket(object_lock=bool(lock))
    return store


def _endpoint(credentials: Mapping[str, str]) -> str | None:
    endpoint = credentials.get("AWS_ENDPOINT_URL") or None
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise UsageError(f"AWS_ENDPOINT_URL is {endpoint!r}", hint="write it as https://host:port")
    return endpoint


def _certificates(credentials: Mapping[str, str]) -> bool | str:
    bundle = credentials.get("AWS_CA_BUNDLE") or ""
    if bundle and not Path(bundle).exists():
        raise UsageError(f"AWS_CA_BUNDLE names {bundle!r}, which is not there", hint="name the file with the authority's certificate")
    return bundle or True
