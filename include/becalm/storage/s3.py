"""A bucket as an object store: conditions, spans, checksums, object lock.

It never retries, and where servers differ it trusts no error code alone: it asks the bucket what happened.
"""

from __future__ import annotations

import zlib
from base64 import b64encode
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from becalm.clock import Clock, SystemClock, format_time
from becalm.errors import AccessDenied, BecalmError, Damaged, NotFound, PermanentError, PreconditionFailed, StoreReadOnly, StoreUnavailable
from becalm.storage.base import Body, ETag, Key, ObjectInfo, Span
from becalm.storage.keys import checked, problem
from becalm.storage.s3_body import ViewReader
from becalm.storage.s3_connection import Access, Addressing, Connection, Reply
from becalm.storage.s3_errors import Answer, Refused, bucket_missing, meaning, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

LockMode: TypeAlias = Literal["COMPLIANCE", "GOVERNANCE"]

_MOST_VERSIONS = 20
"""So many versions of one object are removed; what is older is hidden."""
_WRITES = frozenset({"put_object", "put_object_retention", "delete_object"})


class S3Store:
    """Objects below a prefix of one bucket. One client with a pool of connections; safe in threads."""

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint: str | None = None,
        region: str | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
        session_token: str | None = None,
        addressing: Addressing = "auto",
        verify: bool | str = True,
        lock_mode: LockMode = "COMPLIANCE",
        page_size: int = 1000,
        connections: int = 32,
        clock: Clock | None = None,
    ) -> None:
        """Name the bucket and how to reach it; nothing is sent yet.

        Without keys, boto3 looks for the machine's own role. `verify` may name a file of certificates.
        """
        self._bucket = bucket
        self._prefix = f"{checked(prefix)}/" if prefix else ""
        self._region = region or "us-east-1"
        self._lock_mode = lock_mode
        self._page_size = page_size
        self._lock_seen = False
        access = Access(
            endpoint=endpoint,
            region=self._region,
            access_key=access_key,
            secret_key=secret_key,
            session_token=session_token,
            addressing=addressing,
            verify=verify,
            connections=connections,
        )
        self._connection = Connection(bucket, access, clock or SystemClock())

    @property
    def url(self) -> str:
        """`s3://bucket/prefix`."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def get(self, key: Key, span: Span | None = None) -> bytes:
        """Return an object or a span of it, in one request."""
        if span is not None and (span.length == 0 or span.offset < 0 or span.length < 0):
            return self._empty_span(key, span)
        ranged = {"Range": f"bytes={span.offset}-{span.offset + span.length - 1}"} if span else {}
        try:
            reply = self._call("get_object", key, Key=self._name(key), **ranged)
        except Refused as refused:
            if span and refused.answer.status == 416:
                raise Damaged(f"shorter than {span.offset + span.length} bytes", where=self._place(key)) from refused
            raise self._explain(refused.answer, key) from refused
        with self._connection.translated("get_object", self._place(key)):
            body: bytes = reply["Body"].read()
        if span and "ContentRange" not in reply:  # the server ignored the range and sent all
            body = body[span.offset : span.offset + span.length]
        if span and len(body) != span.length:
            raise Damaged(f"{len(body)} bytes came back, asked for {span.length} from {span.offset}", where=self._place(key))
        declared = reply.get("ContentLength", len(body))
        if span is None and len(body) != declared:
            raise StoreUnavailable(f"{len(body)} of {declared} bytes arrived", where=self._place(key))
        return body

    def put(
        self, key: Key, body: Body, *, if_absent: bool = False, if_match: ETag | None = None, retain_until: datetime | None = None
    ) -> ETag:
        """Write one object in one request, whatever its size: only then is the condition one with the write."""
        arguments: dict[str, Any] = {
            "Key": self._name(key),
            "Body": ViewReader(body) if isinstance(body, memoryview) else body,
            "ChecksumCRC32": b64encode(zlib.crc32(body).to_bytes(4, "big")).decode(),
        }
        if if_absent:
            arguments["IfNoneMatch"] = "*"
        if if_match is not None:
            arguments["IfMatch"] = _quoted(if_match)
        if retain_until is not None:
            self._must_lock(key)
            arguments |= {"ObjectLockMode": self._lock_mode, "ObjectLockRetainUntilDate": _whole_second(retain_until)}
        try:
            reply = self._call("put_object", key, **arguments)
        except Refused as refused:
            answer = refused.answer
            if answer.status == 412:
                reason = "the object is there already" if if_absent else "the object is not the one that was read"
                raise PreconditionFailed(reason, where=self._place(key)) from refused
            if answer.status == 404 and if_match is not None and answer.code != "NoSuchBucket":
                raise PreconditionFailed("the object is no longer there", where=self._place(key)) from refused
            if retain_until is not None and answer.status == 400:
                self._refuse_past(key, retain_until)
            raise self._explain(answer, key, writing=True) from refused
        return self._etag(key, reply)

    def head(self, key: Key) -> ObjectInfo:
        """Return what the bucket knows of an object."""
        reply = self._head(key)
        if reply is None:
            raise NotFound("no such object", where=self._place(key))
        size, modified = reply.get("ContentLength"), reply.get("LastModified")
        if not isinstance(size, int) or not isinstance(modified, datetime):
            raise StoreUnavailable("the server does not say how large and how old the object is", where=self._place(key))
        return ObjectInfo(key=key, size=size, etag=self._etag(key, reply), modified=modified, retain_until=_locked_until(reply))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield page by page. A page that repeats, goes back or lacks its continuation is an error, never an end."""
        token: dict[str, str] = {}
        last = ""
        while True:
            page = self._page(prefix, token)
            for entry in page.get("Contents", ()):
                name: str = entry["Key"]
                if name <= last:
                    raise StoreUnavailable(f"the server lists {name!r} after {last!r}", where=self._place(prefix))
                last = name
                key = name.removeprefix(self._prefix)
                if not problem(key):  # folders that consoles make end in a slash
                    yield ObjectInfo(key=key, size=entry["Size"], etag=self._etag(key, entry), modified=entry["LastModified"])
            if not page.get("IsTruncated"):
                return
            following = {"ContinuationToken": page.get("NextContinuationToken") or ""}
            if not following["ContinuationToken"] or following == token:
                raise StoreUnavailable("the server cut a list short without saying how to go on", where=self._place(prefix))
            token = following

    def folders(self) -> Iterator[str]:
        """Ask the server to gather the keys by their first segments."""
        token: dict[str, str] = {"Delimiter": "/"}
        while True:
            page = self._page("", token)
            for entry in page.get("CommonPrefixes") or ():
                name = str(entry["Prefix"]).removeprefix(self._prefix).rstrip("/")
                if not problem(name):
                    yield name
            following = page.get("NextContinuationToken") or ""
            if not page.get("IsTruncated"):
                return
            if not following or following == token.get("ContinuationToken"):
                raise StoreUnavailable("the server cut a list short without saying how to go on", where=self._place(""))
            token = {"Delimiter": "/", "ContinuationToken": following}

    def delete(self, key: Key, *, if_match: ETag | None = None) -> None:
        """Remove an object. Where the bucket keeps versions, the version goes, so that a lock is the server's to enforce."""
        found = self._head(key)
        if found is None:
            return
        if if_match is not None and self._etag(key, found) != if_match:
            raise PreconditionFailed("the object is not the one that was read", where=self._place(key))
        self._refuse_locked(key, found)
        version = found.get("VersionId")
        if version in {None, "null"}:
            self._delete(key, {"IfMatch": _quoted(if_match)} if if_match is not None else {})
        else:
            self._delete_version(key, version)

    def retain(self, key: Key, until: datetime) -> None:
        """Lock an object, or lock it longer; a race of two ends with the longer lock."""
        found = self._head(key)
        if found is None:
            raise NotFound("no such object", where=self._place(key))
        if _locks(found, until):
            return
        self._must_lock(key)
        mode = "COMPLIANCE" if found.get("ObjectLockMode") == "COMPLIANCE" else self._lock_mode
        lock = {"Mode": mode, "RetainUntilDate": _whole_second(until)}
        try:
            self._call("put_object_retention", key, Key=self._name(key), Retention=lock)
        except Refused as refused:
            if refused.answer.status in {400, 403}:
                if _locks(self._head(key) or {}, until):
                    return
                self._refuse_past(key, until)
            raise self._explain(refused.answer, key, writing=True) from refused

    def breaks_lock(self, key: Key) -> bool:
        """Ask the server itself to delete a locked version, and say whether it did: our own look at the lock is left out."""
        found = self._head(key)
        version = found.get("VersionId") if found else None
        try:
            self._call("delete_object", key, Key=self._name(key), **({} if version in {None, "null"} else {"VersionId": version}))
        except Refused as refused:
            if refused.answer.status >= 500 or refused.answer.status == 429:
                raise self._explain(refused.answer, key, writing=True) from refused
        after = self._head(key)
        return after is None or after.get("VersionId") != version

    def now(self) -> datetime:
        """Return the server's time."""
        time = self._connection.server_time()
        if time is None:
            with suppress(Refused):  # a refusal has a date as well
                self._call("head_bucket", "")
            time = self._connection.server_time()
        if time is None:
            raise StoreUnavailable("the server does not tell its time", where=self.url)
        return time

    def make_bucket(self, *, object_lock: bool = False) -> None:
        """Make the bucket unless it is there. Object lock can only be given at its birth."""
        with suppress(Refused):
            self._call("head_bucket", "")
            return
        arguments: dict[str, Any] = {"ObjectLockEnabledForBucket": True} if object_lock else {}
        if self._region != "us-east-1":
            arguments["CreateBucketConfiguration"] = {"LocationConstraint": self._region}
        try:
            self._call("create_bucket", "", **arguments)
        except Refused as refused:
            if refused.answer.code == "BucketAlreadyExists":
                raise AccessDenied(
                    f"the bucket {self._bucket!r} belongs to somebody else", where=self.url, hint="choose another name"
                ) from refused
            if refused.answer.code != "BucketAlreadyOwnedByYou":
                raise self._explain(refused.answer, "") from refused

    def _name(self, key: Key) -> str:
        return self._prefix + checked(key)

    def close(self) -> None:
        """Let go of the connections. The next call opens new ones."""
        self._connection.close()

    def _etag(self, key: Key, reply: Reply) -> ETag:
        etag = str(reply.get("ETag") or "").strip('"')
        if not etag:
            raise StoreUnavailable("the server answered without an etag", where=self._place(key))
        return ETag(etag)

    def _place(self, key: Key) -> str:
        return f"{self.url}/{key}".rstrip("/")

    def _head(self, key: Key) -> Reply | None:
        """Return the reply to HEAD, or nothing if there is no such object. A bare 404 does not tell an object from a bucket."""
        try:
            return self._call("head_object", key, Key=self._name(key))
        except Refused as refused:
            if refused.answer.status == 404:
                self._must_have_bucket(key)
                return None
            raise self._explain(refused.answer, key) from refused

    def _must_have_bucket(self, key: Key) -> None:
        if self._connection.answered:
            return
        try:
            self._call("head_bucket", key)
        except Refused as refused:
            if refused.answer.status == 404:
                raise bucket_missing(where=self._place(key), bucket=self._bucket) from refused

    def _page(self, prefix: str, token: dict[str, str]) -> Reply:
        try:
            page = self._call("list_objects_v2", prefix, Prefix=self._prefix + prefix, MaxKeys=self._page_size, **token)
        except Refused as refused:
            raise self._explain(refused.answer, prefix) from refused
        if "IsTruncated" not in page:  # boto3 takes an empty body for an empty page
            raise StoreUnavailable("the server answered a list with something else", where=self._place(prefix))
        return page

    def _empty_span(self, key: Key, span: Span) -> bytes:
        size = self.head(key).size
        if span.offset < 0 or span.length < 0 or span.offset > size:
            raise Damaged(f"{size} bytes long, asked for {span.length} bytes from {span.offset}", where=self._place(key))
        return b""

    def _delete(self, key: Key, arguments: dict[str, Any]) -> None:
        try:
            self._call("delete_object", key, Key=self._name(key), **arguments)
        except Refused as refused:
            if refused.answer.status == 412:
                raise PreconditionFailed("the object is not the one that was read", where=self._place(key)) from refused
            if refused.answer.status == 404 and refused.answer.code != "NoSuchBucket":
                return
            self._refuse_locked(key, self._head(key) or {})
            raise self._explain(refused.answer, key) from refused

    def _delete_version(self, key: Key, version: str) -> None:
        """Remove one version and the older ones behind it. Keys that may not remove versions leave a marker instead.

        An older one that stayed behind a marker would be met again: VersityGW 1.8 compares If-Match with it.
        """
        for _ in range(_MOST_VERSIONS):
            try:
                self._delete(key, {"VersionId": version})
            except AccessDenied:
                found = self._head(key)
                if found is None:
                    return
                self._refuse_locked(key, found)
                break
            found = self._head(key)
            if found is None:
                return
            version = found.get("VersionId", "null")
            if version == "null" or _is_locked(found, self.now()):
                break
        self._delete(key, {})

    def _refuse_locked(self, key: Key, found: Reply) -> None:
        until = _locked_until(found)
        if until is not None and until > self.now():
            raise AccessDenied(f"the object is locked until {format_time(until)}", where=self._place(key))

    def _must_lock(self, key: Key) -> None:
        """Refuse where the bucket locks nothing. Asked once, before the first lock: VersityGW 1.8 refuses too late and stores."""
        if self._lock_seen:
            return
        try:
            reply = self._call("get_object_lock_configuration", key)
            enabled = reply.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled"
        except Refused as refused:
            if refused.answer.status not in {400, 403, 404} or refused.answer.code == "NoSuchBucket":
                raise self._explain(refused.answer, key) from refused
            enabled = refused.answer.status == 403  # not allowed to ask: the lock itself will tell
        if not enabled:
            raise StoreReadOnly(
                "no object lock here", where=self._place(key), hint="make the bucket with object lock, or remove target.lock"
            )
        self._lock_seen = True

    def _refuse_past(self, key: Key, until: datetime) -> None:
        if until <= self.now():
            raise PermanentError(f"a lock until {format_time(until)} ends in the past", where=self._place(key))

    def _explain(self, answer: Answer, key: Key, *, writing: bool = False) -> BecalmError:
        """Return what a refusal means; where its code does not say, list the bucket to see who we are to it."""
        where = self._place(key)
        known = meaning(answer, where=where, bucket=self._bucket)
        if known:
            return known
        if answer.status == 404:
            return NotFound("no such object", where=where)
        if answer.status == 405 and answer.operation in _WRITES:
            return StoreReadOnly(
                f"the server accepts no writes here: {answer.code or answer.status}", where=where, hint="see the server's log"
            )
        if answer.status not in {301, 400, 401, 403}:
            return unknown(answer, where=where)
        try:
            self._call("list_objects_v2", key, Prefix=self._prefix, MaxKeys=1)
        except Refused as refused:
            denied = AccessDenied(
                f"these credentials may not read the bucket {self._bucket!r}",
                where=where,
                hint="ask the owner of the bucket for the rights",
            )
            return meaning(refused.answer, where=where, bucket=self._bucket) or denied
        if answer.status not in {401, 403}:
            return unknown(answer, where=where)
        if writing:
            return StoreReadOnly(
                "these credentials may read the bucket but not write",
                where=where,
                hint="use credentials that may write, or ask the owner of the bucket",
            )
        return AccessDenied(
            f"these credentials may list the bucket, but not {answer.operation}",
            where=where,
            hint="ask the owner of the bucket for the rights",
        )

    def _call(self, operation: str, key: Key, **arguments: Any) -> Reply:
        return self._connection.call(operation, self._place(key), **arguments)


def _is_locked(found: Reply, now: datetime) -> bool:
    until = _locked_until(found)
    return until is not None and until > now


def _quoted(etag: ETag) -> str:
    return f'"{etag}"'


def _locked_until(found: Reply) -> datetime | None:
    until = found.get("ObjectLockRetainUntilDate")
    return until.astimezone(UTC) if isinstance(until, datetime) else None


def _locks(found: Reply, until: datetime) -> bool:
    locked = _locked_until(found)
    return locked is not None and locked >= until


def _whole_second(moment: datetime) -> datetime:
    """Return the next whole second: servers cut fractions off, and a lock may last longer but never shorter."""
    moment = moment.astimezone(UTC)
    return moment if moment.microsecond == 0 else moment.replace(microsecond=0) + timedelta(seconds=1)
