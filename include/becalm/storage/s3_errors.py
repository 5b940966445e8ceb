"""What an S3 server's refusal means, as far as its code and status alone can tell. Pure: the adapter asks the rest.

Servers disagree in their codes: where two causes share one, `meaning` answers nothing and `S3Store` looks at the bucket.
"""

from __future__ import annotations

from dataclasses import dataclass

from becalm.errors import AccessDenied, BecalmError, BucketMissing, PermanentError, StoreFull, StoreUnavailable, Throttled

_KEYS_HINT = "check the access key, its secret and the endpoint of the target's connection"

_REFUSED = {
    "InvalidAccessKeyId": ("the server does not know this access key", _KEYS_HINT),
    "SignatureDoesNotMatch": ("the server does not accept the signature: the secret is wrong", _KEYS_HINT),
    "ExpiredToken": ("the session token has expired", "renew the session, or use keys that do not expire while a backup runs"),
    "ExpiredTokenException": ("the session token has expired", "renew the session, or use keys that do not expire while a backup runs"),
    "InvalidToken": ("the server does not accept the session token", "renew the session, or remove the token"),
    "InvalidClientTokenId": ("the server does not know this access key", _KEYS_HINT),
    "RequestTimeTooSkewed": ("the clock of this machine and the server's differ too much", "set this machine's clock (NTP)"),
    "RequestInTheFuture": ("the clock of this machine and the server's differ too much", "set this machine's clock (NTP)"),
    "RequestExpired": ("the clock of this machine and the server's differ too much", "set this machine's clock (NTP)"),
    "AccountProblem": ("the server has closed this account", "ask the owner of the bucket"),
    "AllAccessDisabled": ("the server has closed this bucket", "ask the owner of the bucket"),
    "AuthorizationHeaderMalformed": ("the bucket is in another region", "set the region (AWS_REGION) of the target's connection"),
    "PermanentRedirect": ("the bucket is in another region", "set the region (AWS_REGION) of the target's connection"),
    "IllegalLocationConstraintException": ("the bucket is in another region", "set the region (AWS_REGION) of the target's connection"),
}

_FULL = frozenset(
    {"QuotaExceeded", "QuotaExceededException", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage", "NoSpaceLeft"}
)
_SLOWER = frozenset(
    {"SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests"}
)
_DAMAGED_ON_THE_WAY = frozenset(
    {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody"}
)
_TRY_AGAIN = frozenset(
    {"RequestTimeout", "OperationAborted", "ConditionalRequestConflict", "InternalError", "ServiceUnavailable", "BadGateway"}
)
_CLASH = frozenset({"ExistingObjectIsDirectory", "ObjectParentIsFile", "XMinioObjectExistsAsDirectory", "XMinioParentIsObject"})


class Refused(Exception):  # noqa: N818  (a server's answer, not yet an error)
    """A server's refusal, before it is known what it means. It never leaves the adapter."""

    def __init__(self, answer: Answer) -> None:
        """Carry the answer."""
        super().__init__(f"{answer.status} {answer.code}")
        self.answer = answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server said: its status, its code and its sentence, and for how long to wait."""

    operation: str
    status: int
    code: str
    message: str
    retry_after_seconds: float | None = None


def meaning(answer: Answer, *, where: str, bucket: str) -> BecalmError | None:
    """Return the error that an answer means beyond doubt, or nothing."""
    code, status = answer.code, answer.status
    if code == "NoSuchBucket":
        return bucket_missing(where=where, bucket=bucket)
    if code in _REFUSED:
        message, hint = _REFUSED[code]
        return AccessDenied(message, where=where, hint=hint)
    if code in _FULL or status == 507:
        return StoreFull("the bucket, or its quota, is full", where=where, hint="make room, or raise the quota; deleting still works")
    if code in _SLOWER or status in {429, 503}:
        return Throttled("the server asks for patience", where=where, delay_seconds=answer.retry_after_seconds)
    if code in _DAMAGED_ON_THE_WAY:
        return StoreUnavailable("the bytes were damaged on their way to the server; nothing was stored", where=where)
    if code in _CLASH:
        return PermanentError("a key cannot be a folder of other keys as well", where=where)
    if code in _TRY_AGAIN or (status >= 500 and status != 501):
        return StoreUnavailable(f"the server failed with {status} {code}", where=where)
    return None


def bucket_missing(*, where: str, bucket: str) -> BucketMissing:
    """Return the error of a bucket that is not there."""
    return BucketMissing(
        f"there is no bucket {bucket!r}", where=where, hint="make it (becalm init makes it), or correct target.url and the endpoint"
    )


def unknown(answer: Answer, *, where: str) -> BecalmError:
    """Return the error of an answer that nobody knows: as it was said, and not worth repeating."""
    said = answer.message or answer.code or "nothing"
    return PermanentError(f"the server refused {answer.operation} with {answer.status}: {said}", where=where, hint="see the server's log")
